"""Reading ahead: who reads one small file after the other gets the next ones without asking Python.

The first miss in a folder does nothing. With each further one more of the files that follow are rendered and
offered to the fast path, and once the end of the folder was reached, those before. So a reader that goes in
the order of the listing misses rarely, and so does one that goes in any other order but takes them all.

Tricky bits
    Files are rendered while the reader waits: with one processor for the reader and one for who answers it, a
    thread beside them only takes turns with both. Pushing files into the kernel unasked would save requests,
    but the kernel locks a page that it asks for, and who pushes that page is stuck, beyond any kill, until
    somebody answers.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter

from mstfs.errors import MstfsError
from mstfs.fuse.fast_path import FastPath
from mstfs.view.inodes import Inode
from mstfs.view.nodes import Leaf
from mstfs.view.pages import FolderPages, Sibling
from mstfs.view.view import View

FILE_BYTES = 64 << 10
"""Larger files are read ahead by the kernel itself."""

HELD_BYTES = 16 << 20
"""What may be offered at a time."""

FILES = 1 << 16
"""How many files may have been offered before all of it begins again."""

FIRST, MOST = 8, 512
"""Files that the second miss makes ready, and those that the eighth does."""

AT_ONCE = 64
"""Files that are made ready between two looks at the clock."""

SECONDS = 0.004
"""How long others may have to wait for us."""

FOLDERS = 16
"""Folders that are remembered."""


@dataclass
class Window:
    """How far a folder has been read ahead, by place in its pages or else by key; and how much comes next."""

    at: int = 0
    after: bytes = b""
    size: int = FIRST
    wrapped: bool = False
    different: frozenset[bytes] | None = None

    def end_reached(self) -> None:
        """Begin at the start of the folder; who comes back to all of it later goes slowly again."""
        if self.wrapped:
            self.size = FIRST
        self.wrapped = not self.wrapped
        self.at, self.after = 0, b""


class ReadAhead:
    """The windows of all folders that are being read."""

    def __init__(self, view: View, fast: FastPath) -> None:
        self.view = view
        self.fast = fast
        self.windows: OrderedDict[bytes, Window] = OrderedDict()

    def begin_again(self) -> None:
        """Something is about to change: what was known of its folder is not known any more."""
        self.windows.clear()

    def missed(self, inode: Inode) -> None:
        """A file was asked for that nobody had offered: perhaps its neighbours come next."""
        node = self.view.node(inode) if inode.node is None else inode.node
        if not self.fast.active or not isinstance(node, Leaf) or inode.path is None or node.fixed:
            return
        folder = inode.path.rpartition(b"/")[0]
        place = self.fast.place_of(inode.number)
        pages = self.view.pages.by_path.get(folder)
        if place is None or pages is None or place[0] != pages.number:
            place = pages = None
        window = self.windows.get(folder)
        if window is None:
            self.windows[folder] = Window(at=place[1] if place is not None else 0, after=node.key)
            if len(self.windows) > FOLDERS:
                self.windows.popitem(last=False)
            return
        if self.fast.held > HELD_BYTES or self.fast.offered > FILES:
            # Much of it was never asked for: the kernel had it already.
            self.fast.forget()
        if not window.wrapped:
            window.at = max(window.at, place[1]) if place is not None else window.at
            window.after = max(window.after, node.key)
        self._advance(window, folder, pages)

    def _advance(self, window: Window, folder: bytes, pages: FolderPages | None) -> None:
        end = perf_counter() + SECONDS
        wanted = window.size
        window.size = min(2 * window.size, MOST)
        while wanted > 0:
            if self._some(window, folder, pages, min(wanted, AT_ONCE)):
                window.end_reached()
                return
            wanted -= AT_ONCE
            if perf_counter() > end:
                return

    def _some(self, window: Window, folder: bytes, pages: FolderPages | None, count: int) -> bool:
        """Offer the files among the next entries of a folder; whether there are no more."""
        if pages is None:
            files, last = self.view.siblings(folder, window.after, count)
            self._offer(files)
            window.after = last or b""
            return last is None
        if window.different is None:
            window.different = frozenset(self.view.pages.differences(pages))
        first = window.at
        window.at = min(first + count, pages.count)
        self._offer(pages.files(first, window.at, window.different))
        return window.at == pages.count

    def _offer(self, files: Iterable[Sibling]) -> None:
        values = self.view.values
        for number, key, cid, size in files:
            try:
                if size is None:
                    size = values.size(key, cid)
                if size > FILE_BYTES:
                    continue
                data = values.read(key, cid, 0, size)
            except MstfsError:
                continue  # Who reads it is told.
            if len(data) == size:
                self.fast.offer(number, data)
