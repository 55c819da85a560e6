"""The root block of a sharded Zarr store, versions 1 and 2.

Source: py-hamt 3.6.0, `ShardedZarrStore`. Version 2 is a map of `manifest_version`, `store_type`,
`zarr_format`, `sharding_config`, `metadata` (key to link) and `arrays` (path to `array_shape`, `chunk_shape`,
`sharding_config` of `chunks_per_shard` and `order`, `shard_cids`). Version 1 has `manifest_version`,
`metadata` and `chunks`, which is one such array without an order and maybe with a `primary_array_path`.
"""

from bisect import bisect_left
from math import prod
from typing import Any, NamedTuple

from mstfs.codec import dag_cbor
from mstfs.codec.cid import Link
from mstfs.errors import CborError, LimitExceeded, NodeError
from mstfs.limits import KEY_BYTES, MANIFEST_BYTES, RANK

VERSIONS = {"sharded_zarr_v1": 1, "sharded_zarr_v2": 2}

CHUNKS_PER_SHARD = 6250
"""What py-hamt's own converter puts into a shard."""

MANIFEST_FIELDS = {
    1: frozenset(("manifest_version", "metadata", "chunks")),
    2: frozenset(
        ("manifest_version", "store_type", "zarr_format", "sharding_config", "metadata", "arrays"),
    ),
}
ARRAY_FIELDS = {
    1: frozenset(("array_shape", "chunk_shape", "sharding_config", "shard_cids", "primary_array_path")),
    2: frozenset(("array_shape", "chunk_shape", "sharding_config", "shard_cids")),
}
"""The fields that the format knows, by version. Readers pass over others."""


class ArrayIndex(NamedTuple):
    """The geometry of one array, and its shards: a CID for each, None where there is no shard.

    `per_shard` is the number of places in a shard, `grid` that of chunks in each dimension, `total` that of
    all chunks. `present` holds the numbers of the shards that exist, ascending.
    """

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    per_shard: int
    shards: tuple[bytes | None, ...]
    grid: tuple[int, ...]
    total: int
    present: tuple[int, ...]


class Manifest(NamedTuple):
    """A decoded root block.

    `metadata` maps keys to CIDs, `keys` are its keys in order. `arrays` is by path, without slashes at the
    ends; the only array of version 1 is `chunks`, and `primary` is its path where that is recorded.
    """

    version: int
    metadata: dict[bytes, bytes]
    keys: list[bytes]
    arrays: dict[bytes, ArrayIndex]
    chunks: ArrayIndex | None = None
    primary: bytes | None = None

    def bounds(self, start: bytes, end: bytes | None) -> tuple[int, int]:
        """Where in `keys` those from `start` to before `end` are."""
        low = bisect_left(self.keys, start)
        return low, len(self.keys) if end is None else bisect_left(self.keys, end, low)

    def shards(self) -> list[bytes]:
        """The CIDs of all shards, each once."""
        indexes = list(self.arrays.values())
        if self.chunks is not None:
            indexes.append(self.chunks)
        return list(dict.fromkeys(cid for index in indexes for cid in index.shards if cid is not None))


def decode(cid: bytes, data: bytes) -> Manifest:
    """The manifest in a block. NodeError with the rule that is broken, LimitExceeded over the limits."""
    if len(data) > MANIFEST_BYTES:
        raise LimitExceeded(f"a manifest of {len(data)} bytes is over the limit of {MANIFEST_BYTES} bytes")
    try:
        value = dag_cbor.decode(data)
    except CborError as error:
        raise NodeError(cid, "cbor", str(error)) from None
    return of_value(cid, value)


def of_value(cid: bytes, value: object) -> Manifest:
    """The manifest in a value that was decoded already; errors are those of `decode`."""
    version = VERSIONS.get(str(value.get("manifest_version"))) if isinstance(value, dict) else None
    if version is None or not isinstance(value, dict):
        raise NodeError(cid, "not-manifest", "is no sharded Zarr manifest of version 1 or 2")
    metadata = _metadata(cid, _map(cid, value, "metadata", ""))
    keys = sorted(metadata)
    if version == 1:
        row = _map(cid, value, "chunks", "")
        primary = row.get("primary_array_path")
        if primary is not None and not isinstance(primary, str):
            raise _wrong(cid, "primary_array_path", "chunks", "text")
        path = None if primary is None else _path(cid, primary)
        return Manifest(version, metadata, keys, {}, _array(cid, "chunks", row), path)
    arrays: dict[bytes, ArrayIndex] = {}
    for name, row in _map(cid, value, "arrays", "").items():
        if not isinstance(row, dict):
            raise _wrong(cid, name, "arrays", "a map")
        path = _path(cid, name)
        if path in arrays:
            raise NodeError(cid, "array-path", f"has two arrays {name!r:.80}")
        arrays[path] = _array(cid, f"array {name!r:.80}", row)
    return Manifest(version, metadata, keys, arrays)


def encode_empty() -> bytes:
    """The block of a store without keys, in version 2."""
    return dag_cbor.encode(
        {
            "manifest_version": "sharded_zarr_v2",
            "store_type": "py_hamt.sharded_zarr",
            "zarr_format": 3,
            "sharding_config": {"chunks_per_shard": CHUNKS_PER_SHARD, "order": "C"},
            "metadata": {},
            "arrays": {},
        }
    )


def _metadata(cid: bytes, rows: dict[str, Any]) -> dict[bytes, bytes]:
    metadata: dict[bytes, bytes] = {}
    for name, link in rows.items():
        if type(link) is not Link:
            raise NodeError(cid, "metadata-link", f"has no link under the metadata key {name!r:.80}")
        key = name.encode()
        if len(key) > KEY_BYTES:
            raise LimitExceeded(f"a key of {len(key)} bytes is over the limit of {KEY_BYTES} bytes")
        metadata[key] = link.cid
    return metadata


def _array(cid: bytes, where: str, row: dict[str, Any]) -> ArrayIndex:
    shape = _numbers(cid, row, "array_shape", where, 0)
    chunk_shape = _numbers(cid, row, "chunk_shape", where, 1)
    if len(shape) != len(chunk_shape):
        raise NodeError(cid, "array-rank", f"has a shape and a chunk shape of different rank in {where}")
    config = _map(cid, row, "sharding_config", where)
    per_shard = config.get("chunks_per_shard")
    if type(per_shard) is not int or per_shard < 1:
        raise _wrong(cid, "chunks_per_shard", where, "a positive number")
    if config.get("order", "C") != "C":
        raise _wrong(cid, "order", where, '"C"')
    links = row.get("shard_cids")
    if not isinstance(links, list):
        raise _wrong(cid, "shard_cids", where, "a list")
    grid = tuple([-(-size // chunk) for size, chunk in zip(shape, chunk_shape, strict=True)])
    total = prod(grid)
    expected = -(-total // per_shard)
    if len(links) != expected:
        found = f"has {len(links)} shards in {where}, where {expected} would hold its {total} chunks"
        raise NodeError(cid, "shard-count", found)
    shards: list[bytes | None] = []
    for link in links:
        if link is not None and type(link) is not Link:
            raise NodeError(cid, "shard-link", f"has a shard in {where} that is neither a link nor null")
        shards.append(None if link is None else link.cid)
    present = tuple([number for number, shard in enumerate(shards) if shard is not None])
    return ArrayIndex(shape, chunk_shape, per_shard, tuple(shards), grid, total, present)


def _numbers(cid: bytes, row: dict[str, Any], field: str, where: str, least: int) -> tuple[int, ...]:
    numbers = row.get(field)
    if not isinstance(numbers, list):
        raise _wrong(cid, field, where, "a list")
    if len(numbers) > RANK:
        raise LimitExceeded(f"{field} in {where} has {len(numbers)} dimensions, over the limit of {RANK}")
    for number in numbers:
        if type(number) is not int or number < least:
            raise _wrong(cid, field, where, f"a list of numbers from {least} on")
    return tuple(numbers)


def _path(cid: bytes, name: str) -> bytes:
    path = name.strip("/").encode()
    if len(path) > KEY_BYTES:
        raise LimitExceeded(f"a path of {len(path)} bytes is over the limit of {KEY_BYTES} bytes")
    return path


def _map(cid: bytes, row: dict[str, Any], field: str, where: str) -> dict[str, Any]:
    value = row.get(field)
    if not isinstance(value, dict):
        raise _wrong(cid, field, where, "a map")
    return value


def _wrong(cid: bytes, field: str, where: str, what: str) -> NodeError:
    place = f" of {where}" if where else ""
    return NodeError(cid, "manifest-fields", f"does not have {what} as the field {field!r:.80}{place}")
