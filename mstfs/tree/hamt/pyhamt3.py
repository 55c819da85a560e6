"""The layout of py-hamt 3.x: a list of 256 slots.

Source: the py-hamt package, versions 3.0 to 3.6. A node is a DAG-CBOR list of 256 items: {} for nothing,
{key: pointer, ...} for a bucket, [pointer] for a child.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NoReturn

from mstfs.codec import cid as cids
from mstfs.codec.dag_cbor import decode_node, encode
from mstfs.errors import CborError, NodeError
from mstfs.limits import NODE_BYTES
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import (
    COMMON,
    COMMON_BYTES,
    NO_INLINE,
    Bucket,
    Buckets,
    HamtNode,
    Inline,
    Links,
    all_common,
    decoded,
    encode_common,
    key_bytes,
    keys_fit,
    pointer_cid,
    pointer_of,
)

SLOTS = 256


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
        if not self.bare and len(data) <= NODE_BYTES:
            try:
                raw = decode_node(data)
                node = _decode_common(raw)
                # Encoding makes links of exactly those byte strings that are CIDs. If the bytes are the
                # same, everything was canonical and links are links.
                if encode_common(raw) == data and keys_fit(node, len(data)):
                    return node
            except (CborError, AttributeError, TypeError, ValueError):
                pass
        return self._decode_careful(cid, decoded(cid, data))

    def _decode_careful(self, cid: bytes, value: Any) -> HamtNode:
        def refuse(rule: str, message: str) -> NoReturn:
            raise NodeError(cid, rule, message)

        if type(value) is not list:
            refuse("node-type", "is no list")
        if len(value) != SLOTS:
            refuse("node-slots", f"is a list of {len(value)} items and not of {SLOTS}")
        entries: Bucket = {}
        slots: list[int] = []
        links: Links = {}
        for slot, item in enumerate(value):
            if type(item) is dict:
                for key, pointer in item.items():
                    entries[key_bytes(cid, key, True)] = pointer_cid(cid, pointer, self.bare, cids.RAW)
                    slots.append(slot)
            elif type(item) is list and len(item) == 1:
                links[slot] = pointer_cid(cid, item[0], self.bare, cids.DAG_CBOR)
            else:
                refuse("slot-type", f"has neither a map nor a list of one item in slot {slot}")
        if len(entries) != len(slots):
            refuse("key-duplicate", "has a key twice")
        return HamtNode(entries, tuple(slots), links, NO_INLINE)

    def encode(self, buckets: Buckets, links: Links, inline: Inline, level: int) -> bytes:
        if not self.bare and all_common(buckets, links):
            return encode_common(_value(buckets, links, bytes))
        return encode(_value(buckets, links, partial(pointer_of, bare=self.bare)))


def _value(buckets: Buckets, links: Links, point: Callable[[bytes], object]) -> object:
    slots: list[object] = [{}] * SLOTS
    for slot, bucket in buckets.items():
        slots[slot] = {key.decode("utf-8"): point(cid) for key, cid in bucket.items()}
    for slot, cid in links.items():
        slots[slot] = [point(cid)]
    return slots


def _decode_common(raw: Any) -> HamtNode:
    """The node, if all of it is of the common shape; else one of the errors that `decode` expects."""
    if type(raw) is not list or len(raw) != SLOTS:
        raise ValueError
    entries: Bucket = {}
    slots: list[int] = []
    links: Links = {}
    # Most slots of most nodes are empty: counting them is cheaper than looking at each.
    full = SLOTS - raw.count({})
    for slot, item in enumerate(raw):
        if not item:
            continue
        full -= 1
        if type(item) is dict:
            for key, cid in item.items():
                if cid[:4] not in COMMON or len(cid) != COMMON_BYTES:
                    raise ValueError
                entries[key.encode()] = cid
                slots.append(slot)
        else:
            (cid,) = item
            if cid[:4] not in COMMON or len(cid) != COMMON_BYTES:
                raise ValueError
            links[slot] = cid
    if full or len(entries) != len(slots):
        raise ValueError  # something else than a map is there, and empty; or a key stands twice
    return HamtNode(entries, tuple(slots), links, NO_INLINE)
