"""What a block store promises, and the checks that every store shares.

Source: multiformats CID specification; a CID names bytes by their multihash, the codec only says
how to read them.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

from mstfs import limits
from mstfs.codec import cid as cids
from mstfs.errors import ConflictingBlock, CorruptBlock, LimitExceeded

ReadSmall: TypeAlias = Callable[[bytes], bytes | None]


def read_nothing(cid: bytes) -> None:
    """For stores without a short way to the bytes of a block."""


class BlockReader(Protocol):
    """Answers for blocks. CIDs are binary; blocks are matched by multihash."""

    read_small: ReadSmall = staticmethod(read_nothing)
    """The short way to a small block: its bytes, hashed; None if there is more to it, for `get` to tell."""

    def get(self, cid: bytes) -> bytes:
        """The bytes of a block, which match the CID.

        Raises MissingBlock (not held), CorruptBlock (held, but the bytes do not match the CID) or
        UnreachableBlock (the store could not be read); CidError if the CID itself is malformed.
        """
        ...

    def expect(self, cids: Sequence[bytes]) -> None:
        """Take note that these blocks will probably be asked for next, in this order. It never waits."""
        return

    def has(self, cid: bytes) -> bool:
        """Whether the block is held. It may still turn out to be corrupt."""
        ...

    def length(self, cid: bytes) -> int:
        """The number of bytes of a held block; it may still turn out to be corrupt.

        The block is neither read nor hashed where the store can tell without. Errors as for `get`.
        """
        ...


class BlockStore(BlockReader, Protocol):
    """A reader that also takes and drops blocks."""

    def may_hold(self, cid: bytes) -> bool:
        """False only if the store surely does not hold the block. Cheap: it never reads or waits."""
        ...

    def put(self, cid: bytes, data: bytes) -> None:
        """Keep a block. Putting a held block again does nothing, except that it mends a corrupt copy.

        Raises ConflictingBlock when the bytes do not match the CID of a block that is held,
        CorruptBlock when they do not match and none is held, LimitExceeded when they are too many,
        CidError when the CID is malformed or proves nothing, ReadOnly when the store takes no blocks.
        """
        ...

    def put_many(self, blocks: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep all of these (CID, bytes) pairs, or none if one is refused. Errors as for `put`."""
        ...

    def delete(self, cid: bytes) -> None:
        """Drop a block; does nothing when it is not held."""
        ...


def verified(cid: bytes, data: bytes) -> bytes:
    """`data`, if it matches the CID; raises CorruptBlock if not, CidError if the hash cannot be checked."""
    if not cids.matches(cid, data):
        raise CorruptBlock(cid, f"the {len(data)} bytes found do not match the CID")
    return data


def check_put(store: BlockReader, cid: bytes, data: bytes) -> None:
    """Raises what `BlockStore.put` promises to raise for a pair that `store` must not take."""
    cids.check(cid)
    if len(data) > limits.BLOCK_BYTES:
        raise LimitExceeded(f"a block of {len(data)} bytes is over the limit of {limits.BLOCK_BYTES} bytes")
    if cids.matches(cid, data):
        return
    if store.has(cid):
        raise ConflictingBlock(
            cid, f"other bytes ({len(data)}) were put under the CID of a block that is held"
        )
    raise CorruptBlock(cid, f"the {len(data)} bytes put do not match the CID")
