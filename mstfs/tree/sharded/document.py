"""What is needed of an array's metadata document: its geometry, and how it spells its chunk keys.

Source: Zarr specification, version 3, "Array metadata" and "Chunk key encoding"; version 2, "Metadata".
"""

from typing import Any, NamedTuple

import orjson

SUFFIXES = (b"zarr.json", b".zarray")
"""The last parts of the keys of such documents, the one that counts first."""


class Spelling(NamedTuple):
    """How chunk keys are spelled: with the word `c` in front or not, and what stands between the numbers."""

    word: bool
    separator: bytes


DEFAULT = Spelling(True, b"/")


class Document(NamedTuple):
    """The metadata of one array. `known` is False if the spelling is one that nobody knows (then DEFAULT)."""

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    spelling: Spelling
    known: bool = True


def decode(data: bytes) -> Document | None:
    """The metadata of an array; None for that of a group, and for what is no such document."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    shape = _numbers(value.get("shape"))
    configuration = _named(value.get("chunk_grid"))[1]
    chunk_shape = _numbers(configuration.get("chunk_shape"))
    if chunk_shape is None:
        chunk_shape = _numbers(value.get("chunks"))
    if shape is None or chunk_shape is None:
        return None
    if "chunk_key_encoding" in value:
        name, configuration = _named(value["chunk_key_encoding"])
        separator = configuration.get("separator", {"default": "/", "v2": "."}.get(name))
    elif "zarr_format" in value and value["zarr_format"] == 2:
        name, separator = "v2", value.get("dimension_separator", ".")
    else:
        name, separator = "default", "/"
    if name not in ("default", "v2") or separator not in ("/", "."):
        return Document(shape, chunk_shape, DEFAULT, False)
    return Document(shape, chunk_shape, Spelling(name == "default", separator.encode()))


def _named(value: object) -> tuple[str, dict[str, Any]]:
    # A named configuration, which may be its name alone.
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, dict):
        return "", {}
    name, configuration = value.get("name"), value.get("configuration")
    return name if isinstance(name, str) else "", configuration if isinstance(configuration, dict) else {}


def _numbers(value: object) -> tuple[int, ...] | None:
    if isinstance(value, list) and all(type(number) is int for number in value):
        return tuple(value)
    return None
