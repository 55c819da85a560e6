"""Which layer answers, and what is told when none does."""

from collections.abc import Callable, Mapping

import pytest
from contracts.block_store import TEXT, BlockReaderContract, BlockStoreContract, ReaderOf

from mstfs.blocks.interface import BlockReader, BlockStore
from mstfs.blocks.memory import MemoryBlocks
from mstfs.blocks.overlay import OverlayBlocks
from mstfs.codec import cid as cids
from mstfs.errors import (
    BlockError,
    ConflictingBlock,
    CorruptBlock,
    MissingBlock,
    MstfsError,
    ReadOnly,
    UnreachableBlock,
)

CID = cids.for_block(TEXT)


class Unreachable(MemoryBlocks):
    """A store whose disk does not answer."""

    def get(self, cid: bytes) -> bytes:
        raise UnreachableBlock(cid, "no answer")


class Counting(MemoryBlocks):
    """Counts the blocks that it is asked for."""

    asked = 0

    def get(self, cid: bytes) -> bytes:
        self.asked += 1
        return super().get(cid)


def damaged() -> MemoryBlocks:
    store = MemoryBlocks()
    store.plant(CID, b"damage")
    return store


def sound() -> MemoryBlocks:
    return MemoryBlocks([(CID, TEXT)])


class TestOverlayContract(BlockStoreContract):
    @pytest.fixture
    def store(self) -> BlockStore:
        return OverlayBlocks(MemoryBlocks(), [MemoryBlocks(), MemoryBlocks()])

    @pytest.fixture
    def corrupt_reader_of(self) -> ReaderOf:
        return planted_below


class TestReadOnlyOverlayContract(BlockReaderContract):
    @pytest.fixture
    def reader_of(self) -> ReaderOf:
        return lambda blocks: OverlayBlocks(None, [MemoryBlocks(), MemoryBlocks(blocks.items())])

    @pytest.fixture
    def corrupt_reader_of(self) -> ReaderOf:
        return planted_below


def planted_below(blocks: Mapping[bytes, bytes]) -> BlockReader:
    lower = MemoryBlocks()
    for cid, data in blocks.items():
        lower.plant(cid, data)
    return OverlayBlocks(MemoryBlocks(), [MemoryBlocks(), lower])


def test_the_first_layer_that_holds_a_block_answers() -> None:
    upper, first, second = Counting([(CID, TEXT)]), Counting([(CID, TEXT)]), Counting([(CID, TEXT)])
    overlay = OverlayBlocks(upper, [first, second])
    assert overlay.get(CID) == TEXT
    assert (upper.asked, first.asked, second.asked) == (1, 0, 0)
    upper.delete(CID)
    assert overlay.get(CID) == TEXT
    assert (upper.asked, first.asked, second.asked) == (1, 1, 0)


@pytest.mark.parametrize("bad", [damaged, Unreachable])
def test_a_bad_copy_is_passed_over_for_a_sound_one(bad: type[MemoryBlocks]) -> None:
    bad_upper = bad()
    if bad is Unreachable:
        bad_upper.put(CID, TEXT)
    assert OverlayBlocks(bad_upper, [sound()]).get(CID) == TEXT
    assert OverlayBlocks(MemoryBlocks(), [bad(), MemoryBlocks(), sound()]).get(CID) == TEXT


@pytest.mark.parametrize(
    ("upper", "lowers", "kind"),
    [
        (None, [], MissingBlock),
        (MemoryBlocks(), [], MissingBlock),
        (MemoryBlocks(), [MemoryBlocks()], MissingBlock),
        (damaged(), [MemoryBlocks()], CorruptBlock),
        (damaged(), [Unreachable(), MemoryBlocks()], CorruptBlock),
        (None, [Unreachable(), damaged()], CorruptBlock),
        (None, [damaged(), Unreachable()], CorruptBlock),
        (None, [Unreachable(), MemoryBlocks()], UnreachableBlock),
        (None, [MemoryBlocks(), Unreachable()], UnreachableBlock),
    ],
)
def test_the_worst_that_a_layer_said_is_told(
    upper: BlockStore | None, lowers: list[BlockReader], kind: type[BlockError]
) -> None:
    with pytest.raises(BlockError) as caught:
        OverlayBlocks(upper, lowers).get(CID)
    assert type(caught.value) is kind
    assert caught.value.cid == CID


def test_lengths_are_looked_for_where_blocks_are() -> None:
    class Deaf(MemoryBlocks):
        def length(self, cid: bytes) -> int:
            raise UnreachableBlock(cid, "no answer")

    deaf = Deaf([(CID, TEXT)])
    assert OverlayBlocks(sound(), [Deaf()]).length(CID) == len(TEXT)
    assert OverlayBlocks(deaf, [MemoryBlocks(), sound()]).length(CID) == len(TEXT)
    assert OverlayBlocks(None, [deaf, sound()]).length(CID) == len(TEXT)
    with pytest.raises(UnreachableBlock):
        OverlayBlocks(None, [deaf, MemoryBlocks()]).length(CID)
    with pytest.raises(MissingBlock):
        OverlayBlocks(None, []).length(CID)


def test_writes_reach_the_upper_layer_only() -> None:
    upper, lower = MemoryBlocks(), sound()
    overlay = OverlayBlocks(upper, [lower])
    overlay.put(CID, TEXT)
    overlay.put_many([(cids.for_block(b"b"), b"b")])
    assert (len(upper), len(lower)) == (2, 1)
    overlay.delete(CID)
    assert (len(upper), len(lower)) == (1, 1)
    assert overlay.get(CID) == TEXT


def test_without_an_upper_layer_nothing_is_written() -> None:
    overlay = OverlayBlocks(None, [sound()])
    writes: list[Callable[[], None]] = [
        lambda: overlay.put(CID, TEXT),
        lambda: overlay.put_many([(CID, TEXT)]),
        lambda: overlay.delete(CID),
    ]
    for write in writes:
        with pytest.raises(ReadOnly) as caught:
            write()
        assert isinstance(caught.value, MstfsError)
    assert overlay.get(CID) == TEXT


def test_bytes_that_conflict_with_a_lower_layer_are_a_conflict() -> None:
    overlay = OverlayBlocks(MemoryBlocks(), [sound()])
    with pytest.raises(ConflictingBlock):
        overlay.put(CID, b"other")
    with pytest.raises(ConflictingBlock):
        overlay.put_many([(CID, b"other")])


def test_may_hold_speaks_for_all_layers() -> None:
    assert not OverlayBlocks(MemoryBlocks(), []).may_hold(CID)
    assert not OverlayBlocks(None, []).may_hold(CID)
    assert OverlayBlocks(None, [sound()]).may_hold(CID)
    assert OverlayBlocks(sound(), []).may_hold(CID)
