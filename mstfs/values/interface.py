"""What every kind of value can do."""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from mstfs.errors import MstfsError
from mstfs.tree.unixfs.file import RawPart
from mstfs.values.cache import ByteCache

ValueKind: TypeAlias = Literal["record", "blob", "symlink"]

Making: TypeAlias = Generator[tuple[bytes, bytes], None, bytes]
"""Yields the blocks that a new value needs, as (CID, bytes), children first; returns the value."""

ReadRange: TypeAlias = Callable[[int, int], bytes]
"""From an offset and a length to bytes; fewer only at the end."""


class ValueAttributes(NamedTuple):
    """What a value says about its file beside its size; None where it says nothing.

    `mode` holds permission bits. `symlink` says that the file is a symbolic link.
    """

    mode: int | None = None
    mtime_ns: int | None = None
    symlink: bool = False


NO_ATTRIBUTES = ValueAttributes()


@dataclass(frozen=True)
class ValueOptions:
    """How values are read and written, where their tree does not say.

    `form` is that of records: json or cbor. `encoding` says whether the values of a HAMT are raw bytes or
    DAG-CBOR; "auto" finds out. `new_files` is the kind of a file whose key is new. `large` is what becomes of
    a blob over `chunk_bytes` (None: as the layout's own writer has it): one raw block or a UnixFS file.
    """

    form: Literal["json", "cbor"] = "json"
    encoding: Literal["auto", "raw", "cbor"] = "auto"
    new_files: Literal["blob", "record"] = "blob"
    large: Literal["unixfs", "raw"] = "unixfs"
    chunk_bytes: int | None = None
    cache_bytes: int = 32 << 20


class Values(Protocol):
    """The values of one tree, seen as files.

    Methods that read raise BlockError (or MissingBlocks) where a block cannot be had, FormatError where it is
    not what its place asks for, LimitExceeded. Safe to use from several threads if the block reader is.
    """

    suffix: bytes
    """What the names of files end in, e.g. `.json`; empty where names are keys."""

    carries_attributes: bool = False
    """Whether values can say more of their files than their bytes: `attributes` is for these alone."""

    cache: ByteCache[bytes] | None = None
    """What was read or rendered last, where that is held."""

    def kind(self, key: bytes, cid: bytes) -> ValueKind:
        """Whether the file is a record's text, a blob, or a symbolic link."""
        ...

    def portable(self, key: bytes, other: bytes) -> bool:
        """Whether a value of one key says the same under the other, so that it can be moved as it is."""
        ...

    def new_kind(self, key: bytes) -> ValueKind:
        """What a new file of this key is."""
        ...

    def size(self, key: bytes, cid: bytes) -> int:
        """The exact number of bytes that `read` gives. Reads no more than it must."""
        ...

    def read(self, key: bytes, cid: bytes, offset: int, length: int) -> bytes:
        """A range of the file (of a symbolic link: of its target); shorter only at the end."""
        ...

    def raw_parts(self, key: bytes, cid: bytes, offset: int, most: int) -> list[RawPart]:
        """Parts of the file that are raw blocks, in order, at most `most`, and among them that at `offset`.

        None where it consists of something else there. Reads no leaf; errors as for `read`.
        """
        return []

    def whole(self, files: Iterable[tuple[bytes, bytes]], most: int) -> Iterator[bytes | None]:
        """What the files of some keys and values say; None for each that is larger or cannot be read.

        For what is read once: of a record nothing is kept.
        """
        for key, cid in files:
            try:
                size = self.size(key, cid)
                yield self.read(key, cid, 0, size) if size <= most else None
            except MstfsError:
                yield None

    def attributes(self, key: bytes, cid: bytes) -> ValueAttributes:
        """What the value carries beside its bytes, also for the CID of a folder, where folders have one.

        Reads no block where values carry nothing.
        """
        ...

    def make(self, key: bytes, kind: ValueKind, read: ReadRange, size: int) -> Making:
        """The value of a file of `size` bytes. RecordError where `kind` is a record and the text is none."""
        ...

    def load(self, key: bytes, cid: bytes) -> Any:
        """The value as Python has it: `bytes` for a blob, dicts, lists, `Link` and so on for a record."""
        ...

    def make_loaded(self, key: bytes, value: Any) -> Making:
        """The value of what `load` gives. RecordError, or Refused where such a value cannot be kept here."""
        ...

    def let_go(self) -> None:
        """Hold nothing in memory that can be read again."""
        return

    def stored(self, cid: bytes) -> bytes:
        """The block behind a value, also where it stands inside a node of the tree."""
        ...

    def blocks(self, key: bytes, cid: bytes) -> Iterator[tuple[bytes, bytes]]:
        """CID and bytes of every block that the value consists of; none where it stands inside a node."""
        ...
