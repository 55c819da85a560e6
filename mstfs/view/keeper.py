"""What becomes of a buffer: an edit, a draft, or a scratch file; and how those go away again."""

import logging
import time
from collections.abc import Container, Generator, Iterator, Mapping
from itertools import islice

from mstfs.errors import MstfsError, RecordError
from mstfs.logs import about
from mstfs.staging.files import CHUNK_BYTES, StoredFile
from mstfs.staging.workspace import STEP_BYTES
from mstfs.values.interface import ReadRange, ValueKind
from mstfs.view.buffers import Buffer
from mstfs.view.inodes import Inode
from mstfs.view.nodes import Command, Leaf, Stored
from mstfs.view.view import View

log = logging.getLogger("mstfs")

EMPTY = "the file is empty"
UNFINISHED = "the file was never closed"

HELD_BYTES = 1 << 20
"""How much of a file is held at once to compare or copy it."""

SPILLED_CHUNKS = 16
"""Chunks of a growing file that are stored at a time."""


class Keeper:
    """Puts what was written into the overlay, and takes names out of it."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.workspace = view.workspace
        # Large files of the overlay that have no path any more; `forget` leaves those alone that have one.
        self.unwanted: list[int] = []

    def commit(self, inode: Inode, *, final: bool) -> None:
        """Make an edit, a draft or a scratch file of a buffer.

        A new file that is still empty waits for more, unless this is `final`: a shell closes a copy
        of the descriptor before it writes the first byte.
        """
        buffer = inode.buffer
        if buffer is None or not buffer.dirty or inode.path is None or isinstance(inode.node, Command):
            return
        if buffer.size == 0 and not final:
            return
        before = self.view.attributes(inode)
        self._keep(inode, inode.path, buffer)
        if self.view.attributes(inode) != before:
            # For example: what was read is written back, and the record has its own time again.
            self.view.stale.inodes.add(inode.number)

    def _keep(self, inode: Inode, path: bytes, buffer: Buffer) -> None:
        key = self.view.key_of(path)
        if key is None:
            self.store_scratch(inode, buffer)
            return
        kind = self.view.kind_of(key)
        if kind == "record" and buffer.size == 0:
            self._store_draft(inode, buffer, EMPTY)
            return
        text = buffer.read(0, buffer.size) if kind == "record" else None
        made = buffer.made(key) if text is None else None
        read: ReadRange = (
            buffer.read if text is None else lambda offset, length: text[offset : offset + length]
        )
        with self.workspace.transaction():
            # A record is parsed before anything changes: what is none leaves nothing to roll back.
            try:
                cid = self.stage_file(key, path, kind, read, buffer.size, inode.mtime_ns, made)
            except RecordError as error:
                self._store_draft(inode, buffer, str(error))
                inode.invalid = True
                return
        # The draft that may have lain below is gone: the buffer stands on what was staged from now on.
        values = self.workspace.values
        if text is None:
            buffer.clean(lambda number: values.read(key, cid, number * CHUNK_BYTES, CHUNK_BYTES))
        else:
            buffer.clean(lambda number: text[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES])
        self.view.pending.pop(path, None)
        inode.mtime_ns = None
        # Where keys have a form, their paths depend on nothing else.
        inode.node = None if self.view.names.nested else self.view.leaf(key, cid)
        inode.invalid = False
        node = self.view.node(inode)
        if isinstance(node, Leaf) and not node.staged:
            # The same record is published already, perhaps as another text.
            inode.diverged = inode.diverged or not (
                node.cid == made or self._says(key, node.cid, read, buffer.size)
            )

    def stage_file(
        self,
        key: bytes,
        path: bytes,
        kind: ValueKind,
        read: ReadRange,
        size: int,
        mtime_ns: int | None,
        made: bytes | None = None,
    ) -> bytes:
        """Stage the value of a file that reads like this, drop the draft it was, and return the value.

        Call inside a transaction. Raises RecordError where the file is to be a record and is none. A value
        that was `made` of the file before is taken as it is.
        """
        if made is not None:
            self.drop_row(path)
            self.workspace.stage_cid(key, made, mtime_ns=mtime_ns)
            return made
        current = self.workspace.staged.get(key)
        if current is not None and self._says(key, current, read, size):
            # What was read is written back: the same value, even where the bytes alone could not tell it.
            self.drop_row(path)
            self.workspace.stage_cid(key, current, mtime_ns=mtime_ns)
            return current

        def text_of(made: bytes) -> bytes | None:
            # A record is shown as it was written until it is published.
            return None if self._says(key, made, read, size) else read(0, size)

        cid = self.workspace.stage_value(
            key,
            self.workspace.values.make(key, kind, read, size),
            text_of=text_of if kind == "record" else None,
            mtime_ns=mtime_ns,
        )
        self.drop_row(path)
        return cid

    def prepare(self, inode: Inode) -> Iterator[None]:
        """Make the value of a large file before its close, in short steps, so that this need not take long.

        Should anything be written between two steps, this was in vain.
        """
        buffer, path = inode.buffer, inode.path
        if buffer is None or not buffer.dirty or path is None or isinstance(inode.node, Command):
            return
        key = self.view.key_of(path)
        if key is None or buffer.size <= STEP_BYTES or self.view.kind_of(key) != "blob":
            return
        changes = buffer.changes
        for _ in self._prepare(key, buffer, changes):
            if buffer.changes != changes:
                return
            yield

    def _prepare(self, key: bytes, buffer: Buffer, changes: int) -> Iterator[None]:
        current = self.workspace.staged.get(key)
        if current is not None and (yield from self._compared(key, current, buffer.read, buffer.size)):
            buffer.was_made(key, current, changes)
            return
        making = self.workspace.values.make(key, "blob", buffer.read, buffer.size)
        buffer.was_made(key, (yield from self.workspace.store_ahead(making)), changes)

    def _says(self, key: bytes, cid: bytes, read: ReadRange, size: int) -> bool:
        """Whether the file of a value is the same as one of `size` bytes that reads like this."""
        comparing = self._compared(key, cid, read, size)
        while True:
            try:
                next(comparing)
            except StopIteration as end:
                return bool(end.value)

    def _compared(self, key: bytes, cid: bytes, read: ReadRange, size: int) -> Generator[None, None, bool]:
        values = self.workspace.values
        try:
            if values.size(key, cid) != size:
                return False
            for offset in range(0, size, HELD_BYTES):
                if values.read(key, cid, offset, HELD_BYTES) != read(offset, HELD_BYTES):
                    return False
                if offset + HELD_BYTES < size:
                    yield
        except MstfsError:
            return False
        return True

    # --- files of the overlay -----------------------------------------------------------------

    def store_scratch(self, inode: Inode, buffer: Buffer) -> None:
        """Store what was written so far; the buffer holds nothing in memory afterwards."""
        row = self._store(inode, buffer, None, over_row=True)
        files = self.workspace.files
        buffer.clean(lambda number: files.read_chunk(row.ident, number))

    def spill(self, inode: Inode, buffer: Buffer) -> None:
        """Store what was written first of a file that grows large: a draft until its close, or scratch."""
        assert inode.path is not None
        error = UNFINISHED if self.view.key_of(inode.path) is not None else None
        # A file that lies over something else begins as a copy of that, whole.
        begun = error is None or (isinstance(inode.node, Stored) and inode.node.file.error == error)
        part = dict(islice(buffer.chunks.items(), SPILLED_CHUNKS)) if begun or not buffer.base_size else None
        row = self._store(inode, buffer, error, over_row=begun, part=part)
        files = self.workspace.files
        buffer.stored(part or buffer.chunks, row.size, lambda number: files.read_chunk(row.ident, number))

    def _store_draft(self, inode: Inode, buffer: Buffer, error: str) -> None:
        self._store(inode, buffer, error, over_row=False)
        buffer.dirty = False
        name = (inode.path or b"").decode("utf-8", "backslashreplace")
        log.info("%s is a draft: %s", name, error, extra=about(path=inode.path))

    def _store(
        self,
        inode: Inode,
        buffer: Buffer,
        error: str | None,
        *,
        over_row: bool,
        part: Mapping[int, bytearray] | None = None,
    ) -> StoredFile:
        """Store a buffer, or a `part` of its chunks and no more.

        `over_row` says that it lies over what is stored of the file already.
        """
        assert inode.path is not None
        files = self.workspace.files
        known = files.get(inode.path)
        mtime_ns = time.time_ns() if inode.mtime_ns is None else inode.mtime_ns
        with self.workspace.transaction():
            row = self._row(inode, error)
            kept = min(buffer.base_size, row.size)
            size = buffer.size
            if part is not None:
                # What is not stored yet is no hole: should this be all, the file ends before it.
                size = max(kept, min(size, (max(part) + 1) * CHUNK_BYTES))
            chunks = buffer.chunks if part is None else part
            row = files.write(row, chunks, size, kept, error=error, mtime_ns=mtime_ns)
            if known is None or not over_row:
                # What lies below the buffer is not in the row. All of it goes in, but holes: they are zeros.
                row = self.copy(row, buffer.read, buffer.base_size, without=chunks)
        self.view.pending.pop(inode.path, None)
        inode.node = Stored(row)
        inode.mtime_ns = None
        return row

    def copy(self, row: StoredFile, read: ReadRange, size: int, without: Container[int] = ()) -> StoredFile:
        """Store what `read` gives as the first `size` bytes of a file, but not the chunks `without`."""
        for start in range(0, size, HELD_BYTES):
            numbers = range(start // CHUNK_BYTES, -(-min(start + HELD_BYTES, size) // CHUNK_BYTES))
            chunks = {
                number: read(number * CHUNK_BYTES, CHUNK_BYTES) for number in numbers if number not in without
            }
            row = self.workspace.files.write(row, chunks, row.size, row.size)
        return row

    def _row(self, inode: Inode, error: str | None) -> StoredFile:
        assert inode.path is not None
        row = self.workspace.files.get(inode.path)
        if row is None:
            mode = self.view.file_mode if inode.mode is None or error is not None else inode.mode
            row = self.workspace.files.add(inode.path, "file", mode=mode, mtime_ns=time.time_ns())
        return row

    # --- taking away --------------------------------------------------------------------------

    def drop_path(self, path: bytes) -> None:
        """Remove what a file's path names, in every layer. Call inside a transaction."""
        self.drop_row(path)
        key = self.view.key_of(path)
        if key is not None and self.workspace.staged.get(key) is not None:
            self.workspace.stage_delete(key)

    def drop_row(self, path: bytes) -> None:
        """Remove a stored file; who has it open keeps its contents. Call inside a transaction."""
        row = self.workspace.files.get(path)
        if row is None:
            return
        inode = self.view.inodes.get(path)
        held = inode is not None and inode.opens > 0 and row.kind == "file"
        self.workspace.files.remove(row, keep_contents=held or row.size > STEP_BYTES)
        if inode is not None and held:
            inode.orphans += (row,)
        elif row.size > STEP_BYTES:
            self.unwanted.append(row.ident)

    def forget_orphans(self, inode: Inode) -> None:
        """Nobody reads any more what lost its name while it was open."""
        orphans, inode.orphans = inode.orphans, ()
        if orphans and not self.workspace.read_only:
            with self.workspace.transaction():
                for row in orphans:
                    if row.size > STEP_BYTES:
                        self.unwanted.append(row.ident)
                    else:
                        self.workspace.files.forget(row.ident)

    def forgetting(self) -> Iterator[None]:
        """Drop the contents of large files that nobody reads any more, in short steps."""
        while self.unwanted:
            ident = self.unwanted[-1]
            with self.workspace.transaction():
                last = self.workspace.files.forget_part(ident)
            if last and ident in self.unwanted:
                self.unwanted.remove(ident)
            yield
