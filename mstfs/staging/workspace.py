"""A root and everything staged on it: what the view shows and what a publication starts from."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeAlias

from mstfs.blocks.overlay import OverlayBlocks
from mstfs.blocks.sqlite import Database
from mstfs.codec import cid as cids
from mstfs.errors import BlockError, ReadOnly, Refused
from mstfs.repo.head import Head, read_head
from mstfs.repo.history import History
from mstfs.staging.edits import Edits
from mstfs.staging.files import Files
from mstfs.staging.tree import StagedTree
from mstfs.tree.interface import Tree
from mstfs.values.interface import Making, Values

MADE_BYTES = 4 << 20
"""Blocks of a value that is being made which are held before they are stored."""

STEP_BYTES = 1 << 19
"""What is made or compared of a large value in one step, while others wait."""

TextOf: TypeAlias = Callable[[bytes], bytes | None]
"""From a value, whose blocks can be read, to the text that is kept with the edit until it is published."""


class Workspace:
    """The head, the blocks, the staged edits, the drafts and scratch, and the history of one archive.

    Without a database it is read only, and so is a `past` one, which shows a root of the history without what
    is staged; `why_read_only` says why a tree can be read and not changed. Not safe for two threads that
    change it; planning a publication only reads, and may run beside. `born_ns` is the time of what has none.
    """

    def __init__(
        self,
        *,
        head: Head,
        blocks: OverlayBlocks,
        tree: Tree,
        values: Values,
        database: Database | None,
        read_only: bool = True,
        why_read_only: str | None = None,
        past: bool = False,
        born_ns: int | None = None,
    ) -> None:
        self.head = head
        self.blocks = blocks
        self.tree = tree
        self.values = values
        self.database = database
        self.born_ns = time.time_ns() if born_ns is None else born_ns
        self.why_read_only = why_read_only
        self.read_only = read_only or past or database is None or why_read_only is not None
        # While a publication is planned, the head that an edit is compared with is about to change: what
        # looks like no edit may be one. Then every put and every tombstone is staged as it is.
        self.planning = False
        # Much may have been stored since the last sync, which a publication need not wait for in one piece.
        self.stored_ahead = False
        self.history = History(database)
        self.edits = Edits(None if past else database)
        self.files = Files(None if past else database)

    @property
    def staged(self) -> StagedTree:
        """The tree as it will be once everything staged is published."""
        return StagedTree(self.tree, self.head.data, self.edits)

    def read_head(self, root: bytes) -> Head:
        """What another root of this archive is. Refused where it is another kind of tree than the head is.

        Raises what `mstfs.repo.head.read_head` raises.
        """
        told = self.head.tree
        head = read_head(self.blocks, root, None if told.name == "mst" else told)
        if head.tree.name != told.name:
            name = cids.to_text(root)
            raise Refused(f"root {name} is a {head.tree.title}, and this archive is a {told.title}")
        return head

    def at(self, data: bytes) -> StagedTree:
        """The tree of an older root, as it was published."""
        return StagedTree(self.tree, data, None)

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """All or nothing, in the tables and in their mirrors. `durable` returns only once it is on disk."""
        if self.read_only or self.database is None:
            raise ReadOnly("this archive is open for reading only")
        try:
            with self.database.transaction(durable=durable):
                yield
        except BaseException:
            self.edits.reload()
            self.files.reload()
            raise

    def sync(self) -> None:
        """Return once everything staged so far survives a power loss."""
        if self.database is not None and not self.read_only:
            self.database.sync()

    @property
    def crowded(self) -> bool:
        """Whether who writes much does better to wait a little for the disk."""
        return self.database is not None and self.database.crowded

    def stage_value(
        self, key: bytes, making: Making, *, text_of: TextOf | None = None, mtime_ns: int | None = None
    ) -> bytes:
        """Make a value, stage a put of it and return it. Call inside a transaction."""
        for made, value in _in_parts(making, MADE_BYTES):
            if value is None:
                self.blocks.put_many(made)
        assert value is not None
        only = made[0][1] if len(made) == 1 and made[0][0] == value else None
        if only is None and self.is_edit(key, value):
            self.blocks.put_many(made)
        self.stage_cid(key, value, block=only, text_of=text_of, mtime_ns=mtime_ns)
        return value

    def store_ahead(self, making: Making) -> Generator[None, None, bytes]:
        """Make a large value and store its blocks, in transactions of their own; returns the value.

        Each step is a short one, so that others can be answered in between. Until an edit names the value its
        blocks are blocks like any others, and nothing is lost with them.
        """
        for part, value in _in_parts(making, STEP_BYTES):
            with self.transaction():
                self.blocks.put_many(part)
            self.stored_ahead = True
            if value is None:
                yield
        assert value is not None
        return value

    def stage_values(self, makings: Iterable[tuple[bytes, Making]]) -> None:
        """The same for many keys, quicker than one by one. Where a key comes twice, the last one counts."""
        batch: dict[bytes, tuple[bytes, list[tuple[bytes, bytes]]]] = {}
        size = 0
        for key, making in makings:
            made: list[tuple[bytes, bytes]] = []
            while True:
                try:
                    cid, block = next(making)
                except StopIteration as end:
                    batch[key] = end.value, made
                    break
                if size > MADE_BYTES:
                    self._stage_batch(batch)
                    self.blocks.put_many(made)
                    made, size = [], 0
                    batch.clear()
                made.append((cid, block))
                size += len(block)
        self._stage_batch(batch)

    def _stage_batch(self, batch: dict[bytes, tuple[bytes, list[tuple[bytes, bytes]]]]) -> None:
        puts: dict[bytes, bytes] = {}
        blocks: list[tuple[bytes, bytes]] = []
        before = self.tree.get_many(self.head.data, list(batch))
        for (key, (cid, made)), old in zip(batch.items(), before, strict=True):
            if not made or (old == cid and not self.planning):
                self.stage_cid(key, cid)
            else:
                puts[key] = cid
                blocks += made
        self.blocks.put_many(blocks)
        self.edits.stage_many(puts, time.time_ns())

    def is_edit(self, key: bytes, cid: bytes | None) -> bool:
        """Whether a put, or a tombstone where `cid` is None, changes what is published."""
        return self.planning or self.tree.get(self.head.data, key) != cid

    def stage_cid(
        self,
        key: bytes,
        cid: bytes,
        *,
        block: bytes | None = None,
        text_of: TextOf | None = None,
        mtime_ns: int | None = None,
    ) -> None:
        """Stage a put of a CID whose block is given, or held already. Call inside a transaction."""
        if not self.is_edit(key, cid):
            self.edits.discard(key)
            return
        if block is not None:
            self.blocks.put(cid, block)
        elif not self.blocks.has(cid):
            # It stands inside a node, on which the edit must not depend; or it is missing, and stays so.
            with suppress(BlockError):
                self.blocks.put(cid, self.values.stored(cid))
        text = text_of(cid) if text_of is not None else None
        self.edits.stage(key, cid, time.time_ns() if mtime_ns is None else mtime_ns, text)

    def stage_delete(self, key: bytes) -> None:
        """Stage a tombstone, or forget a key that was never published. Call inside a transaction."""
        if self.is_edit(key, None):
            self.edits.stage(key, None, time.time_ns())
        else:
            self.edits.discard(key)


def _in_parts(making: Making, most: int) -> Iterator[tuple[list[tuple[bytes, bytes]], bytes | None]]:
    """The blocks of a value in parts of about `most` bytes; the last one may be empty, and has the value."""
    part: list[tuple[bytes, bytes]] = []
    size = 0
    while True:
        try:
            cid, block = next(making)
        except StopIteration as end:
            yield part, end.value
            return
        if size >= most:
            yield part, None
            part, size = [], 0
        part.append((cid, block))
        size += len(block)
