"""What C reads of HAMT nodes is what Python does, block by block and byte by byte."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts_in_c import changed_somewhere, keeps_nothing

from mstfs.codec import cid as cids
from mstfs.errors import LimitExceeded, NodeError
from mstfs.limits import KEY_BYTES, NODE_BYTES
from mstfs.tree.hamt import fast_node, pyhamt3
from mstfs.tree.hamt.node import NO_INLINE, Buckets, HamtNode, Links
from mstfs.tree.hamt.pyhamt3 import SLOTS, PyHamt3

LAYOUT = PyHamt3()
HASHES = (cids.BLAKE3, cids.SHA2_256)
CODECS = (cids.RAW, cids.DAG_CBOR, cids.DAG_PB)


def pointer(number: int, codec: int = cids.RAW, code: int = cids.BLAKE3) -> bytes:
    return bytes((1, codec, code, 32)) + number.to_bytes(32, "big")


pointers = st.builds(pointer, st.integers(0, 9), st.sampled_from(CODECS), st.sampled_from(HASHES))
keys = st.text(st.characters(codec="utf-8"), max_size=40).map(str.encode)
buckets = st.dictionaries(keys, pointers, min_size=1, max_size=4)


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """The canonical block of a node; now and then a key stands in two of its buckets."""
    items = draw(st.dictionaries(st.integers(0, SLOTS - 1), st.one_of(buckets, pointers), max_size=8))
    return encoded(
        {slot: item for slot, item in items.items() if isinstance(item, dict)},
        {slot: item for slot, item in items.items() if isinstance(item, bytes)},
    )


def encoded(of: Buckets, links: Links) -> bytes:
    return LAYOUT.encode(of, links, NO_INLINE, 1)


def in_c(block: bytes) -> HamtNode | None:
    parts = fast_node.decode(block)
    return None if parts is None else HamtNode(*parts, NO_INLINE)


def in_python(block: bytes) -> HamtNode | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyhamt3, "fast_node", None)
        try:
            return LAYOUT.decode(pointer(0, cids.DAG_CBOR), block, 1)
        except (NodeError, LimitExceeded):
            return None


def same(one: HamtNode, other: HamtNode) -> bool:
    """The same node, in the same order."""
    return one == other and list(one.entries) == list(other.entries) and list(one.links) == list(other.links)


@given(blocks())
def test_nodes_are_the_same(block: bytes) -> None:
    wanted, read = in_python(block), in_c(block)
    if wanted is None:
        assert read is None
    else:
        assert read is not None
        assert same(read, wanted)


@settings(max_examples=300)
@given(blocks(), st.data())
def test_what_is_changed_anywhere_is_refused_or_read_alike(block: bytes, data: st.DataObject) -> None:
    changed = changed_somewhere(block, data)
    read, wanted = in_c(changed), in_python(changed)
    if read is not None:
        assert wanted is not None
        assert same(read, wanted)
    elif wanted is not None:
        every = [*wanted.entries.values(), *wanted.links.values()]
        assert any(
            cid[:4] not in {pointer(0, codec, code)[:4] for codec in CODECS for code in HASHES}
            for cid in every
        )


def test_every_byte_of_a_block_matters() -> None:
    block = encoded(
        {3: {b"a": pointer(1), b"\xc3\xa9": pointer(2)}, 200: {b"b": pointer(3)}}, {7: pointer(4, 0x71)}
    )
    node = in_c(block)
    assert node is not None
    assert len(node.entries) == 3
    for at in range(len(block)):
        for other in {0, 0xFF, block[at] ^ 1, block[at] ^ 0x20, block[at] + 1 & 0xFF} - {block[at]}:
            changed = block[:at] + bytes([other]) + block[at + 1 :]
            read = in_c(changed)
            assert read != node
            assert read is None or read == in_python(changed)


@given(blocks(), st.binary(min_size=1, max_size=3))
def test_nothing_may_stand_behind_a_node_or_lack(block: bytes, more: bytes) -> None:
    assert fast_node.decode(block + more) is None
    assert fast_node.decode(block[: -len(more)]) is None


@pytest.mark.parametrize("count", [23, 24, 255, 256, 3000])
def test_wide_buckets(count: int) -> None:
    block = encoded({9: {b"%05d" % number: pointer(number) for number in range(count)}}, {})
    node = in_c(block)
    assert node is not None
    assert node.sizes == (count,)
    assert node == in_python(block)


def test_all_slots() -> None:
    block = encoded({}, {slot: pointer(slot, cids.DAG_CBOR) for slot in range(SLOTS)})
    node = in_c(block)
    assert node is not None
    assert list(node.links) == list(range(SLOTS))
    assert in_c(encoded({slot: {b"%d" % slot: pointer(1)} for slot in range(SLOTS)}, {})) is not None
    assert in_c(encoded({}, {})) == HamtNode({}, (), (), {}, NO_INLINE)


@pytest.mark.parametrize("length", [0, 23, 24, 255, 256, KEY_BYTES])
def test_long_keys(length: int) -> None:
    block = encoded({0: {b"k" * length: pointer(1)}}, {})
    node = in_c(block)
    assert node is not None
    assert list(node.entries) == [b"k" * length]
    assert node == in_python(block)


def test_limits_are_those_of_python() -> None:
    assert fast_node.decode(encoded({0: {b"k" * (KEY_BYTES + 1): pointer(1)}}, {})) is None
    large = {
        slot: {b"%3d/%020d" % (slot, number): pointer(1) for number in range(NODE_BYTES // 500)}
        for slot in range(9)
    }
    block = encoded(large, {})
    assert len(block) > NODE_BYTES
    assert fast_node.decode(block) is None
    with pytest.raises(LimitExceeded):
        LAYOUT.decode(pointer(0), block, 1)


@pytest.mark.parametrize(
    "order", [[b"b", b"a"], [b"aa", b"b"], [b"a", b"a"]], ids=["values", "lengths", "twice"]
)
def test_keys_of_a_bucket_stand_in_order(order: list[bytes]) -> None:
    link = b"\xd8\x2a\x58\x25\x00" + pointer(1)
    items = b"".join(bytes([0x60 + len(key)]) + key + link for key in order)
    block = b"\x99\x01\x00" + bytes([0xA0 + len(order)]) + items + b"\xa0" * (SLOTS - 1)
    assert fast_node.decode(block) is None
    assert in_python(block) is None


@pytest.mark.parametrize("key", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"a\x80"])
def test_keys_are_text(key: bytes) -> None:
    block = encoded({0: {b"k" * len(key): pointer(1)}}, {}).replace(b"k" * len(key), key)
    assert fast_node.decode(block) is None
    assert in_python(block) is None


def test_a_key_stands_in_one_bucket() -> None:
    block = encoded({0: {b"k": pointer(1)}, 1: {b"k": pointer(1)}}, {})
    assert fast_node.decode(block) is None
    assert in_python(block) is None


def test_what_is_no_block() -> None:
    with pytest.raises(TypeError):
        fast_node.decode("text")  # type: ignore[arg-type]
    for block in (b"", b"\x80", b"\x99\x01\x00", b"\x99\x01\x01" + b"\xa0" * 257, b"\xa0" * 256):
        assert fast_node.decode(block) is None


def test_nothing_is_kept() -> None:
    node = encoded({3: {b"a": pointer(1), b"b": pointer(2)}}, {7: pointer(4, cids.DAG_CBOR)})
    twice = encoded({0: {b"k": pointer(1)}, 1: {b"k": pointer(1)}}, {2: pointer(3)})

    def work() -> None:
        for _ in range(2000):
            for block in (node, twice, node[:-1], node[:40], node + b"x", node.replace(b"a", b"\xff")):
                fast_node.decode(block)

    keeps_nothing(work, 500)
