"""Open folders: what they listed stays in its place for as long as somebody may be half through reading it.

The kernel keeps listings, and names a place in one by a number: how many names came before. So while a folder
is open its names keep their places; those that go away leave a gap, and those that come stand at the end.
What the kernel keeps may be older than what is known here: before anything changes, open folders are read.
"""

from collections import OrderedDict
from contextlib import suppress

from mstfs.errors import MstfsError
from mstfs.view.inodes import Inode
from mstfs.view.nodes import Node
from mstfs.view.view import View

KEPT = 4
"""Listings that are remembered where folders are never opened."""


class Listing:
    """The names in a folder and what they name, as of a `version` of the namespace; -1 is not read yet.

    None stands where a name was that is gone.
    """

    def __init__(self, inode: Inode) -> None:
        self.inode = inode
        self.path = inode.path
        self.entries: list[tuple[bytes, Node | None] | None] = []
        self.version = -1
        self.openers = 0


class Listings:
    """The listings of all open folders. `version` counts the changes of the namespace."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.version = 0
        self.open_ones: dict[int, Listing] = {}
        self.kept: OrderedDict[int, Listing] = OrderedDict()

    def open(self, inode: Inode) -> Listing:
        """A folder is opened once more."""
        listing = self.open_ones.setdefault(inode.number, Listing(inode))
        listing.openers += 1
        return listing

    def close(self, listing: Listing) -> None:
        """A folder is closed."""
        listing.openers -= 1
        if not listing.openers:
            self.open_ones.pop(listing.inode.number, None)

    def of_unopened(self, inode: Inode) -> Listing:
        """The listing of a folder that was never opened: it stays until others push it out."""
        listing = self.kept.setdefault(inode.number, Listing(inode))
        self.kept.move_to_end(inode.number)
        if len(self.kept) > KEPT:
            self.kept.popitem(last=False)
        return listing

    def change(self) -> None:
        """Something in the namespace is about to change."""
        for listing in self.open_ones.values():
            if listing.version < 0:
                # What cannot be read could not be listed before either.
                with suppress(MstfsError):
                    self.read(listing)
        self.version += 1

    def read(self, listing: Listing) -> None:
        """Bring a listing up to date, for a reader who begins at its start."""
        if listing.version == self.version:
            return
        path = listing.path = listing.inode.path
        found = dict(self.view.children(path)) if path is not None else {}
        places: list[tuple[bytes, Node | None] | None] = []
        if listing.openers > 1:
            for entry in listing.entries:
                name = entry[0] if entry is not None else None
                places.append((name, found.pop(name)) if name is not None and name in found else None)
        listing.entries = places + list(found.items())
        listing.version = self.version

    def finished(self, listing: Listing) -> None:
        """A reader came to the end: what nobody else reads need not be held."""
        if listing.openers <= 1:
            listing.entries, listing.version = [], -1
