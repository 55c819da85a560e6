"""A walker for mounts whose paths may be longer than the kernel takes at once: one name at a time."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

Names = tuple[bytes, ...]

NOTHING = (errno.ENODATA, errno.ENOTSUP)


class Seen(NamedTuple):
    """A file as a program sees it. `data` is a link's target; `state` has names without `user.mstfs.`."""

    found: os.stat_result
    data: bytes
    state: dict[str, bytes]


@contextmanager
def opened(folder: Path | int, names: Names, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor of what stands at a path below a folder, of any length. No step may leave the mount."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY) if isinstance(folder, Path) else os.dup(folder)
    try:
        device = os.fstat(fd).st_dev
        for depth, name in enumerate(names, 1):
            last = depth == len(names)
            step = os.open(name, (flags if last else os.O_RDONLY | os.O_DIRECTORY) | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = step
            assert os.fstat(fd).st_dev == device
        yield fd
    finally:
        os.close(fd)


def state_of(fd: int) -> dict[str, bytes]:
    """The extended attributes of an open file."""
    return {name.removeprefix("user.mstfs."): os.getxattr(fd, name) for name in os.listxattr(fd)}


def read_all(fd: int) -> bytes:
    with os.fdopen(os.dup(fd), "rb", buffering=0) as file:
        return file.read()


def walk(folder: Path | int, above: Names = ()) -> Iterator[tuple[Names, Seen]]:
    """Every file and symbolic link below a folder."""
    with opened(folder, ()) as fd:
        names = os.listdir(fd)
        assert len(set(names)) == len(names)
        for name in map(os.fsencode, names):
            path = (*above, name)
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                with opened(fd, (name,)) as inner:
                    yield from walk(inner, path)
            elif stat.S_ISLNK(found.st_mode):
                yield path, Seen(found, os.readlink(name, dir_fd=fd), {})
            else:
                with opened(fd, (name,)) as file:
                    yield path, Seen(found, read_all(file), state_of(file))
