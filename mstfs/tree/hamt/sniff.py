"""What kind of HAMT a root is."""

from typing import Any

from mstfs.codec import dag_cbor
from mstfs.codec.cid import Link
from mstfs.errors import CborError
from mstfs.limits import NODE_BYTES
from mstfs.tree.hamt import hashes
from mstfs.tree.hamt.filecoin import Filecoin
from mstfs.tree.hamt.hashmap import BUCKET_SIZE_MAX, OLD_FIELDS, HashMap, fields_of, width_of
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import is_multihash
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import SLOTS, PyHamt3


def sniff(block: bytes) -> Layout | None:
    """The layout of the HAMT with this root block, or None if it is no HAMT that is known.

    Looks at the outermost form only: reading the node may still fail. The placement is the one that the
    block declares. A Filecoin HAMT does not tell its parameters: the answer holds a guess.
    """
    if len(block) > NODE_BYTES or block[:1] not in _HEADS:
        return None
    try:
        value = dag_cbor.decode(block)
    except CborError:
        return None
    if type(value) is list:
        return _sniff_list(value)
    if type(value) is not dict:
        return None
    if value.keys() == {"B", "L"}:
        return _sniff_py_hamt_2(value)
    fields = fields_of(value)
    if fields is None:
        return None
    code, bucket_size, node = (value[field] for field in fields)
    return _sniff_hash_map(code, bucket_size, node, fields == OLD_FIELDS)


# Maps of two and three fields, lists of two and of 256 items.
_HEADS = (b"\xa2", b"\xa3", b"\x82", b"\x99")


def _sniff_py_hamt_2(value: dict[str, Any]) -> PyHamt2 | None:
    buckets, links = value["B"], value["L"]
    if type(buckets) is not dict or type(links) is not dict:
        return None
    for pointer in links.values():
        return PyHamt2(bare=_is_bare(pointer))
    for bucket in buckets.values():
        for item in bucket if type(bucket) is list else ():
            for pointer in item.values() if type(item) is dict else ():
                return PyHamt2(bare=_is_bare(pointer))
        return None
    return PyHamt2()


def _sniff_list(value: list[Any]) -> Layout | None:
    if len(value) == SLOTS and all(
        type(item) is dict or (type(item) is list and len(item) == 1) for item in value
    ):
        for item in value:
            for pointer in item.values() if type(item) is dict else item:
                return PyHamt3(bare=_is_bare(pointer))
        return PyHamt3()
    if [type(part) for part in value] == [bytes, list]:
        bits, pointers = value
        if int.from_bytes(bits[:256], "big").bit_count() != len(pointers) or len(bits) > 32:
            return None
        old = bool(pointers) and all(type(pointer) is dict for pointer in pointers)
        if old or all(type(pointer) in (Link, list) for pointer in pointers):
            return Filecoin(width=5 if len(bits) <= 4 else 8, old=old)
    return None


def _sniff_hash_map(code: Any, bucket_size: Any, node: Any, old: bool) -> HashMap | None:
    if type(code) is not int or type(bucket_size) is not int or not 0 < bucket_size <= BUCKET_SIZE_MAX:
        return None
    if type(node) is not list or [type(part) for part in node] != [bytes, list]:
        return None
    width = width_of(len(node[0]))
    if width is None:
        return None
    known = code if code in hashes.FUNCTIONS else hashes.SHA2_256
    return HashMap(width=width, bucket_size=bucket_size, key_hash=known, declared=code, old=old)


def _is_bare(pointer: object) -> bool:
    return type(pointer) is bytes and is_multihash(pointer)
