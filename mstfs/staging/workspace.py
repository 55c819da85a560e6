"""A root and everything staged on it: what the view shows and what a publication starts from."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from mstfs.blocks.overlay import OverlayBlocks
from mstfs.blocks.sqlite import Database
from mstfs.codec import cid as cids
from mstfs.errors import ReadOnly
from mstfs.repo.head import Head
from mstfs.repo.history import History
from mstfs.staging.edits import Edits
from mstfs.staging.files import Files
from mstfs.staging.tree import StagedTree
from mstfs.tree.interface import Tree


class Workspace:
    """The head, the blocks, the staged edits, the drafts and scratch, and the history of one archive.

    Without a database it is read only, and so is a `past` one, which shows a root of the history without
    what is staged. Not safe for two threads that change it; planning a
    publication only reads, and may run beside.
    """

    def __init__(
        self,
        *,
        head: Head,
        blocks: OverlayBlocks,
        tree: Tree,
        database: Database | None,
        read_only: bool = True,
        past: bool = False,
    ) -> None:
        self.head = head
        self.blocks = blocks
        self.tree = tree
        self.database = database
        self.read_only = read_only or past or database is None
        # While a publication is planned, the head that an edit is compared with is about to change: what
        # looks like no edit may be one. Then every put and every tombstone is staged as it is.
        self.planning = False
        self.history = History(database)
        self.edits = Edits(None if past else database)
        self.files = Files(None if past else database)

    @property
    def staged(self) -> StagedTree:
        """The tree as it will be once everything staged is published."""
        return StagedTree(self.tree, self.head.data, self.edits)

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

    def stage_record(
        self, key: bytes, block: bytes, *, text: bytes | None = None, mtime_ns: int | None = None
    ) -> bytes:
        """Stage a put of a record's block and return its CID; putting what is published is no edit."""
        cid = cids.for_block(block)
        with self.transaction():
            self.stage_cid(key, cid, block=block, text=text, mtime_ns=mtime_ns)
        return cid

    def stage_cid(
        self,
        key: bytes,
        cid: bytes,
        *,
        block: bytes | None = None,
        text: bytes | None = None,
        mtime_ns: int | None = None,
    ) -> None:
        """Stage a put of a CID whose block is given, or held already. Call inside a transaction."""
        if not self.planning and self.tree.get(self.head.data, key) == cid:
            self.edits.discard(key)
            return
        if block is not None:
            self.blocks.put(cid, block)
        self.edits.stage(key, cid, time.time_ns() if mtime_ns is None else mtime_ns, text)

    def stage_delete(self, key: bytes) -> None:
        """Stage a tombstone, or forget a key that was never published. Call inside a transaction."""
        if not self.planning and self.tree.get(self.head.data, key) is None:
            self.edits.discard(key)
        else:
            self.edits.stage(key, None, time.time_ns())
