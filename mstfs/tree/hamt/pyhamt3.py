"""The layout of py-hamt 3.x: a list of 256 slots.

Source: the py-hamt package, versions 3.0 to 3.6. A node is a DAG-CBOR list of 256 items: {} for nothing,
{key: pointer, ...} for a bucket, [pointer] for a child.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import compress, repeat
from operator import is_, not_
from typing import Any, ClassVar, NamedTuple, NoReturn

from mstfs.codec import cid as cids
from mstfs.codec.dag_cbor import decode_node, encode
from mstfs.errors import CborError, NodeError
from mstfs.limits import KEY_BYTES, NODE_BYTES
from mstfs.tree.hamt.draft import Draft
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import (
    COMMON,
    NO_INLINE,
    Bucket,
    Buckets,
    Fetch,
    HamtNode,
    Inline,
    Links,
    Load,
    all_common,
    decoded,
    encode_common,
    flat,
    key_bytes,
    pointer_cid,
    pointer_of,
    pointers_of,
)

try:
    from mstfs.tree.hamt import fast_node
except ImportError:  # There was no compiler: everything is done here.
    fast_node = None  # type: ignore[assignment]

SLOTS = 256

_SMALL_BYTES = 1024
"""A block of at most this size has about a dozen entries."""

_HEAD = b"\x99\x01\x00"  # of a list of 256
_MAP, _LIST_OF_ONE, _TEXT = 0xA0, 0x81 - 0xA0, 0x60
_LINK_HEADS = frozenset(b"\xd8\x2a\x58\x25\x00" + head for head in COMMON)
_find_full = re.compile(rb"[^\xa0]").search

_UNCOMMON = (CborError, AttributeError, TypeError, ValueError)
"""What comes of a block that is not of the common shape."""


@dataclass(frozen=True)
class PyHamt3(Layout):
    """A HAMT of py-hamt 3.x. `bare` says that its pointers are multihashes and not links."""

    bare: bool = False

    name: ClassVar[str] = "py-hamt 3"
    node_hash: ClassVar[int] = cids.BLAKE3

    @property
    def text_keys(self) -> bool:
        return True

    def spelled(self, cid: bytes) -> bytes:
        return bytes((1, cids.RAW)) + cids.multihash_of(cid) if self.bare else cid

    def decode(self, cid: bytes, data: bytes, level: int) -> HamtNode:
        if fast_node is not None and not self.bare:
            found = fast_node.decode(data)
            if found is not None:
                return HamtNode(*found, NO_INLINE)
        if len(data) <= _SMALL_BYTES and not self.bare:
            try:
                node = _decode_small(data)
            except IndexError:
                node = None
            if node is not None:
                return node
        try:
            parts = self._parts(data)
            entries = dict(zip(map(str.encode, parts.keys), parts.pointers, strict=True))
            if len(entries) == len(parts.keys):
                sizes = tuple(map(len, parts.buckets))
                return HamtNode(entries, tuple(parts.slots), sizes, parts.links, NO_INLINE)
        except _UNCOMMON:
            pass
        return self._decode_careful(cid, decoded(cid, data))

    def draft(self, cid: bytes | None, level: int, fetch: Fetch, load: Load) -> Draft:
        if cid is None:
            return super().draft(cid, level, fetch, load) if self.bare else _CommonDraft(self, [{}] * SLOTS)
        data = fetch(cid)
        try:
            parts = self._parts(data)
            if len(set(parts.keys)) == len(parts.keys):
                return _CommonDraft(self, parts.raw)
        except _UNCOMMON:
            pass
        return super().draft(cid, level, fetch, load)

    def _parts(self, data: bytes) -> "_Parts":
        """What is in a block where every pointer is a link of the `COMMON` kind; else one of `_UNCOMMON`.

        What is done for each entry is done for all of them by one call that has its loop in C.
        """
        if self.bare or len(data) > NODE_BYTES:
            raise ValueError
        raw = decode_node(data)
        if type(raw) is not list or len(raw) != SLOTS:
            raise ValueError
        slots = list(compress(range(SLOTS), raw))
        buckets = list(map(raw.__getitem__, slots))
        same: list[object] = [{}] * SLOTS
        for slot, item in zip(slots, buckets, strict=True):
            same[slot] = item
        links: Links = {}
        linked = list(map(is_, map(type, buckets), repeat(list)))
        if True in linked:
            # A list of more than one item is too long for that.
            links = dict(zip(compress(slots, linked), flat(compress(buckets, linked)), strict=True))
            free = list(map(not_, linked))
            slots, buckets = list(compress(slots, free)), list(compress(buckets, free))
        pointers = list(flat(map(dict.values, buckets)))
        keys = list(flat(buckets))
        # Encoding makes links of exactly those byte strings that are CIDs. If the bytes are the same,
        # everything was canonical, links are links, and what is empty is a map.
        if not all_common([*pointers, *links.values()]) or encode_common(same) != data:
            raise ValueError
        if len(data) > KEY_BYTES < 4 * max(map(len, keys), default=0):
            raise ValueError  # a key may be too long
        return _Parts(raw, slots, buckets, links, keys, pointers)

    def _decode_careful(self, cid: bytes, value: Any) -> HamtNode:
        def refuse(rule: str, message: str) -> NoReturn:
            raise NodeError(cid, rule, message)

        if type(value) is not list:
            refuse("node-type", "is no list")
        if len(value) != SLOTS:
            refuse("node-slots", f"is a list of {len(value)} items and not of {SLOTS}")
        entries: Bucket = {}
        sizes: dict[int, int] = {}
        links: Links = {}
        for slot, item in enumerate(value):
            if type(item) is dict:
                for key, pointer in item.items():
                    entries[key_bytes(cid, key, True)] = pointer_cid(cid, pointer, self.bare, cids.RAW)
                if item:
                    sizes[slot] = len(item)
            elif type(item) is list and len(item) == 1:
                links[slot] = pointer_cid(cid, item[0], self.bare, cids.DAG_CBOR)
            else:
                refuse("slot-type", f"has neither a map nor a list of one item in slot {slot}")
        if len(entries) != sum(sizes.values()):
            refuse("key-duplicate", "has a key twice")
        return HamtNode(entries, tuple(sizes), tuple(sizes.values()), links, NO_INLINE)

    def encode(self, buckets: Buckets, links: Links, inline: Inline, level: int) -> bytes:
        if not self.bare and all_common(pointers_of(buckets, links)):
            return encode_common(_value(buckets, links))
        return encode(_value(buckets, links, partial(pointer_of, bare=self.bare)))


def _value(buckets: Buckets, links: Links, point: Callable[[bytes], object] | None = None) -> object:
    slots: list[object] = [{}] * SLOTS
    for slot, bucket in buckets.items():
        slots[slot] = {key.decode(): cid if point is None else point(cid) for key, cid in bucket.items()}
    for slot, cid in links.items():
        slots[slot] = [cid if point is None else point(cid)]
    return slots


def _decode_small(data: bytes) -> HamtNode | None:
    """The node in a canonical block with common links and short keys; None, or IndexError, for any other one.

    Most nodes of a big tree have a few entries in their 256 slots. To look for these takes less time than a
    decoder, which makes a value of each slot.
    """
    if data[:3] != _HEAD:
        return None
    entries: Bucket = {}
    sizes: dict[int, int] = {}
    links: Links = {}
    count = slot = 0
    at, end = 3, len(data)
    while (full := _find_full(data, at)) is not None:
        slot += full.start() - at
        at = full.end()
        size = data[at - 1] - _MAP
        if size == _LIST_OF_ONE:
            if data[at : at + 9] not in _LINK_HEADS:
                return None
            links[slot] = data[at + 5 : at + 41]
            at += 41
        elif 0 < size < 24:
            last = (-1, b"")
            for _ in range(size):
                length, at = data[at] - _TEXT, at + 1
                if length == 24 and at < end:
                    length, at = data[at], at + 1
                    if length < 24:
                        return None
                elif not 0 <= length < 24:
                    return None
                key = data[at : at + length]
                at += length
                if data[at : at + 9] not in _LINK_HEADS or last >= (length, key):
                    return None
                last = length, key
                entries[key] = data[at + 5 : at + 41]
                at += 41
            sizes[slot] = size
            count += size
        else:
            return None
        slot += 1
    if slot + end - at != SLOTS or at > end or len(entries) != count or not _is_text(entries):
        return None
    return HamtNode(entries, tuple(sizes), tuple(sizes.values()), links, NO_INLINE)


def _is_text(keys: Iterable[bytes]) -> bool:
    try:
        b"\n".join(keys).decode()
    except UnicodeDecodeError:
        return False
    return True


class _Parts(NamedTuple):
    """A block: its value, its buckets and their slots, its links, the keys and pointers of its entries."""

    raw: list[Any]
    slots: list[int]
    buckets: list[dict[str, bytes]]
    links: Links
    keys: list[str]
    pointers: list[bytes]


class _CommonDraft(Draft):
    """The draft of a block of the common shape: the value that the block is made of, changed in place."""

    inline = NO_INLINE

    def __init__(self, layout: PyHamt3, raw: list[Any]) -> None:
        self._layout = layout
        self._raw = raw
        self._new: list[bytes] = []

    @property
    def links(self) -> Links:
        return {slot: item[0] for slot, item in enumerate(self._raw) if type(item) is list}

    def link(self, slot: int) -> bytes | None:
        item = self._raw[slot]
        return item[0] if type(item) is list else None

    def bucket(self, slot: int) -> Bucket:
        item = self._raw[slot]
        return {key.encode(): cid for key, cid in item.items()} if item and type(item) is dict else {}

    def few(self, most: int) -> Bucket | None:
        entries: dict[str, bytes] = {}
        for item in self._raw:
            if item and type(item) is dict:
                if len(entries) + len(item) > most:
                    return None
                entries.update(item)
        return {key.encode(): cid for key, cid in entries.items()}

    def put(self, slot: int, content: Bucket | bytes) -> None:
        if isinstance(content, bytes):
            self._raw[slot] = [content]
            self._new.append(content)
        else:
            self._raw[slot] = {key.decode(): cid for key, cid in content.items()}
            self._new += content.values()

    def encode(self, inline: Inline, level: int) -> bytes:
        if all_common(self._new):
            return encode_common(self._raw)
        buckets = {slot: self.bucket(slot) for slot, item in enumerate(self._raw) if item}
        return self._layout.encode({s: b for s, b in buckets.items() if b}, self.links, inline, level)
