"""The oracle of the MST tests: a tree built from scratch, in the plainest way there is.

It shares no code with the package under test: recursion over layers, hashlib, the dag-cbor package.
"""

import hashlib
from collections.abc import Iterator, Mapping

import dag_cbor
from multiformats import CID

Items = list[tuple[bytes, bytes]]
Found = tuple[bytes, dict[bytes, bytes]]


def depth(key: bytes) -> int:
    """Leading zero bits of the sha-256, in pairs, counted in binary text."""
    bits = "".join(f"{byte:08b}" for byte in hashlib.sha256(key).digest())
    return (len(bits) - len(bits.lstrip("0"))) // 2


def cid_of(block: bytes) -> bytes:
    return b"\x01\x71\x12\x20" + hashlib.sha256(block).digest()


def value(number: int) -> bytes:
    """The CID of some record."""
    return cid_of(b"record %d" % number)


def build(entries: Mapping[bytes, bytes]) -> Found:
    """The root and all the nodes of the tree with these entries."""
    items = sorted(entries.items())
    nodes: dict[bytes, bytes] = {}
    top = max((depth(key) for key, _ in items), default=0)
    root = _node(items, top, nodes)
    if root is None:
        root = _keep([], None, nodes)
    return root, nodes


def _keep(entries: list[dict[str, object]], left: bytes | None, nodes: dict[bytes, bytes]) -> bytes:
    block = dag_cbor.encode({"e": entries, "l": _link(left)})  # type: ignore[dict-item]
    cid = cid_of(block)
    nodes[cid] = block
    return cid


def _link(cid: bytes | None) -> CID | None:
    return None if cid is None else CID.decode(cid)


def _node(items: Items, layer: int, nodes: dict[bytes, bytes]) -> bytes | None:
    if not items:
        return None
    gaps: list[Items] = [[]]
    own: Items = []
    for item in items:
        if depth(item[0]) == layer:
            own.append(item)
            gaps.append([])
        else:
            gaps[-1].append(item)
    links = [_node(gap, layer - 1, nodes) for gap in gaps]
    entries: list[dict[str, object]] = []
    previous = b""
    for (key, cid), link in zip(own, links[1:], strict=True):
        shared = 0
        while shared < min(len(previous), len(key)) and previous[shared] == key[shared]:
            shared += 1
        entries.append({"k": key[shared:], "p": shared, "t": _link(link), "v": CID.decode(cid)})
        previous = key
    return _keep(entries, links[0], nodes)


def mined(layer: int, count: int = 1, prefix: str = "k") -> list[bytes]:
    """The first `count` keys of a simple series that stand at exactly this layer, in order of the series."""
    return [key for key, _ in zip(_series(layer, prefix), range(count), strict=False)]


def _series(layer: int, prefix: str) -> Iterator[bytes]:
    number = 0
    while True:
        key = f"{prefix}/{number:06d}".encode()
        if depth(key) == layer:
            yield key
        number += 1


def read_car(data: bytes) -> tuple[list[bytes], dict[bytes, bytes]]:
    """Roots and blocks of a sound CARv1 whose CIDs all have 36 bytes."""
    size, at = _varint(data, 0)
    header = dag_cbor.decode(data[at : at + size])
    assert isinstance(header, dict)
    roots = header["roots"]
    assert isinstance(roots, list)
    blocks: dict[bytes, bytes] = {}
    at += size
    while at < len(data):
        size, at = _varint(data, at)
        blocks[data[at : at + 36]] = data[at + 36 : at + size]
        at += size
    return [bytes(root) for root in roots if isinstance(root, CID)], blocks


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        shift += 7
        at += 1
        if byte < 128:
            return value, at
