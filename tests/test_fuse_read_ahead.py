"""What is known of a folder for reading ahead ends with every change."""

from pathlib import Path
from typing import Any

import pytest

from mstfs.archive import Archive
from mstfs.fuse.commands import Commands
from mstfs.fuse.operations import Operations
from mstfs.fuse.read_ahead import FIRST, ReadAhead, Window
from mstfs.repo.sample import make_sample
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


def test_a_push_comes_to_its_end_whatever_happens() -> None:
    """The thread that pushes must not go on once the reader has its answer."""

    class Kernel:
        reads_alone = True
        ended = 0

        def push(self, numbers: list[int]) -> bool:
            return True

        def end_push(self) -> bool:
            self.ended += 1
            return True

    ahead: Any = ReadAhead.__new__(ReadAhead)
    ahead.fast = Kernel()
    ahead.pushes, ahead.pushes_from = True, 0.0
    ahead._some = lambda *arguments: (False, [])
    ahead._offer = lambda files: []
    ahead._advance(Window(), b"folder", None, 1)
    assert ahead.fast.ended == 1

    def fail(files: object) -> None:
        raise ValueError("a defect")

    ahead._offer = fail
    with pytest.raises(ValueError, match="a defect"):
        ahead._advance(Window(), b"folder", None, 1)
    assert ahead.fast.ended == 2
