"""Completion: the scripts, and what is offered."""

import argparse
from pathlib import Path

import pytest
from cli_archives import NOTE, PROFILE, answer, lines, staged

from mstfs.cli.completion import complete_key, complete_root
from mstfs.cli.main import build_parser


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = "\n".join(lines(capsys, "completion", shell))
    assert "mstfs" in script
    assert "_ARGCOMPLETE" in script
    told = answer(capsys, "completion", shell)
    assert told["shell"] == shell
    assert told["script"].rstrip() == script


def parsed(*words: str | Path) -> argparse.Namespace:
    return build_parser().parse_args([str(word) for word in words])


def test_events_are_offered_for_roots(tmp_path: Path) -> None:
    path, _ = staged(tmp_path)
    offered = complete_root("", parsed("diff", path))
    assert list(offered) == ["2", "1"]
    assert offered["2"].startswith("publish 20")
    assert list(complete_root("1", parsed("diff", path))) == ["1"]


def test_collections_then_keys_are_offered(tmp_path: Path) -> None:
    path, _ = staged(tmp_path)
    arguments = parsed("cat", path)
    assert "org.example.note/" in complete_key("", arguments)
    assert complete_key("app.bsky.f", arguments) == [
        "app.bsky.feed.like/",
        "app.bsky.feed.post/",
        "app.bsky.feed.repost/",
    ]
    assert complete_key(NOTE[:-2], arguments) == [NOTE, f"{NOTE}-2"]
    assert complete_key(PROFILE, arguments) == []  # its deletion is staged


def test_nothing_is_offered_for_what_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.car"
    assert complete_root("", parsed("diff", missing)) == {}
    assert complete_key("", parsed("cat", missing)) == []
