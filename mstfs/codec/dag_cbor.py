"""DAG-CBOR (IPLD, codec 0x71): four decoders with different duties, one encoder.

`decode` is for what a person will see: links and byte strings stay apart. `decode_node` is the
fastest, for tree nodes whose reader emits them again and compares the bytes. `decode_json_form`
gives what atproto's JSON shows. `strict_check` asks the slow reference implementation.

The C decoders reserve memory for a list before they have read it, one of them follows nesting
without end, and a list of nothing takes a hundred times the byte that spells it. So a block that could
abuse this is skimmed first, in linear time and without recursion. The tests for "could" are cheap, and
nearly every real block passes them.
"""

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import cbrrr
import libipld

from mstfs.codec.cid import Link
from mstfs.errors import CborError, CidError
from mstfs.limits import CONTAINERS, NESTING

Value: TypeAlias = "bool | int | float | str | bytes | Link | list[Value] | dict[str, Value] | None"
"""What `decode` gives: plain Python, with `Link` for links."""

# Every list and map starts with one of these bytes, so a block has no more levels and no more of them.
_CONTAINER_HEADS = bytes(range(0x80, 0xC0))
# What becomes a list or a map in JSON: these, and byte strings, one of which stands in each link.
_JSON_HEADS = bytes(range(0x40, 0x60)) + _CONTAINER_HEADS
# Only these announce a list of more than 255 items, for which the decoders reserve the slots at once.
_LONG_LIST_HEADS = b"\x99\x9a\x9b"
_RESERVED_MAX = 1 << 25
"""Slots (8 bytes each) that the lists of one block may make a decoder reserve."""
_PLAIN_BYTES = 1 << 16  # in a smaller block, `limits.NESTING` lists cannot reserve too much
_PLAIN_NODE_BYTES = 1 << 14  # the same for the thousand levels at which the node decoder gives up

_ONE_BYTE_ITEMS = re.compile(rb"[\x00-\x17\x20-\x37\x40\x60\xf4-\xf6]+")
_ONE_BYTE_LEAVES = re.compile(rb"[\x00-\x17\x20-\x37\x60\xf4-\xf6]+")  # in JSON
_TAG = b"\xd8\x2a"
_COMMON_TAGS = (b"\xd8\x2a\x58\x25\x00\x01\x71\x12\x20", b"\xd8\x2a\x58\x25\x00\x01\x55\x12\x20")

_CONTAINERS = frozenset((list, dict))

# The package types these with its own link class; any class with `__bytes__` does.
_decode: Callable[..., Any] = cbrrr.decode_dag_cbor
_encode: Callable[..., bytes] = cbrrr.encode_dag_cbor

_FAILURES = (ValueError, TypeError, RecursionError, MemoryError, SystemError, CidError)


def decode(data: bytes) -> Value:
    """The value of one canonical DAG-CBOR block. CborError for anything else."""
    deep = _may_nest(data)
    try:
        value: Value = _decode(data, False, Link)
    except _FAILURES as error:
        raise CborError(f"not DAG-CBOR: {_reason(error)}") from None
    if deep:
        _check_depth(value)
    return value


def encode(value: object) -> bytes:
    """The canonical block of a value made of what `decode` gives (exact types, no subclasses).

    CborError if it has no such form: NaN, integers beyond 64 bits, keys that are no strings, lone
    surrogates, nesting beyond `limits.NESTING`.
    """
    try:
        data: bytes = _encode(value, False, Link)
    except _FAILURES as error:
        # SystemError is what the encoder makes of a lone surrogate in a key that it has to sort.
        raise CborError(f"no DAG-CBOR form: {_reason(error)}") from None
    if _may_nest(data):
        _check_depth(value)
    return data


def encode_foreign(value: object) -> bytes:
    """Like `encode`, for a value from elsewhere: one that holds itself would keep the encoder for ever."""
    stack = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if depth > NESTING:
            raise CborError(f"lists and maps nest deeper than {NESTING} levels, or hold themselves")
        members = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        stack.extend([(child, depth + 1) for child in members if isinstance(child, dict | list)])
    return encode(value)


def decode_node(data: bytes) -> Any:
    """The value of a tree node, as fast as can be. CborError if it cannot be read.

    Links come as plain bytes, like byte strings, and numbers need not be minimal: the caller must
    encode the node again and compare. The float minus zero, which no tree node holds, is refused.
    """
    size = len(data)
    if size > CONTAINERS and size - len(data.translate(None, _CONTAINER_HEADS)) > CONTAINERS:
        _skim(data)
    elif size > _PLAIN_NODE_BYTES:
        _check_reservations(data)
    try:
        return libipld.decode_dag_cbor(data)
    except _FAILURES as error:
        raise CborError(f"not DAG-CBOR: {_reason(error)}") from None


def decode_json_form(data: bytes) -> Any:
    """The value in atproto's JSON form: links are {"$link": text}, byte strings {"$bytes": base64}.

    Base64 comes without padding. CborError if the block is not canonical, or holds a float.
    A map that spells "$link" or "$bytes" itself comes out as it is: the caller must tell them apart.
    """
    if _may_nest(data) or data.count(_TAG) != data.count(_COMMON_TAGS[0]) + data.count(_COMMON_TAGS[1]):
        decode(data)  # checks the depth and each link, which the next call does not
    try:
        return _decode(data, True)
    except _FAILURES as error:
        raise CborError(f"not DAG-CBOR: {_reason(error)}") from None


def check_for_json(data: bytes) -> None:
    """CborError for a block that JSON blows up: over `limits.CONTAINERS` lists, maps and byte strings."""
    size = len(data)
    if size > CONTAINERS and size - len(data.translate(None, _JSON_HEADS)) > CONTAINERS:
        _skim(data, byte_strings=True)


def strict_check(data: bytes) -> None:
    """CborError unless the reference implementation, the dag-cbor package, accepts the block.

    About a hundred times slower than `decode`; meant for single records that a person wrote.
    """
    import dag_cbor

    _skim(data)
    try:
        dag_cbor.decode(data)
    except Exception as error:
        # Besides its own classes the package lets those of its multiformats layer through.
        raise CborError(f"not DAG-CBOR: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def _may_nest(data: bytes) -> bool:
    # Whether the block could nest too deeply; CborError if it is an abuse. `translate` counts at C speed.
    size = len(data)
    if size <= NESTING:
        return False
    heads = size - len(data.translate(None, _CONTAINER_HEADS))
    deep = heads > NESTING
    if heads > CONTAINERS:
        _skim(data)
    elif deep or size > _PLAIN_BYTES:
        _check_reservations(data)
    return deep


def _check_reservations(data: bytes) -> None:
    size = len(data)
    if (size - len(data.translate(None, _LONG_LIST_HEADS))) * size > _RESERVED_MAX:
        _skim(data)


def _check_depth(value: object) -> None:
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(NESTING):
        if not level:
            return
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)  # type: ignore[attr-defined]
            if type(child) in _CONTAINERS
        ]
    if level:
        raise CborError(f"lists and maps nest deeper than {NESTING} levels")


def _skim(data: bytes, byte_strings: bool = False) -> None:
    """CborError if the items nest too deeply, are too many lists and maps, or claim to be more or longer than
    the block. With `byte_strings` these count like lists.

    This follows heads only; whether the contents are canonical is for the decoders to say.
    """
    size = len(data)
    position = 0
    room = size  # each item takes a byte at least, so all lists together cannot claim more
    left = 1  # items still to come in the innermost container
    held = 0
    plain = _ONE_BYTE_LEAVES if byte_strings else _ONE_BYTE_ITEMS
    outer: list[int] = []
    while True:
        while left == 0:
            if not outer:
                return  # the decoder finds what stands behind the item
            left = outer.pop()
        run = plain.match(data, position, min(size, position + left))
        if run:
            left -= run.end() - position
            position = run.end()
            continue
        major, length, position = _head(data, position)
        if major == 6:
            continue  # a tag is not an item: its content follows
        left -= 1
        if major in (4, 5) or (byte_strings and major == 2):
            held += 1
            if held > CONTAINERS:
                what = "lists, maps and byte strings" if byte_strings else "lists and maps"
                raise CborError(f"there are more than {CONTAINERS} {what} in the block")
        if major in (2, 3):
            position += length
            if position > size:
                raise CborError("not DAG-CBOR: a string goes on behind the end of the block")
        elif major in (4, 5):
            items = length if major == 4 else 2 * length
            room -= items
            if room < 0:
                raise CborError("not DAG-CBOR: lists and maps claim more items than the block has bytes")
            outer.append(left)
            if len(outer) > NESTING:
                raise CborError(f"lists and maps nest deeper than {NESTING} levels")
            left = items


def _head(data: bytes, position: int) -> tuple[int, int, int]:
    # Major type, argument, and where the content starts.
    if position >= len(data):
        raise CborError("not DAG-CBOR: the block is cut off")
    major, info = divmod(data[position], 32)
    position += 1
    if info < 24:
        return major, info, position
    if info > 27:
        raise CborError("not DAG-CBOR: indefinite lengths and reserved heads are not allowed")
    end = position + (1 << (info - 24))
    if end > len(data):
        raise CborError("not DAG-CBOR: the block is cut off")
    return major, int.from_bytes(data[position:end], "big"), end
