"""DAG-JSON: what people see of structured values that have no JSON of their own (IPLD, codec 0x0129).

Source: IPLD specification "DAG-JSON". A link is {"/": CID}, a byte string {"/": {"bytes": base64}}, a number
with a point or an exponent is a float and any other an integer. The text is for people, so it is indented,
and maps have the order of the block. Which means that the same value always has the same text, but not the
one that DAG-JSON as a codec for blocks would write.

`parse(render(block)) == block` for every block that is not too large. DAG-JSON itself has no form for many
maps with the key "/", which it reserves. Such a key is written as the escape "\\u002f" here, which means the
same to every other reader of JSON, and to `parse` that it is a key like any other.
"""

import base64
import hashlib
import math
import re
from json import JSONDecoder
from typing import Any

import orjson

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, json_text
from mstfs.codec.cid import Link
from mstfs.codec.json_text import Frame
from mstfs.errors import CborError, CidError, LimitExceeded, RecordError
from mstfs.limits import RECORD_BYTES

INT_MIN = -(1 << 64)
INT_MAX = (1 << 64) - 1
"""The integers of DAG-CBOR."""

_INT_DIGITS = 20
_ORJSON_MIN = -(1 << 63)
_SLASH_KEY = b"\x61/"  # in canonical CBOR
_escaped_slash = re.compile(r"\\u002[fF]").search


# --- block to text ----------------------------------------------------------------------------


def render(block: bytes) -> bytes:
    """The DAG-JSON of a block: UTF-8, indented by two spaces, maps in block order, a newline at the end.

    Numbers are exact, and a float is told from an integer. CborError if the block is not canonical DAG-CBOR
    or made of too many parts, LimitExceeded if it is larger than `limits.RECORD_BYTES`.
    """
    if len(block) > RECORD_BYTES:
        raise LimitExceeded(f"a record of {len(block)} bytes is larger than {RECORD_BYTES}")
    dag_cbor.check_for_json(block)
    value = dag_cbor.decode(block)
    if _SLASH_KEY in block:
        # A name that the block cannot hold, as nobody knows its hash before it is there.
        name = hashlib.blake2b(block, digest_size=16).hexdigest()
        text = json_text.laid_out(_reworked(value, name), len(block), _spelled)
        return text.replace(f'"{name}"'.encode(), b'"\\u002f"')
    try:
        return json_text.laid_out(value, len(block), _spelled)
    except TypeError:
        return json_text.laid_out(_reworked(value, "/"), len(block), _spelled)


def _spelled(item: object) -> object:
    if type(item) is Link:
        return {"/": cids.to_text(item.cid)}
    if type(item) is bytes:
        return {"/": {"bytes": base64.b64encode(item).decode().rstrip("=")}}
    raise TypeError(f"no DAG-JSON form: {type(item).__name__}")


def _reworked(value: object, slash: str) -> Any:
    # The value with another name for the key "/", and with integers of its own where orjson knows none. The
    # stack holds containers whose members are still to be looked at.
    top: list[Any] = [value]
    stack: list[list[Any] | dict[str, Any]] = [top]
    while stack:
        container = stack.pop()
        if isinstance(container, dict) and "/" in container:
            fields = [(slash if name == "/" else name, item) for name, item in container.items()]
            container.clear()
            container.update(fields)
        for place, item in container.items() if isinstance(container, dict) else enumerate(container):
            if type(item) is int and item < _ORJSON_MIN:
                # Fields are replaced while they are looped over, which a map allows as long as none is new.
                container[place] = orjson.Fragment(str(item))  # type: ignore[index]
            elif isinstance(item, dict | list):
                stack.append(item)
    return top[0]


# --- text to block ----------------------------------------------------------------------------


def parse(text: bytes) -> bytes:
    """The canonical block of a DAG-JSON text. RecordError with line, column and reason otherwise.

    White space and the order of fields mean nothing. A CID may be in any base, base64 may have its padding.
    Refused are keys used twice, integers that DAG-CBOR does not have, floats that are infinite, and every
    map with the key "/" (spelled so) that is neither a link nor a byte string.
    """
    if len(text) > RECORD_BYTES:
        raise RecordError(f"the text has {len(text)} bytes, a record at most {RECORD_BYTES}")
    characters = json_text.characters(text)
    block = _scan(characters)
    if block is None:
        # The slow reader says what is wrong, and where; if nothing is, its answer counts.
        value, _ = _Reader(characters).document()
    try:
        if block is None:
            block = dag_cbor.encode(value)
        dag_cbor.check_for_json(block)
    except CborError as error:
        raise RecordError(f"the record cannot be written: {error}") from None
    return block


def _scan(text: str) -> bytes | None:
    # The block, or None if the C scanner does not understand the text, for whatever reason.
    if _escaped_slash(text):
        return None
    try:
        return dag_cbor.encode(_decode(text))
    except (ValueError, RecursionError, CborError, CidError):
        return None


def _number(word: str) -> int | float:
    if word.lstrip("-").isdigit():
        # A JSON number has no zeros in front.
        if len(word) <= _INT_DIGITS + 1 and INT_MIN <= (number := int(word)) <= INT_MAX:
            return number
        raise ValueError(f"{json_text.show(word)} does not fit an integer of DAG-CBOR")
    value = float(word)
    if math.isinf(value):
        raise ValueError(f"{json_text.show(word)} is too large for a float")
    return value


def _special(item: object) -> Link | bytes | None:
    # What {"/": item} stands for, if anything; CidError or ValueError if that is misspelled.
    if isinstance(item, str):
        return json_text.link_from_text(item)
    if isinstance(item, dict) and item.keys() == {"bytes"} and isinstance(item["bytes"], str):
        return json_text.bytes_from_text(item["bytes"], "bytes")
    return None


def _on_map(pairs: list[tuple[str, Any]]) -> object:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key is used twice")
    if "/" not in fields:
        return fields
    special = _special(fields["/"])
    if special is None or len(fields) > 1:
        raise ValueError("neither a link nor a byte string")
    return special


def _on_constant(name: str) -> object:
    raise ValueError(f"{name} is not a number")


_decode = JSONDecoder(
    object_pairs_hook=_on_map, parse_int=_number, parse_float=_number, parse_constant=_on_constant
).decode


class _Reader(json_text.Reader):
    spelling = 2

    def number(self, word: str) -> object:
        return _number(word)

    def map_value(self, frame: Frame, fields: dict[str, Any]) -> object:
        key_at, value_at = frame.places.get("/", (0, 0))
        if "/" not in fields or self.is_literal(key_at):
            return fields
        for other, (other_at, _) in frame.places.items():
            if other != "/":
                self.fail(other_at, f'a map with "/" has no other field, but here is {json_text.show(other)}')
        special = None
        try:
            special = _special(fields["/"])
        except CidError:
            self.fail(value_at, f'the value of "/" is not a CID: {json_text.show(fields["/"])}')
        except ValueError as error:
            self.fail(value_at, str(error))
        if special is None:
            reason = 'a map with "/" is a link, {"/": CID}, or a byte string, {"/": {"bytes": base64}}'
            self.fail(key_at, reason + '; any other key that is a slash is written "\\u002f"')
        return special

    def is_spelled(self) -> bool:
        around = self.stack[-1]
        return around.fields is not None and around.key == "/" and not self.is_literal(around.key_at)

    def is_literal(self, key_at: int) -> bool:
        """Whether the key "/" at this offset is spelled as one that means nothing."""
        return _escaped_slash(self.text, key_at, key_at + 8) is not None
