"""One pass over a CAR that hashes every block, and remembers where each is and what it is worth.

A verifier must not trust an index that was made earlier, must see duplicates and blocks that nothing links
to, and must not keep a million CIDs in memory. So it surveys the file itself: some 30 bytes a block.

A block is looked up by a keyed hash of its CID. The key is random, so nobody can make two CIDs meet, and the
CIDs themselves need not be kept. Blocks are matched by multihash, as everywhere; `stored_cid` tells the CID
that stands in the file.
"""

import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator

from mstfs.blocks.car import CarFile
from mstfs.blocks.car_scan import Problem
from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.codec import varint
from mstfs.errors import CidError, CorruptBlock, MissingBlock

BAD = 1
"""The bytes do not match the CID."""
UNPROVEN = 2
"""The CID proves nothing: an unknown hash function, or a short digest."""
LINKED = 4
"""Someone asked for the block, or marked it."""
COPY = 8
"""The same CID stands elsewhere in the file too, and that copy counts."""
PLAIN = 16
"""The caller's `look` found nothing special about the block."""
TOLD = 32
"""For the caller: this block's defects were reported already."""
RESPELLED = 64
"""A dag-cbor sha2-256 CID with the same multihash asked for it, and is not the one in the file."""

_WINDOW = 1 << 20
_BUCKETS = 256
_COMMON = b"\x01\x71\x12\x20"
_ODD = b"\0multihash of an uncommon CID"  # no CID starts like this


class CarSurvey(BlockReader):
    """The blocks of one CAR by ordinal (their place in the file, from 0). Iterate over `scan` first."""

    def __init__(self, car: CarFile) -> None:
        self.flags = bytearray()
        self.torn: str | None = None
        """Why the file ends early, as the scan found it."""
        self.padding = 0
        """NUL bytes at the end."""
        self.end = 0
        """Where the scan ended: behind sections and padding, or where the file is torn."""
        self.problems: tuple[Problem, ...] = ()
        """What the scan had to skip, the first few."""
        self._car = car
        self._offsets = array("Q")
        self._heads = array("B")  # bytes from a section's offset to its data: a varint and a CID
        self._lengths = array("I")
        self._salt = os.urandom(16)
        self._hashes = [array("q") for _ in range(_BUCKETS)]
        self._ordinals = [array("Q") for _ in range(_BUCKETS)]

    def __len__(self) -> int:
        return len(self.flags)

    def scan(self, look: Callable[[bytes], bool]) -> Iterator[int]:
        """Read and hash every block; `look(data)` says whether a sound block is plain.

        Yields the number of blocks done, every now and then.

        CarError if the file cannot be read.
        """
        car, flags, salt = self._car, self.flags, self._salt
        window, base = b"", 0
        # Not `car.sections()`: what an index remembers of torn ends may come from an older state of the file.
        scan = car.scan()
        for offset, cid, data_offset, length in scan.sections():
            start = data_offset - base
            if start < 0 or start + length > len(window):
                base, start = data_offset, 0
                window = car.read_raw(base, max(length, min(_WINDOW, car.size - base)))
            data = window[start : start + length]
            try:
                flag = (PLAIN if look(data) else 0) if cids.matches(cid, data) else BAD
            except CidError:
                flag = UNPROVEN
            ordinal = len(flags)
            flags.append(flag)
            self._offsets.append(offset)
            self._heads.append(data_offset - offset)
            self._lengths.append(length)
            mark = hash(salt + cid)
            self._hashes[mark & 255].append(mark)
            self._ordinals[mark & 255].append(ordinal)
            if cid[:4] != _COMMON:
                self._register_odd(cid, ordinal)
            if not ordinal & 1023:
                yield ordinal
        self.torn, self.padding, self.problems = scan.torn, scan.padding, tuple(scan.problems)
        self.end = scan.end
        self._settle()
        yield len(flags)

    def _register_odd(self, cid: bytes, ordinal: int) -> None:
        mark = hash(self._salt + _ODD + cids.multihash_of(cid))
        self._hashes[mark & 255].append(mark)
        self._ordinals[mark & 255].append(ordinal)

    def _settle(self) -> None:
        """Sort each bucket; of several copies of one block the first sound one counts."""
        flags = self.flags
        for bucket in range(_BUCKETS):
            rows = sorted(zip(self._hashes[bucket], self._ordinals[bucket], strict=True))
            hashes, ordinals = array("q"), array("Q")
            for mark, ordinal in rows:
                if not hashes or hashes[-1] != mark:
                    hashes.append(mark)
                    ordinals.append(ordinal)
                elif flags[ordinals[-1]] & (BAD | UNPROVEN) and not flags[ordinal] & (BAD | UNPROVEN):
                    flags[ordinals[-1]] |= COPY
                    ordinals[-1] = ordinal
                elif ordinals[-1] != ordinal:
                    flags[ordinal] |= COPY
            self._hashes[bucket], self._ordinals[bucket] = hashes, ordinals

    # --- look-up ------------------------------------------------------------------------------

    def find(self, cid: bytes) -> int:
        """The ordinal of the block that stands under exactly this CID, or -1."""
        mark = hash(self._salt + cid)
        hashes = self._hashes[mark & 255]
        at = bisect_left(hashes, mark)
        if at < len(hashes) and hashes[at] == mark:
            return self._ordinals[mark & 255][at]
        return -1

    def match(self, cid: bytes) -> int:
        """The ordinal of a block with the multihash of this CID, or -1. CidError if the CID is malformed."""
        ordinal = self.find(cid)
        if ordinal < 0:
            multihash = cids.multihash_of(cid)
            ordinal = self.find(b"\x01\x71" + multihash)
            if ordinal < 0:
                ordinal = self.find(_ODD + multihash)
            if ordinal >= 0 and cid[:4] == _COMMON:
                self.flags[ordinal] |= RESPELLED
        return ordinal

    def has(self, cid: bytes) -> bool:
        return self.match(cid) >= 0 or cids.identity_data(cid) is not None

    def length(self, cid: bytes) -> int:
        ordinal = self.match(cid)
        return len(self.get(cid)) if ordinal < 0 else self._lengths[ordinal]

    def get(self, cid: bytes) -> bytes:
        """The bytes of a block, which is marked as linked."""
        ordinal = self.match(cid)
        if ordinal < 0:
            data = cids.identity_data(cid)
            if data is None:
                raise MissingBlock(cid)
            return data
        flags = self.flags[ordinal]
        self.flags[ordinal] = flags | LINKED
        if flags & (BAD | UNPROVEN):
            raise CorruptBlock(cid, self.flaw(ordinal))
        return self.data(ordinal)

    @property
    def header(self) -> bytes:
        """The CBOR of the CARv1 header."""
        return self._car.header

    # --- by ordinal ---------------------------------------------------------------------------

    def offset(self, ordinal: int) -> int:
        """Where in the file the section starts, in bytes."""
        return self._offsets[ordinal]

    def data(self, ordinal: int) -> bytes:
        """The bytes of a block as they stand in the file, matching or not."""
        return self._car.read_raw(self._offsets[ordinal] + self._heads[ordinal], self._lengths[ordinal])

    def stored_cid(self, ordinal: int) -> bytes:
        """The CID that stands in the file."""
        head = self._car.read_raw(self._offsets[ordinal], self._heads[ordinal])
        return head[varint.decode(head, 0)[1] :]

    def flaw(self, ordinal: int) -> str:
        """Why the block cannot be trusted, as a sentence; "" if it can."""
        flags = self.flags[ordinal]
        if flags & UNPROVEN:
            try:
                cids.matches(self.stored_cid(ordinal), b"")
            except CidError as error:
                return str(error)
        return f"the {self._lengths[ordinal]} bytes found do not match the CID" if flags & BAD else ""

    def count(self, with_flags: int, without: int = 0) -> int:
        """How many blocks have all of some flags and none of others."""
        values = [value for value in range(128) if value & with_flags == with_flags and not value & without]
        return sum(self.flags.count(value) for value in values)
