"""Folders of the file system as sources.

Nothing is left out silently: what is no file, folder or symbolic link is an error that names it, and so is a
file that changes while it is read. No symbolic link is followed unless it is asked for.
"""

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from mstfs.errors import Refused
from mstfs.transfer.items import Bytes, Content, Item, Planned, Source
from mstfs.transfer.names import shown

_TOLD = 5

_SPECIAL = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class _Found(NamedTuple):
    """Something in a folder: its key, and what the kernel says about it."""

    key: bytes
    facts: os.stat_result


class FolderSource(Source):
    """Everything in a folder.

    With `follow` symbolic links are what they point to. With `folders` all folders are items, the topmost one
    (its key is empty) too; else only those in which there is nothing.
    """

    is_files = True
    suffix = b""

    def __init__(self, folder: Path, follow: bool = False, folders: bool = False) -> None:
        # As text, because errors of the system name paths as they were given.
        self._top = os.fspath(folder)
        self._follow = follow
        self._folders = folders

    def plan(self) -> Iterator[Planned]:
        wrong: list[str] = []
        for key, facts in self._walk():
            kind = _kind(facts.st_mode)
            if kind is None:
                wrong.append(f"{shown(key)} is {_SPECIAL.get(stat.S_IFMT(facts.st_mode), 'no file')}")
            elif not wrong:
                yield Planned(key, kind, facts.st_size)
        if wrong:
            more = f", and {len(wrong) - _TOLD} more" if len(wrong) > _TOLD else ""
            raise Refused(f"no tree can hold these: {', '.join(wrong[:_TOLD])}{more}")

    def holds_records(self) -> bool:
        return False

    def items(self) -> Iterator[Item]:
        for key, facts in self._walk():
            kind = _kind(facts.st_mode)
            path = self._path(key)
            if kind is None:
                raise Refused(f"{shown(key)} is {_SPECIAL.get(stat.S_IFMT(facts.st_mode), 'no file')}")
            item = Item(key, kind, mode=stat.S_IMODE(facts.st_mode), mtime_ns=facts.st_mtime_ns)
            if kind == "symlink":
                item.open = partial(_target, path)
                item.mode = None  # nobody looks at it
            elif kind == "blob":
                item.open = partial(FileContent, path, self._follow)
            yield item

    def close(self) -> None:
        pass

    def _walk(self) -> Iterator[_Found]:
        # The way down: folders with what is still to come of them, last first.
        facts = os.stat(self._top)
        way = [((facts.st_dev, facts.st_ino), self._listed(b""))]
        if self._folders:
            yield _Found(b"", facts)
        while way:
            rest = way[-1][1]
            if not rest:
                way.pop()
                continue
            found = rest.pop()
            if not stat.S_ISDIR(found.facts.st_mode):
                yield found
                continue
            identity = (found.facts.st_dev, found.facts.st_ino)
            if self._follow and any(identity == above for above, _ in way):
                raise Refused(f"{shown(found.key)} is a symbolic link to a folder that it lies in")
            inside = self._listed(found.key + b"/")
            if inside:
                way.append((identity, inside))
            if self._folders or not inside:
                yield found

    def _path(self, key: bytes) -> str:
        return os.path.join(self._top, os.fsdecode(key))

    def _listed(self, prefix: bytes) -> list[_Found]:
        # By name as it stands in keys, where a folder's ends in a slash; the first one is at the end.
        rows = []
        with os.scandir(self._path(prefix)) as entries:
            for entry in entries:
                key = prefix + os.fsencode(entry.name)
                facts = entry.stat(follow_symlinks=False)
                if self._follow and stat.S_ISLNK(facts.st_mode):
                    facts = _followed(key, entry.path)
                rows.append((key + b"/" if stat.S_ISDIR(facts.st_mode) else key, _Found(key, facts)))
        rows.sort(key=lambda row: row[0], reverse=True)
        return [found for _, found in rows]


def _kind(mode: int) -> Literal["blob", "symlink", "folder"] | None:
    if stat.S_ISREG(mode):
        return "blob"
    if stat.S_ISDIR(mode):
        return "folder"
    return "symlink" if stat.S_ISLNK(mode) else None


def _followed(key: bytes, path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise Refused(f"{shown(key)} is a symbolic link that leads nowhere: {error.strerror}") from None


def _target(path: str) -> Content:
    return Bytes(os.fsencode(os.readlink(path)))


class FileContent(Content):
    """A regular file; it must stay as it is while it is read."""

    def __init__(self, path: str, follow: bool = False) -> None:
        # Without waiting: a pipe may have taken the place of the file.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        self._fd = -1
        self._path = path
        self._fd = os.open(path, flags)
        self._facts = os.fstat(self._fd)
        if not stat.S_ISREG(self._facts.st_mode):
            self.close()
            raise Refused(f"{shown(os.fsencode(path))} is no file any more")
        self.size = self._facts.st_size

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        while data and length > len(data):
            offset += len(data)
            length -= len(data)
            data = os.pread(self._fd, length, offset)
            parts.append(data)
        return b"".join(parts)

    def finish(self) -> None:
        now = os.fstat(self._fd)
        before = self._facts
        same = (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        if not same or os.pread(self._fd, 1, self.size):
            raise Refused(f"{shown(os.fsencode(self._path))} changed while it was read")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
