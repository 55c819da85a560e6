"""Folders that are listed ahead of their reader."""

from typing import Any

import pytest

from mstfs.errors import MstfsError
from mstfs.fuse.listings import Listings


class Kernel:
    """Stands in for the fast path."""

    asked = False


class Folder:
    """Stands in for the pages of a folder; its reader has begun the last page or not."""

    path = b"folder"
    kept = object()
    complete = False

    def __init__(self, begun: bool, error: Exception | None = None) -> None:
        self.pages = [self]
        self.handed = [int(begun)]
        self.count = 1
        self.error = error

    def extend(self, handout: object) -> None:
        if self.error is not None:
            raise self.error
        self.count += 1
        self.handed = [0]


def listings_of(folder: Any) -> Any:
    nothing: Any = None
    kernel: Any = Kernel()
    listings: Any = Listings(nothing, kernel, nothing)
    listings.reading = folder
    return listings


def test_one_page_is_made_once_the_last_was_begun() -> None:
    folder = Folder(begun=True)
    listings = listings_of(folder)
    for _ in range(3):
        listings.look_ahead()
    assert folder.count == 2
    folder.handed = [1]
    listings.fast.asked = True
    listings.look_ahead()
    assert folder.count == 2, "somebody asks"
    listings.fast.asked = False
    listings.look_ahead()
    assert folder.count == 3


def test_nothing_is_made_for_a_reader_that_has_not_come_so_far() -> None:
    folder = Folder(begun=False)
    listings_of(folder).look_ahead()
    assert folder.count == 1


@pytest.mark.parametrize("error", [MstfsError("no block"), ValueError("a defect")])
def test_an_error_is_left_to_who_asks(error: Exception) -> None:
    listings = listings_of(Folder(begun=True, error=error))
    listings.look_ahead()
    assert listings.reading is None


def test_a_change_ends_it() -> None:
    listings = listings_of(Folder(begun=True))
    listings.change()
    assert listings.reading is None
