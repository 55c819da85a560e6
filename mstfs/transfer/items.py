"""What a source gives: items, and their content as it is read once from beginning to end."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from blake3 import blake3

from mstfs.errors import Refused

ItemKind: TypeAlias = Literal["record", "blob", "symlink", "folder", "link"]
"""A link is a second name (hard link) of an item that came before it."""

DIGEST_BYTES = 16
"""Bytes that are kept of the blake3 digest of each content."""


class Content(Protocol):
    """The content of one item while it is open."""

    size: int
    """Bytes in it."""

    def read(self, offset: int, length: int) -> bytes:
        """A range; fewer bytes only at the end.

        Where it comes from a stream, only what follows the last range, or the last range again.
        """
        ...

    def finish(self) -> None:
        """Called when all was read. Refused if it changed meanwhile."""
        ...

    def close(self) -> None:
        """Let go of it; closing again does nothing."""
        ...


class Bytes(Content):
    """Content that is in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


def _nothing() -> Content:
    return Bytes(b"")


def _no_record() -> Any:
    raise AssertionError("this item is no record")


@dataclass(slots=True)
class Item:
    """One thing in a source.

    `open` gives its content: of a record the text that a mount shows, of a symbolic link its target, of a
    link the path of what it is linked to. `load` gives a record as Python has it. `mode` holds permission
    bits, `mtime_ns` is the time in ns since 1970; both are None where the source does not say.
    """

    key: bytes
    kind: ItemKind
    open: Callable[[], Content] = _nothing
    load: Callable[[], Any] = _no_record
    mode: int | None = None
    mtime_ns: int | None = None


class Planned(NamedTuple):
    """An item before anything is read of it. `kind` None stands for a record or a blob, `size` None for many
    bytes or few."""

    key: bytes
    kind: ItemKind | None
    size: int | None


class Source(Protocol):
    """Where items come from. Errors are those of files and blocks, and Refused for what cannot be taken."""

    is_files: bool
    """Whether keys are paths of files; a record is then a file with the text of one."""
    suffix: bytes
    """What a mount of the source appends to the keys of files."""

    def plan(self) -> Iterator[Planned] | None:
        """All items, quickly; None where only reading everything would tell."""
        ...

    def holds_records(self) -> bool:
        """Whether an item is a record. May read items up to the first that is one."""
        ...

    def items(self) -> Iterator[Item]:
        """All items. The content of one can be read until the next one is asked for."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class Reading:
    """Reads a content once and takes its digest on the way; also a stream, for those who want one."""

    def __init__(self, content: Content) -> None:
        self.size = content.size
        self._content = content
        self._hash = blake3()
        self._hashed = 0
        self._at = 0

    def range(self, offset: int, length: int) -> bytes:
        """The bytes of a range that begins where the last one ended, or before."""
        if offset > self._hashed:
            raise AssertionError("content is read in order")
        data = self._content.read(offset, length)
        if len(data) < min(length, self.size - offset):
            raise Refused(
                f"ends after {offset + len(data)} of {self.size} bytes: it was cut while it was read"
            )
        fresh = offset + len(data) - self._hashed
        if fresh > 0:
            self._hash.update(data[-fresh:] if fresh < len(data) else data)
            self._hashed += fresh
        return data

    def read(self, length: int = -1) -> bytes:
        """The next bytes."""
        left = self.size - self._at
        data = self.range(self._at, left if length < 0 else min(length, left))
        self._at += len(data)
        return data

    def finish(self) -> bytes:
        """The digest, once everything was read."""
        if self._hashed < self.size:
            raise AssertionError(f"only {self._hashed} of {self.size} bytes were read")
        self._content.finish()
        return self._hash.digest(DIGEST_BYTES)


def digest_of(data: bytes) -> bytes:
    """The digest of a content that is in memory."""
    return blake3(data).digest(DIGEST_BYTES)


def digest_with(digest: bytes, item: Item) -> bytes:
    """The digest of a content together with what its item carries beside it."""
    return digest_of(digest + repr((item.mode, item.mtime_ns)).encode())
