"""What all layouts have in common: parameters, slots, and the two ways between block and node."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, TypeVar

from mstfs.codec import cid as cids
from mstfs.limits import TREE_HEIGHT
from mstfs.tree.hamt import hashes
from mstfs.tree.hamt.draft import Draft, NodeDraft
from mstfs.tree.hamt.hashes import KeyHash
from mstfs.tree.hamt.node import Buckets, Fetch, HamtNode, Inline, Links, Load

Self = TypeVar("Self", bound="Layout")

WIDTH_MAX = 16
"""Bits of the hash for one level, at most: a node of 65,536 slots."""


@dataclass(frozen=True)
class Layout(ABC):
    """A layout with its parameters. Two roots with equal layouts can share nodes.

    `width` is the number of bits of the hash for each level, `bucket_size` the most entries that a writer
    puts into a bucket. `key_hash` is the multicodec of the function that really places the keys, and
    `skip` the number of levels' bits at the start of the digest that are not used.
    """

    width: int = 8
    bucket_size: int = 4
    key_hash: int = hashes.BLAKE3
    skip: int = 0

    name: ClassVar[str]
    """What people call it."""
    canonical: ClassVar[bool] = True
    """Whether the entries alone decide what a writer makes of them."""
    writable: ClassVar[bool] = True
    """Whether `encode` exists."""
    holds_values: ClassVar[bool] = False
    """Whether values can stand inside of nodes."""
    node_hash: ClassVar[int] = cids.SHA2_256
    """The hash function of a new tree's CIDs."""

    @abstractmethod
    def decode(self, cid: bytes, data: bytes, level: int) -> HamtNode:
        """The node in a block. NodeError with the rule that is broken, LimitExceeded over the limits.

        The block is strictly canonical CBOR of this layout. What concerns more than one node, and the order
        and number of entries in a bucket, is for the verifier to say.
        """

    @abstractmethod
    def encode(self, buckets: Buckets, links: Links, inline: Inline, level: int) -> bytes:
        """The canonical block of a node. Refused if the layout cannot be written.

        Where the order of the entries in a bucket means nothing, it does not matter here.
        """

    def draft(self, cid: bytes | None, level: int, fetch: Fetch, load: Load) -> Draft:
        """The draft of a node, or of an empty one. Raises what `fetch`, `load` and `decode` raise."""
        return NodeDraft(self, None if cid is None else load(cid, level))

    def placements(self: Self) -> Iterator[Self]:
        """This layout with each placement that trees of the kind are known to have, the likeliest first."""
        yield self

    def spelled(self, cid: bytes) -> bytes:
        """The CID that reading gives once this one was written: it differs where pointers lack a codec."""
        return cid

    @property
    def text_keys(self) -> bool:
        """Whether every key is UTF-8."""
        return False

    @cached_property
    def levels(self) -> int:
        """How many levels of nodes there can be."""
        bits = hashes.DIGEST_BITS.get(self.key_hash, TREE_HEIGHT * self.width)
        return min(TREE_HEIGHT, bits // self.width - self.skip)

    @cached_property
    def hash(self) -> KeyHash | None:
        """The function that places keys; None if nobody here knows it."""
        return hashes.FUNCTIONS.get(self.key_hash)

    def slot(self, digest: bytes, level: int) -> int:
        """The slot of a key in a node of this level. IndexError if the digest has no bits left."""
        level += self.skip
        width = self.width
        if width == 8:
            return digest[level]
        end = (level + 1) * width
        spare = 8 * len(digest) - end
        if spare < 0:
            raise IndexError("the digest has no bits left")
        return (int.from_bytes(digest, "big") >> spare) & ((1 << width) - 1)

    def slots(self, digest: bytes) -> Iterable[int]:
        """The slots of a key from the root down: as many as it has bits, but at most `limits.TREE_HEIGHT`."""
        width = self.width
        if width == 8:
            return digest[self.skip : self.skip + TREE_HEIGHT]
        number = int.from_bytes(digest, "big")
        mask = (1 << width) - 1
        first = 8 * len(digest) - (self.skip + 1) * width
        return (
            number >> spare & mask for spare in range(first, max(-1, first - TREE_HEIGHT * width), -width)
        )

    def way(self, digest: bytes, levels: int) -> int | None:
        """The slots of the first `levels` levels as one number, the root's at the top; None if bits lack."""
        bits = levels * self.width
        spare = 8 * len(digest) - self.skip * self.width - bits
        if spare < 0:
            return None
        return (int.from_bytes(digest, "big") >> spare) & ((1 << bits) - 1)

    def form(self: Self) -> Self:
        """One layout for all that read blocks alike."""
        return replace(self, bucket_size=1, key_hash=hashes.BLAKE3, skip=0)

    def placed(self: Self, key_hash: int, skip: int = 0) -> Self:
        """This layout with another placement."""
        return replace(self, key_hash=key_hash, skip=skip)
