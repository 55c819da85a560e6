"""What C finds in an index is what Python does, and it gives up where Python has to look."""

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstfs.blocks import car_index, fast_index
from mstfs.blocks.car_index import CarIndex, Summary

HEADER = 4096
digests = st.one_of(
    st.binary(min_size=32, max_size=32),
    # Many that begin alike, as nobody but an attacker can make them.
    st.tuples(st.sampled_from([b"\0", b"\x7f", b"\xff"]), st.binary(min_size=24, max_size=24)).map(
        lambda pair: pair[0] * 8 + pair[1]
    ),
    st.integers(0, 300).map(lambda number: number.to_bytes(8, "big") + bytes(24)),
)


def table(found: list[bytes], codes: list[int]) -> bytes:
    rows = sorted(
        (*struct.unpack(">4Q", digest), 100 * at, codes[at % len(codes)] << 40 | 36 << 32 | 36 + at)
        for at, digest in enumerate(found)
    )
    return bytes(HEADER) + b"".join(struct.pack("=6Q", *row) for row in rows)


def index_of(data: bytes) -> CarIndex:
    rows = (len(data) - HEADER) // 48
    return CarIndex(memoryview(data), Summary(rows, rows, 0, None, ()), None)


def in_python(index: CarIndex, cid: bytes) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(car_index, "fast_index", None)
        return index.find(cid)


@given(
    st.lists(digests, max_size=200), st.lists(digests, max_size=20), st.sampled_from([[0x12], [0x12, 0x1E]])
)
def test_the_same_is_found(held: list[bytes], others: list[bytes], codes: list[int]) -> None:
    index = index_of(table(held, codes))
    for digest in held + others:
        for code in (0x12, 0x1E):
            cid = bytes((1, 0x71, code, 32)) + digest
            assert index.find(cid) == in_python(index, cid)


def test_digests_that_differ_in_one_byte_are_others() -> None:
    held = hashlib.sha256(b"held").digest()
    data = memoryview(table([held], [0x12]))
    for at in range(32):
        other = held[:at] + bytes([held[at] ^ 1]) + held[at + 1 :]
        found = fast_index.find(data, HEADER, 1, b"\x01\x71\x12\x20" + other)
        assert not isinstance(found, tuple), at
    assert fast_index.find(data, HEADER, 1, b"\x01\x71\x12\x20" + held) == (0, 36, 0)


def test_large_tables() -> None:
    held = [hashlib.sha256(b"%d" % number).digest() for number in range(50_000)]
    data = table(held, [0x12])
    rows = len(held)
    for number in range(0, rows, 97):
        cid = b"\x01\x71\x12\x20" + held[number]
        hit = fast_index.find(memoryview(data), HEADER, rows, cid)
        assert isinstance(hit, tuple)
        row, offset, size = hit
        assert data[HEADER + 48 * row :][:32] == struct.pack("=4Q", *struct.unpack(">4Q", held[number]))
        assert (offset, size) == (100 * number + 36, number)
        other = b"\x01\x71\x12\x20" + hashlib.sha256(b"not %d" % number).digest()
        assert fast_index.find(memoryview(data), HEADER, rows, other) is None


def test_what_is_left_to_python() -> None:
    data = memoryview(bytes(HEADER))
    for cid in (
        b"",
        b"\x12\x20" + bytes(32),
        b"\x01\x71\x12\x20" + bytes(31),
        b"\x01\x81\x12\x20" + bytes(32),
    ):
        assert fast_index.find(data, HEADER, 0, cid) is NotImplemented
    assert fast_index.find(data, HEADER, 0, b"\x01\x71\x12\x20" + bytes(32)) is None


def test_a_table_that_is_shorter_than_it_says() -> None:
    cid = b"\x01\x71\x12\x20" + bytes(32)
    for header, rows in ((HEADER, 1), (HEADER + 8, 0), (0, 1 << 60), (-8, 1), (4, 1), (0, -1)):
        with pytest.raises(ValueError, match="too short"):
            fast_index.find(memoryview(bytes(HEADER)), header, rows, cid)
    with pytest.raises(TypeError):
        fast_index.find(memoryview(b""), 0, 0, "text")  # type: ignore[arg-type]
