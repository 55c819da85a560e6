"""What is wrong with a block that should be an MST node, and what can still be understood of it.

Only blocks that `node.decode` refused come here. The verifier goes on with what is left of such a node,
so that one wrong byte near the root does not hide every other defect behind it.
Source: https://atproto.com/specs/repository, section "MST Structure".
"""

from typing import NamedTuple

from mstfs.codec import lenient
from mstfs.codec.cid import Link
from mstfs.codec.lenient import JUNK
from mstfs.limits import KEY_BYTES, NODE_BYTES
from mstfs.tree.defect import Defect
from mstfs.tree.mst.node import SPELLED_BYTES, shared_prefix


class Row(NamedTuple):
    """One entry; None where a part cannot be told (or, for `right`, where there is no subtree)."""

    key: bytes | None
    value: bytes | None
    right: bytes | None


class Remains(NamedTuple):
    """What could be understood of a node. `ordered` says whether the known keys strictly ascend."""

    left: bytes | None
    rows: list[Row]
    ordered: bool


def examine(cid: bytes, data: bytes) -> tuple[Remains | None, list[Defect]]:
    """What is left of the node, None if nothing, and its defects in the order of the block."""
    if len(data) > NODE_BYTES:
        return None, [Defect("node-size", f"the node has {len(data)} bytes, {NODE_BYTES} are allowed", cid)]
    reading = lenient.read(data)
    examination = _Examination(cid)
    for departure in reading.departures:
        examination.note(departure.rule, f"the node is not canonical: {departure.message}")
    if reading.value is JUNK:
        return None, examination.defects
    if not isinstance(reading.value, dict):
        examination.note("node-type", "the node is not a map")
        return None, examination.defects
    return examination.node(reading.value), examination.defects


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


class _Examination:
    """Collects the defects of one node while it takes the node apart."""

    def __init__(self, cid: bytes) -> None:
        self.cid = cid
        self.defects: list[Defect] = []
        self.previous: bytes | None = b""
        self.ordered = True
        self.spelled = 0

    def note(self, rule: str, message: str, key: bytes | None = None) -> None:
        self.defects.append(Defect(rule, message, self.cid, key))

    def fields(self, rule: str, what: str, fields: dict[str, object], wanted: str) -> None:
        missing = [name for name in wanted if name not in fields]
        extra = [name for name in fields if name not in set(wanted)]
        if missing:
            self.note(rule, f"{what} has no field {', '.join(missing)}")
        if extra:
            self.note(rule, f"{what} has the unknown field {extra[0][:80]!a}")

    def node(self, fields: dict[str, object]) -> Remains:
        self.fields("node-fields", "the node", fields, "el")
        left = self.link("node-field-type", "the field l", fields.get("l"), None)
        entries = fields.get("e", [])
        if not isinstance(entries, list):
            if entries is not JUNK:
                self.note("node-field-type", f"the field e is not a list but {_kind(entries)}")
            entries = [JUNK]
        rows = []
        for index, entry in enumerate(entries):
            if self.spelled > SPELLED_BYTES:
                self.note("node-size", f"the keys of the node have more than {SPELLED_BYTES} bytes")
                break
            rows.append(self.row(index, entry))
        return Remains(left, rows, self.ordered)

    def row(self, index: int, entry: object) -> Row:
        if not isinstance(entry, dict):
            if entry is not JUNK:
                self.note("entry-type", f"entry {index} is not a map but {_kind(entry)}")
            self.previous = None
            return Row(None, None, None)
        what = f"entry {index}"
        self.fields("entry-fields", what, entry, "kptv")
        key = self.key(index, entry)
        value = self.link("entry-field-type", f"the field v of {what}", entry.get("v", JUNK), key)
        if entry.get("v", JUNK) is None:
            self.note("entry-field-type", f"the field v of {what} is null", key)
        right = self.link("entry-field-type", f"the field t of {what}", entry.get("t"), key)
        return Row(key, value, right)

    def link(self, rule: str, what: str, value: object, key: bytes | None) -> bytes | None:
        if isinstance(value, Link):
            return value.cid
        if value is not None and value is not JUNK:
            self.note(rule, f"{what} is not a link but {_kind(value)}", key)
        return None

    def key(self, index: int, entry: dict[str, object]) -> bytes | None:
        """The whole key of an entry, checked against the key before it; None if it cannot be spelled."""
        suffix = self.suffix(index, entry.get("k", JUNK))
        share = self.share(index, entry.get("p", JUNK))
        previous = self.previous
        self.previous = None
        if suffix is None or share is None:
            return None
        if share < 0:
            self.note("prefix-negative", f"entry {index} shares {share} bytes with the key before it")
            return None
        if index == 0 and share:
            self.note("prefix-first", f"the first entry shares {share} bytes, but there is no key before it")
            return None
        if share and previous is None:
            return None  # the key before it could not be spelled either
        previous = previous or b""
        if share > len(previous):
            message = f"entry {index} shares {share} bytes with a key of {len(previous)} bytes"
            self.note("prefix-too-long", message)
            return None
        key = previous[:share] + suffix
        self.spelled += len(key)
        if not key:
            self.note("key-length", "a key is empty", key)
        elif len(key) > KEY_BYTES:
            self.note("key-length", f"a key has {len(key)} bytes, {KEY_BYTES} are allowed", key[:KEY_BYTES])
        self.compare(index, share, previous, key)
        self.previous = key
        return key

    def compare(self, index: int, share: int, previous: bytes, key: bytes) -> None:
        if index == 0:
            return
        if key == previous:
            self.note("key-duplicate", "the key stands twice in the node", key)
            self.ordered = False
        elif key < previous:
            self.note("key-order", "the key is smaller than the key before it", key)
            self.ordered = False
        if share < (most := shared_prefix(previous, key)):
            self.note(
                "prefix-not-maximal", f"the entry shares {most} bytes with the key before, not {share}", key
            )

    def suffix(self, index: int, value: object) -> bytes | None:
        if isinstance(value, bytes):
            return value
        if value is not JUNK:
            self.note("entry-field-type", f"the field k of entry {index} is not bytes but {_kind(value)}")
        return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else None

    def share(self, index: int, value: object) -> int | None:
        if isinstance(value, bool):
            self.note("prefix-bool", f"the field p of entry {index} is a bool")
            return int(value) if index else 0
        if isinstance(value, int):
            return value
        if value is not JUNK:
            self.note(
                "entry-field-type", f"the field p of entry {index} is not an integer but {_kind(value)}"
            )
        return int(value) if isinstance(value, float) and value.is_integer() else None
