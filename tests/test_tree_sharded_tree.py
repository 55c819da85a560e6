"""Sharded Zarr stores against a plain dictionary: get, seek, page, walk, nodes, diff; hostile manifests."""

from collections.abc import Iterator
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiformats import CID
from naive_sharded import GRID, Array, Writer, big, expected, grid_of, value

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import MissingBlock, MissingBlocks, MstfsError, NodeError, Refused
from mstfs.tree.interface import Change, Edit, Entry
from mstfs.tree.kinds import SHARDED_ZARR, sniff
from mstfs.tree.sharded.tree import EMPTY_BLOCK, EMPTY_CID, ShardedTree
from mstfs.tree.unixfs.builder import build_file, gather
from mstfs.tree.unixfs.tree import UnixfsTree

# --- against a dictionary ---------------------------------------------------------------------------


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    rank = draw(st.integers(0, 3))
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 9, 23, 120]), min_size=rank, max_size=rank)))
    chunk_shape = tuple(draw(st.lists(st.sampled_from([1, 2, 9]), min_size=rank, max_size=rank)))
    grid = grid_of(shape, chunk_shape)
    array = Array(
        shape,
        chunk_shape,
        per_shard=draw(st.sampled_from([1, 3, 7, 100])),
        encoding=draw(st.sampled_from(["default", "v2"])),
        separator=draw(st.sampled_from(["/", "."])),
        zarr_format=draw(st.sampled_from([2, 3])),
    )
    if 0 in grid:
        return array
    cells = st.tuples(*[st.integers(0, size - 1) for size in grid])
    chosen = draw(st.lists(cells, max_size=30))
    if draw(st.booleans()):
        # A run along the last dimension, over the ends of shards and of tens.
        chosen += [(*at[:-1], number) for at in chosen[:1] if at for number in range(min(grid[-1], 45))]
    for number, at in enumerate(chosen):
        array.chunks[at] = value(number)
    return array


paths = st.sampled_from(["", "t", "t/c", "t/c/1", "t/d", "t1", "\xe9", "u/v/w"])
stores = st.dictionaries(paths, arrays(), max_size=4)
metadata = st.dictionaries(
    st.sampled_from(
        ["zarr.json", "t/zarr.json", "t/c/0", "t/c/10/1", "t.x", "u/v/zarr.json", "c/0", "/odd", ""]
    ),
    st.integers(1000, 1010).map(value),
    max_size=4,
)
keys = st.sampled_from(
    [
        b"",
        b"t",
        b"t/",
        b"t/c",
        b"t/c/",
        b"t/c/1",
        b"t/c/1/",
        b"t/c/10",
        b"t/c/2",
        b"c/1",
        b"t/1.",
        b"1.1",
        b"u",
        b"\xff",
    ]
)


@given(stores, metadata, keys, keys, st.none() | st.integers(0, 40))
@settings(max_examples=300)
def test_against_a_dictionary(
    given: dict[str, Array], more: dict[str, bytes], prefix: bytes, after: bytes, limit: int | None
) -> None:
    # A document at a key that is drawn too would say that there is no array.
    more = {key: cid for key, cid in more.items() if key.removesuffix("zarr.json").rstrip("/") not in given}
    writer = Writer()
    root = writer.v2(given, more)
    tree = ShardedTree(writer.blocks)
    plain = expected(writer, given, more)
    order = sorted(plain)
    assert list(tree.walk(root)) == [Entry(key, plain[key]) for key in order]
    wanted = [key for key in order if key.startswith(prefix)]
    assert [entry.key for entry in tree.walk(root, prefix)] == wanted
    behind = [key for key in wanted if key > after]
    assert [entry.key for entry in tree.page(root, prefix, after, limit)] == behind[:limit]
    assert tree.seek(root, after) == next((Entry(key, plain[key]) for key in order if key >= after), None)
    for key in [*order, prefix, after, *(key + b"0" for key in order), *(key[:-1] for key in order)]:
        assert tree.get(root, key) == plain.get(key)


@given(stores, stores, metadata)
@settings(max_examples=150)
def test_differences_against_a_dictionary(
    one: dict[str, Array], other: dict[str, Array], more: dict[str, bytes]
) -> None:
    more = {key: cid for key, cid in more.items() if not key.endswith("zarr.json")}
    writer = Writer()
    a, b = writer.v2(one, more), writer.v2(other)
    before, after = expected(writer, one, more), expected(writer, other, {})
    diff = ShardedTree(writer.blocks).diff(a, b)
    assert diff.changes == tuple(
        Change(key, before.get(key), after.get(key))
        for key in sorted(before | after)
        if before.get(key) != after.get(key)
    )
    tree = ShardedTree(writer.blocks)
    nodes = [frozenset(cid for cid, _ in tree.nodes(root)) for root in (a, b)]
    assert [diff.created, diff.deleted] == [nodes[1] - nodes[0], nodes[0] - nodes[1]]


@given(arrays(), st.integers(0, 40), st.data())
@settings(max_examples=150)
def test_difference_after_growing(array: Array, more: int, data: st.DataObject) -> None:
    """Appending along the first dimension: shards stay as they are, but for the last one."""
    if not array.shape or 0 in array.shape:
        return
    writer = Writer()
    grown = Array(
        (array.shape[0] + more, *array.shape[1:]),
        array.chunk_shape,
        dict(array.chunks),
        array.per_shard,
        array.encoding,
        array.separator,
        array.zarr_format,
    )
    grid = grid_of(grown.shape, grown.chunk_shape)
    for number in range(data.draw(st.integers(0, 3))):
        at = tuple(data.draw(st.integers(0, size - 1)) for size in grid)
        grown.chunks[at] = value(500 + number)
    roots = [writer.v2({"t": array}), writer.v2({"t": grown})]
    held = [expected(writer, {"t": one}, {}) for one in (array, grown)]
    for a, b in ((0, 1), (1, 0)):
        diff = ShardedTree(writer.blocks).diff(roots[a], roots[b])
        assert [change.key for change in diff.changes] == [
            key for key in sorted(held[0] | held[1]) if held[0].get(key) != held[1].get(key)
        ]


def test_chunks_behind_the_end_count_once_the_array_reaches_them() -> None:
    """One shard, two shapes: what the shorter array does not reach is none of its keys."""
    writer = Writer()
    cid = writer.shard([value(0), value(1), value(2), value(3)])
    roots = []
    for size in (2, 4):
        row = writer.row(Array((size,), (1,)))
        row["shard_cids"] = [CID.decode(cid)]
        roots.append(writer.v2({}, arrays={"t": row}))
    tree = ShardedTree(writer.blocks)
    assert [entry.key for entry in tree.walk(roots[0])] == [b"t/c/0", b"t/c/1"]
    assert tree.get(roots[0], b"t/c/2") is None
    assert [change.key for change in tree.diff(*roots).changes] == [b"t/c/2", b"t/c/3"]
    assert [change.new for change in tree.diff(*reversed(roots)).changes] == [None, None]


# --- version 1 ----------------------------------------------------------------------------------------


def listed(writer: Writer, root: bytes) -> list[bytes]:
    tree = ShardedTree(writer.blocks)
    found = list(tree.walk(root))
    assert all(tree.get(root, key) == cid for key, cid in found)
    return [key for key, _ in found if not key.endswith(b"zarr.json")]


def test_version_1_with_a_recorded_path() -> None:
    writer = Writer()
    root = writer.v1(GRID, {"time/c/0": value(5)}, primary="/temp/")
    assert listed(writer, root) == [b"temp/c/0/0", b"temp/c/1/1", b"time/c/0"]
    assert listed(writer, writer.v1(GRID, primary="")) == [b"c/0/0", b"c/1/1"]


def test_version_1_finds_its_array_by_shape() -> None:
    writer = Writer()
    others = {"time": GRID, "rain": Array((2, 6), (1, 2)), "group": Array((), ())}
    root = writer.v1(GRID, documents={"a/temp": GRID, **others})
    assert listed(writer, root) == [b"a/temp/c/0/0", b"a/temp/c/1/1"]
    assert listed(writer, writer.v1(GRID, documents=others)) == [b"c/0/0", b"c/1/1"]
    assert listed(writer, writer.v1(GRID, documents={"": GRID})) == [b"c/0/0", b"c/1/1"]


def test_version_1_whose_chunks_could_be_those_of_several_arrays() -> None:
    writer = Writer()
    root = writer.v1(GRID, documents={"rain": GRID, "temp": GRID})
    assert listed(writer, root) == [b"rain/c/0/0", b"rain/c/1/1", b"temp/c/0/0", b"temp/c/1/1"]


def test_version_1_without_a_path_prefers_its_metadata_at_the_root() -> None:
    writer = Writer()
    tree = ShardedTree(writer.blocks)
    more = {"c/0/0": value(9)}
    root = writer.v1(GRID, more)
    assert tree.get(root, b"c/0/0") == value(9)
    assert list(tree.walk(root)) == [Entry(b"c/0/0", value(9)), Entry(b"c/1/1", value(2))]
    root = writer.v1(GRID, more, primary="")
    assert tree.get(root, b"c/0/0") == value(1)
    assert list(tree.walk(root)) == [Entry(b"c/0/0", value(1)), Entry(b"c/1/1", value(2))]


def test_version_1_says_what_it_misses_to_find_its_array() -> None:
    writer = Writer()
    root = writer.v1(GRID, {"time/c/0": value(5)}, documents={"temp": GRID})
    missing = writer.put(GRID.document())
    writer.blocks.delete(missing)
    tree = ShardedTree(writer.blocks)
    told: list[MstfsError] = []
    assert [entry.key for entry in tree.walk(root, on_missing=told.append)] == [
        b"temp/zarr.json",
        b"time/c/0",
    ]
    assert [getattr(error, "cid", None) for error in told] == [missing]
    with pytest.raises(MissingBlock):
        tree.get(root, b"temp/c/0/0")
    with pytest.raises(MissingBlock):
        list(tree.walk(root))


# --- what is read -------------------------------------------------------------------------------------


class Counting(BlockReader):
    """Remembers what was asked for."""

    def __init__(self, blocks: BlockReader) -> None:
        self.blocks = blocks
        self.read: list[bytes] = []

    def get(self, cid: bytes) -> bytes:
        self.read.append(cid)
        return self.blocks.get(cid)

    def has(self, cid: bytes) -> bool:
        return self.blocks.has(cid)

    def length(self, cid: bytes) -> int:
        return self.blocks.length(cid)


def shards_of(writer: Writer, root: bytes) -> list[bytes]:
    return [cid for cid, _ in ShardedTree(writer.blocks).nodes(root)][1:]


def test_a_look_up_reads_one_shard() -> None:
    writer = Writer()
    root = writer.v2({"t": big(100, 10), "u": big(100, 10, 1000)})
    blocks = Counting(writer.blocks)
    tree = ShardedTree(blocks)
    assert tree.get(root, b"t/zarr.json") is not None
    assert blocks.read == [root]
    assert tree.get(root, b"t/c/37") == value(37)
    document = tree.get(root, b"t/zarr.json")
    assert blocks.read == [root, document, shards_of(writer, root)[3]]


def test_a_page_reads_only_shards_that_it_needs() -> None:
    writer = Writer()
    root = writer.v2({"t": big(1000, 10), "u": big(1000, 10, 5000)})
    blocks = Counting(writer.blocks)
    tree = ShardedTree(blocks)
    assert [entry.key for entry in tree.page(root, b"t/c/50", limit=4)] == [
        b"t/c/50",
        b"t/c/500",
        b"t/c/501",
        b"t/c/502",
    ]
    assert len(blocks.read) == 1 + 1 + 2
    # From the chunks to what stands behind them, as a listing of a folder does.
    assert tree.seek(root, b"t/c0") == Entry(b"t/zarr.json", tree.get(root, b"t/zarr.json") or b"")
    assert len(blocks.read) == 1 + 1 + 2


def test_each_shard_is_read_once_in_a_walk() -> None:
    writer = Writer()
    root = writer.v2({"t": big(2000, 30)})
    blocks = Counting(writer.blocks)
    assert len(list(ShardedTree(blocks).walk(root))) == 2001
    assert len(blocks.read) == len(set(blocks.read)) == 1 + 1 + 67


def test_a_difference_reads_only_changed_shards() -> None:
    writer = Writer()
    array = big(1000, 10)
    a = writer.v2({"t": array})
    array.chunks[(500,)] = value(9999)
    b = writer.v2({"t": array})
    blocks = Counting(writer.blocks)
    diff = ShardedTree(blocks).diff(a, b)
    assert diff.changes == (Change(b"t/c/500", value(500), value(9999)),)
    assert len(blocks.read) == 2 + 1 + 2
    assert len(diff.created) == len(diff.deleted) == 2


# --- what is missing ----------------------------------------------------------------------------------


def test_missing_shards() -> None:
    writer = Writer()
    root = writer.v2({"t": big(40, 10), "u": big(20, 10, 100)})
    shards = shards_of(writer, root)
    for at in (1, 3):
        writer.blocks.delete(shards[at])
    tree = ShardedTree(writer.blocks)
    told: list[MstfsError] = []
    found = [entry.key for entry in tree.walk(root, b"t/", on_missing=told.append)]
    numbers = [number for number in range(40) if number // 10 not in (1, 3)]
    assert found == [*sorted(b"t/c/%d" % number for number in numbers), b"t/zarr.json"]
    assert sorted(error.cid for error in told if isinstance(error, MissingBlock)) == sorted(
        (shards[1], shards[3])
    )
    with pytest.raises(MissingBlocks) as raised:
        list(tree.walk(root))
    assert set(raised.value.cids) == {shards[1], shards[3]}
    with pytest.raises(MissingBlock) as one:
        tree.get(root, b"t/c/15")
    assert one.value.cid == shards[1]
    assert tree.get(root, b"t/c/5") == value(5)
    assert len(tree.page(root, b"u/")) == 21
    with pytest.raises(MissingBlocks) as both:
        tree.diff(root, EMPTY_CID if writer.put(EMPTY_BLOCK, cids.DAG_CBOR) else b"")
    assert set(both.value.cids) == {shards[1], shards[3]}


def test_a_missing_root_and_a_missing_document() -> None:
    writer = Writer()
    array = big(4, 4)
    root = writer.v2({"t": array})
    writer.blocks.delete(cids.for_block(array.document(), cids.RAW))
    tree = ShardedTree(writer.blocks)
    told: list[MstfsError] = []
    assert [entry.key for entry in tree.walk(root, on_missing=told.append)] == [b"t/zarr.json"]
    assert len(told) == 1
    with pytest.raises(MissingBlock):
        tree.get(root, b"t/c/0")
    writer.blocks.delete(root)
    tree = ShardedTree(writer.blocks)
    assert tree.page(root, on_missing=told.append) == []
    with pytest.raises(MissingBlock):
        tree.page(root)


# --- UnixFS files where blocks would do ----------------------------------------------------------------


def as_file(writer: Writer, data: bytes) -> bytes:
    return gather(build_file(BytesIO(data), chunk_bytes=1000), writer.blocks.put).cid


def test_shards_and_manifests_that_kubo_split() -> None:
    writer = Writer()
    array = big(200, 100)
    row = writer.row(array)
    plain = [CID.decode(bytes(cid)) for cid in row["shard_cids"]]
    row["shard_cids"] = [CID.decode(as_file(writer, writer.blocks.get(bytes(cid)))) for cid in plain]
    root = writer.v2({"t": array}, arrays={"t": row})
    top = as_file(writer, writer.blocks.get(root))
    tree = ShardedTree(writer.blocks, UnixfsTree(writer.blocks))
    for one in (root, top):
        assert [entry.key for entry in tree.walk(one, b"t/c/")] == sorted(b"t/c/%d" % at for at in range(200))
        assert tree.get(one, b"t/c/150") == value(150)
    nodes = dict(tree.nodes(top))
    assert set(row["shard_cids"]) <= {CID.decode(cid) for cid in nodes}
    leaf = next(cid for cid in nodes if cids.codec_of(cid) == cids.RAW)
    diff = tree.diff(writer.v2({"t": array}), root)
    assert len(diff.created) > 3
    assert diff.changes == ()
    with pytest.raises(NodeError, match="UnixFS"):
        ShardedTree(writer.blocks).get(root, b"t/c/1")
    writer.blocks.delete(leaf)
    with pytest.raises(MissingBlock):
        list(ShardedTree(writer.blocks, UnixfsTree(writer.blocks)).walk(top))


# --- the rest of the interface -----------------------------------------------------------------------------


def test_what_a_read_only_tree_says_to_edits() -> None:
    writer = Writer()
    root = writer.v2({"t": GRID})
    with pytest.raises(Refused):
        ShardedTree(writer.blocks).apply(root, [Edit(b"a", None)])


def test_the_empty_store_and_sniffing() -> None:
    writer = Writer()
    cid, block = ShardedTree(writer.blocks).empty()
    assert writer.put(block, cids.DAG_CBOR) == cid
    assert ShardedTree(writer.blocks).page(cid) == []
    roots = [cid, writer.v2({"t": GRID}), writer.v1(GRID)]
    assert [sniff(root, writer.blocks.get(root)) for root in roots] == [SHARDED_ZARR] * 3
    assert SHARDED_ZARR.open(writer.blocks).get(roots[1], b"t/c/0/0") == value(1)


def test_nodes_come_once_in_pre_order() -> None:
    writer = Writer()
    array = big(20, 10)
    for number in range(20):
        array.chunks[(number,)] = value(number % 10)
    root = writer.v2({"t": array, "u": array})
    found = list(ShardedTree(writer.blocks).nodes(root))
    assert [cid for cid, _ in found] == [root, writer.shard([value(number) for number in range(10)])]
    assert all(cids.matches(cid, block) for cid, block in found)


def test_walks_are_lazy() -> None:
    writer = Writer()
    root = writer.v2({"t": big(10, 5), "u": big(10, 5, 50)})
    writer.blocks.delete(shards_of(writer, root)[3])
    walk: Iterator[Entry] = ShardedTree(writer.blocks).walk(root)
    assert next(walk).key == b"t/c/0"
