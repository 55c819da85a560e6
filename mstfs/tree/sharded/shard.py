"""One shard: a DAG-CBOR list with a link or null for each chunk of a run."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.errors import CborError, CidError, LimitExceeded, NodeError
from mstfs.limits import MANIFEST_BYTES, SHARD_ENTRIES

_NULL = b"\xf6"


class Shard:
    """A decoded shard of `length` places. Those in `places` (ascending) hold CIDs, all others null."""

    __slots__ = ("_cids", "_packed", "_width", "length", "places")

    def __init__(self, length: int, places: Sequence[int], cids: list[bytes]) -> None:
        self.length = length
        self.places = places
        widths = set(map(len, cids))
        # CIDs of one length, as nearly always, are kept in one piece: less than half of the memory.
        self._width = widths.pop() if len(widths) == 1 else 0
        self._packed = b"".join(cids) if self._width else b""
        self._cids = [] if self._width else cids

    def _cid(self, at: int) -> bytes:
        width = self._width
        return self._packed[at * width : (at + 1) * width] if width else self._cids[at]

    def get(self, place: int) -> bytes | None:
        """The CID at a place, or None."""
        at = bisect_left(self.places, place)
        return self._cid(at) if at < len(self.places) and self.places[at] == place else None

    def any(self, low: int, high: int) -> bool:
        """Whether there is a CID at a place from `low` to before `high`."""
        at = bisect_left(self.places, low)
        return at < len(self.places) and self.places[at] < high

    def items(self, low: int, high: int) -> Iterator[tuple[int, bytes]]:
        """Places from `low` to before `high` that hold CIDs, and these."""
        start = bisect_left(self.places, low)
        for at in range(start, bisect_left(self.places, high, start)):
            yield self.places[at], self._cid(at)

    @property
    def cost(self) -> int:
        """About the bytes that it takes."""
        places = 0 if isinstance(self.places, range) else 4 * len(self.places)
        return 400 + places + len(self._packed) + sum(map(len, self._cids)) + 41 * len(self._cids)


def length_of(data: bytes) -> int:
    """The number of places that the head of a list announces, or -1 where there is no such head."""
    if not data or data[0] >> 5 != 4:
        return -1
    info = data[0] & 31
    if info < 24:
        return info
    return int.from_bytes(data[1 : 1 + (1 << info - 24)], "big") if info < 28 else -1


def decode(cid: bytes, data: bytes) -> Shard:
    """The shard in a block. NodeError with the rule that is broken, LimitExceeded over the limits."""
    if len(data) > MANIFEST_BYTES:
        raise LimitExceeded(f"a shard of {len(data)} bytes is over the limit of {MANIFEST_BYTES} bytes")
    length = length_of(data)
    if length > SHARD_ENTRIES:
        raise LimitExceeded(f"a shard of {length} chunks is over the limit of {SHARD_ENTRIES} chunks")
    try:
        value = dag_cbor.decode_node(data)
    except CborError as error:
        raise NodeError(cid, "cbor", str(error)) from None
    if not isinstance(value, list):
        raise NodeError(cid, "not-shard", "is no list")
    links = [link for link in value if link is not None]
    if not all(type(link) is bytes for link in links):
        raise NodeError(cid, "shard-entry", "holds something else than links and nulls")
    _check(cid, links)
    if encode(value) != data:
        # The fast decoder takes long numbers, and byte strings for links; the strict one tells them apart.
        try:
            dag_cbor.decode(data)
        except CborError as error:
            raise NodeError(cid, "cbor", str(error)) from None
        raise NodeError(cid, "shard-entry", "holds byte strings where links must be")
    if len(links) == len(value):
        return Shard(len(value), range(len(value)), links)
    places = array("I", [place for place, link in enumerate(value) if link is not None])
    return Shard(len(value), places, links)


def encode(entries: Sequence[bytes | None]) -> bytes:
    """The block of a shard; the CIDs are well formed."""
    size = len(entries)
    if size < 24:
        head = bytes((0x80 | size,))
    else:
        width = 1 if size < 1 << 8 else 2 if size < 1 << 16 else 4
        head = bytes((0x97 + width.bit_length(),)) + size.to_bytes(width, "big")
    heads: dict[int, bytes] = {}
    for length in {len(entry) for entry in entries if entry is not None}:
        # A link is tag 42 and a byte string that begins with a zero byte.
        spelled = bytes((0x41 + length,)) if length < 23 else bytes((0x58, length + 1))
        heads[length] = b"\xd8\x2a" + spelled + b"\0"
    return head + b"".join([_NULL if entry is None else heads[len(entry)] + entry for entry in entries])


def _check(cid: bytes, links: list[bytes]) -> None:
    # The first four bytes of a usual CID are four numbers of one byte, the last of them the digest's length.
    # So all links that begin alike and are equally long are well formed if one of them is.
    alike = {(link[:4], len(link)): link for link in links}
    if max(map(len, alike), default=0) and not all(map(_is_usual, alike)):
        alike = {(link, len(link)): link for link in links}
    for link in alike.values():
        try:
            cids.check(link)
        except CidError as error:
            raise NodeError(cid, "shard-entry", f"holds a link that is no CID: {error}") from None


def _is_usual(likeness: tuple[bytes, int]) -> bool:
    head, length = likeness
    return length >= 4 and max(head) < 0x80
