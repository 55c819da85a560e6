"""Zips as sources. Source: PKWARE APPNOTE; what Info-ZIP writes for permissions and symbolic links.

Every content is checked against its CRC. Of entries with the same path the last one counts.
"""

import stat
import zipfile
import zlib
from calendar import timegm
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from mstfs.errors import FormatError, LimitExceeded, Refused
from mstfs.limits import KEY_BYTES
from mstfs.transfer.items import Bytes, Content, Item, ItemKind, Planned, Source
from mstfs.transfer.names import shown
from mstfs.transfer.tars import StreamContent, inner_path

_UTF8 = 0x800
_ENCRYPTED = 0x1
_UNIX = 3


class _Entry(NamedTuple):
    key: bytes
    kind: ItemKind
    info: zipfile.ZipInfo


class ZipSource(Source):
    """The entries of a zip, in the order of the file."""

    is_files = True
    suffix = b""

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        with self._sound(self._name):
            self._zip = zipfile.ZipFile(path)

    def plan(self) -> Iterator[Planned]:
        for key, kind, info in self._entries():
            yield Planned(key, kind, info.file_size)

    def holds_records(self) -> bool:
        return False

    def items(self) -> Iterator[Item]:
        for key, kind, info in self._entries():
            opened: Callable[[], Content] = partial(Bytes, b"")
            if kind == "symlink":
                opened = partial(self._target, info)
            elif kind == "blob":
                opened = partial(self._open, info)
            mode = info.external_attr >> 16 if info.create_system == _UNIX else 0
            told = stat.S_IMODE(mode) if mode and kind != "symlink" else None
            yield Item(key, kind, opened, mode=told, mtime_ns=_mtime_ns(info))

    def close(self) -> None:
        self._zip.close()

    def _entries(self) -> Iterator[_Entry]:
        last: dict[bytes, _Entry] = {}
        for info in self._zip.infolist():
            entry = self._entry(info)
            last.pop(entry.key, None)
            last[entry.key] = entry
        yield from last.values()

    def _entry(self, info: zipfile.ZipInfo) -> _Entry:
        key = inner_path(self._name, _name(info))
        what = stat.S_IFMT(info.external_attr >> 16) if info.create_system == _UNIX else 0
        if info.flag_bits & _ENCRYPTED:
            raise Refused(f"{self._name}: {shown(key)} is encrypted")
        if info.is_dir():
            return _Entry(key, "folder", info)
        if not key:
            raise Refused(f"{self._name}: an entry that is no folder has no name")
        if what == stat.S_IFLNK:
            return _Entry(key, "symlink", info)
        if what not in (0, stat.S_IFREG):
            raise Refused(f"{self._name}: {shown(key)} is no file, folder or symbolic link")
        return _Entry(key, "blob", info)

    def _open(self, info: zipfile.ZipInfo) -> Content:
        with self._sound(info.filename):
            return _EntryContent(self, self._zip.open(info), info)

    def _target(self, info: zipfile.ZipInfo) -> Content:
        if info.file_size > KEY_BYTES:
            raise LimitExceeded(f"{self._name}: the target of {shown(_name(info))} is over {KEY_BYTES} bytes")
        with self._sound(info.filename):
            return Bytes(self._zip.read(info))

    @contextmanager
    def _sound(self, what: str) -> Iterator[None]:
        """What a damaged zip raises becomes FormatError."""
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            name = "" if what == self._name else f" {shown(what.encode('utf-8', 'replace'))}:"
            raise FormatError(f"{self._name}:{name} {error}") from None


class _EntryContent(StreamContent):
    """The content of one entry."""

    def __init__(self, source: ZipSource, file: IO[bytes], info: zipfile.ZipInfo) -> None:
        super().__init__(file, info.file_size)
        self._source = source
        self._info = info

    def _take(self, length: int) -> bytes:
        with self._source._sound(self._info.filename):
            return super()._take(length)

    def finish(self) -> None:
        # The CRC is looked at when a read finds the end.
        with self._source._sound(self._info.filename):
            self._file.read(1)


def _name(info: zipfile.ZipInfo) -> bytes:
    """The bytes of a name: UTF-8 where they can be, whether or not the zip says that they are."""
    # The module cuts a name at a NUL, and reads what is not marked as UTF-8 as the code page of DOS.
    name = info.orig_filename
    if info.flag_bits & _UTF8:
        return name.encode("utf-8", "surrogateescape")
    try:
        spelled = name.encode("cp437")
        spelled.decode("utf-8")
    except UnicodeError:
        return name.encode("utf-8", "surrogateescape")
    return spelled


def _mtime_ns(info: zipfile.ZipInfo) -> int | None:
    # The time of a zip is local to nobody knows where; it is taken for UTC.
    year, month, day, hour, minute, second = info.date_time
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return timegm((year, month, day, hour, minute, second, 0, 0, 0)) * 1_000_000_000
