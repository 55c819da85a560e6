"""The read side: what a path names, what a folder holds, what a file says."""

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

from mstfs.codec import cid as cids
from mstfs.errors import MstfsError, SyntaxRuleError
from mstfs.limits import RECORD_BYTES
from mstfs.logs import about
from mstfs.repo import tid
from mstfs.staging.files import CHUNK_BYTES
from mstfs.staging.workspace import Workspace
from mstfs.values.interface import NO_ATTRIBUTES, ValueAttributes, ValueKind
from mstfs.view.buffers import Buffer
from mstfs.view.control import ControlFolder
from mstfs.view.inodes import Inode, InodeTable, Pinned, plain_number
from mstfs.view.kinds import key_rule, names_of, namespace_of
from mstfs.view.names import CONTROL, ITSELF, Path, in_control
from mstfs.view.namespace import KeyNamespace
from mstfs.view.nodes import Attributes, Command, Control, Folder, Leaf, Node, Pending, Stored
from mstfs.view.pages import Pages, Sibling

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

    def __init__(self, workspace: Workspace, *, umask: int = 0o022):
        self.workspace = workspace
        self.values = workspace.values
        self.names = names_of(workspace.head.tree, workspace.values)
        self.is_key = key_rule(workspace.head.tree)
        self.inodes = InodeTable()
        self.pages = Pages(self)
        self.pending: dict[bytes, Inode] = {}
        self.kept: set[bytes] = set()
        self.folder_times: dict[bytes, int] = {}
        self.stale = Stale()
        self.prepared: dict[bytes, Path] = {}
        """Plain paths of many keys that are about to change, found before."""
        self.control = ControlFolder(workspace, self.names)
        self.file_mode = (0o444 if workspace.read_only else 0o666) & ~umask
        self.folder_mode = (0o555 if workspace.read_only else 0o777) & ~umask
        # Of a file of size 0 nobody reads; where files are never opened, only a read can be refused.
        self.unreadable_size = 0
        self.incomplete: set[bytes] = set()
        self.opened_ns = time.time_ns()
        self.switched()

    def switched(self) -> None:
        """The head of the workspace is another one now."""
        workspace = self.workspace
        self.namespace = namespace_of(workspace.head.tree, workspace.staged, self.names, self._is_kept)
        self.rev_ns = _tid_ns(workspace.head.rev) or self._event_ns()

    def _event_ns(self) -> int:
        # Without a revision, a root is as old as its publication, or as the file that it came in.
        event = self.workspace.history.head()
        return self.workspace.born_ns if event is None else event.time_ns

    def _is_kept(self, parts: Path) -> bool:
        path = b"/".join(parts)
        if path in self.kept or path in self.workspace.files.children:
            return True
        stored = self.workspace.files.get(path)
        return stored is not None and stored.kind == "folder"

    # --- what a path names --------------------------------------------------------------------

    def key_of(self, path: bytes) -> bytes | None:
        """The key that a file of this path stands for: a valid one, or one that the tree holds anyway.

        One that was deleted and is published still counts, so that an editor that moves the old file away and
        writes a new one changes the record.
        """
        key = self.namespace.key_of(split_path(path))
        if key is None or self.is_key(key):
            return key
        staged = self.workspace.staged
        held = staged.get(key) is not None or staged.published(key) is not None
        return key if held else None

    def is_reserved(self, path: bytes) -> bool:
        """Whether only a file may have this name: one that no folder of keys could have."""
        return bool(self.names.suffix) and self.key_of(path) is not None

    def plain_path(self, key: bytes) -> Path:
        """The path of a key where its name is that of no folder."""
        return self.prepared.get(key) or self.names.path_of(key)

    def paths_of(self, key: bytes) -> tuple[Path, ...]:
        """Every path that the file of a key may have had: it moves when its name becomes that of a folder."""
        if not self.names.nested:
            return (self.plain_path(key),)
        path = self.namespace.path_of(key)
        plain = path[:-1] if path[-1:] == (ITSELF,) else path
        return (plain, (*plain, ITSELF))

    def kind_of(self, key: bytes) -> ValueKind:
        """What the file of a key is, or will be: a file keeps its kind when it is rewritten."""
        staged = self.workspace.staged
        cid = staged.get(key) or staged.published(key)
        if cid is None:
            return self.values.new_kind(key)
        try:
            return self.values.kind(key, cid)
        except MstfsError:
            return self.values.new_kind(key)

    def resolve(self, path: bytes) -> Node | None:
        """What the path names, or None. Raises BlockError where the way to it cannot be read."""
        if path == b"":
            top = self.namespace.find(())
            return Folder(cid=top.cid if top is not None else None)
        if in_control(path):
            if path in self.pending:
                return Command()
            return self.control.resolve(path)
        if path in self.pending:
            return Pending()
        stored = self.workspace.files.get(path)
        if stored is not None:
            return Folder() if stored.kind == "folder" else Stored(stored)
        found = self.namespace.find(split_path(path))
        if found is not None and found.key is not None and found.cid is not None:
            return self.leaf(found.key, found.cid)
        if found is not None:
            return Folder(cid=found.cid)
        return Folder() if path in self.kept or path in self.workspace.files.children else None

    def leaf(self, key: bytes, cid: bytes) -> Leaf:
        """The file of a key, with what is known of its edit if it has one."""
        edit = self.workspace.edits.get(key)
        if edit is None:
            return Leaf(key, cid)
        return Leaf(key, cid, True, edit.verbatim, edit.mtime_ns)

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
        inode = self.inodes.by_path.get(path)
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
        for name, key, cid in self.namespace.children(split_path(path), partial(self.unlisted, path)):
            if name in own:
                continue
            if key is None or cid is None:
                yield name, Folder(cid=cid)
            elif edits.by_key:
                yield name, self.leaf(key, cid)
            else:
                yield name, Leaf(key, cid)
        for name in sorted(own):
            yield name, None

    def unlisted(self, folder: bytes, error: MstfsError) -> None:
        """A part of a folder cannot be read, and is left out of its listing."""
        self.incomplete.add(folder)
        log.warning("a part of the tree cannot be listed: %s", error, extra=about(path=folder, error=error))

    # --- what a file says ---------------------------------------------------------------------

    def contents(self, node: Node) -> bytes:
        """The whole of a file. Raises BlockError or FormatError, naming the block."""
        if isinstance(node, Leaf):
            size, read = self.reader(node)
            return read(0, size)
        if isinstance(node, Stored):
            if node.file.target is not None:
                return node.file.target
            return self.workspace.files.contents(node.file)
        if isinstance(node, Control):
            return node.produce()
        return b""

    def reader(self, node: Leaf) -> Pinned:
        """The size of a value's file, and how to read it: neither changes, whatever becomes of the key."""
        text = self.workspace.edits.text(node.key) if node.verbatim else None
        if text is not None:
            return Pinned(len(text), lambda offset, length: text[offset : offset + length])
        values, key, cid = self.values, node.key, node.cid
        return Pinned(values.size(key, cid), lambda offset, length: values.read(key, cid, offset, length))

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
        if isinstance(node, Leaf) and not node.verbatim:
            return self.values.read(node.key, node.cid, offset, length)
        if isinstance(node, Stored) and node.file.kind == "file":
            return self.read_stored(node, offset, length)
        return self.contents(node)[offset : offset + length]

    def siblings(self, folder: bytes, after: bytes, limit: int) -> tuple[list[Sibling], bytes | None]:
        """Of the next `limit` keys in a folder, the files that the kernel knows and nobody changed.

        Also gives the last of these keys, None where there is no further one.
        """
        if not isinstance(self.namespace, KeyNamespace):
            return [], None
        prefix = self.names.prefix_of(split_path(folder))
        page = self.workspace.staged.page(prefix, after or None, limit, partial(self.unlisted, folder))
        found = []
        for key, cid in page:
            path = b"/".join(self.names.path_of(key))
            inode = self.inodes.by_path.get(path)
            if inode is None:
                number = plain_number(path)
                if number not in self.inodes.by_number and self.pages.is_handed(number):
                    found.append(Sibling(number, key, cid, None))
                continue
            if inode.buffer is not None or inode.pinned is not None or inode.outdated:
                continue
            node = inode.node
            if isinstance(node, Leaf) and node.cid == cid and not node.verbatim and not inode.diverged:
                found.append(Sibling(inode.number, key, cid, None))
        return found, page[-1].key if len(page) == limit else None

    def read_stored(self, node: Stored, offset: int, length: int) -> bytes:
        """A range of a file of the overlay."""
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
        elif isinstance(node, Leaf):
            try:
                inode.pinned = self.reader(node)
            except MstfsError:
                # What cannot be read now cannot be read later either, and its size says so.
                inode.pinned = Pinned(self.unreadable_size, partial(self.values.read, node.key, node.cid))
        elif node is not None and not isinstance(node, Folder):
            data = self.contents(node)
            inode.pinned = Pinned(len(data), lambda start, length: data[start : start + length])

    def take_in(self, inode: Inode) -> None:
        """Hold in memory all that an open record or draft says, apart from what it was read from."""
        buffer = inode.buffer
        node = self.node(inode)
        if buffer is None and isinstance(node, Leaf):
            size, read = self.reader(node)
            inode.buffer = Buffer(size, lambda number: read(number * CHUNK_BYTES, CHUNK_BYTES))
        elif buffer is None and isinstance(node, Stored):
            data = self.contents(node)
            inode.buffer = Buffer(len(data), _chunks(data))
        elif buffer is not None and isinstance(node, Leaf | Stored) and buffer.size <= RECORD_BYTES:
            dirty = buffer.dirty
            buffer.clean(_chunks(buffer.read(0, buffer.size)))
            buffer.dirty = dirty

    # --- what stat says -----------------------------------------------------------------------

    def attributes(self, inode: Inode) -> Attributes:
        """The attributes of an inode; a leaf that cannot be read has size 0, and its reading fails."""
        node = self.node(inode)
        if isinstance(node, Leaf) and self._is_plain(inode, node):
            # Nearly every file, and a listing asks for all of them.
            lasting = True
            try:
                size = self.values.size(node.key, node.cid)
            except MstfsError:
                # Not kept: by the next look it may be readable, and this size would cut it off.
                size, lasting = self.unreadable_size, False
            return Attributes(
                inode.number, "file", self.file_mode, size, self._mtime(node, NO_ATTRIBUTES), lasting
            )
        if inode.reply is not None:
            return Attributes(inode.number, "file", 0o600, len(inode.reply), self.opened_ns, False)
        if node is None and inode.buffer is None and inode.pinned is None and inode.path is not None:
            return Attributes(inode.number, "file", self.file_mode, 0, self.rev_ns, False)
        if isinstance(node, Folder):
            return self._folder_attributes(inode, node)
        known = self._size(inode, node)
        size, lasting = (known, True) if known is not None else (self.unreadable_size, False)
        mtime_ns = inode.mtime_ns
        mode = self.file_mode
        kind = "file"
        if isinstance(node, Leaf):
            told = self._told(node.key, node.cid)
            mtime_ns = self._mtime(node, told) if mtime_ns is None else mtime_ns
            mode = mode if told.mode is None else told.mode
            if node.fixed:
                mode &= 0o444
            if told.symlink:
                kind, mode = "symlink", 0o777
        elif isinstance(node, Stored):
            mtime_ns = node.file.mtime_ns if mtime_ns is None else mtime_ns
            kind = node.file.kind
            mode = 0o777 if kind == "symlink" else node.file.mode
        elif isinstance(node, Pending):
            if inode.mode is not None and inode.path is not None and self.key_of(inode.path) is None:
                mode = inode.mode
        elif isinstance(node, Control):
            mode, lasting = 0o400, lasting and node.fixed
            # A new time at every look makes the kernel read again what it may have cached of the last one.
            mtime_ns = None if node.fixed else time.time_ns()
        elif isinstance(node, Command):
            mode, lasting = 0o600, False
        mtime_ns = self.opened_ns if mtime_ns is None else mtime_ns
        return Attributes(inode.number, kind, mode, size, mtime_ns, lasting)

    def _is_plain(self, inode: Inode, node: Leaf) -> bool:
        """Whether all that there is to say about a file is its size, and the time that its key says."""
        return not (
            node.verbatim
            or node.fixed
            or self.values.carries_attributes
            or inode.buffer is not None
            or inode.pinned is not None
            or inode.reply is not None
            or inode.mtime_ns is not None
        )

    def _folder_attributes(self, inode: Inode, node: Folder) -> Attributes:
        path = inode.path
        stored = None if path is None else self.workspace.files.get(path)
        mode, mtime_ns = self.folder_mode, self.rev_ns
        if stored is not None and stored.kind == "folder":
            # Who makes a folder for the owner alone relies on it, where others are let in.
            mode, mtime_ns = stored.mode, stored.mtime_ns
        if path is not None:
            mtime_ns = self.folder_times.get(path, mtime_ns)
        if node.cid is not None:
            told = self._told(b"", node.cid)
            mode = mode if told.mode is None else told.mode
            mtime_ns = mtime_ns if told.mtime_ns is None else told.mtime_ns
        if node.fixed:
            mode &= 0o555
        if path is not None and in_control(path) and not path.startswith(CONTROL + b"/history/"):
            mode = 0o700 if path == CONTROL + b"/commands" else 0o500
            return Attributes(inode.number, "folder", mode, 0, mtime_ns, path == CONTROL)
        return Attributes(inode.number, "folder", mode, 0, mtime_ns, True)

    def _size(self, inode: Inode, node: Node | None) -> int | None:
        """The size in bytes; None where it cannot be read."""
        if inode.buffer is not None:
            return inode.buffer.size
        if inode.pinned is not None:
            return inode.pinned.size
        if isinstance(node, Stored):
            return node.file.size
        if node is None:
            return 0
        try:
            if isinstance(node, Leaf) and not node.verbatim:
                return self.values.size(node.key, node.cid)
            return len(self.contents(node))
        except MstfsError:
            return None

    def _told(self, key: bytes, cid: bytes) -> ValueAttributes:
        try:
            return self.values.attributes(key, cid)
        except MstfsError:
            return NO_ATTRIBUTES

    def mtime_of(self, node: Leaf) -> int:
        """When a value was written, in ns: staged, as it or its key says, or else as the head says."""
        return self._mtime(node, self._told(node.key, node.cid))

    def _mtime(self, node: Leaf, told: ValueAttributes) -> int:
        if node.mtime_ns is not None:
            return node.mtime_ns
        if told.mtime_ns is not None:
            return told.mtime_ns
        return self.time_of_key(node.key) or self.rev_ns

    def time_of_key(self, key: bytes) -> int | None:
        """When a value was written, in ns, if its key says it."""
        return None if self.names.nested else _tid_ns(key.rpartition(b"/")[2].decode("latin-1"))

    # --- extended attributes ------------------------------------------------------------------

    def xattrs(self, inode: Inode) -> dict[bytes, bytes]:
        """The extended attributes of an inode, by full name. Source: the design's section on attributes."""
        node = self.node(inode)
        found: dict[bytes, bytes] = {}
        if isinstance(node, Folder):
            if inode.path == b"":
                found[b"user.mstfs.cid"] = cids.to_text(self.workspace.head.root).encode()
                found[b"user.mstfs.state"] = self.workspace.head.kind.encode()
            elif node.cid is not None:
                found[b"user.mstfs.cid"] = cids.to_text(node.cid).encode()
            return found
        if isinstance(node, Leaf):
            found[b"user.mstfs.cid"] = cids.to_text(node.cid).encode()
            found[b"user.mstfs.key"] = node.key
            found[b"user.mstfs.state"] = b"staged" if node.staged else b"published"
            try:
                self.values.size(node.key, node.cid)
            except MstfsError as error:
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
    if text is None or len(text) != 13:
        return None
    try:
        us, _ = tid.decode(text)
    except SyntaxRuleError:
        return None
    return us * 1000 if us < 1 << 52 else None
