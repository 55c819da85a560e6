"""What is wrong with a block that a repository's tree says is a record.

Source: atproto specification "Data Model". To the rules of `record.check_value` come those of canonical
CBOR, one identifier each (`mstfs.codec.lenient`), and `record-link-kind`: links in records are version 1,
raw or dag-cbor, sha2-256.
"""

import re
from collections.abc import Iterator
from itertools import islice

from mstfs.codec import dag_cbor, lenient
from mstfs.codec.cid import DAG_CBOR, RAW, Link
from mstfs.codec.lenient import JUNK
from mstfs.errors import CborError, SyntaxRuleError
from mstfs.limits import RECORD_BYTES
from mstfs.repo import record, record_rules, syntax
from mstfs.tree.defect import Defect

DEFECTS_MAX = 20
"""A record made of nothing but mistakes is told about this often."""

_TAG = b"\xd8\x2a"
_HEADS = tuple(b"\xd8\x2a\x58\x25\x00" + bytes((1, codec, 0x12, 0x20)) for codec in (DAG_CBOR, RAW))
_NODE = b"\xa2\x61e"
# Heads of integers that do not fit 64 bits with sign; a field $type that is no text of 1 to 255 bytes.
_has_big_integer = re.compile(b"[\x1b\x3b][\x80-\xff]").search
_has_odd_type = re.compile(b"e\\$type[^\x61-\x78]").search
_KINDS = tuple(bytes((1, codec, 0x12, 0x20)) for codec in (DAG_CBOR, RAW))


def is_plain(data: bytes) -> bool:
    """Whether the block is a record without any defect, for nearly every such record. Never raises.

    Most records hold no byte that a float, a big integer, a blob or a reserved field would need, so one
    decoding and a few searches tell. (Texts of 59 bytes start with ";", and every record has such CIDs.)
    """
    if data[:3] == _NODE or data.count(_TAG) != data.count(_HEADS[0]) + data.count(_HEADS[1]):
        return False
    if (
        b"\xfb" in data
        or b"dblob" in data
        or b"e$link" in data
        or b"f$bytes" in data
        or _has_odd_type(data)
        or ((b"\x1b" in data or data.count(b";") != data.count(b";b")) and _has_big_integer(data))
        or len(data) > RECORD_BYTES
    ):
        return next(record.check_value(data), None) is None
    try:
        value = dag_cbor.decode(data)
    except CborError:
        return False
    return isinstance(value, dict) and "$type" in value


def defects(data: bytes) -> Iterator[Defect]:
    """The defects of a record's block, without CID and key; at most `DEFECTS_MAX`."""
    return islice(_defects(data), DEFECTS_MAX)


def _defects(data: bytes) -> Iterator[Defect]:
    flaws = list(islice(record.check_value(data), DEFECTS_MAX))
    if not flaws or flaws[0].rule not in ("record-cbor", "record-size"):
        yield from flaws
        value: object = dag_cbor.decode(data)
    elif flaws[0].rule == "record-size":
        yield flaws[0]
        return
    else:
        value, departures = lenient.read(data)
        for departure in departures:
            yield Defect(departure.rule, f"the record is not canonical: {departure.message}")
        # The strict codec has the last word: what it refuses is a defect even if the lenient reader shrugs.
        if not departures:
            yield flaws[0]
        if isinstance(value, dict):
            yield from record_rules.value_flaws(value)
        elif value is not JUNK:
            yield Defect("record-map", "the record is not a map")
    for link in _links(value):
        if link.cid[:4] not in _KINDS or len(link.cid) != 36:
            yield Defect("record-link-kind", f"{link!r} is not version 1, raw or dag-cbor, sha2-256")


def _links(value: object) -> Iterator[Link]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Link):
            yield item
        elif isinstance(item, dict):
            stack.extend(reversed(item.values()))
        elif isinstance(item, list):
            stack.extend(reversed(item))


def key_defects(node: bytes, key: bytes) -> Iterator[Defect]:
    """What is wrong with the syntax of a key that stands in a node."""
    try:
        syntax.check_key(key)
    except SyntaxRuleError as error:
        yield Defect("key-syntax", str(error), node, key)
