"""The descriptor that keeps other processes from writing an overlay, and the file's mode.

Source: flock(2), proc_locks(5); POSIX fcntl(2) for why the descriptor must outlive the database.
"""

import errno
import fcntl
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

from mstfs.errors import OverlayBusy, OverlayError

SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite puts beside a database."""

_MODE = 0o600

# Files that this process holds open for writing, as (device, inode). A second descriptor of such a
# file must never be opened and closed here: POSIX drops ALL record locks that a process has on a file
# when it closes any descriptor of it. SQLite's own would go too, and with them what keeps another
# process from deleting the log under us. For the same reason a LockFile is closed after its database.
_open_files: set[tuple[int, int]] = set()
_guard = threading.Lock()


class LockFile:
    """Holds one regular file open, created with mode 0600 if it lacks, under an exclusive flock.

    Raises OverlayBusy when it is locked already, OverlayError when it cannot be opened or is a
    symbolic link, a device or the like.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.created = False
        for suffix in SIDE_FILES:
            check_regular(Path(f"{path}{suffix}"), missing_is_fine=True)
        with _guard:
            self._refuse_second_descriptor()
            self.descriptor = self._open()
            try:
                found = os.fstat(self.descriptor)
                self._identity = (found.st_dev, found.st_ino)
                if not stat.S_ISREG(found.st_mode):
                    raise OverlayError(f"{path}: not a regular file")
                self._lock()
                if self.created:
                    self._clear_leftovers()
            except BaseException:
                os.close(self.descriptor)
                raise
            _open_files.add(self._identity)

    def head(self, length: int) -> bytes:
        """The first bytes of the file."""
        return os.pread(self.descriptor, length, 0)

    def tighten(self) -> None:
        """Make the file and its side files private, whatever a copy or a strange umask made of them."""
        try:
            if stat.S_IMODE(os.fstat(self.descriptor).st_mode) != _MODE:
                os.fchmod(self.descriptor, _MODE)
            for suffix in SIDE_FILES:
                side = f"{self.path}{suffix}"
                if os.path.lexists(side) and stat.S_IMODE(os.lstat(side).st_mode) != _MODE:
                    os.chmod(side, _MODE)
        except OSError as error:
            raise OverlayError(f"{self.path}: cannot be made private: {error.strerror}") from error

    def confirm(self) -> None:
        """Raises OverlayError if the path names another file by now; makes a new file's name durable."""
        found = os.lstat(self.path)
        if (found.st_dev, found.st_ino) != self._identity:
            raise OverlayError(f"{self.path}: was replaced while it was opened")
        if self.created:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def close(self) -> None:
        """Let go of the lock; only after everything else in this process has closed the file."""
        with _guard:
            if self._identity in _open_files:
                _open_files.discard(self._identity)
                os.close(self.descriptor)

    def _clear_leftovers(self) -> None:
        # What stands beside a new file belongs to one that is gone. Whoever still has that one open shares
        # its memory through the index; the log may hold what was never copied.
        log = f"{self.path}-wal"
        if os.path.lexists(log) and os.path.getsize(log):
            os.unlink(self.path)
            raise OverlayError(
                f"{log} is the log of an overlay that is gone: put the overlay back, or move its log away"
            )
        for suffix in SIDE_FILES:
            with suppress(FileNotFoundError):
                os.unlink(f"{self.path}{suffix}")

    def _refuse_second_descriptor(self) -> None:
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise OverlayError(f"{self.path}: cannot be opened: {error.strerror}") from error
        if (found.st_dev, found.st_ino) in _open_files:
            raise OverlayBusy(
                f"{self.path}: this process (pid {os.getpid()}) has it open for writing already"
            )

    def _open(self) -> int:
        # O_NONBLOCK: opening a device must not hang.
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            try:
                descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, _MODE)
            except FileExistsError:
                return os.open(self.path, flags)
            self.created = True
            return descriptor
        except OSError as error:
            reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise OverlayError(f"{self.path}: cannot be opened: {reason}") from error

    def _lock(self) -> None:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _holder(*self._identity)
            who = "another process" if pid is None else f"another process (pid {pid})"
            raise OverlayBusy(f"{self.path}: {who} has it open for writing") from None
        except OSError as error:
            raise OverlayError(f"{self.path}: cannot be locked: {error.strerror}") from error


def check_regular(path: Path, missing_is_fine: bool = False) -> None:
    """OverlayError unless the path names a regular file, or (if that is fine) nothing at all."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        if missing_is_fine:
            return
        raise OverlayError(f"{path}: no such overlay") from None
    except OSError as error:
        raise OverlayError(f"{path}: cannot be opened: {error.strerror}") from error
    if stat.S_ISLNK(mode):
        raise OverlayError(f"{path}: cannot be opened: it is a symbolic link")
    if not stat.S_ISREG(mode):
        raise OverlayError(f"{path}: not a regular file")


def _holder(device: int, inode: int) -> int | None:
    # The kernel knows who holds the lock; a number written into a file could be that of a dead process.
    wanted = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == wanted and int(fields[4]) > 0:
            return int(fields[4])
    return None
