"""The tree over one block reader, with caches of manifests, shards and metadata documents."""

from collections.abc import Iterable, Iterator, Sequence

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, NodeError, Refused
from mstfs.tree.interface import UNREADABLE, Applied, Edit, Entry, OnMissing, TreeDiff
from mstfs.tree.node_cache import NodeCache
from mstfs.tree.ordered import OrderedTree
from mstfs.tree.sharded import content, search, shard
from mstfs.tree.sharded import diff as diffs
from mstfs.tree.sharded import document as documents
from mstfs.tree.sharded import manifest as manifests
from mstfs.tree.sharded.content import Files
from mstfs.tree.sharded.document import Document
from mstfs.tree.sharded.shard import Shard
from mstfs.tree.sharded.store import Store

EMPTY_BLOCK = manifests.encode_empty()
"""The block of a store without keys."""

EMPTY_CID = cids.for_block(EMPTY_BLOCK)

# What CPython takes for the CID of a shard, a key, an array, beyond their bytes.
_CID_COST = 80
_KEY_COST = 230
_ARRAY_COST = 900

_DOCUMENTS = 4096
"""Metadata documents of which is remembered what they say."""


class ShardedTree(OrderedTree):
    """Every sharded Zarr store whose blocks `blocks` can read. Errors and answers are those of `Tree`.

    Keys are those of the Zarr store. `files` reads what is a UnixFS file where a single block would do;
    without it that is a NodeError. `cache_bytes` bounds the memory for manifests, and that for shards.
    Safe to use from several threads if the block reader is.
    """

    def __init__(self, blocks: BlockReader, files: Files | None = None, cache_bytes: int = 64 << 20) -> None:
        self.blocks = blocks
        self.files = files
        self._stores = NodeCache(cache_bytes, _cost_of_store, spare=True)
        self._shards: NodeCache[Shard] = NodeCache(cache_bytes, lambda shard: shard.cost, spare=True)
        self._documents: dict[bytes, Document | None] = {}

    # --- blocks -------------------------------------------------------------------------------

    def _read(self, cid: bytes) -> bytes:
        return content.read(self.blocks, self.files, cid)

    def store(self, root: bytes) -> Store:
        """The store with this manifest."""
        store = self._stores.get(root)
        if store is None:
            manifest = manifests.decode(root, self._read(root))
            store = Store(manifest, self._load_shard, self._load_document, self.blocks.has)
            self._stores.put(root, store)
        return store

    def _load_shard(self, cid: bytes) -> Shard:
        found = self._shards.get(cid)
        if found is None:
            found = shard.decode(cid, self._read(cid))
            self._shards.put(cid, found)
        return found

    def _load_document(self, cid: bytes) -> Document | None:
        if cid in self._documents:
            return self._documents[cid]
        try:
            found = documents.decode(self._read(cid))
        except (NodeError, LimitExceeded):
            found = None  # A value that nobody can read as metadata is a value all the same.
        if len(self._documents) >= _DOCUMENTS:
            self._documents = {}
        self._documents[cid] = found
        return found

    def _blocks_of(self, cid: bytes) -> Iterable[tuple[bytes, bytes]]:
        if cids.codec_of(cid) != cids.DAG_PB or self.files is None:
            return [(cid, self._read(cid))]
        return self.files.nodes(cid)

    def _cids_of(self, cid: bytes) -> list[bytes]:
        if cids.codec_of(cid) != cids.DAG_PB or self.files is None:
            return [cid]
        return [name for name, _ in self.files.nodes(cid)]

    # --- reading ------------------------------------------------------------------------------

    def get(self, root: bytes, key: bytes) -> bytes | None:
        return self.store(root).get(key)

    def between(
        self, root: bytes, start: bytes, end: bytes | None, on_missing: OnMissing | None
    ) -> Iterator[Entry]:
        try:
            store = self.store(root)
        except UNREADABLE as error:
            if on_missing is None:
                raise
            on_missing(error)
            return
        yield from search.entries(store, start, end, on_missing)

    def apply(self, root: bytes, edits: Sequence[Edit]) -> Applied:
        """Refused: sharded Zarr stores are read only."""
        raise Refused("sharded Zarr stores can be read, not changed")

    def diff(self, a: bytes, b: bytes) -> TreeDiff:
        """See `diff.diff`."""
        if a == b:
            return TreeDiff((), frozenset(), frozenset())
        missing: list[bytes] = []
        stores: list[Store] = []
        for root in (a, b):
            try:
                stores.append(self.store(root))
            except MissingBlock as error:
                missing.append(error.cid)
        if missing:
            raise MissingBlocks(missing)
        return diffs.diff(a, stores[0], b, stores[1], self._cids_of)

    def empty(self) -> tuple[bytes, bytes]:
        return EMPTY_CID, EMPTY_BLOCK

    def nodes(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The manifest and then every shard, each block once; a UnixFS file with all its blocks."""
        seen: set[bytes] = set()
        for top in (root, *self.store(root).manifest.shards()):
            for cid, block in self._blocks_of(top):
                if cid not in seen:
                    seen.add(cid)
                    yield cid, block


def _cost_of_store(store: Store) -> int:
    manifest = store.manifest
    arrays = [*manifest.arrays.values(), *([] if manifest.chunks is None else [manifest.chunks])]
    places = sum(_CID_COST * len(index.present) + 16 * len(index.shards) + _ARRAY_COST for index in arrays)
    return places + _KEY_COST * len(manifest.keys) + sum(map(len, manifest.keys))
