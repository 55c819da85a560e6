"""Reading: real files, pages in key order, trees that are damaged, that lie, or that are not all there."""

import json
from collections.abc import Callable
from pathlib import Path

import dag_cbor
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_hamt import (
    BLAKE3_CBOR,
    SHA256_CBOR,
    Found,
    Plain,
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
from naive_mst import read_car

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.errors import (
    CorruptBlock,
    LimitExceeded,
    MissingBlock,
    MstfsError,
    NodeError,
)
from mstfs.tree.hamt import hashes
from mstfs.tree.hamt.filecoin import Filecoin
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import inline_cid
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.sniff import sniff
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.interface import Edit, Entry

PLAIN = {b"dir%d/k/%03d" % (number % 3, number): value(number) for number in range(400)}


def opened(found: Found) -> tuple[HamtTree, bytes]:
    root, nodes = found
    layout = sniff(nodes[root])
    assert layout is not None
    return HamtTree(MemoryBlocks(nodes.items()), layout), root


def linked(plain: dict[bytes, bytes]) -> Plain:
    return {key: link(cid) for key, cid in plain.items()}


# --- real files ---------------------------------------------------------------------------------------

FIXTURES = [
    ("hamt_pyhamt2_2000", PyHamt2()),
    ("hamt_pyhamt3_2000", PyHamt3()),
    ("hamt_pyhamt3_empty", PyHamt3()),
    ("hamt_pyhamt3_hostile_keys", PyHamt3()),
    ("hamt_pyhamt3_one", PyHamt3()),
    ("zarr_pyhamt3", PyHamt3()),
    ("hamt_ipld_hashmap_bw8_bs3_sha256", HashMap(8, 3, hashes.SHA2_256)),
]


def car_of(folder: Path, name: str) -> tuple[HamtTree, bytes]:
    roots, found = read_car((folder / "hamt" / f"{name}.car").read_bytes())
    return opened((roots[0], found))


@pytest.mark.parametrize(("name", "layout"), FIXTURES)
def test_real_files(shared_fixtures: Path, name: str, layout: Layout) -> None:
    expected = json.loads((shared_fixtures / "hamt" / f"{name}.json").read_text())["sha256"]
    tree, root = car_of(shared_fixtures, name)
    assert tree.layout(root) == layout
    again, _ = car_of(shared_fixtures, name)
    found = {}
    for key, cid in tree.page(root):
        assert again.get(root, key) == cid
        data = tree.values.get(cid) if tree.values.has(cid) else b""
        if not data or sha256_of(data).hex() != expected[key.decode()]:
            data = dag_cbor.encode(link(cid))  # what the fixture says of a value that is a link
        found[key.decode()] = sha256_of(data).hex()
    assert found == expected
    assert again.get(root, b"no such key") is None


def test_the_words_of_alice(shared_fixtures: Path) -> None:
    expected = json.loads((shared_fixtures / "hamt" / "ipld__hamt.json").read_text())
    tree, root = car_of(shared_fixtures, "ipld__hamt")
    assert tree.layout(root) == HashMap(5, 3, hashes.SHA2_256)
    entries = tree.page(root)
    assert {key.decode(): dag_cbor.decode(tree.values.get(cid)) for key, cid in entries} == expected
    # Short values are carried by their CIDs, long ones by the nodes.
    assert {cids.hash_of(cid)[0] for _, cid in entries} == {cids.IDENTITY, cids.SHA2_256}


@pytest.mark.parametrize("name", [name for name, layout in FIXTURES if layout == PyHamt3()])
def test_real_files_are_made_anew_entry_by_entry(shared_fixtures: Path, name: str) -> None:
    tree, root = car_of(shared_fixtures, name)
    copy = HamtTree(blocks := MemoryBlocks(), PyHamt3())
    empty, block = copy.empty()
    blocks.put(empty, block)
    applied = copy.apply(empty, [Edit(key, cid) for key, cid in tree.page(root)])
    assert applied.root == root
    nodes = dict(tree.nodes(root))
    assert applied.nodes == {cid: block for cid, block in nodes.items() if cid != empty}


# --- pages --------------------------------------------------------------------------------------------

keys = st.binary(max_size=3)


@settings(max_examples=60)
@given(
    st.dictionaries(keys, st.integers(0, 3).map(value), max_size=30),
    keys,
    st.none() | keys,
    st.integers(-1, 9),
)
def test_pages_are_slices_of_the_sorted_entries(
    plain: dict[bytes, bytes], prefix: bytes, after: bytes | None, limit: int
) -> None:
    tree, root = opened(hash_map(linked(plain)))
    ordered = [Entry(key, plain[key]) for key in sorted(plain)]
    within = [entry for entry in ordered if entry.key.startswith(prefix)]
    rest = [entry for entry in within if after is None or entry.key > after]
    assert tree.page(root) == ordered
    assert tree.page(root, prefix, after) == rest
    assert tree.page(root, prefix, after, limit) == rest[: max(0, limit)]
    assert list(tree.walk(root, prefix)) == within
    assert tree.columns(root, prefix) == ([key for key, _ in within], [cid for _, cid in within])
    assert tree.seek(root, prefix) == next((entry for entry in ordered if entry.key >= prefix), None)
    for key in (*plain, prefix):
        assert tree.get(root, key) == plain.get(key)


def test_prefixes_of_nothing_but_ff() -> None:
    plain = {key: value(1) for key in (b"\xfe", b"\xff", b"\xff\xff", b"\xff\xff\x01")}
    tree, root = opened(hash_map(linked(plain)))
    assert [key for key, _ in tree.page(root, b"\xff\xff")] == [b"\xff\xff", b"\xff\xff\x01"]
    assert [key for key, _ in tree.page(root, b"\xff", b"\xff")] == [b"\xff\xff", b"\xff\xff\x01"]


FAMILIES: dict[str, Callable[[], Found]] = {
    "py-hamt 2": lambda: py_hamt_2(PLAIN),
    "py-hamt 2.0.4": lambda: py_hamt_2(PLAIN, skip=1),
    "py-hamt 2, bare": lambda: py_hamt_2(PLAIN, bare=True),
    "py-hamt 3": lambda: py_hamt_3(PLAIN),
    "HashMap": lambda: hash_map(linked(PLAIN)),
    "HashMap of murmur3": lambda: hash_map(linked(PLAIN), 5, 3, hashes.murmur3_x64_64, hashes.MURMUR3_X64_64),
    "HashMap that lies": lambda: hash_map(linked(PLAIN), 4, 2, sha256_of, hashes.MURMUR3_X64_64),
    "HashMap of who knows what": lambda: hash_map(linked(PLAIN), 8, 5, lambda key: sha256_of(key)[9:], 0x99),
    "py-hamt 1.0": lambda: hash_map(linked(PLAIN), 8, 5, hashes.murmur3_x64_128, 0x23, old=True),
    "py-hamt 3 of who knows what": lambda: py_hamt_3(PLAIN, function=lambda key: sha256_of(key)[5:]),
}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_lists_and_gets(name: str) -> None:
    found = FAMILIES[name]()
    tree, root = opened(found)
    for key, cid in PLAIN.items():
        assert tree.get(root, key) == cid
    assert tree.get(root, b"dir1/k") is None
    assert dict(tree.page(root)) == PLAIN
    assert dict(tree.nodes(root)) == found[1]
    assert next(tree.nodes(root))[0] == root
    streamed = [cid for cid, block in tree.stream(root) if block is None]
    assert sorted(streamed) == sorted(PLAIN.values())


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("width", [5, 8])
def test_filecoin(width: int, old: bool) -> None:
    entries = {b"actor-%d" % number: {"n": number} for number in range(300)}
    root, nodes = filecoin(entries, width, old=old)
    layout = sniff(nodes[root])
    assert layout == Filecoin(width=width, old=old)
    for own in (layout, Filecoin(width=width, key_hash=hashes.MURMUR3_X64_64, old=old)):
        tree = HamtTree(MemoryBlocks(nodes.items()), own)
        found = {key: dag_cbor.decode(tree.values.get(cid)) for key, cid in tree.page(root)}
        assert found == entries
        assert tree.layout(root) == layout
        again = HamtTree(MemoryBlocks(nodes.items()), own)
        assert all(again.get(root, key) is not None for key in entries)
        assert again.get(root, b"actor") is None
    assert HamtTree(MemoryBlocks(), layout).empty()[1] == dag_cbor.encode([b"", []])


def test_one_object_serves_roots_of_several_layouts() -> None:
    first, second = py_hamt_2(PLAIN), py_hamt_3(PLAIN)
    tree = HamtTree(MemoryBlocks([*first[1].items(), *second[1].items()]), PyHamt3())
    assert tree.page(first[0]) == tree.page(second[0])
    assert tree.diff(first[0], second[0]).changes == ()


def test_a_root_that_is_no_hamt() -> None:
    nodes: dict[bytes, bytes] = {}
    root = keep({"not": "a HAMT"}, nodes, SHA256_CBOR)
    pointers = keep([b"", []], nodes, SHA256_CBOR)
    tree = HamtTree(MemoryBlocks(nodes.items()), PyHamt3())
    for cid in (root, pointers):
        with pytest.raises(NodeError) as caught:
            tree.get(cid, b"k")
        assert caught.value.rule == "not-hamt"


# --- values inside nodes --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 100, 121, 122, 123, 124, 5000])
def test_values_inside_of_nodes_are_served(size: int) -> None:
    text = "x" * size
    tree, root = opened(hash_map({b"k": text}))
    cid = tree.get(root, b"k")
    assert cid is not None
    assert tree.values.has(cid)
    data = tree.values.get(cid)
    assert dag_cbor.decode(data) == text
    assert cid == inline_cid(data)
    assert (cids.identity_data(cid) is None) == (len(data) > 124)
    other = inline_cid(dag_cbor.encode("y" * 500))
    assert not tree.values.has(other)
    with pytest.raises(MissingBlock):
        tree.values.get(other)


# --- trees that are not all there -----------------------------------------------------------------------


def damaged() -> tuple[MemoryBlocks, bytes, list[bytes]]:
    # Two children, because eight keys share one slot, and eight another.
    keys = (*mined(b"\x11", 8), *mined(b"\x12", 8), b"beside")
    root, nodes = py_hamt_3({key: value(1) for key in keys})
    return MemoryBlocks(nodes.items()), root, [cid for cid in nodes if cid != root]


def test_missing_subtrees_are_raised_or_left_out() -> None:
    blocks, root, children = damaged()
    assert len(children) == 2
    saved = [blocks.get(cid) for cid in children]
    for cid in children:
        blocks.delete(cid)
    tree = HamtTree(blocks, PyHamt3())
    for reading in (tree.page, tree.columns, lambda root: tree.seek(root, b"")):
        with pytest.raises(MissingBlock):
            reading(root)
    for listing in (tree.page, lambda root, **more: list(tree.walk(root, **more))):
        told: list[MstfsError] = []
        assert listing(root, on_missing=told.append) == [Entry(b"beside", value(1))]
        assert sorted(getattr(error, "cid", b"") for error in told) == sorted(children)
    assert tree.seek(root, b"a", on_missing=lambda error: None) == Entry(b"beside", value(1))
    assert sorted(tree.missing(root)) == sorted(children)
    assert tree.get(root, b"beside") == value(1)
    with pytest.raises(MissingBlock):
        tree.get(root, mined(b"\x11", 1)[0])
    # Once they are there, they are found.
    blocks.put_many(zip(children, saved, strict=True))
    assert len(tree.page(root)) == 17
    assert tree.missing(root) == ()


def test_corrupt_subtrees_are_raised_or_left_out_and_found_when_mended() -> None:
    blocks, root, children = damaged()
    saved = blocks.get(children[0])
    blocks.plant(children[0], b"other bytes")
    tree = HamtTree(blocks, PyHamt3())
    with pytest.raises(CorruptBlock):
        tree.page(root)
    told: list[MstfsError] = []
    assert len(tree.page(root, on_missing=told.append)) == 9
    assert [type(error) for error in told] == [CorruptBlock]
    assert tree.missing(root) == ()
    blocks.put(children[0], saved)
    assert len(tree.page(root)) == 17


def test_a_missing_root() -> None:
    tree = HamtTree(MemoryBlocks(), PyHamt3())
    told: list[MstfsError] = []
    assert tree.page(value(1), on_missing=told.append) == []
    assert [type(error) for error in told] == [MissingBlock]
    with pytest.raises(MissingBlock):
        tree.page(value(1))
    with pytest.raises(MissingBlock):
        tree.get(value(1), b"k")


def test_a_tree_that_cannot_be_placed_for_now_is_looked_at_again() -> None:
    root, nodes = py_hamt_2(
        {key: value(1) for key in (*mined(b"\x11\x22", 6), *mined(b"\x11\x23", 6))}, skip=1
    )
    blocks = MemoryBlocks(nodes.items())
    (top,) = [block for cid, block in nodes.items() if cid == root]
    for cid in nodes:
        if cid != root:
            blocks.delete(cid)
    tree = HamtTree(blocks, PyHamt2())
    assert b"L" in top
    with pytest.raises(MissingBlock):
        tree.page(root)
    blocks.put_many(nodes.items())
    assert tree.layout(root) == PyHamt2(skip=1)


# --- hostile trees --------------------------------------------------------------------------------------


def slots_with(**items: object) -> list[object]:
    slots: list[object] = [{}] * 256
    for name, item in items.items():
        slots[int(name[1:])] = item
    return slots


def test_a_node_that_is_linked_many_times_is_read_once() -> None:
    # Without a memory this walk would see 256 ** 6 nodes.
    nodes: dict[bytes, bytes] = {}
    cid = keep(slots_with(_0={"k": link(value(1))}), nodes, BLAKE3_CBOR)
    for _ in range(6):
        cid = keep([[link(cid)]] * 256, nodes, BLAKE3_CBOR)
    empty = keep(slots_with(), nodes, BLAKE3_CBOR)
    tree = HamtTree(MemoryBlocks(nodes.items()), PyHamt3())
    with pytest.raises(NodeError) as caught:
        tree.page(cid)
    assert caught.value.rule == "repeated-node"
    assert tree.page(cid, on_missing=lambda error: None) == [Entry(b"k", value(1))]
    with pytest.raises(NodeError):
        list(tree.nodes(cid))
    with pytest.raises(NodeError):
        tree.diff(cid, empty)


def test_a_long_chain_comes_to_an_end() -> None:
    nodes: dict[bytes, bytes] = {}
    cid = keep(slots_with(_0={"k": link(value(1))}), nodes, BLAKE3_CBOR)
    for _ in range(2000):
        cid = keep(slots_with(_7=[link(cid)]), nodes, BLAKE3_CBOR)
    empty = keep(slots_with(), nodes, BLAKE3_CBOR)
    tree = HamtTree(MemoryBlocks(nodes.items()), PyHamt3())
    assert tree.get(cid, b"k") is None
    for action in (tree.page, lambda root: list(tree.nodes(root)), lambda root: tree.diff(root, empty)):
        with pytest.raises(LimitExceeded):
            action(cid)


def test_a_node_that_is_no_node_spoils_only_its_subtree() -> None:
    nodes: dict[bytes, bytes] = {}
    junk = keep({"junk": 1}, nodes, BLAKE3_CBOR)
    key = b"k"
    root = keep(
        slots_with(_1=[link(junk)], **{f"_{blake3_of(key)[0]}": {"k": link(value(1))}}), nodes, BLAKE3_CBOR
    )
    tree = HamtTree(MemoryBlocks(nodes.items()), PyHamt3())
    assert tree.get(root, key) == value(1)
    told: list[MstfsError] = []
    assert tree.page(root, on_missing=told.append) == [Entry(key, value(1))]
    assert [type(error) for error in told] == [NodeError]
    with pytest.raises(NodeError) as caught:
        tree.page(root)
    assert caught.value.rule == "node-type"


def test_a_link_that_proves_nothing_spoils_only_its_subtree() -> None:
    nodes: dict[bytes, bytes] = {}
    sha1 = b"\x01\x71\x11\x14" + bytes(20)
    root = keep(slots_with(_1=[link(sha1)], _2={"k": link(value(1))}), nodes, BLAKE3_CBOR)
    blocks = MemoryBlocks(nodes.items())
    blocks.plant(sha1, b"anything")
    tree = HamtTree(blocks, PyHamt3())
    told: list[MstfsError] = []
    assert tree.page(root, on_missing=told.append) == [Entry(b"k", value(1))]
    assert [type(error) for error in told] == [NodeError]


def test_only_so_many_holes_are_remembered() -> None:
    nodes: dict[bytes, bytes] = {}
    children = []
    for turn in range(20):
        missing = [[link(value(256 * turn + slot))] for slot in range(255)]
        children.append([link(keep([*missing, {f"k{turn:02d}": link(value(1))}], nodes, BLAKE3_CBOR))])
    root = keep([*children, *[{}] * 236], nodes, BLAKE3_CBOR)
    tree = HamtTree(MemoryBlocks(nodes.items()), PyHamt3())
    told: list[MstfsError] = []
    assert [key for key, _ in tree.page(root, on_missing=told.append)] == [
        b"k%02d" % turn for turn in range(20)
    ]
    assert len(told) == 4097
    assert isinstance(told[-1], LimitExceeded)


def test_tables_are_let_go_when_there_are_too_many() -> None:
    blocks = MemoryBlocks()
    tree = HamtTree(blocks, PyHamt3(), table_bytes=100_000)
    roots = []
    for turn in range(8):
        root, nodes = py_hamt_3({b"k/%d" % number: value(number + turn) for number in range(200)})
        blocks.put_many(nodes.items())
        roots.append(root)
        assert len(tree.page(root)) == 200
    held = [root for root in roots if tree._tables.get(root) is not None]
    assert held == roots[-len(held) :]
    assert 1 <= len(held) < 8
    small = HamtTree(blocks, PyHamt3(), table_bytes=0)
    assert small.page(roots[0]) == small.page(roots[0])
    assert small._tables.get(roots[0]) is not None
