"""What is wrong with a block that a repository's tree says is a record.

Source: atproto specification "Data Model". To the rules of `record.check_value` come those of canonical
CBOR, one identifier each (`mstfs.codec.lenient`), and `record-link-kind`: links in records are version 1,
raw or dag-cbor, sha2-256.
"""

from collections.abc import Iterator
from itertools import islice

from mstfs.codec import lenient
from mstfs.codec.cid import DAG_CBOR, RAW, Link
from mstfs.codec.lenient import JUNK
from mstfs.limits import RECORD_BYTES
from mstfs.repo import record, record_rules
from mstfs.tree.defect import Defect

DEFECTS_MAX = 20
"""A record made of nothing but mistakes is told about this often."""

_TAG = b"\xd8\x2a"
_HEADS = tuple(b"\xd8\x2a\x58\x25\x00" + bytes((1, codec, 0x12, 0x20)) for codec in (DAG_CBOR, RAW))
_KINDS = tuple(bytes((1, codec, 0x12, 0x20)) for codec in (DAG_CBOR, RAW))


def is_plain(data: bytes) -> bool:
    """Whether the block is a record without any defect. Decides by one decoding; never raises."""
    if data.count(_TAG) != data.count(_HEADS[0]) + data.count(_HEADS[1]):
        return False
    return next(record.check_value(data), None) is None


def defects(data: bytes) -> Iterator[Defect]:
    """The defects of a record's block, without CID and key; at most `DEFECTS_MAX`."""
    return islice(_defects(data), DEFECTS_MAX)


def _defects(data: bytes) -> Iterator[Defect]:
    if len(data) > RECORD_BYTES:
        yield Defect("record-size", f"the record has {len(data)} bytes, {RECORD_BYTES} are allowed")
        return
    value, departures = lenient.read(data)
    for departure in departures:
        yield Defect(departure.rule, f"the record is not canonical: {departure.message}")
    # The strict codec has the last word: what it refuses is a defect even if the lenient reader shrugs.
    for defect in record.check_value(data):
        if defect.rule != "record-cbor":
            yield defect
        elif not departures:
            yield defect
        elif isinstance(value, dict):
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
