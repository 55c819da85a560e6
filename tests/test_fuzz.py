"""Every parser against inputs that nobody made on purpose: seeds, kept inputs, and mutations of both.

`scripts/fuzz` searches for more with coverage; this runs a bounded number of inputs, always the same ones.
"""

import signal
from collections.abc import Callable, Iterator

import pytest
from fuzz.kept import KEPT
from fuzz.mutations import mutated
from fuzz.target import Target
from fuzz.targets import TARGETS

INPUTS = 800
"""Mutations for a target of weight 1."""
LONGER = 50
SECONDS_EACH = 20
"""An input that takes longer than this counts as one that never ends."""

EXPECTED = """car car-index car-sidecar mst hamt2 hamt3 hashmap filecoin zarr-manifest zarr-shard
pb unixfs unixfs-data cbor record-json record-block dag-json-text dag-json-block
commit timestamp names key-syntax cid"""
"""The parsers that must have a target."""


def test_every_parser_has_a_target() -> None:
    assert TARGETS.keys() >= set(EXPECTED.split())
    assert TARGETS.keys() >= KEPT.keys()


@pytest.fixture
def clock() -> Iterator[Callable[[], None]]:
    """Called before each input: an alarm ends the one that does not."""

    def too_long(*_: object) -> None:
        raise AssertionError(f"an input took more than {SECONDS_EACH} s")

    before = signal.signal(signal.SIGALRM, too_long)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, SECONDS_EACH) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_seeds_and_kept_inputs(name: str, clock: Callable[[], None]) -> None:
    for data in [b"", *TARGETS[name].seeds(), *KEPT.get(name, [])]:
        clock()
        TARGETS[name].run(data)


def run(name: str, count: int, clock: Callable[[], None]) -> None:
    """Run so many mutations; a failure names the target and the number that bring it back."""
    target: Target = TARGETS[name]
    seeds = [*target.seeds(), *KEPT.get(name, [])]
    for number in range(count):
        data = mutated(name, number, seeds)
        clock()
        try:
            target.run(data)
        except Exception as error:
            raise AssertionError(f"{name}, mutation {number}: {data[:200]!r}") from error


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_mutations(name: str, clock: Callable[[], None]) -> None:
    run(name, INPUTS // TARGETS[name].weight, clock)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_many_mutations(name: str, clock: Callable[[], None]) -> None:
    run(name, LONGER * INPUTS // TARGETS[name].weight, clock)


def test_a_crash_and_a_hang_are_found(clock: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def crashes(data: bytes) -> None:
        data[7]

    monkeypatch.setitem(TARGETS, "crashes", Target(crashes, lambda: [b"seven b"], 1))
    with pytest.raises(AssertionError, match="crashes, mutation 0"):
        run("crashes", 1, clock)
