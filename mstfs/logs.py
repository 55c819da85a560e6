"""The log of a daemon: one line a record, private, and quiet while all goes well.

A line is `TIME LEVEL MESSAGE`, followed by what it is about as `name=value`: the path in the mount, the CID.
It never holds keys or contents. What is said again and again is said once a minute.
"""

import errno
import json
import logging
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from mstfs.codec import cid as cids
from mstfs.errors import BlockError, MissingBlocks, MountError, NodeError

log = logging.getLogger("mstfs")

QUIET_SECONDS = 60.0
"""For how long a message is not said again."""

REMEMBERED = 256
"""Messages that are remembered as said."""


def about(*, path: bytes | None = None, error: BaseException | None = None, **more: object) -> dict[str, Any]:
    """The `extra` of a log call: what it is about. The CID is that of the block an error speaks of."""
    fields: dict[str, object] = {}
    if path is not None:
        fields["path"] = path.decode("utf-8", "backslashreplace")
    if isinstance(error, BlockError | NodeError):
        fields["cid"] = cids.to_text(error.cid)
    elif isinstance(error, MissingBlocks):
        fields["cid"] = cids.to_text(error.cids[0])
    return {"about": {**fields, **more}}


class Lines(logging.Formatter):
    """Records as lines. No name and no message can begin a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; a traceback stands below it, indented."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = f"{seconds}.{int(record.msecs):03}Z {record.levelname} {_plain(record.getMessage())}"
        for name, value in getattr(record, "about", {}).items():
            line += f" {name}={_value(str(value))}"
        if record.exc_info:
            line += "\n  " + self.formatException(record.exc_info).replace("\n", "\n  ")
        return line


def _plain(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _value(text: str) -> str:
    plain = text.isprintable() and text and not any(letter in ' "=\\' for letter in text)
    return text if plain else json.dumps(text)


class Once(logging.Filter):
    """Lets a record through unless the same one was said within the last minute."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is news."""
        text, now = record.getMessage(), record.created
        if now - self._said.get(text, -QUIET_SECONDS) < QUIET_SECONDS:
            return False
        if len(self._said) >= REMEMBERED:
            self._said.clear()
        self._said[text] = now
        return True


def log_to(path: Path | None, level: str = "info") -> None:
    """Log what is at least as serious as `level` to a file of mode 0600, or to standard error."""
    handler = logging.StreamHandler(sys.stderr if path is None else _opened(path))
    handler.setFormatter(Lines())
    handler.addFilter(Once())
    log.handlers[:] = [handler]
    log.setLevel(level.upper())
    log.propagate = False


def descriptor() -> int:
    """Where the log goes."""
    for handler in log.handlers:
        if isinstance(handler, logging.StreamHandler):
            return int(handler.stream.fileno())
    return 2


def _opened(path: Path) -> TextIO:
    """A log that nobody else may read, or lead elsewhere by a planted name. MountError where it cannot be."""
    # O_NONBLOCK: a pipe that nobody reads must not hang us.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise MountError(f"{path}: cannot be logged to: {reason}") from None
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) != 0o600:
        try:
            os.fchmod(descriptor, 0o600)
        except OSError as error:
            os.close(descriptor)
            raise MountError(f"{path}: cannot be made private: {error.strerror}") from None
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")
