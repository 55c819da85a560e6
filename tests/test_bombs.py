"""Inputs that ask for very much: a clear error or a right answer, in bounded time and memory.

Each runs in a process of its own, under limits of the system: what breaks one breaks nothing else.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bombs import BOMBS

HERE = Path(__file__).resolve().parent
MEGABYTES = 450
"""Memory that a bomb may take, with what it is made of and some 30 for libraries."""

Explode = Callable[[str], list[str]]


@pytest.fixture
def explode(tmp_path: Path) -> Explode:
    """Runs a bomb and gives what was said of it."""

    def run(name: str) -> list[str]:
        environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}"}
        done = subprocess.run(
            [sys.executable, "-m", "bombs", name],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{name} ended with {done.returncode}: {done.stderr[-2000:]}"
        report: dict[str, Any] = json.loads(done.stdout)
        assert report["megabytes"] < MEGABYTES, report
        answers: list[str] = report["told"]
        return answers

    return run


def count(answers: list[str], start: str) -> int:
    """How many answers begin so."""
    return sum(answer.startswith(start) for answer in answers)


def test_every_bomb_has_a_test() -> None:
    text = Path(__file__).read_text("utf-8")
    assert [name for name in BOMBS if f'explode("{name}")' not in text] == []


def test_lengths(explode: Explode) -> None:
    found = explode("lengths-in-a-car")
    assert count(found, "torn: cut off") == 1
    assert count(found, "torn: the file ends") == 3
    assert count(found, "CarError: ") == 5
    # A false index or a false length does not hide the block that is there.
    assert count(found, "ok Head") == 9
    found = explode("lengths-in-blocks")
    # The light looks that say "there may be more" are the only ones that do not refuse.
    assert count(found, "CborError: ") >= 20 * 4
    assert count(found, "NodeError: ") == 20
    assert count(found, "DagPbError: ") == 12


def test_nesting(explode: Explode) -> None:
    found = explode("a-million-nested-lists")
    assert count(found, "cbor-nesting: ") == 1
    assert count(found, "RecordError: line 1, ") == 8
    assert count(found, "CborError: lists and maps nest deeper") >= 4
    assert count(found, "CarError: ") == 1


def test_records(explode: Explode) -> None:
    found = explode("records-of-small-things")
    assert count(found, "CborError: there are more than") >= 2 * 4 + 2 * 2
    found = explode("a-long-key-above-many-lists")
    assert count(found, "record-float: '...xxx") == 20
    found = explode("a-record-of-a-gigabyte")
    assert count(found, "torn: cut off or damaged at offset") == 2
    assert count(found, "block-hash: the 67108864 bytes found do not match") == 2
    assert count(found, "LimitExceeded: root ") == 1


def test_wide_nodes(explode: Explode) -> None:
    found = explode("a-node-with-a-million-entries")
    assert found[:5] == ["ok 36", "ok 10", "ok 50000", "ok None", "ok 1"]
    assert count(found[5:10], "LimitExceeded: ") == 5
    assert count(found[10:], "NodeError: ") == 5
    found = explode("a-directory-with-many-names")
    assert count(found[:5], "LimitExceeded: ") == 5
    assert found[5:] == ["ok 30000", "ok 36", "ok 10"]


def test_small_trees_that_spell_huge_ones(explode: Explode) -> None:
    found = explode("a-file-of-one-leaf-many-times")
    assert found == [f"ok {1024 * 100**6}", "ok 100000", "ok 7"]
    found = explode("a-hamt-of-depth-32")
    assert found[:5] == ["ok 36", "ok 1", "ok 1", "ok 2", "ok 32"]
    assert found[5] == "ok None"
    assert count(explode("a-hamt-that-is-the-same-everywhere"), "NodeError: ") == 5
    assert count(explode("an-mst-that-is-the-same-everywhere"), "NodeError: ") == 4


@pytest.mark.long
def test_a_directory_with_a_million_names(explode: Explode) -> None:
    assert explode("a-million-names") == ["ok 1000000", "ok 36", "ok 10"]
