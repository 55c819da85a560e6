"""Mutations of seeds, without a look at the parser; always the same for the same number."""

from collections.abc import Sequence
from random import Random

BYTES_MAX = 1 << 14
"""Bytes of a mutated input. Greater ones are for the tests of bombs."""

TOKENS = (
    b"\x00",
    b"\xff",
    b"\x80",
    b"\xa0",
    b"\x9f",
    b"\xbf\xff",
    b"\xf6",
    b"\xf5",
    b"\xf7",
    b"\xfb\x80\0\0\0\0\0\0\0",
    b"\xf9\x7e\0",
    b"\xd8\x2a",
    b"\xd8\x2a\x58\x25\x00\x01\x71\x12\x20",
    b"\x01\x55\x00\x00",
    b"\x12\x20",
    b"\x1b" + b"\xff" * 8,
    b"\x3b\x80" + bytes(7),
    b"\x5b\x7f" + b"\xff" * 7,
    b"\x9b\x00\x00\x00\x01\x00\x00\x00\x00",
    b"\xbb\x80" + bytes(7),
    b"\x9a\xff\xff\xff\xff",
    b"\x81" * 300,
    b"\xff" * 9 + b"\x01",
    b"\x80" * 8 + b"\x01",
    b"\xff" * 8 + b"\x7f",
    b"\xed\xa0\x80",
    b"\xc3\xa9",
    b"$type",
    b"e$link",
    b"f$bytes",
    b'{"/":',
    b"\\u002f",
    b"\\ud800",
    b"1e999",
    b"-0.0",
    b"123.0",
    b"NaN",
    b"[" * 300,
    b"%2F",
    b"/",
    b"..",
    b"\n",
)
"""What formats are made of, and what their readers stumble over."""


def mutated(name: str, number: int, seeds: Sequence[bytes]) -> bytes:
    """The mutation of this number for a target of this name."""
    chance = Random(f"{name} {number}")
    data = bytearray(chance.choice(seeds)[:BYTES_MAX])
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        _mutate(chance, data, seeds)
    return bytes(data[:BYTES_MAX])


def _mutate(chance: Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + chance.choice((1, 1, 2, 4, 8, 40, 300)))
    match chance.randrange(10):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(data):
            data[at] = chance.randrange(256)
        case 2 if at < len(data):
            data[at] = (data[at] + chance.choice((-1, 1))) % 256
        case 3:
            del data[at:end]
        case 4:
            data[at:at] = data[at:end]
        case 5:
            data[at:at] = chance.choice(TOKENS)
        case 6:
            token = chance.choice(TOKENS)
            data[at : at + len(token)] = token
        case 7:
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            data[at:end] = other[start : start + chance.choice((1, 4, 41, 300))]
        case 8:
            del data[at:]
        case _:
            to = chance.randrange(len(data) + 1)
            data[to:to] = data[at:end]
