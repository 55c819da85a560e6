"""The verifier of UnixFS trees: real trees pass, and each broken rule is found and named."""

from collections.abc import Callable
from pathlib import Path

import pytest
from test_tree_unixfs_node import Store

from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.codec import dag_pb
from mstfs.codec.dag_pb import (
    KIND_DIRECTORY,
    KIND_FILE,
    KIND_METADATA,
    KIND_SHARD,
    KIND_SYMLINK,
    Mtime,
    PBLink,
    PBNode,
    UnixfsData,
)
from mstfs.limits import NODE_BYTES
from mstfs.tree.unixfs.murmur3 import murmur3
from mstfs.tree.unixfs.node import MURMUR3, slot_prefix
from mstfs.tree.unixfs.verify import DEPTH, TreeVerification, verify_tree

FOLDER = UnixfsData(KIND_DIRECTORY)


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("gateway-conformance__dir-with-files", []),
        ("gateway-conformance__file-3k-and-3-blocks-missing-block", ["missing-block"]),
        ("gateway-conformance__single-layer-hamt-with-multi-block-files", []),
        ("gateway-conformance__symlink", []),
        ("go-car__sample-unixfs-v2", []),
        ("go-car__simple-unixfs", []),
        ("go-car__simple-unixfs-missing-blocks", ["missing-block"] * 3),
        ("unixfs_flat_tree", []),
    ],
)
def test_real_trees(name: str, rules: list[str], shared_fixtures: Path, tmp_path: Path) -> None:
    with CarFile.open(shared_fixtures / "unixfs" / f"{name}.car", index=tmp_path / "index") as car:
        verification = TreeVerification(car, car.roots[0])
        assert [defect.rule for defect in verification] == rules
        assert verification.blocks_read == car.block_count
        assert verification.complete == (not rules)


def slot_of(name: bytes, fanout: int = 256) -> bytes:
    return slot_prefix(fanout, murmur3(name) >> 64 - (fanout.bit_length() - 1))


def shard(store: Store, *rows: tuple[bytes, bytes], **options: int) -> bytes:
    return store.shard(*sorted([(slot_of(name) + name, cid) for name, cid in rows]), **options)


def leaf(store: Store) -> bytes:
    # One byte, as all the links made here say.
    return store.raw(b"1")


def form_of_links(store: Store) -> bytes:
    return store.folder((b"b", leaf(store)), (b"a", leaf(store)))


def form_of_data(store: Store) -> bytes:
    block = dag_pb.encode(PBNode((), dag_pb.encode_data(FOLDER) + b"\x48\x01"))
    cid = cids.for_block(block, cids.DAG_PB)
    store.put(cid, block)
    return cid


def data_in_front(store: Store) -> bytes:
    data = dag_pb.encode(PBNode((), dag_pb.encode_data(FOLDER)))
    block = data + dag_pb.encode(PBNode((PBLink(leaf(store), b"a", 1),)))
    cid = cids.for_block(block, cids.DAG_PB)
    store.put(cid, block)
    return cid


def corrupt(store: Store) -> bytes:
    cid = cids.for_block(b"abc", cids.RAW)
    store.plant(cid, b"abd")
    return cid


def weak(store: Store) -> bytes:
    cid = bytes((1, cids.RAW, cids.SHA2_256, 8)) + cids.hash_of(cids.for_block(b"abc", cids.RAW))[1][:8]
    store.plant(cid, b"abc")
    return store.folder((b"a", cid))


def large(store: Store) -> bytes:
    cid = cids.for_block(bytes(NODE_BYTES + 1), cids.DAG_PB)
    store.put(cid, bytes(NODE_BYTES + 1))
    return cid


def repeated_shard(store: Store) -> bytes:
    below = shard(store, (b"a", leaf(store)), (b"b", leaf(store)))
    return store.shard((b"00", below), (b"01", below))


def sub_shard(names: int) -> Callable[[Store], bytes]:
    # Names whose hashes begin with the same byte, in a shard below the topmost one.
    def make(store: Store) -> bytes:
        found: list[tuple[int, bytes]] = []
        number = 0
        while len(found) < names:
            hashed = murmur3(b"%d" % number)
            if hashed >> 56 == 0:
                found.append((hashed >> 48 & 255, b"%d" % number))
            number += 1
        below = store.shard(*[(slot_prefix(256, slot) + name, leaf(store)) for slot, name in sorted(found)])
        return store.shard((b"00", below))

    return make


def mixed(store: Store) -> bytes:
    below = store.shard((slot_prefix(16, murmur3(b"a") >> 52 & 15) + b"a", leaf(store)), fanout=16)
    return store.shard((slot_of(b"a"), below))


def deep_shards(store: Store) -> bytes:
    cid = store.shard()
    for _ in range(8):
        cid = store.shard((b"00", cid))
    return cid


def deep_folders(store: Store) -> bytes:
    cid = leaf(store)
    for _ in range(DEPTH + 2):
        cid = store.folder((b"a", cid))
    return cid


CROOKED: list[tuple[str, Callable[[Store], bytes]]] = [
    ("missing-block", lambda store: cids.for_block(b"nowhere", cids.RAW)),
    ("block-hash", corrupt),
    ("block-hash-unknown", weak),
    ("limit", large),
    ("codec", lambda store: store.folder((b"a", cids.for_block(b"", cids.IDENTITY, cids.IDENTITY)))),
    ("unixfs-data", lambda store: store.node(None)),
    ("file-size", lambda store: store.node(UnixfsData(KIND_FILE, b"abc", 4))),
    ("file-links", lambda store: store.node(UnixfsData(KIND_FILE), PBLink(leaf(store), b"", 1))),
    ("shard-fanout", lambda store: store.node(UnixfsData(KIND_SHARD, fanout=1 << 30))),
    (
        "shard-name",
        lambda store: store.node(UnixfsData(KIND_SHARD, fanout=256), PBLink(leaf(store), b"x", 1)),
    ),
    ("dag-pb-form", form_of_links),
    ("dag-pb-form", data_in_front),
    ("unixfs-form", form_of_data),
    ("unixfs-mtime", lambda store: store.node(UnixfsData(KIND_DIRECTORY, mtime=Mtime(1, 0)))),
    ("unixfs-mtime", lambda store: store.node(UnixfsData(KIND_DIRECTORY, mtime=Mtime(1, 10**9)))),
    ("file-child", lambda store: store.parts(b"", (store.folder(), 1))),
    ("child-size", lambda store: store.parts(b"", (leaf(store), 2))),
    ("child-size", lambda store: store.parts(b"", (leaf(store), 1), (leaf(store), 2))),
    ("link-size", lambda store: store.folder((b"a", store.raw(b"two")))),
    ("entry-name", lambda store: store.folder((b"..", leaf(store)))),
    ("entry-name", lambda store: store.folder((b"a\0", leaf(store)))),
    ("entry-name", lambda store: shard(store, (b"a/b", leaf(store)))),
    ("entry-duplicate", lambda store: store.folder((b"a", leaf(store)), (b"a", leaf(store)))),
    ("symlink-links", lambda store: store.node(UnixfsData(KIND_SYMLINK, b"a"), PBLink(leaf(store), b"", 1))),
    ("metadata", lambda store: store.node(UnixfsData(KIND_METADATA))),
    (
        "shard-bits",
        lambda store: store.node(
            UnixfsData(KIND_SHARD, b"\x01", hash_type=MURMUR3, fanout=256),
            PBLink(leaf(store), slot_of(b"a") + b"a", 1),
        ),
    ),
    (
        "shard-order",
        lambda store: store.shard((slot_of(b"a") + b"a", leaf(store)), (slot_of(b"a") + b"a", leaf(store))),
    ),
    ("shard-slot", lambda store: store.shard((b"00a", leaf(store)))),
    ("shard-child", lambda store: store.shard((b"00", store.folder()))),
    ("shard-mixed", mixed),
    ("shard-lonely", sub_shard(1)),
    ("shard-hash", lambda store: shard(store, (b"a", leaf(store)), hash_type=0x12)),
    ("shard-depth", deep_shards),
    ("shared-shard", repeated_shard),
    ("depth", deep_folders),
]


@pytest.mark.parametrize(
    ("rule", "make"), CROOKED, ids=[f"{rule}-{at}" for at, (rule, _) in enumerate(CROOKED)]
)
def test_each_rule_is_found(rule: str, make: Callable[[Store], bytes]) -> None:
    store = Store()
    found = {defect.rule for defect in verify_tree(store, make(store))}
    assert rule in found
    # What else may follow from it or was not worth mending.
    assert found <= {rule, "link-size", "shard-slot", "shard-lonely", "shard-order", "entry-duplicate"}


def test_a_sound_sub_shard_is_sound() -> None:
    store = Store()
    assert {defect.rule for defect in verify_tree(store, sub_shard(3)(store))} == {"link-size"}


def test_a_defect_names_the_block_and_the_name() -> None:
    store = Store()
    gone = cids.for_block(b"nowhere", cids.RAW)
    root = store.folder((b"a", leaf(store)), (b"b", gone))
    (defect,) = verify_tree(store, root)
    assert (defect.rule, defect.cid, defect.key) == ("missing-block", gone, b"b")


def test_a_block_is_read_once_however_often_it_is_linked() -> None:
    store = Store()
    root = leaf(store)
    for _ in range(100):
        root = store.node(FOLDER, PBLink(root, b"a"), PBLink(root, b"b"))
    store.reads.clear()
    verification = TreeVerification(store, root)
    assert list(verification) == []
    assert verification.blocks_read == len(store.reads) == 101
    assert verification.entries == 200


def test_what_each_parent_says_is_checked() -> None:
    store = Store()
    part = leaf(store)
    one = store.parts(b"", (part, 1))
    other = store.parts(b"", (part, 5))
    root = store.node(FOLDER, PBLink(one, b"a"), PBLink(other, b"b"))
    (defect,) = verify_tree(store, root)
    assert (defect.rule, defect.cid) == ("child-size", other)
