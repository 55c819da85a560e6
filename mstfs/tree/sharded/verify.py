"""The strict check of a sharded Zarr store: the manifest, every shard, the documents of its arrays.

Rules: those of `codec.lenient` for blocks that are not canonical DAG-CBOR; those that readers raise as
NodeError (`not-manifest`, `manifest-fields`, `metadata-link`, `array-rank`, `array-path`, `shard-count`,
`shard-link`, `not-shard`, `shard-entry`, `shard-length`, `node-codec`); `limit`; `unknown-field` (one that
the format does not have), `path-form` (a path with slashes at its ends), `metadata-key` (an empty key, or one
that begins with a slash), `node-link-kind` (a shard whose link is not version 1, dag-cbor or dag-pb),
`chunk-outside` (a chunk behind the end of its array), `key-twice` (a key in the metadata and in a shard),
`array-document` (an array without one), `array-shape` (a document that says another geometry), `chunk-keys`
(a spelling that nobody knows), `array-unknown` (version 1: whose the shards are cannot be told); and for
blocks that cannot be had `missing-block`, `block-hash`, `unreachable-block`, `block-hash-unknown`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, lenient
from mstfs.errors import BlockError, CborError, CidError, LimitExceeded, MissingBlock, NodeError
from mstfs.limits import MANIFEST_BYTES, NODE_BYTES
from mstfs.tree.defect import Defect, block_defect
from mstfs.tree.sharded import content
from mstfs.tree.sharded import document as documents
from mstfs.tree.sharded import manifest as manifests
from mstfs.tree.sharded import shard as shards
from mstfs.tree.sharded.chunks import ChunkKeys
from mstfs.tree.sharded.content import Files
from mstfs.tree.sharded.manifest import ARRAY_FIELDS, MANIFEST_FIELDS, ArrayIndex, Manifest
from mstfs.tree.sharded.shard import Shard
from mstfs.tree.sharded.store import Store

OnEntries = Callable[[bytes, Sequence[bytes], Sequence[bytes]], Iterable[Defect]]
"""Given the CID of a node, its keys and their CIDs; the defects that it gives are passed on."""

_UNREADABLE = (BlockError, CidError, NodeError, LimitExceeded)

_AGAIN = 1024
"""How many shards are read another time, to look for keys that stand twice."""


class _Known(NamedTuple):
    """Of a shard that was read: its length, how many chunks it holds, the place of the last one (or -1)."""

    length: int
    held: int
    last: int


def verify_tree(blocks: BlockReader, root: bytes, files: Files | None = None) -> Iterator[Defect]:
    """Every defect of the store with the manifest `root`. Values are not read, but for metadata of arrays."""
    return iter(TreeVerification(blocks, root, files))


class TreeVerification:
    """One walk over one store. Iterate for the defects; the counts are complete when it ends.

    `nodes` counts the manifest and the shards, each once, `entries` the keys in them. `complete` is False if
    a part of the store could not be read. `on_entries` is called once for each node; if a shard stands in
    several places, with the keys of the first one. `files` is that of `ShardedTree`.
    """

    def __init__(
        self,
        blocks: BlockReader,
        root: bytes,
        files: Files | None = None,
        on_entries: OnEntries | None = None,
    ) -> None:
        self.nodes = 0
        self.entries = 0
        self.complete = True
        self._blocks = blocks
        self._root = root
        self._files = files
        self._on_entries = on_entries
        self._documents: dict[bytes, documents.Document | None] = {}
        self._known: dict[bytes, _Known | None] = {}
        self._again = _AGAIN
        # The keys of the metadata that are keys of chunks too, by array and shard: place, key.
        self._twice: dict[tuple[bytes, int], list[tuple[int, bytes]]] = defaultdict(list)

    def __iter__(self) -> Iterator[Defect]:
        value, defects = self._manifest()
        yield from defects
        if value is None:
            return
        try:
            manifest = manifests.of_value(self._root, value)
        except (NodeError, LimitExceeded) as error:
            self.complete = False
            yield _node_defect(self._root, error)
            return
        self.nodes += 1
        yield from self._check_fields(manifest.version, value)
        yield from self._check_metadata(manifest)
        store = Store(manifest, self._no_shard, self._load_document, self._blocks.has)
        try:
            arrays = store.arrays()
        except _UNREADABLE as error:
            # A document is missing, of which may depend whose the shards of version 1 are.
            self.complete = False
            yield _defect_of(error, self._root)
            assert manifest.chunks is not None
            yield from self._check_array(store, None, manifest.chunks)
            return
        if manifest.chunks is not None:
            yield from self._check_owner(manifest, arrays)
        for path, index in arrays.items():
            yield from self._check_document(store, path, index)
            yield from self._check_array(store, path, index)
            if manifest.chunks is not None:
                return  # The others have the same shards.

    # --- blocks -------------------------------------------------------------------------------

    def _read(self, cid: bytes) -> tuple[bytes | None, list[Defect]]:
        try:
            return content.read(self._blocks, self._files, cid), []
        except _UNREADABLE as error:
            self.complete = False
            return None, [_defect_of(error, cid)]

    def _mend(self, cid: bytes, what: str, data: bytes, reason: str) -> tuple[bytes | None, list[Defect]]:
        """The canonical form of a node whose CBOR the strict reader refused, and why it did."""
        defects: list[Defect] = []
        if len(data) <= NODE_BYTES:
            reading = lenient.read(data)
            for departure in reading.departures:
                message = f"the {what} is not canonical: {departure.message}"
                defects.append(Defect(departure.rule, message, cid))
            with suppress(CborError, CidError):
                return dag_cbor.encode(reading.value), defects or [Defect("cbor", reason, cid)]
        self.complete = False
        return None, defects or [Defect("cbor", reason, cid)]

    def _manifest(self) -> tuple[dict[str, Any] | None, list[Defect]]:
        data, defects = self._read(self._root)
        if data is None:
            return None, defects
        if len(data) > MANIFEST_BYTES:
            self.complete = False
            return None, [Defect("limit", f"a manifest of {len(data)} bytes is too long", self._root)]
        try:
            value = dag_cbor.decode(data)
        except CborError as error:
            mended, defects = self._mend(self._root, "manifest", data, str(error))
            if mended is None:
                return None, defects
            value = dag_cbor.decode(mended)
        if isinstance(value, dict):
            return value, defects
        self.complete = False
        return None, [*defects, Defect("not-manifest", "the root is no map", self._root)]

    def _load_document(self, cid: bytes) -> documents.Document | None:
        if cid not in self._documents:
            try:
                found = documents.decode(content.read(self._blocks, self._files, cid))
            except (NodeError, LimitExceeded):
                found = None
            self._documents[cid] = found
        return self._documents[cid]

    def _no_shard(self, cid: bytes) -> Shard:
        raise MissingBlock(cid)  # Shards are read here one by one, and never held.

    # --- the manifest -------------------------------------------------------------------------

    def _check_fields(self, version: int, value: dict[str, Any]) -> Iterator[Defect]:
        for field in sorted(value.keys() - MANIFEST_FIELDS[version]):
            yield Defect("unknown-field", f"the manifest has the field {field!r:.80}", self._root)
        rows = [value["chunks"]] if version == 1 else value["arrays"].values()
        unknown = {field for row in rows for field in row.keys() - ARRAY_FIELDS[version]}
        for field in sorted(unknown):
            yield Defect("unknown-field", f"an array has the field {field!r:.80}", self._root)
        paths = value["arrays"] if version == 2 else [value["chunks"].get("primary_array_path") or ""]
        for path in paths:
            if path != path.strip("/"):
                yield Defect("path-form", f"the path {path!r:.80} begins or ends with a slash", self._root)

    def _check_metadata(self, manifest: Manifest) -> Iterator[Defect]:
        self.entries += len(manifest.keys)
        for key in manifest.keys:
            if not key or key.startswith(b"/"):
                yield Defect("metadata-key", "the key is empty or begins with a slash", self._root, key)
        if self._on_entries is not None and manifest.keys:
            values = [manifest.metadata[key] for key in manifest.keys]
            yield from self._on_entries(self._root, tuple(manifest.keys), values)

    def _check_owner(self, manifest: Manifest, arrays: dict[bytes, ArrayIndex]) -> Iterator[Defect]:
        if manifest.primary is None and len(arrays) > 1:
            names = b", ".join(sorted(arrays)).decode("utf-8", "replace")
            yield Defect("array-unknown", f"the shards could be those of each of {names:.200}", self._root)

    # --- arrays -------------------------------------------------------------------------------

    def _check_document(self, store: Store, path: bytes, index: ArrayIndex) -> Iterator[Defect]:
        key = store.document_key(path)
        if key is None:
            yield Defect("array-document", "the array has no metadata", self._root, path)
            return
        cid = store.manifest.metadata[key]
        try:
            document = self._load_document(cid)
        except _UNREADABLE as error:
            self.complete = False
            yield _defect_of(error, cid)._replace(key=key)
            return
        if document is None:
            yield Defect("array-document", "the metadata of the array is none", cid, key)
        elif (document.shape, document.chunk_shape) != (index.shape, index.chunk_shape):
            yield Defect("array-shape", "the metadata says another shape than the manifest", cid, key)
        elif not document.known:
            yield Defect("chunk-keys", "the metadata spells the keys of chunks in an unknown way", cid, key)

    def _check_array(self, store: Store, path: bytes | None, index: ArrayIndex) -> Iterator[Defect]:
        keys = None
        if path is not None:
            with suppress(*_UNREADABLE):  # This was said of the document.
                keys = store.keys(path)
                self._note_twice(store, path, index, keys)
        for number in index.present:
            yield from self._check_shard(path or b"", index, number, keys)

    def _note_twice(self, store: Store, path: bytes, index: ArrayIndex, keys: ChunkKeys) -> None:
        prefix = path + b"/" if path else b""
        low, _ = store.manifest.bounds(prefix, None)
        for key in store.manifest.keys[low:]:
            if not key.startswith(prefix):
                break
            linear = keys.index(key)
            if linear is not None:
                number, place = divmod(linear, index.per_shard)
                self._twice[path, number].append((place, key))

    def _check_shard(
        self, path: bytes, index: ArrayIndex, number: int, keys: ChunkKeys | None
    ) -> Iterator[Defect]:
        cid = index.shards[number]
        assert cid is not None
        shard = None
        if first := cid not in self._known:
            shard, defects = self._read_shard(cid)
            yield from defects
        known = self._known[cid]
        if known is None:
            return
        if known.length != index.per_shard:
            self.complete = False
            found = f"the shard has {known.length} places, where the manifest says {index.per_shard}"
            yield Defect("shard-length", found, cid)
            return
        self.entries += known.held
        base = number * index.per_shard
        if base + known.last >= index.total:
            yield Defect("chunk-outside", "the shard has chunks behind the end of its array", cid)
        twice = self._twice.pop((path, number), [])
        if twice and shard is None and self._again:
            self._again -= 1
            shard, _ = self._read_shard(cid)
        for place, key in twice:
            if shard is not None and shard.get(place) is not None:
                self.entries -= 1
                yield Defect("key-twice", "the key stands in the metadata and in a shard", cid, key)
        if first and shard and keys and self._on_entries is not None and known.held:
            rows = [row for row in shard.items(0, shard.length) if base + row[0] < index.total]
            values = [value for _, value in rows]
            yield from self._on_entries(cid, [keys.key(base + place) for place, _ in rows], values)

    def _read_shard(self, cid: bytes) -> tuple[Shard | None, list[Defect]]:
        first = cid not in self._known
        self._known[cid] = None
        data, defects = self._read(cid)
        if data is None:
            return None, defects
        try:
            try:
                shard = shards.decode(cid, data)
            except NodeError as error:
                if error.rule != "cbor":
                    raise
                mended, defects = self._mend(cid, "shard", data, str(error).partition(": ")[2])
                if mended is None:
                    return None, defects
                shard = shards.decode(cid, mended)
        except (NodeError, LimitExceeded) as error:
            self.complete = False
            return None, [*defects, _node_defect(cid, error)]
        self.nodes += first
        if cid[:2] not in (bytes((1, cids.DAG_CBOR)), bytes((1, cids.DAG_PB))):
            defects.append(Defect("node-link-kind", "the link to a shard is not version 1, dag-cbor", cid))
        held = len(shard.places)
        self._known[cid] = _Known(shard.length, held, shard.places[-1] if held else -1)
        return shard, defects


def _node_defect(cid: bytes, error: NodeError | LimitExceeded) -> Defect:
    rule = error.rule if isinstance(error, NodeError) else "limit"
    return Defect(rule, str(error).partition(": ")[2] or str(error), cid)


def _defect_of(error: Exception, cid: bytes) -> Defect:
    if isinstance(error, BlockError):
        return block_defect(error)
    if isinstance(error, NodeError) and error.rule == "node-link":
        return Defect("block-hash-unknown", str(error).partition(": ")[2], cid)
    if isinstance(error, NodeError | LimitExceeded):
        return _node_defect(cid, error)
    return Defect("block-hash-unknown", str(error), cid)
