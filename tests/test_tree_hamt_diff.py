"""Differences: the changed entries, and exactly the nodes that one tree has and the other has not."""

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_hamt import (
    BLAKE3_CBOR,
    Found,
    PyHamt2Model,
    hash_map,
    keep,
    link,
    mined,
    py_hamt_2,
    py_hamt_3,
    value,
)

from mstfs.blocks.memory import MemoryBlocks
from mstfs.errors import MissingBlocks, NodeError
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.interface import Change

Plain = dict[bytes, bytes]

KEYS = sorted(
    {b"k/%02d" % number for number in range(40)} | set(mined(b"\x11\x22", 6)) | set(mined(b"\x11", 7))
)
plains = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 2).map(value), max_size=50)

BUILDERS: Mapping[str, Callable[[Plain], Found]] = {
    "py-hamt 2": py_hamt_2,
    "py-hamt 2.0.4": lambda plain: py_hamt_2(plain, skip=1),
    "py-hamt 3": py_hamt_3,
    "HashMap": lambda plain: hash_map({key: link(cid) for key, cid in plain.items()}, 3, 1),
}


def changes_of(a: Plain, b: Plain) -> tuple[Change, ...]:
    keys = sorted(a.keys() | b.keys())
    return tuple(Change(key, a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key))


def check(first: Found, second: Found, a: Plain, b: Plain) -> None:
    tree = HamtTree(MemoryBlocks([*first[1].items(), *second[1].items()]), PyHamt3())
    found = tree.diff(first[0], second[0])
    assert found.changes == changes_of(a, b)
    assert found.created == second[1].keys() - first[1].keys()
    assert found.deleted == first[1].keys() - second[1].keys()


@settings(max_examples=60)
@given(st.sampled_from(sorted(BUILDERS)), plains, plains)
def test_any_two_trees(name: str, a: Plain, b: Plain) -> None:
    check(BUILDERS[name](a), BUILDERS[name](b), a, b)


@settings(max_examples=20)
@given(plains, plains)
def test_trees_of_different_layouts(a: Plain, b: Plain) -> None:
    check(py_hamt_2(a), py_hamt_3(b), a, b)


def test_another_history_is_no_change() -> None:
    plain = {b"k/%02d" % number: value(number) for number in range(300)}
    model = PyHamt2Model()
    for key in sorted(plain, reverse=True):
        model.set(key, plain[key])
    first, second = py_hamt_2(plain), model.store()
    assert first[0] != second[0]
    check(first, second, plain, plain)


def test_equal_roots_are_not_read() -> None:
    found = HamtTree(MemoryBlocks(), PyHamt3()).diff(value(1), value(1))
    assert (found.changes, found.created, found.deleted) == ((), frozenset(), frozenset())


def test_only_what_differs_is_read() -> None:
    a = {b"k/%04d" % number: value(number % 5) for number in range(1500)}
    b = {**a, b"k/0700": value(9)}
    first, second = py_hamt_3(a), py_hamt_3(b)
    own = [cid for cid in first[1] if cid not in second[1]] + [
        cid for cid in second[1] if cid not in first[1]
    ]
    blocks = MemoryBlocks([*first[1].items(), *second[1].items()])
    for cid in (first[1].keys() & second[1].keys()) - set(own):
        blocks.delete(cid)
    found = HamtTree(blocks, PyHamt3()).diff(first[0], second[0])
    assert found.changes == (Change(b"k/0700", a[b"k/0700"], value(9)),)


def test_all_missing_nodes_of_a_level_are_named() -> None:
    a = {key: value(1) for key in KEYS}
    b = {key: value(2) for key in KEYS}
    first, second = py_hamt_3(a), py_hamt_3(b)
    tree = HamtTree(blocks := MemoryBlocks(), PyHamt3())
    with pytest.raises(MissingBlocks) as caught:
        tree.diff(first[0], second[0])
    assert caught.value.cids == (first[0], second[0])
    blocks.put_many([(root, nodes[root]) for root, nodes in (first, second)])
    with pytest.raises(MissingBlocks) as caught:
        tree.diff(first[0], second[0])
    assert len(caught.value.cids) == len(set(caught.value.cids)) >= 2
    assert all(not blocks.has(cid) for cid in caught.value.cids)


def test_a_tree_that_holds_a_key_twice_is_refused() -> None:
    nodes: dict[bytes, bytes] = {}
    child = keep([{"k": link(value(1))}, *[{}] * 255], nodes, BLAKE3_CBOR)
    root = keep([{"k": link(value(2))}, [link(child)], *[{}] * 254], nodes, BLAKE3_CBOR)
    empty, more = py_hamt_3({})
    tree = HamtTree(MemoryBlocks([*nodes.items(), *more.items()]), PyHamt3())
    with pytest.raises(NodeError) as caught:
        tree.diff(root, empty)
    assert caught.value.rule == "key-duplicate"
