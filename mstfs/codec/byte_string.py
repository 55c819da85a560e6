"""Byte strings in DAG-CBOR without decoding them: their heads, and how long what follows is.

Source: RFC 8949, section 3; canonical as DAG-CBOR asks, so the shortest head counts.
"""

HEAD_BYTES = 9
"""Bytes in a head at most."""

_MAJOR = 2 << 5


def head(size: int) -> bytes:
    """What stands in front of `size` bytes."""
    if size < 24:
        return bytes((_MAJOR | size,))
    for info, width in ((24, 1), (25, 2), (26, 4)):
        if size < 1 << 8 * width:
            return bytes((_MAJOR | info,)) + size.to_bytes(width, "big")
    return bytes((_MAJOR | 27,)) + size.to_bytes(8, "big")


def is_head(start: bytes) -> bool:
    """Whether a block that starts so is a byte string, if it is canonical DAG-CBOR at all."""
    return bool(start) and start[0] & 0xE0 == _MAJOR


def content_at(start: bytes, size: int) -> int | None:
    """Where the content begins in a block of `size` bytes whose first ones are `start`, `HEAD_BYTES` of them.

    None if the block is no byte string in canonical DAG-CBOR.
    """
    if not is_head(start):
        return None
    info = start[0] & 0x1F
    at = 1 if info < 24 else 1 + (1 << (info - 24)) if info < 28 else 0
    # No other length than this has such a head, so one comparison tells whether all is sound.
    return at if 0 < at <= size and start[:at] == head(size - at) else None
