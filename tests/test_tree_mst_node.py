"""One MST node: depth of keys, the canonical block, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_mst import build, cid_of, depth, value
from parts_in_c import part_in_c

from mstfs.codec.cid import to_text
from mstfs.errors import LimitExceeded, NodeError
from mstfs.limits import KEY_BYTES, NODE_BYTES
from mstfs.tree.mst import node as nodes
from mstfs.tree.mst.node import (
    EMPTY,
    EMPTY_BLOCK,
    EMPTY_CID,
    SPELLED_BYTES,
    MstNode,
    decode,
    depth_of,
    encode,
    shared_prefix,
)


@pytest.fixture(scope="module", params=["in C", "in Python"], autouse=True)
def _where(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything here is tried with the part in C, and without it."""
    with part_in_c(request.param, nodes, "fast_node"):
        yield


VALUE = value(1)
CHILD = value(2)
TAGGED = b"\xd8\x2a\x58\x25\x00"
RAW = b"\x01\x55\x12\x20" + bytes(32)
LONG = b"\x01\x71\x13\x40" + bytes(64)


def head(major: int, count: int) -> bytes:
    for width, info in ((1, 24), (2, 25), (4, 26)):
        if count < 24:
            return bytes((major << 5 | count,))
        if count < 1 << 8 * width:
            return bytes((major << 5 | info,)) + count.to_bytes(width, "big")
    raise ValueError(count)


def entry(
    key: bytes,
    shared: bytes | int = 0,
    link: bytes = b"\xf6",
    target: bytes = TAGGED + VALUE,
    *,
    key_head: bytes | None = None,
) -> bytes:
    spelled = head(0, shared) if isinstance(shared, int) else shared
    key_head = head(2, len(key)) if key_head is None else key_head
    return b"\xa4\x61k" + key_head + key + b"\x61p" + spelled + b"\x61t" + link + b"\x61v" + target


def node(*entries: bytes, left: bytes = b"\xf6") -> bytes:
    return b"\xa2\x61e" + head(4, len(entries)) + b"".join(entries) + b"\x61l" + left


def rule_of(block: bytes, strict: bool = True) -> str:
    with pytest.raises(NodeError) as caught:
        decode(cid_of(block), block, strict)
    assert caught.value.cid == cid_of(block)
    return caught.value.rule


def test_the_heights_of_the_interop_keys(shared_fixtures: Path) -> None:
    cases = json.loads((shared_fixtures / "atproto/interop/mst/key_heights.json").read_text())
    assert cases
    for case in cases:
        assert depth_of(case["key"].encode()) == case["height"], case


def test_the_heights_of_the_example_keys(shared_fixtures: Path) -> None:
    # The second character of each of these keys is its height.
    keys = (shared_fixtures / "atproto/interop/mst/example_keys.txt").read_bytes().split()
    assert len(keys) == 156
    assert [depth_of(key) for key in keys] == [int(key[1:2]) for key in keys]


def test_the_prefixes_of_the_interop_cases(shared_fixtures: Path) -> None:
    cases = json.loads((shared_fixtures / "atproto/interop/mst/common_prefix.json").read_text())
    assert cases
    for case in cases:
        assert shared_prefix(case["left"].encode(), case["right"].encode()) == case["len"], case


@given(st.binary(max_size=40))
def test_depth_counts_zero_bits_in_pairs(key: bytes) -> None:
    assert depth_of(key) == depth(key)


def test_depth_of_keys_with_many_zero_bits() -> None:
    # Nearly all keys are settled by the first byte of the digest; these are not.
    deep = [key for key in (b"deep/%d" % number for number in range(30_000)) if depth(key) >= 4]
    assert max(map(depth, deep)) >= 7
    assert [depth_of(key) for key in deep] == [depth(key) for key in deep]


def test_the_empty_tree_has_the_root_that_everybody_knows() -> None:
    assert to_text(EMPTY_CID) == "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
    assert encode(EMPTY) == EMPTY_BLOCK
    assert decode(EMPTY_CID, EMPTY_BLOCK) == EMPTY


keys_of_any_size = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=30),
        st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.integers(1, 600)),
    ),
    unique=True,
    max_size=30,
)


@settings(max_examples=60)
@given(keys_of_any_size, st.data())
def test_encode_and_decode_are_inverse(keys: list[bytes], data: st.DataObject) -> None:
    links = st.sampled_from([None, CHILD, EMPTY_CID])
    values = data.draw(st.lists(st.sampled_from([VALUE, RAW, LONG]), min_size=len(keys), max_size=len(keys)))
    made = MstNode(
        tuple(sorted(keys)),
        tuple(values),
        tuple(data.draw(st.lists(links, min_size=len(keys) + 1, max_size=len(keys) + 1))),
    )
    block = encode(made)
    assert decode(cid_of(block), block) == made
    assert decode(cid_of(block), block, strict=False) == made


@settings(max_examples=60)
@given(st.lists(st.binary(min_size=1, max_size=30), unique=True, max_size=40))
def test_the_blocks_are_those_of_the_reference_encoder(keys: list[bytes]) -> None:
    _, nodes = build({key: value(at) for at, key in enumerate(keys)})
    for cid, block in nodes.items():
        assert encode(decode(cid, block)) == block


def test_a_node_of_many_entries() -> None:
    keys = tuple(b"key/%06d" % number for number in range(70_000))
    made = MstNode(keys, (VALUE,) * len(keys), (None,) * (len(keys) + 1))
    block = encode(made)
    assert decode(cid_of(block), block) == made


def test_the_plain_spelling_of_these_tests_is_accepted() -> None:
    block = node(entry(b"abc"), entry(b"d", 2, TAGGED + CHILD), left=TAGGED + CHILD)
    assert decode(b"", block) == MstNode((b"abc", b"abd"), (VALUE, VALUE), (CHILD, None, CHILD))


REFUSED = {
    "no CBOR": (b"\xa2\x61e", "cbor"),
    "nothing": (b"", "cbor"),
    "trailing bytes": (node() + b"\0", "cbor"),
    "fields out of order": (b"\xa2\x61l\xf6\x61e\x80", "cbor"),
    "deep nesting": (b"\x81" * 3000 + b"\x80", "cbor"),
    "a list": (b"\x80", "node-fields"),
    "a number": (b"\x01", "node-fields"),
    "a missing field": (b"\xa1\x61e\x80", "node-fields"),
    "an extra field": (b"\xa3\x61e\x80\x61l\xf6\x61m\xf6", "node-fields"),
    "another field": (b"\xa2\x61e\x80\x61m\xf6", "node-fields"),
    "entries in a map": (b"\xa2\x61e\xa0\x61l\xf6", "node-types"),
    "entries in a text": (b"\xa2\x61e\x60\x61l\xf6", "node-types"),
    "entries that are null": (b"\xa2\x61e\xf6\x61l\xf6", "node-types"),
    "a left link that is false": (node(left=b"\xf4"), "node-link"),
    "a left link that is bytes": (node(left=head(2, 36) + CHILD), "canonical"),
    "a left link to a raw block": (node(left=TAGGED + RAW), "node-link"),
    "a link to a raw block": (node(entry(b"a", 0, TAGGED + RAW)), "node-link"),
    "a link that is bytes": (node(entry(b"a", 0, head(2, 36) + CHILD)), "canonical"),
    "a link that is text": (node(entry(b"a", 0, b"\x61a")), "node-link"),
    "a link to a longer digest": (node(entry(b"a", 0, b"\xd8\x2a\x58\x45\x00" + LONG)), "node-link"),
    "an entry that is a list": (node(b"\x80"), "entry-fields"),
    "an entry that is null": (node(b"\xf6"), "entry-fields"),
    "an empty entry": (node(b"\xa0"), "entry-fields"),
    "an entry without t": (node(b"\xa3\x61k\x41a\x61p\x00\x61v" + TAGGED + VALUE), "entry-fields"),
    "an extra field in an entry": (node(b"\xa5" + entry(b"a")[1:] + b"\x61w\xf6"), "entry-fields"),
    "a key that is text": (node(entry(b"a", key_head=b"\x61")), "entry-types"),
    "a key that is a link": (node(entry(VALUE, key_head=TAGGED)), "canonical"),
    "a value that is bytes": (node(entry(b"a", target=head(2, 36) + VALUE)), "canonical"),
    "a value that is null": (node(entry(b"a", target=b"\xf6")), "entry-types"),
    "a value with bytes behind its digest": (
        node(entry(b"a", target=b"\xd8\x2a\x58\x26\x00" + VALUE + b"x")),
        "value-link",
    ),
    "a value whose digest is shorter than it says": (
        node(entry(b"a", target=TAGGED + b"\x01\x71\x12\x1f" + bytes(32))),
        "value-link",
    ),
    "a shared prefix that is a bool": (node(entry(b"a", b"\xf4")), "entry-types"),
    "a shared prefix that is true": (node(entry(b"ab"), entry(b"c", b"\xf5")), "entry-types"),
    "a shared prefix that is a float": (node(entry(b"a", b"\xfb" + bytes(8))), "entry-types"),
    "a negative shared prefix": (node(entry(b"ab"), entry(b"c", b"\x20")), "key-prefix"),
    "a first key with a shared prefix": (node(entry(b"a", 1)), "key-prefix"),
    "a shared prefix longer than the key": (node(entry(b"ab"), entry(b"c", 3)), "key-prefix"),
    "a shared prefix of 64 bits": (node(entry(b"ab"), entry(b"c", b"\x1b" + b"\xff" * 8)), "key-prefix"),
    "a shared prefix that is not maximal": (node(entry(b"ab"), entry(b"ac", 0)), "key-prefix"),
    "a shared prefix that is not minimal CBOR": (node(entry(b"a", b"\x18\x00")), "canonical"),
    "a key head that is not minimal": (node(entry(b"a", key_head=b"\x58\x01")), "canonical"),
    "an array head that is not minimal": (b"\xa2\x61e\x98\x00\x61l\xf6", "canonical"),
    "keys that descend": (node(entry(b"b"), entry(b"a")), "key-order"),
    "a key that is a prefix of the one before": (node(entry(b"ab"), entry(b"", 1)), "key-order"),
    "equal keys": (node(entry(b"a"), entry(b"", 1)), "key-order"),
    "an empty key": (node(entry(b"")), "key-order"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_node_that_breaks_a_rule_is_refused_by_that_rule(case: str) -> None:
    block, rule = REFUSED[case]
    assert rule_of(block) == rule


def test_a_lenient_reader_lets_spelling_through_and_nothing_else() -> None:
    tolerated = {"canonical", "key-prefix"}
    spelled = ("a shared prefix that is not maximal", "a key head that is not minimal")
    for case in spelled:
        keys = decode(b"", REFUSED[case][0], strict=False).keys
        assert keys in ((b"ab", b"ac"), (b"a",))
    for case, (block, rule) in REFUSED.items():
        if rule not in tolerated:
            assert rule_of(block, strict=False) == rule, case


def test_limits() -> None:
    with pytest.raises(LimitExceeded):
        decode(cid_of(b""), bytes(NODE_BYTES + 1))
    longest = node(entry(b"k" * KEY_BYTES))
    assert decode(b"", longest).keys == (b"k" * KEY_BYTES,)
    with pytest.raises(LimitExceeded):
        decode(cid_of(b""), node(entry(b"k" * (KEY_BYTES + 1))))


def test_a_small_block_that_spells_long_keys_is_refused() -> None:
    # Each entry repeats nearly all of a key of 8 KiB in some 50 bytes.
    count = SPELLED_BYTES // KEY_BYTES + 1
    tails = [b"%06d" % number for number in range(count)]
    stem = b"k" * (KEY_BYTES - 6)
    keys = tuple(stem + tail for tail in tails)
    block = encode(MstNode(keys, (VALUE,) * count, (None,) * (count + 1)))
    assert len(block) < 100_000
    with pytest.raises(LimitExceeded):
        decode(cid_of(block), block)
    half = encode(MstNode(keys[: count // 2], (VALUE,) * (count // 2), (None,) * (count // 2 + 1)))
    assert len(decode(cid_of(half), half).keys) == count // 2


@settings(max_examples=300)
@given(st.data())
def test_no_block_decodes_that_is_not_what_encode_makes(data: st.DataObject) -> None:
    block = bytearray(node(entry(b"abc"), entry(b"d", 2, TAGGED + CHILD), left=TAGGED + CHILD))
    # Digests may be anything, so only the bytes around them are changed.
    frame = list(range(len(block)))
    for digest in (VALUE[4:], CHILD[4:]):
        while (at := bytes(block).find(digest)) >= 0:
            block[at : at + 32] = bytes(32)
            frame = [place for place in frame if not at <= place < at + 32]
    for _ in range(data.draw(st.integers(1, 2))):
        block[data.draw(st.sampled_from(frame))] = data.draw(st.integers(0, 255))
    try:
        found = decode(cid_of(b""), bytes(block))
    except (NodeError, LimitExceeded):
        return
    assert encode(found) == block
