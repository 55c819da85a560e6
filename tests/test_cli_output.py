"""What is printed: plain to a pipe, coloured on a terminal, harmless everywhere."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstfs.cli import output


class Terminal(io.StringIO):
    """Text that believes to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"),
        (1 << 70, "1048576.0 PiB"),
    ],
)  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    assert output.human_size(count) == text


def test_times() -> None:
    assert output.time_text(0) == "1970-01-01T00:00:00Z"
    assert output.time_text(1_700_000_000_999_999_999) == "2023-11-14T22:13:20Z"
    assert output.time_text(None) is None
    assert output.time_text(1 << 80) is None
    assert output.tid_ns("2222222222222") == 0
    assert output.tid_ns("self") is None
    assert output.time_text(output.tid_ns("jzzzzzzzzzzzz")) == "2540-11-07T23:35:09Z"


def test_counts() -> None:
    assert output.counted(1, "record") == "1 record"
    assert output.counted(2, "record") == "2 records"


@given(st.text())
def test_printable_text_is_one_harmless_line(text: str) -> None:
    shown = output.printable(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


@given(st.text())
def test_text_without_controls_keeps_its_lines(text: str) -> None:
    shown = output.without_controls(text)
    assert shown.count("\n") == text.count("\n")
    assert not any((ord(sign) < 32 and sign not in "\n\t") or 127 <= ord(sign) < 160 for sign in shown)


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert output.painted("x", "red") == "x"
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert output.painted("x", "red") == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.painted("x", "red") == "x"
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert output.painted("x", "red") == "x"


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stderr", plain)
    with output.progress_bar("writing", "blocks") as update:
        update(1, 2)
    assert plain.getvalue() == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    before = sys.stdout
    with output.progress_bar("writing", "blocks") as update:
        update(1024, None)
        update(2048, 4096)
        assert sys.stdout is before
    assert "writing" in terminal.getvalue()
    assert "2048 blocks" in terminal.getvalue()
