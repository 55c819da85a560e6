"""Directories, plain and sharded: listing, looking up, missing shards, shards that no writer would make."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree_unixfs_node import Store

from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.codec.dag_pb import KIND_DIRECTORY, KIND_METADATA, PBLink, UnixfsData
from mstfs.errors import MissingBlock, MissingBlocks, MstfsError, NodeError
from mstfs.tree.unixfs.builder import build_directory, build_sharded, gather
from mstfs.tree.unixfs.directory import Dirent
from mstfs.tree.unixfs.murmur3 import murmur3
from mstfs.tree.unixfs.node import slot_prefix
from mstfs.tree.unixfs.tree import UnixfsTree

LEAF = cids.for_block(b"abc", cids.RAW)
OTHER = cids.for_block(b"other", cids.RAW)

HOSTILE = [b"..", b".", b"a\0b", b"\xff\xfe", b"../../etc/passwd", b"/", b"00", b"FF", b"\n", b"x" * 3000]


def numbered(count: int) -> list[Dirent]:
    return [
        Dirent(b"file-%04d" % number, cids.for_block(b"%d" % number, cids.RAW), number)
        for number in range(count)
    ]


def sharded(count: int, fanout: int = 256) -> tuple[Store, bytes, list[Dirent]]:
    store = Store()
    rows = numbered(count)
    return store, gather(build_sharded(rows, fanout=fanout), store.put).cid, rows


names = st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from(HOSTILE))


@given(
    st.dictionaries(names, st.sampled_from([LEAF, OTHER]), max_size=40),
    st.sampled_from([8, 16, 128, 256, 1024]),
)
@settings(max_examples=100)
def test_shards_hold_what_was_put_in(plain: dict[bytes, bytes], fanout: int) -> None:
    store = Store()
    rows = [Dirent(name, cid, 7) for name, cid in plain.items()]
    root = gather(build_sharded(rows, fanout=fanout), store.put).cid
    tree = UnixfsTree(store)
    assert sorted(tree.entries(root)) == sorted(rows)
    for name, cid in plain.items():
        assert tree.lookup(root, name) == cid
    assert tree.lookup(root, b"absent name") is None
    assert tree.lookup(root, b"") is None


@given(st.dictionaries(names, st.sampled_from([LEAF, OTHER]), max_size=20))
def test_plain_directories_hold_what_was_put_in(plain: dict[bytes, bytes]) -> None:
    store = Store()
    root = store.folder(*plain.items())
    tree = UnixfsTree(store)
    assert [(name, cid) for name, cid, _ in tree.entries(root)] == list(plain.items())
    for name, cid in plain.items():
        assert tree.lookup(root, name) == cid
    assert tree.lookup(root, b"absent name") is None


def test_a_lookup_reads_one_path() -> None:
    store, root, rows = sharded(2000)
    for row in rows[::100]:
        store.reads.clear()
        assert UnixfsTree(store).lookup(root, row.name) == row.cid
        assert len(store.reads) <= 3


def test_a_huge_plain_directory_is_not_read_for_every_name() -> None:
    store = Store()
    root = store.folder(*[(b"%05d" % number, LEAF) for number in range(20000)])
    tree = UnixfsTree(store, cache_bytes=1 << 20)
    for number in range(0, 20000, 1000):
        assert tree.lookup(root, b"%05d" % number) == LEAF
    assert len(store.reads) == 1


def test_children_are_not_read() -> None:
    store, root, rows = sharded(300)
    assert not store.has(rows[0].cid)
    assert sorted(UnixfsTree(store).entries(root)) == rows
    plain = gather(build_directory(rows), store.put).cid
    assert list(UnixfsTree(store).entries(plain)) == rows


def test_the_first_of_equal_names_wins() -> None:
    store = Store()
    plain = store.folder((b"a", LEAF), (b"b", OTHER), (b"a", OTHER))
    prefix = slot_prefix(256, murmur3(b"a") >> 56)
    shard = store.shard((prefix + b"a", LEAF), (prefix + b"a", OTHER))
    tree = UnixfsTree(store)
    for root in (plain, shard):
        assert tree.lookup(root, b"a") == LEAF
        assert [dirent.cid for dirent in tree.entries(root) if dirent.name == b"a"] == [LEAF]


def test_names_come_out_as_they_are() -> None:
    store = Store()
    plain = store.folder(*[(name, LEAF) for name in [b"", *HOSTILE]])
    assert [dirent.name for dirent in UnixfsTree(store).entries(plain)] == [b"", *HOSTILE]
    assert UnixfsTree(store).lookup(plain, b"") == LEAF


def test_absent_names_and_sizes_are_empty() -> None:
    store = Store()
    root = store.node(UnixfsData(KIND_DIRECTORY), PBLink(LEAF))
    assert list(UnixfsTree(store).entries(root)) == [Dirent(b"", LEAF, 0)]


def test_missing_shards_are_told_and_the_rest_lists() -> None:
    store, root, rows = sharded(2000)
    whole = UnixfsTree(store)
    subs = [
        link
        for name, link in zip(whole.node(root).names, whole.node(root).links, strict=True)
        if len(name) == 2
    ]
    gone = subs[3:6]
    for cid in gone:
        store.delete(cid)
    tree = UnixfsTree(store)
    told: list[MstfsError] = []
    found = list(tree.entries(root, told.append))
    assert [error.cid for error in told if isinstance(error, MissingBlock)] == gone
    assert 0 < len(rows) - len(found) < 60
    assert set(found) < set(rows)
    seen: list[Dirent] = []
    with pytest.raises(MissingBlocks) as error:
        seen.extend(tree.entries(root))
    assert error.value.cids == tuple(gone)
    # A name in a shard that is there is found, another one is not called absent.
    assert tree.lookup(root, found[0].name) == found[0].cid
    lost = next(row for row in rows if row not in set(found))
    with pytest.raises(MissingBlock):
        tree.lookup(root, lost.name)


def test_a_partial_listing_is_not_kept() -> None:
    store, root, rows = sharded(600)
    whole = UnixfsTree(store).node(root)
    gone = next(link for name, link in zip(whole.names, whole.links, strict=True) if len(name) == 2)
    block = store.get(gone)
    store.delete(gone)
    tree = UnixfsTree(store)
    told: list[MstfsError] = []
    for _ in range(2):
        assert len(tree.listing(root, told.append).names) < 600
    assert len(told) == 2
    store.put(gone, block)
    assert tree.listing(root).names == [row.name for row in rows]
    store.reads.clear()
    tree.listing(root)
    assert store.reads == []


def test_a_shard_that_is_linked_twice_is_read_once() -> None:
    store = Store()
    below = store.shard((b"00a", LEAF))
    for _ in range(5):
        below = store.shard(*[(slot_prefix(256, slot), below) for slot in range(256)])
    told: list[MstfsError] = []
    assert [dirent.name for dirent in UnixfsTree(store).entries(below, told.append)] == [b"a"]
    assert len(told) == 5 * 255
    with pytest.raises(NodeError) as error:
        list(UnixfsTree(store).entries(below))
    assert error.value.rule == "repeated-node"


@pytest.mark.parametrize(("fanout", "levels"), [(256, 8), (8, 21), (1024, 6)])
def test_shards_end_where_the_hash_ends(fanout: int, levels: int) -> None:
    store = Store()
    hashed = murmur3(b"a")
    bits = fanout.bit_length() - 1

    def chain(length: int) -> bytes:
        way = [hashed >> 64 - bits * (level + 1) & fanout - 1 for level in range(min(length, levels))]
        way += [0] * (length - len(way))
        cid = store.shard((slot_prefix(fanout, way[-1]) + b"a", LEAF), fanout=fanout)
        for slot in reversed(way[:-1]):
            cid = store.shard((slot_prefix(fanout, slot), cid), fanout=fanout)
        return cid

    tree = UnixfsTree(store)
    assert tree.lookup(chain(levels), b"a") == LEAF
    assert len(list(tree.entries(chain(levels)))) == 1
    deep = chain(levels + 1)
    for read in (lambda: tree.lookup(deep, b"a"), lambda: list(tree.entries(deep))):
        with pytest.raises(NodeError) as error:
            read()
        assert error.value.rule == "shard-depth"


@pytest.mark.parametrize("child", ["raw", "folder"])
def test_only_shards_hang_below_shards(child: str) -> None:
    store = Store()
    below = store.raw(b"abc") if child == "raw" else store.folder()
    root = store.shard((slot_prefix(256, murmur3(b"a") >> 56), below))
    tree = UnixfsTree(store)
    for read in (lambda: tree.lookup(root, b"a"), lambda: list(tree.entries(root))):
        with pytest.raises(NodeError) as error:
            read()
        assert error.value.rule == "shard-child"


def test_an_unknown_hash_function_lists_and_does_not_look_up() -> None:
    store = Store()
    root = store.shard((b"00a", LEAF), hash_type=0x12)
    tree = UnixfsTree(store)
    assert [dirent.name for dirent in tree.entries(root)] == [b"a"]
    with pytest.raises(NodeError) as error:
        tree.lookup(root, b"a")
    assert error.value.rule == "shard-hash"


def test_shards_of_several_fanouts_are_read() -> None:
    store = Store()
    hashed = murmur3(b"a")
    below = store.shard((slot_prefix(16, hashed >> 52 & 15) + b"a", LEAF), fanout=16)
    root = store.shard((slot_prefix(256, hashed >> 56), below))
    tree = UnixfsTree(store)
    assert tree.lookup(root, b"a") == LEAF
    assert [dirent.name for dirent in tree.entries(root)] == [b"a"]


def test_a_listing_has_only_names_that_can_stand_in_a_path() -> None:
    store = Store()
    root = store.folder((b"b", LEAF), (b"a/b", LEAF), (b"", LEAF), (b"..", LEAF), (b"a\0", LEAF))
    tree = UnixfsTree(store)
    told: list[MstfsError] = []
    assert tree.listing(root, told.append).names == [b"..", b"a\0", b"b"]
    assert [type(error) for error in told] == [NodeError]
    with pytest.raises(NodeError, match="slash"):
        tree.listing(root)


def test_metadata_of_a_directory_is_the_directory() -> None:
    store = Store()
    root = store.node(UnixfsData(KIND_METADATA), PBLink(store.folder((b"a", LEAF))))
    assert UnixfsTree(store).lookup(root, b"a") == LEAF


def test_a_real_sharded_directory(shared_fixtures: Path, tmp_path: Path) -> None:
    path = shared_fixtures / "unixfs" / "gateway-conformance__single-layer-hamt-with-multi-block-files.car"
    with CarFile.open(path, index=tmp_path / "index") as car:
        tree = UnixfsTree(car)
        (root,) = car.roots
        rows = list(tree.entries(root))
        assert sorted(row.name for row in rows) == sorted(b"%d.txt" % number for number in range(1, 1001))
        for row in rows:
            assert tree.lookup(root, row.name) == row.cid
        assert tree.lookup(root, b"1001.txt") is None
        assert tree.attributes(rows[0].cid).size == 1026
        # Listed the same way, so built the same way: every shard comes out again.
        blocks = dict(build_sharded(rows))
        assert gather(build_sharded(rows), lambda cid, block: None).cid == root
        assert all(car.get(cid) == block for cid, block in blocks.items())
