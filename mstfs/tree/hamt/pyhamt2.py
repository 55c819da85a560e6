"""The layout of py-hamt 2.x: a map of buckets and links by slot, written as decimal text.

Source: the py-hamt package, versions 2.0 to 2.4. A node is the DAG-CBOR map {"B": {slot: [{key: pointer},
...]}, "L": {slot: pointer}}. Entries of a bucket stand in the order in which they came. Versions 2.0.0 to
2.0.4 leave out the first byte of the hash.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NoReturn

from mstfs.codec import cid as cids
from mstfs.codec.dag_cbor import decode_node, encode
from mstfs.errors import CborError, NodeError
from mstfs.limits import NODE_BYTES
from mstfs.tree.hamt import hashes
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import (
    NO_INLINE,
    Bucket,
    Buckets,
    HamtNode,
    Inline,
    Links,
    all_common,
    decoded,
    encode_common,
    flat,
    key_bytes,
    keys_fit,
    pointer_cid,
    pointer_of,
    pointers_of,
)

_SLOTS = {str(slot): slot for slot in range(256)}


@dataclass(frozen=True)
class PyHamt2(Layout):
    """A HAMT of py-hamt 2.x. `bare` says that its pointers are multihashes and not links."""

    bare: bool = False

    name: ClassVar[str] = "py-hamt 2"
    canonical: ClassVar[bool] = False
    node_hash: ClassVar[int] = cids.BLAKE3

    def placements(self) -> Iterator["PyHamt2"]:
        yield self.placed(hashes.BLAKE3, 0)
        yield self.placed(hashes.BLAKE3, 1)

    @property
    def text_keys(self) -> bool:
        return True

    def spelled(self, cid: bytes) -> bytes:
        return bytes((1, cids.RAW)) + cids.multihash_of(cid) if self.bare else cid

    def decode(self, cid: bytes, data: bytes, level: int) -> HamtNode:
        if not self.bare and len(data) <= NODE_BYTES:
            try:
                raw = decode_node(data)
                node = _decode_common(raw)
                # Encoding makes links of exactly those byte strings that are CIDs. If the bytes are the
                # same, everything was canonical and links are links.
                if encode_common(raw) == data and keys_fit(node, len(data)):
                    return node
            except (CborError, AttributeError, KeyError, TypeError, ValueError):
                pass
        return self._decode_careful(cid, decoded(cid, data))

    def _decode_careful(self, cid: bytes, value: Any) -> HamtNode:
        def refuse(rule: str, message: str) -> NoReturn:
            raise NodeError(cid, rule, message)

        if type(value) is not dict or value.keys() != {"B", "L"}:
            refuse("node-fields", "is no map of exactly the fields B and L")
        if type(value["B"]) is not dict or type(value["L"]) is not dict:
            refuse("node-types", "the fields B and L are not both maps")
        entries: Bucket = {}
        sizes: dict[int, int] = {}
        links: Links = {}
        for text, items in value["B"].items():
            if text not in _SLOTS:
                refuse("slot", f"has a bucket in slot {text[:20]!a}")
            if type(items) is not list or any(type(item) is not dict or len(item) != 1 for item in items):
                refuse("bucket-type", "has a bucket that is no list of maps with one key each")
            if not items:
                refuse("bucket-empty", "has a bucket without entries")
            for item in items:
                for key, pointer in item.items():
                    entries[key_bytes(cid, key, True)] = pointer_cid(cid, pointer, self.bare, cids.RAW)
            sizes[_SLOTS[text]] = len(items)
        for text, pointer in value["L"].items():
            if text not in _SLOTS:
                refuse("slot", f"has a link in slot {text[:20]!a}")
            links[_SLOTS[text]] = pointer_cid(cid, pointer, self.bare, cids.DAG_CBOR)
        if len(entries) != sum(sizes.values()):
            refuse("key-duplicate", "has a key twice")
        if not links.keys().isdisjoint(sizes):
            refuse("slot-twice", "has a bucket and a link in the same slot")
        return HamtNode(entries, tuple(sizes), tuple(sizes.values()), links, NO_INLINE)

    def encode(self, buckets: Buckets, links: Links, inline: Inline, level: int) -> bytes:
        if not self.bare and all_common(pointers_of(buckets, links)):
            return encode_common(_value(buckets, links))
        return encode(_value(buckets, links, partial(pointer_of, bare=self.bare)))


def _value(buckets: Buckets, links: Links, point: Callable[[bytes], object] | None = None) -> object:
    return {
        "B": {
            str(slot): [{key.decode(): cid if point is None else point(cid)} for key, cid in bucket.items()]
            for slot, bucket in buckets.items()
        },
        "L": {str(slot): cid if point is None else point(cid) for slot, cid in links.items()},
    }


def _decode_common(raw: Any) -> HamtNode:
    """The node, if all of it is of the common shape; else one of the errors that `decode` expects."""
    buckets, linked = raw["B"], raw["L"]
    sizes = {_SLOTS[text]: len(items) for text, items in buckets.items()}
    links = {_SLOTS[text]: cid for text, cid in linked.items()}
    items = list(flat(buckets.values()))
    pointers = list(flat(map(dict.values, items)))
    entries = dict(zip(map(str.encode, flat(items)), pointers, strict=True))
    # Each item has one key, and each bucket an item; no key stands twice, and no slot.
    if len(raw) != 2 or not len(entries) == len(pointers) == len(items) or 0 in sizes.values():
        raise ValueError
    if {1} != set(map(len, items)) != set() or not links.keys().isdisjoint(sizes):
        raise ValueError
    pointers += links.values()
    if not all_common(pointers):
        raise ValueError
    return HamtNode(entries, tuple(sizes), tuple(sizes.values()), links, NO_INLINE)
