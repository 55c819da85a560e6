"""JSON texts: reading one with a memory for places, which says line, column and reason; laying one out.

`Reader` is a tokenizer and a stack, no recursion. It is some five times slower than the C scanner of `json`,
which tells little. So the dialects (the JSON of records, DAG-JSON) try that one first, and this one decides:
whatever it accepts is sound.

Source of the grammar: RFC 8259, without byte order mark, lone surrogates, and keys used twice.
"""

import base64
import binascii
import re
from collections.abc import Callable
from json import decoder
from typing import Any, NoReturn

import orjson

from mstfs.codec import cid as cids
from mstfs.codec.cid import Link
from mstfs.errors import CidError, RecordError
from mstfs.limits import NESTING

# The C scanner's own reader of strings: (text, offset behind the quote, strict) -> value, offset behind it.
_scan_string: Callable[[str, int, bool], tuple[str, int]] = vars(decoder)["scanstring"]
_space = re.compile(r"[ \t\n\r]*+").match
_is_number = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?").fullmatch
_word = re.compile(r"[-+.\w]*+").match
_escape = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_has_surrogate = re.compile("[\ud800-\udfff]").search
_WORDS = {"true": True, "false": False, "null": None}
_NUMERIC = frozenset("+-.0123456789")
_HINTS = dict.fromkeys("/#", "; JSON has no comments") | {"'": "; strings stand in double quotes"}
_CONSTANTS = frozenset(("NaN", "Infinity", "-Infinity", "+Infinity", "-NaN", "+NaN"))

_PLAIN = orjson.OPT_PASSTHROUGH_DATACLASS
_INDENTED = _PLAIN | orjson.OPT_INDENT_2
_CONTAINERS = frozenset((dict, list))
_SPELLED_AS_MAPS = frozenset((Link, bytes))
_SMALL_BYTES = 16 << 10
_INDENT_BYTES = 32 << 20


# --- laying out -------------------------------------------------------------------------------


def laid_out(value: object, size: int, default: Callable[[Any], object] | None = None) -> bytes:
    """The text of a value: UTF-8, indented by two spaces, maps in their own order, a newline at the end.

    `size` is that of the block the value comes from. `default` gives the JSON form of links and byte strings.
    Where the indentation alone would take more than 32 MiB (deep nesting made to hurt) there is none.
    TypeError for what JSON or orjson does not know, integers below 64 bits among it.
    """
    option = _INDENTED if size <= _SMALL_BYTES else _layout(value)
    # The sum is a new object of just the right size; orjson's own keeps the room that it grew in.
    return orjson.dumps(value, default, option) + b"\n"


def _layout(value: object) -> int:
    # Whether the text may be indented: a few MB of items, 200 levels down, would become gigabytes.
    total = 0
    stack = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if isinstance(item, dict | list):
            members = item.values() if isinstance(item, dict) else item
            kinds = list(map(type, members))
            # A link or a byte string becomes a map of its own, or two.
            lines = len(kinds) + 4 * sum(map(kinds.count, _SPELLED_AS_MAPS))
            total += lines * 2 * depth
            if total > _INDENT_BYTES:
                return _PLAIN
            stack.extend([(child, depth + 1) for child in members if type(child) in _CONTAINERS and child])
    return _INDENTED


# --- reading ----------------------------------------------------------------------------------


def locate(text: str, offset: int) -> tuple[int, int]:
    """Line and column, counted from 1, of the character at `offset`."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def characters(text: bytes) -> str:
    """The characters of a text. RecordError with line and column if it is not UTF-8."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8")
        reason = f"byte {error.start} ({text[error.start]:#04x}) is not UTF-8"
        raise RecordError(reason, *locate(before, len(before))) from None


def show(text: str) -> str:
    """A piece of the text for a message, shortened."""
    # `repr` escapes what could steer a terminal, and leaves letters of all languages readable.
    return repr(text if len(text) <= 60 else text[:57] + "...")


def link_from_text(text: str) -> Link:
    """The link with a CID that is spelled out. CidError if it is none."""
    try:
        return Link(cids.from_base32(text))
    except CidError:
        # Programs write base32; a person may paste any other spelling.
        return Link(cids.parse(text))


def bytes_from_text(text: str, field: str) -> bytes:
    """The bytes that are spelled in standard base64, with all of the padding or none.

    ValueError for anything else, also for a last character with stray bits, which a cut-off text has. `field`
    is where the text stands.
    """
    try:
        data = binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        raise ValueError(f"the value of {field} is not base64") from None
    canonical = base64.b64encode(data).decode()
    if text not in (canonical, canonical.rstrip("=")):
        raise ValueError(f"the value of {field} is not base64 in its canonical form")
    return data


class Frame:
    """A list or a map that is not closed yet. `places` has the offsets of key and value of each field."""

    __slots__ = ("fields", "items", "key", "key_at", "opened", "places")

    def __init__(self, opened: int, is_map: bool) -> None:
        self.opened = opened
        self.items: list[Any] = []
        self.fields: dict[str, Any] | None = {} if is_map else None
        self.places: dict[str, tuple[int, int]] = {}
        self.key = ""
        self.key_at = 0


class Reader:
    """Reads one text. A dialect is a subclass with `number` and `map_value`; `fail` is how it refuses."""

    spelling = 1
    """How many maps inside each other may stand for what is none, as a link."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.stack: list[Frame] = []

    def number(self, word: str) -> object:
        """The value of a JSON number. ValueError, saying why, if it has none."""
        raise NotImplementedError

    def map_value(self, frame: Frame, fields: dict[str, Any]) -> object:
        """What a map that was just closed stands for; the frames around it are on the stack."""
        raise NotImplementedError

    def is_spelled(self) -> bool:
        """Whether the map that was just closed is a part of how something else is spelled."""
        return False

    def document(self) -> tuple[Any, int]:
        """The value of the whole text, and where it begins. RecordError with line, column and reason."""
        if self.text.startswith("\ufeff"):
            self.fail(0, "the text starts with a byte order mark")
        while True:
            start = self.skip()
            char = self.text[start : start + 1]
            if char in ("{", "["):
                if not self.opens(start, char == "{"):
                    continue
                value, start = self.closes()
            else:
                value = self.scalar(start, char)
            while self.stack:
                if self.goes_on(value, start):
                    break
                value, start = self.closes()
            else:
                if self.skip() != len(self.text):
                    self.fail(self.at, "text after the end of the record")
                return value, start

    def skip(self) -> int:
        """Step over white space; the offset behind it."""
        match = _space(self.text, self.at)
        assert match is not None  # it matches nothing, too
        self.at = match.end()
        return self.at

    def opens(self, start: int, is_map: bool) -> bool:
        """Step into a list or map; whether it is empty. Else the next thing to read is a value."""
        # What is spelled as a map and is none needs more levels until it closes.
        if len(self.stack) >= NESTING + self.spelling:
            self.too_deep(self.stack[NESTING])
        self.stack.append(Frame(start, is_map))
        self.at = start + 1
        at = self.skip()
        if self.text.startswith("}" if is_map else "]", at):
            return True
        if is_map:
            self.key(self.stack[-1], "expected a key in double quotes, or '}'")
        return False

    def key(self, frame: Frame, expected: str) -> None:
        """Read a key and its colon."""
        start = self.skip()
        if not self.text.startswith('"', start):
            self.unexpected(start, expected)
        key = self.string(start)
        if key in frame.places:
            line, _ = locate(self.text, frame.places[key][0])
            self.fail(start, f"the key {show(key)} was used before, on line {line}")
        at = self.skip()
        if not self.text.startswith(":", at):
            self.unexpected(at, "expected ':' after the key")
        self.at = at + 1
        frame.key, frame.key_at = key, start

    def goes_on(self, value: object, start: int) -> bool:
        """Add a value to the innermost list or map; whether another one follows."""
        frame = self.stack[-1]
        if frame.fields is None:
            frame.items.append(value)
            closer = "]"
        else:
            frame.fields[frame.key] = value
            frame.places[frame.key] = (frame.key_at, start)
            closer = "}"
        at = self.skip()
        if self.text.startswith(closer, at):
            return False
        if not self.text.startswith(",", at):
            self.unexpected(at, f"expected ',' or '{closer}'")
        self.at = at + 1
        if self.text.startswith(closer, self.skip()):
            self.fail(at, f"a comma before '{closer}'")
        if frame.fields is not None:
            self.key(frame, "expected a key in double quotes")
        return True

    def closes(self) -> tuple[Any, int]:
        """Step out of the innermost list or map: its value, and where it began."""
        frame = self.stack.pop()
        self.at += 1
        value: object = frame.items
        if frame.fields is not None:
            value = self.map_value(frame, frame.fields)
        if len(self.stack) >= NESTING and type(value) in _CONTAINERS and not self.is_spelled():
            self.too_deep(frame)
        return value, frame.opened

    def scalar(self, start: int, char: str) -> object:
        """Read a string, a number or a word."""
        if char == '"':
            return self.string(start)
        match = _word(self.text, start)
        assert match is not None  # it matches nothing, too
        word = match.group()
        self.at = match.end()
        if word in _WORDS:
            return _WORDS[word]
        if word in _CONSTANTS:
            self.fail(start, f"{word} is not a JSON number")
        if not word:
            self.unexpected(start, "expected a value")
        if word[0] not in _NUMERIC:
            self.fail(start, f"expected a value, found {show(word)}")
        if not _is_number(word):
            self.fail(start, f"{show(word)} is not a JSON number")
        try:
            return self.number(word)
        except ValueError as error:
            self.fail(start, str(error))

    def string(self, start: int) -> str:
        """Read a string."""
        try:
            value, self.at = _scan_string(self.text, start + 1, True)
        except decoder.JSONDecodeError as error:
            self.bad_string(start, error.pos)
        if _has_surrogate(value):
            self.lone_surrogate(start)
        return value

    def bad_string(self, start: int, at: int) -> NoReturn:
        """Say what is wrong with a string."""
        char = self.text[at : at + 1]
        if at > start and char and char < " ":
            what = "a line break" if char in "\r\n" else f"the control character {char!r}"
            self.fail(at, f"{what} inside a string; write it as an escape")
        # The scanner points at the backslash or just behind it, as its versions go.
        at = at if char == "\\" else at - 1
        if at > start and self.text[at] == "\\" and at + 1 < len(self.text):
            self.fail(at, f"{show(self.text[at : at + 2])} is not an escape of JSON")
        self.fail(start, "the string has no end")

    def lone_surrogate(self, start: int) -> NoReturn:
        """Say which escape of a string is half of a character."""
        high_at = -1
        for match in _escape.finditer(self.text, start + 1, self.at):
            code = int(match.group(1), 16) if match.group(1) else 0
            if 0xDC00 <= code < 0xE000 and high_at >= 0 and high_at + 6 == match.start():
                high_at = -1
            elif high_at >= 0:
                break
            elif 0xD800 <= code < 0xDC00:
                high_at = match.start()
            elif 0xDC00 <= code < 0xE000:
                high_at = match.start()
                break
        self.fail(
            max(high_at, start), f"the escape {self.text[high_at : high_at + 6]} is half of a character"
        )

    def unexpected(self, at: int, expected: str) -> NoReturn:
        """Refuse what stands at an offset, or the end of the text."""
        if at < len(self.text):
            char = self.text[at]
            self.fail(at, f"{expected}, found {show(char)}{_HINTS.get(char, '')}")
        if not self.stack:
            self.fail(at, "the text is empty")
        frame = self.stack[-1]
        line, column = locate(self.text, frame.opened)
        what = "list" if frame.fields is None else "map"
        self.fail(
            at, f"{expected}, but the text ends inside the {what} opened on line {line}, column {column}"
        )

    def too_deep(self, frame: Frame) -> NoReturn:
        """Refuse a list or map that is inside of too many."""
        self.fail(frame.opened, f"lists and maps are nested more than {NESTING} levels deep")

    def fail(self, at: int, reason: str) -> NoReturn:
        """Refuse the text because of what stands at an offset."""
        raise RecordError(reason, *locate(self.text, at))
