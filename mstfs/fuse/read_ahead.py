"""Reading ahead: who reads one small file after the other gets the next ones without asking Python.

The first miss in a folder does nothing. With each further one more of the files that follow are rendered and
offered to the fast path, and once the end of the folder was reached, those before. So a reader that goes in
the order of the listing misses rarely, and so does one that goes in any other order but takes them all.
"""

from collections import OrderedDict
from dataclasses import dataclass
from time import perf_counter

from mstfs.errors import MstfsError
from mstfs.fuse.fast_path import FastPath
from mstfs.view.inodes import Inode
from mstfs.view.nodes import Leaf
from mstfs.view.view import View

FILE_BYTES = 64 << 10
"""Larger files are read ahead by the kernel itself."""

HELD_BYTES = 16 << 20
"""What may be offered at a time."""

FILES = 1 << 16
"""How many files may have been offered before all of it begins again."""

FIRST, MOST = 8, 512
"""Files that the second miss makes ready, and those that the tenth does."""

SECONDS = 0.004
"""How long others may have to wait for us."""

FOLDERS = 16
"""Folders that are remembered."""


@dataclass
class Window:
    """How far a folder has been read ahead: the key behind which to go on, and for how many files."""

    after: bytes
    size: int = FIRST
    wrapped: bool = False
    done: bool = False


class ReadAhead:
    """The windows of all folders that are being read."""

    def __init__(self, view: View, fast: FastPath) -> None:
        self.view = view
        self.fast = fast
        self.windows: OrderedDict[bytes, Window] = OrderedDict()

    def begin_again(self) -> None:
        """Every offer was taken back."""
        self.windows.clear()

    def missed(self, inode: Inode) -> None:
        """A file was asked for that nobody had offered: perhaps its neighbours come next."""
        node = self.view.node(inode) if inode.node is None else inode.node
        if not self.fast.active or not isinstance(node, Leaf) or inode.path is None or node.fixed:
            return
        folder = inode.path.rpartition(b"/")[0]
        window = self.windows.get(folder)
        if window is None:
            self.windows[folder] = Window(node.key)
            if len(self.windows) > FOLDERS:
                self.windows.popitem(last=False)
        elif not window.done:
            if node.key > window.after and not window.wrapped:
                window.after = node.key
            self._advance(folder, window)

    def _advance(self, folder: bytes, window: Window) -> None:
        end = perf_counter() + SECONDS
        wanted = window.size
        window.size = min(2 * window.size, MOST)
        while wanted > 0:
            siblings, last = self.view.siblings(folder, window.after, min(wanted, 64))
            for number, key, cid in siblings:
                if not self._offer(number, key, cid):
                    return
            wanted -= 64
            if last is None:
                window.done, window.wrapped = window.wrapped, True
                window.after = b""
                return
            window.after = last
            if perf_counter() > end:
                return

    def _offer(self, number: int, key: bytes, cid: bytes) -> bool:
        values = self.view.values
        try:
            size = values.size(key, cid)
            if size > FILE_BYTES:
                return True
            data = values.read(key, cid, 0, size)
        except MstfsError:
            return True  # Who reads it is told.
        return len(data) != size or 0 < self.fast.offer(number, data) <= HELD_BYTES
