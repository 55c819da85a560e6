"""DAG-JSON: the text of every block reads back as that block, and other texts are refused with a place."""

import base64
import json
import math
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, dag_json
from mstfs.codec.cid import Link
from mstfs.errors import CborError, LimitExceeded, RecordError
from mstfs.limits import NESTING, RECORD_BYTES

LINK = Link(cids.for_block(b"a record"))
OLD_LINK = Link(LINK.cid[2:])
BLAKE3_LINK = Link(cids.for_block(b"a value", cids.RAW, cids.BLAKE3))
TEXT = cids.to_text(LINK.cid)

links = st.sampled_from([LINK, OLD_LINK, BLAKE3_LINK])
integers = st.integers(dag_json.INT_MIN, dag_json.INT_MAX) | st.integers(-100, 100)
floats = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**17), 10**17).map(float)
scalars = st.none() | st.booleans() | integers | floats | st.text() | st.binary(max_size=30) | links
keys = st.text(max_size=8) | st.sampled_from(["/", "bytes", "\\u002f", '"/"'])
values = st.recursive(
    scalars | st.sampled_from([TEXT, "AAE"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


def plain_json(value: Any) -> Any:
    """What the text says to a reader who knows JSON alone."""
    if isinstance(value, Link):
        return {"/": cids.to_text(value.cid)}
    if isinstance(value, bytes):
        return {"/": {"bytes": base64.b64encode(value).decode().rstrip("=")}}
    if isinstance(value, list):
        return [plain_json(item) for item in value]
    if isinstance(value, dict):
        return {key: plain_json(item) for key, item in value.items()}
    return value


def exactly(value: Any) -> str:
    """Tells 1 from 1.0, 0.0 from -0.0 and True from 1, which == does not."""
    return repr(value)


@given(values)
@example({"/": LINK})
@example({"/": TEXT})
@example({"/": {"bytes": "AAE"}})
@example({"/": {"/": {"bytes": "AAE"}}, "a": {"/": 1}})
@example({"/": -(1 << 64), "\\u002f": "/", '"/"': ["/", "\\u002f"]})
def test_every_block_comes_back(value: Any) -> None:
    block = dag_cbor.encode(value)
    text = dag_json.render(block)
    assert text.endswith(b"\n")
    assert dag_json.parse(text) == block
    assert exactly(json.loads(text)) == exactly(plain_json(dag_cbor.decode(block)))


@given(values)
def test_the_order_of_fields_and_white_space_mean_nothing(value: Any) -> None:
    text = dag_json.render(dag_cbor.encode(value)).decode()
    if "\\u002f" in text:
        return  # what `json` makes of that key is a link, or nothing
    loose = json.dumps(
        json.loads(text), ensure_ascii=True, indent="\t", separators=(" ,", " : "), sort_keys=True
    )
    assert dag_json.parse(loose.encode()) == dag_cbor.encode(value)


@given(values)
def test_both_readers_say_the_same(value: Any) -> None:
    text = dag_json.render(dag_cbor.encode(value))
    # The escape is what the fast reader passes on.
    slow = dag_json.parse(b'["\\u002f", %s]' % text)
    assert exactly(dag_cbor.decode(slow)) == exactly(["/", dag_cbor.decode(dag_json.parse(text))])


def test_a_text() -> None:
    value = {"b": LINK, "a": [1, 1.0, -0.0, 2.5e-7, b"\0\1", None, {}, []], "é": "é\n", "aa": OLD_LINK}
    expected = f"""\
{{
  "a": [
    1,
    1.0,
    -0.0,
    2.5e-7,
    {{
      "/": {{
        "bytes": "AAE"
      }}
    }},
    null,
    {{}},
    []
  ],
  "b": {{
    "/": "{TEXT}"
  }},
  "aa": {{
    "/": "{cids.to_text(OLD_LINK.cid)}"
  }},
  "é": "é\\n"
}}
"""
    assert dag_json.render(dag_cbor.encode(value)).decode() == expected


def test_a_key_that_is_a_slash() -> None:
    text = dag_json.render(dag_cbor.encode({"/": TEXT}))
    assert text == b'{\n  "\\u002f": "%s"\n}\n' % TEXT.encode()
    assert dag_cbor.decode(dag_json.parse(text.replace(b"\\u002f", b"\\u002F"))) == {"/": TEXT}
    for spelled in (b"/", b"\\/"):
        assert dag_cbor.decode(dag_json.parse(text.replace(b"\\u002f", spelled))) == LINK


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("0.0", 0.0),
        ("-0.0", -0.0),
        ("1e2", 100.0),
        ("5E-324", 5e-324),
        ("18446744073709551615", (1 << 64) - 1),
        ("-18446744073709551616", -(1 << 64)),
        ("18446744073709551616.0", 2.0**64),
        ('"/"', "/"),
        (f'{{"/": "{TEXT}"}}', LINK),
        (f'{{"/": "{TEXT.upper()}"}}', LINK),
        (f'{{"/": "{cids.to_text(OLD_LINK.cid)}"}}', OLD_LINK),
        ('{"/": {"bytes": ""}}', b""),
        ('{"/": {"bytes": "AAE"}}', b"\0\1"),
        ('{"/": {"bytes": "AAE="}}', b"\0\1"),
        ('{"\\u002f": {"bytes": 1}}', {"/": {"bytes": 1}}),
        ('{"\\u002F": {"\\/": {"bytes": "AAE"}}}', {"/": b"\0\1"}),
        ('{"a": {"bytes": "AAE"}}', {"a": {"bytes": "AAE"}}),
    ],
)
def test_texts_that_are_taken(text: str, value: Any) -> None:
    assert exactly(dag_cbor.decode(dag_json.parse(text.encode()))) == exactly(value)


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("", 1, 1, "the text is empty"),
        ("\ufeff1", 1, 1, "byte order mark"),
        ("[1,\n 2", 2, 3, "the text ends inside the list opened on line 1"),
        ("[1,\n 2,]", 2, 3, "a comma before ']'"),
        ('{"a": 1}\n{}', 2, 1, "text after the end"),
        ('{"a": 1,\n "a": 2}', 2, 2, "'a' was used before, on line 1"),
        ('{"/": "x",\n "\\u002f": 2}', 2, 2, "'/' was used before"),
        ("[NaN]", 1, 2, "NaN is not a JSON number"),
        ("[-Infinity]", 1, 2, "-Infinity is not a JSON number"),
        ("[1e400]", 1, 2, "too large for a float"),
        ("[-1e999]", 1, 2, "too large for a float"),
        ("[18446744073709551616]", 1, 2, "does not fit an integer of DAG-CBOR"),
        ("[-18446744073709551617]", 1, 2, "does not fit an integer of DAG-CBOR"),
        ("[1" + "0" * 5000 + "]", 1, 2, "does not fit an integer of DAG-CBOR"),
        ("[01]", 1, 2, "not a JSON number"),
        ("[1.]", 1, 2, "not a JSON number"),
        ("['a']", 1, 2, "double quotes"),
        ("[1 // no\n]", 1, 4, "JSON has no comments"),
        ('["\\ud800"]', 1, 3, "half of a character"),
        ('{"/": 1}', 1, 2, 'any other key that is a slash is written "\\u002f"'),
        ('{"/": null}', 1, 2, "a link"),
        ('{"/": ["x"]}', 1, 2, "a link"),
        ('{"/": {}}', 1, 2, "a link"),
        ('{"/": {"bytes": 1}}', 1, 2, "a byte string"),
        ('{"/": {"bytes": "AAE", "x": 1}}', 1, 2, "a byte string"),
        ('{"/": {"/": {"bytes": "AAE"}}}', 1, 2, "a byte string"),
        ('{"/": "nonsense"}', 1, 7, "is not a CID: 'nonsense'"),
        ('{"/": ""}', 1, 7, "is not a CID"),
        ('{"/": {"bytes": "A"}}', 1, 7, "is not base64"),
        ('{"/": {"bytes": "AA-_"}}', 1, 7, "is not base64"),
        ('{"/": {"bytes": "AAF"}}', 1, 7, "canonical form"),
        (f'{{"/": "{TEXT}",\n "a": 1}}', 2, 2, "a map with \"/\" has no other field, but here is 'a'"),
        (f'{{"a": 1,\n "/": "{TEXT}"}}', 1, 2, "no other field"),
    ],
)
def test_texts_that_are_refused(text: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        dag_json.parse(text.encode())
    assert reason in caught.value.reason
    assert (caught.value.line, caught.value.column) == (line, column)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(RecordError, match=r"line 2, column 3: byte 4 \(0xff\) is not UTF-8"):
        dag_json.parse(b'[\n "\xff"]')


def nested(levels: int, inside: Any) -> Any:
    for _ in range(levels):
        inside = [inside]
    return inside


@pytest.mark.parametrize("inside", [1, b"\0", LINK, "x"])
def test_nesting_up_to_the_limit(inside: Any) -> None:
    block = dag_cbor.encode(nested(NESTING, inside))
    text = dag_json.render(block)
    assert dag_json.parse(text) == block
    with pytest.raises(RecordError, match=f"more than {NESTING} levels"):
        dag_json.parse(b"[" + text + b"]")


def test_nesting_of_maps_spelled_with_a_slash() -> None:
    value: Any = b"\0"
    for _ in range(NESTING):
        value = {"/": value}
    block = dag_cbor.encode(value)
    text = dag_json.render(block)
    assert dag_json.parse(text) == block  # by the careful reader, for the escapes
    with pytest.raises(RecordError, match=f"more than {NESTING} levels"):
        dag_json.parse(b'{"\\u002f": %s}' % text)


def test_a_text_that_nests_without_end() -> None:
    for opener in (b"[", b'{"a":', b'{"/":', b'{"\\u002f":'):
        with pytest.raises(RecordError, match=f"more than {NESTING} levels"):
            dag_json.parse(opener * 50_000)


def test_indentation_that_would_hurt_is_left_out() -> None:
    for item, count in ((0, 90_000), (b"", 18_000), (LINK, 18_000)):
        text = dag_json.render(dag_cbor.encode(nested(NESTING - 1, [item] * count)))
        assert text.count(b"\n") == 1
    assert dag_json.render(dag_cbor.encode([0] * 40_000)).count(b"\n") == 40_002


def test_sizes() -> None:
    with pytest.raises(LimitExceeded, match="larger"):
        dag_json.render(dag_cbor.encode(bytes(RECORD_BYTES)))
    with pytest.raises(RecordError, match="at most"):
        dag_json.parse(b" " * RECORD_BYTES + b"1")
    assert dag_json.parse(b" " * (RECORD_BYTES - 1) + b"1") == b"\x01"


@pytest.mark.parametrize(
    "block", [b"", b"\x18\x01", b"\xfb\x7f\xf0" + bytes(6), b"\x01\x01", b"\xa2\x61b\1\x61a\1"]
)
def test_blocks_that_are_no_dag_cbor(block: bytes) -> None:
    with pytest.raises(CborError):
        dag_json.render(block)


def test_whatever_is_typed_is_a_block_or_is_refused() -> None:
    source = random.Random(3)
    good = dag_json.render(
        dag_cbor.encode({"/": [LINK, b"\0\1", 1.5, {"a": -(1 << 64)}, "é"], "x": {"/": None}})
    )
    pieces = [b'"', b"/", b"\\u002f", b"{", b"}", b"[", b"]", b",", b":", b"1e5", b"\xff", b"\\", b"-", b"."]
    taken = 0
    places = []
    for _ in range(3000):
        text = bytearray(good)
        for _ in range(source.randint(1, 3)):
            at = source.randrange(len(text))
            text[at : at + source.randint(0, 2)] = source.choice([b"", source.choice(pieces)])
        try:
            block = dag_json.parse(bytes(text))
        except RecordError as error:
            places.append(min(error.line, error.column))
        else:
            taken += 1
            assert dag_json.parse(dag_json.render(block)) == block
    assert taken
    assert places
    assert min(places) >= 1


def test_floats_keep_every_bit() -> None:
    for value in (math.pi, 1 / 3, 1e308, 2.2250738585072014e-308, 5e-324, 1e22, 1e23, 123456789.0, 4.35):
        block = dag_cbor.encode(value)
        assert dag_json.parse(dag_json.render(block)) == block
        assert dag_json.parse(repr(value).encode()) == block
