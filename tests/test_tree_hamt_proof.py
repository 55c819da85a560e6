"""Proofs of single keys, and what does not prove anything."""

from collections.abc import Callable

import pytest
from naive_hamt import (
    BLAKE3_CBOR,
    Found,
    blake3_of,
    filecoin,
    hash_map,
    keep,
    link,
    mined,
    py_hamt_2,
    py_hamt_3,
    value,
)

from mstfs.blocks.memory import MemoryBlocks
from mstfs.errors import MissingBlock, ProofError
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.proof import check, prove
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.sniff import sniff
from mstfs.tree.hamt.tree import HamtTree

PLAIN = {b"k/%03d" % number: value(number) for number in range(700)}

FAMILIES: dict[str, Callable[[], Found]] = {
    "py-hamt 2": lambda: py_hamt_2(PLAIN),
    "py-hamt 2.0.4": lambda: py_hamt_2(PLAIN, skip=1),
    "py-hamt 3": lambda: py_hamt_3(PLAIN),
    "HashMap": lambda: hash_map({key: link(cid) for key, cid in PLAIN.items()}),
    "Filecoin": lambda: filecoin({key: link(cid) for key, cid in PLAIN.items()}),
}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_keys_that_are_there_and_keys_that_are_not(name: str) -> None:
    root, nodes = FAMILIES[name]()
    blocks = MemoryBlocks(nodes.items())
    sniffed = sniff(nodes[root])
    assert sniffed is not None
    layout = HamtTree(blocks, sniffed).layout(root)
    for key in [*list(PLAIN)[::50], b"", b"k/", b"absent"]:
        proof = prove(blocks, root, layout, key)
        assert proof[0] == (root, nodes[root])
        assert len(proof) < 6
        unrelated = [(value(1), b"unrelated")]
        assert check(root, layout, key, [*proof[::-1], *unrelated]) == PLAIN.get(key)
        for left_out in range(len(proof)):
            with pytest.raises(ProofError, match="lacks"):
                check(root, layout, key, proof[:left_out] + proof[left_out + 1 :])
        other = [(cid, block + b"\0") for cid, block in proof]
        with pytest.raises(ProofError, match="does not match"):
            check(root, layout, key, other)


def test_a_proof_needs_its_blocks() -> None:
    with pytest.raises(MissingBlock):
        prove(MemoryBlocks(), value(1), PyHamt3(), b"k")


def test_a_key_in_the_wrong_bucket_is_not_proved() -> None:
    nodes: dict[bytes, bytes] = {}
    (key,) = mined(b"\x11", 1)
    slots: list[dict[str, object]] = [{} for _ in range(256)]
    slots[blake3_of(key)[0] + 1] = {key.decode(): link(value(1))}
    root = keep(slots, nodes, BLAKE3_CBOR)
    with pytest.raises(ProofError, match="slot"):
        check(root, PyHamt3(), key, nodes.items())


def test_blocks_that_are_no_nodes_and_functions_that_nobody_knows() -> None:
    nodes: dict[bytes, bytes] = {}
    root = keep(["no node"], nodes, BLAKE3_CBOR)
    with pytest.raises(ProofError):
        check(root, PyHamt3(), b"k", nodes.items())
    with pytest.raises(ProofError, match="function"):
        check(root, HashMap(key_hash=0x99), b"k", nodes.items())
    short = b"\x01\x71\x11\x14" + bytes(20)
    with pytest.raises(ProofError):
        check(short, PyHamt3(), b"k", [(short, b"")])
