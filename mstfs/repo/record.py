"""Records: the block that counts and the JSON that people see.

Source: atproto specification "Data Model". `parse(render(block)) == block` for every block that
follows the data model; `is_faithful` says for which others it holds.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from json import JSONDecoder
from typing import Any

import orjson

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, json_text
from mstfs.codec.cid import Link
from mstfs.errors import CborError, CidError, LimitExceeded, RecordError
from mstfs.limits import RECORD_BYTES
from mstfs.repo import record_rules, record_text
from mstfs.repo.record_rules import INT_MIN
from mstfs.tree.defect import Defect

try:
    from mstfs.repo import fast_record
except ImportError:  # There was no compiler: everything is done here.
    fast_record = None  # type: ignore[assignment]

# How a link of version 0 begins: tag 42, 35 bytes, no multibase, sha2-256.
_LINK_V0 = b"\xd8\x2a\x58\x23\x00\x12\x20"
# Heads of an integer of nine bytes whose highest bit is set. In text these are rare before a non-ASCII
# character; as a length they stand before a text.
_has_big_integer = re.compile(b"[\x1b\x3b][\x80-\xff]").search
_UNFAITHFUL = frozenset(("record-reserved", "record-float", "record-int"))


# --- block to text ----------------------------------------------------------------------------


def render(block: bytes) -> bytes:
    """The JSON of a block: UTF-8, indented by two spaces, keys in block order, a newline at the end.

    Numbers are exact; floats get their shortest text. Where the indentation alone would take more than
    32 MiB (deep nesting made to hurt) the text has none. CborError if the block is not canonical
    DAG-CBOR or made of too many parts, LimitExceeded if it is larger than `limits.RECORD_BYTES`.
    """
    if fast_record is not None:
        text = fast_record.render(block)
        if text is not None:
            return text
    return render_in_python(block)


def render_in_python(block: bytes) -> bytes:
    """The same as `render`: for the uncommon shapes, and to say what is wrong with the others."""
    if len(block) > RECORD_BYTES:
        raise LimitExceeded(f"a record of {len(block)} bytes is larger than {RECORD_BYTES}")
    dag_cbor.check_for_json(block)
    try:
        # The fast decoder spells links of version 0 with a multibase prefix, which they must not have.
        fast = _LINK_V0 not in block
        value = dag_cbor.decode_json_form(block) if fast else _json_form(dag_cbor.decode(block))
        return json_text.laid_out(value, len(block))
    except (CborError, TypeError):
        # The fast decoder refuses floats and literal "$link" maps, orjson integers below 64 bits.
        return json_text.laid_out(_json_form(dag_cbor.decode(block)), len(block))


def _json_form(value: object) -> Any:
    # What `decode_json_form` gives, for every value; the stack holds containers still to be copied.
    top: list[Any] = [value]
    stack: list[Any] = [top]
    while stack:
        container = stack.pop()
        # Fields are replaced while they are looped over, which a dict allows as long as none is new.
        for place, item in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(item, Link):
                container[place] = {"$link": cids.to_text(item.cid)}
            elif isinstance(item, bytes):
                container[place] = {"$bytes": base64.b64encode(item).decode().rstrip("=")}
            elif type(item) is int and item < INT_MIN:
                container[place] = orjson.Fragment(str(item))
            elif isinstance(item, dict | list):
                stack.append(item)
    return top[0]


# --- text to block ----------------------------------------------------------------------------


def parse(text: bytes, strict: bool = False) -> bytes:
    """The canonical block of a record's JSON text. RecordError with line, column and reason otherwise.

    Numbers count as their decimal digits say: `123.0` is 123, `1.5` is refused, so is what does not fit
    64 bits. With `strict`, the block is checked by the reference implementation of DAG-CBOR as well.
    """
    if len(text) > RECORD_BYTES:
        raise RecordError(f"the text has {len(text)} bytes, a record at most {RECORD_BYTES}")
    characters = json_text.characters(text)
    block = _scan(characters)
    if block is None:
        # The slow reader says what is wrong, and where; if nothing is, its answer counts.
        block = _emit(record_text.read(characters))
    try:
        dag_cbor.check_for_json(block)
        if strict:
            dag_cbor.strict_check(block)
    except CborError as error:
        raise RecordError(f"the record cannot be written: {error}") from None
    return block


def _scan(text: str) -> bytes | None:
    # The block, or None if the C scanner does not understand the text, for whatever reason.
    try:
        value = _decode(text)
        return dag_cbor.encode(value) if type(value) is dict else None
    except (ValueError, RecursionError, CborError, CidError):
        return None


def _emit(value: dict[str, Any]) -> bytes:
    try:
        return dag_cbor.encode_foreign(value)
    except CborError as error:
        raise RecordError(f"the record cannot be written: {error}") from None


def _on_map(pairs: list[tuple[str, Any]]) -> object:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is used twice")
    if "$type" in fields and record_rules.map_flaw(fields) is not None:
        raise ValueError("bad $type or blob")
    if "$link" in fields or "$bytes" in fields:
        ((name, item),) = pairs  # ValueError if there are more
        if type(item) is not str:
            raise ValueError(f"{name} is not a string")
        return json_text.link_from_text(item) if name == "$link" else json_text.bytes_from_text(item, name)
    return fields


def _on_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number")


_decode = JSONDecoder(
    object_pairs_hook=_on_map,
    parse_int=record_rules.integer_from_text,
    parse_float=record_rules.integer_from_text,
    parse_constant=_on_constant,
).decode


# --- values -----------------------------------------------------------------------------------


def to_value(block: bytes) -> dict[str, Any]:
    """The record as Python data, with `bytes` and `Link`. CborError if it is not canonical or not a map."""
    value = dag_cbor.decode(block)
    if not isinstance(value, dict):
        raise CborError("the record is not a map")
    return value


def from_value(value: Mapping[str, Any]) -> bytes:
    """The block of a record given as Python data, with `bytes` and `Link`.

    RecordError (without line and column) if it breaks a rule of the data model. Floats are refused, whole
    ones too, and so are classes that `dag_cbor.decode` never gives, as tuples. A missing `$type` is allowed.
    """
    block = _emit(dict(value))
    for defect in check_value(block):
        if defect.rule != "record-type-missing":
            raise RecordError(defect.message)
    return block


def is_faithful(block: bytes) -> bool:
    """Whether the JSON of a canonical block reads back as the same values.

    It does not where a map spells `$link` or `$bytes` itself (it would become a link, or be refused),
    where there is a float, and where an integer does not fit 64 bits. CborError if the block cannot be read.
    """
    # In canonical CBOR the head of a key tells its length, so the first two find the literal fields; the
    # third is the head of a float. Each may stand in a text or a digest, too, which costs a second look.
    odd = b"e$link" in block or b"f$bytes" in block or b"\xfb" in block
    if not odd and ((b"\x1b" not in block and b"\x3b" not in block) or not _has_big_integer(block)):
        return True
    return not any(flaw.rule in _UNFAITHFUL for flaw in record_rules.value_flaws(dag_cbor.decode(block)))


def check_value(block: bytes) -> Iterator[Defect]:
    """Every rule of the data model that the block of a record breaks, with its place in the record.

    Rules: record-size, record-cbor (not canonical DAG-CBOR; nothing else is told then), record-map,
    record-type-missing (no `$type` at the top), record-type (a `$type` that is not a non-empty string),
    record-blob, record-float, record-int, record-reserved (a map with `$link` or `$bytes`).
    """
    if len(block) > RECORD_BYTES:
        yield Defect("record-size", f"the record has {len(block)} bytes, at most {RECORD_BYTES} are allowed")
        return
    try:
        value = dag_cbor.decode(block)
    except CborError as error:
        yield Defect("record-cbor", f"the record is {error}")
        return
    if not isinstance(value, dict):
        yield Defect("record-map", "the record is not a map")
    elif "$type" not in value:
        yield Defect("record-type-missing", "the record has no $type")
    yield from record_rules.value_flaws(value)
