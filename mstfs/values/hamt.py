"""The values of HAMTs: raw bytes, byte strings and records in DAG-CBOR, UnixFS files, sealed or open.

Terminology
    What is stored under a key is the content of a block or of a UnixFS file. It is sealed if it is encrypted;
    what is open, or was opened, either is the file itself or is the DAG-CBOR form of a byte string (a blob,
    whose file is its content) or of anything else (a record, whose file is DAG-JSON).

Source: the py-hamt package for what its two layouts store; IPLD specification "HashMap" for values that stand
in nodes or are linked, where the codec of a CID says what is behind it.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from mstfs.codec import byte_string, dag_cbor, dag_json
from mstfs.codec import cid as cids
from mstfs.errors import CborError, DecryptionError, FormatError, LimitExceeded, RecordError, Refused
from mstfs.limits import RECORD_BYTES, SEALED_BYTES
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.unixfs.file import RawPart
from mstfs.values.cache import ByteCache
from mstfs.values.cipher import OVERHEAD, Cipher, Plain
from mstfs.values.hamt_writer import HamtWriter
from mstfs.values.interface import (
    NO_ATTRIBUTES,
    Making,
    ReadRange,
    ValueAttributes,
    ValueKind,
    ValueOptions,
    Values,
)
from mstfs.values.sources import BytesSource, Source, Stored, whole

# What caches hold has the name of the CID, and one of these in front: no CID begins so.
_OPENED = b"o"
_TEXT = b"t"
_TEXT_OF_SEALED = b"s"

_SHAPES = 1 << 15
"""Values of which the kind and the size are remembered."""


class Shape(NamedTuple):
    """What a file is: its kind, its bytes, and where in what is stored (and opened) a blob begins."""

    kind: Literal["blob", "record"]
    size: int
    start: int = 0


class HamtValues(Values):
    """The values of one HAMT.

    `layout` is the tree's. `options.encoding` says for py-hamt 3 whether values are raw bytes or DAG-CBOR
    (`detect.detect` finds out; "auto" is raw here); the others say it themselves. `encoding` is the outcome.
    With a `cipher`, the values of all keys that are not in `plain` (by default as py-hamt has it) are sealed.
    `hash_code` is the hash function of new CIDs, by default that of the layout's own writer.

    Refused for a cipher, or an encoding, that the layout does not have.
    """

    suffix = b""

    def __init__(
        self,
        tree: HamtTree,
        layout: Layout,
        options: ValueOptions,
        cipher: Cipher | None = None,
        plain: Plain | None = None,
        hash_code: int | None = None,
    ) -> None:
        # In py-hamt's trees a CID does not say whether its block is DAG-CBOR; in all others it does.
        self._typed = not isinstance(layout, PyHamt2 | PyHamt3)
        if cipher is not None and self._typed:
            raise Refused(f"nobody encrypts the values of a {layout.name}: only those of py-hamt can be")
        self.tree = tree
        self.layout = layout
        self.options = options
        self.cipher = cipher
        self.plain = Plain.of(layout) if plain is None else plain
        self.encoding: Literal["raw", "cbor"] = _decided(layout, options.encoding)
        self._wrapped = self.encoding == "cbor" and not self._typed
        self._writer = HamtWriter(layout, options, hash_code)
        self.cache = self._cache = ByteCache[bytes](options.cache_bytes)
        self._stored = Stored(tree.values, self._cache)
        self._shapes: dict[bytes, Shape] = {}

    # --- from what is stored to the file --------------------------------------------------------------

    def sealed(self, key: bytes) -> bool:
        """Whether the value of a key is encrypted."""
        return self.cipher is not None and key not in self.plain

    def _decodes(self, cid: bytes) -> bool:
        # Whether what is stored is DAG-CBOR.
        return self._wrapped or cids.codec_of(cid) == cids.DAG_CBOR

    def _source(self, key: bytes, cid: bytes) -> Source:
        source = self._stored.source(cid)
        return BytesSource(self._opened(key, cid, source)) if self.sealed(key) else source

    def _opened(self, key: bytes, cid: bytes, source: Source) -> bytes:
        data = self._cache.get(_OPENED + cid)
        if data is None:
            assert self.cipher is not None
            try:
                size = source.size
                if size > SEALED_BYTES:
                    raise LimitExceeded(f"{size} bytes are too many for an encrypted value")
                data = self.cipher.decrypt(source.read(0, size))
            except (DecryptionError, LimitExceeded) as error:
                raise _of_value(key, cid, error) from None
            self._cache.put(_OPENED + cid, data)
        return data

    def _shape(self, key: bytes, cid: bytes) -> Shape:
        sealed = self.sealed(key)
        if not self._decodes(cid):
            size = self._stored.source(cid).size - (OVERHEAD if sealed else 0)
            if size < 0:
                too_few = DecryptionError(f"{size + OVERHEAD} bytes are too few for an encrypted value")
                raise _of_value(key, cid, too_few)
            return Shape("blob", size)
        name = (_TEXT_OF_SEALED if sealed else _TEXT) + cid
        shape = self._shapes.get(name)
        if shape is None:
            shape = self._look(key, cid)
            if len(self._shapes) >= _SHAPES:
                self._shapes = {}
            self._shapes[name] = shape
        return shape

    def _look(self, key: bytes, cid: bytes) -> Shape:
        source = self._source(key, cid)
        size = source.size
        head = source.read(0, byte_string.HEAD_BYTES)
        if not byte_string.is_head(head):
            return Shape("record", len(self._text(key, cid)))
        start = byte_string.content_at(head, size)
        if start is None:
            raise self._no_cbor(key, cid, "not DAG-CBOR: a byte string of another length than it says")
        return Shape("blob", size - start, start)

    def _text(self, key: bytes, cid: bytes) -> bytes:
        # The file of a record.
        name = (_TEXT_OF_SEALED if self.sealed(key) else _TEXT) + cid
        text = self._cache.get(name)
        if text is None:
            block = self._block(key, cid)
            try:
                text = dag_json.render(block) if self.options.form == "json" else _checked(block)
            except CborError as error:
                raise self._no_cbor(key, cid, str(error)) from None
            self._cache.put(name, text)
        return text

    def _block(self, key: bytes, cid: bytes) -> bytes:
        # All of what is stored for a record, opened.
        source = self._source(key, cid)
        size = source.size
        if size > RECORD_BYTES:
            limit = LimitExceeded(f"a record of {size} bytes is larger than {RECORD_BYTES}")
            raise _of_value(key, cid, limit)
        return source.read(0, size)

    def _no_cbor(self, key: bytes, cid: bytes, reason: str) -> FormatError:
        if self._wrapped and self.cipher is None:
            reason += " (are the values raw bytes, or encrypted?)"
        return _of_value(key, cid, FormatError(reason))

    # --- files ----------------------------------------------------------------------------------------

    def kind(self, key: bytes, cid: bytes) -> ValueKind:
        """What the first byte of the value says; whether the value is sound shows when it is read."""
        if not self._decodes(cid):
            return "blob"
        return "blob" if byte_string.is_head(self._source(key, cid).read(0, 1)) else "record"

    def portable(self, key: bytes, other: bytes) -> bool:
        return self.sealed(key) == self.sealed(other)

    def new_kind(self, key: bytes) -> ValueKind:
        return "blob" if self.encoding == "raw" else self.options.new_files

    def size(self, key: bytes, cid: bytes) -> int:
        return self._shape(key, cid).size

    def read(self, key: bytes, cid: bytes, offset: int, length: int) -> bytes:
        if not self._decodes(cid):
            return self._source(key, cid).read(offset, length)
        kind, _, start = self._shape(key, cid)
        if kind == "record":
            return self._text(key, cid)[offset : offset + length]
        return self._source(key, cid).read(start + offset, length)

    def raw_parts(self, key: bytes, cid: bytes, offset: int, most: int) -> list[RawPart]:
        if self.sealed(key) or self._decodes(cid):
            return []
        return self._stored.raw_parts(cid, offset, most)

    def attributes(self, key: bytes, cid: bytes) -> ValueAttributes:
        return NO_ATTRIBUTES

    # --- Python values --------------------------------------------------------------------------------

    def load(self, key: bytes, cid: bytes) -> Any:
        """The value as Python has it. A record is at most `limits.RECORD_BYTES` long, else LimitExceeded."""
        if not self._decodes(cid) and not self.sealed(key):
            return self._stored.whole(cid)
        if self.kind(key, cid) == "blob":
            return self.read(key, cid, 0, self.size(key, cid))
        try:
            return dag_cbor.decode(self._block(key, cid))
        except CborError as error:
            raise self._no_cbor(key, cid, str(error)) from None

    def make_loaded(self, key: bytes, value: Any) -> Making:
        if isinstance(value, bytes | bytearray | memoryview):
            data = bytes(value)
            return (yield from self._blob(key, BytesSource(data).read, len(data)))
        self._check_record(key)
        try:
            block = dag_cbor.encode_foreign(value)
        except CborError as error:
            raise RecordError(f"the record cannot be written: {error}") from None
        return (yield from self._record(key, block))

    # --- from the file to what is stored --------------------------------------------------------------

    def make(self, key: bytes, kind: ValueKind, read: ReadRange, size: int) -> Making:
        if kind == "symlink":
            raise Refused(f"a {self.layout.name} holds no symbolic links")
        if kind == "blob":
            return (yield from self._blob(key, read, size))
        self._check_record(key)
        if size > RECORD_BYTES:
            raise RecordError(f"the text has {size} bytes, a record at most {RECORD_BYTES}")
        text = whole(b"", read, size)
        if self.options.form == "json":
            block = dag_json.parse(text)
        else:
            try:
                block = _checked(text)
            except CborError as error:
                raise RecordError(str(error)) from None
        if byte_string.is_head(block):
            raise RecordError(
                "a byte string is no record: it is a blob, whose file holds the bytes themselves"
            )
        return (yield from self._record(key, block))

    def _check_record(self, key: bytes) -> None:
        if self.encoding == "raw":
            raise Refused(f"the values of this tree are raw bytes: {_shown(key)} cannot be a record")

    def _blob(self, key: bytes, read: ReadRange, size: int) -> Making:
        head = byte_string.head(size) if self._wrapped else b""
        if self.sealed(key):
            return (yield from self._seal(key, head, read, size))
        if self._typed:
            return (yield from self._writer.typed_bytes(read, size))
        return (yield from self._writer.stored(head, read, size))

    def _record(self, key: bytes, block: bytes) -> Making:
        if len(block) > RECORD_BYTES:
            raise RecordError(f"the record has {len(block)} bytes, at most {RECORD_BYTES} are allowed")
        if self.sealed(key):
            return (yield from self._seal(key, b"", BytesSource(block).read, len(block)))
        if self._typed:
            return (yield from self._writer.typed_record(block))
        return (yield from self._writer.stored(b"", BytesSource(block).read, len(block)))

    def _seal(self, key: bytes, head: bytes, read: ReadRange, size: int) -> Making:
        if len(head) + size + OVERHEAD > SEALED_BYTES:
            raise LimitExceeded(f"{_shown(key)}: {size} bytes are too many for an encrypted value")
        assert self.cipher is not None
        sealed = self.cipher.encrypt(whole(head, read, size))
        return (yield from self._writer.stored(b"", BytesSource(sealed).read, len(sealed)))

    # --- blocks ---------------------------------------------------------------------------------------

    def let_go(self) -> None:
        self._cache.clear()

    def stored(self, cid: bytes) -> bytes:
        return self.tree.values.get(cid)

    def blocks(self, key: bytes, cid: bytes) -> Iterator[tuple[bytes, bytes]]:
        if cids.codec_of(cid) == cids.DAG_PB:
            yield from self._stored.unixfs.nodes(cid)
        elif cids.identity_data(cid) is None and not self._is_inside(cid):
            yield cid, self.tree.blocks.get(cid)

    def _is_inside(self, cid: bytes) -> bool:
        # A value that stands in a node has the CID of a block, and the same value may be linked elsewhere.
        return not self.tree.blocks.has(cid) and self.tree.inline_value(cid) is not None


def _decided(layout: Layout, encoding: Literal["auto", "raw", "cbor"]) -> Literal["raw", "cbor"]:
    if isinstance(layout, PyHamt3):
        return "cbor" if encoding == "cbor" else "raw"
    if encoding == "raw":
        raise Refused(f"the values of a {layout.name} are never just raw bytes")
    return "cbor"


def _checked(block: bytes) -> bytes:
    # A record whose file is its block.
    if len(block) > RECORD_BYTES:
        raise LimitExceeded(f"a record of {len(block)} bytes is larger than {RECORD_BYTES}")
    dag_cbor.decode(block)
    return block


def _shown(key: bytes) -> str:
    # `ascii` escapes what could steer a terminal.
    text = key.decode("utf-8", "backslashreplace")
    return ascii(text if len(text) <= 120 else text[:117] + "...")


def _of_value(key: bytes, cid: bytes, error: FormatError) -> FormatError:
    # The same error, saying which value it is about.
    return type(error)(f"the value of {_shown(key)}, {cids.to_text(cid)}: {error}")
