"""One pass over the sections of a CAR, in file order, without hashing (CARv1, ipld.io/specs/transport/car).

The file is read with `pread` in windows: a file that shrinks meanwhile gives an error, never a
signal, and memory stays constant. Only heads are looked at, so big blocks are jumped over.

Section by section, the rules for damaged files: a section whose length is sound but whose CID is
not is skipped; a length that cannot be is where the file is torn, and the pass ends; NUL bytes are
sections of length zero, which some writers leave behind as padding.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from mstfs.blocks.car_format import Frame, read_at
from mstfs.codec import cid as cids
from mstfs.codec import varint
from mstfs.errors import CidError, VarintError
from mstfs.limits import BLOCK_BYTES, CID_BYTES, VARINT_BYTES

_SLACK = VARINT_BYTES + CID_BYTES
_WINDOW_MIN = 1 << 12
_WINDOW_MAX = 1 << 20
_PROBLEMS_MAX = 16
_NULS = re.compile(rb"\x00+")

ROW = struct.Struct(">32sQII")
"""An index row, big endian so that rows sort as bytes: key, offset of the CID, `meta`, section length."""
_METAS = {head: head[2] << 8 | 36 for head in cids.USUAL}
"""`meta` of the CIDs that start so."""


class Section(NamedTuple):
    """One section: `offset` is that of its varint, the block is `length` bytes from `data_offset`."""

    offset: int
    cid: bytes
    data_offset: int
    length: int


class Problem(NamedTuple):
    """Something wrong in the frame of a CAR, at an offset in the file."""

    offset: int
    reason: str


def row_key(multihash: bytes) -> tuple[int, bytes]:
    """How the index files a multihash: 24 bits that stand for the hash function, and 32 bytes.

    A digest of 32 bytes is its own key; any other multihash is hashed into one, and the code marked.
    """
    code, at = varint.decode(multihash, 0)
    if len(multihash) - at == 33:
        return min(code, 0x7FFFFF), multihash[at + 1 :]
    return 0x800000 | min(code, 0x7FFFFF), cids.for_block(multihash)[4:]


class Scan:
    """A pass over the sections of one CAR. Run it once, by `sections` or `rows`; then the rest is known."""

    def __init__(self, fd: int, frame: Frame) -> None:
        self.blocks = 0
        """Whole sections with a sound CID."""
        self.padding = 0
        """NUL bytes between the last section and the end."""
        self.torn: str | None = frame.torn
        """Why the pass ended before the end of the data, with the offset."""
        self.problems: list[Problem] = []
        """What was skipped; at most the first sixteen."""
        self.end = frame.end
        """Where the data ends in the file."""
        self._fd = fd
        self._next = frame.first
        self._nul_start = self._nul_end = -1

    def sections(self) -> Iterator[Section]:
        """Every whole section. CarError if the file cannot be read."""
        common = cids.USUAL
        for base, window, limit in self._windows():
            at = 0
            fast_limit = min(limit, len(window) - _SLACK)
            while at < limit:
                if at < fast_limit:
                    # The usual shape: a length of two bytes, and a CID of 36.
                    length, more = window[at], window[at + 1]
                    start = at + 2
                    if length >= 0x80 and 0 < more < 0x80 and window[start : start + 4] in common:
                        following = start + length - 0x80 + (more << 7)
                        if base + following <= self.end:
                            data = start + 36
                            self.blocks += 1
                            yield Section(base + at, window[start:data], base + data, following - data)
                            at = following
                            continue
                at, section = self._careful(window, at, base)
                if section is not None:
                    yield section
            self._next = base + at
        self._finish()

    def rows(self) -> Iterator[list[bytes]]:
        """Index rows (`ROW`) of all sections but those with identity CIDs, unsorted, in lists."""
        for base, window, limit in self._windows():
            yield self._window_rows(base, window, limit)
        self._finish()

    def _windows(self) -> Iterator[tuple[int, bytes, int]]:
        # Windows that start at a section, whose offset `self._next` the consumer moves on.
        # In each, a section that starts before `limit` has its whole head inside.
        size = _WINDOW_MIN * 16
        while self._next < self.end:
            base = self._next
            wanted = min(size, self.end - base)
            window = read_at(self._fd, wanted, base)
            if len(window) < wanted:
                self._tear(base + len(window), "the file was cut while it was read")
                wanted = len(window)
            last = base + wanted >= self.end
            yield base, window, wanted if last else wanted - _SLACK
            # Blocks larger than the window are jumped over: then reading less is enough.
            jumped = self._next > base + wanted
            size = max(_WINDOW_MIN, size // 4) if jumped else min(_WINDOW_MAX, size * 4)

    def _window_rows(self, base: int, window: bytes, limit: int) -> list[bytes]:
        # The hot loop: some 300 ns a section. Whatever is not of the common shape, or near the end
        # of the window, goes to `_careful`.
        rows: list[bytes] = []
        digests: list[bytes] = []
        offsets: list[int] = []
        metas: list[int] = []
        lengths: list[int] = []
        add_digest, add_offset, add_length = digests.append, offsets.append, lengths.append
        add_meta, meta_of = metas.append, _METAS.get
        fast_limit = min(limit, len(window) - _SLACK)
        at = 0
        while at < limit:
            while at < fast_limit:
                length = window[at]
                if length >= 0x80:
                    more = window[at + 1]
                    if 0 < more < 0x80:
                        start = at + 2
                        length += (more << 7) - 0x80
                    else:
                        last = window[at + 2]
                        if more == 0 or not 0 < last < 0x80:
                            break
                        start = at + 3
                        length += (last << 14) + (more << 7) - 0x4080
                elif length >= 36:
                    start = at + 1
                else:
                    break
                meta = meta_of(window[start : start + 4])
                if meta is None:
                    break
                add_meta(meta)
                add_digest(window[start + 4 : start + 36])
                add_offset(base + start)
                add_length(length)
                at = start + length
            if base + at > self.end:  # only the last one can reach too far
                digests.pop()
                metas.pop()
                length = lengths.pop()
                at = offsets.pop() - base - len(varint.encode(length))
            if at >= limit:
                break
            at, section = self._careful(window, at, base)
            if section is not None:
                row = _row_of(section)
                if row is not None:
                    rows.append(row)
        self._next = base + at
        self.blocks += len(digests)
        rows += map(ROW.pack, digests, offsets, metas, lengths)
        return rows

    def _careful(self, window: bytes, at: int, base: int) -> tuple[int, Section | None]:
        # One section, with every check. Gives where the next one starts, relative to the window.
        offset = base + at
        if window[at] == 0:
            run = _NULS.match(window, at)
            assert run is not None
            if offset != self._nul_end:
                self._note_nuls()
                self._nul_start = offset
            self._nul_end = base + run.end()
            return run.end(), None
        try:
            length, start = varint.decode(window, at)
        except VarintError:
            self._tear(offset, "the length of a section is damaged or cut off")
            return len(window), None
        if length > BLOCK_BYTES + CID_BYTES:
            self._tear(offset, f"a section announces {length} bytes")
            return len(window), None
        left = self.end - base - start
        if length > left:
            self._tear(offset, f"a section announces {length} bytes, {left} are left")
            return len(window), None
        following = start + length
        try:
            end = cids.split(window[start : min(following, start + CID_BYTES)], 0)
        except CidError as error:
            self._note(offset, f"a section was skipped, its CID is malformed: {error}")
            return following, None
        self.blocks += 1
        cid = window[start : start + end]
        return following, Section(offset, cid, base + start + end, length - end)

    def _tear(self, offset: int, reason: str) -> None:
        if self.torn is None:
            self.torn = f"cut off or damaged at offset {offset}: {reason}"
        self.end = offset

    def _note(self, offset: int, reason: str) -> None:
        if len(self.problems) < _PROBLEMS_MAX:
            self.problems.append(Problem(offset, reason))

    def _note_nuls(self) -> None:
        if self._nul_start >= 0:
            count = self._nul_end - self._nul_start
            self._note(self._nul_start, f"{count} NUL bytes (sections of length zero) between sections")

    def _finish(self) -> None:
        if self._nul_end == self.end:
            self.padding = self._nul_end - self._nul_start
        else:
            self._note_nuls()


def _row_of(section: Section) -> bytes | None:
    multihash = cids.multihash_of(section.cid)
    if multihash[0] == cids.IDENTITY:
        return None
    code, key = row_key(multihash)
    size = len(section.cid)
    return ROW.pack(key, section.data_offset - size, code << 8 | size, section.length + size)


def section_at(fd: int, frame: Frame, offset: int) -> Section | None:
    """The section whose varint is at `offset`, or None if there is none: for offsets that are not trusted."""
    if not frame.first <= offset < frame.end:
        return None
    head = read_at(fd, min(_SLACK, frame.end - offset), offset)
    try:
        length, start = varint.decode(head, 0)
        end = cids.split(head[: start + length], start)
    except (VarintError, CidError):
        return None
    if length > BLOCK_BYTES + CID_BYTES or offset + start + length > frame.end:
        return None
    return Section(offset, head[start:end], offset + end, start + length - end)
