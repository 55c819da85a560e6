"""A batch of edits against trees built from scratch: the same root, and exactly the new nodes."""

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

import dag_cbor
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_hamt import (
    BLAKE3_CBOR,
    SHA256_CBOR,
    Found,
    PyHamt2Model,
    blake3_of,
    filecoin,
    hash_map,
    keep,
    link,
    mined,
    py_hamt_2,
    py_hamt_3,
    sha256_of,
    value,
)

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.errors import CidError, LimitExceeded, MissingBlocks, NodeError, Refused
from mstfs.limits import KEY_BYTES
from mstfs.tree.hamt.filecoin import Filecoin
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import inline_cid
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.interface import Edit

Plain = dict[bytes, bytes]
Batch = Mapping[bytes, bytes | None]


class Family(NamedTuple):
    """A layout, and the oracle for it."""

    layout: Layout
    build: Callable[[Plain], Found]


def linked(plain: Plain) -> dict[bytes, object]:
    return {key: link(cid) for key, cid in plain.items()}


CANONICAL = {
    "py-hamt 3": Family(PyHamt3(), py_hamt_3),
    "HashMap 5/3": Family(HashMap(width=5, bucket_size=3), lambda plain: hash_map(linked(plain))),
    "HashMap 3/1": Family(
        HashMap(width=3, bucket_size=1), lambda plain: hash_map(linked(plain), width=3, bucket_size=1)
    ),
}

# Many keys that have no slot for themselves, and some that share the first bytes of their hash.
KEYS = sorted(
    {b"k/%02d" % number for number in range(60)}
    | set(mined(b"\x11", 7))
    | set(mined(b"\x11\x22", 6))
    | set(mined(b"\x11", 5, sha256_of))
    | {b"", "\u00fc/\U0001f600".encode()}
)
keys = st.sampled_from(KEYS)
values = st.integers(0, 2).map(value)
batches = st.dictionaries(keys, st.one_of(st.none(), values), max_size=40)
plain_dicts = st.dictionaries(keys, values, max_size=60)
names = st.sampled_from(sorted(CANONICAL))


def edits(batch: Batch) -> list[Edit]:
    return [Edit(key, batch[key]) for key in sorted(batch)]


def edited(plain: Plain, batch: Batch) -> Plain:
    outcome = {key: cid for key, cid in plain.items() if batch.get(key, cid) is not None}
    outcome.update((key, cid) for key, cid in batch.items() if cid is not None)
    return outcome


def check(name: str, plain: Plain, batch: Batch) -> None:
    """Apply a batch, and its inverse, and compare both with trees built from scratch."""
    layout, build = CANONICAL[name]
    root, nodes = build(plain)
    blocks = MemoryBlocks(nodes.items())
    tree = HamtTree(blocks, layout)
    outcome = edited(plain, batch)
    new_root, new_nodes = build(outcome)
    applied = tree.apply(root, edits(batch))
    assert applied.root == new_root
    assert applied.nodes == {cid: block for cid, block in new_nodes.items() if cid not in nodes}
    blocks.put_many(applied.nodes.items())
    inverse: Batch = {key: plain.get(key) for key in batch}
    back = tree.apply(new_root, edits(inverse))
    assert back.root == root
    assert back.nodes == {cid: block for cid, block in nodes.items() if cid not in new_nodes}


@settings(max_examples=50)
@given(names, plain_dicts, batches)
def test_any_batch_gives_the_canonical_tree_and_its_inverse_the_old_one(
    name: str, plain: Plain, batch: Batch
) -> None:
    check(name, plain, batch)


@settings(max_examples=20)
@given(names, st.lists(batches, max_size=4))
def test_a_sequence_of_batches_is_the_same_as_one(name: str, sequence: list[Batch]) -> None:
    layout, build = CANONICAL[name]
    tree = HamtTree(blocks := MemoryBlocks(), layout)
    root, block = tree.empty()
    assert (root, {root: block}) == build({})
    blocks.put(root, block)
    plain: Plain = {}
    for batch in sequence:
        root, nodes = tree.apply(root, edits(batch))
        blocks.put_many(nodes.items())
        plain = edited(plain, batch)
        assert root == build(plain)[0]
        assert dict(tree.page(root)) == plain


@pytest.mark.parametrize("name", sorted(CANONICAL))
@pytest.mark.parametrize("count", [1, 4, 5, 300])
def test_making_and_deleting_everything(name: str, count: int) -> None:
    plain: Plain = {b"app/note/%05d" % number: value(number % 7) for number in range(count)}
    check(name, {}, plain)
    check(name, plain, dict.fromkeys(plain))


@pytest.mark.parametrize("name", sorted(CANONICAL))
def test_edits_that_change_nothing_make_nothing(name: str) -> None:
    layout, build = CANONICAL[name]
    plain = {b"k/%03d" % number: value(number) for number in range(0, 80, 2)}
    root, nodes = build(plain)
    tree = HamtTree(MemoryBlocks(nodes.items()), layout)
    assert tree.apply(root, []) == (root, {})
    assert tree.apply(root, edits(plain)) == (root, {})
    assert tree.apply(root, [Edit(b"k/%03d" % number, None) for number in range(1, 80, 2)]) == (root, {})


def test_new_nodes_are_named_with_the_hash_function_of_the_root() -> None:
    plain = {b"k/%03d" % number: value(number) for number in range(30)}
    root, nodes = py_hamt_3(plain, SHA256_CBOR)
    tree = HamtTree(MemoryBlocks(nodes.items()), PyHamt3())
    applied = tree.apply(root, [Edit(b"new", value(1))])
    assert applied.root == py_hamt_3({**plain, b"new": value(1)}, SHA256_CBOR)[0]
    layout = PyHamt3()
    assert HamtTree(MemoryBlocks(), layout).empty()[0][:4] == b"\x01\x71\x1e\x20"
    assert HamtTree(MemoryBlocks(), layout, hash_code=cids.SHA2_256).empty()[0][:4] == SHA256_CBOR


def test_a_sparse_tree_is_collapsed_where_something_goes_away() -> None:
    # py-hamt 3.0 to 3.4 leave a child behind that a bucket could hold.
    (deep,) = mined(b"\x11\x22", 1)
    # The key beside it has the same first byte, so that both are in one child of the root.
    beside = next(key for key in mined(b"\x11", 2) if key != deep)
    nodes: dict[bytes, bytes] = {}
    slots: list[dict[int, object]] = [{}, {}, {blake3_of(deep)[2]: {deep.decode(): link(value(1))}}]
    slots[1][blake3_of(beside)[1]] = {beside.decode(): link(value(2))}
    for level in (2, 1, 0):
        root = keep([slots[level].get(slot, {}) for slot in range(256)], nodes, BLAKE3_CBOR)
        slots[level - 1][(0, 0x11, 0x22)[level]] = [link(root)]
    tree = HamtTree(MemoryBlocks(nodes.items()), PyHamt3())
    assert dict(tree.page(root)) == {deep: value(1), beside: value(2)}
    assert tree.apply(root, [Edit(beside, None)]).root == py_hamt_3({deep: value(1)})[0]
    assert tree.apply(root, [Edit(deep, None)]).root == py_hamt_3({beside: value(2)})[0]
    assert tree.apply(root, [Edit(deep, value(1))]) == (root, {})


# --- py-hamt 2 ----------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.tuples(keys, st.one_of(st.none(), values)), max_size=60))
def test_one_edit_after_the_other_is_what_py_hamt_2_does(sequence: list[tuple[bytes, bytes | None]]) -> None:
    tree = HamtTree(blocks := MemoryBlocks(), PyHamt2())
    root, block = tree.empty()
    blocks.put(root, block)
    model = PyHamt2Model()
    for key, cid in sequence:
        if cid is None:
            model.delete(key)
        else:
            model.set(key, cid)
        root, nodes = tree.apply(root, [Edit(key, cid)])
        blocks.put_many(nodes.items())
    expected, nodes = model.store()
    assert root == expected
    assert dict(tree.nodes(root)) == nodes


@settings(max_examples=40)
@given(plain_dicts, batches)
def test_a_batch_on_a_py_hamt_2_tree(plain: Plain, batch: Batch) -> None:
    model = PyHamt2Model()
    for key, cid in plain.items():
        model.set(key, cid)
    root, nodes = model.store()
    blocks = MemoryBlocks(nodes.items())
    tree = HamtTree(blocks, PyHamt2())
    applied = tree.apply(root, edits(batch))
    blocks.put_many(applied.nodes.items())
    outcome = edited(plain, batch)
    assert dict(tree.page(applied.root)) == outcome
    for key in KEYS:
        assert HamtTree(blocks, PyHamt2()).get(applied.root, key) == outcome.get(key)
    if outcome == plain:
        assert applied == (root, {})


@pytest.mark.parametrize("count", [1, 5, 300])
def test_a_tree_of_py_hamt_2_0_4_is_written_anew(count: int) -> None:
    plain = {b"k/%03d" % number: value(number) for number in range(count)}
    root, nodes = py_hamt_2(plain, skip=1)
    blocks = MemoryBlocks(nodes.items())
    tree = HamtTree(blocks, PyHamt2())
    assert tree.layout(root) == PyHamt2(skip=1)
    assert tree.apply(root, edits(plain)) == (root, {})
    applied = tree.apply(root, [Edit(b"k/000", None), Edit(b"new", value(1))])
    outcome = edited(plain, {b"k/000": None, b"new": value(1)})
    assert applied == py_hamt_2(outcome)
    blocks.put_many(applied.nodes.items())
    assert tree.layout(applied.root) == PyHamt2()


def test_bare_pointers_stay_bare() -> None:
    plain = {b"k/%03d" % number: value(number) for number in range(400)}
    root, nodes = py_hamt_2(plain, bare=True)
    tree = HamtTree(MemoryBlocks(nodes.items()), PyHamt2(bare=True))
    batch: Batch = {b"k/%03d" % number: None for number in range(1, 400)}
    applied = tree.apply(root, edits(batch))
    assert applied.root == py_hamt_2({b"k/000": value(0)}, bare=True)[0]
    # A multihash says nothing about the codec, so this is the value that is there.
    other = b"\x01\x71" + value(0)[2:]
    assert tree.apply(root, [Edit(b"k/000", other)]) == (root, {})


def test_an_empty_tree_goes_on_with_the_pointers_that_it_was_made_for() -> None:
    for layout in (PyHamt2(bare=True), PyHamt3(bare=True)):
        blocks = MemoryBlocks()
        tree = HamtTree(blocks, layout)
        root, block = tree.empty()
        blocks.put(root, block)
        applied = tree.apply(root, [Edit(b"k", value(1))])
        assert value(1)[2:] in applied.nodes[applied.root]
        assert value(1) not in applied.nodes[applied.root]


# --- values inside nodes --------------------------------------------------------------------------------

SMALL = {"n": 1, "l": [True, None, b"bytes"]}
LARGE = {"text": "x" * 500}


def large_cid() -> bytes:
    return SHA256_CBOR + sha256_of(dag_cbor.encode(LARGE))  # type: ignore[arg-type]


def test_values_inside_of_nodes_come_and_go() -> None:
    entries = {b"k/%03d" % number: (SMALL, LARGE, link(value(number)))[number % 3] for number in range(100)}
    root, nodes = hash_map(entries)
    blocks = MemoryBlocks(nodes.items())
    tree = HamtTree(blocks, HashMap())
    small = inline_cid(dag_cbor.encode(SMALL))  # type: ignore[arg-type]
    applied = tree.apply(root, [Edit(b"k/000", None), Edit(b"new", small)])
    del entries[b"k/000"]
    assert applied.root == hash_map({**entries, b"new": SMALL})[0]
    # A value that does not fit into its CID is moved.
    moved = tree.apply(root, [Edit(b"k/001", None), Edit(b"k/222", large_cid())])
    entries[b"k/000"] = SMALL
    entries[b"k/222"] = entries.pop(b"k/001")
    assert moved.root == hash_map(entries)[0]


def test_a_large_value_is_linked_where_a_store_has_it() -> None:
    root, nodes = hash_map({b"a": LARGE})
    blocks = MemoryBlocks(nodes.items())
    tree = HamtTree(blocks, HashMap())
    assert tree.get(root, b"a") == large_cid()
    assert tree.apply(root, [Edit(b"b", large_cid())]).root == hash_map({b"a": LARGE, b"b": LARGE})[0]
    blocks.put(large_cid(), dag_cbor.encode(LARGE))  # type: ignore[arg-type]
    applied = tree.apply(root, [Edit(b"b", large_cid())])
    assert applied.root == hash_map({b"a": LARGE, b"b": link(large_cid())})[0]


def test_a_link_whose_cid_carries_its_value_stays_a_link() -> None:
    carrier = inline_cid(dag_cbor.encode(SMALL))  # type: ignore[arg-type]
    entries: dict[bytes, object] = {b"k/%d" % number: link(carrier) for number in range(3)}
    root, nodes = hash_map(entries, width=3, bucket_size=1)
    tree = HamtTree(MemoryBlocks(nodes.items()), HashMap(width=3, bucket_size=1))
    more = {b"k/%d" % number: value(number) for number in range(3, 60)}
    applied = tree.apply(root, edits(more))
    assert applied.root == hash_map({**entries, **linked(more)}, width=3, bucket_size=1)[0]


def test_what_an_old_writer_left_behind_is_tidied_on_the_way() -> None:
    # An empty bucket, and entries out of order in another.
    first, second = sorted(mined(b"\x11", 2, sha256_of))
    nodes: dict[bytes, bytes] = {}
    bits = (1 << 2 | 1 << 9).to_bytes(4, "little")
    bucket = [[second, link(value(2))], [first, link(value(1))]]
    root = keep({"hashAlg": 0x12, "bucketSize": 3, "hamt": [bits, [bucket, []]]}, nodes, SHA256_CBOR)
    tree = HamtTree(MemoryBlocks(nodes.items()), HashMap())
    assert dict(tree.page(root)) == {first: value(1), second: value(2)}
    applied = tree.apply(root, [Edit(first, value(3))])
    assert applied.root == hash_map({first: link(value(3)), second: link(value(2))})[0]


# --- what is read, and what is missing ------------------------------------------------------------------


def test_all_missing_nodes_on_the_paths_are_named_at_once() -> None:
    plain = {b"k/%04d" % number: value(number % 9) for number in range(1500)}
    root, nodes = py_hamt_3(plain)
    blocks = MemoryBlocks(nodes.items())
    children = [cid for cid in nodes if cid != root]
    for cid in children:
        blocks.delete(cid)
    rng = random.Random(5)
    batch: Batch = {key: rng.choice([None, value(1)]) for key in sorted(plain)}
    tree = HamtTree(blocks, PyHamt3())
    with pytest.raises(MissingBlocks) as caught:
        tree.apply(root, edits(batch))
    assert sorted(caught.value.cids) == sorted(children)
    blocks.put_many((cid, nodes[cid]) for cid in children)
    assert tree.apply(root, edits(batch)).root == py_hamt_3(edited(plain, batch))[0]


def test_only_the_nodes_on_the_paths_are_needed() -> None:
    plain = {b"k/%04d" % number: value(number % 9) for number in range(1500)}
    root, nodes = py_hamt_3(plain)
    blocks = MemoryBlocks(nodes.items())
    tree = HamtTree(blocks, PyHamt3())
    expected = tree.apply(root, [Edit(b"k/0777", None)])
    kept = {root} | {cid for cid, block in nodes.items() if b"k/0777" in block}
    few = HamtTree(MemoryBlocks((cid, nodes[cid]) for cid in kept), PyHamt3())
    assert few.apply(root, [Edit(b"k/0777", None)]) == expected


# --- refusals and hostile trees -------------------------------------------------------------------------


def test_batches_that_make_no_sense_are_refused() -> None:
    root, nodes = py_hamt_3({})
    tree = HamtTree(MemoryBlocks(nodes.items()), PyHamt3())
    one = value(1)
    for batch in (
        [Edit(b"b", one), Edit(b"a", one)],
        [Edit(b"a", one), Edit(b"a", None)],
        [Edit(b"", one), Edit(b"", one)],
        [Edit(b"\xff", one)],
    ):
        with pytest.raises(Refused):
            tree.apply(root, batch)
    with pytest.raises(LimitExceeded):
        tree.apply(root, [Edit(b"k" * (KEY_BYTES + 1), one)])
    with pytest.raises(CidError):
        tree.apply(root, [Edit(b"k", b"no cid")])


def test_keys_of_hash_maps_need_be_no_text() -> None:
    root, nodes = hash_map({})
    applied = HamtTree(MemoryBlocks(nodes.items()), HashMap()).apply(root, [Edit(b"\xff\x00", value(1))])
    assert applied.root == hash_map({b"\xff\x00": link(value(1))})[0]
    root, nodes = hash_map({}, old=True)
    tree = HamtTree(MemoryBlocks(nodes.items()), HashMap(old=True))
    assert tree.apply(root, [Edit(b"k", value(1))]).root == hash_map({b"k": link(value(1))}, old=True)[0]
    with pytest.raises(Refused):
        tree.apply(root, [Edit(b"\xff\x00", value(1))])


def test_filecoin_is_for_reading() -> None:
    root, nodes = filecoin({b"k": 1})
    with pytest.raises(Refused, match="can be read"):
        HamtTree(MemoryBlocks(nodes.items()), Filecoin()).apply(root, [Edit(b"k", None)])


def test_a_tree_whose_keys_nobody_can_place_is_refused() -> None:
    def reversed_hash(key: bytes) -> bytes:
        return sha256_of(key)[::-1]

    plain = {b"k/%03d" % number: value(number) for number in range(50)}
    root, nodes = py_hamt_3(plain, function=reversed_hash)
    tree = HamtTree(MemoryBlocks(nodes.items()), PyHamt3())
    assert all(tree.get(root, key) == cid for key, cid in plain.items())
    with pytest.raises(Refused, match="hash function"):
        tree.apply(root, [Edit(b"k", value(1))])


def test_keys_that_the_hash_cannot_tell_apart() -> None:
    # With the identity as its hash, a map can tell short keys and keys with equal starts no more.
    root, nodes = hash_map({}, width=8, bucket_size=1, function=bytes, declared=0)
    tree = HamtTree(MemoryBlocks(nodes.items()), HashMap())
    with pytest.raises(LimitExceeded, match="too short"):
        tree.apply(root, [Edit(b"a", value(1)), Edit(b"ab", value(1))])
    with pytest.raises(LimitExceeded, match="have the hash"):
        tree.apply(root, [Edit(b"a" * 200 + b"1", value(1)), Edit(b"a" * 200 + b"2", value(1))])
    plain = {b"aaa1": value(1), b"aaa2": value(2), b"b": value(3)}
    expected = hash_map(linked(plain), width=8, bucket_size=1, function=bytes, declared=0)
    assert tree.apply(root, edits(plain)).root == expected[0]


def test_a_path_deeper_than_the_hash_is_refused() -> None:
    nodes: dict[bytes, bytes] = {}
    key = b"k"
    digest = blake3_of(key)
    cid = value(1)
    for level in reversed(range(40)):
        slots: list[object] = [{}] * 256
        slots[digest[level % 32]] = [link(cid)]
        cid = keep(slots, nodes, BLAKE3_CBOR)
    tree = HamtTree(MemoryBlocks(nodes.items()), PyHamt3())
    assert tree.get(cid, key) is None
    with pytest.raises(NodeError) as caught:
        tree.apply(cid, [Edit(key, value(2))])
    assert caught.value.rule == "tree-height"
