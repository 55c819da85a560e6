"""DAG-PB blocks, and the UnixFS message that most of them carry.

Sources: https://ipld.io/specs/codecs/dag-pb/spec for PBNode and PBLink, https://specs.ipfs.tech/unixfs
for Data. Both are protocol buffers (version 2), read here straight from the wire.

A PBNode is read strictly: known fields only, a link's fields in their order, varints minimal. What `encode`
does otherwise with what was read is the order of Data and Links, which old writers had the other way round.
A UnixFS message is read as protocol buffers are: fields in any order, unknown fields passed over; but a field
that may come once and comes twice is refused, since two readers would see two files.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

from mstfs.codec import cid as cids
from mstfs.errors import CidError, DagPbError, LimitExceeded
from mstfs.limits import NODE_BYTES, NODE_LINKS

KIND_RAW = 0
KIND_DIRECTORY = 1
KIND_FILE = 2
KIND_METADATA = 3
KIND_SYMLINK = 4
KIND_SHARD = 5

_UINT32 = 1 << 32
_UINT64 = 1 << 64


class PBLink(NamedTuple):
    """One link: the CID, and where they are given the name and the bytes of all blocks below it."""

    cid: bytes
    name: bytes | None = None
    tsize: int | None = None


class PBNode(NamedTuple):
    """A decoded block. An absent Data field is not the same as an empty one."""

    links: tuple[PBLink, ...] = ()
    data: bytes | None = None


class Mtime(NamedTuple):
    """A time: seconds since 1970 (int64, may be negative), and nanoseconds (uint32) if they are given."""

    seconds: int
    nanos: int | None = None


class UnixfsData(NamedTuple):
    """A UnixFS message; None stands for an absent field. The numbers are what it says, unchecked."""

    kind: int
    data: bytes | None = None
    filesize: int | None = None
    blocksizes: tuple[int, ...] = ()
    hash_type: int | None = None
    fanout: int | None = None
    mode: int | None = None
    mtime: Mtime | None = None


# The same as `PBLink(*parts)`, without a Python frame for each of many links.
_new_link = cast(Callable[[tuple[bytes, bytes | None, int | None]], PBLink], partial(tuple.__new__, PBLink))

# --- the wire ---------------------------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    # The value (64 bits) of the varint at `at`, and the offset behind it; IndexError where data ends.
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value = byte & 0x7F
    shift = 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise DagPbError(f"the varint that ends near offset {at} is longer than ten bytes")
    if byte == 0:
        raise DagPbError(f"the varint that ends at offset {at} is not minimal")
    if value >= _UINT64:
        raise DagPbError(f"the varint that ends at offset {at} has more than 64 bits")
    return value, at + 1


def _put_varint(value: int) -> bytes:
    if 0 <= value < 0x80:
        return bytes((value,))
    if not 0 <= value < _UINT64:
        raise DagPbError(f"{value} does not fit an unsigned integer of 64 bits")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _put_bytes(tag: bytes, value: bytes) -> bytes:
    return b"".join((tag, _put_varint(len(value)), value))


# --- nodes ------------------------------------------------------------------------------------


def decode(block: bytes) -> PBNode:
    """The node in a block. DagPbError if it is not DAG-PB, LimitExceeded if it has too much of something."""
    size = len(block)
    if size > NODE_BYTES:
        raise LimitExceeded(f"{size} bytes are over the limit of {NODE_BYTES} bytes for a node")
    links: list[PBLink] = []
    data: bytes | None = None
    before = 0  # links before Data: there may be links on one side of it only
    at = 0
    try:
        while at < size:
            field = at
            tag = block[at]
            length = block[at + 1]
            start = at + 2
            if length >= 0x80:
                length, start = _varint(block, at + 1)
            at = start + length
            if at > size:
                raise DagPbError(f"a field of {length} bytes at offset {start} is cut off")
            if tag == 0x12:
                if before:
                    raise DagPbError("has links on both sides of its data")
                links.append(_link(block, start, at))
                if block[at : at + 8] == block[field : field + 8]:
                    at = _more_alike(block, field, at, links)
            elif tag == 0x0A:
                if data is not None:
                    raise DagPbError("has its data twice")
                data = block[start:at]
                before = len(links)
            else:
                raise DagPbError(f"has an unknown field (tag {tag:#x}) in front of offset {start}")
            if len(links) > NODE_LINKS:
                raise LimitExceeded(f"has more than {NODE_LINKS} links")
    except IndexError:
        raise DagPbError(f"is cut off at offset {size}") from None
    return PBNode(tuple(links), data)


def _link(block: bytes, at: int, end: int) -> PBLink:
    start = at
    if at == end or block[at] != 0x0A:
        raise DagPbError(f"the link at offset {start} does not begin with its CID")
    length, at = _varint(block, at + 1)
    cid = block[at : at + length]
    at += length
    if not (length == 36 and cid[:4] in cids.COMMON) and not (length == 34 and cid[:2] == b"\x12\x20"):
        try:
            cids.check(cid)
        except CidError as error:
            raise DagPbError(f"the link at offset {start} has no sound CID: {error}") from None
    name: bytes | None = None
    if at < end and block[at] == 0x12:
        length = block[at + 1]
        at += 2
        if length >= 0x80:
            length, at = _varint(block, at - 1)
        name = block[at : at + length]
        at += length
    tsize: int | None = None
    if at < end and block[at] == 0x18:
        tsize, at = _varint(block, at + 1)
    if at != end:
        raise DagPbError(f"the link at offset {start} has a field that is cut off, unknown or out of order")
    return _new_link((cid, name, tsize))


def _more_alike(block: bytes, field: int, end: int, links: list[PBLink]) -> int:
    """Add the links behind the last one that differ from it in their digests alone; returns where they end.

    Large files consist of these. The last link's field begins at `field`.
    """
    cid, name, tsize = links[-1]
    if cid[:4] not in cids.COMMON or block[field + 4 : field + 40] != cid:
        return end
    width = end - field
    head, tail = block[field : field + 8], block[field + 40 : end]
    while block.startswith(head, end) and block.startswith(tail, end + 40):
        links.append(_new_link((block[end + 4 : end + 40], name, tsize)))
        end += width
    return end


def encode(node: PBNode) -> bytes:
    """The block of a node: its links in the order in which they are given, then the data.

    A canonical block has its links sorted by name (`sort_links`); that is up to the caller, since the
    order is part of what a node says.
    """
    parts: list[bytes] = []
    for cid, name, tsize in node.links:
        body = _put_bytes(b"\x0a", cid)
        if name is not None:
            body += _put_bytes(b"\x12", name)
        if tsize is not None:
            body += b"\x18" + _put_varint(tsize)
        parts.append(_put_bytes(b"\x12", body))
    if node.data is not None:
        parts.append(_put_bytes(b"\x0a", node.data))
    return b"".join(parts)


def sort_links(node: PBNode) -> PBNode:
    """The node with its links sorted by the bytes of their names; links of equal names keep their order."""
    return PBNode(tuple(sorted(node.links, key=lambda link: link.name or b"")), node.data)


# --- UnixFS messages --------------------------------------------------------------------------

_FIELDS = {0x08: 0, 0x12: 1, 0x18: 2, 0x28: 4, 0x30: 5, 0x38: 6, 0x42: 7}
"""From the tags of the fields that may come once to their places in `UnixfsData`."""


def decode_data(message: bytes) -> UnixfsData:
    """The UnixFS message in the data of a node. DagPbError if it is none, LimitExceeded for too much."""
    values: list[int | bytes | None] = [None] * 8
    sizes: list[int] = []
    at = 0
    end = len(message)
    try:
        while at < end:
            tag = message[at]
            if tag == 0x20:
                field = at
                size, at = _varint(message, at + 1)
                sizes.append(size)
                same = message[field:at]
                while message.startswith(same, at):
                    sizes.append(size)
                    at += len(same)
            elif tag in _FIELDS:
                place = _FIELDS[tag]
                if values[place] is not None:
                    raise DagPbError(f"the UnixFS field {tag >> 3} comes twice")
                value, at = _varint(message, at + 1)
                if tag & 7 == 2:
                    values[place] = _slice(message, at, value)
                    at += value
                else:
                    values[place] = value
            elif tag == 0x22:
                length, at = _varint(message, at + 1)
                sizes += _packed(_slice(message, at, length))
                at += length
            else:
                at = _pass_over(message, at)
            if len(sizes) > NODE_LINKS:
                raise LimitExceeded(f"the UnixFS message has more than {NODE_LINKS} block sizes")
    except IndexError:
        raise DagPbError(f"the UnixFS message is cut off at offset {end}") from None
    kind, data, filesize, _, hash_type, fanout, mode, mtime = cast(_Values, values)
    if kind is None:
        raise DagPbError("the UnixFS message has no type")
    if kind > KIND_SHARD:
        raise DagPbError(f"the UnixFS message has the unknown type {kind}")
    if mode is not None and mode >= _UINT32:
        raise DagPbError("the mode has more than 32 bits")
    time = None if mtime is None else _decode_mtime(mtime)
    return UnixfsData(kind, data, filesize, tuple(sizes), hash_type, fanout, mode, time)


_Values = tuple[int | None, bytes | None, int | None, None, int | None, int | None, int | None, bytes | None]


def _slice(message: bytes, at: int, length: int) -> bytes:
    if length > len(message) - at:
        raise DagPbError(f"the UnixFS field at offset {at} is cut off")
    return message[at : at + length]


def _packed(run: bytes) -> list[int]:
    # Many varints in one field: what writers of version 3 of protocol buffers do to repeated numbers.
    values: list[int] = []
    at = 0
    while at < len(run):
        value, at = _varint(run, at)
        values.append(value)
        if len(values) > NODE_LINKS:
            break
    return values


def _pass_over(message: bytes, at: int) -> int:
    # The offset behind a field that this reader does not know.
    tag, at = _varint(message, at)
    number, wire = tag >> 3, tag & 7
    if number == 0 or number >= 1 << 29:
        raise DagPbError(f"the UnixFS message has a field of the impossible number {number}")
    if number <= 8:
        raise DagPbError(f"the UnixFS field {number} has the wrong wire type {wire}")
    if wire == 0:
        return _varint(message, at)[1]
    if wire == 2:
        length, at = _varint(message, at)
    elif wire in (1, 5):
        length = 8 if wire == 1 else 4
    else:
        raise DagPbError(f"the UnixFS field {number} has the wire type {wire}, which is not supported")
    _slice(message, at, length)
    return at + length


def _decode_mtime(message: bytes) -> Mtime:
    seconds: int | None = None
    nanos: int | None = None
    at = 0
    while at < len(message):
        tag = message[at]
        if tag == 0x08 and seconds is None:
            seconds, at = _varint(message, at + 1)
        elif tag == 0x15 and nanos is None:
            nanos = int.from_bytes(_slice(message, at + 1, 4), "little")
            at += 5
        else:
            raise DagPbError("the modification time has an unknown or a repeated field")
    if seconds is None:
        raise DagPbError("the modification time has no seconds")
    return Mtime(seconds - _UINT64 if seconds >> 63 else seconds, nanos)


def encode_data(data: UnixfsData) -> bytes:
    """The canonical UnixFS message: fields in the order of their numbers, block sizes not packed."""
    parts = [b"\x08", _put_varint(data.kind)]
    if data.data is not None:
        parts.append(_put_bytes(b"\x12", data.data))
    if data.filesize is not None:
        parts.append(b"\x18" + _put_varint(data.filesize))
    parts += [b"\x20" + _put_varint(size) for size in data.blocksizes]
    for tag, value in ((b"\x28", data.hash_type), (b"\x30", data.fanout), (b"\x38", data.mode)):
        if value is not None:
            parts.append(tag + _put_varint(value))
    if data.mtime is not None:
        seconds, nanos = data.mtime
        body = b"\x08" + _put_varint(seconds if seconds >= 0 else seconds + _UINT64)
        if nanos is not None:
            body += b"\x15" + nanos.to_bytes(4, "little")
        parts.append(_put_bytes(b"\x42", body))
    return b"".join(parts)
