"""Large values of HAMTs: the blocks that they become, and how few of them a reader needs."""

import pytest
from hamt_values import CIPHER, Counted, Encoding, Kit, as_kubo, made

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.errors import MissingBlock, MissingBlocks, NodeError
from mstfs.limits import BLOCK_BYTES
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.unixfs.builder import build_directory
from mstfs.values.cipher import OVERHEAD
from mstfs.values.hamt import HamtValues
from mstfs.values.interface import ValueOptions


@pytest.mark.parametrize(
    ("layout", "encoding", "chunk"),
    [(PyHamt2(), "auto", 262144), (PyHamt3(), "raw", 1 << 20), (PyHamt3(), "cbor", 1 << 20)],
)
def test_large_values_are_what_kubo_makes_of_them(layout: Layout, encoding: Encoding, chunk: int) -> None:
    kit = Kit(layout, encoding)
    head = b"" if kit.values.encoding == "raw" else dag_cbor.encode(bytes(chunk))[:-chunk]
    for size in (chunk - len(head), chunk - len(head) + 1, 3 * chunk + 5):
        data = bytes(range(251)) * (size // 251 + 1)
        data = data[:size]
        stored = data if kit.values.encoding == "raw" else dag_cbor.encode(data)
        cid = kit.blob(data)
        assert cid == as_kubo(stored, chunk, MemoryBlocks())
        assert cids.codec_of(cid) == (cids.RAW if len(stored) <= chunk else cids.DAG_PB)
        assert kit.values.size(b"key", cid) == size
        assert kit.values.kind(b"key", cid) == "blob"
        assert kit.file(cid) == data
        again = {part for part, _ in kit.values.blocks(b"key", cid)}
        fresh = MemoryBlocks()
        as_kubo(stored, chunk, fresh)
        assert again == set(fresh.cids())


def test_chunks_that_are_smaller_than_a_head() -> None:
    for chunk_bytes in (1, 2, 3):
        kit = Kit(PyHamt2(), chunk_bytes=chunk_bytes)
        data = bytes(range(250)) * 2
        assert kit.blob(data) == as_kubo(dag_cbor.encode(data), chunk_bytes, MemoryBlocks())


def test_large_values_as_one_block() -> None:
    kit = Kit(PyHamt3(), large="raw")
    data = bytes(3 << 20)
    assert kit.blob(data) == cids.for_block(data, cids.RAW, cids.BLAKE3)
    sizes: list[int] = []

    def zeros(offset: int, length: int) -> bytes:
        sizes.append(length)
        return bytes(length)

    making = kit.values.make(b"key", "blob", zeros, BLOCK_BYTES + 1)
    assert len(next(making)[1]) == 1 << 20
    assert sum(sizes) <= 2 << 20  # what is too long for a block is streamed


def test_large_records_are_files_too() -> None:
    kit = Kit(PyHamt2(), chunk_bytes=100)
    value = {"a": ["x" * 50] * 20}
    cid = kit.made(kit.values.make_loaded(b"key", value))
    assert cids.codec_of(cid) == cids.DAG_PB
    assert kit.values.kind(b"key", cid) == "record"
    assert kit.values.load(b"key", cid) == value
    assert kit.values.size(b"key", cid) == len(kit.file(cid)) > 1000


def test_a_range_reads_what_it_needs() -> None:
    for layout in (PyHamt2(), PyHamt3()):
        kit = Kit(layout, chunk_bytes=1000)
        data = b"".join(number.to_bytes(4, "big") for number in range(25_000))
        cid = kit.blob(data)
        counted = Counted(kit.store)
        values = HamtValues(HamtTree(counted, layout), layout, ValueOptions())
        assert values.size(b"key", cid) == len(data)
        assert len(counted.read) <= 2  # the top, and the first leaf for what the value is
        counted.read.clear()
        assert values.read(b"key", cid, 50_000, 500) == data[50_000:50_500]
        assert len(counted.read) <= 2
        first = kit.blob(data[:1000])
        left = {part for part, _ in kit.values.blocks(b"key", cid)} - set(counted.read) - {cid, first}
        for part in left:
            kit.store.delete(part)
        assert values.read(b"key", cid, 50_000, 500) == data[50_000:50_500]
        with pytest.raises((MissingBlock, MissingBlocks)):
            values.read(b"key", cid, 60_000, 500)


def test_sizes_of_raw_values_read_nothing() -> None:
    kit = Kit(PyHamt3())
    cids_of = [kit.blob(bytes(size)) for size in (0, 10, 100_000)]
    for cipher, less in ((None, 0), (CIPHER, OVERHEAD)):
        counted = Counted(kit.store)
        values = HamtValues(HamtTree(counted, kit.layout), kit.layout, ValueOptions(), cipher)
        assert values.size(b"key", cids_of[2]) == 100_000 - less
        assert values.kind(b"key", cids_of[0]) == "blob"
        assert values.attributes(b"key", cids_of[0]).mode is None
        assert not counted.read


def test_a_large_block_is_read_once() -> None:
    kit = Kit(PyHamt3(), large="raw")
    data = bytes(range(256)) * 8192
    cid = kit.blob(data)
    counted = Counted(kit.store)
    values = HamtValues(HamtTree(counted, kit.layout), kit.layout, ValueOptions())
    parts = [values.read(b"key", cid, at, 65536) for at in range(0, len(data), 65536)]
    assert b"".join(parts) == data
    assert counted.read == [cid]


def test_texts_are_kept_as_far_as_memory_goes() -> None:
    kit = Kit(PyHamt3(), "cbor")
    found = [kit.record(b'"%d%s"' % (number, b"x" * 100)) for number in range(10)]
    for limit, reads in ((1 << 20, 0), (250, 10)):
        counted = Counted(kit.store)
        options = ValueOptions(encoding="cbor", cache_bytes=limit)
        values = HamtValues(HamtTree(counted, kit.layout), kit.layout, options)
        for cid in found:
            assert values.size(b"key", cid) == 104
            assert len(values.read(b"key", cid, 0, 200)) == 104
        counted.read.clear()
        for cid in found:
            assert values.size(b"key", cid) == 104
            assert len(values.read(b"key", cid, 0, 200)) == 104
        assert len(counted.read) == reads


def test_links_to_what_is_no_file() -> None:
    kit = Kit(HashMap())
    built = made(build_directory([]), kit.store)
    assert kit.values.kind(b"key", built.cid) == "blob"
    for action in (kit.values.size, lambda key, cid: kit.values.read(key, cid, 0, 10)):
        with pytest.raises(NodeError, match="is no file"):
            action(b"key", built.cid)
