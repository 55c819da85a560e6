"""What C shows of records is what Python shows, byte by byte."""

import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from parts_in_c import changed_somewhere

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.codec.cid import Link
from mstfs.errors import MstfsError
from mstfs.repo import fast_record, record

LINK = Link(cids.for_block(b"a record"))
RAW = Link(cids.for_block(b"a blob", cids.RAW))

texts = st.text(max_size=12) | st.text(st.characters(max_codepoint=0x7F), max_size=12)
integers = st.integers(-(1 << 63), (1 << 64) - 1) | st.sampled_from(
    [0, 23, 24, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 32, -1, -24, -25, (1 << 64) - 1, -(1 << 63)]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | integers
    | texts.filter(lambda text: text.isprintable() or text.isascii())
    | st.binary(max_size=40)
    | st.sampled_from([LINK, RAW]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)
records = st.dictionaries(texts, values, max_size=6)


def block_of(value: object) -> bytes:
    return dag_cbor.encode(value)


def in_python(block: bytes) -> bytes | None:
    try:
        return record.render_in_python(block)
    except MstfsError:
        return None


@settings(max_examples=400)
@given(records)
@example({"": {"": [[], {}, [[]], [{}]]}})
@example({"a": '\x00\x07\b\t\n\x0b\f\r\x1f\x7f"\\/\u2028\u00e9\u20ac\U0001f600'})
@example({"a": b"", "b": b"1", "c": b"12", "d": b"123"})
def test_the_same_text(value: dict[str, Any]) -> None:
    block = block_of(value)
    text = fast_record.render(block)
    expected = record.render_in_python(block)
    if "$link" in repr(value) or "$bytes" in repr(value):
        assert text in (None, expected)
    else:
        assert text == expected
    assert record.render(block) == expected


@settings(max_examples=600)
@given(records, st.data())
def test_what_is_changed_anywhere_is_left_to_python_or_shown_alike(
    value: dict[str, Any], data: st.DataObject
) -> None:
    block = changed_somewhere(block_of(value), data)
    text = fast_record.render(block)
    assert text is None or text == in_python(block)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    text = fast_record.render(b"\xa1\x61k" + data)
    assert text is None or text == in_python(b"\xa1\x61k" + data)


@given(st.binary(min_size=1, max_size=8))
@example(b"\xed\xa0\x80")
@example(b"\xf4\x90\x80\x80")
@example(b"\xe0\x80\xaf")
@example(b"\xf0\x82\x82\xac")
@example(b"\xc1\xbf")
@example(b"\xe2\x82")
def test_texts_that_may_not_be_utf_8(text: bytes) -> None:
    for block in (
        b"\xa1\x61k" + bytes([0x60 + len(text)]) + text,
        b"\xa1" + bytes([0x60 + len(text)]) + text + b"\xf6",
    ):
        assert fast_record.render(block) == in_python(block)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x80",
        b"\x61a",
        b"\xa1\x61a\xf6\xf6",
        b"\xa1\x61a\xfb" + bytes(8),
        b"\xa1\x61a\xf8\x16",
        b"\xa1\x61a\xf7",
        b"\xa1\x61a\xe0",
        b"\xa1\x61a\x3b" + b"\x80" + bytes(7),
        b"\xa1\x61a\xd8\x2a\x58\x23\x00" + cids.multihash_of(LINK.cid),
        b"\xa1\x61a\xd8\x2b\x58\x25\x00" + LINK.cid,
        b"\xa1\x61a\xd8\x2a\x58\x25\x01" + LINK.cid,
        b"\xa1\x61a\xd8\x2a\x58\x25\x00" + LINK.cid[:-1],
        b"\xa1\x61a\xd8\x2a\x58\x25\x00\x01\x71\x1e\x20" + LINK.cid[4:],
        b"\xa1\x61a\xd8\x2a\x58\x25\x00\x01\x71\x92\x20" + LINK.cid[4:],
        b"\xa1\x61a\xd8\x2a\x58\x25\x00\x01\x70\x12\x20" + LINK.cid[4:],
        b"\xa1\x61a\xd8\x2a\x58\x25\x00\x01\x71\x12\x21" + LINK.cid[4:],
        b"\xa1\x41a\x01",
        b"\xa2\x61b\x01\x61a\x01",
        b"\xa2\x61a\x01\x61a\x01",
        b"\xa2\x62aa\x01\x61b\x01",
        b"\xa1\x61a\x18\x17",
        b"\xa1\x61a\x19\x00\xff",
        b"\xa1\x61a\x1a\x00\x00\xff\xff",
        b"\xa1\x61a\x1b\x00\x00\x00\x00\xff\xff\xff\xff",
        b"\xb8\x01\x61a\x01",
        b"\xbf\x61a\x01\xff",
        b"\xa1\x61a\x7f\x61a\xff",
        b"\xa1\x61a\x9b" + b"\xff" * 8,
        b"\xbb" + b"\xff" * 8,
        b"\xa1\x7b" + b"\xff" * 8,
        b"\xa1\x61a\x5b" + b"\xff" * 8,
        block_of({"$link": "text"}),
        block_of({"a": {"$bytes": 1}}),
        block_of({"a": "x" * 16384}),
    ],
    ids=lambda block: block[:12].hex(),
)
def test_what_is_left_to_python(block: bytes) -> None:
    assert fast_record.render(block) is None


@pytest.mark.parametrize("depth", [1, 31, 32, 33, 100])
def test_nesting(depth: int) -> None:
    value: Any = 1
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    block = block_of({"a": value})
    text = fast_record.render(block)
    assert text == (record.render_in_python(block) if depth < 32 else None)
    assert record.render(block) == record.render_in_python(block)


def test_texts_that_grow() -> None:
    """Control characters take six times their room, and empty lists far down much more."""
    deep: Any = [[]] * 200
    for _ in range(28):
        deep = [deep]
    for value in ({"a": "\x01" * 16000}, {"a" * 5000: "\x02" * 9000}, {"a": deep, "b": [b""] * 3000}):
        block = block_of(value)
        assert len(block) <= 16384
        assert fast_record.render(block) == record.render_in_python(block)


def test_nothing_is_kept() -> None:
    block = block_of({"a": [1, b"2", LINK, "\x01"], "b": {"c": None}})
    bad = block[:-1] + b"\xff"
    text = fast_record.render(block)
    assert text is not None
    before = sys.getallocatedblocks()
    for _ in range(1000):
        fast_record.render(block)
        fast_record.render(bad)
    assert abs(sys.getallocatedblocks() - before) < 50


def test_what_is_no_block() -> None:
    for wrong in (None, "text", bytearray(b"\xa0")):
        with pytest.raises(TypeError):
            fast_record.render(wrong)  # type: ignore[arg-type]
