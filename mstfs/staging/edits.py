"""Staged edits: one put or tombstone a key, durable in the overlay, mirrored in memory in key order."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from mstfs.blocks.sqlite import Database
from mstfs.tree.interface import Edit

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS edits (
        key BLOB PRIMARY KEY,
        cid BLOB,
        text BLOB,
        mtime_ns INTEGER NOT NULL,
        sequence INTEGER NOT NULL
    ) WITHOUT ROWID""",
)


class StagedEdit(NamedTuple):
    """One staged edit.

    `cid` is None for a tombstone. `verbatim` says that the text which was written differs from
    the rendering of the record and is kept until the edit is published. `sequence` grows with
    every change, so that a publication clears exactly what went into it.
    """

    cid: bytes | None
    verbatim: bool
    mtime_ns: int
    sequence: int


class Edits:
    """The staged edits of one overlay; without a database (read-only, no overlay) there are none."""

    def __init__(self, database: Database | None) -> None:
        self.database = database
        self.by_key: dict[bytes, StagedEdit] = {}
        self.sequence = 0
        self.reload()

    def reload(self) -> None:
        """Read the table again: after a transaction was rolled back, or on opening."""
        by_key: dict[bytes, StagedEdit] = {}
        if self.database is not None:
            rows = self.database.iterate("SELECT key, cid, text IS NOT NULL, mtime_ns, sequence FROM edits")
            for key, cid, verbatim, mtime_ns, sequence in rows:
                by_key[key] = StagedEdit(cid, bool(verbatim), mtime_ns, sequence)
        self.by_key = by_key
        self.keys = sorted(by_key)
        # Never goes back: a batch that is being published must stay older than what is staged from now on.
        self.sequence = max([self.sequence, *(edit.sequence for edit in by_key.values())])

    def __len__(self) -> int:
        return len(self.by_key)

    def get(self, key: bytes) -> StagedEdit | None:
        return self.by_key.get(key)

    def text(self, key: bytes) -> bytes | None:
        """The text as it was written, where it is kept."""
        assert self.database is not None
        rows = self.database.execute("SELECT text FROM edits WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def stage(self, key: bytes, cid: bytes | None, mtime_ns: int, text: bytes | None = None) -> None:
        """Stage a put, or a tombstone where `cid` is None. Call inside a transaction of the database."""
        assert self.database is not None
        self.sequence += 1
        edit = StagedEdit(cid, text is not None, mtime_ns, self.sequence)
        self.database.execute(
            "INSERT OR REPLACE INTO edits (key, cid, text, mtime_ns, sequence) VALUES (?, ?, ?, ?, ?)",
            (key, cid, text, mtime_ns, self.sequence),
        )
        if key not in self.by_key:
            insort(self.keys, key)
        self.by_key[key] = edit

    def stage_many(self, puts: Mapping[bytes, bytes], mtime_ns: int) -> None:
        """Stage many puts at once. Call inside a transaction of the database."""
        assert self.database is not None
        first = self.sequence + 1
        self.sequence += len(puts)
        self.database.execute_many(
            "INSERT OR REPLACE INTO edits (key, cid, text, mtime_ns, sequence) VALUES (?, ?, NULL, ?, ?)",
            ((key, cid, mtime_ns, sequence) for sequence, (key, cid) in enumerate(puts.items(), first)),
        )
        self.keys += sorted(puts.keys() - self.by_key.keys())
        self.keys.sort()
        for sequence, (key, cid) in enumerate(puts.items(), first):
            self.by_key[key] = StagedEdit(cid, False, mtime_ns, sequence)

    def discard(self, key: bytes) -> bool:
        """Forget the edit of a key, so that what is published shows again. False if there was none."""
        if key not in self.by_key:
            return False
        assert self.database is not None
        self.database.execute("DELETE FROM edits WHERE key = ?", (key,))
        del self.by_key[key]
        del self.keys[bisect_left(self.keys, key)]
        return True

    def any_within(self, prefix: bytes) -> bool:
        """Whether a key that starts with `prefix` has an edit."""
        index = bisect_left(self.keys, prefix)
        return index < len(self.keys) and self.keys[index].startswith(prefix)

    def after(self, key: bytes, inclusive: bool) -> Iterator[bytes]:
        """Keys greater than `key` (or equal, where `inclusive`), in order."""
        find = bisect_left if inclusive else bisect_right
        index = find(self.keys, key)
        while index < len(self.keys):
            yield self.keys[index]
            index += 1

    def within(self, prefix: bytes) -> Iterator[bytes]:
        """The keys that start with `prefix`, in order."""
        for key in self.after(prefix, inclusive=True):
            if not key.startswith(prefix):
                return
            yield key

    def batch(self) -> tuple[list[Edit], int]:
        """Everything staged now, sorted by key, and the sequence to hand to `clear` once it is published."""
        return self.frozen()()

    def frozen(self) -> Callable[[], tuple[list[Edit], int]]:
        """What gives the batch of now, whatever is staged meanwhile, and in whatever thread."""
        keys, by_key, upto = self.keys.copy(), self.by_key.copy(), self.sequence
        return lambda: ([Edit(key, by_key[key].cid) for key in keys], upto)

    def clear(self, upto: int) -> None:
        """Forget the edits that are no younger than `upto`. Call inside a transaction of the database.

        The mirror is left alone: call `reload` or `cleared` after the transaction is committed.
        """
        assert self.database is not None
        if upto == self.sequence:
            self.database.execute("DELETE FROM edits")  # This takes no longer for many than for a few.
        else:
            self.database.execute("DELETE FROM edits WHERE sequence <= ?", (upto,))

    def cleared(self, upto: int) -> Iterable[bytes]:
        """Bring the mirror in line with a committed `clear(upto)`; returns the keys that went."""
        if upto == self.sequence:
            gone, self.by_key, self.keys = self.keys, {}, []
            return gone
        gone = [key for key, edit in self.by_key.items() if edit.sequence <= upto]
        for key in gone:
            del self.by_key[key]
        self.keys = sorted(self.by_key)
        return gone
