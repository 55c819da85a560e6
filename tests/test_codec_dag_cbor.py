"""DAG-CBOR: against the reference implementation, and against hostile blocks."""

import base64
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dag_cbor as reference
import pytest
from crooked import head
from hypothesis import example, given
from hypothesis import strategies as st
from multiformats import CID

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, lenient
from mstfs.codec.cid import Link
from mstfs.errors import CborError
from mstfs.limits import CONTAINERS, NESTING

LINK = Link(cids.for_block(b"x"))
BLAKE_LINK = Link(cids.for_block(b"y", cids.RAW, cids.BLAKE3))
DECODERS: list[Callable[[bytes], Any]] = [dag_cbor.decode, dag_cbor.decode_node, dag_cbor.decode_json_form]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.binary(max_size=40)
    | st.sampled_from([LINK, BLAKE_LINK, Link(LINK.cid[2:])])
)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


def as_reference(value: Any) -> Any:
    if isinstance(value, Link):
        return CID.decode(value.cid)
    if isinstance(value, list):
        return [as_reference(item) for item in value]
    if isinstance(value, dict):
        return {key: as_reference(item) for key, item in value.items()}
    return value


def plain(value: Any) -> Any:
    """Links as bytes: what `decode_node` gives."""
    if isinstance(value, Link):
        return value.cid
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


@given(values)
def test_round_trip_and_agreement(value: Any) -> None:
    block = dag_cbor.encode(value)
    assert dag_cbor.decode(block) == value
    if b"\xfb\x80" + bytes(7) not in block:  # minus zero, see below
        assert dag_cbor.decode_node(block) == plain(value)
    assert block == reference.encode(as_reference(value))
    dag_cbor.strict_check(block)


def test_minus_zero_is_a_number_but_not_in_nodes() -> None:
    block = dag_cbor.encode([-0.0])
    value = dag_cbor.decode(block)
    assert isinstance(value, list)
    assert str(value[0]) == "-0.0"
    dag_cbor.strict_check(block)
    with pytest.raises(CborError, match="zero"):
        dag_cbor.decode_node(block)


@given(values, st.data())
def test_a_changed_block_is_refused_or_canonical(value: Any, data: st.DataObject) -> None:
    block = bytearray(dag_cbor.encode(value))
    at = data.draw(st.integers(0, len(block) - 1))
    block[at] = data.draw(st.integers(0, 255))
    try:
        again = dag_cbor.decode(bytes(block))
    except CborError:
        with pytest.raises(CborError):
            dag_cbor.strict_check(bytes(block))
    else:
        assert dag_cbor.encode(again) == bytes(block)


@given(st.binary(max_size=300))
@example(b"\x81" * 250 + b"\x00")
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(data)
        except CborError:
            continue


@given(values)
def test_every_cut_is_refused(value: Any) -> None:
    block = dag_cbor.encode(value)
    for length in range(len(block)):
        for decode in DECODERS:
            with pytest.raises(CborError):
                decode(block[:length])


@pytest.mark.parametrize(
    "block",
    [
        "1800",  # not minimal
        "f97e00",  # half a float
        "fa47c35000",  # a short float
        "fb7ff8000000000000",  # NaN
        "fb7ff0000000000000",  # infinity
        "f7",  # undefined
        "a2616201616102",  # keys out of order
        "a2616101616102",  # keys twice
        "a10102",  # a number as key
        "61ff",  # bad UTF-8
        "9fff",  # indefinite
        "5f41ff",
        "c000",  # another tag
        "d82a4100",  # an empty link
        "d82a450001710102",  # junk in a link
        "d82a58250101711220" + "00" * 32,  # a wrong multibase prefix
        "d82a582700017112 20" + "00" * 34,  # bytes behind the CID in a link
        "0000",  # two items
        "",
    ],
)
def test_blocks_that_are_refused(block: str) -> None:
    data = bytes.fromhex(block.replace(" ", ""))
    for decode in (dag_cbor.decode, dag_cbor.strict_check, dag_cbor.decode_json_form):
        with pytest.raises(CborError):
            decode(data)


def test_junk_among_many_bytes_is_found_in_json_form() -> None:
    block = dag_cbor.encode([LINK, b"x" * 400, BLAKE_LINK])
    assert dag_cbor.decode_json_form(block)[2] == {"$link": cids.to_text(BLAKE_LINK.cid)}
    broken = block.replace(BLAKE_LINK.cid, b"\x07" + BLAKE_LINK.cid[1:])
    assert broken != block
    with pytest.raises(CborError):
        dag_cbor.decode_json_form(broken)


def test_json_form() -> None:
    value = {"a": b"\x00\x01", "b": LINK, "c": [1, None, "é"]}
    assert dag_cbor.decode_json_form(dag_cbor.encode(value)) == {
        "a": {"$bytes": "AAE"},
        "b": {"$link": cids.to_text(LINK.cid)},
        "c": [1, None, "é"],
    }
    with pytest.raises(CborError, match="float"):
        dag_cbor.decode_json_form(dag_cbor.encode([1.5]))


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        2**64,
        -(2**64) - 1,
        (1, 2),
        {1: 2},
        {"a": 1, 2: 3},
        "\ud800",
        {"\ud800": 1, "a": 2, "b\udfff": 3},
        {"a": object()},
        bytearray(b"x"),
    ],
)
def test_values_without_a_form(value: object) -> None:
    with pytest.raises(CborError):
        dag_cbor.encode(value)


# --- hostile blocks ---------------------------------------------------------------------------


def nested(levels: int, opening: bytes) -> bytes:
    return opening * levels + b"\x00"


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x61a"])
@pytest.mark.parametrize("decode", [dag_cbor.decode, dag_cbor.decode_json_form, dag_cbor.strict_check])
def test_nesting_has_a_limit(decode: Callable[[bytes], Any], opening: bytes) -> None:
    with pytest.raises(CborError):
        decode(nested(NESTING + 1, opening))
    with pytest.raises(CborError):
        decode(nested(100_000, opening))


def test_the_limit_is_exact() -> None:
    for opening in (b"\x81", b"\xa1\x61a"):
        block = nested(NESTING, opening)
        value = dag_cbor.decode(block)
        assert dag_cbor.encode(value) == block
        dag_cbor.decode_json_form(block)
        with pytest.raises(CborError, match="nest"):
            dag_cbor.encode([value])


def test_deep_nodes_are_refused() -> None:
    with pytest.raises(CborError):
        dag_cbor.decode_node(nested(100_000, b"\x81"))


@pytest.mark.parametrize("size", [10_000, 60_000, 4_000_000])
def test_lists_that_claim_too_much(size: int) -> None:
    # Each list claims all bytes that are left, and the decoders would reserve eight times as many.
    block = bytearray()
    while len(block) + 5 < min(size, 100_000):
        left = size - len(block) - 5
        block += b"\x9a" + left.to_bytes(4, "big") if left > 0xFFFF else b"\x99" + left.to_bytes(2, "big")
    block += bytes(size - len(block))
    for decode in DECODERS:
        with pytest.raises(CborError):
            decode(bytes(block))


def test_big_flat_blocks_pass() -> None:
    items: list[Any] = [
        b"\x99\x9a\x9b" * 20_000,
        "日本" * 10_000,
        [[]] * 300,
        list(range(1000)),
        [2**40] * 500,
    ]
    block = dag_cbor.encode(items)
    assert dag_cbor.decode(block) == items
    assert dag_cbor.decode_node(block) == items
    assert len(dag_cbor.decode_json_form(block)) == len(items)
    dag_cbor.strict_check(block)


@pytest.mark.parametrize("item", [[], {}, [[]], {"a": 1}])
def test_the_number_of_lists_and_maps_has_a_limit(item: object) -> None:
    each = 2 if item == [[]] else 1
    most = (CONTAINERS - 1) // each
    block = dag_cbor.encode([item] * most)
    assert len(dag_cbor.decode(block)) == len(dag_cbor.decode_node(block)) == most  # type: ignore[arg-type]
    dag_cbor.check_for_json(block)
    assert not lenient.read(block).departures
    over = head(4, most + 1) + dag_cbor.encode(item) * (most + 1)
    for decode in DECODERS:
        with pytest.raises(CborError, match="more than 131072 lists and maps"):
            decode(over)
    assert [found.rule for found in lenient.read(over).departures] == ["cbor-containers"]
    with pytest.raises(CborError, match="more than"):
        dag_cbor.encode([item] * (most + 1))


def test_byte_strings_and_links_count_for_json_alone() -> None:
    for item in (b"", b"x", Link(cids.for_block(b"", cids.RAW))):
        block = dag_cbor.encode([item] * CONTAINERS)
        assert len(dag_cbor.decode(block)) == CONTAINERS  # type: ignore[arg-type]
        with pytest.raises(CborError, match="byte strings"):
            dag_cbor.check_for_json(block)
        dag_cbor.check_for_json(dag_cbor.encode([item] * (CONTAINERS - 1)))
    dag_cbor.check_for_json(dag_cbor.encode(["WRITTEN IN CAPITALS" * 10_000, "\u0434" * CONTAINERS]))


# --- real files -------------------------------------------------------------------------------


def test_interop_fixtures(shared_fixtures: Path) -> None:
    path = shared_fixtures / "atproto/interop/data-model/data-model-fixtures.json"
    cases = json.loads(path.read_text())
    assert cases
    for case in cases:
        block = base64.b64decode(case["cbor_base64"] + "==")
        assert dag_cbor.encode(dag_cbor.decode(block)) == block
        assert cids.to_text(cids.for_block(block)) == case["cid"]
        form = dag_cbor.decode_json_form(block)
        assert json.loads(json.dumps(form)) == case["json"]
