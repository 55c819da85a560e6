"""Blocks of each layout: what is recognised, what is read, and what is refused and why."""

import random
from typing import Any

import dag_cbor
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_hamt import blake3_of, filecoin, hash_map, link, py_hamt_2, py_hamt_3, sha256_of, value

from mstfs.codec import cid as cids
from mstfs.errors import LimitExceeded, NodeError, Refused
from mstfs.limits import KEY_BYTES, NODE_BYTES
from mstfs.tree.hamt import hashes
from mstfs.tree.hamt.filecoin import Filecoin
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import HamtNode, is_multihash
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.sniff import sniff

ONE = link(value(1))
BARE = value(1)[2:]
ROOT = value(0)
EMPTY_SLOTS: list[Any] = [{}] * 256


def slots(*items: Any) -> list[Any]:
    return [*items, *EMPTY_SLOTS[len(items) :]]


def encoded(value: Any) -> bytes:
    return dag_cbor.encode(value)


def root_of(bits: bytes, elements: Any, **more: Any) -> dict[str, Any]:
    return {"hashAlg": 0x12, "bucketSize": 3, "hamt": [bits, elements], **more}


# --- sniffing -----------------------------------------------------------------------------------------

SNIFFED: list[tuple[Any, Layout | None]] = [
    ({"B": {}, "L": {}}, PyHamt2()),
    ({"B": {"7": [{"k": ONE}]}, "L": {}}, PyHamt2()),
    ({"B": {"7": [{"k": BARE}]}, "L": {}}, PyHamt2(bare=True)),
    ({"B": {}, "L": {"7": BARE}}, PyHamt2(bare=True)),
    ({"B": [], "L": {}}, None),
    ({"B": {}, "L": {}, "X": 1}, None),
    (EMPTY_SLOTS, PyHamt3()),
    (slots({}, {"k": ONE}), PyHamt3()),
    (slots({}, {"k": BARE}), PyHamt3(bare=True)),
    (slots({}, [BARE]), PyHamt3(bare=True)),
    (slots({}, [ONE, ONE]), None),
    (slots(1), None),
    (EMPTY_SLOTS[1:], None),
    (root_of(bytes(4), []), HashMap(5, 3, hashes.SHA2_256)),
    (root_of(bytes(1), []), HashMap(3, 3, hashes.SHA2_256)),
    (root_of(bytes(32), [], bucketSize=1), HashMap(8, 1, hashes.SHA2_256)),
    (root_of(bytes(4), [], hashAlg=0x22), HashMap(5, 3, hashes.MURMUR3_X64_64, declared=0x22)),
    (root_of(bytes(4), [], hashAlg=0x99), HashMap(5, 3, hashes.SHA2_256, declared=0x99)),
    (
        {"hash_alg": 0x12, "bucket_size": 3, "hamt": [bytes(4), []]},
        HashMap(5, 3, hashes.SHA2_256, old=True),
    ),
    (root_of(bytes(3), []), None),
    (root_of(b"", []), None),
    (root_of(bytes(1 << 14), []), None),
    (root_of(bytes(4), [], bucketSize=0), None),
    (root_of(bytes(4), [], bucketSize=True), None),
    (root_of(bytes(4), [], hashAlg="sha2-256"), None),
    (root_of(bytes(4), [], more=1), None),
    ({"hashAlg": 0x12, "bucketSize": 3, "hamt": [[], bytes(4)]}, None),
    ([b"", []], Filecoin()),
    ([b"\x05", [ONE, [[b"k", 1]]]], Filecoin()),
    ([b"\x05", [{"0": ONE}, {"1": [[b"k", 1]]}]], Filecoin(old=True)),
    ([b"\x01" + bytes(31), [ONE]], Filecoin(width=8)),
    ([b"\x05", [ONE]], None),
    ([b"\x01", [7]], None),
    ({"e": [], "l": None}, None),
    (["B", "L"], None),
    ("text", None),
]


@pytest.mark.parametrize(("block", "layout"), SNIFFED)
def test_sniff(block: Any, layout: Layout | None) -> None:
    assert sniff(encoded(block)) == layout


def test_sniff_never_raises() -> None:
    rng = random.Random(11)
    seeds = [encoded(block) for block, _ in SNIFFED]
    for _ in range(2000):
        block = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 4)):
            block[rng.randrange(min(len(block), 40))] = rng.randrange(256)
        sniff(bytes(block))
    assert sniff(b"") is None
    assert sniff(b"\xa2" + b"\x00" * NODE_BYTES) is None


# --- the two ways of py-hamt's blocks -------------------------------------------------------------------

PLAIN = {b"k/%03d" % number: value(number) for number in range(60)}
# CIDs of other kinds than nearly all: the blocks with them take the careful way.
RARE = {
    b"v0": cids.multihash_of(cids.for_block(b"x", cids.DAG_PB)),
    b"identity": cids.for_block(b"x", cids.RAW, cids.IDENTITY),
    b"sha512": cids.for_block(b"x", cids.RAW, cids.SHA2_512),
    b"json": b"\x01\xa9\x02" + value(1)[2:],
    b"sha256": cids.for_block(b"x", cids.DAG_PB),
}


@pytest.mark.parametrize("more", [{}, RARE, *({key: cid} for key, cid in RARE.items())])
@pytest.mark.parametrize("layout", [PyHamt2(), PyHamt3()])
def test_py_hamt_blocks_there_and_back(layout: Layout, more: dict[bytes, bytes]) -> None:
    plain = {**PLAIN, **more}
    root, nodes = (py_hamt_2 if isinstance(layout, PyHamt2) else py_hamt_3)(plain)
    entries: dict[bytes, bytes] = {}
    for cid, block in nodes.items():
        node = layout.decode(cid, block, int(cid != root))
        assert layout.encode(node.buckets(), node.links, node.inline, 1) == block
        assert {key for bucket in node.buckets().values() for key in bucket} == node.entries.keys()
        entries.update(node.entries)
    assert entries == plain


@given(st.dictionaries(st.integers(0, 255), st.binary(max_size=40) | st.none(), max_size=5))
def test_what_looks_like_a_link_and_is_none_is_no_pointer(items: dict[int, bytes | None]) -> None:
    block = encoded(slots(*[{}] * 200, *({f"k{slot}": data} for slot, data in items.items())))
    if not items:
        assert PyHamt3().decode(ROOT, block, 0).entries == {}
        return
    with pytest.raises(NodeError) as caught:
        PyHamt3().decode(ROOT, block, 0)
    assert caught.value.rule == "pointer-type"


REFUSED: list[tuple[Layout, Any, str]] = [
    (PyHamt2(), {"B": {}}, "node-fields"),
    (PyHamt2(), [], "node-fields"),
    (PyHamt2(), {"B": {}, "L": {}, "X": 1}, "node-fields"),
    (PyHamt2(), {"B": [], "L": {}}, "node-types"),
    (PyHamt2(), {"B": {}, "L": None}, "node-types"),
    (PyHamt2(), {"B": {"256": [{"k": ONE}]}, "L": {}}, "slot"),
    (PyHamt2(), {"B": {"07": [{"k": ONE}]}, "L": {}}, "slot"),
    (PyHamt2(), {"B": {}, "L": {"-1": ONE}}, "slot"),
    (PyHamt2(), {"B": {"7": {"k": ONE}}, "L": {}}, "bucket-type"),
    (PyHamt2(), {"B": {"7": [{"k": ONE, "l": ONE}]}, "L": {}}, "bucket-type"),
    (PyHamt2(), {"B": {"7": [{}]}, "L": {}}, "bucket-type"),
    (PyHamt2(), {"B": {"7": []}, "L": {}}, "bucket-empty"),
    (PyHamt2(), {"B": {"7": [{"k": ONE}, {"k": ONE}]}, "L": {}}, "key-duplicate"),
    (PyHamt2(), {"B": {"7": [{"k": ONE}], "8": [{"k": ONE}]}, "L": {}}, "key-duplicate"),
    (PyHamt2(), {"B": {"7": [{"k": ONE}]}, "L": {"7": ONE}}, "slot-twice"),
    (PyHamt2(), {"B": {"7": [{"k": 1}]}, "L": {}}, "pointer-type"),
    (PyHamt2(), {"B": {"7": [{"k": BARE}]}, "L": {}}, "pointer-type"),
    (PyHamt2(), {"B": {"7": [{"k": value(1)}]}, "L": {}}, "pointer-type"),
    (PyHamt2(), {"B": {}, "L": {"7": value(1)}}, "pointer-type"),
    (PyHamt2(bare=True), {"B": {"7": [{"k": ONE}]}, "L": {}}, "pointer-type"),
    (PyHamt2(bare=True), {"B": {"7": [{"k": BARE[:-1]}]}, "L": {}}, "pointer-type"),
    (PyHamt3(), {}, "node-type"),
    (PyHamt3(), EMPTY_SLOTS[1:], "node-slots"),
    (PyHamt3(), slots([]), "slot-type"),
    (PyHamt3(), slots(None), "slot-type"),
    (PyHamt3(), slots(0), "slot-type"),
    (PyHamt3(), slots(""), "slot-type"),
    (PyHamt3(), slots([ONE, ONE]), "slot-type"),
    (PyHamt3(), slots([value(1)]), "pointer-type"),
    (PyHamt3(), slots([BARE]), "pointer-type"),
    (PyHamt3(), slots(["text"]), "pointer-type"),
    (PyHamt3(), slots({"k": {"deep": []}}), "pointer-type"),
    (PyHamt3(), slots({"k": ONE}, {"k": ONE}), "key-duplicate"),
    (PyHamt3(bare=True), slots({"k": ONE}), "pointer-type"),
    (HashMap(5, 3), [bytes(4), []], "node-fields"),
    (HashMap(5, 3), root_of(bytes(8), []), "map-size"),
    (HashMap(5, 3), root_of(b"\x01" + bytes(3), []), "map-count"),
    (HashMap(5, 3), root_of(bytes(4), [ONE]), "map-count"),
    (HashMap(5, 3), root_of(b"\x01" + bytes(3), [7]), "element-type"),
    (HashMap(5, 3), root_of(b"\x01" + bytes(3), [[7]]), "entry-type"),
    (HashMap(5, 3), root_of(b"\x01" + bytes(3), [[[b"k"]]]), "entry-type"),
    (HashMap(5, 3), root_of(b"\x01" + bytes(3), [[["k", 1]]]), "key-type"),
    (
        HashMap(5, 3, old=True),
        {"hash_alg": 1, "bucket_size": 3, "hamt": [b"\x01" + bytes(3), [[[b"k", 1]]]]},
        "key-type",
    ),
    (HashMap(5, 3), root_of(b"\x01" + bytes(3), [[[b"k", 1], [b"k", 1]]]), "key-duplicate"),
    (HashMap(5, 3), root_of(b"\x03" + bytes(3), [[[b"k", 1]], [[b"k", ONE]]]), "key-duplicate"),
    (HashMap(5, 3), root_of(bytes(4), {}), "node-type"),
    (Filecoin(), {}, "node-type"),
    (Filecoin(), [b"\0\x01", [ONE]], "map-size"),
    (Filecoin(), [b"\x01" + bytes(4), [ONE]], "map-size"),
    (Filecoin(width=3), [b"\x01\x00", [ONE]], "map-size"),
    (Filecoin(width=2), [b"\x10", [ONE]], "map-size"),
    (Filecoin(), [b"\x01", []], "map-count"),
    (Filecoin(), [b"\x01", [{"0": ONE}]], "element-type"),
    (Filecoin(old=True), [b"\x01", [ONE]], "element-type"),
    (Filecoin(old=True), [b"\x01", [{"2": ONE}]], "element-type"),
    (Filecoin(old=True), [b"\x01", [{"0": [[b"k", 1]]}]], "element-type"),
    (Filecoin(old=True), [b"\x01", [{"1": ONE}]], "element-type"),
]


@pytest.mark.parametrize(("layout", "block", "rule"), REFUSED)
def test_what_is_refused(layout: Layout, block: Any, rule: str) -> None:
    with pytest.raises(NodeError) as caught:
        layout.decode(ROOT, encoded(block), 0)
    assert caught.value.rule == rule


SOUND: list[tuple[Layout, bytes]] = [
    (PyHamt2(), encoded({"B": {"7": [{"k": ONE}]}, "L": {"8": ONE}})),
    (PyHamt3(), encoded(slots({"k": ONE}, [ONE]))),
    (HashMap(5, 3), encoded(root_of(b"\x03" + bytes(3), [[[b"k", 1]], ONE]))),
    (Filecoin(), encoded([b"\x03", [[[b"k", 1]], ONE]])),
]


@pytest.mark.parametrize(("layout", "block"), SOUND)
def test_no_change_of_a_byte_goes_unnoticed(layout: Layout, block: bytes) -> None:
    # Whatever is read says so itself: written again it gives the same bytes, or the layout cannot be written.
    layout.decode(ROOT, block, 0)
    read = 0
    for at in range(len(block)):
        for byte in (0x00, 0x18, 0x41, 0x58, 0x61, 0x80, 0x98, 0xA0, 0xD8, 0xF6, 0xFF, block[at] ^ 1):
            changed = block[:at] + bytes((byte,)) + block[at + 1 :]
            try:
                node = layout.decode(ROOT, changed, 0)
            except (NodeError, LimitExceeded):
                continue
            if not isinstance(layout, HashMap | Filecoin):
                read += 1
                assert layout.encode(node.buckets(), node.links, node.inline, 0) == changed
    assert read or isinstance(layout, HashMap | Filecoin)


@pytest.mark.parametrize(("layout", "block"), SOUND)
def test_blocks_that_are_cut_off_or_go_on_are_refused(layout: Layout, block: bytes) -> None:
    for changed in (*(block[:size] for size in range(len(block))), block + b"\0"):
        with pytest.raises(NodeError) as caught:
            layout.decode(ROOT, changed, 0)
        assert caught.value.rule == "cbor"


@pytest.mark.parametrize("layout", [PyHamt2(), PyHamt3(), HashMap(5, 3), Filecoin()])
def test_limits(layout: Layout) -> None:
    def block(key: str) -> bytes:
        if isinstance(layout, PyHamt2):
            return encoded({"B": {"7": [{key: ONE}]}, "L": {}})
        if isinstance(layout, PyHamt3):
            return encoded(slots({key: ONE}))
        node = [b"\x01", [[[key.encode(), ONE]]]]
        return encoded(node if isinstance(layout, Filecoin) else root_of(b"\x01" + bytes(3), node[1]))

    assert layout.decode(ROOT, block("k" * KEY_BYTES), 0).entries == {b"k" * KEY_BYTES: value(1)}
    with pytest.raises(LimitExceeded):
        layout.decode(ROOT, block("k" * (KEY_BYTES + 1)), 0)
    with pytest.raises(LimitExceeded):
        layout.decode(ROOT, bytes(NODE_BYTES + 1), 0)
    with pytest.raises(NodeError):
        layout.decode(ROOT, b"\x81" * 100_000 + b"\x80", 0)


def test_hash_map_blocks_there_and_back() -> None:
    entries = {
        b"k/%d" % number: [number, link(value(number)), "t" * number][number % 3] for number in range(90)
    }
    for width, old in ((3, False), (5, True), (8, False)):
        root, nodes = hash_map(entries, width, 2, declared=0x12, old=old)
        layout = sniff(nodes[root])
        assert isinstance(layout, HashMap)
        for cid, block in nodes.items():
            level = int(cid != root)
            node = layout.decode(cid, block, level)
            assert layout.encode(node.buckets(), node.links, node.inline, level) == block


def test_filecoin_is_read_only() -> None:
    root, nodes = filecoin({b"k": 1})
    node = Filecoin().decode(root, nodes[root], 0)
    assert node.entries.keys() == {b"k"}
    with pytest.raises(Refused):
        Filecoin().encode(node.buckets(), node.links, node.inline, 0)


def test_multihashes() -> None:
    assert is_multihash(b"\x1e\x20" + blake3_of(b""))
    assert is_multihash(b"\x12\x20" + sha256_of(b""))
    assert is_multihash(b"\x00\x01x")
    for data in (b"", b"\x1e", b"\x1e\x20", b"\x1e\x20" + bytes(33), b"\x00\x7f" + bytes(127)):
        assert not is_multihash(data)


def test_buckets_of_a_node() -> None:
    node = HamtNode({b"a": b"1", b"b": b"2", b"c": b"3"}, (7, 9), (2, 1), {}, {})
    assert node.buckets() == {7: {b"a": b"1", b"b": b"2"}, 9: {b"c": b"3"}}
