"""One node of an MST: its value, its block, and the depth of keys.

Source: https://atproto.com/specs/repository, section "MST Structure". A node is the DAG-CBOR map
{"e": entries, "l": link or null}; an entry is {"k": suffix, "p": shared, "t": link or null, "v": link}.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple, NoReturn, TypeAlias

from mstfs.codec import cid as cids
from mstfs.codec.dag_cbor import decode_node
from mstfs.errors import CborError, CidError, LimitExceeded, NodeError
from mstfs.limits import KEY_BYTES, NODE_BYTES

try:
    from mstfs.tree.mst import fast_node
except ImportError:  # There was no compiler: everything is done here.
    fast_node = None  # type: ignore[assignment]

LINK_PREFIX = b"\x01\x71\x12\x20"
"""What the CID of every node starts with: CIDv1, dag-cbor, sha2-256, 32 bytes."""

LINK_BYTES = 36
"""Bytes in the CID of a node."""

SPELLED_BYTES = NODE_BYTES
"""Bytes that the keys of one node may have together, once they are spelled out."""


class MstNode(NamedTuple):
    """A decoded node.

    `keys` are whole keys in ascending order, `values` their CIDs. `links` has one item more: the
    subtree before the first key, then the one behind each key; None where there is none.
    """

    keys: tuple[bytes, ...]
    values: tuple[bytes, ...]
    links: tuple[bytes | None, ...]


Load: TypeAlias = Callable[[bytes], MstNode]
"""From the CID of a node to the node; raises BlockError, NodeError or LimitExceeded."""

EMPTY = MstNode((), (), (None,))
"""The node of the tree without entries."""


# What CPython takes for a node and for each entry and link in it, beyond the bytes of the keys:
# headers of tuples and bytes objects, slots, the digests, and the place in the cache.
_NODE_COST = 480
_ENTRY_COST = 140
_LINK_COST = 70
_BLOCK_COST = 200


def weigh_in_python(node: MstNode | bytes) -> int:
    """About the bytes that a node, or the block of one, takes in memory."""
    if isinstance(node, bytes):
        return _BLOCK_COST + len(node)
    keys, _, links = node
    linked = len(links) - links.count(None)
    return _NODE_COST + sum(map(len, keys)) + _ENTRY_COST * len(keys) + _LINK_COST * linked


weigh = fast_node.weigh if fast_node is not None else weigh_in_python


def depth_of(key: bytes) -> int:
    """The layer at which a key stands: half of the leading zero bits of its sha-256, 0 to 128."""
    digest = sha256(key).digest()
    first = digest[0]
    if first:
        return 0 if first > 63 else 1 if first > 15 else 2 if first > 3 else 3
    return (256 - int.from_bytes(digest, "big").bit_length()) >> 1


def cid_of(block: bytes) -> bytes:
    """The CID of a node's block."""
    return LINK_PREFIX + sha256(block).digest()


def shared_prefix(a: bytes, b: bytes) -> int:
    """How many bytes two keys have in common at their start."""
    size = min(len(a), len(b))
    difference = int.from_bytes(a[:size], "big") ^ int.from_bytes(b[:size], "big")
    return size - ((difference.bit_length() + 7) >> 3)


# --- encoding ---------------------------------------------------------------------------------


def _head(major: int, count: int) -> bytes:
    # The minimal CBOR head of a major type (already shifted) and its argument.
    if count < 24:
        return bytes((major | count,))
    if count < 0x100:
        return bytes((major | 24, count))
    if count < 0x10000:
        return bytes((major | 25,)) + count.to_bytes(2, "big")
    return bytes((major | 26,)) + count.to_bytes(4, "big")


def _link(cid: bytes | None) -> bytes:
    return b"\xf6" if cid is None else b"\xd8\x2a" + _head(0x40, len(cid) + 1) + b"\0" + cid


def encode(node: MstNode) -> bytes:
    """The canonical block of a node. The node must keep the rules of `MstNode`."""
    if fast_node is not None:
        block = fast_node.encode(*node)
        if block is not None:
            return block
    keys, values, links = node
    parts = [b"\xa2ae", _head(0x80, len(keys))]
    previous = b""
    for key, value, link in zip(keys, values, links[1:], strict=True):
        shared = shared_prefix(previous, key)
        suffix = key[shared:]
        parts += [b"\xa4ak", _head(0x40, len(suffix)), suffix, b"ap", _head(0, shared)]
        parts += [b"at", _link(link), b"av", _link(value)]
        previous = key
    parts += [b"al", _link(links[0])]
    return b"".join(parts)


EMPTY_BLOCK = encode(EMPTY)
"""The block of `EMPTY`."""

EMPTY_CID = cid_of(EMPTY_BLOCK)
"""The CID of `EMPTY`, which is the root of every tree without entries."""


# --- decoding ---------------------------------------------------------------------------------


def decode(cid: bytes, data: bytes, strict: bool = True) -> MstNode:
    """The node in a block.

    Strict: the block is exactly what `encode` makes of the node. Otherwise CBOR that is not minimal
    and shared prefixes that are not maximal are let through, so that a verifier can go on. Fields,
    types, key order and links are checked in both cases; the depth of keys is not.

    Raises NodeError with the rule that is broken, LimitExceeded for a node over the limits.
    """
    if len(data) > NODE_BYTES:
        raise LimitExceeded(
            f"node {cids.to_text(cid)}: {len(data)} bytes are over the limit of {NODE_BYTES} bytes"
        )
    if fast_node is not None:
        node = fast_node.decode(MstNode, data)
        if node is not None:
            return node
    return _decode_by_rules(cid, data, strict)


def _decode_by_rules(cid: bytes, data: bytes, strict: bool) -> MstNode:
    # For the uncommon shapes, and to say what is wrong with the others.
    try:
        raw = decode_node(data)
    except CborError as error:
        raise NodeError(cid, "cbor", str(error)) from None

    def refuse(rule: str, message: str) -> NoReturn:
        raise NodeError(cid, rule, message)

    if type(raw) is not dict or raw.keys() != {"e", "l"}:
        refuse("node-fields", "is no map of exactly the fields e and l")
    if type(raw["e"]) is not list:
        refuse("node-types", "the field e is no list")
    keys: list[bytes] = []
    values: list[bytes] = []
    links: list[bytes | None] = [_node_link(cid, raw["l"])]
    key = b""
    spelled = 0
    for item in raw["e"]:
        if type(item) is not dict or item.keys() != {"k", "p", "t", "v"}:
            refuse("entry-fields", "has an entry that is no map of exactly the fields k, p, t and v")
        suffix, shared, link, value = item["k"], item["p"], _node_link(cid, item["t"]), item["v"]
        if type(suffix) is not bytes or type(shared) is not int or type(value) is not bytes:
            refuse("entry-types", "has an entry with a field of a wrong type")
        if not 0 <= shared <= len(key):
            refuse("key-prefix", f"an entry shares {shared} bytes with a key of {len(key)} bytes")
        spelled += shared + len(suffix)
        if shared + len(suffix) > KEY_BYTES or spelled > SPELLED_BYTES:
            raise LimitExceeded(f"node {cids.to_text(cid)}: its keys are longer than the limits allow")
        following = key[:shared] + suffix
        if following <= key:
            refuse("key-order", "its keys do not ascend" if following else "has an empty key")
        if strict and key[shared : shared + 1] == suffix[:1]:
            refuse("key-prefix", "an entry shares more bytes with the key before it than it says")
        try:
            cids.check(value)
        except CidError as error:
            refuse("value-link", f"a value is no link: {error}")
        key = following
        keys.append(key)
        values.append(value)
        links.append(link)
    node = MstNode(tuple(keys), tuple(values), tuple(links))
    if strict and encode(node) != data:
        refuse("canonical", "is not encoded in the canonical form")
    return node


def _node_link(cid: bytes, link: object) -> bytes | None:
    if link is None:
        return None
    if type(link) is not bytes or len(link) != LINK_BYTES or link[:4] != LINK_PREFIX:
        raise NodeError(cid, "node-link", "a link to a subtree is neither null nor a sha2-256 dag-cbor CID")
    return link
