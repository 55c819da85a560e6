"""The sidecar index of a CAR: a sorted table that is mapped, not loaded.

A file of native 64-bit words behind a header of 4096 bytes. A row is six words: four of key (see
`car_scan.row_key`), the offset of the section's CID, and hash code (24 bits), CID length (8) and
section length (32). Rows are sorted by key, then offset, so that duplicates stand in file order.
The columns are strided views of the mapping, and `bisect` walks them in C: opening costs nothing
that grows with the file, a look-up a microsecond. An attacker can make many keys agree in their
first word; then the search goes on in the next column, so it stays logarithmic.

The header says which file the index belongs to (`Stamp`) and holds a hash of the rows. That hash is
checked only when something looks wrong, since it reads the whole index.
"""

import heapq
import io
import mmap
import os
import stat
import struct
import sys
import tempfile
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import orjson
from blake3 import blake3

from mstfs.blocks.car_format import Frame, read_at
from mstfs.blocks.car_scan import ROW, Problem, Scan, row_key
from mstfs.blocks.car_writer import replacing
from mstfs.blocks.interface import ReadSmall, read_nothing
from mstfs.codec import cid as cids

try:
    from mstfs.blocks import fast_index
except ImportError:  # There was no compiler: everything is done here.
    fast_index = None  # type: ignore[assignment]

SUFFIX = ".mstfs-index"
_MAGIC = b"mstfsix1"
_HEADER_BYTES = 4096
_ROW_WORDS = ROW.size // 8
_RUN_ROWS = 1 << 19  # rows sorted at once in memory: about 60 MB
_BATCH_ROWS = 1 << 14

SMALL_BYTES = 4096
"""Up to this size, what `fast_index.c` reads is hashed at every read."""
_EDGE = 1 << 16  # bytes at the head and the tail of the CAR that are hashed into its stamp

_key_words = struct.Struct(">4Q").unpack_from
_row_words = struct.Struct("=6Q").unpack_from


Hit: TypeAlias = tuple[int, int, int]
"""Where a copy of a block should be: its row, the offset of its bytes in the CAR, how many there are."""


class Stamp(NamedTuple):
    """What an index must agree with, to belong to a CAR."""

    size: int
    mtime_ns: int
    edges: str
    """blake3, in hex, of the first and the last 64 KiB."""


class Summary(NamedTuple):
    """What the pass over the sections found."""

    blocks: int
    rows: int
    padding: int
    torn: str | None
    problems: tuple[Problem, ...]


def stamp_of(fd: int) -> Stamp:
    """The stamp of the CAR open as `fd`. CarError if it cannot be read."""
    status = os.fstat(fd)
    edges = read_at(fd, _EDGE, 0) + read_at(fd, _EDGE, max(0, status.st_size - _EDGE))
    return Stamp(status.st_size, status.st_mtime_ns, blake3(edges).hexdigest())


class CarIndex:
    """The table in a buffer: a mapped sidecar, or plain memory."""

    def __init__(self, buffer: mmap.mmap | memoryview, summary: Summary, path: Path | None) -> None:
        self.summary = summary
        self.row_count = summary.rows
        self.path = path
        """The sidecar file, or None if the table is in memory."""
        self._buffer = buffer
        self._words = memoryview(buffer)[_HEADER_BYTES:].cast("B").cast("Q")
        self._columns = [self._words[column::_ROW_WORDS] for column in range(4)]
        self._first = self._columns[0]

    def small_reader(self, fd: int) -> ReadSmall:
        """`BlockReader.read_small` for the CAR open as `fd`."""
        if fast_index is None:
            return read_nothing
        return partial(fast_index.read, self._buffer, _HEADER_BYTES, self.row_count, fd)

    def find(self, cid: bytes) -> Hit | None:
        """The first copy of a block in the file. CidError if the CID is malformed."""
        if fast_index is not None:
            hit = fast_index.find(self._buffer, _HEADER_BYTES, self.row_count, cid)
            if hit is not NotImplemented:
                return hit
        return self._find(cid)

    def _find(self, cid: bytes) -> Hit | None:
        if len(cid) == 36 and cid[3] == 32 and cid[0] == 1 and cid[1] < 0x80 and cid[2] < 0x80:
            # Version 1, one byte of codec, one of hash function, 32 of digest: no need to ask further.
            code = cid[2]
            key: tuple[int, ...] = _key_words(cid, 4)
        else:
            code, key_bytes = row_key(cids.multihash_of(cid))
            key = _key_words(key_bytes)
        row = bisect_left(self._first, key[0])
        if row == self.row_count:
            return None
        words = _row_words(self._buffer, _HEADER_BYTES + ROW.size * row)
        if words[:4] == key and words[5] >> 40 == code:
            size = words[5] >> 32 & 0xFF
            return row, words[4] + size, (words[5] & 0xFFFFFFFF) - size
        return next(self._search(code, key), None)

    def find_all(self, cid: bytes) -> Iterator[Hit]:
        """Every copy of a block, in file order. CidError if the CID is malformed."""
        code, key = row_key(cids.multihash_of(cid))
        return self._search(code, _key_words(key))

    def _search(self, code: int, key: tuple[int, ...]) -> Iterator[Hit]:
        low, high = 0, self.row_count
        for column, word in zip(self._columns, key, strict=True):
            low = bisect_left(column, word, low, high)
            high = bisect_right(column, word, low, high)
        for row in range(low, high):
            *_, offset, meta = _row_words(self._buffer, _HEADER_BYTES + ROW.size * row)
            if meta >> 40 == code:
                size = meta >> 32 & 0xFF
                yield row, offset + size, (meta & 0xFFFFFFFF) - size

    def is_only_copy(self, row: int) -> bool:
        """Whether the first copy of a block, which stands in this row, is surely the only one."""
        return row + 1 == self.row_count or bool(self._first[row + 1] != self._first[row])

    def is_intact(self) -> bool:
        """Whether the rows still are what was written. Reads the whole index."""
        digest = blake3(self._words.cast("B")).hexdigest()
        fields = _header_fields(self._buffer)
        return fields is not None and fields["rows_hash"] == digest

    def let_go(self) -> None:
        """Hold no more of the file in memory than is looked up from now on."""
        if isinstance(self._buffer, mmap.mmap):
            self._buffer.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Release the mapping; look-ups fail afterwards."""
        for view in (*self._columns, self._words):
            view.release()
        if isinstance(self._buffer, mmap.mmap):
            self._buffer.close()
        else:
            self._buffer.release()


# --- files ------------------------------------------------------------------------------------


def load(path: Path, stamp: Stamp) -> CarIndex | None:
    """The index at `path`, or None if there is none that belongs to this CAR and can be trusted."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(fd)
        # Another user could cut the file while it is mapped, which would kill this process.
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
            return None
        if status.st_size < _HEADER_BYTES:
            return None
        mapping = mmap.mmap(fd, status.st_size, prot=mmap.PROT_READ)
    except OSError:
        return None
    finally:
        os.close(fd)
    summary = _read_header(mapping, stamp)
    if summary is None:
        mapping.close()
        return None
    return CarIndex(mapping, summary, path)


def build(fd: int, frame: Frame, stamp: Stamp, targets: Iterable[Path]) -> CarIndex:
    """Scan a CAR and write its index to the first target that takes it, else keep it in memory.

    CarError if the CAR cannot be read.
    """
    for path in targets:
        with suppress(OSError, ValueError):
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            with replacing(path, 0o600) as file:
                _write(file, fd, frame, stamp)
            index = load(path, stamp)
            if index is not None:
                return index
    memory = io.BytesIO()
    summary = _write(memory, fd, frame, stamp)
    return CarIndex(memory.getbuffer(), summary, None)


def _write(file: BinaryIO, fd: int, frame: Frame, stamp: Stamp) -> Summary:
    scan = Scan(fd, frame)
    digest = blake3()
    rows = 0
    file.write(bytes(_HEADER_BYTES))
    for batch in _sorted_batches(scan):
        words = array("Q", batch)
        if sys.byteorder == "little":
            words.byteswap()
        digest.update(memoryview(words).cast("B"))
        file.write(words)
        rows += len(batch) // ROW.size
    summary = Summary(scan.blocks, rows, scan.padding, scan.torn, tuple(scan.problems))
    file.seek(0)
    file.write(_pack_header(stamp, summary, digest.hexdigest()))
    return summary


def _sorted_batches(scan: Scan) -> Iterator[bytes]:
    # Rows in order, some thousands at a time. Beyond one run, sorted runs go to disk and are merged.
    with ExitStack() as stack:
        runs: list[BinaryIO] = []
        rows: list[bytes] = []
        for some in scan.rows():
            rows += some
            if len(rows) >= _RUN_ROWS:
                rows.sort()
                run = stack.enter_context(tempfile.TemporaryFile())
                run.write(b"".join(rows))
                runs.append(run)
                rows = []
        rows.sort()
        if not runs:
            for start in range(0, len(rows), _BATCH_ROWS):
                yield b"".join(rows[start : start + _BATCH_ROWS])
            return
        merged = heapq.merge(*map(_run_rows, runs), rows)
        while batch := b"".join(islice(merged, _BATCH_ROWS)):
            yield batch


def _run_rows(run: BinaryIO) -> Iterator[bytes]:
    run.seek(0)
    while data := run.read(ROW.size * 512):
        for start in range(0, len(data), ROW.size):
            yield data[start : start + ROW.size]


# --- the header -------------------------------------------------------------------------------


def _pack_header(stamp: Stamp, summary: Summary, rows_hash: str) -> bytes:
    problems = list(summary.problems)
    while True:
        fields = {
            "order": sys.byteorder,
            "stamp": list(stamp),
            "blocks": summary.blocks,
            "rows": summary.rows,
            "padding": summary.padding,
            "torn": summary.torn,
            "problems": [list(problem) for problem in problems],
            "rows_hash": rows_hash,
        }
        header = _MAGIC + orjson.dumps(fields)
        if len(header) <= _HEADER_BYTES - 32:
            break
        problems.pop()
    header = header.ljust(_HEADER_BYTES - 32)
    return header + blake3(header).digest()


def _header_fields(buffer: mmap.mmap | memoryview) -> Any:
    # The fields, or None if the header is damaged or not ours.
    header = bytes(buffer[:_HEADER_BYTES])
    if header[:8] != _MAGIC or blake3(header[:-32]).digest() != header[-32:]:
        return None
    try:
        return orjson.loads(header[8:-32])
    except ValueError:
        return None


def _read_header(buffer: mmap.mmap, stamp: Stamp) -> Summary | None:
    match _header_fields(buffer):
        case {
            "order": sys.byteorder,
            "stamp": list(found),
            "blocks": int(blocks),
            "rows": int(rows),
            "padding": int(padding),
            "torn": (str() | None) as torn,
            "problems": list(problems),
            "rows_hash": str(),
        } if found == list(stamp) and len(buffer) == _HEADER_BYTES + rows * ROW.size:
            try:
                listed = tuple(Problem(int(offset), str(reason)) for offset, reason in problems)
            except (TypeError, ValueError):
                return None
            return Summary(blocks, rows, padding, torn, listed)
    return None
