"""The difference of two trees, against two plain dictionaries and the published cases."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_mst import build, depth, mined, read_car, value

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.errors import LimitExceeded, MissingBlocks, NodeError
from mstfs.limits import TREE_HEIGHT
from mstfs.tree.interface import Change, TreeDiff
from mstfs.tree.mst.node import EMPTY_BLOCK, EMPTY_CID, MstNode, cid_of, decode, encode
from mstfs.tree.mst.tree import MstTree

Plain = dict[bytes, bytes]

KEYS = sorted({b"k/%03d" % number for number in range(60)} | {mined(layer)[0] for layer in range(6)})
plain_dicts = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 2).map(value), max_size=50)


class Counting(MemoryBlocks):
    """Counts reads."""

    reads = 0

    def get(self, cid: bytes) -> bytes:
        self.reads += 1
        return super().get(cid)


def both(a: Plain, b: Plain) -> tuple[Counting, bytes, bytes, TreeDiff]:
    """The blocks and roots of two trees, and what their difference must be."""
    (root_a, nodes_a), (root_b, nodes_b) = build(a), build(b)
    changes = [Change(key, a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys())]
    wanted = TreeDiff(
        tuple(change for change in changes if change.old != change.new),
        frozenset(nodes_b.keys() - nodes_a.keys()),
        frozenset(nodes_a.keys() - nodes_b.keys()),
    )
    return Counting({**nodes_a, **nodes_b}.items()), root_a, root_b, wanted


@settings(max_examples=100)
@given(plain_dicts, plain_dicts)
def test_any_two_trees(a: Plain, b: Plain) -> None:
    blocks, root_a, root_b, wanted = both(a, b)
    assert MstTree(blocks).diff(root_a, root_b) == wanted


@settings(max_examples=100)
@given(plain_dicts, plain_dicts)
def test_trees_that_have_much_in_common(a: Plain, b: Plain) -> None:
    few = dict(list(b.items())[:3])
    blocks, root_a, root_b, wanted = both(a, {**a, **few})
    assert MstTree(blocks).diff(root_a, root_b) == wanted


def test_a_tree_and_itself() -> None:
    assert MstTree(MemoryBlocks()).diff(EMPTY_CID, EMPTY_CID) == ((), frozenset(), frozenset())


def test_the_published_cases(shared_fixtures: Path) -> None:
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
        results = case["results"]
        found_diff = MstTree(blocks).diff(roots[0], roots[1])
        operations = [(op["rpath"], op["old_value"], op["new_value"]) for op in results["record_ops"]]
        assert list(found_diff.changes) == [
            Change(path.encode(), link(old), link(new)) for path, old, new in operations
        ], case["name"]
        assert found_diff.created == set(map(link, results["created_nodes"])), case["name"]
        assert found_diff.deleted == set(map(link, results["deleted_nodes"])), case["name"]


def test_equal_subtrees_are_not_read() -> None:
    plain = {b"com.example.note/%05d" % number: value(number) for number in range(1500)}
    blocks, root_a, root_b, wanted = both(plain, {**plain, b"com.example.note/00700": value(1)})
    assert MstTree(blocks).diff(root_a, root_b) == wanted
    assert blocks.reads == len(wanted.created) + len(wanted.deleted) <= 2 * (max(map(depth, plain)) + 1)


def test_the_missing_nodes_of_a_layer_are_named_at_once() -> None:
    rng = random.Random(3)
    plain = {b"com.example.note/%05d" % number: value(number) for number in range(1000)}
    other = {**plain, **{key: value(1) for key in rng.sample(sorted(plain), 100)}}
    source, root_a, root_b, wanted = both(plain, other)
    blocks = MemoryBlocks()
    tree = MstTree(blocks)

    def attempt() -> TreeDiff | MissingBlocks:
        try:
            return tree.diff(root_a, root_b)
        except MissingBlocks as error:
            return error

    rounds = 0
    while isinstance(found := attempt(), MissingBlocks):
        assert all(not blocks.has(cid) for cid in found.cids)
        blocks.put_many((cid, source.get(cid)) for cid in found.cids)
        rounds += 1
    assert found == wanted
    # Each layer as a whole.
    assert rounds == max(map(depth, plain)) + 1
    top = decode(root_a, source.get(root_a))
    gone = {link for link in top.links if link in wanted.deleted}
    assert len(gone) > 1
    for cid in gone:
        source.delete(cid)
    with pytest.raises(MissingBlocks) as caught:
        MstTree(source).diff(root_a, root_b)
    assert set(caught.value.cids) == gone


# --- hostile trees ----------------------------------------------------------------------------


def store(blocks: MemoryBlocks, node: MstNode) -> bytes:
    block = encode(node)
    blocks.put(cid_of(block), block)
    return cid_of(block)


def leaf(*names: bytes) -> MstNode:
    return MstNode(names, (value(0),) * len(names), (None,) * (len(names) + 1))


def test_a_child_that_is_linked_many_times_is_refused() -> None:
    blocks = Counting([(EMPTY_CID, EMPTY_BLOCK)])
    names = tuple(sorted(mined(3, 4)))
    cid = store(blocks, leaf(b"k"))
    for _ in range(12):
        cid = store(blocks, MstNode(names, (value(0),) * 4, (cid,) * 5))
    for a, b in ((EMPTY_CID, cid), (cid, EMPTY_CID)):
        with pytest.raises(NodeError) as caught:
            MstTree(blocks).diff(a, b)
        assert caught.value.rule == "repeated-node"
    assert blocks.reads < 50


def test_a_tree_that_is_deeper_than_its_keys_allow_is_refused() -> None:
    blocks = MemoryBlocks([(EMPTY_CID, EMPTY_BLOCK)])
    low = sorted(mined(0, 2))
    below = store(blocks, leaf(low[0]))
    root = store(blocks, MstNode((low[1],), (value(0),), (below, None)))
    with pytest.raises(NodeError) as caught:
        MstTree(blocks).diff(EMPTY_CID, root)
    assert caught.value.rule == "node-layer"
    cid = store(blocks, leaf(b"k"))
    for _ in range(TREE_HEIGHT + 1):
        cid = store(blocks, MstNode((), (), (cid,)))
    with pytest.raises(LimitExceeded):
        MstTree(blocks).diff(EMPTY_CID, cid)


def test_a_key_that_stands_twice_is_refused() -> None:
    blocks = MemoryBlocks([(EMPTY_CID, EMPTY_BLOCK)])
    top = mined(1)[0]
    below = store(blocks, leaf(top))
    root = store(blocks, MstNode((top,), (value(0),), (below, None)))
    with pytest.raises(NodeError) as caught:
        MstTree(blocks).diff(EMPTY_CID, root)
    assert caught.value.rule == "key-order"
