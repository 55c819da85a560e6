"""Commands: what is prepared for a change of many keys serves that change alone."""

from pathlib import Path
from typing import Any

import pytest
import trio

from mstfs.archive import Archive
from mstfs.errors import MstfsError
from mstfs.fuse import commands as module
from mstfs.fuse import kernel_cache
from mstfs.fuse.commands import Commands
from mstfs.repo.sample import make_sample
from mstfs.view import changes
from mstfs.view.view import View

KEYS = 50


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are found a few at a time, and there is no kernel to tell anything."""

    async def tell(stale: Any) -> None:
        stale.take()

    monkeypatch.setattr(module, "PATHS_AT_ONCE", 7)
    monkeypatch.setattr(kernel_cache, "tell", tell)


def staged(archive: Archive) -> list[str]:
    keys = [f"org.example.note/r{number}" for number in range(KEYS)]
    for number, key in enumerate(keys):
        archive[key] = {"$type": "org.example.note", "n": number}
    return keys


def test_paths_are_found_before_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_sample(tmp_path / "repo.car", 30, 3)
    seen = []
    for name in ("published", "switched"):
        real = getattr(changes, name)

        def look(view: View, *words: Any, real: Any = real) -> None:
            seen.append(dict(view.prepared))
            real(view, *words)

        monkeypatch.setattr(changes, name, look)
    with Archive.open(tmp_path / "repo.car", mode="write") as archive:
        view = View(archive.workspace)
        commands = Commands(view, None, 0)
        keys = staged(archive)
        first = trio.run(commands.publish)["previous"]
        assert not view.prepared
        trio.run(commands.checkout, first)
        assert not view.prepared
        wanted = {
            key.encode(): (b"org.example.note", key.encode().rpartition(b"/")[2] + b".json") for key in keys
        }
        assert seen == [wanted, wanted]
        assert not any(key in archive for key in keys)


def test_and_where_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_sample(tmp_path / "repo.car", 30, 3)
    with Archive.open(tmp_path / "repo.car", mode="write") as archive:
        view = View(archive.workspace)
        commands = Commands(view, None, 0)
        keys = staged(archive)

        def fail(*words: Any, **more: Any) -> None:
            assert len(view.prepared) == KEYS
            raise MstfsError("the disk is full")

        monkeypatch.setattr(module, "record_plan", fail)
        with pytest.raises(MstfsError, match="full"):
            trio.run(commands.publish)
        assert not view.prepared
        assert not archive.workspace.planning
        assert all(key in archive for key in keys)


def test_what_is_staged_meanwhile_stays_staged(tmp_path: Path) -> None:
    make_sample(tmp_path / "repo.car", 30, 3)
    with Archive.open(tmp_path / "repo.car", mode="write") as archive:
        commands = Commands(View(archive.workspace), None, 0)
        keys = staged(archive)

        async def both() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(commands.publish)
                while not archive.workspace.planning:
                    await trio.lowlevel.checkpoint()
                archive[keys[0]] = {"$type": "org.example.note", "n": -1}
                archive["org.example.note/later"] = {"$type": "org.example.note", "n": -2}

        trio.run(both)
        assert sorted(archive.workspace.edits.by_key) == [b"org.example.note/later", keys[0].encode()]
        assert trio.run(commands.publish)["updated"] == 1
        assert archive[keys[0]]["n"] == -1
        assert not len(archive.workspace.edits)
