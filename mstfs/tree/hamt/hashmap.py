"""The layout of IPLD HashMaps, which py-hamt 1.x writes too.

Source: IPLD specification, "HashMap". The root is {"hashAlg": multicodec, "bucketSize": n, "hamt": node}, a
node is [map, data]: a bit for each slot, and an element for each bit that is set. An element is a link to a
child, or a bucket [[key, value], ...] in key order. Values are of any kind. py-hamt 1.0 spells the names of
the root's fields with underscores, and its keys as text.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NoReturn

from mstfs.codec import dag_cbor
from mstfs.codec.cid import Link
from mstfs.errors import NodeError
from mstfs.tree.hamt import hashes
from mstfs.tree.hamt.layout import WIDTH_MAX, Layout
from mstfs.tree.hamt.node import (
    NO_INLINE,
    Bucket,
    Buckets,
    HamtNode,
    Inline,
    Links,
    decoded,
    inline_cid,
    key_bytes,
)

FIELDS = ("hashAlg", "bucketSize", "hamt")
OLD_FIELDS = ("hash_alg", "bucket_size", "hamt")

BUCKET_SIZE_MAX = 1 << 16


def fields_of(value: object) -> tuple[str, str, str] | None:
    """The names of the root's fields, if a value is a map of exactly those."""
    if type(value) is dict:
        for fields in (FIELDS, OLD_FIELDS):
            if value.keys() == set(fields):
                return fields
    return None


def width_of(size: int) -> int | None:
    """The bit width that a map of `size` bytes stands for; None if there is none."""
    width = (8 * size).bit_length() - 1
    return width if 3 <= width <= WIDTH_MAX and 1 << width == 8 * size else None


@dataclass(frozen=True)
class HashMap(Layout):
    """An IPLD HashMap. `declared` is its hashAlg, `old` says that it is of py-hamt 1.0."""

    declared: int = hashes.SHA2_256
    old: bool = False

    name: ClassVar[str] = "IPLD HashMap"
    holds_values: ClassVar[bool] = True

    @property
    def text_keys(self) -> bool:
        return self.old

    def form(self) -> "HashMap":
        return replace(super().form(), declared=0)

    def placements(self) -> Iterator["HashMap"]:
        yield self.placed(self.declared)
        for code in hashes.FUNCTIONS:
            if code != self.declared:
                yield self.placed(code)

    def decode(self, cid: bytes, data: bytes, level: int) -> HamtNode:
        value = decoded(cid, data)
        if level == 0:
            if fields_of(value) is None:
                raise NodeError(cid, "node-fields", f"is no map of exactly the fields {', '.join(FIELDS)}")
            value = value["hamt"]
        return self._decode_node(cid, value)

    def _decode_node(self, cid: bytes, value: Any) -> HamtNode:
        def refuse(rule: str, message: str) -> NoReturn:
            raise NodeError(cid, rule, message)

        if type(value) is not list or [type(part) for part in value] != [bytes, list]:
            refuse("node-type", "is no list of a byte string and a list")
        bits, elements = value
        if 8 * len(bits) != 1 << self.width:
            refuse("map-size", f"has a map of {len(bits)} bytes where the bit width is {self.width}")
        slots = set_bits(int.from_bytes(bits, "little"))
        if len(slots) != len(elements):
            refuse("map-count", f"has {len(elements)} elements where its map has {len(slots)} bits set")
        reader = BucketReader(cid, self.old)
        links: Links = {}
        for slot, element in zip(slots, elements, strict=True):
            if type(element) is Link:
                links[slot] = element.cid
            else:
                reader.read(slot, element)
        return reader.node(links)

    def encode(self, buckets: Buckets, links: Links, inline: Inline, level: int) -> bytes:
        elements: list[object] = []
        bits = 0
        for slot in sorted((*buckets, *links)):
            bits |= 1 << slot
            link = links.get(slot)
            elements.append(self._entries(buckets[slot], inline) if link is None else Link(link))
        value: object = [bits.to_bytes(1 << self.width >> 3, "little"), elements]
        if level == 0:
            fields = OLD_FIELDS if self.old else FIELDS
            value = dict(zip(fields, (self.declared, self.bucket_size, value), strict=True))
        return dag_cbor.encode(value)

    def _entries(self, bucket: Bucket, inline: Inline) -> list[object]:
        entries: list[object] = []
        for key, cid in sorted(bucket.items()):
            data = inline.get(key)
            value = Link(cid) if data is None else dag_cbor.decode(data)
            entries.append([key.decode("utf-8") if self.old else key, value])
        return entries


def set_bits(number: int) -> list[int]:
    """Which bits of a number are set, in ascending order."""
    text = bin(number)[:1:-1]
    found = []
    at = text.find("1")
    while at >= 0:
        found.append(at)
        at = text.find("1", at + 1)
    return found


class BucketReader:
    """Takes in the buckets [[key, value], ...] of one node."""

    def __init__(self, cid: bytes, text: bool | None) -> None:
        self._cid = cid
        self._text = text  # None: keys of either kind
        self._entries: Bucket = {}
        self._slots: list[int] = []
        self._sizes: list[int] = []
        self._count = 0
        self._inline: dict[bytes, bytes] = {}

    def read(self, slot: int, element: object) -> None:
        """Take in one bucket; NodeError if it is none."""
        cid = self._cid
        if type(element) is not list:
            raise NodeError(cid, "element-type", f"has neither a link nor a bucket in slot {slot}")
        bucket = self._entries
        # There may be none: some writers leave an empty bucket behind when they delete its last entry.
        for entry in element:
            if type(entry) is not list or len(entry) != 2:
                raise NodeError(cid, "entry-type", "has an entry that is no list of a key and a value")
            key, value = entry
            key = key_bytes(cid, key, isinstance(key, str) if self._text is None else self._text)
            if type(value) is Link:
                bucket[key] = value.cid
            else:
                data = self._inline[key] = dag_cbor.encode(value)
                bucket[key] = inline_cid(data)
        if element:
            self._slots.append(slot)
            self._sizes.append(len(element))
            self._count += len(element)
        if len(bucket) != self._count:
            raise NodeError(cid, "key-duplicate", "has a key twice")

    def node(self, links: Links) -> HamtNode:
        """The node with all the buckets taken in."""
        sizes = tuple(self._sizes)
        return HamtNode(self._entries, tuple(self._slots), sizes, links, self._inline or NO_INLINE)
