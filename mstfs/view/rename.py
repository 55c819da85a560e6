"""Rename: of records, drafts, scratch and whole folders, and across those kinds.

A scratch file that is renamed onto a record's name becomes an edit, checked like any other: one that is no
record is refused with EINVAL and nothing changes. A record that is renamed to a scratch name becomes scratch.
Everything that one rename changes is one transaction.
"""

import errno
import logging
import time
from functools import partial

from mstfs.errors import RecordError
from mstfs.limits import RECORD_BYTES
from mstfs.logs import about
from mstfs.staging.files import StoredFile
from mstfs.tree.interface import UNREADABLE
from mstfs.view.inodes import Inode
from mstfs.view.keeper import EMPTY
from mstfs.view.names import in_control
from mstfs.view.nodes import Attributes, Folder, Leaf, Node, Pending, Stored
from mstfs.view.view import split_path
from mstfs.view.writer import Writer, refusal

log = logging.getLogger("mstfs")


class Renamer:
    """The rename operation of one writer."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.keeper = writer.keeper
        self.view = writer.view
        self.workspace = writer.workspace

    def rename(
        self, parent: Inode, name: bytes, new_parent: Inode, new_name: bytes, *, replace: bool = True
    ) -> None:
        """Move a name, replacing a file (or an empty folder) that has the new one. OSError with the errno."""
        source = self.writer.writable_path(parent, name)
        target = self.writer.writable_path(new_parent, new_name)
        if in_control(source) or in_control(target):
            raise refusal(errno.EPERM)
        node = self.view.resolve(source)
        if node is None:
            raise refusal(errno.ENOENT)
        if source == target:
            return
        there = self.view.resolve(target)
        if there is not None:
            self._check_replaceable(node, target, there, replace)
        if isinstance(node, Folder):
            if target.startswith(source + b"/") or self.view.is_reserved(target):
                raise refusal(errno.EINVAL)
            self.writer.check_spelling(target, folder=True)
            self._folder(source, target)
        else:
            self._file(source, node, target)
        self.writer.touch_folder(parent.path or b"")
        self.writer.touch_folder(new_parent.path or b"")

    def _check_replaceable(self, node: Node, target: bytes, there: Node, replace: bool) -> None:
        if not replace:
            raise refusal(errno.EEXIST)
        if isinstance(there, Folder) and not isinstance(node, Folder):
            raise refusal(errno.EISDIR)
        if isinstance(node, Folder) and not isinstance(there, Folder):
            raise refusal(errno.ENOTDIR)
        if isinstance(there, Folder) and any(True for _ in self.view.children(target)):
            raise refusal(errno.ENOTEMPTY)

    # --- one file -----------------------------------------------------------------------------

    def _file(self, source: bytes, node: Node, target: bytes) -> None:
        inode = self.view.inodes.get(source)
        node = self._settled(source, node, inode)
        replaced = self.view.inodes.get(target)
        if replaced is not None and replaced.opens:
            self.view.pin(replaced)
        before = self.view.attributes(inode) if inode is not None else None
        with self.workspace.transaction():
            self._move_file(source, node, target, inode)
        pending = self.view.pending.pop(target, None)
        if replaced is not None:
            self.view.inodes.detach(replaced)
            if pending is replaced:
                replaced.node = Pending()
        if inode is not None and before is not None:
            self.view.inodes.move(source, target, folder=False)
            self._follow(inode, before)

    def _settled(self, source: bytes, node: Node, inode: Inode | None) -> Node:
        """The node of a file whose buffer, if it has a changed one, is stored first."""
        if inode is not None and inode.buffer is not None and inode.buffer.dirty:
            self.keeper.commit(inode, final=True)
            settled = self.view.resolve(source)
            assert settled is not None
            return settled
        return node

    def _follow(self, inode: Inode, before: Attributes) -> None:
        """The inode has moved along with its name: it says the same, but may be another kind of file now."""
        node = self.view.node(inode)
        draft = isinstance(node, Stored) and node.file.error not in (None, EMPTY)
        inode.invalid = draft and inode.buffer is not None
        if self.view.attributes(inode) != before:
            self.view.stale.inodes.add(inode.number)
        if isinstance(node, Leaf) and not node.staged and inode.buffer is not None:
            # The same record is published already, perhaps as another text.
            inode.diverged = True

    def _move_file(self, source: bytes, node: Node, target: bytes, inode: Inode | None) -> None:
        """Move one file in the tables. Inside a transaction."""
        self.writer.check_spelling(target)
        old_key, new_key = self.view.key_of(source), self.view.key_of(target)
        if isinstance(node, Leaf):
            self._move_record(node, target, new_key, inode)
            return
        assert isinstance(node, Stored)
        being_written = inode is not None and inode.buffer is not None
        if new_key is None or node.file.kind == "symlink":
            if new_key is not None:
                raise refusal(errno.EPERM)
            self.keeper.drop_path(target)
            self.workspace.files.change(node.file, path=target, error=None)
        else:
            self._promote(node.file, target, new_key, keep_draft=old_key is not None or being_written)
        if old_key is not None and self.workspace.staged.get(old_key) is not None:
            # A draft lay over a record: the name took the record with it.
            self.workspace.stage_delete(old_key)

    def _move_record(self, node: Leaf, target: bytes, new_key: bytes | None, inode: Inode | None) -> None:
        mtime_ns = self.view.mtime_of(node)
        if inode is not None and inode.mtime_ns is not None:
            mtime_ns = inode.mtime_ns
        if new_key is not None and self._changes_form(node, new_key):
            self._remake(node, target, new_key, mtime_ns)
        elif new_key is not None:
            text = self.workspace.edits.text(node.key) if node.verbatim else None
            self.keeper.drop_path(target)
            self.workspace.stage_cid(new_key, node.cid, text_of=lambda _: text, mtime_ns=mtime_ns)
        else:
            self._to_scratch(node, target, inode, mtime_ns)
        self.workspace.stage_delete(node.key)

    def _to_scratch(self, node: Leaf, target: bytes, inode: Inode | None, mtime_ns: int) -> None:
        buffer = inode.buffer if inode is not None else None
        try:
            # Who has it open may see another text than the name says; that is what goes along.
            size, read = (buffer.size, buffer.read) if buffer is not None else self.view.reader(node)
            self.keeper.drop_path(target)
            row = self.workspace.files.add(target, "file", mode=self.view.file_mode, mtime_ns=mtime_ns)
            self.keeper.copy(self.workspace.files.change(row, size=size), read, size)
        except UNREADABLE:
            # What cannot be read cannot become scratch, and must not be lost by trying.
            raise refusal(errno.EIO) from None

    def _changes_form(self, node: Leaf, key: bytes) -> bool:
        """Whether a value must be made anew to stand under another key.

        One that is new itself, as an editor makes it, takes on the kind of the file that it replaces.
        """
        values, staged = self.workspace.values, self.workspace.staged
        if not values.portable(node.key, key):
            return True
        if not node.staged or staged.published(node.key) is not None or node.verbatim:
            return False
        there = staged.get(key) or staged.published(key)
        return there is not None and values.kind(node.key, node.cid) != self.view.kind_of(key)

    def _remake(self, node: Leaf, target: bytes, key: bytes, mtime_ns: int) -> None:
        kind = self.view.kind_of(key)
        size, read = self.view.reader(node)
        if kind == "record" and size > RECORD_BYTES:
            raise refusal(errno.EFBIG)
        try:
            self.keeper.stage_file(key, target, kind, read, size, mtime_ns)
        except RecordError as error:
            self._refused(node.key, target, error)
            raise refusal(errno.EINVAL) from None

    def _refused(self, source: bytes, target: bytes, error: RecordError) -> None:
        names = source.decode("utf-8", "backslashreplace"), target.decode("utf-8", "backslashreplace")
        log.info("%s cannot become %s: %s", *names, error, extra=about(path=target))

    def _promote(self, file: StoredFile, target: bytes, key: bytes, *, keep_draft: bool) -> None:
        """Make an edit of a stored file. `keep_draft`: one that is no record may move as a draft."""
        kind = self.view.kind_of(key)
        if kind == "record" and file.size > RECORD_BYTES:
            raise refusal(errno.EFBIG)
        stored = Stored(file)
        try:
            self.keeper.stage_file(
                key, target, kind, partial(self.view.read_stored, stored), file.size, file.mtime_ns
            )
        except RecordError as found:
            error = str(found) if file.size else EMPTY
            if not keep_draft:
                self._refused(file.path, target, found)
                raise refusal(errno.EINVAL) from None
            self.keeper.drop_row(target)
            self.workspace.files.change(file, path=target, error=error)
            return
        self.keeper.drop_row(file.path)

    # --- folders ------------------------------------------------------------------------------

    def _folder(self, source: bytes, target: bytes) -> None:
        """Move everything below a folder, and the folder itself."""
        moves = []
        known: list[tuple[Inode, Attributes]] = []
        for path in self._files_below(source):
            node = self.view.resolve(path)
            assert node is not None
            inode = self.view.inodes.get(path)
            node = self._settled(path, node, inode)
            moves.append((path, node))
            if inode is not None:
                known.append((inode, self.view.attributes(inode)))
        with self.workspace.transaction():
            row = self.workspace.files.get(target)
            if row is not None:
                self.workspace.files.remove(row)
            if self.workspace.files.get(source) is None:
                self.workspace.files.add(
                    source, "folder", mode=self.view.folder_mode, mtime_ns=time.time_ns()
                )
            for stored in [self.workspace.files.by_path[source], *self._folders_below(source)]:
                self.workspace.files.change(stored, path=target + stored.path[len(source) :])
            for path, node in moves:
                self._move_file(path, node, target + path[len(source) :], self.view.inodes.get(path))
        there = self.view.inodes.get(target)
        if there is not None:
            self.view.inodes.detach(there)
        self.view.kept.discard(target)
        self._move_kept(source, target)
        self.view.inodes.move(source, target, folder=True)
        for inode, before in known:
            self._follow(inode, before)

    def _move_kept(self, source: bytes, target: bytes) -> None:
        for known in [path for path in self.view.kept if path == source or path.startswith(source + b"/")]:
            self.view.kept.discard(known)
            self.view.kept.add(target + known[len(source) :])
        times = self.view.folder_times
        for known in [path for path in times if path == source or path.startswith(source + b"/")]:
            times[target + known[len(source) :]] = times.pop(known)

    def _files_below(self, folder: bytes) -> list[bytes]:
        found = {path for path in self.view.pending if path.startswith(folder + b"/")}
        found.update(file.path for file in self.workspace.files.below(folder) if file.kind != "folder")
        for path, _, _ in self.view.namespace.keys_below(split_path(folder)):
            found.add(b"/".join(path))
        return sorted(found)

    def _folders_below(self, folder: bytes) -> list[StoredFile]:
        return [file for file in self.workspace.files.below(folder) if file.kind == "folder"]
