"""The SQLite file of an overlay: the connection that all share, transactions, durability.

Source: SQLite file format, section 1.3 (header); SQLite "Write-Ahead Logging".

Blocks, edits, drafts and the event log share the connection of a `Database`, so that one transaction covers
them all; each layer owns its tables and hands in their schema.
"""

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mstfs.blocks.lock_file import LockFile, check_regular
from mstfs.blocks.sqlite_log import BACKSTOP_PAGES, LOG_BYTES_KEPT, SYNC_FAILED, LogCopier
from mstfs.errors import (
    MstfsError,
    OverlayBusy,
    OverlayDamaged,
    OverlayError,
    ReadOnly,
    Refused,
    StorageFull,
)

APPLICATION_ID = 0x6D737466
"""`mstf`, at byte 68 of the file: what tells an overlay from any other SQLite database."""

FORMAT_VERSION = 1
"""`user_version`, at byte 60 of the file. A greater one was written by a newer mstfs."""

BUSY_SECONDS = 5.0

# With secure_delete=ON, as Debian builds SQLite, what is deleted is written once more, as zeros.
_PRAGMAS = (
    *("trusted_schema=OFF", "cell_size_check=ON", "temp_store=MEMORY"),
    *("cache_size=-8192", "secure_delete=FAST"),
)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

Row = tuple[Any, ...]


class Database:
    """The SQLite connection of one overlay, for any number of threads of one process.

    Atomic section: `transaction()` holds the lock from BEGIN to COMMIT, so no other thread sees or
    disturbs what is half done; statements of other threads wait. An ordinary commit survives
    kill -9; what must survive power loss is committed with `durable=True` or followed by `sync()`.
    Nothing that sqlite3 raises leaves this class: OverlayError and its subclasses, ReadOnly. Do not
    fork with an open database.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, lock_file: LockFile | None) -> None:
        self.path = path
        self.read_only = lock_file is None
        self.lock = threading.RLock()
        self._connection = connection
        self._lock_file = lock_file
        self._depth = 0
        self._durable = False
        self._sync_after = False
        self._undo: list[Callable[[], object]] = []
        self._claimed: set[str] = set()
        self._log: int | None = None
        self._copier: LogCopier | None = None
        self._files: list[tuple[str, int, int]] = []  # each with the device and the inode that it had
        self._unsafe: MstfsError | None = None

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False, schema: Sequence[str] = ()) -> Self:
        """Open an overlay; unless `read_only`, create it and the tables of `schema` where they lack.

        `schema` holds scripts of `CREATE ... IF NOT EXISTS` statements. Raises OverlayBusy when another
        process writes it, OverlayDamaged when it is no overlay, OverlayError otherwise.
        """
        path = Path(path).absolute()
        lock_file = None if read_only else LockFile(path)
        connection = None
        database = None
        try:
            if lock_file is None:
                check_regular(path)
                connection = _connect_read_only(path)
            else:
                _check_header(path, lock_file.head(100))
                lock_file.tighten()
                connection = _connect(path, "mode=rw")
            database = cls(path, connection, lock_file)
            database._prepare(schema)
            if lock_file is not None:
                # Kept open, it is told of every write of the log that failed, also where SQLite tells nobody.
                # SQLite has no locks on the log, so that closing this descriptor drops none.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                database._log = os.open(f"{path}-wal", flags)
                database._copier = LogCopier(
                    f"{path}", _connect_copier(path), database.lock, lock_file.descriptor, database._doubt
                )
                lock_file.confirm()
                for name, descriptor in ((f"{path}", lock_file.descriptor), (f"{path}-wal", database._log)):
                    found = os.fstat(descriptor)
                    database._files.append((name, found.st_dev, found.st_ino))
        except BaseException as error:
            if database is not None and database._copier is not None:
                database._copier.close()
            if connection is not None:
                connection.close()
            if database is not None:
                database._close_descriptors()
            if lock_file is not None:
                lock_file.close()
            if isinstance(error, sqlite3.Error):
                raise _failure(path, error) from error
            if isinstance(error, OSError):
                raise OverlayError(f"{path}: cannot be opened: {error.strerror}") from error
            raise
        return database

    def _prepare(self, schema: Sequence[str]) -> None:
        run = self._connection.execute
        for pragma in _PRAGMAS:
            run(f"PRAGMA {pragma}")
        identity = run("PRAGMA application_id").fetchone()[0]
        if identity == 0 and not self.read_only and not run("SELECT 1 FROM sqlite_master").fetchone():
            # The identity is written before the switch to WAL, so that it is in the file's own
            # header (which LockFile reads) and never only in the log.
            run("BEGIN IMMEDIATE")
            run(f"PRAGMA application_id={APPLICATION_ID}")
            run(f"PRAGMA user_version={FORMAT_VERSION}")
            run("COMMIT")
            identity = APPLICATION_ID
        if identity != APPLICATION_ID:
            raise OverlayDamaged(f"{self.path}: not an overlay of mstfs")
        version = run("PRAGMA user_version").fetchone()[0]
        if version != FORMAT_VERSION:
            raise OverlayDamaged(
                f"{self.path}: overlay format {version}, but this mstfs reads format {FORMAT_VERSION} only"
            )
        if self.read_only:
            run("PRAGMA query_only=ON")
            return
        mode = run("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise OverlayError(f"{self.path}: this file system cannot hold an overlay (no write-ahead log)")
        run("PRAGMA synchronous=NORMAL")
        run(f"PRAGMA wal_autocheckpoint={BACKSTOP_PAGES}")
        run(f"PRAGMA journal_size_limit={LOG_BYTES_KEPT}")
        with self.transaction():
            for script in schema:
                for statement in _statements(script):
                    self.execute(statement)

    def close(self) -> None:
        """Copy the log into the database and let go of the file. Closing twice does nothing."""
        if self._copier is not None:
            self._copier.close()
        with self.lock:
            # A log that cannot be copied now (full disk, a reader in another process) stays beside
            # the database, and the next opening reads it: nothing is lost, so nothing is raised.
            with suppress(sqlite3.Error):
                if not self.read_only:
                    self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            with nullcontext() if self._copier is None else self._copier.keeping_what_is_doubtful():
                self._connection.close()
            self._close_descriptors()
            if self._lock_file is not None:
                self._lock_file.close()

    def _close_descriptors(self) -> None:
        if self._copier is not None:
            self._copier.close_index()
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- statements ---------------------------------------------------------------------------

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        """Run one statement and fetch all its rows. Outside a transaction it commits at once."""
        with self.lock:
            if self._depth and not self._connection.in_transaction:
                raise self._lost()
            try:
                rows = self._connection.execute(sql, params).fetchall()
            except sqlite3.Error as error:
                raise _failure(self.path, error) from error
            if not self._depth and self._copier is not None:
                self._copier.committed()
            return rows

    def row(self, sql: str, params: Sequence[Any] = ()) -> Row | None:
        """The first row of a query, or None."""
        with self.lock:
            try:
                found: Row | None = self._connection.execute(sql, params).fetchone()
            except sqlite3.Error as error:
                raise _failure(self.path, error) from error
            return found

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each row, all or nothing."""
        with self.transaction():
            try:
                self._connection.executemany(sql, rows)
            except sqlite3.Error as error:
                raise _failure(self.path, error) from error

    def iterate(self, sql: str, params: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows of a query, fetched as they are asked for; the lock is held only while fetching.

        Rows that change meanwhile may be seen or not. The log cannot be recycled until it is done.
        """
        with self.lock:
            try:
                cursor = self._connection.execute(sql, params)
            except sqlite3.Error as error:
                raise _failure(self.path, error) from error
        while True:
            with self.lock:
                try:
                    rows: list[Row] = cursor.fetchmany(256)
                except sqlite3.Error as error:
                    raise _failure(self.path, error) from error
            if not rows:
                return
            yield from rows

    # --- transactions -------------------------------------------------------------------------

    @contextmanager
    def transaction(self, durable: bool = False) -> Iterator[None]:
        """All or nothing: commits at the end of the block, or rolls back when it raises.

        Used inside another transaction it joins it, and an error undoes the inner part only; a durable
        one inside an ordinary one makes the outer commit be followed by `sync()`. With `durable` the
        commit returns when it is on the disk, and is undone if it cannot be put there.
        """
        with self.lock:
            mark = len(self._undo)
            self._begin(durable)
            try:
                yield
            except BaseException:
                self._roll_back(mark)
                raise
            self._commit(mark)

    def on_roll_back(self, action: Callable[[], object]) -> None:
        """Call this if the running transaction is undone; forgotten at its end, or if there is none.

        For what is kept in memory beside the tables. The action must not raise.
        """
        with self.lock:
            if self._depth:
                self._undo.append(action)

    def sync(self) -> None:
        """Return when everything that was committed so far is on the disk.

        Does not wait for, and does not hold up, transactions of other threads.
        """
        if self._log is None:
            return
        self._check_safe()
        self._check_in_place()
        try:
            # The log alone is enough: what it no longer holds was copied into the database, and
            # SQLite syncs both whenever it copies.
            os.fdatasync(self._log)
        except OSError as error:
            raise self._doubt(error) from error

    def _doubt(self, error: OSError | sqlite3.Error) -> MstfsError:
        # A sync failed: nothing is taken for durable from now on.
        if isinstance(error, OSError):
            kind = StorageFull if error.errno in _FULL else OverlayError
            self._unsafe = kind(f"{self.path}: cannot be made durable: {error.strerror}")
        else:
            self._unsafe = _failure(self.path, error)
        return self._unsafe

    @property
    def crowded(self) -> bool:
        """Whether who writes much does better to wait a little: the disk is behind. This always ends."""
        return self._copier is not None and self._copier.crowded

    def _check_safe(self) -> None:
        # The kernel tells of a failed write once, and takes what it holds in memory for written from then on:
        # the next sync would succeed, and vouch for bytes that are not on the disk.
        if self._unsafe is not None:
            raise type(self._unsafe)(
                f"{self._unsafe}; nothing can be until it is closed (unmounted without publishing) and "
                "opened again"
            )

    def _check_in_place(self) -> None:
        # SQLite would go on in files that have lost their names, and what it is told would be lost with them.
        for path, device, inode in self._files:
            try:
                found = os.lstat(path)
            except OSError:
                in_place = False
            else:
                in_place = found.st_ino == inode and found.st_dev == device
            if not in_place:
                raise OverlayError(
                    f"{path}: was moved, replaced or deleted while it is in use: nothing more "
                    "can be kept until it is back at its place"
                )

    def claim(self, table: str) -> None:
        """Refused if somebody in this process keeps `table` in mind already, and would miss changes."""
        with self.lock:
            if table in self._claimed:
                raise Refused(f"{self.path}: the table {table} has its keeper already")
            self._claimed.add(table)

    def _begin(self, durable: bool) -> None:
        if self.read_only:
            raise ReadOnly(f"{self.path}: opened for reading only")
        if self._depth:
            self._run(f"SAVEPOINT level{self._depth}")
            self._sync_after |= durable and not self._durable
        else:
            self._check_in_place()
            if self._copier is not None and self._copier.sync_failed:
                # The log may be all that holds what was copied: SQLite must not begin it anew either.
                self._run("PRAGMA wal_autocheckpoint=0")
            if durable:
                self._check_safe()
            # SQLite does not change this inside a transaction.
            if durable:
                self._run("PRAGMA synchronous=FULL")
            self._durable = durable
            self._sync_after = False
            try:
                self._run("BEGIN IMMEDIATE")
            except BaseException:
                self._calm()
                raise
        self._depth += 1

    def _commit(self, mark: int) -> None:
        try:
            if self._depth > 1:
                self._run(f"RELEASE level{self._depth - 1}")
            else:
                self._run("COMMIT")
        except BaseException:
            self._roll_back(mark)
            raise
        self._depth -= 1
        if self._depth:
            return
        self._calm()
        self._undo.clear()
        if self._copier is not None:
            self._copier.committed()
        if self._sync_after:
            self.sync()

    def _roll_back(self, mark: int) -> None:
        self._depth -= 1
        # After a full disk or an I/O error SQLite may have rolled back the whole transaction itself;
        # then there is nothing left to do here, and the enclosing level finds out when it goes on.
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                level = f"level{self._depth}"
                if self._depth:
                    self._connection.execute(f"ROLLBACK TO {level}")
                    self._connection.execute(f"RELEASE {level}")
                else:
                    self._connection.execute("ROLLBACK")
        for action in reversed(self._undo[mark:]):
            action()
        del self._undo[mark:]
        if not self._depth:
            self._calm()

    def _calm(self) -> None:
        # Back to cheap commits. Should it fail, commits stay durable, which is slower and not wrong.
        if self._durable:
            self._durable = False
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA synchronous=NORMAL")

    def _run(self, sql: str) -> None:
        if self._depth and not self._connection.in_transaction:
            raise self._lost()
        try:
            self._connection.execute(sql)
        except sqlite3.Error as error:
            failed = getattr(error, "sqlite_errorcode", None) in SYNC_FAILED
            raise (self._doubt(error) if failed else _failure(self.path, error)) from error

    def _lost(self) -> OverlayError:
        return OverlayError(f"{self.path}: the transaction was undone by the error before this one")


def _connect(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?{options}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _connect_copier(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "mode=rw")
    try:
        connection.execute("PRAGMA synchronous=NORMAL")
        # SQLite opens the log when the first statement needs it.
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_read_only(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "mode=ro")
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        connection.close()
        # In a folder that takes no files SQLite cannot make its shared index of the log. Without
        # a log there is nothing to share: nobody writes, and the file may be read as it stands.
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        if os.path.lexists(f"{path}-wal"):
            raise
        return _connect(path, "mode=ro&immutable=1")
    return connection


def _check_header(path: Path, head: bytes) -> None:
    # Done before SQLite or a change of mode touches the file: it may be anybody's.
    if head and (head[:16] != b"SQLite format 3\0" or head[68:72] != APPLICATION_ID.to_bytes(4, "big")):
        raise OverlayDamaged(f"{path}: not an overlay of mstfs")


def _statements(script: str) -> Iterator[str]:
    # Connection.executescript would commit the running transaction.
    statement = ""
    for part in script.split(";"):
        statement += part
        if not statement.strip():
            continue
        statement += ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip(" \n;"):
        raise Refused(f"a schema ends inside a statement: {statement.strip()[:60]}")


def _failure(path: Path, error: sqlite3.Error) -> MstfsError:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return OverlayError(f"{path}: {error}")
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _is_full(path)):
        return StorageFull(f"{path}: the disk or the quota is full")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return OverlayDamaged(f"{path}: {error}")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return OverlayBusy(f"{path}: another program has locked it")
    if primary == sqlite3.SQLITE_READONLY:
        return ReadOnly(f"{path}: {error}")
    return OverlayError(f"{path}: {error} ({error.sqlite_errorname})")


def _is_full(path: Path) -> bool:
    # SQLite tells of a full disk as a plain I/O error when it grows its shared index.
    try:
        return os.statvfs(path).f_bavail == 0
    except OSError:
        return False
