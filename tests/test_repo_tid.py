"""TIDs: order, round trip, the interoperability lists, and time that never runs backwards."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstfs.errors import SyntaxRuleError
from mstfs.repo import tid

microseconds = st.integers(0, tid.MICROSECONDS_MAX)
clocks = st.integers(0, tid.CLOCK_MAX)


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().split("\n") if line and not line.startswith("# ")]


def test_interop_lists(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "atproto/interop/syntax"
    valid, invalid = lines(folder / "tid_syntax_valid.txt"), lines(folder / "tid_syntax_invalid.txt")
    assert len(valid) >= 4
    assert len(invalid) >= 8
    for text in valid:
        assert tid.is_valid(text), text
        assert tid.encode(*tid.decode(text)) == text
    for text in invalid:
        assert not tid.is_valid(text), text
        with pytest.raises(SyntaxRuleError, match="not a TID"):
            tid.decode(text)


def test_known_values() -> None:
    assert tid.decode("2222222222222") == (0, 0)
    assert tid.encode(0, 0) == "2222222222222"
    assert tid.encode(0, 1023) == "22222222222zz"
    assert tid.encode(tid.MICROSECONDS_MAX, tid.CLOCK_MAX) == "bzzzzzzzzzzzz"
    # A post of 28 April 2023.
    us, clock = tid.decode("3juflvfc2uo2y")
    assert us // 1_000_000 // 86400 == 19475
    assert 0 <= clock <= tid.CLOCK_MAX


@given(microseconds, clocks)
def test_round_trip(us: int, clock: int) -> None:
    text = tid.encode(us, clock)
    assert tid.is_valid(text)
    assert tid.decode(text) == (us, clock)


@given(st.tuples(microseconds, clocks), st.tuples(microseconds, clocks))
def test_text_sorts_like_time(a: tuple[int, int], b: tuple[int, int]) -> None:
    assert (tid.encode(*a) < tid.encode(*b)) == (a < b)


@pytest.mark.parametrize(("us", "clock"), [(-1, 0), (1 << 53, 0), (0, -1), (0, 1024)])
def test_out_of_range(us: int, clock: int) -> None:
    with pytest.raises(SyntaxRuleError):
        tid.encode(us, clock)


@pytest.mark.parametrize("text", ["", "3jzfcijpj2z2a\n", "k222222222222", "3jzfcijpj2z2é"])
def test_what_is_no_tid(text: str) -> None:
    assert not tid.is_valid(text)


def test_next_after_follows_the_clock() -> None:
    assert tid.next_after(None, 1_700_000_000_000_000, 7) == tid.encode(1_700_000_000_000_000, 7)
    last = tid.encode(5, 1023)
    assert tid.next_after(last, 1_000, 7) == tid.encode(1_000, 7)


@given(st.integers(0, tid.MICROSECONDS_MAX - 1), clocks, microseconds, clocks)
def test_next_after_is_later(us: int, last_clock: int, now: int, clock: int) -> None:
    last = tid.encode(us, last_clock)
    following = tid.next_after(last, now, clock)
    assert following > last
    assert tid.decode(following) == (max(now, us + 1), clock)


def test_next_after_fails_at_the_end_of_time() -> None:
    with pytest.raises(SyntaxRuleError):
        tid.next_after(tid.encode(tid.MICROSECONDS_MAX, 0), 0, 1)
    with pytest.raises(SyntaxRuleError, match="not a TID"):
        tid.next_after("yesterday", 0, 1)
