"""Reading the text of a record: what is taken, and where and why the rest is refused."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.codec.cid import Link
from mstfs.errors import RecordError
from mstfs.limits import NESTING
from mstfs.repo import record, record_rules, record_text

RAW_LINK = Link(cids.for_block(b"a blob", cids.RAW))
NODE_LINK = Link(cids.for_block(b"a record"))
LINK = cids.to_text(NODE_LINK.cid)
RAW = cids.to_text(RAW_LINK.cid)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        ('{"a": 123.0}', {"a": 123}),
        ('{"a": [1e3, 1E+3, 12.5e1, 1000e-3, -2.50e2]}', {"a": [1000, 1000, 125, 1, -250]}),
        ('{"a": [0.0, -0, -0.0, 0e99999999999, 0e-5]}', {"a": [0, 0, 0, 0, 0]}),
        ('{"a": 9007199254740993.0}', {"a": 9007199254740993}),
        ('{"a": 9.223372036854775807e18}', {"a": (1 << 63) - 1}),
        ('{"a": [-9223372036854775808, 9223372036854775807]}', {"a": [-(1 << 63), (1 << 63) - 1]}),
        ('{"a": 1' + "0" * 30 + "e-30}", {"a": 1}),
        ('{"a": 0.' + "0" * 30 + "1e0000000031}", {"a": 1}),
        ('{"a": {"$bytes": "AAE"}, "b": {"$bytes": "AAE="}}', {"a": b"\0\1", "b": b"\0\1"}),
        ('{"a": {"$bytes": ""}}', {"a": b""}),
        (f'{{"a": {{"$link": "{LINK}"}}}}', {"a": NODE_LINK}),
        (f'{{"a": {{"$link": "{LINK.upper()}"}}}}', {"a": NODE_LINK}),
        ('{"a": "\\ud83d\\ude00\\u0000\\/\\b"}', {"a": "😀\0/\b"}),
        (
            '{"$type": "x", "$other": 1, "a": {"$foo": null}}',
            {"$type": "x", "$other": 1, "a": {"$foo": None}},
        ),
    ],
)
def test_what_is_read(text: str, value: dict[str, Any]) -> None:
    block = record.parse(text.encode())
    assert block == dag_cbor.encode(value)
    assert dag_cbor.encode(record_text.read(text)) == block


BLOB_TEXT = '{"b": {"$type": "blob", "ref": {"$link": "RAW"}, "mimeType": "a/b", "size": 1}}'.replace(
    "RAW", RAW
)


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        # Syntax.
        ("", 1, 1, "empty"),
        ("\n\n ", 3, 2, "empty"),
        ("{", 1, 2, "the text ends inside the map opened on line 1, column 1"),
        ('{"a": [1,\n2', 2, 2, "the text ends inside the list opened on line 1, column 7"),
        ('{"a"', 1, 5, "expected ':'"),
        ('{"a":', 1, 6, "expected a value"),
        ('{"a" 1}', 1, 6, "expected ':' after the key, found '1'"),
        ('{"a": 1 "b": 2}', 1, 9, "expected ',' or '}'"),
        ('{"a": [1 2]}', 1, 10, "expected ',' or ']'"),
        ('{"a": 1,}', 1, 8, "a comma before '}'"),
        ('{"a": [1,\n ]}', 1, 9, "a comma before ']'"),
        ('{"a": [,1]}', 1, 8, "expected a value, found ','"),
        ("{a: 1}", 1, 2, "expected a key in double quotes"),
        ("{'a': 1}", 1, 2, "strings stand in double quotes"),
        ('{"a": 1} // done', 1, 10, "text after the end"),
        ('{"a": // one\n1}', 1, 7, "JSON has no comments"),
        ('{"a": 1}\n{"b": 2}', 2, 1, "text after the end"),
        ('{"a": 1}}', 1, 9, "text after the end"),
        ('{"a": [1}', 1, 9, "expected ',' or ']'"),
        ('{"a": True}', 1, 7, "expected a value, found 'True'"),
        ('{"a": truer}', 1, 7, "found 'truer'"),
        ('{"a":\xa01}', 1, 6, "expected a value"),
        # Strings.
        ('{"a": "bc', 1, 7, "the string has no end"),
        ('{"a": "bc\\', 1, 7, "the string has no end"),
        ('{"a": "b\nc"}', 1, 9, "a line break inside a string"),
        ('{"a": "b\tc"}', 1, 9, "control character"),
        ('{"a": "\x00"}', 1, 8, "control character"),
        ('{"a": "b\\x41"}', 1, 9, "is not an escape"),
        ('{"a": "b\\u12g4"}', 1, 9, "is not an escape"),
        ('{"a": "b\\u12', 1, 9, "is not an escape"),
        ('{"a": "x\\ud800"}', 1, 9, "half of a character"),
        ('{"a": "\\ud83d\\ude00\\ude00"}', 1, 20, "half of a character"),
        ('{"a": "\\\\ud800\\udc00"}', 1, 15, "half of a character"),
        ('{"a": "\\ud800\\n\\udc00"}', 1, 8, "half of a character"),
        ('{"a": "\\ud800\\ud83d\\ude00"}', 1, 8, "half of a character"),
        ('{"\\udfff": 1}', 1, 3, "half of a character"),
        # Numbers.
        ('{"a": 1.5}', 1, 7, "not a whole number"),
        ('{"a": 1e-1}', 1, 7, "not a whole number"),
        ('{"a": 1e-99999999999999999999}', 1, 7, "not a whole number"),
        ('{"a": 9223372036854775808}', 1, 7, "does not fit"),
        ('{"a": -9223372036854775809}', 1, 7, "does not fit"),
        ('{"a": 1e19}', 1, 7, "does not fit"),
        ('{"a": 1e99999999999999999999}', 1, 7, "does not fit"),
        ('{"a": ' + "9" * 5000 + "}", 1, 7, "does not fit"),
        ('{"a": 012}', 1, 7, "'012' is not a JSON number"),
        ('{"a": +1}', 1, 7, "is not a JSON number"),
        ('{"a": .5}', 1, 7, "is not a JSON number"),
        ('{"a": 1.}', 1, 7, "is not a JSON number"),
        ('{"a": 0x10}', 1, 7, "is not a JSON number"),
        ('{"a": -}', 1, 7, "is not a JSON number"),
        ('{"a": NaN}', 1, 7, "NaN is not"),
        ('{"a": Infinity}', 1, 7, "Infinity is not"),
        ('{"a": [1,\n   -Infinity]}', 2, 4, "-Infinity is not"),
        # Keys and the top.
        ('{"a": 1,\n "b": 2,\n "a": 3}', 3, 2, "the key 'a' was used before, on line 1"),
        ('{"a": {"b": 1, "\\u0062": 1}}', 1, 16, "'b' was used before"),
        ("[]", 1, 1, "a record is a map"),
        (' "text"', 1, 2, "a record is a map"),
        ("null", 1, 1, "a record is a map"),
        (f'{{"$link": "{LINK}"}}', 1, 1, "a record is a map"),
        ('{"$bytes": ""}', 1, 1, "a record is a map"),
        ("\ufeff{}", 1, 1, "byte order mark"),
        # Links, bytes, types.
        ('{"a": {"$link": 5}}', 1, 17, "the value of $link is not a string"),
        ('{"a": {"$link": "x"}}', 1, 17, "not a CID"),
        ('{"a": {"$link": ""}}', 1, 17, "not a CID"),
        (f'{{"a": {{"$link": "{LINK}",\n "b": 1}}}}', 2, 2, "no other field"),
        (f'{{"a": {{"b": 1, "$link": "{LINK}"}}}}', 1, 8, "no other field, but here is 'b'"),
        (f'{{"a": {{"$bytes": "", "$link": "{LINK}"}}}}', 1, 8, "no other field"),
        ('{"a": {"$bytes": [1, 2]}}', 1, 18, "the value of $bytes is not a string"),
        ('{"a": {"$bytes": "A"}}', 1, 18, "base64"),
        ('{"a": {"$bytes": "AA=A"}}', 1, 18, "base64"),
        ('{"a": {"$bytes": "AAE=="}}', 1, 18, "base64"),
        ('{"a": {"$bytes": "AA="}}', 1, 18, "base64"),
        ('{"a": {"$bytes": "-_-_"}}', 1, 18, "base64"),
        ('{"a": {"$bytes": "AA AA"}}', 1, 18, "base64"),
        ('{"a": {"$bytes": "AB"}}', 1, 18, "canonical form"),
        ('{"a": {"$bytes": "é"}}', 1, 18, "base64"),
        ('{"$type": ""}', 1, 11, "$type is not"),
        ('{"$type": null}', 1, 11, "$type is not"),
        ('{"a": [{"$type": 5}]}', 1, 18, "$type is not"),
        # Blobs.
        (BLOB_TEXT.replace('"mimeType": "a/b", ', ""), 1, 7, "a blob has no field mimeType"),
        (BLOB_TEXT.replace('"a/b"', '""'), 1, 118, "the mimeType of a blob"),
        (BLOB_TEXT.replace('"size": 1', '"size": "1"'), 1, 133, "the size of a blob"),
        (BLOB_TEXT.replace('"size": 1', '"size": 0'), 1, 133, "the size of a blob"),
        (BLOB_TEXT.replace('"size": 1', '"size": true'), 1, 133, "the size of a blob"),
        (BLOB_TEXT.replace(RAW, LINK), 1, 32, "the ref of a blob"),
        ('{"$type": "blob", "a": 1}', 1, 1, "a blob has no field ref"),
        # Columns are characters, whatever they take in bytes.
        ('{"a😀é": "😀", "b": 1.5}', 1, 19, "not a whole number"),
        ('{\r\n  "a": nope\r\n}', 2, 8, "found 'nope'"),
    ],
)
def test_where_and_why_a_text_is_refused(text: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        record.parse(text.encode())
    assert reason in caught.value.reason
    assert (caught.value.line, caught.value.column) == (line, column)
    assert str(caught.value).isprintable()
    assert len(caught.value.reason) < 200


def test_the_blob_of_the_table_above_is_sound() -> None:
    assert record.to_value(record.parse(BLOB_TEXT.encode()))["b"]["ref"] == RAW_LINK


@pytest.mark.parametrize(
    ("text", "line", "column", "byte"),
    [
        (b"\xff\xfe{\0}\0", 1, 1, "byte 0 (0xff)"),
        (b'{"a": "\xc3"}', 1, 8, "byte 7 (0xc3)"),
        ('{"é": 1,\n"😀'.encode() + b'\x80": 2}', 2, 3, "byte 15 (0x80)"),
        (b'{"a": "\xed\xa0\x80"}', 1, 8, "byte 7 (0xed)"),
        (b'{"a": "\xc0\x80"}', 1, 8, "byte 7 (0xc0)"),
    ],
)
def test_what_is_not_utf_8(text: bytes, line: int, column: int, byte: str) -> None:
    with pytest.raises(RecordError) as caught:
        record.parse(text)
    assert byte in caught.value.reason
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(("opener", "closer"), [("[", "]"), ('{"a":', "}")])
def test_nesting(opener: str, closer: str) -> None:
    def text(levels: int, inner: str = "1") -> bytes:
        return ('{"a":' + opener * (levels - 1) + inner + closer * (levels - 1) + "}").encode()

    for inner in ("1", '{"$bytes": "AAE"}'):
        block = record.parse(text(NESTING, inner))
        assert record.parse(record.render(block)) == block
        with pytest.raises(RecordError, match=f"nested more than {NESTING}") as caught:
            record.parse(text(NESTING + 1, inner))
        # The first key takes five columns; the last opener is the one too many.
        assert caught.value.column == 6 + len(opener) * (NESTING - 1)
    for levels in (NESTING + 2, 1_000, 300_000):
        with pytest.raises(RecordError, match=f"nested more than {NESTING}"):
            record.parse(text(levels))
    with pytest.raises(RecordError, match="nested"):
        record.parse(b"[" * 300_000)


pieces = st.sampled_from(
    [
        *[
            '"',
            "\\",
            "\\u",
            "\\ud800",
            "\\udc00",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "0",
            "1",
            "-",
            "+",
            ".",
            "e",
            "E5",
            "1.5",
            "1e400",
            "true",
            "null",
            "NaN",
            "Infinity",
            "a",
            "é",
            '""',
        ],
        *['"$link"', '"$bytes"', '"$type"', '"blob"', '"a":1', '{"$bytes":"AA"}', '"ref":', '"size":1'],
        *("\n", " ", "\t", "\x01", "\xa0", "\ufeff", "9" * 19, f'"{RAW}"'),
    ]
)
seeds = st.sampled_from(
    [BLOB_TEXT, "{}", '{"a": [1, {"b": null}]}', '{\n  "é": "😀"\n}', '{"a":{"$bytes":"AAE"}}']
)


@given(seeds, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), pieces), max_size=3))
@example("{}", [(0, 0, "\ufeff")])
@example('{"a": 1}', [(6, 1, "1" * 5000)])
@example("{}", [(1, 0, '"\ud800": 1')])
def test_both_readers_accept_the_same_texts(text: str, changes: list[tuple[int, int, str]]) -> None:
    for at, cut, piece in changes:
        at %= len(text) + 1
        text = text[:at] + piece + text[at + cut :]
    fast = record._scan(text)
    slow: bytes | None
    try:
        slow = dag_cbor.encode(record_text.read(text))
    except RecordError as error:
        slow = None
        lines = text.split("\n")
        inside = 1 <= error.line <= len(lines) and 1 <= error.column <= len(lines[error.line - 1]) + 1
    else:
        inside = True
    assert fast == slow
    assert inside


def test_the_slow_reader_answers_where_the_fast_one_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def overflow(_: str) -> object:
        raise RecursionError

    monkeypatch.setattr(record, "_decode", overflow)
    assert record.parse(b'{"a": [1.0]}') == dag_cbor.encode({"a": [1]})


numbers = st.from_regex(r"\A-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?\Z")


@given(numbers)
def test_a_number_counts_as_its_digits_say(text: str) -> None:
    exact = Fraction(text)
    if exact.denominator == 1 and -(1 << 63) <= exact < 1 << 63:
        assert record_rules.integer_from_text(text) == exact
    else:
        with pytest.raises(ValueError, match="whole number" if exact.denominator != 1 else "does not fit"):
            record_rules.integer_from_text(text)
