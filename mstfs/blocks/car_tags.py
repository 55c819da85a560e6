"""The tags of a CAR: a file beside it, by which pages of large blocks that were hashed once are known again.

A header of 64 bytes, then 16 bytes for each page of 16 KiB of a large block, at twice the number of the page
of the CAR in which the block begins; nothing where nobody has read. Tags fit what was hashed, and can be made
only with a secret that is kept in the user's state folder: those that came with a CAR from elsewhere fit
nothing. `fast_parts.c` makes them and checks them.
"""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mstfs.blocks.car_writer import replacing

SUFFIX = ".mstfs-tags"
SECRET_BYTES = 32
_HEADER_BYTES = 64  # as in fast_parts.c
_HEADER = b"mstfs tags 1\n".ljust(_HEADER_BYTES, b"\0")


class Tags(NamedTuple):
    """An open file of tags, and the secret that they are made with."""

    fd: int
    secret: bytes


def open_tags(places: Iterable[Path]) -> Tags:
    """The tags at the first place where they can be kept, or else in memory. OSError without memory."""
    secret = _secret()
    if secret is not None:
        for path in places:
            with suppress(OSError, ValueError):
                return Tags(_open(path), secret)
    return Tags(os.memfd_create("mstfs-tags", os.MFD_CLOEXEC), os.urandom(SECRET_BYTES))


def _open(path: Path) -> int:
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
            raise ValueError("not a file of tags of ours")
        if not status.st_size:
            os.pwrite(fd, _HEADER, 0)
        if os.pread(fd, _HEADER_BYTES, 0) != _HEADER:
            raise ValueError("not a file of tags")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _secret() -> bytes | None:
    # Of this user, made when it is first needed; None where there is no place for it that nobody else reads.
    from platformdirs import user_state_path

    path = user_state_path("mstfs") / "tags.secret"
    try:
        return _read_secret(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError):
        return None
    try:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        with replacing(path, 0o600) as file:
            file.write(os.urandom(SECRET_BYTES))
        return _read_secret(path)
    except (OSError, ValueError):
        return None


def _read_secret(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ValueError("others may know it")
        secret = os.read(fd, SECRET_BYTES + 1)
    finally:
        os.close(fd)
    if len(secret) != SECRET_BYTES:
        raise ValueError("cut off")
    return secret
