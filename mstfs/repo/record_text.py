"""Reading the JSON of a record with a memory for places: what says line, column and reason.

A tokenizer and a stack, no recursion. It is some five times slower than the C scanner that `record.parse`
tries first, and it is the one that decides: whatever it accepts is a record.

Source of the grammar: RFC 8259; of the rules on top: `record_rules`.
"""

import re
from collections.abc import Callable
from json import decoder
from typing import Any, NoReturn

from mstfs.errors import CidError, RecordError
from mstfs.limits import NESTING
from mstfs.repo import record_rules

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


def locate(text: str, offset: int) -> tuple[int, int]:
    """Line and column, counted from 1, of the character at `offset`."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def read(text: str) -> dict[str, Any]:
    """The value of a record's text. RecordError with line, column and reason if it is not a record."""
    return _Reader(text).record()


class _Frame:
    """A list or a map that is not closed yet. `places` has the offsets of key and value of each field."""

    __slots__ = ("fields", "items", "key", "key_at", "opened", "places")

    def __init__(self, opened: int, is_map: bool) -> None:
        self.opened = opened
        self.items: list[Any] = []
        self.fields: dict[str, Any] | None = {} if is_map else None
        self.places: dict[str, tuple[int, int]] = {}
        self.key = ""
        self.key_at = 0


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.stack: list[_Frame] = []

    def record(self) -> dict[str, Any]:
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
                return self.end(value, start)

    def skip(self) -> int:
        match = _space(self.text, self.at)
        assert match is not None  # it matches nothing, too
        self.at = match.end()
        return self.at

    def opens(self, start: int, is_map: bool) -> bool:
        """Step into a list or map; whether it is empty. Else the next thing to read is a value."""
        # A link or byte string is written as a map and is none, hence one level more until it closes. What
        # holds another list or map is neither.
        if len(self.stack) > NESTING:
            self.too_deep(self.stack[-1])
        self.stack.append(_Frame(start, is_map))
        self.at = start + 1
        at = self.skip()
        if self.text.startswith("}" if is_map else "]", at):
            return True
        if is_map:
            self.key(self.stack[-1], "expected a key in double quotes, or '}'")
        return False

    def key(self, frame: _Frame, expected: str) -> None:
        """Read a key and its colon."""
        start = self.skip()
        if not self.text.startswith('"', start):
            self.unexpected(start, expected)
        key = self.string(start)
        if key in frame.places:
            line, _ = locate(self.text, frame.places[key][0])
            self.fail(start, f"the key {_show(key)} was used before, on line {line}")
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
            if "$link" in frame.fields or "$bytes" in frame.fields:
                return self.special(frame, frame.fields), frame.opened
            flaw = record_rules.map_flaw(frame.fields)
            if flaw is not None:
                self.fail(frame.places[flaw.field][1] if flaw.field else frame.opened, flaw.message)
            value = frame.fields
        if len(self.stack) >= NESTING:
            self.too_deep(frame)
        return value, frame.opened

    def special(self, frame: _Frame, fields: dict[str, Any]) -> object:
        """The link or the byte string that a map stands for."""
        name = "$link" if "$link" in fields else "$bytes"
        for other, (key_at, _) in frame.places.items():
            if other != name:
                self.fail(key_at, f"a map with {name} has no other field, but here is {_show(other)}")
        text, value_at = fields[name], frame.places[name][1]
        if not isinstance(text, str):
            self.fail(value_at, f"the value of {name} is not a string")
        try:
            if name == "$bytes":
                return record_rules.bytes_from_text(text)
            return record_rules.link_from_text(text)
        except CidError:
            self.fail(value_at, f"the value of $link is not a CID: {_show(text)}")
        except ValueError as error:
            self.fail(value_at, str(error))

    def scalar(self, start: int, char: str) -> object:
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
            self.fail(start, f"expected a value, found {_show(word)}")
        if not _is_number(word):
            self.fail(start, f"{_show(word)} is not a JSON number")
        try:
            return record_rules.integer_from_text(word)
        except ValueError as error:
            self.fail(start, str(error))

    def string(self, start: int) -> str:
        try:
            value, self.at = _scan_string(self.text, start + 1, True)
        except decoder.JSONDecodeError as error:
            self.bad_string(start, error.pos)
        if _has_surrogate(value):
            self.lone_surrogate(start)
        return value

    def bad_string(self, start: int, at: int) -> NoReturn:
        char = self.text[at : at + 1]
        if at > start and char and char < " ":
            what = "a line break" if char in "\r\n" else f"the control character {char!r}"
            self.fail(at, f"{what} inside a string; write it as an escape")
        # The scanner points at the backslash or just behind it, as its versions go.
        at = at if char == "\\" else at - 1
        if at > start and self.text[at] == "\\" and at + 1 < len(self.text):
            self.fail(at, f"{_show(self.text[at : at + 2])} is not an escape of JSON")
        self.fail(start, "the string has no end")

    def lone_surrogate(self, start: int) -> NoReturn:
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

    def end(self, value: object, start: int) -> dict[str, Any]:
        if self.skip() != len(self.text):
            self.fail(self.at, "text after the end of the record")
        if not isinstance(value, dict):
            self.fail(start, "a record is a map: { ... }")
        return value

    def unexpected(self, at: int, expected: str) -> NoReturn:
        if at < len(self.text):
            char = self.text[at]
            self.fail(at, f"{expected}, found {_show(char)}{_HINTS.get(char, '')}")
        if not self.stack:
            self.fail(at, "the text is empty")
        frame = self.stack[-1]
        line, column = locate(self.text, frame.opened)
        what = "list" if frame.fields is None else "map"
        self.fail(
            at, f"{expected}, but the text ends inside the {what} opened on line {line}, column {column}"
        )

    def too_deep(self, frame: _Frame) -> NoReturn:
        self.fail(frame.opened, f"lists and maps are nested more than {NESTING} levels deep")

    def fail(self, at: int, reason: str) -> NoReturn:
        raise RecordError(reason, *locate(self.text, at))


def _show(text: str) -> str:
    # `repr` escapes what could steer a terminal, and leaves letters of all languages readable.
    return repr(text if len(text) <= 60 else text[:57] + "...")
