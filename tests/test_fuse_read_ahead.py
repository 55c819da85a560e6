"""Reading ahead: what is given in which order, what is ready for the next time, and what ends it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mstfs.archive import Archive
from mstfs.errors import MstfsError
from mstfs.fuse.commands import Commands
from mstfs.fuse.fast_path import FastPath
from mstfs.fuse.operations import Operations
from mstfs.fuse.read_ahead import FIRST, ReadAhead, Window
from mstfs.repo.sample import make_sample
from mstfs.view.inodes import ROOT
from mstfs.view.view import View


def test_a_change_ends_what_was_known_though_nothing_was_offered(tmp_path: Path) -> None:
    car = tmp_path / "repo.car"
    make_sample(car, 10, 1)
    with Archive.open(car, mode="write") as archive:
        view = View(archive.workspace)
        operations = Operations(view, Commands(view, None, 0))
        assert operations.fast.idle
        for change in (operations.stand_down, operations.changed):
            operations.ahead.windows[b"folder"] = Window()
            change()
            assert not operations.ahead.windows


def test_a_window_begins_again_at_the_end_of_its_folder() -> None:
    window = Window(at=7, after=b"key", size=64)
    window.end_reached()
    assert (window.at, window.after, window.size, window.wrapped) == (0, b"", 64, True)
    window.at = 9
    window.end_reached()
    assert (window.at, window.size, window.wrapped) == (0, FIRST, False)


class Kernel(FastPath):
    """A fast path that notes what it was given; `asked` after so many looks."""

    reads_alone = True
    looks = 1 << 30

    def __init__(self) -> None:
        super().__init__(active=False)
        self.active = True
        self.given: list[tuple[int, bytes]] = []
        self.pushed_of_late: list[int] = []
        self.ended = 0

    held = offered = 0

    @property
    def asked(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def place_of(self, number: int) -> None:
        return None

    def offer(self, files: list[tuple[int, bytes]]) -> None:
        self.given += files

    def push(self, numbers: list[int]) -> bool:
        self.pushed_of_late += numbers
        return True

    def end_push(self) -> bool:
        self.ended += 1
        return True


class Reader:
    """Somebody who reads the posts of a sample in their order."""

    def __init__(self, view: View) -> None:
        posts = b"app.bsky.feed.post"
        folder = view.lookup(view.inodes.by_number[ROOT], posts)
        assert folder is not None
        self.view = view
        self.inodes = [found for name, _ in view.children(posts) if (found := view.lookup(folder, name))]
        self.kernel: Any = Kernel()
        self.ahead = ReadAhead(view, self.kernel)
        self.ahead.pushes = True
        self.known: set[int] = set()

    def read(self, index: int) -> list[int]:
        """Read a file; the places of those that the kernel was given meanwhile."""
        self.kernel.given.clear()
        self.kernel.pushed_of_late.clear()
        if index in self.known:
            return []
        self.ahead.missed(self.inodes[index])
        places = {inode.number: place for place, inode in enumerate(self.inodes)}
        found = [places[number] for number, _ in self.kernel.given]
        assert [places[number] for number in self.kernel.pushed_of_late] == found
        for number, data in self.kernel.given:
            assert data == self.view.read(self.inodes[places[number]], 0, 1 << 20)
        self.known |= {index, *found}
        return found


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    car = tmp_path / "repo.car"
    make_sample(car, 1500, 1)
    with Archive.open(car) as archive:
        yield Reader(View(archive.workspace))


def test_what_comes_next_is_made_ready_while_nobody_asks(reader: Reader) -> None:
    assert len(reader.inodes) > 200
    reader.ahead.look_ahead()
    assert reader.read(0) == []
    found = reader.read(1)
    assert found, "who read two files may read the next"
    for _ in range(40):
        window = next(iter(reader.ahead.windows.values()))
        reader.ahead.look_ahead()
        ready = len(window.ready)
        following = max(reader.known) + 1
        if following >= len(reader.inodes):
            break
        assert ready >= min(window.size, len(reader.inodes) - following) - 8
        found = reader.read(following)
        assert found[: ready - 1] == list(range(following + 1, following + ready))
    assert reader.known == set(range(len(reader.inodes))), "each was given, and in order"


def test_who_asks_is_answered_first(reader: Reader) -> None:
    reader.read(0)
    reader.read(1)
    window = next(iter(reader.ahead.windows.values()))
    window.size = 512
    reader.kernel.looks = 3
    reader.ahead.look_ahead()
    assert len(window.ready) == 24
    reader.ahead.look_ahead()
    assert len(window.ready) == 24
    reader.ahead.begin_again()
    reader.kernel.looks = 100
    reader.ahead.look_ahead()
    assert len(window.ready) == 24, "after a change nothing is known of any folder"


def test_what_is_ready_is_not_much(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mstfs.fuse.read_ahead.READY_BYTES", 4000)
    reader.read(0)
    reader.read(1)
    window = next(iter(reader.ahead.windows.values()))
    window.size = 512
    reader.ahead.look_ahead()
    assert 0 < sum(len(data) for _, data in window.ready) < 4000 + 8 * 2000
    assert reader.ahead.reading is None


def test_a_defect_ahead_of_the_reader_ends_nothing(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (MstfsError("a missing block"), ValueError("a defect")):

        def fail(*arguments: object, error: Exception = error) -> None:
            raise error

        reader.read(0)
        reader.read(1)
        with monkeypatch.context() as patched:
            patched.setattr(reader.ahead, "_some", fail)
            reader.ahead.look_ahead()
        assert reader.ahead.reading is None
        reader.ahead.begin_again()
        reader.known.clear()
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_a_push_comes_to_its_end_whatever_happens() -> None:
    """The thread that pushes must not go on once the reader has its answer."""
    ahead: Any = ReadAhead.__new__(ReadAhead)
    ahead.fast = Kernel()
    ahead.pushes, ahead.pushes_from = True, 0.0
    ahead._some = lambda *arguments: (False, [])
    ahead._made = lambda files: []
    ahead._advance(Window(), b"folder", None, 1)
    assert ahead.fast.ended == 1

    def fail(files: object) -> None:
        raise ValueError("a defect")

    ahead._made = fail
    with pytest.raises(ValueError, match="a defect"):
        ahead._advance(Window(), b"folder", None, 1)
    assert ahead.fast.ended == 2
