"""One node of an MST: its value, its block, and the depth of keys.

Source: https://atproto.com/specs/repository, section "MST Structure". A node is the DAG-CBOR map
{"e": entries, "l": link or null}; an entry is {"k": suffix, "p": shared, "t": link or null, "v": link}.
"""

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple, NoReturn, TypeAlias, cast

from mstfs.codec import cid as cids
from mstfs.codec.dag_cbor import decode_node
from mstfs.errors import CborError, CidError, LimitExceeded, NodeError
from mstfs.limits import KEY_BYTES, NODE_BYTES

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


_Parts: TypeAlias = tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes | None, ...]]

Load: TypeAlias = Callable[[bytes], MstNode]
"""From the CID of a node to the node; raises BlockError, NodeError or LimitExceeded."""

# The same as `MstNode(*parts)`, without a Python frame for each node that is read.
_new_node = cast(Callable[[_Parts], MstNode], partial(tuple.__new__, MstNode))

EMPTY = MstNode((), (), (None,))
"""The node of the tree without entries."""


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


def _suffix_head(count: int) -> bytes:
    return b"\xa4ak" + _head(0x40, count)


def _link_head(cid_bytes: int) -> bytes:
    return b"\xd8\x2a" + _head(0x40, cid_bytes + 1) + b"\0"


_LINK = _link_head(LINK_BYTES)
_VALUE = b"av" + _LINK

# Nearly every node is made of these pieces and what stands between them.
_START = tuple(b"\xa2ae" + _head(0x80, count) for count in range(256))
_SUFFIX = tuple(_suffix_head(count) for count in range(256))
_SHARED_LINK = tuple(b"ap" + _head(0, count) + b"at" + _LINK for count in range(256))
_SHARED_NULL = tuple(b"ap" + _head(0, count) + b"at\xf6" + _VALUE for count in range(256))
_END_LINK = b"al" + _LINK
_END_NULL = b"al\xf6"


def _entry(suffix: bytes, shared: int, link: bytes | None, value: bytes) -> bytes:
    # Any entry, also with the sizes that the tables do not hold.
    parts = [_suffix_head(len(suffix)), suffix, b"ap", _head(0, shared), b"at"]
    parts += [b"\xf6"] if link is None else [_link_head(len(link)), link]
    parts += [b"av", _link_head(len(value)), value]
    return b"".join(parts)


def encode(node: MstNode) -> bytes:
    """The canonical block of a node. The node must keep the rules of `MstNode`."""
    keys, values, links = node
    count = len(keys)
    parts = [_START[count] if count < 256 else b"\xa2ae" + _head(0x80, count)]
    previous = b""
    following = iter(links)
    left = next(following)
    for key, value, link in zip(keys, values, following, strict=True):
        shared = shared_prefix(previous, key) if previous else 0
        suffix = key[shared:]
        if shared > 255 or len(suffix) > 255 or len(value) != LINK_BYTES:
            parts.append(_entry(suffix, shared, link, value))
        elif link is None:
            parts += (_SUFFIX[len(suffix)], suffix, _SHARED_NULL[shared], value)
        else:
            parts += (_SUFFIX[len(suffix)], suffix, _SHARED_LINK[shared], link, _VALUE, value)
        previous = key
    parts += (_END_NULL,) if left is None else (_END_LINK, left)
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
    try:
        raw = decode_node(data)
    except CborError as error:
        raise NodeError(cid, "cbor", str(error)) from None
    # A block this small cannot spell keys over the limits; the others take the careful way.
    if len(data) <= KEY_BYTES:
        try:
            node = _decode_common(data, raw)
        except (AttributeError, IndexError, TypeError, ValueError):
            node = None
        if node is not None:
            return node
    return _decode_careful(cid, data, raw, strict)


def _decode_common(data: bytes, raw: Any) -> MstNode | None:
    """The node, if the block is a strict one of the common shape; else None or any of four errors.

    The block is emitted again while it is read. As the fields are taken in block order, whatever
    their names and types may be, comparing the bytes is what proves that they were the right ones.
    """
    items, left = raw.values()
    parts = [_START[len(items)]]
    keys: list[bytes] = []
    values: list[bytes] = []
    links: list[bytes | None] = [left]
    key = b""
    for item in items:
        suffix, shared, link, value = item.values()
        # One comparison says that the prefix is maximal and that the keys ascend.
        if shared > len(key) or key[shared : shared + 1] >= suffix[:1] or value[:4] != LINK_PREFIX:
            return None
        key = key[:shared] + suffix
        keys.append(key)
        values.append(value)
        links.append(link)
        if link is None:
            parts += (_SUFFIX[len(suffix)], suffix, _SHARED_NULL[shared], value)
        elif link[:4] == LINK_PREFIX:
            parts += (_SUFFIX[len(suffix)], suffix, _SHARED_LINK[shared], link, _VALUE, value)
        else:
            return None
    if left is None:
        parts.append(_END_NULL)
    elif left[:4] == LINK_PREFIX:
        parts += (_END_LINK, left)
    else:
        return None
    if b"".join(parts) != data:
        return None
    return _new_node((tuple(keys), tuple(values), tuple(links)))


def _decode_careful(cid: bytes, data: bytes, raw: Any, strict: bool) -> MstNode:
    """Any node, rule by rule: for the uncommon shapes, and to say what is wrong with the others."""

    def refuse(rule: str, message: str) -> NoReturn:
        raise NodeError(cid, rule, message)

    if type(raw) is not dict or raw.keys() != {"e", "l"}:
        refuse("node-fields", "is no map of exactly the fields e and l")
    if type(raw["e"]) is not list:
        refuse("node-types", "the field e is no list")
    keys: list[bytes] = []
    values: list[bytes] = []
    links: list[bytes | None] = [_node_link(cid, raw["l"])]
    parts = [b"\xa2ae" + _head(0x80, len(raw["e"]))]
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
        parts.append(_entry(suffix, shared, link, value))
    parts.append(_END_NULL if links[0] is None else _END_LINK + links[0])
    if strict and b"".join(parts) != data:
        refuse("canonical", "is not encoded in the canonical form")
    return MstNode(tuple(keys), tuple(values), tuple(links))


def _node_link(cid: bytes, link: object) -> bytes | None:
    if link is None:
        return None
    if type(link) is not bytes or len(link) != LINK_BYTES or link[:4] != LINK_PREFIX:
        raise NodeError(cid, "node-link", "a link to a subtree is neither null nor a sha2-256 dag-cbor CID")
    return link
