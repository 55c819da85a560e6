"""The write side: open buffers, and what becomes of them on close and fsync.

Refusals are `OSError` with the errno that the program is told.
"""

import errno
import logging
import os
import time
from typing import TypeGuard

from mstfs.limits import KEY_BYTES, NAME_BYTES, RECORD_BYTES, SCRATCH_BYTES
from mstfs.staging.files import CHUNK_BYTES, StoredFile
from mstfs.view.buffers import Buffer
from mstfs.view.control import COMMANDS
from mstfs.view.inodes import Inode
from mstfs.view.keeper import Keeper
from mstfs.view.kinds import is_temporary
from mstfs.view.names import CONTROL, in_control
from mstfs.view.nodes import Command, Control, Folder, Leaf, Node, Pending, Stored
from mstfs.view.view import View, join_path, split_path

log = logging.getLogger("mstfs")

SPILL_BYTES = 8 << 20
"""Changed chunks of a file that are held in memory before the oldest are stored."""

UNLINKED_BYTES = 1 << 30
"""What a file without a name may hold: it lives in memory."""

LATEST_NS = (1 << 63) - 1
"""The last moment, in ns since 1970, that is kept of a file: in April 2262."""


def _is_fixed(node: Node | None) -> TypeGuard[Leaf | Control]:
    return isinstance(node, Leaf) or (isinstance(node, Control) and node.fixed)


def refusal(code: int) -> OSError:
    """The error that a program is told by its errno."""
    return OSError(code, os.strerror(code))


class Writer:
    """Changes to a view. Every method either does all of what it says, or nothing and raises."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.workspace = view.workspace
        self.keeper = Keeper(view)
        self.commit = self.keeper.commit

    # --- names --------------------------------------------------------------------------------

    def writable_path(self, parent: Inode, name: bytes) -> bytes:
        """The path of a name that is to be changed, in a folder that can be changed."""
        if parent.path is None:
            raise refusal(errno.ENOENT)
        if len(name) > NAME_BYTES:
            raise refusal(errno.ENAMETOOLONG)
        path = join_path(parent.path, name)
        if path == CONTROL or (in_control(path) and parent.path != COMMANDS):
            raise refusal(errno.EPERM)
        if self.workspace.read_only and parent.path != COMMANDS:
            raise refusal(errno.EROFS)
        return path

    def check_spelling(self, path: bytes, *, folder: bool = False) -> None:
        """Refuse a name that no key can have, where every name is to be one: it could never be published."""
        names, place = self.view.names, split_path(path)
        if not names.nested:
            return
        key = self.view.namespace.key_of(place)
        if folder:
            key = names.prefix_of(place) + b"x" if names.can_hold_keys(place) else None
        if key is None:
            raise refusal(errno.EINVAL)
        if len(key) > KEY_BYTES:
            raise refusal(errno.ENAMETOOLONG)
        # A piece of a long name may end inside of a character.
        whole = not folder or names.is_whole(place)
        if whole and not self.view.is_key(key) and not is_temporary(key.rpartition(b"/")[2]):
            raise refusal(errno.EILSEQ)

    def touch_folder(self, path: bytes) -> None:
        """A folder's listing changed just now; it stays, even when its last key is gone, until rmdir."""
        self.view.folder_times[path] = time.time_ns()
        if path and not in_control(path):
            names = path.split(b"/")
            self.view.kept.update(b"/".join(names[:depth]) for depth in range(1, len(names) + 1))

    def create(self, parent: Inode, name: bytes, mode: int) -> Inode:
        """A new, empty, open file. It is in its buffer alone until it is closed or fsynced."""
        path = self.writable_path(parent, name)
        if self.view.resolve(path) is not None:
            raise refusal(errno.EEXIST)
        if parent.path != COMMANDS:
            self.check_spelling(path)
        there = self.view.inodes.get(path)
        if there is not None and there.opens:
            # Another file had this name, and went away without its last user.
            self.view.inodes.detach(there)
        return self.made(parent, path, mode, time.time_ns())

    def made(self, parent: Inode, path: bytes, mode: int, mtime_ns: int) -> Inode:
        """The new file at a path that is free, and may be a file's."""
        inode = self.view.inodes.at(path, Command() if parent.path == COMMANDS else Pending())
        inode.buffer = Buffer(0, lambda number: b"")
        inode.buffer.dirty = True
        inode.mode = mode & 0o777
        inode.mtime_ns = mtime_ns
        inode.opens += 1
        inode.writers += 1
        inode.lookups += 1
        self.view.pending[path] = inode
        self.touch_folder(parent.path or b"")
        return inode

    def mkdir(self, parent: Inode, name: bytes, mode: int) -> Inode:
        """A folder: a collection to be, or scratch."""
        path = self._free_name(parent, name)
        self.check_spelling(path, folder=True)
        with self.workspace.transaction():
            self.workspace.files.add(path, "folder", mode=mode & 0o777, mtime_ns=time.time_ns())
        inode = self.view.inodes.at(path, Folder())
        inode.lookups += 1
        self.touch_folder(parent.path or b"")
        return inode

    def symlink(self, parent: Inode, name: bytes, target: bytes) -> Inode:
        """A symbolic link, as scratch: no key can have its name, for a tree has no place for it."""
        path = self._free_name(parent, name)
        self.check_spelling(path)
        if self.view.key_of(path) is not None:
            raise refusal(errno.EPERM)
        with self.workspace.transaction():
            file = self.workspace.files.add(
                path, "symlink", mode=0o777, mtime_ns=time.time_ns(), target=target
            )
        inode = self.view.inodes.at(path, Stored(file))
        inode.lookups += 1
        self.touch_folder(parent.path or b"")
        return inode

    def _free_name(self, parent: Inode, name: bytes) -> bytes:
        path = self.writable_path(parent, name)
        if self.view.resolve(path) is not None:
            raise refusal(errno.EEXIST)
        if parent.path == COMMANDS or self.view.is_reserved(path):
            # The name of a record must be a file.
            raise refusal(errno.EPERM)
        return path

    def unlink(self, parent: Inode, name: bytes) -> None:
        """Remove a file's name; those who have it open keep it."""
        path = self.writable_path(parent, name)
        node = self.view.resolve(path)
        if node is None:
            raise refusal(errno.ENOENT)
        if isinstance(node, Folder):
            raise refusal(errno.EISDIR)
        inode = self.view.inodes.get(path)
        if not isinstance(node, Command):
            if inode is not None and inode.opens:
                self.view.pin(inode)
            with self.workspace.transaction():
                self.keeper.drop_path(path)
        self.view.pending.pop(path, None)
        if inode is not None:
            inode.node = node
            self.view.inodes.detach(inode)
        self.touch_folder(parent.path or b"")

    def rmdir(self, parent: Inode, name: bytes) -> None:
        """Remove an empty folder."""
        path = self.writable_path(parent, name)
        node = self.view.resolve(path)
        if node is None:
            raise refusal(errno.ENOENT)
        if not isinstance(node, Folder):
            raise refusal(errno.ENOTDIR)
        if any(True for _ in self.view.children(path)):
            raise refusal(errno.ENOTEMPTY)
        row = self.workspace.files.get(path)
        if row is not None:
            with self.workspace.transaction():
                self.workspace.files.remove(row)
        self.view.kept.discard(path)
        self.view.folder_times.pop(path, None)
        inode = self.view.inodes.get(path)
        if inode is not None:
            inode.node = node
            self.view.inodes.detach(inode)
        self.touch_folder(parent.path or b"")

    # --- contents -----------------------------------------------------------------------------

    def open(self, inode: Inode, *, write: bool, truncate: bool) -> None:
        """Count an open file, and empty it where that is asked for.

        A record that cannot be read cannot be opened either, except to be written anew: its size is shown as
        0, so no read would ever arrive to be told. Raises BlockError or FormatError then.
        """
        if inode.outdated:
            # The kernel looks the name up again and finds what it means now.
            raise refusal(errno.ESTALE)
        node = self.view.node(inode)
        if isinstance(node, Folder):
            raise refusal(errno.EISDIR)
        if (write or truncate) and not isinstance(node, Command):
            if self.workspace.read_only:
                raise refusal(errno.EROFS)
            if isinstance(node, Control) or (isinstance(node, Leaf) and node.fixed):
                raise refusal(errno.EPERM)
        if truncate:
            self.buffer(inode, load=False).truncate(0)
            inode.mtime_ns = time.time_ns()
        elif inode.buffer is None and inode.pinned is None and _is_fixed(node):
            self._check_readable(node)
        inode.opens += 1
        inode.writers += write

    def _check_readable(self, node: Leaf | Control) -> None:
        if isinstance(node, Leaf):
            self.view.reader(node)
        else:
            self.view.contents(node)

    def buffer(self, inode: Inode, *, load: bool = True) -> Buffer:
        """The buffer of an inode; a new one lies over what the file says now, or over nothing."""
        if inode.buffer is not None:
            return inode.buffer
        node = self.view.node(inode)
        pinned = inode.pinned
        if not load:
            inode.buffer = Buffer(0, lambda number: b"")
        elif pinned is not None:
            inode.buffer = Buffer(pinned.size, lambda number: pinned.read(number * CHUNK_BYTES, CHUNK_BYTES))
        elif isinstance(node, Stored) and node.file.kind == "file":
            inode.buffer = self._stored_buffer(node.file)
        elif isinstance(node, Leaf):
            size, read = self.view.reader(node)
            inode.buffer = Buffer(size, lambda number: read(number * CHUNK_BYTES, CHUNK_BYTES))
        else:
            data = self.view.contents(node) if node is not None else b""
            inode.buffer = Buffer(
                len(data), lambda number: data[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
            )
        return inode.buffer

    def _stored_buffer(self, file: StoredFile) -> Buffer:
        files = self.workspace.files
        return Buffer(file.size, lambda number: files.read_chunk(file.ident, number))

    def write(self, inode: Inode, offset: int, data: bytes) -> int:
        """Write into the buffer; what is no record and grows large is stored as it goes."""
        end = offset + len(data)
        self._check_size(inode, end)
        buffer = self.buffer(inode)
        buffer.write(offset, data)
        inode.mtime_ns = time.time_ns()
        inode.invalid = False
        if buffer.changed_bytes() > SPILL_BYTES:
            if inode.path is None:
                if buffer.changed_bytes() > UNLINKED_BYTES:
                    raise refusal(errno.ENOSPC)
            elif not isinstance(inode.node, Command):
                key = self.view.key_of(inode.path)
                if key is None or self.view.kind_of(key) == "blob":
                    while buffer.changed_bytes() > SPILL_BYTES:
                        self.keeper.spill(inode, buffer)
        return len(data)

    def _check_size(self, inode: Inode, size: int) -> None:
        if size <= RECORD_BYTES:
            return
        key = self.view.key_of(inode.path) if inode.path is not None else None
        is_record = key is not None and self.view.kind_of(key) == "record"
        if is_record or isinstance(inode.node, Command) or size > SCRATCH_BYTES:
            raise refusal(errno.EFBIG)

    def truncate(self, inode: Inode, size: int) -> None:
        """Cut or extend a file. Where nobody has it open to write, no close follows: it is stored at once."""
        self._check_size(inode, size)
        self.buffer(inode, load=size > 0).truncate(size)
        inode.mtime_ns = time.time_ns()
        inode.invalid = False
        if inode.writers == 0:
            try:
                self.commit(inode, final=True)
                if inode.invalid:
                    raise refusal(errno.EINVAL)
            finally:
                self._let_go(inode)

    def set_times(self, inode: Inode, mtime_ns: int) -> None:
        """Keep a time that was set by hand: with the edit or the stored file, else until unmount."""
        # As other file systems do it: a time that cannot be stored is the nearest that can.
        mtime_ns = inode.mtime_ns = max(-LATEST_NS, min(mtime_ns, LATEST_NS))
        if inode.path is None or self.workspace.read_only or (inode.buffer and inode.buffer.dirty):
            return
        node = self.view.node(inode)
        if isinstance(node, Folder):
            self.view.folder_times[inode.path] = mtime_ns
            inode.mtime_ns = None
        elif isinstance(node, Stored):
            with self.workspace.transaction():
                inode.node = Stored(self.workspace.files.change(node.file, mtime_ns=mtime_ns))
        elif isinstance(node, Leaf) and node.staged:
            text = self.workspace.edits.text(node.key) if node.verbatim else None
            with self.workspace.transaction():
                self.workspace.edits.stage(node.key, node.cid, mtime_ns, text)
            inode.node = None

    def set_mode(self, inode: Inode, mode: int) -> None:
        """Permission bits are kept of scratch and of made folders; a record has none, and nothing fails."""
        node = self.view.node(inode)
        inode.mode = mode & 0o777
        if inode.path is None or self.workspace.read_only:
            return
        file = self.workspace.files.get(inode.path)
        if file is not None and isinstance(node, Stored | Folder):
            with self.workspace.transaction():
                changed = self.workspace.files.change(file, mode=mode & 0o777)
            if isinstance(node, Stored):
                inode.node = Stored(changed)

    # --- close and fsync ----------------------------------------------------------------------

    def flush(self, inode: Inode) -> None:
        """A close: stage what is a record, keep what is not. EINVAL where it is a draft."""
        if inode.buffer is None or isinstance(inode.node, Command):
            return
        self.commit(inode, final=False)
        if inode.invalid:
            raise refusal(errno.EINVAL)

    def settle(self, inode: Inode) -> None:
        """Make an edit or a draft of what was written, to be synced next."""
        if inode.buffer is not None and not isinstance(inode.node, Command):
            self.commit(inode, final=True)

    def fsync(self, inode: Inode) -> None:
        """Return once what was written is durable: as an edit, or as a draft."""
        self.settle(inode)
        self.workspace.sync()

    def release(self, inode: Inode, *, write: bool = True) -> None:
        """The last close of an open file is done; `write` as it was opened."""
        inode.opens -= 1
        inode.writers -= write
        if inode.writers > 0 or (inode.opens > 0 and not write):
            return
        inode.past_cache = False
        try:
            if inode.buffer is not None and not isinstance(inode.node, Command):
                self.commit(inode, final=True)
        finally:
            self._let_go(inode)

    def _let_go(self, inode: Inode) -> None:
        """Nobody has the inode open to write any more: forget its buffer, and after its last reader all."""
        if inode.opens > 0:
            self._let_readers_go_on(inode)
            return
        buffer, inode.buffer = inode.buffer, None
        inode.invalid = False
        self.keeper.forget_orphans(inode)
        if inode.path is None:
            self.view.inodes.drop_if_unused(inode)
            return
        if isinstance(inode.node, Command):
            return
        if self.view.pending.get(inode.path) is inode and buffer is not None and buffer.dirty:
            # It could not be stored, and its last user was told: there is no such file.
            del self.view.pending[inode.path]
            folder, _, name = inode.path.rpartition(b"/")
            parent = self.view.inodes.get(folder)
            if parent is not None:
                self.view.stale.entries.add((parent.number, name))
            self.view.inodes.detach(inode)
            return
        pinned, inode.pinned = inode.pinned, None
        diverged, inode.diverged = inode.diverged, False
        if (
            diverged
            or pinned is not None
            or (buffer is not None and (buffer.dirty or self.view.attributes(inode).size != buffer.size))
        ):
            # The kernel knows the text as it was written; from now on the file says something else.
            self.view.stale.inodes.add(inode.number)
        self.view.inodes.drop_if_unused(inode)

    def _let_readers_go_on(self, inode: Inode) -> None:
        """Who only reads needs no buffer where the file says the same without it."""
        buffer = inode.buffer
        if buffer is None or buffer.dirty or inode.diverged or inode.path is None:
            return
        if not isinstance(inode.node, Command):
            inode.buffer = None
            if self.view.attributes(inode).size != buffer.size:
                inode.buffer = buffer
