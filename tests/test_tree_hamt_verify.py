"""The strict check: sound trees have no defects, and each defect is found and named."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
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
from mstfs.errors import CorruptBlock, Refused, UnreachableBlock
from mstfs.tree.defect import Defect, block_defect
from mstfs.tree.hamt import hashes
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.sniff import sniff
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.hamt.verify import TreeVerification, verify_tree
from mstfs.tree.interface import Edit

PLAIN = {b"k/%03d" % number: value(number) for number in range(500)}
LINKED = {key: link(cid) for key, cid in PLAIN.items()}
ONE = link(value(1))


def layout_of(block: bytes) -> Layout:
    layout = sniff(block)
    assert layout is not None
    return layout


def defects(found: Found, drop: Sequence[bytes] = ()) -> list[Defect]:
    root, nodes = found
    blocks = MemoryBlocks(nodes.items())
    for cid in drop:
        blocks.delete(cid)
    return list(verify_tree(blocks, root, layout_of(nodes[root])))


def rules(found: Found) -> list[str]:
    return [defect.rule for defect in defects(found)]


def shrunk() -> Found:
    """A tree of py-hamt 2 that lost most of its entries."""
    model = PyHamt2Model()
    for key, cid in PLAIN.items():
        model.set(key, cid)
    for key in list(PLAIN)[3:]:
        model.delete(key)
    return model.store()


SOUND: dict[str, Callable[[], Found]] = {
    "empty": lambda: py_hamt_3({}),
    "py-hamt 2": lambda: py_hamt_2(PLAIN),
    "py-hamt 2, bare": lambda: py_hamt_2(PLAIN, bare=True),
    "py-hamt 2, shrunk": shrunk,
    "py-hamt 3": lambda: py_hamt_3(PLAIN),
    "HashMap": lambda: hash_map(LINKED),
    "HashMap of murmur3": lambda: hash_map(LINKED, 8, 4, hashes.murmur3_x64_64, 0x22),
    "HashMap with values": lambda: hash_map({key: [1, "text" * 50] for key in PLAIN}, 3, 1),
    "Filecoin": lambda: filecoin(PLAIN),
    "Filecoin, old": lambda: filecoin(PLAIN, old=True),
}


@pytest.mark.parametrize("name", sorted(SOUND))
def test_sound_trees(name: str) -> None:
    root, nodes = SOUND[name]()
    verification = TreeVerification(MemoryBlocks(nodes.items()), root, layout_of(nodes[root]))
    assert list(verification) == []
    assert verification.nodes == len(nodes)
    assert verification.complete
    assert verification.entries in (0, 3, 500)


def test_entries_are_handed_over_with_their_node() -> None:
    root, nodes = py_hamt_3(PLAIN)
    seen: dict[bytes, bytes] = {}

    def look(node: bytes, keys: Sequence[bytes], values: Sequence[bytes]) -> list[Defect]:
        assert node in nodes
        seen.update(zip(keys, values, strict=True))
        return [Defect("own-rule", "passed on", node)]

    verification = TreeVerification(MemoryBlocks(nodes.items()), root, layout_of(nodes[root]), look)
    assert {defect.rule for defect in verification} == {"own-rule"}
    assert seen == PLAIN


# --- what is wrong with the tree as a whole -------------------------------------------------------------


def test_placements_that_are_not_the_declared_ones() -> None:
    assert rules(py_hamt_2(PLAIN, skip=1)) == ["hash-offset"]
    assert rules(hash_map(LINKED, declared=0x22)) == ["hash-declared"]
    assert rules(hash_map(LINKED, function=lambda key: sha256_of(key)[3:])) == ["hash-unknown"]
    assert rules(py_hamt_3(PLAIN, function=sha256_of)) == ["hash-unknown"]


# --- single nodes ---------------------------------------------------------------------------------------


def slots(**items: Any) -> list[Any]:
    made: list[Any] = [{}] * 256
    for name, item in items.items():
        made[int(name[1:])] = item
    return made


def placed(key: bytes, item: Any, level: int = 0) -> list[Any]:
    return slots(**{f"_{blake3_of(key)[level]}": item})


def test_missing_and_corrupt_blocks() -> None:
    root, nodes = py_hamt_3(PLAIN)
    first, second = [cid for cid in nodes if cid != root][:2]
    blocks = MemoryBlocks(nodes.items())
    blocks.delete(first)
    blocks.plant(second, b"other")
    verification = TreeVerification(blocks, root, layout_of(nodes[root]))
    found = {(defect.rule, defect.cid) for defect in verification}
    assert found == {("missing-block", first), ("block-hash", second)}
    assert not verification.complete
    assert [defect.rule for defect in defects((root, nodes), [root])] == ["missing-block"]
    assert block_defect(UnreachableBlock(root, "no answer")).rule == "unreachable-block"
    assert block_defect(CorruptBlock(root, "other bytes")).message == "other bytes"


def test_a_hash_that_cannot_be_checked() -> None:
    nodes: dict[bytes, bytes] = {}
    root = keep(slots(_1=[link(b"\x01\x71\x11\x14" + bytes(20))]), nodes, BLAKE3_CBOR)
    assert rules((root, nodes)) in (["block-hash-unknown"], ["missing-block"])


def test_blocks_that_are_not_canonical() -> None:
    nodes: dict[bytes, bytes] = {}
    root = keep(placed(b"k", {"k": ONE}), nodes, BLAKE3_CBOR)
    # The number of items in the list with four bytes and not with two.
    longer = b"\x9a\x00\x00" + nodes[root][1:]
    cid = BLAKE3_CBOR + blake3_of(longer)
    verification = TreeVerification(MemoryBlocks([(cid, longer)]), cid, layout_of(nodes[root]))
    assert [defect.rule for defect in verification] == ["cbor-not-minimal"]
    assert (verification.entries, verification.complete) == (1, True)
    junk = b"\xff"
    cid = BLAKE3_CBOR + blake3_of(junk)
    verification = TreeVerification(MemoryBlocks([(cid, junk)]), cid, layout_of(nodes[root]))
    assert len(list(verification)) == 1
    assert not verification.complete


def test_nodes_of_the_wrong_form() -> None:
    nodes: dict[bytes, bytes] = {}
    other = keep({"e": [], "l": None}, nodes, BLAKE3_CBOR)
    root = keep(slots(_1=[link(other)], _2=[link(keep([1], nodes, BLAKE3_CBOR))]), nodes, BLAKE3_CBOR)
    assert rules((root, nodes)) == ["node-type", "node-slots"]


def test_keys_in_the_wrong_place() -> None:
    # Enough keys are right, so that the placement is known.
    (wrong,) = mined(b"\x12\x07", 1)
    top: list[Any] = [{} for _ in range(256)]
    for key in (f"k/{number:03d}" for number in range(20)):
        top[blake3_of(key.encode())[0]][key] = ONE
    top[0x13][wrong.decode()] = ONE
    nodes: dict[bytes, bytes] = {}
    root = keep(top, nodes, BLAKE3_CBOR)
    assert [(defect.rule, defect.key) for defect in defects((root, nodes))] == [("key-slot", wrong)]
    # Such a key is listed and found, but the tree is not edited.
    tree = HamtTree(MemoryBlocks(nodes.items()), PyHamt3())
    assert tree.get(root, wrong) == value(1)
    with pytest.raises(Refused):
        tree.apply(root, [Edit(wrong, None)])


def test_too_full_a_bucket() -> None:
    keys = mined(b"\x11", 5)
    nodes: dict[bytes, bytes] = {}
    root = keep(slots(_17={key.decode(): ONE for key in keys}), nodes, BLAKE3_CBOR)
    assert rules((root, nodes)) == ["bucket-size"]


def test_subtrees_that_are_sparse_or_empty() -> None:
    nodes: dict[bytes, bytes] = {}
    (key,) = mined(b"\x11\x22", 1)
    child = keep(placed(key, {key.decode(): ONE}, 1), nodes, BLAKE3_CBOR)
    empty = keep(slots(), nodes, BLAKE3_CBOR)
    root = keep(slots(_17=[link(child)], _18=[link(empty)]), nodes, BLAKE3_CBOR)
    found = {(defect.rule, defect.cid) for defect in defects((root, nodes))}
    assert found == {("sparse-subtree", child), ("empty-node", empty)}
    # With a child that is missing nobody can tell.
    other = keep(slots(_0=[ONE], **{f"_{blake3_of(key)[1]}": {key.decode(): ONE}}), nodes, BLAKE3_CBOR)
    root = keep(slots(_17=[link(other)]), nodes, BLAKE3_CBOR)
    assert sorted(rules((root, nodes))) == ["missing-block", "node-link-kind"]


def test_only_the_topmost_sparse_node_is_named() -> None:
    nodes: dict[bytes, bytes] = {}
    (key,) = mined(b"\x11\x22", 1)
    low = keep(placed(key, {key.decode(): ONE}, 2), nodes, BLAKE3_CBOR)
    middle = keep(slots(_34=[link(low)]), nodes, BLAKE3_CBOR)
    root = keep(slots(_17=[link(middle)]), nodes, BLAKE3_CBOR)
    assert [(defect.rule, defect.cid) for defect in defects((root, nodes))] == [("sparse-subtree", middle)]


def test_nodes_that_are_linked_twice_and_chains_without_end() -> None:
    nodes: dict[bytes, bytes] = {}
    cid = keep(slots(), nodes, BLAKE3_CBOR)
    for _ in range(40):
        cid = keep(slots(_5=[link(cid)], _6=[link(cid)]), nodes, BLAKE3_CBOR)
    found = rules((cid, nodes))
    assert found.count("shared-node") == 31
    assert found[-1] == "tree-height" or "tree-height" in found
    assert len(found) == 32


def test_what_a_hash_map_can_have_wrong() -> None:
    first, second = sorted(mined(b"\x11", 2, sha256_of))
    bits = (1 << 2 | 1 << 9).to_bytes(4, "little")
    unsorted = [[second, ONE], [first, ONE]]

    def found(bucket: list[Any], other: list[Any], declared: int = 0x12) -> list[str]:
        nodes: dict[bytes, bytes] = {}
        root = {"hashAlg": declared, "bucketSize": 3, "hamt": [bits, [bucket, other]]}
        return rules((keep(root, nodes, SHA256_CBOR), nodes))

    right = next(key for key in PLAIN if sha256_of(key)[0] >> 3 == 9)
    assert found(sorted(unsorted), [[right, ONE]]) == []
    assert found(unsorted, [[right, ONE]]) == ["node-form"]
    assert found(sorted(unsorted), []) == ["node-form"]
    # Filecoin maps cannot be written, but their order is known too.
    nodes: dict[bytes, bytes] = {}
    root = keep([b"\x04", [unsorted]], nodes, SHA256_CBOR)
    assert rules((root, nodes)) == ["bucket-order"]


def test_a_node_over_the_limits() -> None:
    nodes: dict[bytes, bytes] = {}
    long = "k" * 10_000
    root = keep(slots(_1={long: ONE}), nodes, BLAKE3_CBOR)
    assert rules((root, nodes)) == ["limit"]
