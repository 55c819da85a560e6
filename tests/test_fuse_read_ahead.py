"""What is known of a folder for reading ahead ends with every change."""

from pathlib import Path

from mstfs.archive import Archive
from mstfs.fuse.commands import Commands
from mstfs.fuse.operations import Operations
from mstfs.fuse.read_ahead import FIRST, Window
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
            operations.ahead.windows[b"folder"] = Window(different=frozenset())
            change()
            assert not operations.ahead.windows


def test_a_window_begins_again_at_the_end_of_its_folder() -> None:
    window = Window(at=7, after=b"key", size=64)
    window.end_reached()
    assert (window.at, window.after, window.size, window.wrapped) == (0, b"", 64, True)
    window.at = 9
    window.end_reached()
    assert (window.at, window.size, window.wrapped) == (0, FIRST, False)
