"""Proofs of keys and of changes: they suffice, nothing else does, and nobody can forge them."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_mst import build, depth, mined, read_car, value

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.errors import ProofError
from mstfs.tree.interface import Change, Edit
from mstfs.tree.mst.node import EMPTY_BLOCK, EMPTY_CID, MstNode, cid_of, encode
from mstfs.tree.mst.proof import check, check_changes, prove, prove_changes
from mstfs.tree.mst.tree import MstTree

Plain = dict[bytes, bytes]

KEYS = sorted({b"k/%03d" % number for number in range(60)} | {mined(layer)[0] for layer in range(6)})
plain_dicts = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 2).map(value), max_size=50)


@settings(max_examples=60)
@given(plain_dicts, st.sampled_from(KEYS))
def test_a_proof_of_one_key(plain: Plain, key: bytes) -> None:
    root, nodes = build(plain)
    proof = prove(MemoryBlocks(nodes.items()), root, key)
    assert proof[0][0] == root
    assert all(nodes[cid] == block for cid, block in proof)
    assert len(proof) <= max(map(depth, plain), default=0) + 1
    assert check(root, key, proof) == plain.get(key)
    assert check(root, key, [*nodes.items(), (value(9), b"anything")]) == plain.get(key)
    with pytest.raises(ProofError):
        check(root, key, proof[1:])
    if key in plain:
        with pytest.raises(ProofError):
            check(root, key, proof[:-1])


def test_an_absent_key_needs_no_node_below_its_layer() -> None:
    high, low = mined(5, 2), mined(0)[0]
    root, nodes = build({high[0]: value(1), low: value(2)})
    proof = prove(MemoryBlocks(nodes.items()), root, high[1])
    assert check(root, high[1], proof) is None
    assert check(root, high[1], proof[:1]) is None


def store(held: dict[bytes, bytes], node: MstNode) -> bytes:
    block = encode(node)
    held[cid_of(block)] = block
    return cid_of(block)


def test_blocks_that_do_not_fit_are_refused() -> None:
    plain = dict.fromkeys(mined(0, 5) + mined(1, 2), value(1))
    key = mined(0)[0]
    root, nodes = build(plain)
    proof = prove(MemoryBlocks(nodes.items()), root, key)
    with pytest.raises(ProofError, match="does not match"):
        check(root, key, [(root, proof[-1][1]), *proof[1:]])
    with pytest.raises(ProofError):
        check(cid_of(b"\xa0"), key, [(cid_of(b"\xa0"), b"\xa0")])


def test_nodes_that_cannot_stand_where_they_are_are_refused() -> None:
    one = value(1)
    top = mined(1)[0]
    before, behind = mined(0, 1, "a")[0], mined(0, 1, "z")[0]
    held: dict[bytes, bytes] = {}
    forged = {
        "outside of the gap": MstNode((behind,), (one,), (None, None)),
        "of another layer": MstNode((mined(2, 1, "a")[0],), (one,), (None, None)),
        "without being a root": MstNode((), (), (None,)),
    }
    for reason, child in forged.items():
        root = store(held, MstNode((top,), (one,), (store(held, child), None)))
        with pytest.raises(ProofError, match=reason):
            check(root, before, held.items())
    mixed = MstNode(tuple(sorted([top, behind])), (one, one), (None, None, None))
    with pytest.raises(ProofError, match="of another layer"):
        check(store(held, mixed), b"zzz", held.items())
    chain = store(held, MstNode((before,), (one,), (None, None)))
    for _ in range(200):
        chain = store(held, MstNode((), (), (chain,)))
    with pytest.raises(ProofError, match="longer than"):
        check(chain, before, held.items())


@settings(max_examples=60)
@given(plain_dicts, plain_dicts)
def test_a_proof_of_changes(a: Plain, b: Plain) -> None:
    (before, nodes_a), (after, nodes_b) = build(a), build(b)
    tree = MstTree(MemoryBlocks({**nodes_a, **nodes_b}.items()))
    changes = tree.diff(before, after).changes
    proof = prove_changes(MemoryBlocks(nodes_b.items()), after, [change.key for change in changes])
    check_changes(before, after, changes, proof)
    check_changes(before, after, changes[::-1], proof)
    if changes:
        with pytest.raises(ProofError):
            check_changes(before, after, changes[1:], proof)
        with pytest.raises(ProofError):
            check_changes(before, after, changes, proof[1:])
        key, old, _ = changes[0]
        with pytest.raises(ProofError):
            check_changes(before, after, (Change(key, old, value(77)), *changes[1:]), proof)
        with pytest.raises(ProofError):
            check_changes(before, after, (Change(key, value(77), changes[0].new), *changes[1:]), proof)


def test_the_blocks_of_the_commit_proof_fixtures(shared_fixtures: Path) -> None:
    text = (shared_fixtures / "atproto/interop/firehose/commit-proof-fixtures.json").read_text()
    cases = json.loads(text)
    assert cases
    for case in cases:
        leaf = cids.parse(case["leafValue"])
        blocks = MemoryBlocks([(EMPTY_CID, EMPTY_BLOCK)])
        tree = MstTree(blocks)
        root = EMPTY_CID
        roots: list[bytes] = []
        adds = [Edit(key.encode(), leaf) for key in case["adds"]]
        batch = sorted(adds + [Edit(key.encode(), None) for key in case["dels"]])
        for edits in (sorted(Edit(key.encode(), leaf) for key in case["keys"]), batch):
            root, nodes = tree.apply(root, edits)
            roots.append(root)
            blocks.put_many(nodes.items())
        before, after = roots
        proof = prove_changes(blocks, after, [edit.key for edit in batch])
        assert {cids.to_text(cid) for cid, _ in proof} == set(case["blocksInProof"]), case["comment"]
        check_changes(before, after, tree.diff(before, after).changes, proof)


def test_the_proofs_of_the_diff_cases(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "mst-diff"
    for case in json.loads((folder / "cases.json").read_text()):
        roots: list[bytes] = []
        found: dict[bytes, bytes] = {}
        for name in (case["inputs"]["mst_a"], case["inputs"]["mst_b"]):
            heads, held = read_car((folder / "cars" / name).read_bytes())
            roots += heads
            found.update(held)
        blocks = MemoryBlocks(found.items())
        before, after = roots
        changes = MstTree(blocks).diff(before, after).changes
        # Their proof suffices for our check, and ours holds every node of theirs.
        theirs = {cids.parse(text) for text in case["results"]["inductive_proof_nodes"]}
        check_changes(before, after, changes, [(cid, found[cid]) for cid in theirs])
        ours = prove_changes(blocks, after, [change.key for change in changes])
        check_changes(before, after, changes, ours)
        assert theirs <= dict(ours).keys(), case["name"]
        # The same for the proofs that the keys are what they are.
        theirs = {cids.parse(text) for text in case["results"]["proof_nodes"]}
        paths: set[bytes] = set()
        for change in changes:
            path = [(cid, found[cid]) for cid in theirs]
            assert check(after, change.key, path) == change.new, case["name"]
            paths.update(cid for cid, _ in prove(blocks, after, change.key))
        assert theirs <= paths, case["name"]
