"""The tree over one block reader, with a cache of decoded nodes."""

from collections.abc import Iterator, Sequence

from mstfs.blocks.interface import BlockReader
from mstfs.tree.interface import Applied, Edit, Entry, OnMissing, Tree, TreeDiff
from mstfs.tree.mst import diff as diffs
from mstfs.tree.mst import edit, search
from mstfs.tree.mst.node import EMPTY_BLOCK, EMPTY_CID, Load, MstNode, decode, weigh
from mstfs.tree.mst.search import Fresh
from mstfs.tree.node_cache import NodeCache

_SCAN_NODES = 1024
"""Nodes that one walk without an end may put into the cache."""


class MstTree(Tree):
    """Every MST whose nodes `blocks` can read. Errors and answers are those of `Tree`.

    `cache_bytes` bounds the memory for decoded nodes. Safe to use from several threads if the
    block reader is.
    """

    def __init__(self, blocks: BlockReader, cache_bytes: int = 16 << 20) -> None:
        self.blocks = blocks
        self._cache: NodeCache[MstNode | bytes] = NodeCache(cache_bytes, weigh)
        self._asked: tuple[bytes, bytes, bytes | None] = (b"", b"", None)

    def node(self, cid: bytes) -> MstNode:
        """The decoded node with this CID, strictly checked as a single node."""
        held = self._cache.get(cid)
        if isinstance(held, MstNode):
            return held
        node = decode(cid, self.blocks.get(cid) if held is None else held)
        self._cache.put(cid, node)
        return node

    def _scanner(self) -> Load:
        # For walks without an end: a big tree must not push everything else out of the cache, and
        # what is dropped at once is cheaper than what is kept.
        room = _SCAN_NODES
        held = self._cache.get

        def load(cid: bytes) -> MstNode:
            nonlocal room
            if room:
                room -= 1
                return self.node(cid)
            node = held(cid)
            if isinstance(node, MstNode):
                return node
            return decode(cid, self.blocks.get(cid) if node is None else node)

        return load

    def get(self, root: bytes, key: bytes) -> bytes | None:
        # To create a file is to ask for its name a dozen times.
        asked = self._asked
        if asked[:2] != (root, key):
            fresh: list[Fresh] = []
            found = search.get(self.node, root, key, self._cache.generations, self.blocks.read_small, fresh)
            if fresh:
                self._cache.put_all(fresh)
            asked = self._asked = (root, key, found)
        return asked[2]

    def page(
        self,
        root: bytes,
        prefix: bytes = b"",
        after: bytes | None = None,
        limit: int | None = None,
        on_missing: OnMissing | None = None,
    ) -> list[Entry]:
        load = self._scanner() if limit is None else self.node
        return search.page(load, root, prefix, after, limit, on_missing)

    def walk(self, root: bytes, prefix: bytes = b"", on_missing: OnMissing | None = None) -> Iterator[Entry]:
        return search.walk(self._scanner(), root, prefix, on_missing)

    def columns(self, root: bytes, prefix: bytes = b"") -> tuple[list[bytes], list[bytes]]:
        """The keys and the CIDs of `page`, as two lists: the cheapest way to take in a whole tree."""
        return search.columns(self._scanner(), root, prefix)

    def seek(self, root: bytes, key: bytes, on_missing: OnMissing | None = None) -> Entry | None:
        return search.seek(self.node, root, key, on_missing)

    def apply(self, root: bytes, edits: Sequence[Edit]) -> Applied:
        return edit.apply(self.node, root, edits)

    def diff(self, a: bytes, b: bytes) -> TreeDiff:
        return diffs.diff(self.node, a, b)

    def empty(self) -> tuple[bytes, bytes]:
        return EMPTY_CID, EMPTY_BLOCK

    def nodes(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        for cid, block in search.stream(self.blocks.get, root):
            if block is not None:
                yield cid, block

    def stream(self, root: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """CIDs in the order of streamable exports: nodes with their blocks, values with None."""
        return search.stream(self.blocks.get, root)
