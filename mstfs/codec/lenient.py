"""A forgiving CBOR reader that names every way in which a block departs from DAG-CBOR.

The fast codecs say only that a block is refused. A verifier wants to say which rule is broken, and to go
on with what can still be understood: a node with its fields in the wrong order still names its children.
Source of the rules: IPLD, DAG-CBOR specification, "Strictness" and "Links"; RFC 8949, section 3.
"""

import math
import struct
from typing import Final, NamedTuple

from mstfs.codec import cid
from mstfs.codec.cid import Link
from mstfs.errors import CidError
from mstfs.limits import CONTAINERS, NESTING


class Departure(NamedTuple):
    """One broken rule: its identifier, the offset inside the block, one sentence."""

    rule: str
    offset: int
    message: str


class Reading(NamedTuple):
    """What could be understood, and the first departure of each kind in order of appearance."""

    value: object
    departures: tuple[Departure, ...]


class Junk:
    """The one value `JUNK`: stands where nothing that DAG-CBOR knows could be read."""

    def __repr__(self) -> str:
        return "JUNK"


JUNK: Final = Junk()

_ITEMS_MAX = 1 << 21
"""Values that are read before the reader gives up: its work is diagnosis, and Python is slow."""

_BREAK: Final = Junk()
_OPENED: Final = Junk()
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}


class _Unreadable(Exception):
    """Nothing behind this point can be read."""


class _Frame:
    """A list or map that is being read. `left` counts items to come (two a pair), -1 is "until a break"."""

    __slots__ = ("at_key", "key", "last", "left", "value")

    def __init__(self, value: list[object] | dict[str, object], left: int) -> None:
        self.value = value
        self.left = left
        self.at_key = True
        self.key: str | None = None
        self.last: tuple[int, bytes] | None = None


def read(data: bytes) -> Reading:
    """Read one CBOR item. Never raises; what cannot be read at all, or is too long to bother, is `JUNK`.

    Links become `Link`, other tags fall away, floats stay floats. Of two equal map keys the first counts,
    and what stands under a key that is not text is left out.
    """
    reader = _Reader(data)
    try:
        value = reader.run()
        if reader.at < len(data):
            reader.depart("cbor-trailing", reader.at, f"{len(data) - reader.at} bytes follow the value")
    except _Unreadable:
        value = JUNK
    return Reading(value, tuple(reader.departures.values()))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.opened = 0
        # One departure a rule: a hostile block must not turn each of its bytes into a line of output.
        self.departures: dict[str, Departure] = {}

    def depart(self, rule: str, offset: int, message: str) -> None:
        if rule not in self.departures:
            self.departures[rule] = Departure(rule, offset, f"{message} (byte {offset})")

    def give_up(self, rule: str, offset: int, message: str) -> _Unreadable:
        self.depart(rule, offset, message)
        return _Unreadable()

    def run(self) -> object:
        stack: list[_Frame] = []
        for _ in range(_ITEMS_MAX):
            value = self._item(stack)
            if value is _OPENED:
                if stack[-1].left:
                    continue
                value = stack.pop().value
            while stack:
                frame = stack[-1]
                if value is _BREAK:
                    if frame.left >= 0 or not frame.at_key:
                        raise self.give_up("cbor-malformed", self.at - 1, "a break stands where a value must")
                    value = stack.pop().value
                    continue
                self._add(frame, value)
                if frame.left:
                    break
                value = stack.pop().value
            else:
                if value is _BREAK:
                    raise self.give_up("cbor-malformed", self.at - 1, "a break stands where a value must")
                return value
        raise _Unreadable

    def _add(self, frame: _Frame, value: object) -> None:
        if frame.left > 0:
            frame.left -= 1
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.at_key:
            self._key(frame, value)
            frame.at_key = False
        else:
            if frame.key is not None:
                frame.value.setdefault(frame.key, value)
            frame.at_key = True

    def _key(self, frame: _Frame, value: object) -> None:
        assert isinstance(frame.value, dict)
        if not isinstance(value, str):
            self.depart("cbor-map-key", self.at, "a map key is not text")
            frame.key = None
            return
        spelled = value.encode("utf-8", "surrogateescape")
        rank = (len(spelled), spelled)
        if value in frame.value:
            self.depart("cbor-duplicate-key", self.at, f"the map key {value!r:.80} stands twice")
        elif frame.last is not None and rank < frame.last:
            self.depart("cbor-map-order", self.at, f"the map key {value!r:.80} is out of order")
        frame.key = value
        frame.last = rank

    def _take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise self.give_up("cbor-truncated", self.at, "the block ends inside a value")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def _head(self) -> tuple[int, int, int]:
        """Major type, additional information, argument (-1: indefinite)."""
        start = self.at
        first = self._take(1)[0]
        major, info = first >> 5, first & 31
        if info < 24:
            return major, info, info
        if info == 31:
            return major, info, -1
        if info > 27:
            raise self.give_up("cbor-malformed", start, f"the byte {first:#04x} starts no value")
        width: int = 1 << (info - 24)
        argument = int.from_bytes(self._take(width), "big")
        least = 24 if width == 1 else 1 << (4 * width)
        if major != 7 and argument < least:
            self.depart("cbor-not-minimal", start, f"{argument} is spelled longer than it must be")
        return major, info, argument

    def _item(self, stack: list[_Frame]) -> object:
        while True:
            start = self.at
            major, info, argument = self._head()
            if argument < 0 and major in (0, 1, 6):
                raise self.give_up("cbor-malformed", start, "a number of indefinite length")
            if major != 6:
                break
            if argument != 42:
                self.depart("cbor-tag", start, f"tag {argument} is not allowed")
            elif self.at < len(self.data) and self.data[self.at] >> 5 == 2:
                return self._link(start)
            else:
                self.depart("cbor-link", start, "a link is not a byte string")
                if self.at < len(self.data) and self.data[self.at] >> 5 == 3:
                    self._item(stack)
                    return JUNK
            # What such a tag stands before is read as if the tag were not there.
        if major == 7:
            return self._simple(start, info, argument)
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return self._string(start, argument, 2)
        if major == 3:
            return self._text(start, self._string(start, argument, 3))
        return self._open(start, major, argument, stack)

    def _open(self, start: int, major: int, argument: int, stack: list[_Frame]) -> object:
        if argument < 0:
            self.depart("cbor-indefinite", start, "a list or map of indefinite length")
        if len(stack) >= NESTING:
            raise self.give_up("cbor-nesting", start, f"more than {NESTING} lists and maps inside each other")
        self.opened += 1
        if self.opened > CONTAINERS:
            raise self.give_up("cbor-containers", start, f"more than {CONTAINERS} lists and maps")
        if major == 4:
            stack.append(_Frame([], argument))
        else:
            stack.append(_Frame({}, 2 * argument if argument >= 0 else -1))
        return _OPENED

    def _string(self, start: int, length: int, major: int) -> bytes:
        if length >= 0:
            return self._take(length)
        self.depart("cbor-indefinite", start, "a string of indefinite length")
        parts = bytearray()
        while True:
            at = self.at
            inner, info, length = self._head()
            if (inner, info) == (7, 31):
                return bytes(parts)
            if inner != major or length < 0:
                raise self.give_up("cbor-malformed", at, "a string holds something else than its own kind")
            parts += self._take(length)

    def _text(self, start: int, spelled: bytes) -> str:
        try:
            return spelled.decode()
        except UnicodeDecodeError as error:
            self.depart("cbor-utf8", start, f"text is not UTF-8: {error.reason}")
            return spelled.decode("utf-8", "surrogateescape")

    def _link(self, start: int) -> object:
        at = self.at
        _, _, length = self._head()
        spelled = self._string(at, length, 2)
        try:
            if spelled[:1] != b"\0":
                raise CidError("it does not start with a zero byte")
            cid.check(spelled[1:])
        except CidError as error:
            self.depart("cbor-link", start, f"a link holds no CID: {error}")
            return JUNK
        return Link(spelled[1:])

    def _simple(self, start: int, info: int, argument: int) -> object:
        if info in (20, 21):
            return info == 21
        if info == 22:
            return None
        if info == 31:
            return _BREAK
        if info in _FLOATS:
            width = 1 << (info - 24)
            number: float = struct.unpack(_FLOATS[info], argument.to_bytes(width, "big"))[0]
            if info != 27:
                self.depart(
                    "cbor-float-width", start, f"a float of {8 * width} bits, where only 64 are allowed"
                )
            if not math.isfinite(number):
                self.depart("cbor-float-special", start, f"the float {number}")
            return number
        self.depart("cbor-simple", start, f"the simple value {argument} is not allowed")
        return JUNK
