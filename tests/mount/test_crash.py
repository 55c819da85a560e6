"""Daemons that are killed at work: what they acknowledged is there, what they published is whole."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from mount.crashing import Doom, Victims, random_doom
from mount.deadlines import deadline
from mstfs import fault_points

LIVES = 10
"""Kills of one random test: with its seed that many follow each other on the same archive."""


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """No daemon may hang a test."""
    with deadline(120):
        yield


def test_killed_at_every_step_of_a_publication(tmp_path: Path, faulty_library: Path) -> None:
    victims = Victims(tmp_path, faulty_library, random.Random(7))
    victims.begin(publishes_beside=False)
    for step in fault_points.STEPS:
        victims.life(Doom(step=step))
    victims.finish()
    assert victims.killed_at == dict.fromkeys(fault_points.STEPS, 1)


SEEDS = [pytest.param(seed, marks=pytest.mark.long if seed > 5 else []) for seed in range(1, 56)]


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_at_random(tmp_path: Path, faulty_library: Path, seed: int) -> None:
    rng = random.Random(seed)
    victims = Victims(tmp_path, faulty_library, rng)
    victims.begin()
    for number in range(LIVES):
        doom = random_doom(rng)
        print(f"seed {seed}, life {number}: {doom}")
        victims.life(doom)
    victims.finish()
    assert victims.kills == LIVES
