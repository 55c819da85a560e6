"""The registry of defects: what is planted where, and which rule must report it."""

from collections.abc import Callable
from typing import NamedTuple

from crooked import Repo


class Kind(NamedTuple):
    """One way to be wrong: the rule that must report it, and who plants it in a sound repository."""

    rule: str
    plant: Callable[[Repo], None]

    def car(self) -> bytes:
        """The CAR of a repository that is defective in this way alone."""
        repo = Repo()
        self.plant(repo)
        return repo.car()


KINDS: dict[str, Kind] = {}

Plant = Callable[[Repo], None]


def kind(rule: str) -> Callable[[Plant], Plant]:
    def register(plant: Plant) -> Plant:
        add(plant.__name__, rule, plant)
        return plant

    return register


def add(name: str, rule: str, plant: Plant) -> None:
    name = name.strip("_").replace("_", "-")
    assert name not in KINDS
    KINDS[name] = Kind(rule, plant)
