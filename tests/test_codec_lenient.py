"""The lenient reader against the strict codec: it must find a reason for everything that is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mstfs.codec import cid, dag_cbor, lenient
from mstfs.codec.cid import Link
from mstfs.codec.lenient import JUNK
from mstfs.errors import CborError

LINK = Link(cid.for_block(b"x"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
    | st.binary(max_size=30)
    | st.just(LINK)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
)


@settings(max_examples=300)
@given(VALUES)
def test_canonical_blocks_have_no_departures(value: object) -> None:
    assert lenient.read(dag_cbor.encode(value)) == (value, ())


@settings(max_examples=1500)
@given(VALUES, st.integers(0, 1 << 16), st.integers(0, 255), st.sampled_from(["put", "insert", "cut"]))
def test_every_refused_block_has_a_departure_and_no_other_has(
    value: object, at: int, byte: int, how: str
) -> None:
    block = bytearray(dag_cbor.encode(value))
    at %= len(block)
    if how == "put":
        block[at] = byte
    elif how == "insert":
        block.insert(at, byte)
    else:
        del block[at]
    try:
        strict: object = dag_cbor.decode(bytes(block))
    except CborError:
        assert lenient.read(bytes(block)).departures
    else:
        assert lenient.read(bytes(block)) == (strict, ())


@pytest.mark.parametrize(
    ("block", "value", "rules"),
    [
        ("1805", 5, ["cbor-not-minimal"]),
        ("3900ff", -256, ["cbor-not-minimal"]),
        ("1b0000000100000000", 1 << 32, []),
        ("9f0102ff", [1, 2], ["cbor-indefinite"]),
        ("bf616101ff", {"a": 1}, ["cbor-indefinite"]),
        ("7f61616162ff", "ab", ["cbor-indefinite"]),
        ("5f4101ff", b"\x01", ["cbor-indefinite"]),
        ("a2616201616102", {"b": 1, "a": 2}, ["cbor-map-order"]),
        ("a2616101616102", {"a": 1}, ["cbor-duplicate-key"]),
        ("a3616101616201616102", {"a": 1, "b": 1}, ["cbor-duplicate-key"]),
        ("a10102", {}, ["cbor-map-key"]),
        ("c11a00000000", 0, ["cbor-tag", "cbor-not-minimal"]),
        ("82d82a6161f6", [JUNK, None], ["cbor-link"]),
        ("d82a4101", JUNK, ["cbor-link"]),
        ("f93c00", 1.0, ["cbor-float-width"]),
        ("f7", JUNK, ["cbor-simple"]),
        ("81f8ff", [JUNK], ["cbor-simple"]),
        ("0000", 0, ["cbor-trailing"]),
        ("8201", JUNK, ["cbor-truncated"]),
        ("", JUNK, ["cbor-truncated"]),
        ("ff", JUNK, ["cbor-malformed"]),
        ("82ff", JUNK, ["cbor-malformed"]),
        ("bf6161ff", JUNK, ["cbor-indefinite", "cbor-malformed"]),
        ("1c", JUNK, ["cbor-malformed"]),
        ("1f", JUNK, ["cbor-malformed"]),
        ("7f01ff", JUNK, ["cbor-indefinite", "cbor-malformed"]),
        ("61ff", "\udcff", ["cbor-utf8"]),
    ],
)
def test_departures_by_name(block: str, value: object, rules: list[str]) -> None:
    reading = lenient.read(bytes.fromhex(block))
    assert [departure.rule for departure in reading.departures] == rules
    assert reading.value == value


@pytest.mark.parametrize("head", [b"\x81", b"\xa1", b"\x9f", b"\xc1", b"\xd8\x2a"])
def test_deep_nesting_neither_recurses_nor_hangs(head: bytes) -> None:
    reading = lenient.read(head * 100_000)
    assert reading.value is JUNK
    assert reading.departures


def test_a_rule_is_told_once_a_block() -> None:
    reading = lenient.read(b"\x98\xc8" + b"\x18\x01" * 200)
    assert [departure.offset for departure in reading.departures] == [2]
    assert reading.value == [1] * 200
