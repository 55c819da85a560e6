"""Writing CARv1 files (ipld.io/specs/transport/car/carv1), and replacing a file in one step."""

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, varint
from mstfs.codec.cid import Link

_BUFFER = 1 << 18


def write_car(target: BinaryIO, roots: Sequence[bytes], blocks: Iterable[tuple[bytes, bytes]]) -> int:
    """Write a CARv1 with these roots and (CID, bytes) blocks in their order; gives the bytes written.

    Streams: memory does not grow with the number of blocks. The digests are not checked here.
    CidError if a CID is malformed.
    """
    header = dag_cbor.encode({"roots": [Link(root) for root in roots], "version": 1})
    pending = [varint.encode(len(header)), header]
    waiting = sum(map(len, pending))
    written = 0
    for cid, data in blocks:
        cids.check(cid)
        size = len(cid) + len(data)
        head = varint.encode(size)
        pending += (head, cid, data)
        waiting += len(head) + size
        if waiting >= _BUFFER:
            target.write(b"".join(pending))
            written += waiting
            pending.clear()
            waiting = 0
    target.write(b"".join(pending))
    return written + waiting


@contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends, or vanishes when it fails.

    The temporary file lies beside `path`. Its bytes are durable before the rename, and the rename is
    durable when this returns. `mode` is narrowed by the umask, unless it is for the owner alone. OSError from
    the file system.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, mode)
    try:
        with open(fd, "wb") as file:
            if not mode & 0o077:
                os.fchmod(fd, mode)  # A umask can only take from the owner what is needed.
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. OSError if that fails."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
