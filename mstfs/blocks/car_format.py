"""The frame of a CAR: pragma, header, and where the sections are.

Source: CARv1 and CARv2 specifications, ipld.io/specs/transport/car.

Nothing here follows what the file says without checking it against the size of the file first.
"""

import os
from typing import NamedTuple

from mstfs.codec import cid as cids
from mstfs.codec import varint
from mstfs.errors import CarError, CidError, VarintError
from mstfs.limits import CAR_HEADER_BYTES

PRAGMA_V2 = bytes.fromhex("0aa16776657273696f6e02")
V2_HEADER_END = 51  # pragma, 16 bytes of characteristics, three offsets
_FIRST_READ = 4096
_NO_MAP = "not a CAR, or a damaged one: its header is not a map of version and roots"


class Frame(NamedTuple):
    """Where things are in a CAR. All offsets are from the start of the file."""

    version: int
    roots: tuple[bytes, ...]
    header: bytes
    """The CBOR of the CARv1 header (in a CARv2: the one inside)."""
    first: int
    """The offset of the first section."""
    end: int
    """The offset behind the last section; never behind the end of the file."""
    payload: int
    """The offset of the CARv1 payload, from which a CARv2 index counts."""
    index_offset: int
    """The offset of the embedded index, or 0."""
    torn: str | None
    """What the header announces but the file does not have."""


def read_frame(fd: int, size: int) -> Frame:
    """The frame of the CAR open as `fd`, `size` bytes long.

    CarError if it is not a CAR, is of an unknown version, or its header is broken.
    """
    start = read_at(fd, min(size, _FIRST_READ), 0)
    if start.startswith(PRAGMA_V2):
        return _read_v2(fd, size, start)
    header, first = _read_header(fd, 0, size)
    version, roots = parse_header(header, first - len(header))
    if version != 1:
        raise CarError(f"CAR version {version} is unknown, or its first bytes are damaged", 0)
    return Frame(1, roots, header, first, size, 0, 0, None)


def read_all(fd: int, length: int, offset: int) -> bytes:
    """Up to `length` bytes; fewer only at the end of the file. What `os.pread` raises."""
    data = os.pread(fd, length, offset)
    while len(data) < length:
        # Not every file system gives all that is asked for in one go.
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def read_at(fd: int, length: int, offset: int) -> bytes:
    """Up to `length` bytes; fewer only at the end of the file. CarError if it cannot be read."""
    try:
        return read_all(fd, length, offset)
    except OverflowError:  # an offset of 2**63 or more, which no file has
        return b""
    except OSError as error:
        raise CarError(f"cannot be read at offset {offset}: {error.strerror}", offset) from None


def _read_v2(fd: int, size: int, start: bytes) -> Frame:
    if len(start) < V2_HEADER_END:
        raise CarError("the CARv2 header is cut off", len(start))
    payload, length, index = (int.from_bytes(start[at : at + 8], "little") for at in (27, 35, 43))
    if payload < V2_HEADER_END:
        raise CarError(f"the CARv2 header puts its data at offset {payload}, inside itself", 27)
    if payload >= size:
        raise CarError(f"the CARv2 header puts its data at offset {payload}, behind the end of the file", 27)
    end = payload + length
    torn = None
    if end > size:
        torn = f"the file ends at offset {size}, the CARv2 header announces data up to offset {end}"
        end = size
    header, first = _read_header(fd, payload, end)
    version, roots = parse_header(header, first - len(header))
    if version != 1:
        raise CarError(f"the data of a CARv2 must be a CARv1, this says version {version}", payload)
    return Frame(2, roots, header, first, end, payload, 0 if torn else index, torn)


def _read_header(fd: int, offset: int, end: int) -> tuple[bytes, int]:
    # The header's CBOR, and the offset behind it.
    start = read_at(fd, min(end - offset, _FIRST_READ), offset)
    try:
        length, at = varint.decode(start, 0)
    except VarintError as error:
        raise CarError(f"not a CAR, or its header is damaged: {error}", offset) from None
    if length == 0:
        raise CarError("not a CAR: it has an empty header", offset)
    if length > CAR_HEADER_BYTES:
        raise CarError(f"not a CAR, or a damaged one: it announces a header of {length} bytes", offset)
    if at + length > end - offset:
        raise CarError(f"not a CAR, or one cut off inside its header of {length} bytes", offset)
    if at + length <= len(start):
        return start[at : at + length], offset + at + length
    header = read_at(fd, length, offset + at)
    if len(header) < length:
        raise CarError("the file was cut while it was read", offset + at)
    return header, offset + at + length


# --- the header's CBOR ------------------------------------------------------------------------


def parse_header(header: bytes, offset: int = 0) -> tuple[int, tuple[bytes, ...]]:
    """Version and roots of a CARv1 header, a map of exactly `version` and `roots` in any order.

    A version other than 1 may stand without roots. CarError, with `offset` added to the position.
    """
    # A DAG-CBOR decoder would refuse the key order that some writers use, so this reads it itself.
    version: int | None = None
    roots: tuple[bytes, ...] | None = None
    entries, at = _head(header, 0, 5, offset)
    for _ in range(min(entries, 3)):
        length, at = _head(header, at, 3, offset)
        key = header[at : at + length]
        at += length
        if key == b"version" and version is None:
            version, at = _head(header, at, 0, offset)
        elif key == b"roots" and roots is None:
            roots, at = _roots(header, at, offset)
        else:
            raise CarError(f"the CAR header has the unexpected key {key[:50]!r}", offset + at)
    if version is None or entries > 2:
        raise CarError(_NO_MAP, offset)
    if at != len(header):
        raise CarError("the CAR header is followed by other bytes", offset + at)
    if roots is None:
        if version == 1:
            raise CarError("the CAR header names no roots", offset)
        roots = ()
    return version, roots


def _roots(header: bytes, at: int, offset: int) -> tuple[tuple[bytes, ...], int]:
    if header[at : at + 1] == b"\xf6":  # null: what an empty list of Go becomes
        return (), at + 1
    count, at = _head(header, at, 4, offset)
    if count > len(header) - at:
        raise CarError(f"the CAR header announces {count} roots, more than it has room for", offset + at)
    roots = []
    for _ in range(count):
        tag, at = _head(header, at, 6, offset)
        length, at = _head(header, at, 2, offset)
        link = header[at : at + length]
        if tag != 42 or len(link) != length or link[:1] != b"\x00":
            raise CarError("a root in the CAR header is not a link", offset + at)
        try:
            cids.check(link[1:])
        except CidError as error:
            raise CarError(f"a root in the CAR header is not a CID: {error}", offset + at) from None
        roots.append(link[1:])
        at += length
    return tuple(roots), at


def _head(header: bytes, at: int, major: int, offset: int) -> tuple[int, int]:
    # The argument of the CBOR head at `at`, which must be of the major type, and where it ends.
    if at >= len(header):
        raise CarError("the CAR header is cut off", offset + at)
    info = header[at] & 0x1F
    if header[at] >> 5 != major or info > 27:
        raise CarError(_NO_MAP, offset + at)
    if info < 24:
        return info, at + 1
    end = at + 1 + (1 << (info - 24))
    if end > len(header):
        raise CarError("the CAR header is cut off", offset + at)
    return int.from_bytes(header[at + 1 : end], "big"), end
