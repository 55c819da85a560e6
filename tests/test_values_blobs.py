"""The values of sharded Zarr stores: blobs in blocks and in UnixFS files, whole and in ranges."""

import random

import pytest
from naive_sharded import Array, Writer
from test_tree_sharded_tree import Counting, as_file

from mstfs.codec import cid as cids
from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, NodeError, ReadOnly
from mstfs.tree.sharded.tree import ShardedTree
from mstfs.tree.unixfs.tree import EMPTY_BLOCK
from mstfs.values import blobs
from mstfs.values.blobs import BlobValues
from mstfs.values.interface import NO_ATTRIBUTES, ValueOptions

KEY = b"t/c/0"
DATA = random.Random(1).randbytes(5000)


def values_of(writer: Writer) -> tuple[BlobValues, Counting]:
    blocks = Counting(writer.blocks)
    return BlobValues(ShardedTree(blocks), ValueOptions()), blocks


def test_the_values_of_a_store() -> None:
    writer = Writer()
    plain, split = writer.put(DATA), as_file(writer, DATA)
    assert cids.codec_of(split) == cids.DAG_PB
    root = writer.v2({"t": Array((2,), (1,), {(0,): plain, (1,): split})})
    values, blocks = values_of(writer)
    for number in (0, 1):
        cid = values.tree.get(root, b"t/c/%d" % number)
        assert cid is not None
        assert (values.kind(KEY, cid), values.new_kind(KEY), values.portable(KEY, b"x")) == (
            "blob",
            "blob",
            True,
        )
        assert values.attributes(KEY, cid) == NO_ATTRIBUTES
        assert values.size(KEY, cid) == 5000
        assert values.load(KEY, cid) == DATA
        for offset, length in ((0, 10), (1500, 2000), (4990, 100), (5000, 1), (9000, 1), (3, 0)):
            assert values.read(KEY, cid, offset, length) == DATA[offset : offset + length]
        assert values.stored(cid) == writer.blocks.get(cid)
        found = list(values.blocks(KEY, cid))
        assert found[0] == (cid, writer.blocks.get(cid))
        assert len(found) == 1 + 5 * number
    values, blocks = values_of(writer)
    assert values.size(KEY, plain) == 5000
    assert blocks.read == []
    assert values.read(KEY, split, 2500, 10) == DATA[2500:2510]
    assert len(blocks.read) == 2


def test_an_identity_cid_has_no_block() -> None:
    values, _ = values_of(Writer())
    cid = cids.for_block(b"inside", cids.RAW, cids.IDENTITY)
    assert (values.size(KEY, cid), values.load(KEY, cid)) == (6, b"inside")
    assert list(values.blocks(KEY, cid)) == []


def test_what_cannot_be_read() -> None:
    writer = Writer()
    plain, split = writer.put(DATA), as_file(writer, DATA)
    folder = writer.put(EMPTY_BLOCK, cids.DAG_PB)
    values, _ = values_of(writer)
    leaf = next(cid for cid, _ in values.blocks(KEY, split) if cids.codec_of(cid) == cids.RAW)
    writer.blocks.delete(leaf)
    writer.blocks.delete(plain)
    assert values.size(KEY, split) == 5000
    with pytest.raises(MissingBlocks):
        values.load(KEY, split)
    with pytest.raises(MissingBlock):
        values.size(KEY, plain)
    with pytest.raises(MissingBlock):
        values.load(KEY, plain)
    with pytest.raises(NodeError):
        values.size(KEY, folder)


def test_a_value_too_large_to_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "LOADED_BYTES", 4999)
    writer = Writer()
    values, _ = values_of(writer)
    with pytest.raises(LimitExceeded):
        values.load(KEY, writer.put(DATA))


def test_nothing_can_be_written() -> None:
    values, _ = values_of(Writer())
    with pytest.raises(ReadOnly):
        values.make(KEY, "blob", lambda offset, length: b"", 0)
    with pytest.raises(ReadOnly):
        values.make_loaded(KEY, b"")
