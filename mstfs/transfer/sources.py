"""The source for a path: a folder, a zip, or a tar."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from mstfs.errors import Refused
from mstfs.transfer.folders import FolderSource
from mstfs.transfer.items import Source
from mstfs.transfer.tars import TarSource
from mstfs.transfer.zips import ZipSource

_ZIPS = (b"PK\x03\x04", b"PK\x05\x06")
_ARCHIVES = (b"SQLite format 3\0", b"\xa1\x67version", b"\xa2\x65roots", b"\xa2\x67version")
"""How an overlay begins, and the headers of CARs (behind their length)."""


@contextmanager
def open_source(path: Path, *, follow: bool = False, folders: bool = False) -> Iterator[Source]:
    """A folder, a zip, or a tar (also out of a pipe). OSError, FormatError; Refused for what is none.

    `follow` and `folders` are as for `FolderSource`.
    """
    if path.is_dir():
        yield FolderSource(path, follow, folders)
        return
    if not os.path.lexists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    with path.open("rb") as file:
        # What a pipe gave cannot be had again, and a zip is never read from one.
        head = file.peek(16)[:16] if file.seekable() else b""
        if head.startswith(_ZIPS):
            with closing(ZipSource(path)) as source:
                yield source
            return
        if head.startswith(_ARCHIVES) or head[1:].startswith(_ARCHIVES):
            raise Refused(f"{path} is an archive already: `mstfs convert` makes another kind of it")
        yield TarSource(file, str(path))


def stream_source(stream: BinaryIO) -> Source:
    """A tar that comes from a stream."""
    return TarSource(stream, "standard input")
