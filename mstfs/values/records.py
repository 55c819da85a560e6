"""The values of atproto repositories: records, shown as atproto JSON or as the DAG-CBOR that they are."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.errors import CborError, MstfsError, RecordError
from mstfs.repo import record
from mstfs.values.cache import ByteCache
from mstfs.values.interface import (
    NO_ATTRIBUTES,
    Making,
    ReadRange,
    ValueAttributes,
    ValueKind,
    ValueOptions,
    Values,
)


@dataclass(frozen=True)
class Form:
    """`render` turns a block into a file's bytes; `parse` turns them back, or raises RecordError."""

    name: str
    suffix: bytes
    render: Callable[[bytes], bytes]
    parse: Callable[[bytes], bytes]


def _parse_cbor(data: bytes) -> bytes:
    try:
        dag_cbor.decode(data)
    except CborError as error:
        raise RecordError(str(error)) from error
    for defect in record.check_value(data):
        raise RecordError(defect.message)
    return data


JSON = Form("json", b".json", record.render, record.parse)
CBOR = Form("cbor", b".cbor", lambda block: block, _parse_cbor)
FORMS = {form.name: form for form in (JSON, CBOR)}
"""The forms that a record can be shown in, by name."""


class RecordValues(Values):
    """Each value is the CID of a block. Its rendering depends on that alone, and never goes stale."""

    def __init__(self, blocks: BlockReader, options: ValueOptions) -> None:
        self.blocks_of_tree = blocks
        self.form = FORMS[options.form]
        self._made_last = b"", b""
        self.suffix = self.form.suffix
        self.cache = self.renderings = ByteCache[bytes](options.cache_bytes)

    def rendering(self, cid: bytes) -> bytes:
        """The bytes of a record's file. Raises BlockError, or FormatError where the block is no record."""
        data = self.renderings.get(cid)
        if data is None:
            made, block = self._made_last
            data = self.form.render(block if made == cid else self.blocks_of_tree.get(cid))
            self.renderings.put(cid, data)
        return data

    def kind(self, key: bytes, cid: bytes) -> ValueKind:
        return "record"

    def new_kind(self, key: bytes) -> ValueKind:
        return "record"

    def portable(self, key: bytes, other: bytes) -> bool:
        return True

    def size(self, key: bytes, cid: bytes) -> int:
        return len(self.rendering(cid))

    def read(self, key: bytes, cid: bytes, offset: int, length: int) -> bytes:
        return self.rendering(cid)[offset : offset + length]

    def whole(self, files: Iterable[tuple[bytes, bytes]], most: int) -> Iterator[bytes | None]:
        rendered, get, render = self.renderings.get, self.blocks_of_tree.get, self.form.render
        for _, cid in files:
            try:
                data = rendered(cid) or render(get(cid))
            except MstfsError:
                yield None
            else:
                yield data if len(data) <= most else None

    def attributes(self, key: bytes, cid: bytes) -> ValueAttributes:
        return NO_ATTRIBUTES

    def make(self, key: bytes, kind: ValueKind, read: ReadRange, size: int) -> Making:
        return (yield from self._made(self.form.parse(read(0, size))))

    def load(self, key: bytes, cid: bytes) -> Any:
        return record.to_value(self.blocks_of_tree.get(cid))

    def make_loaded(self, key: bytes, value: Any) -> Making:
        return (yield from self._made(record.from_value(value)))

    def _made(self, block: bytes) -> Making:
        cid = cids.for_block(block)
        # Who writes a file looks at it next.
        self._made_last = cid, block
        yield cid, block
        return cid

    def let_go(self) -> None:
        self.renderings.clear()

    def stored(self, cid: bytes) -> bytes:
        return self.blocks_of_tree.get(cid)

    def blocks(self, key: bytes, cid: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield cid, self.blocks_of_tree.get(cid)
