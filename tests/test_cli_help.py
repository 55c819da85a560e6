"""Help: quick, complete, and the same shape for every command."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mstfs.cli.main import build_parser, run

PROJECT = Path(__file__).resolve().parent.parent
HEAVY = (
    "pyfuse3", "trio", "cryptography", "multiformats", "dag_cbor", "rich", "sqlite3",
    "cbrrr", "libipld", "blake3", "orjson", "platformdirs", "argcomplete",
)  # fmt: skip


def commands() -> dict[str, argparse.ArgumentParser]:
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("there are no commands")


OWN = (
    *("info", "ls", "cat", "log", "status", "diff", "export", "convert", "import", "verify", "prove"),
    *("demo", "completion"),
)


def test_all_commands_are_there() -> None:
    assert set(commands()) == {"mount", "umount", "sync", "revert", "checkout", *OWN}


@pytest.mark.parametrize("name", OWN)
def test_each_command_tells_how_it_is_used(name: str) -> None:
    text = commands()[name].format_help()
    assert f"usage: mstfs {name}" in text
    assert f"examples:\n  mstfs {name}" in text
    assert re.search(r"exit codes:\n  0 ", text)
    assert "--json" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", OWN)
def test_examples_are_valid_commands(name: str) -> None:
    """Each example parses, as far as it is one command."""
    parser = build_parser()
    text = commands()[name].format_help()
    examples = re.findall(r"^  mstfs (.*)$", text.partition("examples:")[2].partition("exit codes:")[0], re.M)
    assert examples
    for example in examples:
        first = re.split(r" [|>(]| \|\| ", example)[0].strip()
        # An example may show what to do with the outcome, which is another command.
        assert parser.parse_args(first.split()).command in (name, "verify")


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mstfs", "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "usage: mstfs" in done.stdout
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    assert not loaded.intersection(HEAVY)


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "usage: mstfs" in capsys.readouterr().out


def test_an_unknown_command_is_a_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["frobnicate"])
    assert ended.value.code == 2
    assert "frobnicate" in capsys.readouterr().err
