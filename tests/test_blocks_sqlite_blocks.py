"""The block store in an overlay keeps the contract, in and out of transactions."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from contracts.block_store import (
    SAMPLE,
    TEXT,
    BlockReaderContract,
    BlockStoreContract,
    ReaderOf,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from overlays import SCHEMA, insert_unchecked

from mstfs import limits
from mstfs.blocks import sqlite_blocks
from mstfs.blocks.interface import BlockReader, BlockStore
from mstfs.blocks.memory import MemoryBlocks
from mstfs.blocks.overlay import OverlayBlocks
from mstfs.blocks.sqlite import Database
from mstfs.blocks.sqlite_blocks import SqliteBlocks
from mstfs.codec import cid as cids
from mstfs.errors import (
    CorruptBlock,
    MissingBlock,
    Refused,
)

CID = cids.for_block(TEXT)


class TestSqliteContract(BlockStoreContract):
    @pytest.fixture
    def store(self, database: Database) -> BlockStore:
        return SqliteBlocks(database)

    @pytest.fixture
    def corrupt_reader_of(self, database: Database) -> ReaderOf:
        def planted(blocks: Mapping[bytes, bytes]) -> BlockReader:
            insert_unchecked(database, blocks)
            return SqliteBlocks(database)

        return planted


class TestManyRowsContract(TestSqliteContract):
    """The same with more rows than are kept in mind."""

    @pytest.fixture(autouse=True)
    def forgetful(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite_blocks, "HELD_ROWS_MAX", 2)


class TestOverlaySqliteContract(TestSqliteContract):
    @pytest.fixture
    def store(self, database: Database) -> BlockStore:
        return OverlayBlocks(SqliteBlocks(database), [MemoryBlocks()])


class TestReadOnlyContract(BlockReaderContract):
    @pytest.fixture
    def reader_of(self, path: Path) -> Iterator[ReaderOf]:
        readers: list[Database] = []

        def filled(blocks: Mapping[bytes, bytes]) -> BlockReader:
            path.unlink(missing_ok=True)
            with Database.open(path, schema=SCHEMA) as writer:
                insert_unchecked(writer, blocks)
            readers.append(Database.open(path, read_only=True))
            return SqliteBlocks(readers[-1])

        yield filled
        for reader in readers:
            reader.close()


def test_blocks_are_counted_and_named(database: Database) -> None:
    blocks = SqliteBlocks(database)
    assert (blocks.count(), blocks.total_bytes(), list(blocks.cids())) == (0, 0, [])
    blocks.put_many(SAMPLE.items())
    blocks.put(cids.for_block(TEXT, cids.RAW), TEXT)
    assert blocks.count() == len(SAMPLE)
    assert blocks.total_bytes() == sum(map(len, SAMPLE.values()))
    assert list(blocks.cids()) == list(SAMPLE)


def test_many_blocks_are_named_while_some_go(database: Database) -> None:
    blocks = SqliteBlocks(database)
    pairs = [(cids.for_block(b"%d" % n), b"%d" % n) for n in range(2500)]
    blocks.put_many(pairs)
    seen = []
    for cid in blocks.cids():
        seen.append(cid)
        blocks.delete(cid)
    assert seen == [cid for cid, _ in pairs]
    assert blocks.count() == 0


def test_the_largest_block_fits_one_row(database: Database) -> None:
    blocks = SqliteBlocks(database)
    data = bytes(limits.BLOCK_BYTES)
    blocks.put(cids.for_block(data), data)
    assert blocks.get(cids.for_block(data)) == data
    assert blocks.total_bytes() == limits.BLOCK_BYTES


def test_blocks_survive_reopening(path: Path) -> None:
    with Database.open(path, schema=SCHEMA) as database:
        SqliteBlocks(database).put_many(SAMPLE.items())
    with Database.open(path, schema=SCHEMA) as database:
        blocks = SqliteBlocks(database)
        assert {cid: blocks.get(cid) for cid in blocks.cids()} == SAMPLE


def test_one_keeper_a_table(database: Database) -> None:
    SqliteBlocks(database)
    with pytest.raises(Refused, match="blocks"):
        SqliteBlocks(database)


def test_a_put_mends_a_damaged_row(database: Database) -> None:
    insert_unchecked(database, {CID: b"damage"})
    blocks = SqliteBlocks(database)
    with pytest.raises(CorruptBlock):
        blocks.get(CID)
    with pytest.raises(CorruptBlock):
        blocks.get(CID)
    blocks.put(CID, TEXT)
    assert blocks.get(CID) == TEXT
    assert blocks.count() == 1


def test_a_digest_is_checked_once_a_process(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []

    def noted(cid: bytes, data: bytes) -> bytes:
        checked.append(cid)
        return data

    monkeypatch.setattr(sqlite_blocks, "verified", noted)
    blocks = SqliteBlocks(database)
    blocks.put_many(SAMPLE.items())
    for cid in list(SAMPLE) * 3:
        blocks.get(cid)
    assert checked == list(SAMPLE)
    # The number of the last row goes to the next one.
    last = list(SAMPLE)[-1]
    blocks.delete(last)
    other = cids.for_block(b"in its place")
    blocks.put(other, b"in its place")
    checked.clear()
    blocks.get(other)
    blocks.get(other)
    assert checked == [other]


@pytest.mark.parametrize("row", [-5, (1 << 62) + 3])
def test_wild_row_numbers_fill_no_memory(database: Database, row: int) -> None:
    multihash = cids.multihash_of(CID)
    values = (row, multihash, CID[:2], TEXT)
    database.execute("INSERT INTO blocks (id, multihash, prefix, data) VALUES (?, ?, ?, ?)", values)
    blocks = SqliteBlocks(database)
    assert [blocks.get(CID), blocks.get(CID)] == [TEXT, TEXT]
    blocks.delete(CID)
    assert not blocks.has(CID)


def test_too_many_rows_are_not_kept_in_mind(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_blocks, "HELD_ROWS_MAX", 2)
    blocks = SqliteBlocks(database)
    for word in (b"one", b"two"):
        blocks.put(cids.for_block(word), word)
        assert not blocks.may_hold(CID)
    blocks.put(cids.for_block(b"three"), b"three")
    assert blocks.may_hold(CID)
    assert not blocks.has(CID)


def test_undone_puts_are_out_of_mind(database: Database) -> None:
    blocks = SqliteBlocks(database)
    kept, one, two = ((cids.for_block(word), word) for word in (b"kept", b"one", b"two"))

    def put_and_fail(*pairs: tuple[bytes, bytes]) -> None:
        with database.transaction():
            blocks.put(*pairs[0])
            blocks.put_many(pairs[1:])
            assert all(blocks.get(cid) == data for cid, data in pairs)
            raise KeyError

    with pytest.raises(KeyError):
        put_and_fail(one, two)
    assert not blocks.may_hold(one[0])
    assert not blocks.may_hold(two[0])
    with database.transaction():
        blocks.put(*kept)
        with pytest.raises(KeyError):
            put_and_fail(kept, one, kept)
        assert not blocks.may_hold(one[0])
        assert blocks.get(kept[0]) == b"kept"
    assert blocks.get(kept[0]) == b"kept"
    assert blocks.get(kept[0]) == b"kept"


def test_an_empty_upper_layer_is_not_queried(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = SqliteBlocks(database)
    overlay = OverlayBlocks(blocks, [MemoryBlocks([(CID, TEXT)])])

    def refuse(*arguments: Any) -> None:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(database, "row", refuse)
    assert overlay.get(CID) == TEXT
    assert overlay.has(CID)
    with pytest.raises(MissingBlock):
        blocks.get(CID)


Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "many", "delete", "begin", "commit", "undo"]), st.integers(0, 5)),
    max_size=40,
)


@settings(max_examples=60)
@given(steps=STEPS, room=st.sampled_from([0, 3, 1000]))
def test_any_course_of_transactions_follows_a_plain_model(steps: list[Step], room: int) -> None:
    pairs = [(cids.for_block(b"%d" % number), b"%d" % number) for number in range(7)]
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        Database.open(Path(folder) / "overlay", schema=SCHEMA) as database,
    ):
        patch.setattr(sqlite_blocks, "HELD_ROWS_MAX", room)
        blocks = SqliteBlocks(database)
        model: set[int] = set()
        levels: list[tuple[AbstractContextManager[None], set[int]]] = []
        for action, number in [*steps, *[("undo", 0)] * len(steps)]:
            if action == "put":
                blocks.put(*pairs[number])
                model.add(number)
            elif action == "many":
                blocks.put_many(pairs[number : number + 2])
                model.update((number, number + 1))
            elif action == "delete":
                blocks.delete(pairs[number][0])
                model.discard(number)
            elif action == "begin":
                levels.append((database.transaction(durable=number == 0), set(model)))
                levels[-1][0].__enter__()
            elif action == "commit" and levels:
                levels.pop()[0].__exit__(None, None, None)
            elif action == "undo" and levels:
                level, model = levels.pop()
                error = KeyError()
                assert not level.__exit__(KeyError, error, None)
            for index, (cid, data) in enumerate(pairs):
                assert blocks.has(cid) == (index in model)
                if index in model:
                    assert blocks.get(cid) == data
                else:
                    with pytest.raises(MissingBlock):
                        blocks.get(cid)
