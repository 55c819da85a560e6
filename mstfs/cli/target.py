"""What a command works on: a mounted folder, a CAR, or an overlay."""

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mstfs.errors import MountError, MstfsError, ReadOnly, Refused

if TYPE_CHECKING:
    from mstfs.archive import Archive
    from mstfs.staging.tree import StagedTree
    from mstfs.tree.kinds import Kind
    from mstfs.values.cipher import Cipher
    from mstfs.values.interface import ValueOptions
    from mstfs.view.names import Names
    from mstfs.view.names import Path as Parts
    from mstfs.view.namespace import Namespace


@dataclass(frozen=True)
class Reading:
    """What a person says about the tree and the values of a target; None and "auto" are for it to say.

    With a `cipher` the values are encrypted, but for those of keys that fit a pattern of `plain`.
    """

    tree: "Kind | None"
    options: "ValueOptions"
    cipher: "Cipher | None" = None
    plain: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """An archive opened for reading, and the path inside of it that was named (relative, without slashes)."""

    archive: "Archive"
    inner: str
    mountpoint: Path | None
    status: dict[str, Any] | None = None
    """What the daemon of a mount says."""

    @property
    def names(self) -> "Names":
        """How a mount spells keys as names: this one, or one with the usual form of records."""
        from mstfs.view.kinds import names_of
        from mstfs.view.names import Names

        names = names_of(self.archive.kind, self.archive.workspace.values)
        if self.status is None or names.nested:
            return names
        return Names(f".{self.status['format']}".encode())

    def namespace(self, tree: "StagedTree") -> "Namespace":
        """The folders of a tree, as a mount shows them."""
        from mstfs.view.kinds import namespace_of

        return namespace_of(self.archive.kind, tree, self.names, self.is_kept)

    def is_kept(self, parts: "Parts") -> bool:
        """Whether a path is a folder because of scratch or drafts, whether or not keys are below it."""
        files = self.archive.workspace.files
        path = b"/".join(parts)
        found = files.get(path)
        return path in files.children or (found is not None and found.kind == "folder")

    @property
    def noun(self) -> str:
        """What an entry of the tree is called where all of them are counted."""
        return "record" if self.archive.kind.name == "mst" else "value"

    @cached_property
    def encrypted(self) -> bool | None:
        """Whether values are encrypted; None where nothing tells."""
        if self.status is not None and "encrypted" in self.status:
            return bool(self.status["encrypted"])
        return self.archive.encrypted

    @cached_property
    def lacks_key(self) -> bool:
        """Whether values are encrypted with a key that was not given here."""
        cipher = getattr(self.archive.workspace.values, "cipher", None)
        return bool(self.encrypted) and cipher is None

    def is_sealed(self, key: bytes) -> bool:
        """Whether a value cannot be read here, for lack of its key."""
        return self.lacks_key and key not in getattr(self.archive.workspace.values, "plain", ())

    def hidden(self, root: str | None) -> Path | None:
        """The mount, if only that can read what is shown: its daemon has the key."""
        return self.mountpoint if self.lacks_key and root is None else None


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
def open_target(
    path: Path,
    *,
    car_only: bool = False,
    overlay: Path | None = None,
    reading: Reading | None = None,
    as_mounted: bool = False,
) -> Iterator[Target]:
    """Open what a path names for reading: a CAR with its overlay, an overlay, or what a mount shows.

    Of a mount, its daemon says what `reading` leaves open; with `as_mounted` also the form of records.
    Reading beside a running daemon is safe: it sees what has been committed so far.
    """
    from mstfs.archive import Archive
    from mstfs.codec import cid as cids
    from mstfs.values.interface import ValueOptions

    reading = reading or Reading(None, ValueOptions())

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
        reading = _as_told(reading, status)
        if as_mounted:
            reading = replace(reading, options=replace(reading.options, form=status["format"]))
    with Archive.open(
        path,
        mode="car" if car_only else "read",
        overlay=overlay,
        root=root,
        tree=reading.tree,
        options=reading.options,
        cipher=reading.cipher,
        plain=reading.plain,
    ) as archive:
        yield Target(archive, inner, mountpoint, status)


def _as_told(reading: Reading, status: dict[str, Any]) -> Reading:
    """A reading, with what a daemon knows about its tree in place of what was not said."""
    from mstfs.tree import kinds

    options, tree = reading.options, reading.tree
    if options.encoding == "auto" and status.get("values") is not None:
        options = replace(options, encoding=status["values"])
    if tree is None and status.get("tree") is not None:
        tree = kinds.parse(status["tree"])
    return replace(reading, tree=tree, options=options)


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
