"""What was made without Python is taken over before anything changes, whoever changes it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mstfs.archive import Archive, create_archive
from mstfs.errors import MstfsError
from mstfs.fuse.commands import Commands
from mstfs.fuse.fast_path import NEW_BYTES, FastPath
from mstfs.fuse.new_files import Expected, NewFiles
from mstfs.fuse.operations import Operations
from mstfs.view.inodes import ROOT, Inode, plain_number
from mstfs.view.view import View

PROJECT = Path(__file__).parents[1]


class Made(FastPath):
    """A fast path on which a file was made and one was closed."""

    def __init__(self, closed: int) -> None:
        super().__init__(active=False)
        self.new.waiting = 1
        self.new.closed = closed
        self.new.mode, self.new.mtime_ns, self.new.size, self.new.data = 0o600, 12345, 4, b"made"

    def take_new(self) -> tuple[bool, int]:
        """As `fast_new.c` does it."""
        assert self.new.waiting
        self.new.waiting = 0
        return True, self.new.closed


def with_old(archive: Archive) -> tuple[View, Operations, Inode, Inode]:
    """What answers for an archive, its top, and a file in it that is being made."""
    view = View(archive.workspace)
    operations = Operations(view, Commands(view, None, 0))
    root = view.inodes.by_number[ROOT]
    return view, operations, root, operations.writer.create(root, b"old", 0o600)


def commands(operations: Operations) -> None:
    operations.commands.before_change()


@pytest.mark.parametrize("change", [Operations.stand_down, Operations.changed, commands])
def test_before_a_change(tmp_path: Path, change: Callable[[Operations], None]) -> None:
    create_archive(tmp_path / "map.car", "hamt3").close()
    with Archive.open(tmp_path / "map.car", mode="write") as archive:
        view, operations, root, old = with_old(archive)
        operations.writer.write(old, 0, b"closed")
        operations.writer.flush(old)
        fast: Any = Made(old.number)
        operations.go_fast(fast, None)
        operations.new_files.expected = Expected(root, b"new", plain_number(b"new"))
        listed = operations.listings.version
        change(operations)
        assert operations.listings.version > listed
        assert (old.opens, old.buffer) == (0, None)
        new = view.inodes.by_path[b"new"]
        assert (new.number, new.opens, new.writers, new.lookups) == (plain_number(b"new"), 1, 1, 1)
        assert (new.mode, new.mtime_ns) == (0o600, 12345)
        assert view.read(new, 0, 100) == b"made"
        assert "new" not in archive, "nobody has closed it"
        operations.writer.flush(new)
        assert (archive["old"], archive["new"]) == (b"closed", b"made")


def test_a_file_is_made_though_the_end_of_another_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_archive(tmp_path / "map.car", "hamt3").close()
    with Archive.open(tmp_path / "map.car", mode="write") as archive:
        view, operations, root, old = with_old(archive)
        fast: Any = Made(old.number)
        operations.go_fast(fast, None)
        operations.new_files.expected = Expected(root, b"new", plain_number(b"new"))

        def fail(*arguments: object) -> None:
            raise MstfsError("the disk is full")

        monkeypatch.setattr(operations.writer, "release", fail)
        with pytest.raises(MstfsError, match="full"):
            operations.changed()
        assert view.read(view.inodes.by_path[b"new"], 0, 100) == b"made"


class Told(FastPath):
    """A fast path that notes which file may be made, and of which the end has nothing to do."""

    def __init__(self) -> None:
        super().__init__(active=False)
        self.active = True
        self.told: list[object] = []

    def expect(self, parent: int, name: bytes, number: int, *others: object) -> None:
        self.told.append((name, number))

    def expect_close(self, number: int) -> None:
        self.told.append(number)

    def busy_folder(self, *arguments: object) -> None:
        pass


def test_what_may_come_is_made_out_after_the_answer(tmp_path: Path) -> None:
    create_archive(tmp_path / "map.car", "hamt3").close()
    with Archive.open(tmp_path / "map.car", mode="write") as archive:
        view, operations, root, old = with_old(archive)
        view.attributes(root)
        fast = Told()
        new_files = NewFiles(operations.writer, fast, operations.entries, operations.changed)
        operations.writer.write(old, 0, b"closed")
        operations.writer.flush(old)
        new_files.not_there(root, b"new")
        new_files.look_ahead()
        assert fast.told == [], "no file was made in this folder"
        new_files.stored(old)
        assert fast.told == []
        new_files.look_ahead()
        new_files.not_there(root, b"new")
        new_files.look_ahead()
        new_files.look_ahead()
        expected = [old.number, (b"new", plain_number(b"new"))]
        assert fast.told == expected
        new_files.not_there(root, b"other")
        new_files.stored(old)
        new_files.take_over()
        new_files.look_ahead()
        assert fast.told == expected, "something else was asked first"


def test_trouble_in_looking_ahead_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    create_archive(tmp_path / "map.car", "hamt3").close()
    with Archive.open(tmp_path / "map.car", mode="write") as archive:
        _, operations, _, old = with_old(archive)
        new_files = NewFiles(operations.writer, Told(), operations.entries, operations.changed)
        monkeypatch.setattr(new_files, "more_in", None)
        new_files.stored(old)
        new_files.look_ahead()
    assert "looking ahead" in caplog.text


def test_c_has_the_same_room() -> None:
    source = (PROJECT / "mstfs/fuse/fast_new.c").read_text()
    assert f"#define ROOM ({NEW_BYTES >> 10} << 10)" in source
