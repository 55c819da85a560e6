"""A library between the daemon and libc: what it does to files is recorded, or fails, or is its end."""

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).with_suffix(".c")

_HEAD = struct.Struct("=8sQQQQ")


class Call(NamedTuple):
    """One call that changed or synced a watched file.

    `operation`: `w`rite of `data` at `offset`, `t`runcate to `offset`, `c`reate, `u`nlink, `r`ename to the
    path in `data`, `m`kdir, `b`egin and end of a `s`ync (of a file or a folder) by the thread `offset`;
    `k` is a mark of the test, whose text is `path`.
    """

    operation: str
    inode: int
    offset: int
    path: str
    data: bytes


def build(folder: Path) -> Path:
    """Compile the library. Skips where there is no compiler; the setup for tests installs one."""
    target = folder / "faulty_io.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(target), str(SOURCE), "-ldl"]
    try:
        subprocess.run(command, check=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("needs a C compiler (gcc)")
    return target


def environment(library: Path, prefix: Path, **more: object) -> dict[str, str]:
    """The environment in which files below `prefix` are watched; `more` are variables less `FAULTY_`."""
    options = {f"FAULTY_{name.upper()}": str(value) for name, value in more.items()}
    return {"LD_PRELOAD": str(library), "FAULTY_PREFIX": str(prefix), **options}


def mark(log: Path, text: str) -> None:
    """Put a mark of the test between the calls of the daemon."""
    data = text.encode()
    head = _HEAD.pack(b"k", 0, 0, 0, len(data))
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, head + data)
    finally:
        os.close(fd)


def calls(log: Path) -> Iterator[Call]:
    """What was recorded, in order."""
    text, at = log.read_bytes(), 0
    while at < len(text):
        operation, inode, offset, length, path_length = _HEAD.unpack_from(text, at)
        at += _HEAD.size
        path = os.fsdecode(text[at : at + path_length])
        at += path_length
        yield Call(operation[:1].decode(), inode, offset, path, text[at : at + length])
        at += length


class Rules:
    """Which calls of the daemon fail, from now on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def __call__(self, *lines: str) -> Iterator[None]:
        """While the block lasts, calls fail: `OPERATION SUFFIX ERRNO`, see faulty_io.c."""
        self.path.write_text("\n".join(lines))
        try:
            yield
        finally:
            self.path.unlink()
