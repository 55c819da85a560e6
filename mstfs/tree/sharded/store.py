"""One sharded Zarr store: the manifest together with what the metadata documents say of its arrays."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

from mstfs.errors import NodeError
from mstfs.tree.sharded.chunks import ChunkKeys
from mstfs.tree.sharded.document import DEFAULT, SUFFIXES, Document
from mstfs.tree.sharded.manifest import ArrayIndex, Manifest
from mstfs.tree.sharded.shard import Shard

LoadShard: TypeAlias = Callable[[bytes], Shard]
"""From a CID to the decoded shard; errors are those of `Tree`."""

LoadDocument: TypeAlias = Callable[[bytes], Document | None]
"""From a CID to the metadata of an array, or None if it is something else; errors are those of `Tree`."""

COORDINATES = frozenset(
    (b"time", b"lat", b"lon", b"latitude", b"longitude", b"forecast_reference_time", b"step")
)
"""Names of arrays whose chunks version 1 keeps in the metadata."""

NO_CHUNKS = Shard(0, (), [])


class Store:
    """The keys of one manifest. Documents are read when they are needed, and remembered.

    Safe to use from several threads if the functions that load are.
    """

    def __init__(
        self,
        manifest: Manifest,
        load_shard: LoadShard,
        load_document: LoadDocument,
        has: Callable[[bytes], bool],
    ) -> None:
        self.manifest = manifest
        self.has = has
        self._load_shard = load_shard
        self._load_document = load_document
        self._arrays: dict[bytes, ArrayIndex] | None = None
        self._keys: dict[bytes, ChunkKeys] = {}

    # --- arrays -------------------------------------------------------------------------------

    def arrays(self) -> dict[bytes, ArrayIndex]:
        """The arrays by path; for version 1 this reads documents, to find out whose the shards are."""
        if self._arrays is None:
            self._arrays = self._resolve()
        return self._arrays

    def _resolve(self) -> dict[bytes, ArrayIndex]:
        chunks = self.manifest.chunks
        if chunks is None:
            return self.manifest.arrays
        if self.manifest.primary is not None:
            return {self.manifest.primary: chunks}
        paths = [
            path
            for path, document in self.documents()
            if path.rpartition(b"/")[2] not in COORDINATES
            and (document.shape, document.chunk_shape) == (chunks.shape, chunks.chunk_shape)
        ]
        return dict.fromkeys(paths or [b""], chunks)

    def documents(self) -> Iterator[tuple[bytes, Document]]:
        """The metadata of every array that has some, by path; reads documents."""
        for key, cid in self.manifest.metadata.items():
            path, _, name = key.rpartition(b"/")
            if name in SUFFIXES:
                document = self._load_document(cid)
                if document is not None:
                    yield path, document

    def document_key(self, path: bytes) -> bytes | None:
        """The key of the metadata of an array, or None."""
        for name in SUFFIXES:
            key = path + b"/" + name if path else name
            if key in self.manifest.metadata:
                return key
        return None

    def keys(self, path: bytes) -> ChunkKeys:
        """The keys of an array's chunks; reads its document."""
        keys = self._keys.get(path)
        if keys is None:
            key = self.document_key(path)
            document = None if key is None else self._load_document(self.manifest.metadata[key])
            spelling = DEFAULT if document is None else document.spelling
            keys = self._keys[path] = ChunkKeys(path, spelling, self.arrays()[path].grid)
        return keys

    def yields(self, path: bytes) -> bool:
        """Whether a key in the metadata goes before an equal one of this array."""
        return self.manifest.version == 1 and not path and self.manifest.primary is None

    def shard(self, index: ArrayIndex, number: int) -> Shard:
        """A shard of an array, an empty one where there is none. NodeError if its length is wrong."""
        cid = index.shards[number]
        if cid is None:
            return NO_CHUNKS
        shard = self._load_shard(cid)
        if shard.length != index.per_shard:
            found = f"has {shard.length} places, where the manifest says {index.per_shard}"
            raise NodeError(cid, "shard-length", found)
        return shard

    # --- look-ups -----------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """The CID under a key, or None; reads one shard at most, and no document for a metadata key."""
        plain = self.manifest.metadata.get(key)
        if not (key[-1:].isdigit() or key[-1:] == b"c"):
            return plain
        arrays = self.arrays()
        at = key.rfind(b"/")
        while True:
            # Longer paths first. What is no path of an array costs a look into a dictionary.
            path = key[: max(at, 0)]
            index = arrays.get(path)
            if index is not None and not (plain is not None and self.yields(path)):
                linear = self.keys(path).index(key) if index.present else None
                if linear is not None:
                    cid = self.shard(index, linear // index.per_shard).get(linear % index.per_shard)
                    if cid is not None:
                        return cid
            if not path:
                return plain
            at = key.rfind(b"/", 0, at)
