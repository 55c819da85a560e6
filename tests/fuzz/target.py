"""What a target is, and the registry of all."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from mstfs.errors import MstfsError

Run = Callable[[bytes], None]
Seeds = Callable[[], Sequence[bytes]]
_Answer = TypeVar("_Answer")


class Target(NamedTuple):
    """One parser. `run` takes any bytes; one input takes as long as `weight` of a fast parser."""

    run: Run
    seeds: Seeds
    weight: int


TARGETS: dict[str, Target] = {}


def target(seeds: Seeds, weight: int = 1) -> Callable[[Run], Run]:
    """Registers a function as the target of its name."""

    def register(run: Run) -> Run:
        name = run.__name__.replace("_", "-")
        assert name not in TARGETS
        TARGETS[name] = Target(run, seeds, weight)
        return run

    return register


def attempt(call: Callable[..., _Answer], *words: object) -> _Answer | None:
    """What a call gives, or None where it refuses with an error of ours."""
    with suppress(MstfsError):
        return call(*words)
    return None
