"""What every kind of tree can do, and the values that go in and out.

Keys and CIDs are plain `bytes`. Roots are CIDs of nodes. Every method that reads blocks may raise
`MissingBlock`, `MissingBlocks`, `CorruptBlock` or `UnreachableBlock` (the block could not be had),
`NodeError` (it is no node, or stands where it cannot stand) and `LimitExceeded`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from mstfs.errors import BlockError, LimitExceeded, MstfsError, NodeError


class Entry(NamedTuple):
    """One key of a tree and the CID of its value."""

    key: bytes
    cid: bytes


class Edit(NamedTuple):
    """What shall become of one key: `cid` is put under it, None is a tombstone."""

    key: bytes
    cid: bytes | None


class Applied(NamedTuple):
    """The outcome of `Tree.apply`: the new root, and the blocks that the old tree does not have."""

    root: bytes
    nodes: dict[bytes, bytes]


class Change(NamedTuple):
    """One key that differs between two trees; None stands for absent. `old` and `new` are never equal."""

    key: bytes
    old: bytes | None
    new: bytes | None


class TreeDiff(NamedTuple):
    """The difference of two trees.

    `changes` is in key order. `created` holds the CIDs of the nodes that only the second tree has,
    `deleted` those that only the first one has.
    """

    changes: tuple[Change, ...]
    created: frozenset[bytes]
    deleted: frozenset[bytes]


UNREADABLE = (BlockError, NodeError, LimitExceeded)
"""What is wrong with a subtree that a listing can leave out."""

OnMissing = Callable[[MstfsError], None]
"""Called with the error of a subtree that could not be read (`UNREADABLE`); it is then left out."""


class Tree(Protocol):
    """A kind of Merkle tree over one block reader. Trees may be read from several threads at once."""

    def get(self, root: bytes, key: bytes) -> bytes | None:
        """The CID under `key`, or None where the tree does not have the key."""
        ...

    def get_many(self, root: bytes, keys: Sequence[bytes]) -> list[bytes | None]:
        """`get` for each of many keys."""
        return [self.get(root, key) for key in keys]

    def page(
        self,
        root: bytes,
        prefix: bytes = b"",
        after: bytes | None = None,
        limit: int | None = None,
        on_missing: OnMissing | None = None,
    ) -> list[Entry]:
        """At most `limit` entries in key order whose keys start with `prefix` and are greater than `after`.

        With `on_missing` the listing goes on without the subtrees that could not be read, and
        says so by calling it once for each; without it the first such block is raised.
        """
        ...

    def walk(self, root: bytes, prefix: bytes = b"", on_missing: OnMissing | None = None) -> Iterator[Entry]:
        """Every entry whose key starts with `prefix`, in key order, lazily. `on_missing` as in `page`."""
        ...

    def seek(self, root: bytes, key: bytes, on_missing: OnMissing | None = None) -> Entry | None:
        """The first entry whose key is `key` or greater, or None. `on_missing` as in `page`."""
        ...

    def apply(self, root: bytes, edits: Sequence[Edit]) -> Applied:
        """The tree with the edits made; `edits` are in strictly ascending key order (else `Refused`).

        A tombstone for an absent key and a put of the CID that is there already change nothing. The
        result depends on the entries alone, never on the history of the tree.
        """
        ...

    def diff(self, a: bytes, b: bytes) -> TreeDiff:
        """What turns the tree `a` into the tree `b`."""
        ...

    def empty(self) -> tuple[bytes, bytes]:
        """The tree without entries: its CID and its block."""
        ...

    def nodes(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every node of the tree in pre-order, as CID and block."""
        ...
