"""Hostile and broken sharded Zarr stores: each is refused with its CID, and none takes long."""

import json
from typing import Any

import pytest
from multiformats import CID
from naive_sharded import GRID, Array, Writer, value

from mstfs.codec import cid as cids
from mstfs.errors import LimitExceeded, MstfsError, NodeError
from mstfs.tree.interface import Entry
from mstfs.tree.sharded import search
from mstfs.tree.sharded.tree import ShardedTree

# --- manifests and shards ---------------------------------------------------------------------------


def row_of(**fields: Any) -> dict[str, Any]:
    return {
        "array_shape": [4],
        "chunk_shape": [1],
        "sharding_config": {"chunks_per_shard": 4, "order": "C"},
        "shard_cids": [None],
        **fields,
    }


LINK = CID.decode(value(1))

BROKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "version": ("not-manifest", {"manifest_version": "sharded_zarr_v3"}),
    "version of another type": ("not-manifest", {"manifest_version": 1}),
    "metadata": ("manifest-fields", {"metadata": []}),
    "metadata value": ("metadata-link", {"metadata": {"zarr.json": bytes(value(1))}}),
    "arrays": ("manifest-fields", {"arrays": [row_of()]}),
    "array": ("manifest-fields", {"arrays": {"t": []}}),
    "shape": ("manifest-fields", {"arrays": {"t": row_of(array_shape=4)}}),
    "shape of text": ("manifest-fields", {"arrays": {"t": row_of(array_shape=["4"])}}),
    "shape of truth": ("manifest-fields", {"arrays": {"t": row_of(array_shape=[True])}}),
    "negative shape": ("manifest-fields", {"arrays": {"t": row_of(array_shape=[-4])}}),
    "chunks of nothing": ("manifest-fields", {"arrays": {"t": row_of(chunk_shape=[0])}}),
    "rank": ("array-rank", {"arrays": {"t": row_of(chunk_shape=[1, 1])}}),
    "no places": (
        "manifest-fields",
        {"arrays": {"t": row_of(sharding_config={"chunks_per_shard": 0})}},
    ),
    "order": (
        "manifest-fields",
        {"arrays": {"t": row_of(sharding_config={"chunks_per_shard": 4, "order": "F"})}},
    ),
    "too few shards": ("shard-count", {"arrays": {"t": row_of(shard_cids=[])}}),
    "too many shards": ("shard-count", {"arrays": {"t": row_of(shard_cids=[None, None])}}),
    "shards of another type": ("manifest-fields", {"arrays": {"t": row_of(shard_cids={"0": None})}}),
    "shard of another type": ("shard-link", {"arrays": {"t": row_of(shard_cids=["bafy"])}}),
    "two arrays of one path": ("array-path", {"arrays": {"t": row_of(), "/t": row_of()}}),
}


@pytest.mark.parametrize(("rule", "fields"), BROKEN.values(), ids=BROKEN)
def test_broken_manifests(rule: str, fields: dict[str, Any]) -> None:
    writer = Writer()
    root = writer.v2({}, **fields)
    tree = ShardedTree(writer.blocks)
    with pytest.raises(NodeError) as raised:
        tree.page(root)
    assert (raised.value.rule, raised.value.cid) == (rule, root)
    assert cids.to_text(root) in str(raised.value)
    told: list[MstfsError] = []
    assert tree.page(root, on_missing=told.append) == []
    assert len(told) == 1


def test_broken_manifests_of_version_1() -> None:
    writer = Writer()
    for fields in ({"chunks": None}, {"chunks": row_of(primary_array_path=1)}, {"metadata": 1}):
        with pytest.raises(NodeError):
            ShardedTree(writer.blocks).page(writer.v1(GRID, **fields))
    with pytest.raises(NodeError, match="DAG-CBOR"):
        ShardedTree(writer.blocks).page(writer.put(b"\xa1", cids.DAG_CBOR))


SHARDS: dict[str, tuple[str, bytes]] = {
    "map": ("not-shard", b"\xa0"),
    "numbers": ("shard-entry", b"\x84\x01\x02\x03\x04"),
    "bytes": ("shard-entry", b"\x84\xf6\xf6\xf6\x58\x24" + value(1)),
    "no CID": ("cbor", b"\x84\xf6\xf6\xf6\xd8\x2a\x43\x00\x01\x55"),
    "bytes without a CID": ("shard-entry", b"\x84\xf6\xf6\xf6\x43\x01\x55\x12"),
    "long head": ("cbor", b"\x98\x04\xf6\xf6\xf6\xf6"),
    "cut off": ("cbor", b"\x84\xf6\xf6\xf6"),
    "too short": ("shard-length", b"\x83\xf6\xf6\xf6"),
    "too long": ("shard-length", b"\x85\xf6\xf6\xf6\xf6\xf6"),
}


@pytest.mark.parametrize(("rule", "block"), SHARDS.values(), ids=SHARDS)
def test_broken_shards(rule: str, block: bytes) -> None:
    writer = Writer()
    cid = writer.put(block, cids.DAG_CBOR)
    root = writer.v2({}, {"zarr.json": value(1)}, arrays={"t": row_of(shard_cids=[CID.decode(cid)])})
    tree = ShardedTree(writer.blocks)
    for read in (lambda: tree.page(root), lambda: tree.get(root, b"t/c/3")):
        with pytest.raises(NodeError) as raised:
            read()
        assert (raised.value.rule, raised.value.cid) == (rule, cid)
    told: list[MstfsError] = []
    assert tree.page(root, on_missing=told.append) == [Entry(b"zarr.json", value(1))]
    assert len(told) == 1


def test_an_endless_shape_costs_what_its_blocks_weigh() -> None:
    writer = Writer()
    # One shard that would have to be as long as its array is wide.
    shard = writer.shard([value(1), None, None, value(2)])
    lying = row_of(
        array_shape=[10**18], sharding_config={"chunks_per_shard": 1 << 60}, shard_cids=[CID.decode(shard)]
    )
    root = writer.v2({}, arrays={"t": lying})
    with pytest.raises(NodeError) as raised:
        ShardedTree(writer.blocks).page(root)
    assert raised.value.rule == "shard-length"
    # As many shards as there may be, all of them empty but the last.
    many = row_of(
        array_shape=[10**6, 4], chunk_shape=[10, 1], shard_cids=[None] * (10**5 - 1) + [CID.decode(shard)]
    )
    root = writer.v2({}, arrays={"t": many})
    tree = ShardedTree(writer.blocks)
    assert [entry.key for entry in tree.page(root)] == [b"t/c/99999/0", b"t/c/99999/3"]
    assert tree.seek(root, b"t/c/99999/1") == Entry(b"t/c/99999/3", value(2))


def test_a_shard_of_nulls_is_passed_over() -> None:
    writer = Writer()
    size = 1 << 20
    nulls = writer.put(b"\x9a" + size.to_bytes(4, "big") + b"\xf6" * size, cids.DAG_CBOR)
    row = row_of(
        array_shape=[size], sharding_config={"chunks_per_shard": size}, shard_cids=[CID.decode(nulls)]
    )
    assert ShardedTree(writer.blocks).page(writer.v2({}, arrays={"t": row})) == []
    row = row_of(
        array_shape=[2 * size], sharding_config={"chunks_per_shard": 2 * size}, shard_cids=[CID.decode(nulls)]
    )
    longer = writer.put(b"\x9a" + (2 * size).to_bytes(4, "big") + b"\xf6" * 2 * size, cids.DAG_CBOR)
    row["shard_cids"] = [CID.decode(longer)]
    with pytest.raises(LimitExceeded):
        ShardedTree(writer.blocks).page(writer.v2({}, arrays={"t": row}))


def test_a_shard_that_comes_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "REPEATED", 20)
    writer = Writer()
    link = CID.decode(writer.shard([value(1)] * 4))
    honest = row_of(array_shape=[20], shard_cids=[link] * 5)
    hostile = row_of(array_shape=[4000], shard_cids=[link] * 1000)
    tree = ShardedTree(writer.blocks)
    assert len(tree.page(writer.v2({}, arrays={"t": honest}))) == 20
    root = writer.v2({}, arrays={"t": hostile})
    with pytest.raises(LimitExceeded):
        tree.page(root)
    told: list[MstfsError] = []
    assert len(tree.page(root, on_missing=told.append)) < 40
    assert len(told) == 1
    assert tree.get(root, b"t/c/3999") == value(1)


def test_too_many_dimensions_and_too_long_keys() -> None:
    writer = Writer()
    for fields in (
        {"arrays": {"t": row_of(array_shape=[1] * 65, chunk_shape=[1] * 65)}},
        {"metadata": {"k" * 8193: LINK}},
        {"arrays": {"k" * 8193: row_of()}},
    ):
        with pytest.raises(LimitExceeded):
            ShardedTree(writer.blocks).page(writer.v2({}, **fields))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"shape": [4], "chunk_grid": 1}',
        b'{"shape": [4], "chunks": [1], "chunk_key_encoding": {"name": "odd"}}',
        b'{"shape": [4], "chunks": [1], "zarr_format": 2, "dimension_separator": 7}',
        b"[" * 5000,
    ],
)
def test_a_document_that_says_nothing_leaves_the_usual_keys(text: bytes) -> None:
    writer = Writer()
    array = Array((4,), (1,), {(2,): value(2)}, encoding=None)
    root = writer.v2({"t": array}, {"t/zarr.json": writer.put(text)})
    assert ShardedTree(writer.blocks).get(root, b"t/c/2") == value(2)


def test_a_document_may_name_its_spelling_in_short() -> None:
    writer = Writer()
    document = json.loads(Array((2, 2), (1, 1)).document())
    for encoding, key in (("v2", b"t/0.1"), ("default", b"t/c/0/1")):
        document["chunk_key_encoding"] = encoding
        text = writer.put(json.dumps(document).encode())
        array = Array((2, 2), (1, 1), {(0, 1): value(2)}, encoding=None)
        assert ShardedTree(writer.blocks).get(writer.v2({"t": array}, {"t/zarr.json": text}), key) == value(2)
