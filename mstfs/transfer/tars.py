"""Tars as sources: read once from beginning to end, out of a file or a pipe, compressed or not.

Source: POSIX pax, GNU tar's manual. A tar must end in its end mark and have nothing but padding behind it,
and a compressed one must pass the check of its compression: else one that was cut off could pass for a whole.
"""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from importlib import import_module
from typing import IO, Any, BinaryIO, cast

from mstfs.errors import FormatError, LimitExceeded, Refused
from mstfs.transfer.items import Bytes, Content, Item, ItemKind, Source
from mstfs.transfer.names import shown

_ENCODING = "utf-8"
_ESCAPING = "surrogateescape"

_PIECE = 1 << 20

HEADER_BYTES = 1 << 20
"""Bytes in one of the headers that stand in front of a member."""

_SECONDS = 1 << 63

_FILES = frozenset((tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE))
_KINDS: dict[bytes, ItemKind] = {
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "link",
    **dict.fromkeys(_FILES, "blob"),
}
_HEADERS = frozenset(
    (
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    )
)
"""What says more about the member that follows."""

_REFUSED = {
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
}

_DAMAGES = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a damaged tar raises; and OSError without a number, from decompressors."""


class TarSource(Source):
    """The members of a tar. `name` is what errors call it. The stream is closed by its owner."""

    is_files = True
    suffix = b""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name

    def plan(self) -> None:
        return None

    def holds_records(self) -> bool:
        return False

    def items(self) -> Iterator[Item]:
        with self._sound():
            plain = decompressed(self._stream)
            tar = _Tar.open(
                fileobj=plain,
                mode="r|",
                tarinfo=_Member,
                encoding=_ENCODING,
                errors=_ESCAPING,
                bufsize=_PIECE,
            )
        while True:
            with self._sound():
                member = tar.next()
            # The module would hold on to every member, for a look-up that a stream cannot do.
            tar.members.clear()  # type: ignore[attr-defined]
            if member is None:
                break
            yield self._item(tar, member)
        if type(tar.end).__name__ != "EOFHeaderError":
            raise FormatError(
                f"{self._name}: ends without an end mark, so it may be cut off ({tar.end}); if it is meant "
                "to be like that, unpack it and import the folder"
            )
        with self._sound():
            while data := tar.rest(_PIECE):
                if data.count(0) < len(data):
                    raise FormatError(
                        f"{self._name}: something stands behind its end mark, perhaps a second tar: "
                        "import them one by one, or join them with `tar --concatenate`"
                    )

    def close(self) -> None:
        pass

    def _item(self, tar: "_Tar", member: tarfile.TarInfo) -> Item:
        name = _bytes(member.name)
        kind = _KINDS.get(member.type)
        if kind is None:
            what = _REFUSED.get(member.type, f"an entry of the unknown type {member.type!r}")
            raise Refused(f"{self._name}: {shown(name)} is {what}, which no tree can hold")
        key = inner_path(self._name, name)
        opened: Callable[[], Content] = partial(Bytes, b"")
        if kind == "blob":
            opened = partial(self._open, tar, member, key)
        elif kind == "symlink":
            opened = partial(Bytes, _bytes(member.linkname))
        elif kind == "link":
            opened = partial(Bytes, inner_path(self._name, _bytes(member.linkname)))
        if not key and kind != "folder":
            raise Refused(f"{self._name}: the entry {shown(name)} is no folder, and has no name")
        mode = None if kind == "symlink" else member.mode & 0o7777
        return Item(key, kind, opened, mode=mode, mtime_ns=_mtime_ns(member))

    def _open(self, tar: "_Tar", member: tarfile.TarInfo, key: bytes) -> Content:
        file = tar.extractfile(member)
        assert file is not None
        return _MemberContent(self, file, member.size)

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """What a damaged tar raises becomes FormatError."""
        try:
            yield
        except _DAMAGES as error:
            raise FormatError(f"{self._name}: the tar is damaged or cut off: {error}") from None
        except OSError as error:
            if error.errno is not None:
                raise
            raise FormatError(f"{self._name}: the tar is damaged or cut off: {error}") from None


class StreamContent(Content):
    """Content that comes in order; the last range can be read again."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.size = size
        self._file = file
        self._start = 0
        self._last = b""

    def read(self, offset: int, length: int) -> bytes:
        skipped = offset - self._start
        if not 0 <= skipped <= len(self._last):
            raise AssertionError("a stream is read in order")
        held = self._last[skipped : skipped + length]
        if len(held) < length:
            fresh = self._take(length - len(held))
            self._last = held + fresh if held else fresh
            self._start = offset
            return self._last
        return held

    def _take(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) == length or not data:
            return data
        parts = [data]
        length -= len(data)
        while length and (data := self._file.read(length)):
            parts.append(data)
            length -= len(data)
        return b"".join(parts)

    def finish(self) -> None:
        pass

    def close(self) -> None:
        self._file.close()


class _MemberContent(StreamContent):
    """The content of a file in a tar."""

    def __init__(self, source: TarSource, file: IO[bytes], size: int) -> None:
        super().__init__(file, size)
        self._source = source

    def _take(self, length: int) -> bytes:
        with self._source._sound():
            return super()._take(length)


class _Tar(tarfile.TarFile):
    """A tar that remembers why it ended; the module takes a damaged header for an end, too."""

    end: Exception | None = None

    def rest(self, length: int) -> bytes:
        """What stands behind the end mark."""
        assert self.fileobj is not None
        return self.fileobj.read(length)


class _Member(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and member.size > HEADER_BYTES:
            # The module would read all of it, and a few KB can be unpacked to that.
            raise LimitExceeded(f"the tar has a header of {member.size} bytes, more than {HEADER_BYTES}")
        return member

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> Any:
        try:
            return super().fromtarfile(tarfile)
        except Exception as error:
            tarfile.end = error
            raise


def _mtime_ns(member: tarfile.TarInfo) -> int | None:
    # The text of a pax header is exact, the number that the module makes of it is not.
    try:
        seconds = Decimal(member.pax_headers.get("mtime", member.mtime))
        return int(seconds * 1_000_000_000) if abs(seconds) < _SECONDS else None
    except (ArithmeticError, ValueError):
        return None


def _bytes(text: str) -> bytes:
    return text.encode(_ENCODING, _ESCAPING)


def inner_path(archive: str, name: bytes) -> bytes:
    """The path of an entry, without `./` and double slashes. Refused if it leaves the tree."""
    if name.startswith(b"/"):
        raise Refused(f"{archive}: the entry {shown(name)} has an absolute path, which leaves the tree")
    if b"\0" in name:
        raise Refused(f"{archive}: the entry {shown(name)} has a NUL in its name")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise Refused(f"{archive}: the entry {shown(name)} has '..' in its path, and may leave the tree")
    return b"/".join(parts)


# --- compression ----------------------------------------------------------------------------------


class _Rejoined:
    """A stream of which the beginning was read already."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = head
        self._stream = stream
        self._some = getattr(stream, "read1", stream.read)

    def read(self, length: int = -1) -> bytes:
        if not self._head:
            # No more than there is by now: else Ctrl-C would wait for a slow pipe.
            return self._some(length)
        data = self._head if length < 0 else self._head[:length]
        self._head = self._head[len(data) :]
        return data + self._stream.read() if length < 0 else data


def decompressed(stream: BinaryIO) -> IO[bytes]:
    """The stream, unpacked if it begins like gzip, bzip2, xz or zstd. Refused where that is not possible."""
    head = b""
    while len(head) < 6 and (data := stream.read(6 - len(head))):
        head += data
    joined = cast(IO[bytes], _Rejoined(head, stream))
    if head.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=joined))
    if head.startswith(b"BZh"):
        return cast(IO[bytes], bz2.BZ2File(joined))
    if head.startswith(b"\xfd7zXZ\0"):
        return cast(IO[bytes], lzma.LZMAFile(joined))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd(joined)
    if head.startswith(b"PK"):
        raise Refused("a zip cannot be read from a stream: name the file")
    return joined


def _zstd(stream: IO[bytes]) -> IO[bytes]:
    # In the standard library from Python 3.14 on; the other one is the same for those before it.
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return cast(IO[bytes], import_module(name).ZstdFile(stream))
        except ImportError:
            continue
    raise Refused(
        "this Python cannot unpack zstd: zstd -dc FILE | mstfs import - OUT.car, or install backports.zstd"
    )
