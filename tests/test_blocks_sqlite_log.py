"""The log of an overlay is copied by a thread of its own; what it holds is never given up too early."""

import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from overlays import SCHEMA, line_of, note, notes, start_child

from mstfs.blocks import sqlite, sqlite_log
from mstfs.blocks.sqlite import Database
from mstfs.blocks.sqlite_blocks import SqliteBlocks
from mstfs.blocks.sqlite_log import COPIED_PAGES, KEEP_OUT_PAGES, LOG_BYTES_KEPT, PAGE_BYTES, LogCopier
from mstfs.codec import cid as cids
from mstfs.errors import OverlayError


def log_of(database: Database) -> Path:
    return Path(f"{database.path}-wal")


def copier_of(database: Database) -> LogCopier:
    assert database._copier is not None
    return database._copier


def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.001)


def fill(database: Database, first: int, count: int) -> None:
    """Write so many MiB, a transaction each."""
    for number in range(first, first + count):
        with database.transaction():
            note(database, f"{number:04}" + "x" * (1 << 20))


def test_a_long_log_is_copied_by_another_thread(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    copied_by = set()
    copy = LogCopier._copy_what_is_there

    def noted(copier: LogCopier) -> None:
        copied_by.add(threading.current_thread())
        copy(copier)

    monkeypatch.setattr(LogCopier, "_copy_what_is_there", noted)
    fill(database, 0, 4)
    assert not copied_by
    fill(database, 4, 8)
    copier = copier_of(database)
    eventually(lambda: not copier._busy)
    assert copied_by
    assert threading.current_thread() not in copied_by
    held, copied = copier._pages()
    assert held == copied > COPIED_PAGES
    assert database.path.stat().st_size > COPIED_PAGES * PAGE_BYTES
    note(database, "the log is begun anew")
    assert copier._pages()[0] < 10


def test_the_log_stays_small_while_somebody_writes_on_and_on(database: Database) -> None:
    copier = copier_of(database)
    longest = 0
    for number in range(200):
        fill(database, number, 1)
        longest = max(longest, copier._pages()[0])
        # As the writers of a mount do.
        eventually(lambda: not copier.crowded)
    assert COPIED_PAGES < longest < KEEP_OUT_PAGES + COPIED_PAGES
    assert log_of(database).stat().st_size <= LOG_BYTES_KEPT
    assert len(notes(database)) == 200


def test_the_log_of_a_huge_transaction_is_cut_again(database: Database) -> None:
    with database.transaction():
        fill(database, 0, 120)
    assert log_of(database).stat().st_size > 2 * LOG_BYTES_KEPT
    copier = copier_of(database)
    eventually(lambda: not copier._busy)
    for number in range(3):
        note(database, f"after {number}")
    assert log_of(database).stat().st_size <= LOG_BYTES_KEPT


@pytest.mark.parametrize("long", [False, True])
def test_writers_that_never_pause_are_kept_out_for_the_last_pages(
    database: Database, monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    with_lock = []
    copy = LogCopier._copy_what_is_there

    def never_done(copier: LogCopier) -> None:
        with_lock.append(copier._lock._is_owned())  # type: ignore[attr-defined]
        if with_lock[-1]:
            copy(copier)

    monkeypatch.setattr(LogCopier, "_copy_what_is_there", never_done)
    if long:
        monkeypatch.setattr(sqlite_log, "KEEP_OUT_PAGES", COPIED_PAGES)
    copier = copier_of(database)
    fill(database, 0, 8)
    eventually(lambda: with_lock and not copier._busy)
    assert with_lock == [False] * sqlite_log._PASSES + [True] * long
    assert copier._pages()[1] == copier._pages()[0] * long


def test_who_closes_with_the_lock_held_is_not_waited_for_for_ever(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "_TURN_SECONDS", 0.05)
    monkeypatch.setattr(sqlite_log, "KEEP_OUT_PAGES", 0)
    # A reader in between keeps the log from being copied whole.
    copier = copier_of(database)
    with sqlite3.connect(database.path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM notes").fetchone()
        with database.lock:
            fill(database, 0, 12)
            copier.close()
        reader.rollback()
    reader.close()
    assert len(notes(database)) == 12


def test_a_reader_elsewhere_does_not_make_the_copier_run_all_the_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = []
    copy = LogCopier._copy

    def counted(copier: LogCopier) -> None:
        copies.append(1)
        copy(copier)

    monkeypatch.setattr(LogCopier, "_copy", counted)
    copier = copier_of(database)
    child = subprocess.Popen(
        ["python3", "-c", READER, str(database.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert line_of(child) == "reading"
        fill(database, 0, 10)
        for number in range(100):
            note(database, f"{number}")
            eventually(lambda: not copier._busy)
        assert len(copies) == 1
        assert child.stdin is not None
        child.stdin.close()
    fill(database, 10, 10)
    eventually(lambda: not copier._busy)
    note(database, "the log is begun anew")
    assert copier._pages()[0] < COPIED_PAGES


READER = """
import sqlite3, sys
reader = sqlite3.connect(sys.argv[1])
reader.execute("BEGIN")
reader.execute("SELECT count(*) FROM notes").fetchone()
print("reading", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("where", ["log", "database"])
def test_a_copy_whose_sync_fails_keeps_the_log(
    path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Pages that were copied may not be on the disk: they are copied again, by who opens the overlay next."""
    monkeypatch.setattr(sqlite, "BACKSTOP_PAGES", 2 * COPIED_PAGES)
    database = Database.open(path, schema=SCHEMA)
    copier = copier_of(database)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    def fail_in_sqlite(copier: LogCopier) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    if where == "database":
        monkeypatch.setattr(os, "fdatasync", fail)
    else:
        monkeypatch.setattr(LogCopier, "_copy_what_is_there", fail_in_sqlite)
    fill(database, 0, 12)
    eventually(lambda: copier.sync_failed)
    monkeypatch.undo()
    assert not copier.crowded
    note(database, "more")
    for durably in (database.sync, lambda: database.transaction(durable=True).__enter__()):
        with pytest.raises(OverlayError, match="and opened again"):
            durably()
    fill(database, 12, 12)
    expected = notes(database)
    database.close()
    database.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["overlay", "overlay-wal"]
    # What the database got of it is lost with the power.
    with open(path, "r+b") as file:
        file.seek(3 * PAGE_BYTES)
        file.write(bytes(8 * PAGE_BYTES))
    with Database.open(path) as again:
        assert notes(again) == expected
        assert again.execute("PRAGMA integrity_check") == [("ok",)]
        again.sync()
    assert not Path(f"{path}-wal").exists()


def test_a_full_disk_is_tried_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def full(copier: LogCopier) -> None:
        tried.append(copier)
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    copier = copier_of(database)
    with monkeypatch.context() as patch:
        patch.setattr(LogCopier, "_copy_what_is_there", full)
        fill(database, 0, 12)
        eventually(lambda: tried and not copier._busy)
        before = len(tried)
        fill(database, 12, 1)
        assert len(tried) == before
    fill(database, 13, 12)
    eventually(lambda: copier._pages()[0] == copier._pages()[1])
    database.sync()


def test_a_kill_while_the_log_is_copied_loses_nothing(path: Path) -> None:
    code = """
for number in range(60):
    with database.transaction():
        note(f"{number:04}" + "x" * (1 << 20))
    say(str(number))
"""
    for last in (9, 12, 17, 26, 45):
        child = start_child(path, code)
        for number in range(last + 1):
            assert line_of(child) == str(number)
        child.kill()
        with suppress(BrokenPipeError):
            child.communicate()
        with Database.open(path) as database:
            assert [int(text[:4]) for text in notes(database)][: last + 1] == list(range(last + 1))
            assert database.execute("PRAGMA integrity_check") == [("ok",)]
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)


def test_blocks_are_copied_like_anything_else(database: Database) -> None:
    blocks = SqliteBlocks(database)
    data = [number.to_bytes(2, "big") * (1 << 19) for number in range(30)]
    for block in data:
        blocks.put(cids.for_block(block), block)
    eventually(lambda: not copier_of(database)._busy)
    assert database.path.stat().st_size > COPIED_PAGES * PAGE_BYTES
    assert [blocks.get(cids.for_block(block)) for block in data] == data
