"""A naive writer of sharded Zarr stores, against which the reader is tested.

It shares nothing with the reader: a store is a dictionary of keys, laid out with the reference CBOR encoder.
"""

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import dag_cbor
from multiformats import CID

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids

Chunks = dict[tuple[int, ...], bytes]


def value(number: int) -> bytes:
    """A CID of a raw block."""
    return cids.for_block(b"chunk %d" % number, cids.RAW)


def grid_of(shape: Iterable[int], chunk_shape: Iterable[int]) -> tuple[int, ...]:
    return tuple((size + chunk - 1) // chunk for size, chunk in zip(shape, chunk_shape, strict=True))


@dataclass
class Array:
    """One array: chunks by coordinates, and how its metadata spells the keys (None: no document)."""

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    chunks: Chunks = field(default_factory=dict)
    per_shard: int = 4
    encoding: Any = "default"
    separator: str = "/"
    zarr_format: int = 3

    def document(self) -> bytes:
        if self.zarr_format == 2:
            return json.dumps(
                {
                    "zarr_format": 2,
                    "shape": self.shape,
                    "chunks": self.chunk_shape,
                    "dimension_separator": self.separator,
                }
            ).encode()
        return json.dumps(
            {
                "zarr_format": 3,
                "node_type": "array",
                "shape": self.shape,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": self.chunk_shape}},
                "chunk_key_encoding": {"name": self.encoding, "configuration": {"separator": self.separator}},
            }
        ).encode()

    def key(self, path: str, coordinates: tuple[int, ...]) -> bytes:
        words = [str(number) for number in coordinates]
        if self.zarr_format == 2 or self.encoding == "v2":
            name = self.separator.join(words) or "0"
        else:
            name = self.separator.join(["c", *words])
        return f"{path}/{name}".lstrip("/").encode()


class Writer:
    """Puts stores into `blocks`."""

    def __init__(self) -> None:
        self.blocks = MemoryBlocks()

    def put(self, data: bytes, codec: int = cids.RAW) -> bytes:
        cid = cids.for_block(data, codec)
        self.blocks.put(cid, data)
        return cid

    def node(self, item: Any) -> bytes:
        return self.put(dag_cbor.encode(item), cids.DAG_CBOR)

    def shard(self, entries: list[bytes | None]) -> bytes:
        return self.node([None if entry is None else CID.decode(entry) for entry in entries])

    def row(self, array: Array) -> dict[str, Any]:
        """The index of one array, as version 2 spells it."""
        grid = grid_of(array.shape, array.chunk_shape)
        linear = [array.chunks.get(at) for at in itertools.product(*map(range, grid))]
        shards: list[Any] = []
        for low in range(0, len(linear), array.per_shard):
            entries = linear[low : low + array.per_shard]
            entries += [None] * (array.per_shard - len(entries))
            shards.append(CID.decode(self.shard(entries)) if any(entries) else None)
        return {
            "array_shape": list(array.shape),
            "chunk_shape": list(array.chunk_shape),
            "sharding_config": {"chunks_per_shard": array.per_shard, "order": "C"},
            "shard_cids": shards,
        }

    def metadata(self, arrays: dict[str, Array], more: dict[str, bytes]) -> dict[str, bytes]:
        """Keys and CIDs: the documents of the arrays, and what else there is."""
        found = dict(more)
        for path, array in arrays.items():
            if array.encoding is not None:
                name = ".zarray" if array.zarr_format == 2 else "zarr.json"
                found[f"{path}/{name}".lstrip("/")] = self.put(array.document())
        return found

    def v2(self, given: dict[str, Array], more: dict[str, bytes] | None = None, **fields: Any) -> bytes:
        metadata = self.metadata(given, more or {})
        return self.node(
            {
                "manifest_version": "sharded_zarr_v2",
                "store_type": "py_hamt.sharded_zarr",
                "zarr_format": 3,
                "sharding_config": {"chunks_per_shard": 4, "order": "C"},
                "metadata": {key: CID.decode(cid) for key, cid in metadata.items()},
                "arrays": {path: self.row(array) for path, array in given.items()},
                **fields,
            }
        )

    def v1(
        self,
        given: Array,
        more: dict[str, bytes] | None = None,
        documents: dict[str, Array] | None = None,
        primary: str | None = None,
        **fields: Any,
    ) -> bytes:
        row = self.row(given)
        del row["sharding_config"]["order"]
        if primary is not None:
            row["primary_array_path"] = primary
        metadata = self.metadata(documents or {}, more or {})
        return self.node(
            {
                "manifest_version": "sharded_zarr_v1",
                "metadata": {key: CID.decode(cid) for key, cid in metadata.items()},
                "chunks": row,
                **fields,
            }
        )


def expected(writer: Writer, arrays: dict[str, Array], more: dict[str, bytes]) -> dict[bytes, bytes]:
    """What a version 2 store with these arrays holds. Of equal keys that of the longest path counts."""
    found = {key.encode(): cid for key, cid in writer.metadata(arrays, more).items()}
    for path in sorted(arrays, key=len):
        array = arrays[path]
        grid = grid_of(array.shape, array.chunk_shape)
        for at, cid in array.chunks.items():
            if all(number < size for number, size in zip(at, grid, strict=True)):
                found[array.key(path, at)] = cid
    return found


GRID = Array((2, 6), (1, 3), {(0, 0): value(1), (1, 1): value(2)})
"""A small array with two chunks."""


def big(size: int, per_shard: int, first: int = 0) -> Array:
    """An array of one dimension with all its chunks."""
    return Array((size,), (1,), {(number,): value(first + number) for number in range(size)}, per_shard)
