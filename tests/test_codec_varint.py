"""Varints: round trips, and everything that is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstfs.codec import varint
from mstfs.errors import VarintError


@pytest.mark.parametrize(
    ("number", "spelling"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (255, "ff01"), (300, "ac02"), (16384, "808001")],
)
def test_known_spellings(number: int, spelling: str) -> None:
    assert varint.encode(number) == bytes.fromhex(spelling)
    assert varint.decode(bytes.fromhex(spelling), 0) == (number, len(spelling) // 2)


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_round_trip_inside_other_bytes(number: int, before: bytes, behind: bytes) -> None:
    spelling = varint.encode(number)
    data = before + spelling + behind
    assert varint.decode(data, len(before)) == (number, len(before) + len(spelling))
    assert varint.decode(memoryview(data), len(before)) == (number, len(before) + len(spelling))


@given(st.binary(max_size=12))
def test_what_is_read_is_the_only_spelling(data: bytes) -> None:
    try:
        number, end = varint.decode(data, 0)
    except VarintError:
        return
    assert varint.encode(number) == data[:end]


@pytest.mark.parametrize(
    "spelling", ["", "80", "ff" * 8, "8000", "818000", "ff" * 9 + "01", "80" * 40 + "01"]
)
def test_refused_spellings(spelling: str) -> None:
    with pytest.raises(VarintError):
        varint.decode(bytes.fromhex(spelling), 0)


def test_an_offset_behind_the_end_is_cut_off() -> None:
    with pytest.raises(VarintError, match="cut off"):
        varint.decode(b"\x01", 1)


@pytest.mark.parametrize("number", [-1, 2**63, 2**64])
def test_refused_numbers(number: int) -> None:
    with pytest.raises(VarintError):
        varint.encode(number)
