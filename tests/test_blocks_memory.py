"""The strict fake keeps the contract, and can be damaged on purpose."""

from collections.abc import Mapping

import pytest
from contracts.block_store import IDENTITY, SAMPLE, TEXT, BlockStoreContract, ReaderOf

from mstfs.blocks.interface import BlockReader, BlockStore
from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.errors import CorruptBlock


class TestMemoryContract(BlockStoreContract):
    @pytest.fixture
    def store(self) -> BlockStore:
        return MemoryBlocks()

    @pytest.fixture
    def corrupt_reader_of(self) -> ReaderOf:
        def planted(blocks: Mapping[bytes, bytes]) -> BlockReader:
            store = MemoryBlocks()
            for cid, data in blocks.items():
                store.plant(cid, data)
            return store

        return planted


def test_counts_and_names_its_blocks() -> None:
    store = MemoryBlocks([*SAMPLE.items(), (IDENTITY, b"in the CID")])
    assert list(store.cids()) == list(SAMPLE)
    assert len(store) == len(SAMPLE)


def test_a_put_mends_a_planted_block() -> None:
    cid = cids.for_block(TEXT)
    store = MemoryBlocks()
    store.plant(cid, b"damage")
    with pytest.raises(CorruptBlock):
        store.get(cid)
    store.put(cid, TEXT)
    assert store.get(cid) == TEXT
