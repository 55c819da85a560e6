"""Files that are made without Python, one at a time (fast_new.c): what may be made, and taking it over.

The first file that is made in a folder goes the long way. From then on each name that is looked for there and
is not there is said to be one that may be made next. What may come is made out while who asked is busy with
the answer (`look_ahead`); whatever else happens first ends it.
"""

import logging
import stat
from collections.abc import Callable
from typing import NamedTuple

from mstfs.errors import MstfsError
from mstfs.fuse.attributes import EntryMaker
from mstfs.fuse.fast_path import FastPath
from mstfs.view.inodes import Inode
from mstfs.view.names import in_control
from mstfs.view.nodes import Leaf, Stored
from mstfs.view.writer import Writer

log = logging.getLogger("mstfs")


class Expected(NamedTuple):
    """A file that may be made next."""

    parent: Inode
    path: bytes
    number: int


class NewFiles:
    """What is made in the folder in which files are being made, and what is asked for meanwhile."""

    def __init__(
        self, writer: Writer, fast: FastPath, entries: EntryMaker, before_change: Callable[[], None]
    ) -> None:
        self.writer = writer
        self.view = writer.view
        self.fast = fast
        self.entries = entries
        self.before_change = before_change
        self.folder = 0
        """The number of the folder, or 0."""
        self.expected: Expected | None = None
        self.absent: tuple[Inode, bytes] | None = None
        """What was looked for last, in that folder, and is not there."""
        self.closed: Inode | None = None
        """What was stored last, at a close."""

    def not_there(self, parent: Inode, name: bytes) -> None:
        """A name is not there: it may be that of a file that is made next."""
        if parent.number == self.folder:
            self.absent = parent, name

    def stored(self, inode: Inode) -> None:
        """What was written was stored at a close: perhaps nothing is left to do at the end of it."""
        self.closed = inode if self.fast.active else None

    def look_ahead(self) -> None:
        """Make out what may come next, while nobody asks for anything."""
        absent, closed = self.absent, self.closed
        if absent is None and closed is None:
            return
        self.absent = self.closed = None
        try:
            if absent is not None:
                self._expect(*absent)
            if closed is not None:
                self._expect_end(closed)
        except Exception:
            # Nobody waits for this, and nothing is lost: Python will be asked.
            log.exception("unexpected error in looking ahead for new files")

    def _expect(self, parent: Inode, name: bytes) -> None:
        if parent.path is None or in_control(parent.path):
            return
        try:
            path = self.writer.writable_path(parent, name)
            self.writer.check_spelling(path)
        except OSError:
            return  # Who makes it is told.
        number = self.view.inodes.free_number(path)
        if number is None:
            return
        self.expected = Expected(parent, path, number)
        mode = None if self.view.key_of(path) is None else self.view.file_mode
        self.fast.expect(parent.number, name, number, mode, self.entries.uid, self.entries.gid)

    def take_over(self) -> None:
        """Do here what was done without Python; call it before anything is answered or changes."""
        self.absent = self.closed = None
        if not self.fast.new.waiting:
            return
        made, closed = self.fast.take_new()
        inode = self.view.inodes.by_number.get(closed)
        try:
            if inode is not None:
                self.writer.release(inode)
        finally:
            # The kernel was told of it, whatever becomes of the other one.
            if made:
                self.before_change()
                self._make()

    def _make(self) -> None:
        assert self.expected is not None
        parent, path, number = self.expected
        new = self.fast.new
        inode = self.writer.made(parent, path, new.mode, new.mtime_ns)
        inode.past_cache = bool(new.write_only)
        assert inode.number == number, path
        if new.size:
            self.writer.write(inode, 0, new.contents)
            inode.mtime_ns = new.mtime_ns

    def _expect_end(self, inode: Inode) -> None:
        if inode.path is not None:
            self.more_in(inode.path.rpartition(b"/")[0])
            if self._is_done(inode):
                self.fast.expect_close(inode.number)

    def more_in(self, path: bytes) -> None:
        """A file was written: before the next one is made, the kernel asks for its folder's attributes."""
        folder = self.view.inodes.by_path.get(path)
        if folder is None or folder.node is None or not self.fast.active:
            return
        number, kind, mode, _, mtime_ns, lasting = self.view.attributes(folder)
        if kind == "folder" and lasting:
            self.folder = number
            self.fast.busy_folder(number, stat.S_IFDIR | mode, self.entries.uid, self.entries.gid, mtime_ns)

    def _is_done(self, inode: Inode) -> bool:
        """Whether the last close of a file has nothing to do but to forget its buffer."""
        buffer = inode.buffer
        if buffer is None or buffer.dirty or inode.opens != 1 or inode.writers != 1:
            return False
        if inode.invalid or inode.diverged or inode.outdated or inode.orphans or inode.pinned is not None:
            return False
        node = inode.node
        if isinstance(node, Stored):
            return node.file.size == buffer.size
        if not isinstance(node, Leaf):
            return False
        try:
            # A text that is kept is the one that was written.
            return node.verbatim or self.view.values.size(node.key, node.cid) == buffer.size
        except MstfsError:
            return False
