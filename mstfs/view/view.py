"""The read side: what a path names, what a folder holds, what a file says."""

import logging
import time
from collections.abc import Callable, Iterator

from mstfs.codec import cid as cids
from mstfs.errors import BlockError, FormatError, MstfsError
from mstfs.limits import RECORD_BYTES
from mstfs.repo import tid
from mstfs.repo.syntax import is_key
from mstfs.staging.files import CHUNK_BYTES
from mstfs.staging.workspace import Workspace
from mstfs.view.buffers import Buffer
from mstfs.view.contents import Renderings
from mstfs.view.control import ControlFolder
from mstfs.view.forms import Form
from mstfs.view.inodes import Inode, InodeTable, Pinned
from mstfs.view.names import CONTROL, Names, Path, in_control
from mstfs.view.namespace import Namespace
from mstfs.view.nodes import Attributes, Command, Control, Folder, Node, Pending, Record, Stored

log = logging.getLogger("mstfs")


def split_path(path: bytes) -> Path:
    """The names of a path; the root has none."""
    return tuple(path.split(b"/")) if path else ()


def join_path(folder: bytes, name: bytes) -> bytes:
    """The path of a name in a folder."""
    return folder + b"/" + name if folder else name


class Stale:
    """What the kernel may still believe, although it changed behind its back.

    `inodes` are numbers whose data and attributes changed; `entries` are a folder's number and a
    name that appeared, went, or names another inode now.
    """

    def __init__(self) -> None:
        self.inodes: set[int] = set()
        self.entries: set[tuple[int, bytes]] = set()

    def __bool__(self) -> bool:
        return bool(self.inodes or self.entries)

    def take(self) -> tuple[set[int], set[tuple[int, bytes]]]:
        """Hand over what is there and start again."""
        taken = self.inodes, self.entries
        self.inodes, self.entries = set(), set()
        return taken


class View:
    """One workspace as folders and files. It answers from memory and local blocks, and never blocks."""

    def __init__(self, workspace: Workspace, form: Form, *, cache_bytes: int = 32 << 20, umask: int = 0o022):
        self.workspace = workspace
        self.form = form
        self.names = Names(form.suffix)
        self.renderings = Renderings(workspace.blocks, form, cache_bytes)
        self.inodes = InodeTable()
        self.pending: dict[bytes, Inode] = {}
        self.kept: set[bytes] = set()
        self.folder_times: dict[bytes, int] = {}
        self.stale = Stale()
        self.control = ControlFolder(workspace, self.names, self.renderings)
        self.file_mode = (0o444 if workspace.read_only else 0o666) & ~umask
        self.folder_mode = (0o555 if workspace.read_only else 0o777) & ~umask
        # Of a file of size 0 nobody reads; where files are never opened, only a read can be refused.
        self.unreadable_size = 0
        self.opened_ns = time.time_ns()
        self.switched()

    def switched(self) -> None:
        """The head of the workspace is another one now."""
        self.namespace = Namespace(self.workspace.staged, self.names)
        rev = self.workspace.head.rev
        self.rev_ns = _tid_ns(rev) or self.opened_ns

    # --- what a path names --------------------------------------------------------------------

    def key_of(self, path: bytes) -> bytes | None:
        """The key that a file of this path stands for: a valid one, or one that the tree holds anyway.

        One that was deleted and is published still counts, so that an editor that moves the old file away and
        writes a new one changes the record.
        """
        key = self.names.key_of(split_path(path))
        if key is None or is_key(key):
            return key
        staged = self.workspace.staged
        held = staged.get(key) is not None or staged.published(key) is not None
        return key if held else None

    def resolve(self, path: bytes) -> Node | None:
        """What the path names, or None. Raises BlockError where the way to it cannot be read."""
        if path == b"":
            return Folder()
        if in_control(path):
            if path in self.pending:
                return Command()
            return self.control.resolve(path)
        if path in self.pending:
            return Pending()
        stored = self.workspace.files.get(path)
        if stored is not None:
            return Folder() if stored.kind == "folder" else Stored(stored)
        parts = split_path(path)
        key = self.names.key_of(parts)
        if key is not None:
            cid = self.workspace.staged.get(key)
            if cid is not None:
                return self.record(key, cid)
        if path in self.kept or path in self.workspace.files.children or self.namespace.folder_exists(parts):
            return Folder()
        return None

    def record(self, key: bytes, cid: bytes) -> Record:
        edit = self.workspace.edits.get(key)
        if edit is None:
            return Record(key, cid)
        return Record(key, cid, True, edit.verbatim, edit.mtime_ns)

    def node(self, inode: Inode) -> Node | None:
        """The node of an inode, remembered until something changes it."""
        if inode.node is None and inode.path is not None:
            inode.node = self.resolve(inode.path)
        return inode.node

    def lookup(self, parent: Inode, name: bytes) -> Inode | None:
        """The inode of a name in a folder, or None. Counts one reference of the kernel."""
        if parent.path is None:
            return None
        path = join_path(parent.path, name)
        inode = self.inodes.get(path)
        if inode is None or inode.node is None:
            node = self.resolve(path)
            if node is None:
                return None
            inode = self.inodes.at(path, node)
        inode.lookups += 1
        return inode

    def children(self, path: bytes) -> Iterator[tuple[bytes, Node | None]]:
        """Names in a folder and, where it costs nothing, what they name. Each name comes once."""
        if in_control(path):
            yield from self.control.children(path)
            return
        prefix = path + b"/" if path else b""
        own = set(self.workspace.files.names(path))
        for other in (self.pending, self.kept):
            own.update(
                known[len(prefix) :]
                for known in other
                if known.startswith(prefix) and b"/" not in known[len(prefix) :]
            )
        edits = self.workspace.edits
        for name, key, cid in self.namespace.children(split_path(path), self._unreadable):
            if name in own:
                continue
            if key is None or cid is None:
                yield name, Folder()
            elif edits.by_key:
                yield name, self.record(key, cid)
            else:
                yield name, Record(key, cid)
        for name in sorted(own):
            yield name, None

    def _unreadable(self, error: MstfsError) -> None:
        log.warning("a part of the tree cannot be listed: %s", error)

    # --- what a file says ---------------------------------------------------------------------

    def contents(self, node: Node) -> bytes:
        """The whole of a record or control file. Raises BlockError or FormatError, naming the block."""
        if isinstance(node, Record):
            if node.verbatim:
                text = self.workspace.edits.text(node.key)
                if text is not None:
                    return text
            return self.renderings.get(node.cid)
        if isinstance(node, Stored):
            if node.file.target is not None:
                return node.file.target
            return self.workspace.files.contents(node.file)
        if isinstance(node, Control):
            return node.produce()
        return b""

    def read(self, inode: Inode, offset: int, length: int) -> bytes:
        """Bytes of an open file; shorter than `length` only at its end."""
        if inode.buffer is not None and inode.reply is None:
            return inode.buffer.read(offset, length)
        if inode.reply is not None:
            return inode.reply[offset : offset + length]
        if inode.pinned is not None:
            return inode.pinned.read(offset, length)
        node = self.node(inode)
        if node is None:
            return b""
        if isinstance(node, Stored) and node.file.kind == "file":
            return self.read_stored(node, offset, length)
        return self.contents(node)[offset : offset + length]

    def read_stored(self, node: Stored, offset: int, length: int) -> bytes:
        file = node.file
        files = self.workspace.files
        return Buffer(file.size, lambda number: files.read_chunk(file.ident, number)).read(offset, length)

    def pin(self, inode: Inode) -> None:
        """Those who have the inode open go on seeing what it says now, whatever its name comes to mean."""
        if inode.buffer is not None or inode.pinned is not None:
            return
        node = self.node(inode)
        if isinstance(node, Stored) and node.file.kind == "file":
            stored, size = node, node.file.size
            inode.pinned = Pinned(size, lambda start, length: self.read_stored(stored, start, length))
        elif isinstance(node, Record) and not node.verbatim:
            cid = node.cid
            inode.pinned = Pinned(
                self._size(inode, node),
                lambda start, length: self.renderings.get(cid)[start : start + length],
            )
        elif node is not None and not isinstance(node, Folder):
            data = self.contents(node)
            inode.pinned = Pinned(len(data), lambda start, length: data[start : start + length])

    def take_in(self, inode: Inode) -> None:
        """Hold in memory all that an open record or draft says, apart from what it was read from."""
        buffer = inode.buffer
        node = self.node(inode)
        if buffer is None and isinstance(node, Record | Stored):
            data = self.contents(node)
            inode.buffer = Buffer(len(data), _chunks(data))
        elif buffer is not None and isinstance(node, Record | Stored) and buffer.size <= RECORD_BYTES:
            dirty = buffer.dirty
            buffer.clean(_chunks(buffer.read(0, buffer.size)))
            buffer.dirty = dirty

    # --- what stat says -----------------------------------------------------------------------

    def attributes(self, inode: Inode) -> Attributes:
        """The attributes of an inode; a leaf that cannot be read has size 0, and its reading fails."""
        node = self.node(inode)
        if inode.reply is not None:
            return Attributes(inode.number, "file", 0o600, len(inode.reply), self.opened_ns, False)
        if node is None and inode.buffer is None and inode.pinned is None and inode.path is not None:
            return Attributes(inode.number, "file", self.file_mode, 0, self.rev_ns, False)
        if isinstance(node, Folder):
            return self._folder_attributes(inode, node)
        size = self._size(inode, node)
        mtime_ns = inode.mtime_ns
        mode = self.file_mode
        kind = "file"
        lasting = True
        if isinstance(node, Record):
            mtime_ns = self.mtime_of(node) if mtime_ns is None else mtime_ns
            if node.fixed:
                mode &= 0o444
        elif isinstance(node, Stored):
            mtime_ns = node.file.mtime_ns if mtime_ns is None else mtime_ns
            kind = node.file.kind
            mode = 0o777 if kind == "symlink" else node.file.mode
        elif isinstance(node, Pending):
            if inode.mode is not None and inode.path is not None and self.key_of(inode.path) is None:
                mode = inode.mode
        elif isinstance(node, Control):
            mode, lasting = 0o400, node.fixed
            # A new time at every look makes the kernel read again what it may have cached of the last one.
            mtime_ns = None if node.fixed else time.time_ns()
        elif isinstance(node, Command):
            mode, lasting = 0o600, False
        mtime_ns = self.opened_ns if mtime_ns is None else mtime_ns
        return Attributes(inode.number, kind, mode, size, mtime_ns, lasting)

    def _folder_attributes(self, inode: Inode, node: Folder) -> Attributes:
        path = inode.path
        mtime_ns = self.rev_ns
        if path is not None:
            stored = self.workspace.files.get(path)
            mtime_ns = self.folder_times.get(path, stored.mtime_ns if stored is not None else mtime_ns)
        mode = self.folder_mode & 0o555 if node.fixed else self.folder_mode
        if path is not None and in_control(path) and not path.startswith(CONTROL + b"/history/"):
            mode = 0o700 if path == CONTROL + b"/commands" else 0o500
            return Attributes(inode.number, "folder", mode, 0, mtime_ns, path == CONTROL)
        return Attributes(inode.number, "folder", mode, 0, mtime_ns, True)

    def _size(self, inode: Inode, node: Node | None) -> int:
        if inode.buffer is not None:
            return inode.buffer.size
        if inode.pinned is not None:
            return inode.pinned.size
        if isinstance(node, Stored):
            return node.file.size
        if node is None:
            return 0
        try:
            return len(self.contents(node))
        except MstfsError:
            return self.unreadable_size

    def mtime_of(self, node: Record) -> int:
        """When a record was written, in ns: staged, or as its key says, or else as the head says."""
        return self._record_ns(node.key) if node.mtime_ns is None else node.mtime_ns

    def _record_ns(self, key: bytes) -> int:
        return _tid_ns(key.rpartition(b"/")[2].decode("latin-1")) or self.rev_ns

    # --- extended attributes ------------------------------------------------------------------

    def xattrs(self, inode: Inode) -> dict[bytes, bytes]:
        """The extended attributes of an inode, by full name. Source: the design's section on attributes."""
        node = self.node(inode)
        found: dict[bytes, bytes] = {}
        if isinstance(node, Folder):
            if inode.path == b"":
                found[b"user.mstfs.cid"] = cids.to_text(self.workspace.head.root).encode()
                found[b"user.mstfs.state"] = self.workspace.head.kind.encode()
            return found
        if isinstance(node, Record):
            found[b"user.mstfs.cid"] = cids.to_text(node.cid).encode()
            found[b"user.mstfs.key"] = node.key
            found[b"user.mstfs.state"] = b"staged" if node.staged else b"published"
            try:
                self.renderings.get(node.cid)
            except (BlockError, FormatError) as error:
                found[b"user.mstfs.error"] = str(error).encode()
        elif isinstance(node, Stored | Pending) and inode.path is not None:
            key = self.key_of(inode.path)
            found[b"user.mstfs.state"] = b"scratch" if key is None else b"draft"
            if key is not None:
                found[b"user.mstfs.key"] = key
            if isinstance(node, Stored) and node.file.error is not None:
                found[b"user.mstfs.error"] = node.file.error.encode()
        return found


def _chunks(data: bytes) -> Callable[[int], bytes]:
    return lambda number: data[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]


def _tid_ns(text: str | None) -> int | None:
    """The time of a TID in ns, or None where the text is none or lies outside of what `stat` can show."""
    if text is None or len(text) != 13 or not tid.is_valid(text):
        return None
    us, _ = tid.decode(text)
    return us * 1000 if us < 1 << 52 else None
