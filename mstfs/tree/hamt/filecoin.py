"""The layout of Filecoin's HAMTs, which can be read.

Source: go-hamt-ipld, and the Filecoin specification, "HAMT". Every node, the root too, is [bit field,
pointers]. The bit field is a big-endian number without leading zeros, whose lowest bit stands for slot 0. In
version 3 a pointer is a link or a bucket [[key, value], ...], in versions 0.9 to 2 a map {"0": link} or {"1":
bucket}. Nothing in a file tells the width, the bucket size and the hash.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from mstfs.codec import dag_cbor
from mstfs.codec.cid import Link
from mstfs.errors import NodeError, Refused
from mstfs.tree.hamt import hashes
from mstfs.tree.hamt.hashmap import BucketReader, set_bits
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import Buckets, HamtNode, Inline, Links, decoded


@dataclass(frozen=True)
class Filecoin(Layout):
    """A HAMT of Filecoin. `old` says that its pointers are of versions 0.9 to 2."""

    width: int = 5
    bucket_size: int = 3
    key_hash: int = hashes.SHA2_256
    old: bool = False

    name: ClassVar[str] = "Filecoin HAMT"
    writable: ClassVar[bool] = False
    holds_values: ClassVar[bool] = True

    def placements(self) -> Iterator["Filecoin"]:
        yield self
        for code in hashes.FUNCTIONS:
            if code != self.key_hash:
                yield self.placed(code)

    def decode(self, cid: bytes, data: bytes, level: int) -> HamtNode:
        return self._decode_node(cid, decoded(cid, data))

    def _decode_node(self, cid: bytes, value: Any) -> HamtNode:
        def refuse(rule: str, message: str) -> NoReturn:
            raise NodeError(cid, rule, message)

        if type(value) is not list or [type(part) for part in value] != [bytes, list]:
            refuse("node-type", "is no list of a byte string and a list")
        bits, pointers = value
        if bits[:1] == b"\0":
            refuse("map-size", "has a bit field with leading zeros")
        if 8 * len(bits) > max(8, 1 << self.width):
            refuse("map-size", f"has a bit field of {len(bits)} bytes where the bit width is {self.width}")
        slots = set_bits(int.from_bytes(bits, "big"))
        if slots and slots[-1] >= 1 << self.width:
            refuse("map-size", f"has an element in slot {slots[-1]} where the bit width is {self.width}")
        if len(slots) != len(pointers):
            refuse("map-count", f"has {len(pointers)} elements where its bit field has {len(slots)} bits set")
        reader = BucketReader(cid, None)
        links: Links = {}
        for slot, pointer in zip(slots, pointers, strict=True):
            kind = ""
            if self.old:
                if type(pointer) is not dict or pointer.keys() not in ({"0"}, {"1"}):
                    refuse("element-type", f'has no map with "0" or "1" in slot {slot}')
                ((kind, pointer),) = pointer.items()
            if type(pointer) is Link and kind != "1":
                links[slot] = pointer.cid
            elif kind == "0":
                refuse("element-type", f'has something else than a link under "0" in slot {slot}')
            else:
                reader.read(slot, pointer)
        return reader.node(links)

    def encode(self, buckets: Buckets, links: Links, inline: Inline, level: int) -> bytes:
        if buckets or links:
            raise Refused("a HAMT of Filecoin can be read, but not edited")
        return dag_cbor.encode([b"", []])
