"""The event log: every root that was published, linked backwards and chained by hashes.

An event names its sequence (from 1), the hash of the event before it, what happened (`import`, `publish`,
`checkout`), the root and the data root, the rev, the time, the counts of records created, updated and
deleted, and a message. Its own hash is sha-256 over the DAG-CBOR of all that. The head is the event with
the highest sequence, the tail the one with the lowest: neither is stored a second time, so they cannot
disagree with the log.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from mstfs.blocks.sqlite import Database
from mstfs.codec import dag_cbor
from mstfs.codec.cid import Link
from mstfs.errors import MstfsError, OverlayDamaged

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS events (
        sequence INTEGER PRIMARY KEY,
        previous BLOB,
        kind TEXT NOT NULL,
        root BLOB NOT NULL,
        data BLOB NOT NULL,
        rev TEXT,
        time_ns INTEGER NOT NULL,
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        message TEXT NOT NULL,
        hash BLOB NOT NULL
    )""",
)

# A TID in the language of SQLite's GLOB.
_TID = "[2-7a-j]" + "[2-7a-z]" * 12

COLUMNS = "sequence, previous, kind, root, data, rev, time_ns, created, updated, deleted, message, hash"


class Event(NamedTuple):
    """One entry of the log; `root` is the commit (or the bare tree), `data` the tree. Times are in ns."""

    sequence: int
    previous: bytes | None
    kind: str
    root: bytes
    data: bytes
    rev: str | None
    time_ns: int
    created: int
    updated: int
    deleted: int
    message: str
    hash: bytes

    def computed_hash(self) -> bytes:
        """sha-256 of the canonical form of every other field."""
        fields = [*self[:3], Link(self.root), Link(self.data), *self[5:-1]]
        return hashlib.sha256(dag_cbor.encode(fields)).digest()

    def is_intact(self) -> bool:
        """Whether the hash is right; it cannot be where a field is not of its type."""
        try:
            return self.hash == self.computed_hash()
        except (MstfsError, TypeError, ValueError):
            return False


class History:
    """The log of one overlay. Without a database it is empty."""

    def __init__(self, database: Database | None) -> None:
        self.database = database

    def _one(self, where: str, params: tuple[object, ...] = ()) -> Event | None:
        if self.database is None:
            return None
        rows = self.database.execute(f"SELECT {COLUMNS} FROM events {where} LIMIT 1", params)
        return Event(*rows[0]) if rows else None

    def head(self) -> Event | None:
        """The newest event, or None in an empty log."""
        return self._one("ORDER BY sequence DESC")

    def tail(self) -> Event | None:
        """The oldest event, or None in an empty log."""
        return self._one("ORDER BY sequence ASC")

    def read(self, sequence: int) -> Event | None:
        return self._one("WHERE sequence = ?", (sequence,))

    def find(self, root: bytes) -> Event | None:
        """The newest event that published this root or this data root."""
        return self._one("WHERE root = ? OR data = ? ORDER BY sequence DESC", (root, root))

    def events(self) -> Iterator[Event]:
        """Newest first."""
        if self.database is not None:
            for row in self.database.iterate(f"SELECT {COLUMNS} FROM events ORDER BY sequence DESC"):
                yield Event(*row)

    def last_rev(self) -> str | None:
        """The greatest rev of all events, where it is a TID: the next one must be greater."""
        if self.database is None:
            return None
        rows = self.database.execute("SELECT max(rev) FROM events WHERE rev GLOB ?", (_TID,))
        return rows[0][0]  # type: ignore[no-any-return]

    def append(
        self,
        kind: str,
        root: bytes,
        data: bytes,
        *,
        rev: str | None,
        time_ns: int,
        counts: tuple[int, int, int] = (0, 0, 0),
        message: str = "",
    ) -> Event:
        """Add an event behind the head. Call inside the transaction that stores what it names."""
        assert self.database is not None
        head = self.head()
        sequence = head.sequence + 1 if head else 1
        previous = head.hash if head else None
        event = Event(sequence, previous, kind, root, data, rev, time_ns, *counts, message, b"")
        event = event._replace(hash=event.computed_hash())
        marks = ", ".join("?" * len(event))
        self.database.execute(f"INSERT INTO events ({COLUMNS}) VALUES ({marks})", tuple(event))
        return event

    def check(self) -> None:
        """Walk the whole chain. Raises OverlayDamaged naming the first event that breaks it."""
        newer: Event | None = None
        for event in self.events():
            if not event.is_intact():
                raise OverlayDamaged(f"history event {event.sequence} was changed after it was written")
            if newer is not None and (newer.previous != event.hash or newer.sequence != event.sequence + 1):
                raise OverlayDamaged(f"history event {newer.sequence} does not follow event {event.sequence}")
            newer = event
        if newer is not None and newer.previous is not None:
            raise OverlayDamaged(f"history begins at event {newer.sequence}, which names one before it")
