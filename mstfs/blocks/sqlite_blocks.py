"""The block store in the SQLite file of an overlay."""

from collections.abc import Iterable, Iterator
from functools import partial

from mstfs.blocks.interface import BlockStore, check_put, verified
from mstfs.blocks.sqlite import Database, Row
from mstfs.codec import cid as cids
from mstfs.errors import MissingBlock, MstfsError, UnreachableBlock

HELD_ROWS_MAX = 200_000
"""So many multihashes are kept in memory (about 25 MB), to answer for blocks that are not here."""

VERIFIED_ROWS_MAX = 1 << 27
"""Rows whose check is remembered, at one bit each; a row beyond is checked at every read."""

# The first byte of an identity multihash: this is on the way of every read of the CAR below.
_IDENTITY = bytes((cids.IDENTITY,))


class SqliteBlocks(BlockStore):
    """The blocks in a Database. The only one that may change the table `blocks`.

    Puts and deletes join the transaction that the calling thread has open. Digests are checked when a
    block is put, and once per process when it is read.
    """

    # Large values stand in overflow pages behind the row, which a WITHOUT ROWID table would drag
    # through its inner nodes; the row number also makes one bit enough to remember a checked block.
    # `prefix` and `multihash` together are the CID under which the block was first put.
    SCHEMA = """
        CREATE TABLE IF NOT EXISTS blocks (
            id INTEGER PRIMARY KEY,
            multihash BLOB NOT NULL UNIQUE,
            prefix BLOB NOT NULL,
            data BLOB NOT NULL
        ) STRICT;
    """

    # Other bytes under the same multihash can only be damage, as both digests would have matched.
    _INSERT = (
        "INSERT INTO blocks (multihash, prefix, data) VALUES (?, ?, ?) "
        "ON CONFLICT (multihash) DO UPDATE SET data = excluded.data WHERE blocks.data <> excluded.data"
    )

    def __init__(self, database: Database) -> None:
        self._database = database
        self._verified = bytearray()
        # The multihashes of all rows, and perhaps of a few rows more, while there are not too many:
        # it spares a query for each block that lies in the CAR below. Another process may add rows to
        # a database that is only read here, so there it would lie.
        self._held: set[bytes] | None = None
        if not database.read_only:
            database.claim("blocks")
            rows = database.execute(f"SELECT multihash FROM blocks LIMIT {HELD_ROWS_MAX + 1}")
            if len(rows) <= HELD_ROWS_MAX:
                self._held = {multihash for (multihash,) in rows}

    def may_hold(self, cid: bytes) -> bool:
        held = self._held
        if held is None:
            return True
        multihash = cids.multihash_of(cid)
        return multihash in held or multihash[:1] == _IDENTITY

    def get(self, cid: bytes) -> bytes:
        multihash = cids.multihash_of(cid)
        held = self._held
        if held is None or multihash in held:
            row = self._query(cid, "SELECT id, data FROM blocks WHERE multihash = ?", multihash)
            if row is not None:
                return self._checked(cid, row[0], row[1])
        data = cids.identity_data(cid)
        if data is None:
            raise MissingBlock(cid)
        return data

    def has(self, cid: bytes) -> bool:
        multihash = cids.multihash_of(cid)
        held = self._held
        if (held is None or multihash in held) and self._query(
            cid, "SELECT 1 FROM blocks WHERE multihash = ?", multihash
        ):
            return True
        return cids.identity_data(cid) is not None

    def length(self, cid: bytes) -> int:
        multihash = cids.multihash_of(cid)
        held = self._held
        if held is None or multihash in held:
            # SQLite tells the length of a blob from the head of its row.
            row = self._query(cid, "SELECT length(data) FROM blocks WHERE multihash = ?", multihash)
            if row is not None:
                return int(row[0])
        data = cids.identity_data(cid)
        if data is None:
            raise MissingBlock(cid)
        return len(data)

    def put(self, cid: bytes, data: bytes) -> None:
        check_put(self, cid, data)
        if cids.identity_data(cid) is not None:
            return
        multihash = cids.multihash_of(cid)
        # Noted first: an interrupt between the two may leave a note too many, never a row unknown. One
        # lock over both, or the undoing could be hung on a transaction of another thread.
        with self._database.lock:
            self._note([multihash])
            self._database.execute(self._INSERT, (multihash, cid[: -len(multihash)], data))

    def put_many(self, blocks: Iterable[tuple[bytes, bytes]]) -> None:
        multihashes: list[bytes] = []

        def rows() -> Iterator[tuple[bytes, bytes, bytes]]:
            for cid, data in blocks:
                check_put(self, cid, data)
                if cids.identity_data(cid) is None:
                    multihash = cids.multihash_of(cid)
                    multihashes.append(multihash)
                    yield multihash, cid[: -len(multihash)], data

        with self._database.transaction():
            self._database.execute_many(self._INSERT, rows())
            self._note(multihashes)

    def delete(self, cid: bytes) -> None:
        # The multihash stays in `_held`: a note too many costs one query, a note too few loses a block,
        # and this delete may be undone, or followed by another put.
        for (row,) in self._database.execute(
            "DELETE FROM blocks WHERE multihash = ? RETURNING id", (cids.multihash_of(cid),)
        ):
            # SQLite may give the row's number to another block.
            if 0 <= row >> 3 < len(self._verified):
                self._verified[row >> 3] &= ~(1 << (row & 7)) & 0xFF

    def cids(self) -> Iterator[bytes]:
        """The CID under which each block was first put; blocks put meanwhile may be seen or not."""
        last = -(1 << 63)
        while rows := self._database.execute(
            "SELECT id, prefix, multihash FROM blocks WHERE id > ? ORDER BY id LIMIT 1000", (last,)
        ):
            last = rows[-1][0]
            yield from [prefix + multihash for _, prefix, multihash in rows]

    def count(self) -> int:
        """The number of blocks."""
        return int(self._database.execute("SELECT count(*) FROM blocks")[0][0])

    def total_bytes(self) -> int:
        """The sum of the blocks' lengths, in bytes."""
        return int(self._database.execute("SELECT coalesce(sum(length(data)), 0) FROM blocks")[0][0])

    def _query(self, cid: bytes, sql: str, multihash: bytes) -> Row | None:
        try:
            return self._database.row(sql, (multihash,))
        except MstfsError as error:
            raise UnreachableBlock(cid, str(error)) from error

    def _checked(self, cid: bytes, row: int, data: bytes) -> bytes:
        bits = self._verified
        if 0 <= row >> 3 < len(bits) and bits[row >> 3] & (1 << (row & 7)):
            return data
        verified(cid, data)
        # A damaged database may spell any number; the bits must not fill the memory.
        if 0 <= row < VERIFIED_ROWS_MAX:
            if row >> 3 >= len(bits):
                bits.extend(bytes((row >> 3) + 1024 - len(bits)))
            bits[row >> 3] |= 1 << (row & 7)
        return data

    def _note(self, multihashes: list[bytes]) -> None:
        held = self._held
        if held is None:
            return
        added = [multihash for multihash in multihashes if multihash not in held]
        held.update(added)
        if len(held) > HELD_ROWS_MAX:
            self._held = None
        else:
            self._database.on_roll_back(partial(held.difference_update, added))
