"""What a transaction of an overlay promises."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from contracts.block_store import (
    TEXT,
)
from overlays import SCHEMA, note, notes, undone

from mstfs.blocks.sqlite import Database
from mstfs.blocks.sqlite_blocks import SqliteBlocks
from mstfs.codec import cid as cids
from mstfs.errors import (
    OverlayError,
    ReadOnly,
)

CID = cids.for_block(TEXT)


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    with database.transaction():
        note(database, "kept")
    with pytest.raises(KeyError):
        undone(database, "dropped")
    assert notes(database) == ["kept"]
    with pytest.raises(OverlayError):
        undone(database, "dropped", "kept")
    note(database, "alone")
    assert notes(database) == ["alone", "kept"]


@pytest.mark.parametrize("durable", [False, True])
def test_an_inner_transaction_is_undone_alone(database: Database, durable: bool) -> None:
    with database.transaction():
        note(database, "outer")
        with pytest.raises(KeyError):
            undone(database, "inner", durable=durable)
        with database.transaction(durable=durable):
            note(database, "second")
    assert notes(database) == ["outer", "second"]

    def inner_first() -> None:
        with database.transaction():
            with database.transaction(durable=durable):
                note(database, "third")
            raise KeyError

    with pytest.raises(KeyError):
        inner_first()
    assert notes(database) == ["outer", "second"]


def test_a_durable_part_makes_the_whole_durable(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[list[str]] = []
    monkeypatch.setattr(database, "sync", lambda: synced.append(notes(database)))
    with database.transaction():
        with database.transaction(durable=True):
            note(database, "a")
        note(database, "b")
        assert synced == []
    assert synced == [["a", "b"]]
    with database.transaction():
        note(database, "c")
    with database.transaction(durable=True), database.transaction(durable=True):
        note(database, "d")
    assert len(synced) == 1


def test_commits_are_cheap_again_after_a_durable_one(database: Database) -> None:
    def level() -> object:
        return database.execute("PRAGMA synchronous")[0][0]

    assert level() == 1
    with database.transaction(durable=True):
        assert level() == 2
    assert level() == 1
    with pytest.raises(KeyError), database.transaction(durable=True):
        raise KeyError
    assert level() == 1


def test_other_threads_see_no_half_of_a_transaction(database: Database) -> None:
    started = threading.Event()
    seen: list[list[str]] = []

    def look() -> None:
        started.set()
        seen.append(notes(database))

    with database.transaction():
        note(database, "a")
        thread = threading.Thread(target=look)
        thread.start()
        assert started.wait(10)
        note(database, "b")
        assert seen == []
    thread.join()
    assert seen == [["a", "b"]]


def test_threads_take_turns(database: Database) -> None:
    database.execute("CREATE TABLE counter (value INTEGER)")
    database.execute("INSERT INTO counter VALUES (0)")

    def count() -> None:
        for step in range(200):
            with database.transaction():
                ((value,),) = database.execute("SELECT value FROM counter")
                database.execute("UPDATE counter SET value = ?", (value + 1,))
            if step % 50 == 0:
                database.sync()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.execute("SELECT value FROM counter") == [(800,)]


def test_rows_come_in_batches_while_others_are_written(database: Database) -> None:
    database.execute_many("INSERT INTO notes VALUES (?)", [(f"{n:04}",) for n in range(1000)])
    seen: list[str] = []
    for (text,) in database.iterate("SELECT note FROM notes WHERE note < ? ORDER BY note", ("2",)):
        if len(seen) % 100 == 0:
            note(database, f"z{text}")
        seen.append(text)
    assert seen == [f"{n:04}" for n in range(1000)]
    assert len(notes(database)) == 1010


def test_execute_many_keeps_all_or_nothing(database: Database) -> None:
    with pytest.raises(OverlayError):
        database.execute_many("INSERT INTO notes VALUES (?)", [("a",), ("b",), ("a",)])
    assert notes(database) == []


def test_nothing_is_written_to_what_is_only_read(path: Path) -> None:
    Database.open(path, schema=SCHEMA).close()
    with Database.open(path, read_only=True) as reader:
        store = SqliteBlocks(reader)
        writes: list[Callable[[], object]] = [
            lambda: note(reader, "a"),
            lambda: reader.transaction().__enter__(),
            lambda: store.put(CID, TEXT),
            lambda: store.put_many([(CID, TEXT)]),
            lambda: store.delete(CID),
        ]
        for write in writes:
            with pytest.raises(ReadOnly):
                write()
        reader.sync()
        assert notes(reader) == []
