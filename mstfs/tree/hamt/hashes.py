"""The functions that place keys, by their multicodec.

Source: multicodec table, tag "multihash" and "hash"; IPLD HashMap specification, "Hash algorithm"; for
murmur3 Austin Appleby's public description of MurmurHash3 (x64 128 and x86 32). Digests of murmur3 are big
endian.
"""

import hashlib
from collections.abc import Callable
from typing import TypeAlias

from blake3 import blake3

IDENTITY = 0x00
SHA2_256 = 0x12
SHA2_512 = 0x13
BLAKE3 = 0x1E
MURMUR3_X64_64 = 0x22
MURMUR3_32 = 0x23
MURMUR3_X64_128 = 0x1022

KeyHash: TypeAlias = Callable[[bytes], bytes]
"""From a key to the bytes whose bits, most significant first, are the way to the key."""

_MASK = (1 << 64) - 1
_MASK_32 = (1 << 32) - 1
_C1 = 0x87C37B91114253D5
_C2 = 0x4CF5AD432745937F


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK


def _finish(value: int) -> int:
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & _MASK
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ (value >> 33)


def murmur3_x64_128(data: bytes) -> bytes:
    """MurmurHash3 x64 128 with seed 0, its two halves as big-endian numbers: 16 bytes."""
    size = len(data)
    whole = size & ~15
    h1 = h2 = 0
    for at in range(0, whole, 16):
        k1 = int.from_bytes(data[at : at + 8], "little")
        k2 = int.from_bytes(data[at + 8 : at + 16], "little")
        h1 ^= _rotate(k1 * _C1 & _MASK, 31) * _C2 & _MASK
        h1 = ((_rotate(h1, 27) + h2) * 5 + 0x52DCE729) & _MASK
        h2 ^= _rotate(k2 * _C2 & _MASK, 33) * _C1 & _MASK
        h2 = ((_rotate(h2, 31) + h1) * 5 + 0x38495AB5) & _MASK
    # An absent tail is zero, and a zero changes neither half.
    k1 = int.from_bytes(data[whole : whole + 8], "little")
    k2 = int.from_bytes(data[whole + 8 :], "little")
    h1 ^= _rotate(k1 * _C1 & _MASK, 31) * _C2 & _MASK
    h2 ^= _rotate(k2 * _C2 & _MASK, 33) * _C1 & _MASK
    h1 ^= size
    h2 ^= size
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    h1, h2 = _finish(h1), _finish(h2)
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    return ((h1 << 64) | h2).to_bytes(16, "big")


def murmur3_x64_64(data: bytes) -> bytes:
    """The first half of `murmur3_x64_128`: 8 bytes."""
    return murmur3_x64_128(data)[:8]


def _mixed_32(value: int) -> int:
    value = value * 0xCC9E2D51 & _MASK_32
    return (((value << 15) | (value >> 17)) & _MASK_32) * 0x1B873593 & _MASK_32


def murmur3_32(data: bytes) -> bytes:
    """MurmurHash3 x86 32 with seed 0, as a big-endian number: 4 bytes."""
    size = len(data)
    whole = size & ~3
    value = 0
    for at in range(0, whole, 4):
        value ^= _mixed_32(int.from_bytes(data[at : at + 4], "little"))
        value = (((value << 13) | (value >> 19)) * 5 + 0xE6546B64) & _MASK_32
    value ^= _mixed_32(int.from_bytes(data[whole:], "little"))
    value ^= size
    value ^= value >> 16
    value = value * 0x85EBCA6B & _MASK_32
    value ^= value >> 13
    value = value * 0xC2B2AE35 & _MASK_32
    return (value ^ (value >> 16)).to_bytes(4, "big")


def _blake3(data: bytes) -> bytes:
    digest: bytes = blake3(data).digest()
    return digest


def _sha2_256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _sha2_512(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()


def _identity(data: bytes) -> bytes:
    return data


FUNCTIONS: dict[int, KeyHash] = {
    SHA2_256: _sha2_256,
    BLAKE3: _blake3,
    MURMUR3_X64_64: murmur3_x64_64,
    MURMUR3_32: murmur3_32,
    MURMUR3_X64_128: murmur3_x64_128,
    SHA2_512: _sha2_512,
    IDENTITY: _identity,
}
"""Every function that is known, the likeliest first."""

DIGEST_BITS = {
    SHA2_256: 256,
    BLAKE3: 256,
    MURMUR3_X64_64: 64,
    MURMUR3_32: 32,
    MURMUR3_X64_128: 128,
    SHA2_512: 512,
}
"""Bits in a digest; the identity has as many as the key."""

NAMES = {
    SHA2_256: "sha2-256",
    BLAKE3: "blake3",
    MURMUR3_X64_64: "murmur3-x64-64",
    MURMUR3_32: "murmur3-32",
    MURMUR3_X64_128: "murmur3-x64-128",
    SHA2_512: "sha2-512",
    IDENTITY: "identity",
}


def name_of(code: int) -> str:
    """What a message calls a function."""
    return NAMES.get(code, f"hash function {code:#x}")
