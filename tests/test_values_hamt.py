"""Values of HAMTs as files: what is stored in which way, what can be read of it, and what is refused."""

from typing import Any, Literal

import pytest
from hamt_values import BLAKE3, CIPHER, LAYOUTS, Encoding, Kit, made, ranges
from hypothesis import given, settings
from hypothesis import strategies as st

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.codec.cid import Link
from mstfs.errors import (
    FormatError,
    LimitExceeded,
    MissingBlock,
    MissingBlocks,
    RecordError,
    Refused,
)
from mstfs.limits import BLOCK_BYTES, RECORD_BYTES
from mstfs.tree.hamt.filecoin import Filecoin
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import IDENTITY_DATA_BYTES
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.interface import Entry
from mstfs.values.cipher import Plain

# --- everything comes back ----------------------------------------------------------------------

WAYS = [
    (layout, encoding, sealed)
    for layout, encoding in LAYOUTS
    for sealed in (False, True)
    if not (sealed and isinstance(layout, HashMap))
]

keys = st.text(max_size=12).map(str.encode) | st.sampled_from([b"zarr.json", b"a/zarr.json", b"plain/c/0"])
scalars = st.none() | st.booleans() | st.integers(-(1 << 64), (1 << 64) - 1) | st.text() | st.floats(-9, 9)
inner = scalars | st.binary(max_size=40) | st.just(Link(cids.for_block(b"elsewhere")))
records = scalars | st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=5)
blobs = st.binary(max_size=200) | st.integers(200, 1200).map(lambda size: bytes(range(256)) * (size // 256))


@pytest.mark.parametrize(("layout", "encoding", "sealed"), WAYS, ids=str)
@pytest.mark.parametrize("large", ["unixfs", "raw"])
@given(data=st.data())
@settings(max_examples=20)
def test_what_is_made_reads_back(
    layout: Layout, encoding: Encoding, sealed: bool, large: Literal["unixfs", "raw"], data: st.DataObject
) -> None:
    keyed = {"cipher": CIPHER, "plain": Plain.of(layout, ["plain"])} if sealed else {}
    kit = Kit(layout, encoding, large=large, chunk_bytes=data.draw(st.sampled_from([20, 64, 500])), **keyed)
    what = blobs if kit.values.encoding == "raw" else blobs | records
    wanted = data.draw(st.dictionaries(keys, what, max_size=5))
    for key, value in wanted.items():
        kit.put((key, kit.made(kit.values.make_loaded(key, value))))
    # What an export copies must be enough: the nodes, and the blocks of every value.
    copy = Kit(layout, encoding, **keyed)
    entries = kit.tree.page(kit.root)
    for cid, block in kit.tree.nodes(kit.root):
        copy.store.put(cid, block)
    for entry in entries:
        for cid, block in kit.values.blocks(*entry):
            copy.store.put(cid, block)
    assert copy.tree.page(kit.root) == entries
    found = {key: copy.values.load(key, cid) for key, cid in entries}
    assert {key: dag_cbor.encode(value) for key, value in found.items()} == {
        key: dag_cbor.encode(value) for key, value in wanted.items()
    }
    most = data.draw(st.integers(0, 300))
    texts = [copy.file(cid, key) for key, cid in entries]
    assert list(copy.values.whole(entries, most)) == [text if len(text) <= most else None for text in texts]
    for key, cid in entries:
        text = copy.file(cid, key)
        kind = copy.values.kind(key, cid)
        assert kind == ("blob" if isinstance(wanted[key], bytes) else "record")
        at, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))
        assert copy.values.read(key, cid, at, length) == text[at : at + length]
        again = made(kit.values.make(key, kind, ranges(text), len(text)), MemoryBlocks())
        if copy.values.sealed(key):
            assert again != cid  # another nonce
        else:
            assert again == cid


# --- what is stored -----------------------------------------------------------------------------


def test_py_hamt_3_stores_raw_bytes() -> None:
    kit = Kit(PyHamt3())
    cid = kit.blob(b"some bytes")
    assert cid == cids.for_block(b"some bytes", cids.RAW, cids.BLAKE3)
    assert kit.store.get(cid) == b"some bytes"
    assert kit.values.encoding == "raw"
    assert kit.file(kit.blob(b"")) == b""


def test_byte_strings_are_wrapped() -> None:
    for kit in (Kit(PyHamt2()), Kit(PyHamt3(), "cbor")):
        cid = kit.blob(b"some bytes")
        assert kit.store.get(cid) == dag_cbor.encode(b"some bytes")
        assert cid[:4] == BLAKE3
        assert kit.file(cid) == b"some bytes"
        assert kit.values.encoding == "cbor"
        record = kit.record(b'{"a": [1.0, 2]}')
        assert kit.store.get(record) == dag_cbor.encode({"a": [1.0, 2]})
        assert record[:4] == BLAKE3


def test_the_hash_of_the_root_is_that_of_values() -> None:
    kit = Kit(PyHamt3(), hash_code=cids.SHA2_256, chunk_bytes=10)
    assert kit.blob(b"0123456789") == cids.for_block(b"0123456789", cids.RAW)
    assert cids.hash_of(kit.blob(b"01234567890"))[0] == cids.SHA2_256
    kit = Kit(HashMap(), hash_code=cids.BLAKE3)
    assert kit.record(b'"%s"' % (b"x" * 200))[:4] == bytes((1, cids.DAG_CBOR, cids.BLAKE3, 32))


def test_bare_pointers_name_single_blocks() -> None:
    kit = Kit(PyHamt3(bare=True), chunk_bytes=10)
    data = bytes(5000)
    cid = kit.blob(data)
    assert cid == kit.layout.spelled(cid) == cids.for_block(data, cids.RAW, cids.BLAKE3)
    with pytest.raises(LimitExceeded, match="without a codec"):
        kit.made(kit.values.make(b"key", "blob", ranges(b""), BLOCK_BYTES + 1))


@pytest.mark.parametrize("size", [IDENTITY_DATA_BYTES - 2, IDENTITY_DATA_BYTES - 1, IDENTITY_DATA_BYTES])
def test_small_values_stand_in_the_nodes_of_hash_maps(size: int) -> None:
    kit = Kit(HashMap())
    data = bytes(range(size))
    cid = kit.blob(data)
    block = dag_cbor.encode(data)
    inside = len(block) <= IDENTITY_DATA_BYTES
    assert inside == (size == IDENTITY_DATA_BYTES - 2)
    assert cids.identity_data(cid) == (block if inside else None)
    assert cids.codec_of(cid) == (cids.DAG_CBOR if inside else cids.RAW)
    text = b'"' + b"x" * size + b'"'
    record = kit.record(text)
    assert (cids.identity_data(record) is not None) == inside
    assert cids.codec_of(record) == cids.DAG_CBOR
    before = len(kit.store)
    kit.put((b"blob", cid), (b"record", record))
    assert [kit.file(*entry[::-1]) for entry in kit.tree.page(kit.root)] == [data, text + b"\n"]
    assert len(kit.store) == before + 1
    assert (data in kit.store.get(kit.root)) == inside


def test_a_hash_map_with_a_link_for_a_value() -> None:
    # In the place of a value a link means what it links: as a value of its own it needs a block.
    kit = Kit(HashMap())
    there = Link(cids.for_block(b"elsewhere"))
    text = b'{\n  "/": "%s"\n}\n' % cids.to_text(there.cid).encode()
    for cid in (kit.record(text), kit.made(kit.values.make_loaded(b"key", there))):
        kit.put((b"key", cid))
        ((key, found),) = kit.tree.page(kit.root)
        assert found == cid
        assert kit.values.load(key, found) == there
        assert kit.file(found) == text


def test_what_hash_maps_link_says_what_it_is() -> None:
    kit = Kit(HashMap())
    data = dag_cbor.encode({"a": 1})
    for codec, kind, file in (
        (cids.RAW, "blob", data),
        (cids.DAG_CBOR, "record", b'{\n  "a": 1\n}\n'),
        (0x0129, "blob", data),
    ):
        cid = cids.for_block(data, codec)
        kit.store.put(cid, data)
        assert kit.values.kind(b"key", cid) == kind
        assert kit.file(cid) == file
    block = dag_cbor.encode(b"bytes")
    cid = cids.for_block(block)
    kit.store.put(cid, block)
    assert (kit.values.kind(b"key", cid), kit.file(cid)) == ("blob", b"bytes")


def test_a_codec_that_says_dag_cbor_is_believed() -> None:
    kit = Kit(PyHamt3(), "raw")
    block = dag_cbor.encode([1])
    for codec, kind in ((cids.RAW, "blob"), (cids.DAG_CBOR, "record")):
        cid = cids.for_block(block, codec)
        kit.store.put(cid, block)
        assert kit.values.kind(b"key", cid) == kind
        assert kit.values.load(b"key", cid) == (block if kind == "blob" else [1])


def test_values_inside_their_own_cids() -> None:
    kit = Kit(PyHamt3())
    cid = cids.for_block(b"abc", cids.RAW, cids.IDENTITY)
    kit.put((b"key", cid))
    assert kit.tree.page(kit.root) == [Entry(b"key", cid)]
    assert kit.file(cid) == kit.values.stored(cid) == b"abc"
    assert list(kit.values.blocks(b"key", cid)) == []


def test_a_value_both_inside_a_node_and_linked() -> None:
    kit = Kit(HashMap())
    block = dag_cbor.encode(["x" * 200])
    cid = cids.for_block(block)
    slots = [b"", [[b"a", ["x" * 200]], [b"b", Link(cid)]]]
    digit = bytes([1] + [0] * 31)
    root_block = dag_cbor.encode({"hashAlg": 0x12, "bucketSize": 3, "hamt": [digit, [slots[1]]]})
    root = cids.for_block(root_block)
    kit.store.put(root, root_block)
    assert kit.tree.page(root) == [Entry(b"a", cid), Entry(b"b", cid)]
    assert kit.tree.values.length(cid) == len(block)
    assert kit.values.load(b"a", cid) == ["x" * 200]
    assert list(kit.values.blocks(b"a", cid)) == []
    kit.store.put(cid, block)
    assert list(kit.values.blocks(b"b", cid)) == [(cid, block)]


# --- what is refused ----------------------------------------------------------------------------


def test_records_where_values_are_raw() -> None:
    kit = Kit(PyHamt3(), "raw", new_files="record")
    assert kit.values.new_kind(b"key") == "blob"
    assert Kit(PyHamt3(), "cbor", new_files="record").values.new_kind(b"key") == "record"
    with pytest.raises(Refused, match="'key' cannot be a record"):
        kit.record(b"{}")
    with pytest.raises(Refused, match="'key' cannot be a record"):
        kit.made(kit.values.make_loaded(b"key", {}))
    assert kit.values.load(b"key", kit.made(kit.values.make_loaded(b"key", bytearray(b"x")))) == b"x"


@pytest.mark.parametrize("form", ["json", "cbor"])
def test_texts_that_are_no_records(form: Literal["json", "cbor"]) -> None:
    kit = Kit(PyHamt2(), form=form)
    wrong = [b"", b"{", b"\xff"] if form == "json" else [b"", b"{", b"\x18\x01", b"\x01\x01"]
    for text in wrong:
        with pytest.raises(RecordError):
            kit.record(text)
    with pytest.raises(RecordError, match="a byte string is no record"):
        kit.record(b'{"/": {"bytes": ""}}' if form == "json" else dag_cbor.encode(b""))
    with pytest.raises(RecordError, match="at most"):
        kit.made(kit.values.make(b"key", "record", ranges(b""), RECORD_BYTES + 1))
    text = b"1" if form == "json" else b"\x01"
    assert kit.values.load(b"key", kit.record(text)) == 1


def test_values_that_have_no_block() -> None:
    kit = Kit(PyHamt2())
    endless: list[Any] = []
    endless.append(endless)
    for value in (
        endless,
        (1,),
        {1: 2},
        {"a": float("nan")},
        1 << 64,
        "\ud800",
        object(),
        ["x" * RECORD_BYTES],
    ):
        with pytest.raises(RecordError):
            kit.made(kit.values.make_loaded(b"key", value))


def test_what_no_hamt_holds() -> None:
    with pytest.raises(Refused, match="symbolic links"):
        made(Kit(PyHamt3()).values.make(b"key", "symlink", ranges(b"x"), 1), MemoryBlocks())
    for layout in (PyHamt2(), HashMap(), Filecoin()):
        with pytest.raises(Refused, match="never just raw bytes"):
            Kit(layout, "raw")
    for layout in (HashMap(), Filecoin()):
        with pytest.raises(Refused, match="only those of py-hamt"):
            Kit(layout, cipher=CIPHER)
    for chunk in (0, -1, BLOCK_BYTES + 1):
        with pytest.raises(Refused, match="chunks"):
            Kit(PyHamt3(), chunk_bytes=chunk)


def test_a_file_that_becomes_shorter() -> None:
    for kit in (Kit(PyHamt2()), Kit(PyHamt3(), chunk_bytes=2), Kit(HashMap()), Kit(PyHamt3(), cipher=CIPHER)):
        with pytest.raises(Refused, match="shorter"):
            kit.made(kit.values.make(b"key", "blob", ranges(b"1234"), 5))


BAD_CBOR = [
    b"",
    b"\xff",
    b"{}",
    b"\x01\x01",
    b"\x58\x01x",
    b"\x42x",
    b"\x40x",
    b"\x5f\xff",
    b"\x58",
    b"\xa1\x61a",
]


@pytest.mark.parametrize("block", BAD_CBOR)
def test_values_that_are_no_dag_cbor(block: bytes) -> None:
    for layout, hint in ((PyHamt2(), True), (PyHamt3(), True), (HashMap(), False)):
        kit = Kit(layout, "cbor")
        cid = cids.for_block(block, cids.DAG_CBOR if layout == HashMap() else cids.RAW)
        kit.store.put(cid, block)
        good = kit.record(b"1", b"other")
        for action in (
            kit.values.size,
            kit.values.load,
            lambda key, cid, kit=kit: kit.values.read(key, cid, 0, 1),
        ):
            with pytest.raises(FormatError) as caught:
                action("naïve\n/c".encode(), cid)
            text = str(caught.value)
            assert text.startswith(f"the value of 'na\\xefve\\n/c', {cids.to_text(cid)}: not DAG-CBOR: ")
            assert ("encrypted?" in text) == hint
        assert kit.values.kind(b"key", cid) in ("record", "blob")
        assert kit.file(good, b"other") == b"1\n"


def test_records_that_are_too_large() -> None:
    kit = Kit(PyHamt2())
    block = dag_cbor.encode(["x" * RECORD_BYTES])
    cid = cids.for_block(block, cids.RAW, cids.BLAKE3)
    kit.store.put(cid, block)
    for action in (kit.values.size, kit.values.load):
        with pytest.raises(LimitExceeded, match=r"^the value of 'key', .* larger than"):
            action(b"key", cid)
    assert kit.values.kind(b"key", cid) == "record"


def test_missing_blocks() -> None:
    for kit in (Kit(PyHamt2()), Kit(PyHamt3()), Kit(HashMap())):
        for codec in (cids.RAW, cids.DAG_PB, cids.DAG_CBOR):
            cid = cids.for_block(b"nowhere", codec)
            for action in (
                kit.values.size,
                kit.values.load,
                lambda key, cid, kit=kit: list(kit.values.blocks(key, cid)),
            ):
                with pytest.raises((MissingBlock, MissingBlocks)):
                    action(b"key", cid)
