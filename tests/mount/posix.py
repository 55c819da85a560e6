"""What the tests of single file-system calls have in common."""

import ctypes
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mount.mounting import Mount

TEXT = b"0123456789" * 1000
RECORD = "app.bsky.actor.profile/self.json"

libc = ctypes.CDLL(None, use_errno=True)
Long = ctypes.c_long


def folder_of(mount: Mount, name: str) -> Path:
    """A folder of a test alone, in which names are no keys; the file `f` in it holds TEXT."""
    folder = mount / re.sub(r"\W", "-", name)
    folder.mkdir()
    (folder / "f").write_bytes(TEXT)
    return folder


@contextmanager
def opened(path: Path, flags: int = os.O_RDWR, mode: int = 0o666) -> Iterator[int]:
    """A descriptor, closed at the end."""
    descriptor = os.open(path, flags, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def call(function: Callable[..., int], *arguments: object) -> int:
    """A call of the C library: 0, or the errno."""
    ctypes.set_errno(0)
    return 0 if function(*arguments) >= 0 else ctypes.get_errno()
