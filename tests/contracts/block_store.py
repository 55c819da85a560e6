"""What every block reader and every block store must do (mstfs.blocks.interface)."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from mstfs import limits
from mstfs.blocks.interface import BlockReader, BlockStore
from mstfs.codec import cid as cids
from mstfs.errors import CidError, ConflictingBlock, CorruptBlock, LimitExceeded, MissingBlock

ReaderOf = Callable[[Mapping[bytes, bytes]], BlockReader]

TEXT = b"a block like any other"
SAMPLE = {
    cids.for_block(TEXT): TEXT,
    cids.for_block(b""): b"",
    cids.for_block(b"raw", cids.RAW): b"raw",
    cids.for_block(b"three", cids.DAG_CBOR, cids.BLAKE3): b"three",
    cids.for_block(b"five", cids.RAW, cids.SHA2_512): b"five",
    cids.for_block(b"old", cids.DAG_PB)[2:]: b"old",  # a CID of version 0
    cids.for_block(bytes(300_000)): bytes(300_000),
    **{cids.for_block(b"%d" % number): b"%d" % number for number in range(200)},
}
ABSENT = cids.for_block(b"nobody holds this")
IDENTITY = cids.for_block(b"in the CID", cids.RAW, cids.IDENTITY)


class BlockReaderContract:
    """Derived classes give `reader_of`: makes a reader that holds exactly these CID -> bytes pairs."""

    @pytest.fixture
    def reader_of(self) -> ReaderOf:
        raise NotImplementedError

    @pytest.fixture
    def corrupt_reader_of(self, reader_of: ReaderOf) -> ReaderOf:
        """Like `reader_of`, for pairs that do not match. Override it where `reader_of` refuses them."""
        return reader_of

    def test_every_block_is_read_back(self, reader_of: ReaderOf) -> None:
        reader = reader_of(SAMPLE)
        for _ in range(2):
            for cid, data in SAMPLE.items():
                assert reader.get(cid) == data
                assert type(reader.get(cid)) is bytes
                assert reader.has(cid)

    def test_an_absent_block_is_missing(self, reader_of: ReaderOf) -> None:
        for held in (SAMPLE, {cids.for_block(TEXT): TEXT}):
            reader = reader_of(held)
            assert not reader.has(ABSENT)
            with pytest.raises(MissingBlock) as caught:
                reader.get(ABSENT)
            assert caught.value.cid == ABSENT

    def test_blocks_are_matched_by_multihash(self, reader_of: ReaderOf) -> None:
        reader = reader_of(SAMPLE)
        for alias in (cids.for_block(TEXT, cids.RAW), cids.for_block(TEXT)[2:]):
            assert reader.get(alias) == TEXT
            assert reader.has(alias)

    def test_equal_digests_of_other_hash_functions_are_other_blocks(self, reader_of: ReaderOf) -> None:
        cid = cids.for_block(TEXT)
        other = cid[:2] + bytes((cids.BLAKE3,)) + cid[3:]
        reader = reader_of(SAMPLE)
        assert not reader.has(other)
        with pytest.raises(MissingBlock):
            reader.get(other)

    def test_identity_cids_carry_their_block(self, reader_of: ReaderOf) -> None:
        reader = reader_of(SAMPLE)
        assert reader.has(IDENTITY)
        assert reader.get(IDENTITY) == b"in the CID"

    def test_lengths_are_told(self, reader_of: ReaderOf) -> None:
        reader = reader_of(SAMPLE)
        for cid, data in SAMPLE.items():
            assert reader.length(cid) == len(data)
        assert reader.length(cids.for_block(TEXT, cids.RAW)) == len(TEXT)
        assert reader.length(IDENTITY) == len(b"in the CID")

    def test_lengths_need_no_hashing(self, reader_of: ReaderOf, monkeypatch: pytest.MonkeyPatch) -> None:
        reader = reader_of(SAMPLE)
        monkeypatch.setattr(cids, "matches", None)
        assert [reader.length(cid) for cid in SAMPLE] == list(map(len, SAMPLE.values()))

    def test_the_length_of_an_absent_block_is_missing(self, reader_of: ReaderOf) -> None:
        reader = reader_of(SAMPLE)
        with pytest.raises(MissingBlock) as caught:
            reader.length(ABSENT)
        assert caught.value.cid == ABSENT
        for cid in (b"", b"\x01"):
            with pytest.raises((CidError, MissingBlock)):
                reader.length(cid)

    def test_a_corrupt_block_is_never_returned(self, corrupt_reader_of: ReaderOf) -> None:
        cid = cids.for_block(TEXT)
        reader = corrupt_reader_of({cid: TEXT[:-1] + b"!", cids.for_block(b"sound"): b"sound"})
        for _ in range(2):
            with pytest.raises(CorruptBlock) as caught:
                reader.get(cid)
            assert caught.value.cid == cid
        assert reader.get(cids.for_block(b"sound")) == b"sound"

    def test_a_cid_whose_hash_proves_nothing_is_not_served(self, corrupt_reader_of: ReaderOf) -> None:
        sha1 = b"\x01\x55\x11\x14" + bytes(20)
        short = b"\x01\x55\x12\x08" + cids.for_block(TEXT)[4:12]
        reader = corrupt_reader_of({sha1: TEXT, short: TEXT})
        for cid in (sha1, short):
            with pytest.raises((CidError, CorruptBlock)):
                reader.get(cid)

    @pytest.mark.parametrize("cid", [b"", b"\x05\x71\x12\x20" + bytes(32), b"\x01"])
    def test_a_malformed_cid_is_refused(self, reader_of: ReaderOf, cid: bytes) -> None:
        with pytest.raises((CidError, MissingBlock)):
            reader_of(SAMPLE).get(cid)


class BlockStoreContract(BlockReaderContract):
    """Derived classes give `store`, an empty store; the reader's tests fill it with `put_many`."""

    @pytest.fixture
    def store(self) -> Iterator[BlockStore]:
        raise NotImplementedError

    @pytest.fixture
    def reader_of(self, store: BlockStore) -> ReaderOf:
        def fill(blocks: Mapping[bytes, bytes]) -> BlockReader:
            store.put_many(blocks.items())
            return store

        return fill

    def test_put_twice_does_nothing(self, store: BlockStore) -> None:
        cid = cids.for_block(TEXT)
        store.put(cid, TEXT)
        store.put(cid, TEXT)
        store.put_many([(cid, TEXT), (cids.for_block(TEXT, cids.RAW), TEXT)])
        assert store.get(cid) == TEXT
        store.delete(cid)
        assert not store.has(cid)

    def test_bytes_that_do_not_match_are_refused(self, store: BlockStore) -> None:
        cid = cids.for_block(TEXT)
        with pytest.raises(CorruptBlock):
            store.put(cid, b"other")
        assert not store.has(cid)
        with pytest.raises(ConflictingBlock):
            store.put(IDENTITY, b"other")

    def test_other_bytes_under_a_known_cid_are_a_conflict(self, store: BlockStore) -> None:
        cid = cids.for_block(TEXT)
        store.put(cid, TEXT)
        with pytest.raises(ConflictingBlock) as caught:
            store.put(cid, b"other")
        assert caught.value.cid == cid
        with pytest.raises(ConflictingBlock):
            store.put_many([(cid, b"other")])
        assert store.get(cid) == TEXT

    def test_put_many_keeps_all_or_nothing(self, store: BlockStore) -> None:
        good = cids.for_block(b"good")
        pairs = [(good, b"good"), (cids.for_block(TEXT), b"other"), (cids.for_block(b"late"), b"late")]
        with pytest.raises(CorruptBlock):
            store.put_many(pairs)
        assert not any(store.has(cid) for cid, _ in pairs)

        def failing() -> Iterator[tuple[bytes, bytes]]:
            yield good, b"good"
            raise KeyError("the source broke")

        with pytest.raises(KeyError):
            store.put_many(failing())
        assert not store.has(good)
        store.put_many([])
        store.put(good, b"good")
        assert store.get(good) == b"good"

    def test_a_deleted_block_is_missing_and_can_come_back(self, store: BlockStore) -> None:
        cid = cids.for_block(TEXT)
        store.delete(cid)
        store.put_many(SAMPLE.items())
        store.delete(cids.for_block(TEXT, cids.RAW))
        assert not store.has(cid)
        with pytest.raises(MissingBlock):
            store.get(cid)
        assert store.get(cids.for_block(b"raw", cids.RAW)) == b"raw"
        store.put(cid, TEXT)
        assert store.get(cid) == TEXT

    def test_identity_blocks_need_no_room(self, store: BlockStore) -> None:
        store.put(IDENTITY, b"in the CID")
        store.delete(IDENTITY)
        assert store.get(IDENTITY) == b"in the CID"

    def test_may_hold_is_never_wrong_about_a_held_block(self, store: BlockStore) -> None:
        store.put_many(SAMPLE.items())
        assert all(store.may_hold(cid) for cid in SAMPLE)
        assert store.may_hold(cids.for_block(TEXT, cids.RAW))
        assert store.may_hold(IDENTITY)

    def test_malformed_cids_and_useless_hashes_are_not_put(self, store: BlockStore) -> None:
        sha1 = b"\x01\x55\x11\x14" + bytes(20)
        for cid in (b"", b"\x01", cids.for_block(TEXT) + b"\x00", sha1):
            with pytest.raises(CidError):
                store.put(cid, TEXT)

    def test_a_block_over_the_limit_is_refused(
        self, store: BlockStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "BLOCK_BYTES", 1000)
        store.put(cids.for_block(bytes(1000)), bytes(1000))
        with pytest.raises(LimitExceeded):
            store.put(cids.for_block(bytes(1001)), bytes(1001))
