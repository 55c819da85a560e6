"""A CARv1 whose root is known last (ipld.io/specs/transport/car/carv1)."""

from typing import BinaryIO

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, varint
from mstfs.codec.cid import Link
from mstfs.errors import LimitExceeded
from mstfs.limits import BLOCK_BYTES

_BUFFER = 1 << 18

REMEMBERED = 1 << 20
"""Blocks that are surely not written a second time. Behind these one may come twice, which readers take."""


class CarOutput:
    """Writes blocks to an open, seekable file as they come.

    `like` is any CID as long as that of the root will be. What is written before `finish` is no CAR that
    anybody would believe: its root is `like`.
    """

    def __init__(self, file: BinaryIO, like: bytes) -> None:
        self.blocks = 0
        self.size = 0
        self._file = file
        self._like = like
        self._seen: set[bytes] = set()
        header = _header(like)
        self._pending = [header]
        self._waiting = len(header)

    def put(self, cid: bytes, block: bytes) -> None:
        """Write a block, unless it was written."""
        if cid in self._seen:
            return
        if len(self._seen) < REMEMBERED:
            self._seen.add(cid)
        size = len(cid) + len(block)
        if len(block) > BLOCK_BYTES:
            raise LimitExceeded(f"a block of {len(block)} bytes is over the limit of {BLOCK_BYTES} bytes")
        head = varint.encode(size)
        self._pending += (head, cid, block)
        self._waiting += len(head) + size
        self.blocks += 1
        if self._waiting >= _BUFFER:
            self._flush()

    def finish(self, root: bytes) -> int:
        """Write the root into the head; the bytes of the file."""
        if len(root) != len(self._like):
            raise AssertionError("a root of another length than was said")
        self._flush()
        self._file.seek(0)
        self._file.write(_header(root))
        self._file.flush()
        return self.size

    def _flush(self) -> None:
        self._file.write(b"".join(self._pending))
        self.size += self._waiting
        self._pending.clear()
        self._waiting = 0


def _header(root: bytes) -> bytes:
    header = dag_cbor.encode({"roots": [Link(root)], "version": 1})
    return varint.encode(len(header)) + header


def stand_in(codec: int, hash_code: int) -> bytes:
    """A CID as long as every CID with this codec and hash function."""
    return cids.for_block(b"", codec, hash_code)
