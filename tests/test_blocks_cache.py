"""The cache answers what the reader answers, and keeps its size."""

import threading
from collections.abc import Mapping

import pytest
from contracts.block_store import BlockReaderContract, ReaderOf

from mstfs.blocks.cache import ENTRY_BYTES, BlockCache
from mstfs.blocks.interface import BlockReader
from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.errors import MissingBlock

BLOCKS = {cids.for_block(b"%03d" % number * 100): b"%03d" % number * 100 for number in range(100)}
ROOM_FOR_TEN = 10 * (300 + ENTRY_BYTES)


class TestCacheContract(BlockReaderContract):
    @pytest.fixture
    def reader_of(self) -> ReaderOf:
        return lambda blocks: BlockCache(MemoryBlocks(blocks.items()), 10_000)

    @pytest.fixture
    def corrupt_reader_of(self) -> ReaderOf:
        def planted(blocks: Mapping[bytes, bytes]) -> BlockReader:
            store = MemoryBlocks()
            for cid, data in blocks.items():
                store.plant(cid, data)
            return BlockCache(store, 10_000)

        return planted


class Log(MemoryBlocks):
    """Notes which blocks it is asked for."""

    def __init__(self, blocks: Mapping[bytes, bytes]) -> None:
        super().__init__(blocks.items())
        self.asked: list[bytes] = []

    def get(self, cid: bytes) -> bytes:
        self.asked.append(cid)
        return super().get(cid)


def test_a_kept_block_is_not_read_again() -> None:
    reader = Log(BLOCKS)
    cache = BlockCache(reader, ROOM_FOR_TEN)
    wanted = list(BLOCKS)[:10]
    for cid in wanted * 3:
        assert cache.get(cid) == BLOCKS[cid]
    assert reader.asked == wanted
    assert cache.used == ROOM_FOR_TEN


def test_the_block_read_longest_ago_goes_first() -> None:
    reader = Log(BLOCKS)
    cache = BlockCache(reader, ROOM_FOR_TEN)
    names = list(BLOCKS)
    for cid in names[:10]:
        cache.get(cid)
    cache.get(names[0])
    cache.get(names[10])
    assert cache.used == ROOM_FOR_TEN
    reader.asked.clear()
    for cid in (*names[2:11], names[0]):
        cache.get(cid)
    assert reader.asked == []
    cache.get(names[1])
    assert reader.asked == [names[1]]


def test_one_big_block_does_not_push_out_the_others() -> None:
    big = bytes(ROOM_FOR_TEN // 2)
    reader = Log({**BLOCKS, cids.for_block(big): big})
    cache = BlockCache(reader, ROOM_FOR_TEN)
    small = next(iter(BLOCKS))
    cache.get(small)
    used = cache.used
    assert cache.get(cids.for_block(big)) == big
    assert cache.used == used
    assert cache.get(small) == BLOCKS[small]
    assert reader.asked == [small, cids.for_block(big)]


def test_empty_blocks_are_kept_and_counted() -> None:
    empty = cids.for_block(b"")
    reader = Log({empty: b""})
    cache = BlockCache(reader, ROOM_FOR_TEN)
    assert [cache.get(empty), cache.get(empty)] == [b"", b""]
    assert reader.asked == [empty]
    assert cache.used == ENTRY_BYTES


def test_what_was_missing_is_asked_for_again() -> None:
    reader = MemoryBlocks()
    cache = BlockCache(reader, ROOM_FOR_TEN)
    cid, data = next(iter(BLOCKS.items()))
    with pytest.raises(MissingBlock):
        cache.get(cid)
    assert not cache.has(cid)
    reader.put(cid, data)
    assert cache.get(cid) == data
    reader.delete(cid)
    assert cache.has(cid)
    cache.clear()
    assert cache.used == 0
    assert not cache.has(cid)


def test_a_block_read_twice_side_by_side_is_counted_once() -> None:
    class Racing(MemoryBlocks):
        """Another reader asks for the same block before the first has its answer."""

        inside = False

        def get(self, cid: bytes) -> bytes:
            if not self.inside:
                self.inside = True
                cache.get(cid)
            return super().get(cid)

    cache = BlockCache(Racing(BLOCKS.items()), ROOM_FOR_TEN)
    cache.get(next(iter(BLOCKS)))
    assert cache.used == 300 + ENTRY_BYTES


def test_threads_share_it_without_losing_count() -> None:
    cache = BlockCache(MemoryBlocks(BLOCKS.items()), ROOM_FOR_TEN)
    wrong: list[bytes] = []

    def read(step: int) -> None:
        names = list(BLOCKS)
        wrong.extend(
            cid for n in range(4000) if cache.get(cid := names[n * step % len(names)]) != BLOCKS[cid]
        )

    threads = [threading.Thread(target=read, args=(step,)) for step in (1, 3, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.used == ROOM_FOR_TEN
