"""MurmurHash3 x64 128, seed 0, as far as UnixFS uses it: the first of its two 64-bit halves.

Source: Austin Appleby's MurmurHash3 (public domain); https://specs.ipfs.tech/unixfs, section on HAMT
directories, for its use.
"""

import struct

_MASK = (1 << 64) - 1
_C1 = 0x87C37B91114253D5
_C2 = 0x4CF5AD432745937F


def murmur3(data: bytes) -> int:
    """The first half of the hash. A name's slot in the topmost shard is in its most significant bits."""
    size = len(data)
    blocks = size >> 4
    h1 = h2 = 0
    for k1, k2 in struct.iter_unpack("<QQ", data[: blocks << 4]):
        k1 = k1 * _C1 & _MASK
        h1 ^= (k1 << 31 | k1 >> 33) * _C2 & _MASK
        h1 = ((h1 << 27 | h1 >> 37) + h2) * 5 + 0x52DCE729 & _MASK
        k2 = k2 * _C2 & _MASK
        h2 ^= (k2 << 33 | k2 >> 31) * _C1 & _MASK
        h2 = ((h2 << 31 | h2 >> 33) + h1) * 5 + 0x38495AB5 & _MASK
    tail = data[blocks << 4 :]
    if len(tail) > 8:
        k2 = int.from_bytes(tail[8:], "little") * _C2 & _MASK
        h2 ^= (k2 << 33 | k2 >> 31) * _C1 & _MASK
    if tail:
        k1 = int.from_bytes(tail[:8], "little") * _C1 & _MASK
        h1 ^= (k1 << 31 | k1 >> 33) * _C2 & _MASK
    h1 ^= size
    h2 ^= size
    h1 = h1 + h2 & _MASK
    h2 = h2 + h1 & _MASK
    return _mix(h1) + _mix(h2) & _MASK


def _mix(value: int) -> int:
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & _MASK
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33
