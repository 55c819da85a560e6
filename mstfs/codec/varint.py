"""Unsigned varints: LEB128, minimal, at most nine bytes (multiformats, unsigned-varint)."""

from mmap import mmap

from mstfs.errors import VarintError
from mstfs.limits import VARINT_BYTES

Buffer = bytes | bytearray | memoryview | mmap


def encode(n: int) -> bytes:
    """The minimal varint of `n`. VarintError if `n` is negative or needs more than 63 bits."""
    if 0 <= n < 0x80:
        return bytes((n,))
    if n < 0 or n >> (7 * VARINT_BYTES):
        raise VarintError(f"{n} does not fit an unsigned varint of {VARINT_BYTES} bytes")
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def decode(data: Buffer, offset: int) -> tuple[int, int]:
    """The value of the varint at `offset`, and the offset just after it.

    VarintError if it is cut off, longer than nine bytes, or not minimal.
    """
    try:
        byte = data[offset]
        if byte < 0x80:
            return byte, offset + 1
        value = byte & 0x7F
        for position in range(1, VARINT_BYTES):
            byte = data[offset + position]
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                if byte == 0:
                    raise VarintError(f"varint at offset {offset} is not minimal")
                return value, offset + position + 1
    except IndexError:
        raise VarintError(f"varint at offset {offset} is cut off") from None
    raise VarintError(f"varint at offset {offset} is longer than {VARINT_BYTES} bytes")
