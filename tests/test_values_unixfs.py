"""UnixFS files as values: sizes, ranges, what is read for them, and what cannot be read."""

import io
import json
import random
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree_unixfs_file import file_trees
from test_tree_unixfs_node import Store

from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.codec.dag_pb import (
    KIND_DIRECTORY,
    KIND_FILE,
    KIND_METADATA,
    KIND_SYMLINK,
    Mtime,
    PBLink,
    UnixfsData,
)
from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, NodeError, Refused
from mstfs.tree.unixfs.builder import build_file, gather
from mstfs.tree.unixfs.tree import UnixfsTree
from mstfs.values.interface import NO_ATTRIBUTES, ValueAttributes, ValueOptions
from mstfs.values.unixfs import UnixfsValues

KEY = b"any/key"


def values_of(store: Store, cache_bytes: int = 32 << 20) -> UnixfsValues:
    return UnixfsValues(UnixfsTree(store), ValueOptions(cache_bytes=cache_bytes))


def chunked(size: int, chunk: int) -> tuple[Store, bytes, bytes]:
    store = Store()
    data = random.Random(size).randbytes(size)
    return store, gather(build_file(io.BytesIO(data), chunk, links_per_node=4), store.put).cid, data


@given(file_trees(), st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=150)
def test_files_of_any_shape(tree: tuple[Store, bytes, bytes], offset: int, length: int) -> None:
    store, top, data = tree
    values = values_of(store)
    assert values.kind(KEY, top) == "blob"
    assert values.size(KEY, top) == len(data)
    assert values.read(KEY, top, offset, length) == data[offset : offset + length]
    assert values.load(KEY, top) == data
    assert values.attributes(KEY, top) == NO_ATTRIBUTES
    blocks = list(values.blocks(KEY, top))
    assert blocks[0] == (top, store.get(top))
    assert len({cid for cid, _ in blocks}) == len(blocks)
    # With these blocks alone the whole file reads.
    alone = Store()
    alone.put_many(blocks)
    assert values_of(alone).load(KEY, top) == data


def test_a_raw_file_is_not_read_to_be_listed() -> None:
    store = Store()
    cid = store.raw(b"content")
    values = values_of(store)
    store.reads.clear()
    assert values.kind(KEY, cid) == "blob"
    assert values.size(KEY, cid) == 7
    assert values.attributes(KEY, cid) == NO_ATTRIBUTES
    assert store.reads == []
    assert values.read(KEY, cid, 3, 2) == b"te"
    assert values.stored(cid) == b"content"


def test_identity_cids_are_files() -> None:
    values = values_of(Store())
    cid = cids.for_block(b"inside", cids.RAW, cids.IDENTITY)
    assert values.size(KEY, cid) == 6
    assert values.read(KEY, cid, 2, 100) == b"side"


@pytest.mark.parametrize("chunk", [1000, 40_000])
def test_a_chunk_is_fetched_once_for_all_pieces_of_it(chunk: int) -> None:
    store, top, data = chunked(20_000, chunk)
    values = values_of(store)
    store.reads.clear()
    for offset in range(0, len(data), 128):
        assert values.read(KEY, top, offset, 128) == data[offset : offset + 128]
    assert len(store.reads) == len(set(store.reads))


def test_only_the_blocks_of_a_range_are_fetched() -> None:
    store, top, data = chunked(100_000, 1000)
    values = values_of(store)
    store.reads.clear()
    assert values.read(KEY, top, 50_100, 500) == data[50_100:50_600]
    assert [cids.codec_of(cid) for cid in store.reads].count(cids.RAW) == 1
    assert values.read(KEY, top, 50_900, 200) == data[50_900:51_100]
    assert [cids.codec_of(cid) for cid in store.reads].count(cids.RAW) == 2


def test_the_memory_for_leaves_is_bounded() -> None:
    store, top, data = chunked(200_000, 1000)
    values = values_of(store, cache_bytes=20_000)
    for _ in range(2):
        store.reads.clear()
        assert values.read(KEY, top, 0, len(data)) == data
        assert len([cid for cid in store.reads if cids.codec_of(cid) == cids.RAW]) > 180
    # A block that is over its share is held as long as nothing else is read.
    big = store.raw(bytes(50_000))
    store.reads.clear()
    for offset in range(0, 50_000, 1000):
        assert values.read(KEY, big, offset, 1000) == bytes(1000)
    assert store.reads == [big]


def test_a_range_reads_although_others_are_missing() -> None:
    store, top, data = chunked(10_000, 1000)
    gone = cids.for_block(data[3000:4000], cids.RAW)
    store.delete(gone)
    values = values_of(store)
    assert values.size(KEY, top) == 10_000
    assert values.read(KEY, top, 0, 3000) == data[:3000]
    assert values.read(KEY, top, 4000, 9000) == data[4000:]
    with pytest.raises(MissingBlocks) as caught:
        values.read(KEY, top, 2999, 2)
    assert caught.value.cids == (gone,)
    with pytest.raises(MissingBlock):
        list(values.blocks(KEY, top))
    with pytest.raises(MissingBlocks):
        values.load(KEY, top)


def test_a_file_that_is_missing() -> None:
    values = values_of(Store())
    for cid in (cids.for_block(b"x", cids.RAW), cids.for_block(b"x", cids.DAG_PB)):
        for method in (values.size, values.load):
            with pytest.raises(MissingBlock):
                method(KEY, cid)
        with pytest.raises(MissingBlock):
            values.read(KEY, cid, 0, 1)
        with pytest.raises(MissingBlock):
            list(values.blocks(KEY, cid))


def test_a_part_that_is_not_what_its_parent_says_is_an_error() -> None:
    store = Store()
    lying = store.parts(b"", (store.raw(b"four"), 5))
    folder = store.parts(b"", (store.folder(), 4))
    values = values_of(store)
    assert values.size(KEY, lying) == 5
    for cid in (lying, folder):
        with pytest.raises(NodeError):
            values.read(KEY, cid, 0, 5)
    with pytest.raises(NodeError):
        list(values.blocks(KEY, folder))


def test_symbolic_links() -> None:
    store = Store()
    message = UnixfsData(KIND_SYMLINK, b"../to/\xff", mode=0o120777, mtime=Mtime(5))
    cid = store.node(message)
    values = values_of(store)
    assert values.kind(KEY, cid) == "symlink"
    assert values.size(KEY, cid) == 7
    assert values.read(KEY, cid, 0, 100) == values.load(KEY, cid) == b"../to/\xff"
    assert values.read(KEY, cid, 3, 2) == b"to"
    assert values.attributes(KEY, cid) == ValueAttributes(0o777, 5_000_000_000, symlink=True)
    assert list(values.blocks(KEY, cid)) == [(cid, store.get(cid))]


@pytest.mark.parametrize(
    ("mtime", "expected"),
    [
        (None, None),
        (Mtime(0), 0),
        (Mtime(1, 5), 1_000_000_005),
        (Mtime(-1, 999_999_999), -1),
        (Mtime(-2), -2_000_000_000),
        (Mtime(1, 1_000_000_000), None),
        (Mtime((1 << 63) - 1), (1 << 63) - 1),
        (Mtime(-(1 << 63)), -(1 << 63)),
        (Mtime(9_223_372_036, 854_775_807), (1 << 63) - 1),
        (Mtime(9_223_372_036, 854_775_806), (1 << 63) - 2),
    ],
)
def test_times(mtime: Mtime | None, expected: int | None) -> None:
    store = Store()
    values = values_of(store)
    for kind in (KIND_FILE, KIND_DIRECTORY):
        cid = store.node(UnixfsData(kind, filesize=0, mtime=mtime))
        assert values.attributes(KEY, cid).mtime_ns == expected


def test_modes_are_permission_bits() -> None:
    store = Store()
    values = values_of(store)
    for mode, expected in ((None, None), (0, 0), (0o100644, 0o644), (0o47777, 0o7777), (0xFFFFFFFF, 0o7777)):
        cid = store.node(UnixfsData(KIND_FILE, b"x", 1, mode=mode))
        assert values.attributes(KEY, cid) == ValueAttributes(expected)


def test_metadata_is_what_it_describes() -> None:
    store = Store()
    inner = store.parts(b"own", (store.raw(b"part"), 4))
    cid = store.node(UnixfsData(KIND_METADATA), PBLink(inner))
    values = values_of(store)
    assert values.kind(KEY, cid) == "blob"
    assert values.load(KEY, cid) == b"ownpart"
    assert [block for block, _ in values.blocks(KEY, cid)] == [cid, inner, store.raw(b"part")]


def test_directories_are_no_files() -> None:
    store = Store()
    values = values_of(store)
    cid = store.node(UnixfsData(KIND_DIRECTORY, mode=0o700))
    for described in (cid, store.node(UnixfsData(KIND_METADATA), PBLink(cid))):
        for method in (values.kind, values.size, values.load):
            with pytest.raises(NodeError):
                method(KEY, described)
        with pytest.raises(NodeError):
            values.read(KEY, described, 0, 1)
        with pytest.raises(NodeError):
            list(values.blocks(KEY, described))
        assert values.attributes(KEY, described) == ValueAttributes(0o700)


def test_a_file_that_claims_too_much_is_not_loaded() -> None:
    store = Store()
    cid = store.raw(bytes(1 << 16))
    size = 1 << 16
    for _ in range(10):
        cid, size = store.parts(b"", *[(cid, size)] * 16), size * 16
    values = values_of(store)
    assert values.size(KEY, cid) == size == 1 << 56
    with pytest.raises(LimitExceeded):
        values.load(KEY, cid)
    assert values.read(KEY, cid, size - 3, 100) == bytes(3)
    assert len(list(values.blocks(KEY, cid))) == 11


def test_nothing_is_made() -> None:
    values = values_of(Store())
    assert values.new_kind(KEY) == "blob"
    assert values.suffix == b""
    assert values.portable(KEY, b"other")
    with pytest.raises(Refused):
        values.make(KEY, "blob", lambda offset, length: b"", 0)
    with pytest.raises(Refused):
        values.make_loaded(KEY, b"")


def test_real_files(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "unixfs"
    with CarFile.open(folder / "unixfs_flat_tree.car", use_sidecar=False) as car:
        tree = UnixfsTree(car)
        values = UnixfsValues(tree, ValueOptions(cache_bytes=1 << 20))
        manifest = json.loads((folder / "unixfs_flat_tree.json").read_text())
        digests = {}
        for key, cid in tree.walk(car.roots[0]):
            data = values.load(key, cid)
            assert values.size(key, cid) == len(data)
            digests[key.decode()] = sha256(data).hexdigest()
    assert digests == {key.removeprefix("/"): digest for key, digest in manifest["sha256"].items()}


def test_a_real_symbolic_link(shared_fixtures: Path) -> None:
    with CarFile.open(
        shared_fixtures / "unixfs" / "gateway-conformance__symlink.car", use_sidecar=False
    ) as car:
        tree = UnixfsTree(car)
        values = UnixfsValues(tree, ValueOptions())
        kinds = {key: values.kind(key, cid) for key, cid in tree.walk(car.roots[0])}
        assert kinds == {b"bar": "symlink", b"foo": "blob"}
        assert values.load(b"bar", dict(tree.walk(car.roots[0]))[b"bar"]) == b"foo"


def test_a_real_file_with_a_missing_block(shared_fixtures: Path) -> None:
    name = "gateway-conformance__file-3k-and-3-blocks-missing-block.car"
    with CarFile.open(shared_fixtures / "unixfs" / name, use_sidecar=False) as car:
        values = UnixfsValues(UnixfsTree(car), ValueOptions())
        root = car.roots[0]
        size = values.size(KEY, root)
        assert size == 3 * 1024
        assert len(values.read(KEY, root, 0, 1024)) == 1024
        assert len(values.read(KEY, root, 2048, 5000)) == 1024
        with pytest.raises(MissingBlocks):
            values.read(KEY, root, 1024, 1)
