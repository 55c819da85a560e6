"""What a command works on: a mounted folder, a CAR, or an overlay."""

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mstfs.errors import MountError, MstfsError, ReadOnly, Refused

if TYPE_CHECKING:
    from mstfs.archive import Archive


@dataclass(frozen=True)
class Target:
    """An archive opened for reading, and the path inside of it that was named (relative, without slashes)."""

    archive: "Archive"
    inner: str
    mountpoint: Path | None
    status: dict[str, Any] | None = None
    """What the daemon of a mount says."""

    @property
    def suffix(self) -> bytes:
        """What the names of record files end in."""
        form = self.status["format"] if self.status is not None else "json"
        return f".{form}".encode()


def is_dead_mount(path: Path) -> bool:
    """True for the mount of a daemon that was killed, and for what is in it."""
    try:
        # Unlike a stat, which the kernel may answer by itself, this always has to ask the daemon.
        os.statvfs(path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def read_status(mountpoint: Path) -> dict[str, Any]:
    """The status of a mount. MountError where none of ours is mounted there."""
    try:
        text = (mountpoint / ".mstfs/status").read_text()
    except FileNotFoundError:
        raise MountError(f"{mountpoint} is not a mount of mstfs") from None
    except NotADirectoryError:
        raise MountError(f"{mountpoint} is not a folder") from None
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise MountError(
                f"{mountpoint} is a dead mount: its daemon was killed. Clear it with "
                f"`mstfs umount {mountpoint}`, and mount again: nothing that was synced is lost"
            ) from None
        raise MountError(f"{mountpoint}/.mstfs/status cannot be read: {error.strerror}") from None
    status: dict[str, Any] = json.loads(text)
    return status


def inside_mount(path: Path) -> tuple[Path, str]:
    """The mount that a path lies in, and the path inside of it."""
    path = Path(os.path.abspath(path))
    for folder in (path, *path.parents):
        if is_dead_mount(folder) and not is_dead_mount(folder.parent):
            read_status(folder)  # It says what to do about it.
        if os.path.lexists(folder / ".mstfs/status"):
            inner = str(path.relative_to(folder))
            return folder, "" if inner == "." else inner
    raise MountError(f"{path} is not inside a mount of mstfs")


def ask(mountpoint: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Send a command to the daemon of a mount and return its answer; what it refuses is raised."""
    import mstfs.errors

    path = mountpoint / ".mstfs/commands" / uuid.uuid4().hex
    try:
        path.write_text(json.dumps(request))
        answer: dict[str, Any] = json.loads(path.read_text())
    except PermissionError:
        raise MountError(f"{mountpoint} belongs to another user: only they can change it") from None
    except OSError as error:
        if error.errno == errno.EROFS:
            raise ReadOnly(f"{mountpoint} is mounted for reading only: nothing there can change") from None
        raise MountError(f"the daemon of {mountpoint} does not answer: {error.strerror}") from None
    finally:
        # The answer counts; a daemon that is gone has no file to remove.
        with suppress(OSError):
            path.unlink(missing_ok=True)
    if not answer.pop("ok"):
        kind = getattr(mstfs.errors, answer.get("kind", ""), MstfsError)
        error_type = (
            kind if kind in (Refused, mstfs.errors.PublishError, mstfs.errors.StorageFull) else MstfsError
        )
        raise error_type(answer["error"])
    return answer


@contextmanager
def open_target(path: Path, *, car_only: bool = False, overlay: Path | None = None) -> Iterator[Target]:
    """Open what a path names for reading: a CAR with its overlay, an overlay, or what a mount shows.

    Reading beside a running daemon is safe: it sees what has been committed so far.
    """
    from mstfs.archive import Archive
    from mstfs.codec import cid as cids

    if is_dead_mount(path):
        read_status(path)  # It says what to do about it.
    mountpoint: Path | None = None
    inner = ""
    status: dict[str, Any] | None = None
    root: bytes | None = None
    if path.is_dir() or (not path.is_file() and not path.exists()) or is_mounted(path):
        if not os.path.lexists(path) and not is_mounted(path):
            raise FileNotFoundError(errno.ENOENT, "", str(path))
        mountpoint, inner = inside_mount(path)
        if overlay is not None:
            raise Refused(f"{mountpoint} is a mount, which has its own overlay: name the CAR instead")
        status = read_status(mountpoint)
        path = Path(status["source"])
        car_only = car_only or status["overlay"] is None
        # What is mounted may be an overlay itself, and then it knows its CAR.
        if not car_only and status["overlay"] != status["source"]:
            overlay = Path(status["overlay"])
        # The head of a mount that nobody can write to stays, even if it is an older root of the overlay.
        if status["read_only"] and not car_only:
            root = cids.parse(status["root"])
    mode: Literal["car", "read"] = "car" if car_only else "read"
    with Archive.open(path, mode=mode, overlay=overlay, root=root) as archive:
        yield Target(archive, inner, mountpoint, status)


def is_mounted(path: Path) -> bool:
    """True if the path lies in one of our mounts."""
    try:
        inside_mount(path)
    except MountError:
        return False
    return True


def root_argument(archive: "Archive", text: str) -> str:
    """A root as people name it: a CID, the number of an event, or `head`. Returns the CID as text."""
    from mstfs.codec import cid as cids

    if text == "head":
        return cids.to_text(archive.head.root)
    if text.isdigit():
        event = archive.workspace.history.read(int(text))
        if event is None:
            raise Refused(f"there is no event {text} in the history: see `mstfs log`")
        return cids.to_text(event.root)
    return cids.to_text(cids.parse(text))
