"""Open folders: what they listed stays in its place for as long as somebody may be half through reading it.

The kernel keeps listings, and names a place in one by a number: how many names came before. So while a folder
is open its names keep their places; those that go away leave a gap, and those that come stand at the end.
What the kernel keeps may be older than what is known here: before anything changes, open folders are read.

A large folder begins with its pages, whose names keep their places by themselves; newer names come behind.
"""

import logging
from collections import OrderedDict
from contextlib import suppress

import pyfuse3
import trio
from pyfuse3 import FileNameT

from mstfs.errors import MstfsError
from mstfs.fuse.attributes import EntryMaker
from mstfs.fuse.fast_path import FastPath
from mstfs.view.inodes import Inode, plain_number
from mstfs.view.nodes import Node
from mstfs.view.pages import ASK, HUGE, FolderPages
from mstfs.view.view import View, join_path

log = logging.getLogger("mstfs")

ENTRIES = 96
"""Entries that Python adds to one reply: more would keep others waiting."""

KEPT = 4
"""Listings that are remembered where folders are never opened."""


class Listing:
    """The names in a folder and what they name, as of a `version` of the namespace; -1 is not read yet.

    None stands where a name was that is gone. `entries` come behind those of the `pages`, if there are any.
    """

    def __init__(self, inode: Inode) -> None:
        self.inode = inode
        self.path = inode.path
        self.pages: FolderPages | None = None
        self.entries: list[tuple[bytes, Node | None] | None] = []
        self.version = -1
        self.openers = 0


class Listings:
    """The listings of all open folders. `version` counts the changes of the namespace."""

    def __init__(self, view: View, fast: FastPath, maker: EntryMaker) -> None:
        self.view = view
        self.fast = fast
        self.maker = maker
        self.version = 0
        self.open_ones: dict[int, Listing] = {}
        self.kept: OrderedDict[int, Listing] = OrderedDict()
        self.differences: dict[int, frozenset[bytes]] = {}
        self.offered: set[int] = set()
        self.reading: FolderPages | None = None
        """The folder whose pages were last made because somebody came to their end."""
        self.looked_at = 0
        """Entries whose values were looked at since memory was last let go of."""

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
        self.reading = None
        self.withdraw()

    def withdraw(self) -> None:
        """Something in the namespace, or the attributes of a file, is about to change."""
        self.differences.clear()
        if self.offered:
            self.offered.clear()
            self.fast.withdraw()

    def read(self, listing: Listing, *, begins: bool = False) -> None:
        """Bring a listing up to date. `begins`: for a reader at its start."""
        if listing.version == self.version:
            return
        path = listing.path = listing.inode.path
        if path is not None and begins and listing.openers <= 1:
            self.view.pages.renew(path)
            listing.pages = self.view.pages.of(path)
        elif path is not None and listing.pages is None and not listing.entries:
            listing.pages = self.view.pages.of(path)
        pages = listing.pages if path is not None else None
        if pages is not None and not pages.pages and not pages.complete:
            # Of a folder that is new, it is known then that the root has none of its names.
            self._extend(pages)
        if path is None:
            found: dict[bytes, Node | None] = {}
        elif pages is None:
            found = dict(self.view.children(path))
        else:
            found = {name: None for name in sorted(self.different(pages)) if not pages.holds(name)}
        places: list[tuple[bytes, Node | None] | None] = []
        if listing.openers > 1:
            for entry in listing.entries:
                name = entry[0] if entry is not None else None
                places.append((name, found.pop(name)) if name is not None and name in found else None)
        listing.entries = places + list(found.items())
        listing.version = self.version

    def different(self, pages: FolderPages) -> frozenset[bytes]:
        """The names in the pages of a folder of which the view must be asked."""
        known = self.differences.get(pages.number)
        if known is None:
            known = self.differences[pages.number] = frozenset(self.view.pages.differences(pages))
        return known

    def offer(self, listing: Listing, pages: FolderPages) -> None:
        """Have all other names in the pages of a listing answered without Python."""
        if pages.number in self.offered:
            return
        numbers = sorted(plain_number(pages.prefix + name) for name in self.different(pages))
        parent = self.view.inodes.get(pages.path.rpartition(b"/")[0])
        above = parent.number if parent is not None else listing.inode.number
        self.fast.offer_folder(pages.number, listing.inode.number, above, self.view, numbers)
        self.offered.add(pages.number)

    def look_ahead(self) -> None:
        """Make the next page of a folder once its reader has begun the last one, while nobody asks."""
        pages = self.reading
        if pages is None or not pages.pages or not pages.pages[-1].handed[0] or self.fast.asked:
            return
        if pages.complete:
            self.reading = None
            return
        try:
            self._extend(pages)
        except MstfsError:
            self.reading = None  # Who asks for it is told.
        except Exception:
            self.reading = None
            log.exception("unexpected error in listing %r ahead", pages.path)

    def finished(self, listing: Listing) -> None:
        """A reader came to the end: what nobody else reads need not be held."""
        if listing.openers <= 1:
            listing.entries, listing.version = [], -1

    # --- replies ------------------------------------------------------------------------------

    def reply(self, token: pyfuse3.ReaddirToken, listing: Listing, start_id: int) -> None:
        """Add to a reply what a folder holds from a place on, as much as has room."""
        if start_id == 0 or listing.version < 0:
            self.read(listing, begins=start_id == 0)
        index = start_id
        while index < 2:
            name = b"." if index == 0 else b".."
            if not pyfuse3.readdir_reply(token, name, self._dot(listing, index), index + 1):
                return
            index += 1
        if listing.pages is not None:
            begun = start_id < 2
            if not self._reply_pages(token, listing, listing.pages, index - 2, begun=begun):
                return
        before = 2 + (listing.pages.count if listing.pages is not None else 0)
        at = max(0, index - before)
        if at >= len(listing.entries):
            self.finished(listing)
        added = 0
        while at < len(listing.entries) and added < ENTRIES:
            entry = listing.entries[at]
            at += 1
            if entry is not None:
                found = self._reply_entry(token, listing, *entry, before + at)
                if found is None:
                    return
                added += found

    def _reply_pages(
        self, token: pyfuse3.ReaddirToken, listing: Listing, pages: FolderPages, index: int, *, begun: bool
    ) -> bool:
        """Add the entries of the pages from `index` on. False once the reply is full.

        A reply ends, if it has `begun`, where the next request will be answered without Python.
        """
        if index >= pages.count and pages.complete:
            return True
        different = self.different(pages)
        self.offer(listing, pages)
        while index < pages.count or not pages.complete:
            if index >= pages.count:
                self._extend(pages)
                self.reading = pages
                continue
            spot = pages.spot(index)
            name = spot.page.name(spot.at)
            index += 1
            if name in different or spot.page.types[spot.at] == ASK:
                added = self._reply_entry(token, listing, name, None, index + 2)
                if added is None:
                    return False
                begun = begun or added
                continue
            if begun:
                return False
            begun = True
            entry = self.maker.make(pages.attributes(spot))
            if not pyfuse3.readdir_reply(token, FileNameT(name), entry, index + 2):
                return False
            spot.page.handed[spot.at] += 1
        return True

    def _extend(self, pages: FolderPages) -> None:
        before = pages.count
        pages.extend(self.fast)
        if pages.kept is None:
            self.looked_at += pages.count - before
            if self.looked_at >= HUGE or pages.complete:
                self.view.pages.let_go(self.looked_at >= HUGE)
                self.looked_at %= HUGE
        if pages.complete:
            self._keep(pages)

    def _keep(self, pages: FolderPages) -> None:
        store = self.view.pages.store
        kept = pages.to_keep() if store is not None else None
        if store is not None and kept is not None:
            trio.lowlevel.spawn_system_task(trio.to_thread.run_sync, store.write, pages.path, kept)

    def _reply_entry(
        self, token: pyfuse3.ReaddirToken, listing: Listing, name: bytes, node: Node | None, place: int
    ) -> bool | None:
        """Add one entry; False if there is none of that name any more, None where the reply is full."""
        view = self.view
        assert listing.path is not None
        path = join_path(listing.path, name)
        inode = view.inodes.get(path)
        if inode is None or inode.node is None:
            if node is None or listing.version != self.version:
                node = view.resolve(path)
            if node is None:
                return False  # The name went away while the listing was read.
            inode = view.inodes.at(path, node)
        attributes = self.maker.make(view.attributes(inode))
        if not pyfuse3.readdir_reply(token, FileNameT(name), attributes, place):
            view.inodes.drop_if_unused(inode)
            return None
        inode.lookups += 1
        return True

    def _dot(self, listing: Listing, index: int) -> pyfuse3.EntryAttributes:
        inode = listing.inode
        if index == 1 and inode.path:
            parent = self.view.inodes.get(inode.path.rpartition(b"/")[0])
            inode = parent if parent is not None else inode
        return self.maker.make(self.view.attributes(inode))
