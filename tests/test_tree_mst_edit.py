"""A batch of edits against a tree built from scratch: the same root, and exactly the new nodes."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_mst import build, depth, mined, read_car, value

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.errors import CidError, LimitExceeded, MissingBlock, MissingBlocks, NodeError, Refused
from mstfs.limits import KEY_BYTES, TREE_HEIGHT
from mstfs.tree.interface import Applied, Edit
from mstfs.tree.mst.node import EMPTY_BLOCK, EMPTY_CID, MstNode, cid_of, decode, encode
from mstfs.tree.mst.tree import MstTree

Plain = dict[bytes, bytes]
Batch = dict[bytes, bytes | None]

# Few keys on each of the lower layers, and some higher up, so that batches meet.
KEYS = sorted({b"k/%03d" % number for number in range(90)} | {mined(layer)[0] for layer in range(6)})
keys = st.sampled_from(KEYS)
batches = st.dictionaries(keys, st.one_of(st.none(), st.integers(0, 2).map(value)), max_size=40)
plain_dicts = st.dictionaries(keys, st.integers(0, 2).map(value), max_size=60)


class Counting(MemoryBlocks):
    """Remembers which blocks were read."""

    def __init__(self, blocks: dict[bytes, bytes]) -> None:
        super().__init__(blocks.items())
        self.read: set[bytes] = set()

    def get(self, cid: bytes) -> bytes:
        self.read.add(cid)
        return super().get(cid)


def edits(batch: Batch) -> list[Edit]:
    return [Edit(key, batch[key]) for key in sorted(batch)]


def edited(plain: Plain, batch: Batch) -> Plain:
    outcome = dict(plain)
    for key, cid in batch.items():
        if cid is None:
            outcome.pop(key, None)
        else:
            outcome[key] = cid
    return outcome


def check(plain: Plain, batch: Batch) -> None:
    """Apply a batch, and its inverse, and compare both with trees built from scratch."""
    root, nodes = build(plain)
    blocks = MemoryBlocks(nodes.items())
    tree = MstTree(blocks)
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


@settings(max_examples=120)
@given(plain_dicts, batches)
def test_any_batch_gives_the_canonical_tree_and_its_inverse_the_old_one(plain: Plain, batch: Batch) -> None:
    check(plain, batch)


@settings(max_examples=40)
@given(st.lists(batches, max_size=6))
def test_a_sequence_of_batches_is_the_same_as_one(sequence: list[Batch]) -> None:
    tree = MstTree(blocks := MemoryBlocks([(EMPTY_CID, EMPTY_BLOCK)]))
    root = EMPTY_CID
    plain: Plain = {}
    for batch in sequence:
        root, nodes = tree.apply(root, edits(batch))
        blocks.put_many(nodes.items())
        plain = edited(plain, batch)
        assert root == build(plain)[0]


@pytest.mark.parametrize("count", [1, 2, 50, 300])
def test_making_and_deleting_everything(count: int) -> None:
    plain: Plain = {b"com.example.note/%05d" % number: value(number) for number in range(count)}
    check({}, dict(plain))
    check(plain, dict.fromkeys(plain))
    root, nodes = build(plain)
    applied = MstTree(MemoryBlocks(nodes.items())).apply(root, [Edit(key, None) for key in sorted(plain)])
    assert applied == (EMPTY_CID, {EMPTY_CID: EMPTY_BLOCK})


@pytest.mark.parametrize("layer", range(8))
def test_a_single_key_at_each_layer_comes_and_goes(layer: int) -> None:
    (key,) = mined(layer)
    low = mined(0, 3)
    for plain in ({}, {low[0]: value(1)}, dict.fromkeys(low, value(1))):
        check(plain, {key: value(2)})
        check({**plain, key: value(2)}, {key: None})
        check({**plain, key: value(2)}, {key: value(3)})


def test_the_top_is_trimmed_through_empty_nodes() -> None:
    # Without its top key the tree shrinks by five layers at once, for the rest stands at the bottom.
    top, low = mined(5)[0], mined(0)[0]
    root, nodes = build({top: value(1), low: value(2)})
    applied = MstTree(MemoryBlocks(nodes.items())).apply(root, [Edit(top, None)])
    only, expected = build({low: value(2)})
    assert applied.root == only
    assert only in nodes, "the new root is an old node"
    assert applied.nodes == {}
    assert expected.keys() == {only}


def test_many_random_batches_on_a_larger_tree() -> None:
    seed = 20240607
    rng = random.Random(seed)
    names = [b"app.example.feed/%05d" % number for number in range(500)]
    names += [key for layer in (4, 5, 6) for key in mined(layer, 2)]
    for share in (0.0, 0.5, 1.0):
        plain = {name: value(rng.randrange(5)) for name in rng.sample(names, 300)}
        for size in (1, 20, 200):
            batch: Batch = {
                name: None if rng.random() < share else value(rng.randrange(5))
                for name in rng.sample(names, size)
            }
            check(plain, batch)


def test_edits_that_change_nothing_make_nothing() -> None:
    plain = {b"k/%03d" % number: value(number) for number in range(0, 80, 2)}
    root, nodes = build(plain)
    tree = MstTree(MemoryBlocks(nodes.items()))
    assert tree.apply(root, []) == (root, {})
    assert tree.apply(root, [Edit(key, plain[key]) for key in sorted(plain)]) == (root, {})
    assert tree.apply(root, [Edit(b"k/%03d" % number, None) for number in range(1, 80, 2)]) == (root, {})
    assert tree.apply(EMPTY_CID, []) == (EMPTY_CID, {})


def test_values_of_other_kinds_of_cid() -> None:
    values = [cids.for_block(b"x", cids.RAW), cids.for_block(b"x", cids.RAW, cids.BLAKE3)]
    values.append(cids.for_block(b"x", cids.DAG_CBOR, cids.SHA2_512))
    check({}, {b"k/%03d" % number: values[number % 3] for number in range(30)})


def test_keys_around_the_sizes_of_heads() -> None:
    names = [b"k" * size + b"%d" % size for size in (1, 22, 23, 24, 25, 254, 255, 256, 257, 2000)]
    check({}, dict.fromkeys(names, value(1)))
    check(dict.fromkeys(names, value(1)), {names[4]: None, names[8]: None})


def test_roots_of_the_commit_proof_fixtures(shared_fixtures: Path) -> None:
    text = (shared_fixtures / "atproto/interop/firehose/commit-proof-fixtures.json").read_text()
    for case in json.loads(text):
        leaf = cids.parse(case["leafValue"])
        tree = MstTree(blocks := MemoryBlocks([(EMPTY_CID, EMPTY_BLOCK)]))
        before = tree.apply(EMPTY_CID, edits({key.encode(): leaf for key in case["keys"]}))
        assert cids.to_text(before.root) == case["rootBeforeCommit"], case["comment"]
        blocks.put_many(before.nodes.items())
        batch: Batch = {key.encode(): leaf for key in case["adds"]}
        batch.update((key.encode(), None) for key in case["dels"])
        after = tree.apply(before.root, edits(batch))
        assert cids.to_text(after.root) == case["rootAfterCommit"], case["comment"]


def test_the_diff_cases_forwards_and_backwards(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "mst-diff"
    cases = json.loads((folder / "cases.json").read_text())
    assert len(cases) == 96

    def link(text: str | None) -> bytes | None:
        return None if text is None else cids.parse(text)

    for case in cases:
        roots: list[bytes] = []
        blocks = MemoryBlocks()
        for name in (case["inputs"]["mst_a"], case["inputs"]["mst_b"]):
            heads, found = read_car((folder / "cars" / name).read_bytes())
            roots += heads
            blocks.put_many(found.items())
        tree = MstTree(blocks)
        operations = case["results"]["record_ops"]
        forwards = tree.apply(
            roots[0], edits({op["rpath"].encode(): link(op["new_value"]) for op in operations})
        )
        backwards = tree.apply(
            roots[1], edits({op["rpath"].encode(): link(op["old_value"]) for op in operations})
        )
        assert (forwards.root, backwards.root) == (roots[1], roots[0]), case["name"]
        assert forwards.nodes.keys() == set(map(link, case["results"]["created_nodes"])), case["name"]
        assert backwards.nodes.keys() == set(map(link, case["results"]["deleted_nodes"])), case["name"]


# --- what is read, and what is missing --------------------------------------------------------


def big() -> tuple[Plain, bytes, dict[bytes, bytes]]:
    plain = {b"com.example.note/%05d" % number: value(number) for number in range(1500)}
    return (plain, *build(plain))


def test_only_the_nodes_on_the_touched_paths_are_read() -> None:
    plain, root, nodes = big()
    height = max(map(depth, plain)) + 1
    blocks = Counting(nodes)
    MstTree(blocks).apply(root, [Edit(b"com.example.note/00777", value(0))])
    assert 1 < len(blocks.read) <= height
    blocks.read.clear()
    MstTree(blocks).apply(root, [Edit(b"com.example.note/00777", None)])
    assert 1 < len(blocks.read) <= 3 * height
    # With these nodes alone, the same edit works again.
    few = MemoryBlocks((cid, nodes[cid]) for cid in blocks.read)
    again = MstTree(few).apply(root, [Edit(b"com.example.note/00777", None)])
    assert (
        again.root == build({key: cid for key, cid in plain.items() if key != b"com.example.note/00777"})[0]
    )


def test_all_missing_nodes_on_the_paths_are_named_at_once() -> None:
    _, root, nodes = big()
    top = decode(root, nodes[root])
    children = [link for link in top.links if link is not None]
    assert len(children) > 1
    blocks = MemoryBlocks(nodes.items())
    for cid in children:
        blocks.delete(cid)
    tree = MstTree(blocks)
    wanted = [Edit(b"com.example.note/%05d" % number, value(0)) for number in range(0, 1500, 10)]
    with pytest.raises(MissingBlocks) as caught:
        tree.apply(root, wanted)
    assert set(caught.value.cids) == set(children)
    blocks.put_many((cid, nodes[cid]) for cid in children)
    assert tree.apply(root, wanted).root != root


def test_asking_again_for_what_is_missing_comes_to_an_end() -> None:
    plain, root, nodes = big()
    rng = random.Random(7)
    batch: Batch = {key: None if rng.random() < 0.5 else value(1) for key in rng.sample(sorted(plain), 200)}
    blocks = MemoryBlocks()
    tree = MstTree(blocks)

    def attempt() -> Applied | MissingBlocks:
        try:
            return tree.apply(root, edits(batch))
        except MissingBlocks as error:
            return error

    rounds = 0
    while isinstance(applied := attempt(), MissingBlocks):
        assert all(not blocks.has(cid) for cid in applied.cids)
        assert len(set(applied.cids)) == len(applied.cids)
        blocks.put_many((cid, nodes[cid]) for cid in applied.cids)
        rounds += 1
    assert applied.root == build(edited(plain, batch))[0]
    # One round a layer, and some more where spines meet because a key went away.
    assert rounds < 40


def test_a_missing_neighbour_is_named() -> None:
    top = mined(3)[0]
    plain = {key: value(1) for key in (*mined(0, 60), top)}
    root, nodes = build(plain)
    node = decode(root, nodes[root])
    assert node.keys == (top,)
    assert None not in node.links
    blocks = MemoryBlocks(nodes.items())
    blocks.delete(node.links[1] or b"")
    with pytest.raises(MissingBlocks) as caught:
        MstTree(blocks).apply(root, [Edit(top, None)])
    assert caught.value.cids == (node.links[1],)


# --- refusals and hostile trees ---------------------------------------------------------------


def test_batches_that_make_no_sense_are_refused() -> None:
    tree = MstTree(MemoryBlocks([(EMPTY_CID, EMPTY_BLOCK)]))
    one = value(1)
    for batch in ([Edit(b"b", one), Edit(b"a", one)], [Edit(b"a", one), Edit(b"a", None)], [Edit(b"", one)]):
        with pytest.raises(Refused):
            tree.apply(EMPTY_CID, batch)
    with pytest.raises(LimitExceeded):
        tree.apply(EMPTY_CID, [Edit(b"k" * (KEY_BYTES + 1), one)])
    with pytest.raises(CidError):
        tree.apply(EMPTY_CID, [Edit(b"k", b"no cid")])


def store(blocks: MemoryBlocks, node: MstNode) -> bytes:
    block = encode(node)
    blocks.put(cid_of(block), block)
    return cid_of(block)


def refused_rule(blocks: MemoryBlocks, root: bytes, *names: bytes) -> str:
    with pytest.raises(NodeError) as caught:
        MstTree(blocks).apply(root, [Edit(name, None) for name in sorted(names)])
    return caught.value.rule


def test_trees_that_cannot_be_edited_are_refused() -> None:
    blocks = MemoryBlocks()
    low = sorted(mined(0, 4))
    top = next(key for key in mined(2, 300) if low[1] < key < low[2])
    one = value(1)

    def leaf(*names: bytes) -> bytes:
        return store(blocks, MstNode(names, (one,) * len(names), (None,) * (len(names) + 1)))

    def root(left: bytes | None, right: bytes | None = None) -> bytes:
        return store(blocks, MstNode((top,), (one,), (left, right)))

    def lifted(cid: bytes) -> bytes:
        return store(blocks, MstNode((), (), (cid,)))

    assert refused_rule(blocks, root(leaf(low[0])), low[0]) == "key-depth"
    assert refused_rule(blocks, root(lifted(leaf(low[2]))), low[0]) == "key-range"
    assert refused_rule(blocks, root(None, lifted(leaf(low[0]))), low[3]) == "key-range"
    assert refused_rule(blocks, root(lifted(store(blocks, MstNode((), (), (None,))))), low[0]) == "empty-leaf"
    # Both subtrees merge when the key between them goes away.
    twice = lifted(leaf(low[0]))
    assert refused_rule(blocks, root(twice, twice), top) == "key-range"


def test_a_long_chain_of_empty_nodes_comes_to_an_end() -> None:
    blocks = MemoryBlocks()
    cid = store(blocks, MstNode((b"k",), (value(1),), (None, None)))
    for _ in range(TREE_HEIGHT + 1):
        cid = store(blocks, MstNode((), (), (cid,)))
    with pytest.raises(LimitExceeded):
        MstTree(blocks).apply(cid, [Edit(b"k", None)])


def test_blocks_that_are_missing_without_a_path() -> None:
    with pytest.raises((MissingBlock, MissingBlocks)):
        MstTree(MemoryBlocks()).apply(value(1), [Edit(b"k", None)])
