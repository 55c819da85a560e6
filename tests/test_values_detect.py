"""Finding out how values are encoded, and whether a key fits, from a few values of a tree."""

import os
import random
from typing import Any

import pytest
from hamt_values import CIPHER, KEY, Counted, Encoding, Kit

from mstfs.codec import cid as cids
from mstfs.errors import DecryptionError, MissingBlock, Refused
from mstfs.limits import RECORD_BYTES
from mstfs.tree.hamt.filecoin import Filecoin
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.tree import HamtTree
from mstfs.values.cipher import Cipher, Plain
from mstfs.values.detect import SAMPLE_VALUES, check_key_fits, detect

NOTHING = Plain()


def grown(
    values: dict[bytes, Any], layout: Layout | None = None, encoding: Encoding = "raw", **more: Any
) -> Kit:
    kit = Kit(layout or PyHamt3(), encoding, **more)
    kit.put(*[(key, kit.made(kit.values.make_loaded(key, value))) for key, value in values.items()])
    return kit


def found(kit: Kit, **more: Any) -> str:
    return detect(kit.tree, kit.root, kit.layout, **more)


# --- encodings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "encoding"),
    [
        ({}, "raw"),
        ({b"a": b""}, "raw"),
        ({b"a": b"text"}, "raw"),
        ({b"a": b"\x01"}, "cbor"),  # it may be both
        ({b"a": b"\x01", b"b": b"\x01\x01"}, "raw"),
        ({b"a": b"\x43abc", b"b": b"\x43abcd"}, "raw"),
        ({b"zarr.json": b"{}", b"a": b"\x01"}, "raw"),
        ({b"a": b"\x59\xff\xff" + bytes(65535)}, "cbor"),
        ({b"a": b"\x59\xff\xff" + bytes(65536)}, "raw"),
    ],
)
def test_raw_values(values: dict[bytes, Any], encoding: str) -> None:
    assert found(grown(values)) == encoding


@pytest.mark.parametrize("chunk_bytes", [None, 1000])
def test_values_in_dag_cbor(chunk_bytes: int | None) -> None:
    values = {
        b"a": bytes(50_000),
        b"b": b"",
        b"c": None,
        b"d": {"a": [1.5]},
        b"e": "x" * 5000,
        b"zarr.json": b"{}",
    }
    assert found(grown(values, encoding="cbor", chunk_bytes=chunk_bytes)) == "cbor"
    assert found(grown(values, PyHamt3(bare=True), "cbor", chunk_bytes=chunk_bytes)) == "cbor"


def test_large_raw_values() -> None:
    assert found(grown({b"a": bytes(5000)}, chunk_bytes=1000)) == "raw"
    # Too large for a record, and no byte string: it says nothing.
    assert found(grown({b"a": b"\x80" * (RECORD_BYTES + 1), b"b": b"\x01"})) == "cbor"
    assert found(grown({b"a": b"\x80" * (RECORD_BYTES + 1)})) == "raw"


def test_layouts_that_leave_no_doubt() -> None:
    for layout in (PyHamt2(), HashMap(), Filecoin()):
        assert detect(Kit(PyHamt3()).tree, b"", layout) == "cbor"


def test_few_values_are_read() -> None:
    source = random.Random(5)
    kit = grown({b"key/%d" % number: source.randbytes(50) + b"\0" for number in range(3000)})
    wrapped = grown({b"key/%d" % number: source.randbytes(50) for number in range(3000)}, encoding="cbor")
    for tree, answer in ((kit, "raw"), (wrapped, "cbor")):
        counted = Counted(tree.store)
        for _ in range(2):
            counted.read.clear()
            fresh = HamtTree(counted, tree.layout)
            assert detect(fresh, tree.root, tree.layout) == answer
            values = {cid for _, cid in tree.tree.page(tree.root)}
            read = [cid for cid in counted.read if cid in values]
            assert 0 < len(set(read)) <= SAMPLE_VALUES
            assert len(counted.read) < 300
            assert len(fresh.sample(tree.root, 10)) == 10
            assert fresh.sample(tree.root, 10) == tree.tree.sample(tree.root, 500)[:10]


def test_metadata_tells_however_large_the_store_is() -> None:
    kit = grown({b"%d" % number: b"\x01" for number in range(2000)} | {b"zarr.json": b"{}"})
    assert found(kit) == "raw"


def test_what_is_missing_does_not_count() -> None:
    kit = grown({b"a": b"text", b"b": b"\x01"})
    (_, text), _ = kit.tree.page(kit.root)
    kit.store.delete(text)
    assert found(kit) == "cbor"
    kit = grown({b"%d" % number: b"\x01" for number in range(2000)})
    entries = set(kit.tree.page(kit.root))
    (child, *others) = [cid for cid, _ in kit.tree.nodes(kit.root) if cid != kit.root]
    kit.store.delete(child)
    fresh = HamtTree(kit.store, kit.layout)
    assert detect(fresh, kit.root, kit.layout) == "cbor"
    assert fresh.sample(kit.root, 10)
    for cid in others:
        kit.store.delete(cid)
    left = HamtTree(kit.store, kit.layout).sample(kit.root, 500)
    assert set(left) < entries
    kit.store.delete(kit.root)
    with pytest.raises(MissingBlock):
        detect(HamtTree(kit.store, kit.layout), kit.root, kit.layout)


def test_values_that_are_sealed() -> None:
    values = {b"zarr.json": b"{}", b"a": b"text"}
    for encoding in ("raw", "cbor"):
        kit = grown(values, encoding=encoding, cipher=CIPHER)
        assert found(kit, cipher=CIPHER) == encoding
        assert found(kit, cipher=Cipher(KEY, b"")) == "raw"
        assert found(kit) == "raw"


# --- keys ---------------------------------------------------------------------------------------

ZARR = {b"zarr.json": b"{}", b"a/zarr.json": b'{"a": 1}', b"a/c/0": bytes(500), b"b/c/0": b"\x01\x02" * 90}


@pytest.mark.parametrize(
    ("layout", "encoding"), [(PyHamt2(), "cbor"), (PyHamt3(), "raw"), (PyHamt3(), "cbor")], ids=str
)
def test_keys_that_fit_and_others(layout: Layout, encoding: Encoding) -> None:
    kit = grown(ZARR, layout, encoding, cipher=CIPHER)
    plain = Plain.of(layout)
    check_key_fits(kit.tree, kit.root, CIPHER, plain)
    check_key_fits(kit.tree, kit.root, CIPHER, NOTHING)  # what is said to be sealed and is not shows later
    for other in (Cipher(KEY, b"other"), Cipher(bytes(32), b"header")):
        with pytest.raises(
            DecryptionError, match=r"the encryption key or the header does not fit: all [24] values"
        ):
            check_key_fits(kit.tree, kit.root, other, plain)


@pytest.mark.parametrize(
    ("layout", "encoding"), [(PyHamt2(), "cbor"), (PyHamt3(), "raw"), (PyHamt3(), "cbor")], ids=str
)
def test_what_was_never_encrypted(layout: Layout, encoding: Encoding) -> None:
    kit = grown(ZARR, layout, encoding)
    with pytest.raises(Refused, match="do not seem to be encrypted"):
        check_key_fits(kit.tree, kit.root, CIPHER, Plain.of(layout))


def test_sealed_metadata_may_begin_like_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda count: b"{" * count)
    kit = grown({b"zarr.json": b"{}", b"value": b"1" * 100}, cipher=CIPHER, plain=NOTHING)
    check_key_fits(kit.tree, kit.root, CIPHER, NOTHING)
    with pytest.raises(DecryptionError, match="all 2 values"):
        check_key_fits(kit.tree, kit.root, Cipher(KEY, b""), NOTHING)


def test_a_wrong_key_beside_values_that_are_plain() -> None:
    kit = grown(ZARR, PyHamt2(), "cbor", cipher=CIPHER, plain=Plain(["b"], metadata=True))
    with pytest.raises(DecryptionError, match=r"all 2 values .* [(]1 of them look as if they had never been"):
        check_key_fits(kit.tree, kit.root, Cipher(KEY, b""), Plain.of(PyHamt2()))


def test_trying_ends() -> None:
    source = random.Random(7)
    kit = grown({b"%d" % number: source.randbytes(100) for number in range(300)})
    with pytest.raises(DecryptionError, match=f"all {SAMPLE_VALUES} values"):
        check_key_fits(kit.tree, kit.root, CIPHER, NOTHING)


def test_where_there_is_nothing_to_try() -> None:
    for values in ({}, {b"plain/c/0": b"text"}):
        kit = grown(values)
        check_key_fits(kit.tree, kit.root, CIPHER, Plain(["plain"]))
    kit = grown({b"a": b"text"}, cipher=CIPHER)
    for _, cid in kit.tree.page(kit.root):
        kit.store.delete(cid)
    check_key_fits(kit.tree, kit.root, CIPHER, NOTHING)


def test_one_value_is_enough() -> None:
    kit = grown({b"a": b"text"}, cipher=CIPHER)
    check_key_fits(kit.tree, kit.root, CIPHER, NOTHING)
    with pytest.raises(DecryptionError, match="the value that was tried"):
        check_key_fits(kit.tree, kit.root, Cipher(KEY, b""), NOTHING)


def test_a_key_for_a_part_of_the_values() -> None:
    kit = grown({b"a/%d" % number: b"x" * 100 for number in range(200)}, cipher=CIPHER, plain=Plain(["a"]))
    kit.put((b"b", kit.blob(b"secret", b"b")))
    plain = Plain(["a"])
    check_key_fits(kit.tree, kit.root, CIPHER, plain)
    with pytest.raises(DecryptionError):
        check_key_fits(kit.tree, kit.root, Cipher(KEY, b""), plain)


def test_a_large_value_is_not_opened() -> None:
    kit = Kit(PyHamt3(), cipher=CIPHER)
    counted = Counted(kit.store)
    cid = cids.for_block(b"nothing", cids.RAW, cids.BLAKE3)
    kit.put((b"a", cid))
    counted.length = lambda cid: 1 << 40  # type: ignore[method-assign]
    check_key_fits(HamtTree(counted, kit.layout), kit.root, CIPHER, NOTHING)
    assert cid not in counted.read
