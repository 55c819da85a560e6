"""The index that a CARv2 may carry: IndexSorted (0x0400) and MultihashIndexSorted (0x0401).

Source: ipld.io/specs/transport/car/carv2, and the files that go-car writes: varint codec; for 0x0401
an i32 number of hash functions, and before each body a u64 code; a body is an i32 number of widths,
then for each a u32 width, a u64 length in bytes, and entries of digest + u64 offset, sorted. All
numbers are little endian; offsets count from the CARv1 payload.

It is made by whoever made the file, so it is a hint: an entry counts only if the section at its
offset carries that multihash. It is read with `pread`, some ten times a look-up; it has no lengths
and says nothing about damage, so the first miss replaces it by a sidecar.
"""

import os
from bisect import bisect_left
from typing import NamedTuple

from mstfs.blocks.car_format import Frame, read_all, read_at
from mstfs.blocks.car_index import Hit
from mstfs.blocks.car_scan import section_at
from mstfs.codec import cid as cids
from mstfs.codec import varint
from mstfs.errors import CarError, VarintError
from mstfs.limits import CID_BYTES

INDEX_SORTED = 0x0400
MULTIHASH_INDEX_SORTED = 0x0401
_TABLES_MAX = 64
_EQUAL_MAX = 8


class Table(NamedTuple):
    """Entries of one width, `base` bytes from the start of the file."""

    code: int | None
    """The hash function, or None if the table does not say."""
    width: int
    base: int
    rows: int
    first_row: int
    """Rows in the tables before this one."""


class EmbeddedIndex:
    """Look-ups in the embedded index of an open CARv2."""

    def __init__(self, fd: int, frame: Frame, tables: tuple[Table, ...]) -> None:
        self._fd = fd
        self._frame = frame
        self._tables = tables
        self.row_count = sum(table.rows for table in tables)

    @classmethod
    def open(cls, fd: int, frame: Frame) -> "EmbeddedIndex | None":
        """The embedded index, or None if there is none, or its structure is unknown or unsound."""
        if frame.index_offset < frame.end:
            return None
        try:
            tables = read_tables(fd, frame.index_offset, os.fstat(fd).st_size)
        except (CarError, VarintError, OSError):
            return None
        return cls(fd, frame, tables) if any(table.rows for table in tables) else None

    def find(self, cid: bytes) -> Hit | None:
        """Where the block is, if the section there confirms it. CidError if the CID is malformed."""
        multihash = cids.multihash_of(cid)
        code, digest = cids.hash_of(cid)
        for table in self._tables:
            if table.code in (None, code) and table.width == len(digest) + 8:
                try:
                    hit = self._find_in(table, multihash, digest)
                except (CarError, OSError):
                    return None
                if hit is not None:
                    return hit
        return None

    def _find_in(self, table: Table, multihash: bytes, digest: bytes) -> Hit | None:
        def digest_of(row: int) -> bytes:
            return read_all(self._fd, table.width - 8, table.base + row * table.width)

        first = bisect_left(range(table.rows), digest, key=digest_of)
        for row in range(first, min(first + _EQUAL_MAX, table.rows)):
            entry = read_all(self._fd, table.width, table.base + row * table.width)
            if entry[:-8] != digest:
                break
            offset = self._frame.payload + int.from_bytes(entry[-8:], "little")
            section = section_at(self._fd, self._frame, offset)
            if section is not None and cids.multihash_of(section.cid) == multihash:
                return table.first_row + row, section.data_offset, section.length
        return None

    def is_only_copy(self, row: int) -> bool:
        """Never sure: this index tells what its maker wanted to tell."""
        return False

    def close(self) -> None:
        """Nothing is held open: the file belongs to the CAR."""


def read_tables(fd: int, offset: int, size: int) -> tuple[Table, ...]:
    """The tables of the index at `offset` of a file of `size` bytes, in the order of the file.

    CarError or VarintError if the codec is unknown or the lengths do not add up.
    """
    codec, at = varint.decode(read_at(fd, 9, offset), 0)
    at += offset
    tables: list[Table] = []
    if codec == INDEX_SORTED:
        _read_body(fd, at, size, None, tables)
    elif codec == MULTIHASH_INDEX_SORTED:
        codes, at = _number(fd, at, 4)
        for _ in range(min(codes, _TABLES_MAX + 1)):
            code, at = _number(fd, at, 8)
            at = _read_body(fd, at, size, code, tables)
    else:
        raise CarError(f"the index codec {codec:#x} is unknown", offset)
    return tuple(tables)


def _read_body(fd: int, at: int, size: int, code: int | None, tables: list[Table]) -> int:
    widths, at = _number(fd, at, 4)
    for _ in range(widths):
        width, at = _number(fd, at, 4)
        length, at = _number(fd, at, 8)
        # Widths of more than any CID, lengths behind the end: not an index, or not a sound one.
        if not 8 < width <= CID_BYTES + 8 or length % width or at + length > size:
            raise CarError("the embedded index does not add up", at)
        if len(tables) == _TABLES_MAX:
            raise CarError(f"the embedded index has more than {_TABLES_MAX} tables", at)
        first_row = tables[-1].first_row + tables[-1].rows if tables else 0
        tables.append(Table(code, width, at, length // width, first_row))
        at += length
    return at


def _number(fd: int, at: int, length: int) -> tuple[int, int]:
    data = read_at(fd, length, at)
    if len(data) < length:
        raise CarError("the embedded index is cut off", at)
    return int.from_bytes(data, "little"), at + length
