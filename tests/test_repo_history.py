"""The event log: a chain with head and tail, in which nothing can be changed unseen."""

from pathlib import Path

import pytest
from workspaces import cid

from mstfs.blocks.sqlite import Database
from mstfs.errors import MstfsError, OverlayDamaged
from mstfs.repo import history, tid
from mstfs.repo.history import Event, History

COLUMNS = history.COLUMNS.split(", ")


@pytest.fixture
def log(tmp_path: Path) -> History:
    return History(Database.open(tmp_path / "x.mstfs", schema=history.SCHEMA))


def append(log: History, number: int, rev: str | None = None) -> Event:
    assert log.database is not None
    with log.database.transaction():
        return log.append(
            "publish",
            cid(number),
            cid(number + 100),
            rev=rev,
            time_ns=number,
            counts=(number, 0, 1),
            message=f"no {number} ä",
        )


def test_a_chain(log: History) -> None:
    assert log.head() is None
    assert log.tail() is None
    log.check()
    events = [append(log, number) for number in range(4)]
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert events[0].previous is None
    assert [event.previous for event in events[1:]] == [event.hash for event in events[:-1]]
    assert log.head() == events[3]
    assert log.tail() == events[0]
    assert log.read(2) == events[1]
    assert log.read(9) is None
    assert list(log.events()) == events[::-1]
    assert log.find(cid(2)) == log.find(cid(102)) == events[2]
    assert log.find(cid(50)) is None
    log.check()


def test_the_newest_event_of_a_root_is_found(log: History) -> None:
    append(log, 1)
    append(log, 2)
    again = append(log, 1)
    assert log.find(cid(1)) == again


def test_without_a_database_it_is_empty() -> None:
    log = History(None)
    assert (log.head(), log.tail(), log.read(1), log.find(cid(1)), log.last_rev()) == (None,) * 5
    assert list(log.events()) == []
    log.check()


def test_the_last_rev_is_the_greatest_tid(log: History) -> None:
    assert log.last_rev() is None
    older, newer = tid.encode(1, 0), tid.encode(1 << 52, 1023)
    for number, rev in enumerate((None, older, newer, "zzzzzzzzzzzzz", newer + "z", "z", "", older.upper())):
        append(log, number, rev)
    assert log.last_rev() == newer
    append(log, 9, tid.encode(tid.MICROSECONDS_MAX, 1023))
    assert log.last_rev() == "bzzzzzzzzzzzz"


OTHER_VALUES: dict[str, list[object]] = {
    "sequence": [9],
    "previous": [None, b"", b"\0" * 32, "text"],
    "kind": ["import", "", b"publish"],
    "root": [cid(77), b"", b"\0", "text", 5],
    "data": [cid(77), b""],
    "rev": ["3jzfcijpj2z2b", "", b"blob"],
    "time_ns": [0, -1, 1.5, "x"],
    "created": [7, -1],
    "updated": [7],
    "deleted": [0, "x"],
    "message": ["", "no 1 a", b"\xff"],
    "hash": [b"", b"\0" * 32, "text"],
}


@pytest.mark.parametrize("sequence", [1, 2, 3])
@pytest.mark.parametrize("column", COLUMNS)
def test_every_change_of_one_field_is_found(log: History, sequence: int, column: str) -> None:
    database = log.database
    assert database is not None
    for number in range(3):
        append(log, number, rev="3jzfcijpj2z2a")
    before = log.read(sequence)
    for value in OTHER_VALUES[column]:
        was = getattr(before, column)
        if value == was:
            continue
        database.execute(f"UPDATE events SET {column} = ? WHERE sequence = ?", (value, sequence))
        with pytest.raises(OverlayDamaged, match="history"):
            log.check()
        where = value if column == "sequence" else sequence
        database.execute(f"UPDATE events SET {column} = ? WHERE sequence = ?", (was, where))
        log.check()


@pytest.mark.parametrize("sequence", [1, 2])
def test_a_missing_event_is_found(log: History, sequence: int) -> None:
    for number in range(3):
        append(log, number)
    assert log.database is not None
    log.database.execute("DELETE FROM events WHERE sequence = ?", (sequence,))
    with pytest.raises(OverlayDamaged, match="history"):
        log.check()


def test_events_cannot_change_places(log: History) -> None:
    for number in range(3):
        append(log, number)
    assert log.database is not None
    for old, new in ((1, 10), (2, 1), (10, 2)):
        log.database.execute("UPDATE events SET sequence = ? WHERE sequence = ?", (new, old))
    with pytest.raises(OverlayDamaged):
        log.check()


def test_an_event_that_cannot_be_written_changes_nothing(log: History) -> None:
    append(log, 1)
    assert log.database is not None
    with pytest.raises(MstfsError), log.database.transaction():
        log.append("publish", cid(1), cid(1), rev=None, time_ns=1, message="\ud800")
    log.check()
    assert [event.sequence for event in log.events()] == [1]
