"""Small archives for the tests of the command line, and a way to call it."""

import json
from pathlib import Path
from typing import Any

import pytest

from mstfs.archive import Archive
from mstfs.cli.main import run
from mstfs.repo.sample import SampleInfo, make_sample, signing_key

SEED = 5
RECORDS = 60
PROFILE = "app.bsky.actor.profile/self"
NOTE = "org.example.note/from-a-test"


def sample(folder: Path) -> tuple[Path, SampleInfo]:
    """A CAR without an overlay."""
    path = folder / "repo.car"
    return path, make_sample(path, RECORDS, SEED)


def published(folder: Path) -> tuple[Path, SampleInfo]:
    """A CAR with an overlay: event 1 is what the CAR holds, event 2 adds NOTE and renames PROFILE, signed."""
    path, info = sample(folder)
    with Archive.open(path, mode="write") as archive:
        archive[PROFILE] = {**archive[PROFILE], "displayName": "Renamed"}
        archive[NOTE] = {"$type": "org.example.note", "text": "new"}
        archive.publish(signing_key(SEED), message="renamed\x1b[31m")
    return path, info


def staged(folder: Path) -> tuple[Path, SampleInfo]:
    """The same with one record more staged and PROFILE deleted."""
    path, info = published(folder)
    with Archive.open(path, mode="write") as archive:
        archive[f"{NOTE}-2"] = {"$type": "org.example.note", "text": "staged"}
        del archive[PROFILE]
    return path, info


def call(*words: str | Path) -> int:
    """The exit code of one command."""
    return run([str(word) for word in words])


def lines(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> list[str]:
    """The lines that a command prints to standard output; nothing may go to standard error."""
    assert call(*words) == code
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def answer(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> Any:
    """What a command prints with --json."""
    assert call(*words, "--json") == code
    return json.loads(capsys.readouterr().out)


def complaint(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 2) -> str:
    """The one line on standard error of a command that fails; nothing goes to standard output."""
    assert call(*words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mstfs: ")
    assert err.count("\n") == 1
    return err
