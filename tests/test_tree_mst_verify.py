"""The verifier of one tree, over blocks in memory."""

from collections.abc import Sequence

import pytest
from crooked import Change, Link, Node, Repo, Row, cid_of, emit, grow, keys_like, layer_of, store

from mstfs.blocks.memory import MemoryBlocks
from mstfs.errors import CorruptBlock, MissingBlock
from mstfs.tree.defect import Defect
from mstfs.tree.mst.verify import TreeVerification, verify_tree

VALUE = cid_of(b"a value")


def planted(tree: Node) -> tuple[MemoryBlocks, bytes]:
    blocks: dict[bytes, bytes] = {}
    root = store(tree, blocks)
    return MemoryBlocks(blocks.items()), root


def rules(tree: Node) -> set[str]:
    blocks, root = planted(tree)
    return {defect.rule for defect in verify_tree(blocks, root)}


def tree_of(count: int) -> Node:
    keys = sorted(b"com.example.note/%06d" % number for number in range(count))
    tree = grow([(key, VALUE) for key in keys], max(map(layer_of, keys), default=0))
    return tree or Node(0)


@pytest.mark.parametrize("count", [0, 1, 2, 10, 1000])
def test_a_sound_tree_has_no_defects_and_is_counted(count: int) -> None:
    tree = tree_of(count)
    blocks, root = planted(tree)
    verification = TreeVerification(blocks, root)
    assert list(verification) == []
    assert (verification.entries, verification.nodes, verification.complete) == (count, len(blocks), True)


def test_entries_are_handed_over_with_their_node() -> None:
    blocks, root = planted(tree_of(300))
    seen: list[bytes | None] = []

    def look(node: bytes, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> list[Defect]:
        assert blocks.has(node)
        assert set(values) == {VALUE}
        seen.extend(keys)
        return [Defect("own-rule", "passed on", node, keys[0])]

    defects = list(TreeVerification(blocks, root, look))
    assert sorted(key for key in seen if key) == [b"com.example.note/%06d" % number for number in range(300)]
    assert {defect.rule for defect in defects} == {"own-rule"}


def test_a_defect_names_its_node_and_its_key() -> None:
    tree = tree_of(300)
    leaf = next(node for node in tree.everywhere() if node.layer == 0 and len(node.rows) > 2)
    leaf.rows[1].share = 3
    (defect,) = verify_tree(*planted(tree))
    blocks: dict[bytes, bytes] = {}
    assert defect.rule == "prefix-not-maximal"
    assert defect.key == leaf.rows[1].key
    assert defect.cid == store(leaf, blocks)


def test_the_walk_goes_on_behind_a_defect() -> None:
    tree = tree_of(1000)
    tree.change = lambda fields: {**fields, "x": 1}
    leaves = [node for node in tree.everywhere() if node.layer == 0 and len(node.rows) > 2]
    leaves[0].rows[1].share = leaves[-1].rows[1].share = 3
    blocks, root = planted(tree)
    verification = TreeVerification(blocks, root)
    found = [defect.rule for defect in verification]
    assert found == ["node-fields", "prefix-not-maximal", "prefix-not-maximal"]
    assert (verification.entries, verification.complete) == (1000, True)


@pytest.mark.parametrize("missing", [True, False])
def test_a_node_that_cannot_be_read_leaves_the_walk_incomplete(missing: bool) -> None:
    tree = tree_of(300)
    blocks, root = planted(tree)
    leaf = next(node for node in tree.everywhere() if node.layer == 0 and len(node.rows) > 2)
    wanted = store(leaf, {})

    class Damaged(MemoryBlocks):
        def get(self, cid: bytes) -> bytes:
            if cid == wanted:
                raise MissingBlock(cid) if missing else CorruptBlock(cid, "not these bytes")
            return blocks.get(cid)

    verification = TreeVerification(Damaged(), root)
    (defect,) = verification
    assert (defect.rule, defect.cid) == ("missing-block" if missing else "block-hash", wanted)
    assert not verification.complete


def test_a_root_that_is_not_there() -> None:
    verification = TreeVerification(MemoryBlocks(), cid_of(b"nowhere"))
    assert [defect.rule for defect in verification] == ["missing-block"]
    assert not verification.complete


def test_a_block_that_is_no_node() -> None:
    for block, rule in ((emit([1, 2]), "node-type"), (b"\xff", "cbor-malformed"), (b"", "cbor-truncated")):
        blocks = MemoryBlocks([(cid_of(block), block)])
        verification = TreeVerification(blocks, cid_of(block))
        assert [defect.rule for defect in verification] == [rule]
        assert not verification.complete


def test_subtrees_that_are_linked_again_and_again_are_visited_once() -> None:
    # 60 layers, each linking the next one three times: 3 ** 60 paths to the bottom.
    key = next(keys_like("com.example.note/{}", 0))
    node = Node(0, rows=[Row(key, VALUE)])
    for layer in range(1, 60):
        first, second = (key + b"%d-%d" % (layer, number) for number in (1, 2))
        node = Node(layer, left=node, rows=[Row(first, VALUE, node), Row(second, VALUE, node)])
    blocks: dict[bytes, bytes] = {}
    link = store_once(node, blocks)
    verification = TreeVerification(MemoryBlocks(blocks.items()), link)
    assert "shared-node" in {defect.rule for defect in verification}
    assert verification.nodes == len(blocks) == 60


def store_once(node: Node, blocks: dict[bytes, bytes]) -> bytes:
    """Like `store`, for a node whose children are one and the same, in linear time."""
    chain = [node]
    while chain[-1].left is not None:
        chain.append(chain[-1].left)
    below: bytes | None = None
    for item in reversed(chain):
        rows = [Row(row.key, row.value) for row in item.rows]
        flat = Node(item.layer, rows=rows)
        if below is not None:
            flat.change = linking(below)
        below = store(flat, blocks)
    assert below is not None
    return below


def linking(cid: bytes) -> Change:
    return lambda fields: {"l": Link(cid), "e": [{**entry, "t": Link(cid)} for entry in fields["e"]]}


def test_a_tower_of_empty_nodes_ends_at_the_height_limit() -> None:
    tree = tree_of(100)
    for _ in range(150):
        tree = Node(tree.layer + 1, left=tree)
    blocks, root = planted(tree)
    verification = TreeVerification(blocks, root)
    assert {defect.rule for defect in verification} == {"bare-root", "tree-height"}
    assert not verification.complete
    assert verification.nodes < 150


def test_deep_towers_do_not_recurse() -> None:
    blocks: dict[bytes, bytes] = {}
    link = store(Node(0, rows=[Row(b"com.example.note/a", VALUE)]), blocks)
    for _ in range(20_000):
        node = Node(0)
        node.change = linking(link)
        link = store(node, blocks)
    assert "tree-height" in {defect.rule for defect in TreeVerification(MemoryBlocks(blocks.items()), link)}


def test_every_key_of_a_child_out_of_range_is_named() -> None:
    high = next(keys_like("com.example.note/m{}", 1))
    low = sorted(key for key, _ in zip(keys_like("com.example.note/z{}", 0), range(4), strict=False))
    tree = Node(1, left=Node(0, rows=[Row(key, VALUE) for key in low]), rows=[Row(high, VALUE)])
    found = list(verify_tree(*planted(tree)))
    assert [(defect.rule, defect.key) for defect in found] == [("key-range", key) for key in low]


def test_the_builder_of_crooked_trees_is_itself_sound() -> None:
    assert rules(Repo().tree) == set()
