"""Who writes faster than the disk waits for it, and others are answered meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyfuse3
import pytest
import trio

from mstfs.archive import Archive, create_archive
from mstfs.fuse import turns
from mstfs.fuse.commands import Commands
from mstfs.fuse.operations import Operations
from mstfs.view.inodes import ROOT
from mstfs.view.view import View


class Disk:
    """A workspace whose disk is behind for some looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def crowded(self) -> bool:
        self.looks -= 1
        return self.looks >= 0


def run_beside(slow: Any) -> list[str]:
    """Run something, and a task that never waits for long beside it; what was done in its order."""
    done: list[str] = []

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other, nursery.cancel_scope)
            await slow(done)
            done.append("end")
            nursery.cancel_scope.cancel()

    async def other(scope: trio.CancelScope) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            if done[-1:] != ["other"]:
                done.append("other")

    trio.run(run)
    return done


def test_steps_wait_for_the_disk_and_others_do_not() -> None:
    disk: Any = Disk(3)

    def steps(done: list[str]) -> Iterator[None]:
        for _ in range(3):
            done.append("step")
            yield

    done = run_beside(lambda done: turns.take(steps(done), disk))
    assert done[-1] == "end"
    assert [word for word in done if word != "other"] == ["step"] * 3 + ["end"]
    assert "other" in done[done.index("step") :]
    assert disk.looks == -3


def test_a_write_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_archive(tmp_path / "map.car", "hamt3").close()
    with Archive.open(tmp_path / "map.car", mode="write") as archive:
        view = View(archive.workspace)
        operations = Operations(view, Commands(view, None, 0))
        inode = operations.writer.create(view.inodes.by_number[ROOT], b"file", 0o600)
        disk = Disk(2)
        monkeypatch.setattr(type(archive.workspace), "crowded", property(lambda self: disk.crowded))

        async def write(done: list[str]) -> None:
            assert await operations.write(pyfuse3.FileHandleT(inode.number), 0, b"text") == 4

        assert "other" in run_beside(write)
        assert disk.looks == -1
        operations.writer.flush(inode)
        assert archive["file"] == b"text"
