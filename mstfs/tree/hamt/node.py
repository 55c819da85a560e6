"""One node of a HAMT, whatever its layout, and the pointers that nodes hold."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import libipld

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, varint
from mstfs.codec.cid import Link
from mstfs.errors import CborError, CidError, LimitExceeded, NodeError, VarintError
from mstfs.limits import CID_BYTES, KEY_BYTES, NODE_BYTES

Bucket: TypeAlias = dict[bytes, bytes]
"""Keys and their CIDs, in the order of the block."""


Buckets: TypeAlias = dict[int, Bucket]
"""Buckets by slot, none of them empty."""

Links: TypeAlias = dict[int, bytes]
"""CIDs of child nodes by slot."""

Inline: TypeAlias = Mapping[bytes, bytes]
"""The DAG-CBOR form of each value that stands in the node itself, by key."""


class HamtNode(NamedTuple):
    """A decoded node. Nobody changes its maps.

    `entries` are those of all buckets, one bucket after the other; `slots` are the slots of the buckets, and
    `sizes` the numbers of their entries, none of them 0: a third of the memory that a map for each bucket
    would take. No slot has two buckets, or a bucket and a link.
    """

    entries: Bucket
    slots: tuple[int, ...]
    sizes: tuple[int, ...]
    links: Links
    inline: Inline

    def buckets(self) -> Buckets:
        """The entries by slot, as maps of their own."""
        entries = iter(self.entries.items())
        return {slot: dict(islice(entries, size)) for slot, size in zip(self.slots, self.sizes, strict=True)}


flat = chain.from_iterable

Load: TypeAlias = Callable[[bytes, int], HamtNode]
"""From the CID of a node and its level to the node; raises BlockError, NodeError or LimitExceeded."""

Fetch: TypeAlias = Callable[[bytes], bytes]
"""From the CID of a node to its block; raises BlockError or NodeError."""

NO_INLINE: Inline = MappingProxyType({})
"""What nodes of layouts that only know links have as `inline`."""

COMMON = frozenset(
    bytes((1, codec, code, 32))
    for codec in (cids.RAW, cids.DAG_CBOR, cids.DAG_PB)
    for code in (cids.BLAKE3, cids.SHA2_256)
)
"""How nearly every CID in a HAMT starts; 32 bytes of digest follow."""

COMMON_BYTES = 36

_COMMON_COLUMNS = tuple(bytes(set(column)) for column in zip(*COMMON, strict=True))
assert len(COMMON) == prod(map(len, _COMMON_COLUMNS)), "each byte can be looked at by itself"

IDENTITY_DATA_BYTES = CID_BYTES - 4
"""Bytes of content that fit into an identity CID."""


def decoded(cid: bytes, data: bytes) -> Any:
    """The value of a node's block, links as `Link`. NodeError if it is not canonical DAG-CBOR."""
    check_size(cid, data)
    try:
        return dag_cbor.decode(data)
    except CborError as error:
        raise NodeError(cid, "cbor", str(error)) from None


def check_size(cid: bytes, data: bytes) -> None:
    """LimitExceeded for a block that is too big for a node."""
    if len(data) > NODE_BYTES:
        raise LimitExceeded(
            f"node {cids.to_text(cid)}: {len(data)} bytes are over the limit of {NODE_BYTES} bytes"
        )


def check_key(cid: bytes, key: bytes) -> None:
    """LimitExceeded for a key that is too long."""
    if len(key) > KEY_BYTES:
        raise LimitExceeded(f"node {cids.to_text(cid)}: a key has {len(key)} bytes, {KEY_BYTES} are allowed")


def key_bytes(cid: bytes, key: object, text: bool) -> bytes:
    """A key as bytes: text or a byte string in the block, as `text` says. NodeError for anything else."""
    if text and isinstance(key, str):
        key = key.encode("utf-8")
    elif text or not isinstance(key, bytes):
        raise NodeError(
            cid, "key-type", "has a key that is no text" if text else "has a key that is no bytes"
        )
    check_key(cid, key)
    return key


def keys_fit(node: HamtNode, size: int) -> bool:
    """Whether all keys of a node whose block has `size` bytes are within the limit."""
    return size <= KEY_BYTES or len(max(node.entries, key=len, default=b"")) <= KEY_BYTES


def encode_common(value: object) -> bytes:
    """The DAG-CBOR block of a value in which every byte string that is a CID means a link."""
    block: bytes = libipld.encode_dag_cbor(value)
    return block


def all_common(pointers: Sequence[bytes]) -> bool:
    """Whether every CID is of the `COMMON` kind: an encoder makes a link of its plain bytes.

    TypeError for what is no byte string.
    """
    if set(map(len, pointers)) != {COMMON_BYTES}:
        return not pointers
    if len(pointers) < 16:
        return {cid[:4] for cid in pointers} <= COMMON
    # One look at the first bytes of all of them together, and so on: much faster than at each CID.
    joined = b"".join(pointers)
    return not any(
        joined[at::COMMON_BYTES].translate(None, allowed) for at, allowed in enumerate(_COMMON_COLUMNS)
    )


def pointers_of(buckets: Buckets, links: Links) -> list[bytes]:
    """Every CID in the buckets and links of a node."""
    found = list(flat(map(dict.values, buckets.values())))
    found += links.values()
    return found


# --- pointers ---------------------------------------------------------------------------------


def pointer_cid(cid: bytes, pointer: object, bare: bool, codec: int) -> bytes:
    """The CID that a pointer in the node `cid` means; `codec` is the one that a bare pointer lacks."""
    if bare:
        if isinstance(pointer, bytes) and is_multihash(pointer):
            return bytes((1, codec)) + pointer
    elif isinstance(pointer, Link):
        return pointer.cid
    wanted = "a multihash" if bare else "a link"
    raise NodeError(cid, "pointer-type", f"has a pointer that is not {wanted}")


def pointer_of(cid: bytes, *, bare: bool) -> Link | bytes:
    """What stands in a node for a CID."""
    return cids.multihash_of(cid) if bare else Link(cid)


def is_multihash(data: bytes) -> bool:
    """Whether the bytes are exactly one multihash whose CID is within the limits."""
    try:
        _, at = varint.decode(data, 0)
        length, at = varint.decode(data, at)
    except VarintError:
        return False
    return at + length == len(data) <= CID_BYTES - 2


# --- inline values ----------------------------------------------------------------------------


def inline_cid(data: bytes) -> bytes:
    """The CID of a value that stands inside a node, given its DAG-CBOR form.

    It carries the value in itself where `limits.CID_BYTES` allows it, else it is the sha2-256 CID.
    """
    code = cids.IDENTITY if len(data) <= IDENTITY_DATA_BYTES else cids.SHA2_256
    return cids.for_block(data, cids.DAG_CBOR, code)


def inline_data(cid: bytes) -> bytes | None:
    """The DAG-CBOR form that an identity CID with the codec dag-cbor carries, or None."""
    if len(cid) == COMMON_BYTES and cid[:4] in COMMON:
        return None
    try:
        return cids.identity_data(cid) if cids.codec_of(cid) == cids.DAG_CBOR else None
    except CidError:
        return None
