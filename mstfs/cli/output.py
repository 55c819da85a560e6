"""What commands print: JSON, sizes, times, colours, progress bars, and text that cannot harm a terminal.

What goes to a pipe is plain and stays the same from version to version. Colours and progress bars are for
terminals only; NO_COLOR (https://no-color.org) turns colours off.
"""

import codecs
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

Update = Callable[[int, int | None], None]
"""Told how many steps are done, and how many there are in all where that is known."""

Colour = Literal["red", "green", "yellow", "cyan", "bold"]

_CODES: dict[Colour, str] = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1"}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
# What a terminal may take for a command: all control characters but tab and newline.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


def print_json(value: Any) -> None:
    """One JSON document, indented, in ASCII."""
    print(json.dumps(value, indent=2))


def warn(text: str) -> None:
    """One line for a person, on standard error."""
    print(f"mstfs: {without_controls(text)}", file=sys.stderr)


def printable(text: str | bytes | os.PathLike[str]) -> str:
    """One line of text, with whatever is not printable escaped."""
    line = os.fsdecode(text)
    return line if line.isprintable() else line.encode("unicode_escape").decode("ascii")


def without_controls(text: str) -> str:
    """Text that moves no cursor: control characters other than tab and newline are escaped."""
    return text.translate(_CONTROLS)


def write_bytes(data: bytes) -> None:
    """Write bytes behind what was printed so far."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def write_stream(pieces: Iterable[bytes]) -> None:
    """Write bytes as they come; on a terminal without control characters, and what is no text escaped."""
    sys.stdout.flush()
    if not sys.stdout.isatty():
        for piece in pieces:
            sys.stdout.buffer.write(piece)
    else:
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        for piece in pieces:
            sys.stdout.buffer.write(without_controls(decoder.decode(piece)).encode())
        sys.stdout.buffer.write(decoder.decode(b"", final=True).encode())
    sys.stdout.buffer.flush()


def human_size(count: int) -> str:
    """A size in bytes as people say it, e.g. `1.5 MiB`."""
    size = float(count)
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.1f} {unit}" if unit != "bytes" else f"{count} bytes"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"


def time_text(ns: int | None) -> str | None:
    """A time in ns since 1970 as `2024-05-01T12:00:00Z`; None where it is none that a calendar has."""
    from datetime import UTC, datetime

    if ns is None:
        return None
    try:
        return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None


def tid_ns(text: str | None) -> int | None:
    """The time in ns that a TID names, or None where the text is no TID."""
    from mstfs.repo import tid

    if text is None or not tid.is_valid(text):
        return None
    return tid.decode(text)[0] * 1000


def counted(number: int, noun: str) -> str:
    """`1 record`, `2 records`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def painted(text: str, colour: Colour) -> str:
    """The text in a colour, if it goes to a terminal that wants colours."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if wanted else text


@contextmanager
def progress_bar(what: str, unit: str) -> Iterator[Update]:
    """A bar on standard error while something goes on, if that is a terminal; else nothing is shown."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn(what),
        BarColumn(),
        TextColumn("{task.completed} " + unit),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        # What goes to standard output belongs there, even while a bar is drawn.
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
