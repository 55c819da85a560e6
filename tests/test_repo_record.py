"""Records: JSON to block and back, the interoperability fixtures, and where a person's text is wrong."""

import base64
import json
import math
from pathlib import Path
from typing import Any

import dag_cbor as reference
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiformats import CID

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.codec.cid import Link
from mstfs.errors import CborError, LimitExceeded, RecordError
from mstfs.limits import NESTING, RECORD_BYTES
from mstfs.repo import record, record_text

RAW_LINK = Link(cids.for_block(b"a blob", cids.RAW))
NODE_LINK = Link(cids.for_block(b"a record"))
V0_LINK = Link(cids.multihash_of(NODE_LINK.cid))
BLOB = {"$type": "blob", "ref": RAW_LINK, "mimeType": "image/png", "size": 7}
LINK = cids.to_text(NODE_LINK.cid)
RAW = cids.to_text(RAW_LINK.cid)


def unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def flawed(block: bytes) -> list[str]:
    return [defect.rule for defect in record.check_value(block)]


# --- values that follow the data model --------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
keys = texts.filter(lambda key: key not in ("$link", "$bytes", "$type"))
links = st.sampled_from([RAW_LINK, NODE_LINK, V0_LINK, Link(cids.for_block(b"x", hash_code=cids.BLAKE3))])
integers = st.integers(-(1 << 63), (1 << 63) - 1)
leaves = st.none() | st.booleans() | integers | texts | st.binary(max_size=40) | links
typed = st.builds(
    lambda fields, kind: {**fields, "$type": kind}, st.dictionaries(keys, leaves), st.just("a.b.c")
)
values = st.recursive(
    leaves | st.just(BLOB) | typed,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
records = st.dictionaries(keys, values, max_size=5)


def as_reference(value: Any) -> Any:
    if isinstance(value, Link):
        return CID.decode(value.cid)
    if isinstance(value, list):
        return [as_reference(item) for item in value]
    if isinstance(value, dict):
        return {key: as_reference(item) for key, item in value.items()}
    return value


@given(records)
def test_the_text_of_a_block_gives_the_block(value: dict[str, Any]) -> None:
    block = reference.encode(as_reference(value))
    text = record.render(block)
    assert record.parse(text) == block
    assert record.parse(text, strict=True) == block
    assert record.from_value(value) == block
    assert record.to_value(block) == value
    assert record.is_faithful(block)
    assert set(flawed(block)) == {"record-type-missing"}
    # The slow reader is the one that decides, so it must agree on what is right, too.
    assert dag_cbor.encode(record_text.read(text.decode())) == block


def json_form(value: Any) -> Any:
    if isinstance(value, Link):
        return {"$link": cids.to_text(value.cid)}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode().rstrip("=")}
    if isinstance(value, list):
        return [json_form(item) for item in value]
    if isinstance(value, dict):
        ordered = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return {key: json_form(value[key]) for key in ordered}
    return value


@given(records)
def test_layout(value: dict[str, Any]) -> None:
    expected = json.dumps(json_form(value), ensure_ascii=False, indent=2) + "\n"
    assert record.render(dag_cbor.encode(value)).decode() == expected


@given(records, st.sampled_from([None, "\t", 7]), st.booleans(), st.randoms(use_true_random=False))
def test_any_layout_and_order_of_keys_is_read(value: Any, indent: Any, ascii_only: bool, random: Any) -> None:
    def shuffled(item: Any) -> Any:
        if isinstance(item, list):
            return [shuffled(child) for child in item]
        if isinstance(item, dict):
            names = list(item)
            random.shuffle(names)
            return {name: shuffled(item[name]) for name in names}
        return item

    text = json.dumps(shuffled(json_form(value)), ensure_ascii=ascii_only, indent=indent)
    assert record.parse(f"\r\n\t {text}\n\n".encode()) == dag_cbor.encode(value)


def test_interop_fixtures(shared_fixtures: Path) -> None:
    cases = json.loads((shared_fixtures / "atproto/interop/data-model/data-model-fixtures.json").read_text())
    assert len(cases) == 3
    for case in cases:
        block = record.parse(json.dumps(case["json"]).encode(), strict=True)
        assert block == unpadded(case["cbor_base64"])
        assert cids.to_text(cids.for_block(block)) == case["cid"]
        assert json.loads(record.render(block)) == case["json"]
        assert record.parse(record.render(block)) == block
        assert flawed(block) == ["record-type-missing"]


def test_interop_valid(shared_fixtures: Path) -> None:
    cases = json.loads((shared_fixtures / "atproto/interop/data-model/data-model-valid.json").read_text())
    assert len(cases) == 5
    for case in cases:
        block = record.parse(json.dumps(case["json"]).encode(), strict=True)
        assert json.loads(record.render(block)) == case["json"], case["note"]


def test_interop_invalid(shared_fixtures: Path) -> None:
    cases = json.loads((shared_fixtures / "atproto/interop/data-model/data-model-invalid.json").read_text())
    assert len(cases) == 12
    for case in cases:
        with pytest.raises(RecordError) as caught:
            record.parse(json.dumps(case["json"], indent=1).encode())
        assert caught.value.line > 0, case["note"]


# --- rendering --------------------------------------------------------------------------------


def test_render_shows_the_data_model() -> None:
    block = dag_cbor.encode({"b": b"\0\1", "link": NODE_LINK, "a": [], "é": {}, "text": '"\\\n\x01é😀'})
    assert record.render(block).decode() == (
        '{\n  "a": [],\n  "b": {\n    "$bytes": "AAE"\n  },\n  "é": {},\n  "link": {\n'
        f'    "$link": "{LINK}"\n  }},\n  "text": "\\"\\\\\\n\\u0001é😀"\n}}\n'
    )


@pytest.mark.parametrize(
    "number",
    [0, -1, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63), -(1 << 63) - 1, -(1 << 64)],
)
def test_integers_are_exact(number: int) -> None:
    assert record.render(dag_cbor.encode({"n": [number, "é"]})).decode() == (
        f'{{\n  "n": [\n    {number},\n    "é"\n  ]\n}}\n'
    )


@pytest.mark.parametrize("number", [0.0, -0.0, 1.0, 0.1, 1e-7, 1e22, 5e-324, 1.7976931348623157e308, 1 / 3])
def test_floats_are_shown_exactly(number: float) -> None:
    shown = json.loads(record.render(dag_cbor.encode({"n": number})))["n"]
    assert isinstance(shown, float)
    assert (shown, math.copysign(1, shown)) == (number, math.copysign(1, number))


def test_links_of_version_0() -> None:
    block = dag_cbor.encode({"l": V0_LINK})
    assert json.loads(record.render(block)) == {"l": {"$link": cids.to_text(V0_LINK.cid)}}
    assert cids.to_text(V0_LINK.cid).startswith("Qm")
    assert record.parse(record.render(block)) == block


def test_values_that_are_no_maps_are_shown() -> None:
    assert record.render(dag_cbor.encode("x")) == b'"x"\n'
    assert record.render(dag_cbor.encode([b"", 1.5])) == b'[\n  {\n    "$bytes": ""\n  },\n  1.5\n]\n'


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\xa1\x61a\x18\x01",  # an integer that is not minimal
        b"\xa2\x61b\x01\x61a\x02",  # keys out of order
        b"\xa1\x61a\xd8\x2a\x43\x00\x01\x02",  # a link to nothing
        b"\xa1\x61a\xf9\x7e\x00",  # NaN
        b"\xa0\xa0",
    ],
)
def test_what_is_not_canonical_is_refused(block: bytes) -> None:
    with pytest.raises(CborError):
        record.render(block)
    with pytest.raises(CborError):
        record.to_value(block)
    assert flawed(block) == ["record-cbor"]


def nested(levels: int, inner: Any) -> dict[str, Any]:
    value = inner
    for _ in range(levels - 1):
        value = [value]
    return {"a": value}


def test_indentation_cannot_fill_the_memory() -> None:
    block = dag_cbor.encode(nested(NESTING - 1, [0] * 200_000))
    text = record.render(block)
    assert len(text) < 500_000
    assert record.parse(text) == block
    small = dag_cbor.encode(nested(NESTING - 1, [0] * 200))
    assert b"\n" + b"  " * NESTING + b"0,\n" in record.render(small)
    # The same, on the way for what the fast decoder does not take.
    odd = dag_cbor.encode(nested(NESTING - 1, [1.5] * 100_000))
    assert len(record.render(odd)) < 500_000


def test_size_limit() -> None:
    block = dag_cbor.encode({"a": bytes(RECORD_BYTES)})
    with pytest.raises(LimitExceeded):
        record.render(block)
    assert flawed(block) == ["record-size"]
    with pytest.raises(RecordError, match="bytes"):
        record.parse(b" " * RECORD_BYTES + b"{}")
    assert record.parse(b" " * (RECORD_BYTES - 2) + b"{}") == b"\xa0"


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"a": {"$link": LINK}},
        {"a": {"$link": 1, "b": 2}},
        {"$bytes": "x"},
        {"a": [{"$bytes": b"x"}]},
        {"a": 1.0},
        {"a": 1.5},
        {"a": 1 << 63},
        {"a": -(1 << 63) - 1},
    ],
)
def test_what_json_cannot_tell_apart(value: dict[str, Any]) -> None:
    block = dag_cbor.encode(value)
    assert not record.is_faithful(block)
    text = record.render(block)
    assert json.loads(text) is not None
    try:
        again: bytes | None = record.parse(text)
    except RecordError:
        again = None
    assert again != block
    with pytest.raises(RecordError):
        record.from_value(value)


@pytest.mark.parametrize(
    "value",
    [
        {"a": "e$link", "b": "f$bytes"},
        {"a": b"e$link", "b": b"\xfb" * 9, "c": b"\x1b\xff\x3b\xff"},
        {"a": "\x1bé;é"},
        {"a": "x" * 59, "b": "é" + "y" * 25},
        {"a": (1 << 63) - 1, "b": -(1 << 63)},
    ],
)
def test_what_only_looks_unfaithful(value: dict[str, Any]) -> None:
    block = dag_cbor.encode(value)
    assert record.is_faithful(block)
    assert record.parse(record.render(block)) == block


@pytest.mark.parametrize(
    ("value", "rules"),
    [
        ({"$type": "a.b.c"}, []),
        ({}, ["record-type-missing"]),
        ({"$type": "x", "b": BLOB}, []),
        ({"$type": ""}, ["record-type"]),
        ({"$type": 5}, ["record-type"]),
        ({"$type": None}, ["record-type"]),
        ({"$type": "x", "a": [{"$type": b"x"}]}, ["record-type"]),
        ({"$type": "x", "a": 1.0}, ["record-float"]),
        ({"$type": "x", "a": [[0.5], {"b": 1 << 63}]}, ["record-float", "record-int"]),
        ({"$type": "x", "a": -(1 << 63) - 1}, ["record-int"]),
        ({"$type": "x", "b": {**BLOB, "ref": NODE_LINK}}, ["record-blob"]),
        ({"$type": "x", "b": {**BLOB, "ref": RAW}}, ["record-blob"]),
        ({"$type": "x", "b": {**BLOB, "mimeType": 5}}, ["record-blob"]),
        ({"$type": "x", "b": {**BLOB, "size": -1}}, ["record-blob"]),
        ({"$type": "x", "b": {**BLOB, "size": True}}, ["record-blob"]),
        ({"$type": "x", "b": {**BLOB, "size": 1.0}}, ["record-blob", "record-float"]),
        ({"$type": "x", "b": {"$type": "blob"}}, ["record-blob"]),
        ({"$type": "x", "l": {"$link": LINK}}, ["record-reserved"]),
        ({"$type": "x", "l": {"$bytes": "", "$link": ""}}, ["record-reserved", "record-reserved"]),
        ([1], ["record-map"]),
        ("x", ["record-map"]),
        (1.5, ["record-map", "record-float"]),
    ],
)
def test_check_value(value: Any, rules: list[str]) -> None:
    assert flawed(dag_cbor.encode(value)) == rules


def test_check_value_says_where() -> None:
    block = dag_cbor.encode({"$type": "x", "a": {"list": [0, {"size": 2.5}]}, "\x1b" * 500: [1.5]})
    messages = [defect.message for defect in record.check_value(block)]
    assert messages[0] == "'a.list[1].size': a float, and records hold none"
    assert all(message.isprintable() and len(message) < 700 for message in messages)


@pytest.mark.parametrize(
    "value", [{"a": (1, 2)}, {"a": {1: 2}}, {"a": {1}}, {"a": "\ud800"}, {"a": math.nan}]
)
def test_from_value_takes_the_data_model_only(value: dict[str, Any]) -> None:
    with pytest.raises(RecordError) as caught:
        record.from_value(value)
    assert caught.value.line == 0


def test_from_value_on_a_cycle() -> None:
    value: dict[str, Any] = {}
    value["a"] = value
    with pytest.raises(RecordError):
        record.from_value(value)


def test_to_value_needs_a_map() -> None:
    with pytest.raises(CborError, match="not a map"):
        record.to_value(dag_cbor.encode([1]))
