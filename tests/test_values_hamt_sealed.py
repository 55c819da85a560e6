"""Encrypted values of HAMTs: what is sealed and what is not, damage, and limits."""

import io
from collections.abc import Iterator

import pytest
from hamt_values import CIPHER, KEY, LAYOUTS, Kit, made, ranges

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.errors import (
    DecryptionError,
    FormatError,
    LimitExceeded,
)
from mstfs.limits import SEALED_BYTES
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.unixfs.builder import build_file
from mstfs.values.cipher import OVERHEAD, Cipher, Plain


def sealed_kits() -> Iterator[Kit]:
    for layout, encoding in LAYOUTS:
        if not isinstance(layout, HashMap):
            yield Kit(layout, encoding, cipher=CIPHER, plain=Plain(["plain"]))


def test_what_is_stored_is_sealed() -> None:
    for kit in sealed_kits():
        stored = kit.store.get(kit.blob(b"some bytes"))
        opened = CIPHER.decrypt(stored)
        assert opened == (b"some bytes" if kit.values.encoding == "raw" else dag_cbor.encode(b"some bytes"))
        plain = kit.store.get(kit.blob(b"some bytes", b"plain/c/0"))
        assert plain == opened
        if kit.values.encoding == "cbor":
            assert CIPHER.decrypt(kit.store.get(kit.record(b"[1]"))) == dag_cbor.encode([1])


def test_the_same_block_under_two_keys() -> None:
    for kit in sealed_kits():
        cid = kit.blob(b"some bytes")
        assert kit.file(cid, b"other") == b"some bytes"
        assert kit.values.portable(b"key", b"other")
        assert not kit.values.portable(b"key", b"plain/key")
        if kit.values.encoding == "raw":
            assert kit.file(cid, b"plain/key") == kit.store.get(cid)
        else:
            with pytest.raises(FormatError):
                kit.values.size(b"plain/key", cid)
    kit = Kit(PyHamt3())
    assert kit.values.portable(b"key", b"plain/key")


def test_records_of_one_block_under_two_keys() -> None:
    kit = Kit(PyHamt3(), "cbor", cipher=CIPHER, plain=Plain(["plain"]))
    cid = kit.record(b"[1, 2]", b"sealed")
    block = dag_cbor.encode([1, 2])
    other = cids.for_block(block, cids.RAW, cids.BLAKE3)
    kit.store.put(other, block)
    for _ in range(2):
        assert kit.file(cid, b"sealed") == kit.file(other, b"plain/x") == b"[\n  1,\n  2\n]\n"
        with pytest.raises(DecryptionError):
            kit.file(other, b"sealed")
        with pytest.raises(FormatError):
            kit.file(cid, b"plain/x")


def test_damaged_and_foreign_values() -> None:
    for kit in sealed_kits():
        sealed = kit.store.get(kit.blob(b"some bytes"))
        for wrong in (sealed[:-1], sealed[: OVERHEAD + 1], sealed[:39], b"", Cipher(KEY, b"").encrypt(b"x")):
            cid = cids.for_block(wrong, cids.RAW, cids.BLAKE3)
            kit.store.put(cid, wrong)
            for action in (kit.values.load, lambda key, cid, kit=kit: kit.values.read(key, cid, 0, 1)):
                with pytest.raises(DecryptionError, match=r"^the value of 'key', baf.*: "):
                    action(b"key", cid)
            if len(wrong) < OVERHEAD:
                with pytest.raises(DecryptionError, match="too few"):
                    kit.values.size(b"key", cid)


def test_sealed_values_as_unixfs_files() -> None:
    for kit in sealed_kits():
        kit = Kit(kit.layout, kit.values.encoding, cipher=CIPHER, chunk_bytes=100)
        data = bytes(range(256)) * 4
        cid = kit.blob(data)
        assert kit.values.size(b"key", cid) == 1024
        assert kit.values.read(b"key", cid, 700, 50) == data[700:750]
        assert (cids.codec_of(cid) == cids.DAG_PB) == (not getattr(kit.layout, "bare", False))


def test_sealed_values_that_are_too_large() -> None:
    kit = Kit(PyHamt3(), cipher=CIPHER, large="raw")
    with pytest.raises(LimitExceeded, match="too many for an encrypted value"):
        kit.made(kit.values.make(b"key", "blob", ranges(b""), SEALED_BYTES))
    # A file of few blocks that claims more than anybody wants to hold.
    built = made(build_file(io.BytesIO(bytes(SEALED_BYTES + 1)), 32 << 20), kit.store)
    assert kit.values.size(b"key", built.cid) == SEALED_BYTES + 1 - OVERHEAD
    with pytest.raises(LimitExceeded, match="too many for an encrypted value"):
        kit.values.read(b"key", built.cid, 0, 1)


def test_plain_is_by_default_what_py_hamt_leaves_open() -> None:
    kit = Kit(PyHamt2(), cipher=CIPHER)
    assert [kit.values.sealed(key) for key in (b"a/zarr.json", b"a/c/0")] == [False, True]
    assert kit.store.get(kit.blob(b"{}", b"a/zarr.json")) == dag_cbor.encode(b"{}")
    assert Kit(PyHamt3(), cipher=CIPHER).values.sealed(b"zarr.json")
    assert not Kit(PyHamt3()).values.sealed(b"zarr.json")
