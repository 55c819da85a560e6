"""The oracles of the HAMT tests: trees built from scratch, in the plainest way there is.

They share no code with the package under test: recursion, hashes in binary text, the dag-cbor package.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import dag_cbor
from blake3 import blake3
from multiformats import CID

KeyHash = Callable[[bytes], bytes]
Nodes = dict[bytes, bytes]
Found = tuple[bytes, Nodes]
Plain = Mapping[bytes, Any]

BLAKE3_CBOR = b"\x01\x71\x1e\x20"
SHA256_CBOR = b"\x01\x71\x12\x20"


def blake3_of(data: bytes) -> bytes:
    digest: bytes = blake3(data).digest()
    return digest


def sha256_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def value(number: int) -> bytes:
    """The CID of some value, as py-hamt names it."""
    return b"\x01\x55\x1e\x20" + blake3_of(b"value %d" % number)


def link(cid: bytes) -> CID:
    return CID.decode(cid)


def slot_of(digest: bytes, level: int, width: int) -> int:
    bits = "".join(f"{byte:08b}" for byte in digest)
    piece = bits[level * width : (level + 1) * width]
    assert len(piece) == width
    return int(piece, 2)


def keep(value: Any, nodes: Nodes, prefix: bytes) -> bytes:
    block = dag_cbor.encode(value)
    digest = blake3_of(block) if prefix == BLAKE3_CBOR else sha256_of(block)
    nodes[prefix + digest] = block
    return prefix + digest


@cache
def mined(start: bytes, count: int, function: KeyHash = blake3_of) -> tuple[bytes, ...]:
    """The first keys of a simple series whose hash starts so."""
    return tuple(key for key, _ in zip(_series(start, function), range(count), strict=False))


def _series(start: bytes, function: KeyHash) -> Iterator[bytes]:
    number = 0
    while True:
        key = b"m/%d" % number
        if function(key).startswith(start):
            yield key
        number += 1


def grouped(entries: Plain, level: int, width: int, function: KeyHash) -> dict[int, dict[bytes, Any]]:
    slots: dict[int, dict[bytes, Any]] = {}
    for key in sorted(entries):
        slots.setdefault(slot_of(function(key), level, width), {})[key] = entries[key]
    return slots


# --- py-hamt 3 ----------------------------------------------------------------------------------------


def py_hamt_3(entries: Plain, prefix: bytes = BLAKE3_CBOR, function: KeyHash = blake3_of) -> Found:
    """The canonical tree of py-hamt 3.5 and later."""
    nodes: Nodes = {}

    def node(part: Plain, level: int) -> bytes:
        slots: list[Any] = [{} for _ in range(256)]
        for slot, bucket in grouped(part, level, 8, function).items():
            if len(bucket) > 4:
                slots[slot] = [link(node(bucket, level + 1))]
            else:
                slots[slot] = {key.decode(): link(cid) for key, cid in bucket.items()}
        return keep(slots, nodes, prefix)

    return node(entries, 0), nodes


# --- py-hamt 2 ----------------------------------------------------------------------------------------


class PyHamt2Model:
    """Does what py-hamt 2.4 does with one key after the other; `skip` is 1 for what 2.0.4 does.

    A node is a dict from slots to lists of pairs, which are buckets, or to dicts, which are children.
    """

    def __init__(self, skip: int = 0) -> None:
        self.skip = skip
        self.root: dict[int, Any] = {}

    def set(self, key: bytes, cid: bytes) -> None:
        self._set(self.root, 0, key, cid)

    def _set(self, node: dict[int, Any], level: int, key: bytes, cid: bytes) -> None:
        slot = blake3_of(key)[level + self.skip]
        held = node.setdefault(slot, [])
        if isinstance(held, dict):
            self._set(held, level + 1, key, cid)
            return
        for pair in held:
            if pair[0] == key:
                pair[1] = cid
                return
        if len(held) < 4:
            held.append([key, cid])
            return
        child: dict[int, Any] = {}
        node[slot] = child
        for name, other in [(key, cid), *held]:
            self._set(child, level + 1, name, other)

    def delete(self, key: bytes) -> None:
        self._delete(self.root, 0, key)

    def _delete(self, node: dict[int, Any], level: int, key: bytes) -> None:
        slot = blake3_of(key)[level + self.skip]
        held = node.get(slot)
        if isinstance(held, dict):
            self._delete(held, level + 1, key)
        elif held is not None:
            held[:] = [pair for pair in held if pair[0] != key]
        if not held:
            node.pop(slot, None)

    def store(self, bare: bool = False) -> Found:
        nodes: Nodes = {}

        def point(cid: bytes) -> Any:
            return cid[2:] if bare else link(cid)

        def walk(node: dict[int, Any]) -> bytes:
            buckets = {}
            links = {}
            for slot, held in node.items():
                if isinstance(held, dict):
                    links[str(slot)] = point(walk(held))
                else:
                    buckets[str(slot)] = [{key.decode(): point(cid)} for key, cid in held]
            return keep({"B": buckets, "L": links}, nodes, BLAKE3_CBOR)

        return walk(self.root), nodes


def py_hamt_2(entries: Plain, skip: int = 0, bare: bool = False) -> Found:
    """What comes of putting the entries in key order."""
    model = PyHamt2Model(skip)
    for key in sorted(entries):
        model.set(key, entries[key])
    return model.store(bare)


# --- IPLD HashMap and Filecoin --------------------------------------------------------------------------


def hash_map(
    entries: Plain,
    width: int = 5,
    bucket_size: int = 3,
    function: KeyHash = sha256_of,
    declared: int = 0x12,
    old: bool = False,
) -> Found:
    """A canonical HashMap; values are CID objects for links, and anything else inline."""
    nodes: Nodes = {}

    def node(part: Plain, level: int) -> list[Any]:
        bits = bytearray((1 << width) // 8)
        elements: list[Any] = []
        for slot, bucket in sorted(grouped(part, level, width, function).items()):
            bits[slot // 8] |= 1 << slot % 8
            if len(bucket) > bucket_size:
                elements.append(link(keep(node(bucket, level + 1), nodes, SHA256_CBOR)))
            else:
                elements.append([[key.decode() if old else key, item] for key, item in bucket.items()])
        return [bytes(bits), elements]

    names = ("hash_alg", "bucket_size") if old else ("hashAlg", "bucketSize")
    root = {names[0]: declared, names[1]: bucket_size, "hamt": node(entries, 0)}
    return keep(root, nodes, SHA256_CBOR), nodes


def filecoin(
    entries: Plain,
    width: int = 5,
    bucket_size: int = 3,
    function: KeyHash = sha256_of,
    old: bool = False,
) -> Found:
    """A canonical HAMT of Filecoin, version 3 or older."""
    nodes: Nodes = {}

    def node(part: Plain, level: int) -> bytes:
        number = 0
        pointers: list[Any] = []
        for slot, bucket in sorted(grouped(part, level, width, function).items()):
            number += 1 << slot
            if len(bucket) > bucket_size:
                child = link(node(bucket, level + 1))
                pointers.append({"0": child} if old else child)
            else:
                pairs = [[key, item] for key, item in bucket.items()]
                pointers.append({"1": pairs} if old else pairs)
        return keep([number.to_bytes((number.bit_length() + 7) // 8, "big"), pointers], nodes, SHA256_CBOR)

    return node(entries, 0), nodes
