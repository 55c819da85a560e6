"""The rules of the atproto data model that go beyond DAG-CBOR and JSON, each in one place.

Source: atproto specification "Data Model". No floats, integers of 64 bits, `$type` a non-empty string,
blobs of one shape, `$link` and `$bytes` reserved. Other fields that start with `$` are reserved too,
but a reader has to let them pass, and so do we.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from mstfs.codec import cid as cids
from mstfs.codec.cid import Link
from mstfs.tree.defect import Defect

INT_MIN = -(1 << 63)
INT_MAX = (1 << 63) - 1

_PATH_CHARACTERS = 120

_number = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)0*([0-9]*))?").fullmatch


class Flaw(NamedTuple):
    """What is wrong with one map. `field` names the field at fault, if it is there at all."""

    rule: str
    message: str
    field: str | None = None


def integer_from_text(text: str) -> int:
    """The integer that a JSON number stands for. ValueError, saying why, if it stands for none.

    The value counts, exactly as the digits spell it and never by way of a binary float: `123.0`, `1e3` and
    `12.5e1` are integers, `1.5` and `1e-1` are not. It must fit 64 bits, signed.
    """
    if len(text) < 19 and text.lstrip("-").isdigit():
        return int(text)
    match = _number(text)
    if match is None:
        raise ValueError(f"{_short(text)} is not a number")
    sign, whole, fraction, exponent_sign, exponent = match.groups(default="")
    digits = (whole + fraction).rstrip("0")
    # The value is `digits` times ten to the power of `shift`, without trailing zeros in `digits`.
    shift = len(whole) - len(digits)
    digits = digits.lstrip("0")
    if not digits:
        return 0
    if len(exponent) > 9:
        # No text is so long that its digits could make up for such a power.
        shift = -1 if exponent_sign == "-" else 99
    elif exponent:
        shift += int(exponent_sign + exponent)
    if shift < 0:
        raise ValueError(f"{_short(text)} is not a whole number, and records hold no others")
    if len(digits) + shift <= 19:
        value = int(sign + digits + "0" * shift)
        if INT_MIN <= value <= INT_MAX:
            return value
    raise ValueError(f"{_short(text)} does not fit an integer of 64 bits")


def map_flaw(fields: Mapping[str, Any]) -> Flaw | None:
    """What is wrong with the `$type` of a map, or with a map of `$type` blob, if anything."""
    if "$type" not in fields:
        return None
    kind = fields["$type"]
    if not isinstance(kind, str) or not kind:
        return Flaw("record-type", "$type is not a non-empty string", "$type")
    return _blob_flaw(fields) if kind == "blob" else None


def _blob_flaw(fields: Mapping[str, Any]) -> Flaw | None:
    for name in ("ref", "mimeType", "size"):
        if name not in fields:
            return Flaw("record-blob", f"a blob has no field {name}")
    ref, mime_type, size = fields["ref"], fields["mimeType"], fields["size"]
    if not isinstance(ref, Link) or cids.codec_of(ref.cid) != cids.RAW:
        return Flaw("record-blob", "the ref of a blob is not a link to raw bytes", "ref")
    if not isinstance(mime_type, str) or not mime_type:
        return Flaw("record-blob", "the mimeType of a blob is not a non-empty string", "mimeType")
    if type(size) is not int or size <= 0:
        return Flaw("record-blob", "the size of a blob is not an integer above 0", "size")
    return None


_Path: TypeAlias = "tuple[_Path, str | int] | None"
"""Where an item is: what it is in, and its key or index there. Spelled out only for a defect: a hostile
record has a key of a megabyte, and a hundred thousand items below it."""


def value_flaws(value: object) -> Iterator[Defect]:
    """Every rule that a decoded value breaks, in the order of the value, each with the path to it.

    The value must come from `dag_cbor.decode`, so that its nesting is limited and nothing is cyclic.
    """
    yield from _own_flaws(value, None)
    stack: list[tuple[Iterator[tuple[str | int, Any]], _Path]] = [(_members(value), None)]
    while stack:
        members, path = stack[-1]
        for name, item in members:
            kind = type(item)
            if kind is list or kind is dict:
                place = (path, name)
                yield from _own_flaws(item, place)
                stack.append((_members(item), place))
                break
            if kind is float or (kind is int and not INT_MIN <= item <= INT_MAX):
                yield from _own_flaws(item, (path, name))
        else:
            stack.pop()


def _members(item: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(item, dict):
        return iter(item.items())
    return iter(enumerate(item if isinstance(item, list) else ()))


def _own_flaws(item: object, path: _Path) -> Iterator[Defect]:
    # What is wrong with an item itself.
    if isinstance(item, float):
        yield Defect("record-float", f"{_at(path)}: a float, and records hold none")
    elif type(item) is int and not INT_MIN <= item <= INT_MAX:
        yield Defect("record-int", f"{_at(path)}: an integer of more than 64 bits")
    elif isinstance(item, dict):
        flaw = map_flaw(item)
        if flaw is not None:
            yield Defect(flaw.rule, f"{_at(path)}: {flaw.message}")
        for name in ("$link", "$bytes"):
            if name in item:
                yield Defect("record-reserved", f"{_at(path)}: a map with the reserved field {name}")


def _at(path: _Path) -> str:
    if path is None:
        return "the record"
    shown = ""
    while path is not None and len(shown) <= _PATH_CHARACTERS:
        path, name = path
        # Of a long key the end will do, as of a long path.
        shown = (f"[{name}]" if isinstance(name, int) else "." + name[-_PATH_CHARACTERS - 1 :]) + shown
    shown = shown.removeprefix(".") if path is None else shown
    return ascii(shown if len(shown) <= _PATH_CHARACTERS else "..." + shown[3 - _PATH_CHARACTERS :])


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
