"""The write-ahead log of an overlay, copied into the database in a thread.

Source: SQLite "Write-Ahead Logging", section 2.1 (checkpoints); "WAL-mode File Format", section 2 (the index
of the log says how many pages it holds, and how many of these have been copied).

SQLite copies the log in the commit that made it long, and whoever commits waits for the disk. Here a second
connection copies while the first goes on. The log is begun anew only once all of it is copied and synced; as
long as others write all the time there is something new behind the copier, and in the end they are kept out
for the last few pages.
"""

import logging
import os
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

log = logging.getLogger("mstfs")

PAGE_BYTES = 4096

COPIED_PAGES = 2000
"""The log is copied when it has grown by so many pages."""

CROWDED_PAGES = 2 * COPIED_PAGES
"""Length of the log from which on who writes much does better to wait for the copier."""

KEEP_OUT_PAGES = 3 * COPIED_PAGES
"""Length of the log from which on others are kept from writing for the last pages."""

BACKSTOP_PAGES = 8 * COPIED_PAGES
"""Length of the log from which on commits copy it themselves: the disk is slower than the writers."""

LOG_BYTES_KEPT = 2 * KEEP_OUT_PAGES * PAGE_BYTES
"""What remains of the file of a longer log when it is begun anew. To cut a file takes time, too."""

SYNC_FAILED = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})

_INDEX = struct.Struct("=I12xI76xI")
_INDEX_VERSION = 3007000
_PASSES = 3
_TURN_SECONDS = 1.0


class LogCopier:
    """Copies the log of one overlay whenever it has grown.

    `connection` is the copier's own, has read the database, and is closed by it. `lock` is what writers hold;
    `file` is a descriptor of the database at `path`. A sync that failed is told to `failed`, in the copier's
    thread, and nothing is copied from then on: the log holds everything as long as it is not begun anew.
    """

    def __init__(
        self,
        path: str,
        connection: sqlite3.Connection,
        lock: threading.RLock,
        file: int,
        failed: Callable[[OSError | sqlite3.Error], object],
    ) -> None:
        self.sync_failed = False
        self._log = f"{path}-wal"
        self._connection = connection
        self._lock = lock
        self._file = file
        self._failed = failed
        # SQLite's locks are on this file, and are lost with any descriptor of it that is closed before them.
        self._index = os.open(f"{path}-shm", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._tried = 0
        self._due = threading.Event()
        self._busy = False
        self._ending = False
        self._thread: threading.Thread | None = None

    def _pages(self) -> tuple[int, int]:
        """The pages in the log, and how many of these have been copied."""
        version, held, copied = _INDEX.unpack(os.pread(self._index, _INDEX.size, 0))
        return (held, copied) if version == _INDEX_VERSION else (0, 0)

    def committed(self) -> None:
        """Something was written: have the log copied if it is long. Call with the lock held."""
        if self._busy or self.sync_failed:
            return
        held, copied = self._pages()
        if held < self._tried:
            self._tried = 0
        if held - max(copied, self._tried) <= COPIED_PAGES:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="copy of the log", daemon=True)
            self._thread.start()
        self._busy = True
        self._due.set()

    @property
    def crowded(self) -> bool:
        """The log is long, and being copied. This ends, whatever becomes of the copy."""
        alive = self._thread is not None and self._thread.is_alive()
        return self._busy and alive and self._pages()[0] > CROWDED_PAGES

    def close(self) -> None:
        """Wait for the copy that is under way. Call without the lock; closing twice does nothing."""
        self._ending = True
        self._due.set()
        if self._thread is not None:
            self._thread.join()
        self._busy = False
        self._connection.close()

    @contextmanager
    def keeping_what_is_doubtful(self) -> Iterator[None]:
        """Around the closing of the last connection, which deletes the log.

        Where a sync failed, what was copied may not be on the disk; the log has all of it, and the next
        opening copies it once more.
        """
        # Once: the index is closed last.
        doubtful = self.sync_failed and self._index >= 0
        kept = f"{self._log}-kept"
        try:
            if doubtful:
                with suppress(FileNotFoundError):
                    os.unlink(kept)
                os.link(self._log, kept)
        except OSError as error:
            log.error("%s cannot be kept, and what was copied of it may be lost: %s", self._log, error)
            doubtful = False
        yield
        if doubtful:
            try:
                os.replace(kept, self._log)
            except OSError as error:
                log.error("%s must be called %s again by hand: %s", kept, self._log, error)

    def close_index(self) -> None:
        """The last step, after every connection is closed. Closing twice does nothing."""
        index, self._index = self._index, -1
        if index >= 0:
            os.close(index)

    def _run(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._ending:
                return
            try:
                self._copy()
            except (sqlite3.Error, OSError) as error:
                # What else may fail, on a full disk for one, is tried again when the log has grown further.
                log.error("%s cannot be copied: %s", self._log, error)
                if isinstance(error, OSError) or getattr(error, "sqlite_errorcode", None) in SYNC_FAILED:
                    self.sync_failed = True
                    self._failed(error)
                    return
            finally:
                self._tried = self._pages()[0]
                self._busy = False

    def _copy(self) -> None:
        for _ in range(_PASSES):
            self._copy_what_is_there()
            # Not left to the last step: SQLite syncs the database only when nothing is behind it.
            os.fdatasync(self._file)
            held, copied = self._pages()
            if copied == held or self._ending:
                return
        # Not for ever: whoever holds the lock may be waiting for this thread to end.
        if held > KEEP_OUT_PAGES and self._lock.acquire(timeout=_TURN_SECONDS):
            try:
                self._copy_what_is_there()
            finally:
                self._lock.release()

    def _copy_what_is_there(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
