"""Small archives, folders and items for the tests of copying."""

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mstfs.archive import Archive
from mstfs.transfer.archives import ArchiveSource
from mstfs.transfer.copy import Copied, Copy
from mstfs.transfer.items import Bytes, Item, ItemKind, Planned, Source
from mstfs.transfer.targets import HamtTarget, MstTarget, Target, UnixfsTarget
from mstfs.tree import kinds
from mstfs.values.interface import ValueOptions

Made = Mapping[bytes, tuple[ItemKind, Any]]
"""By key: a kind, and the bytes of a blob, of a symbolic link's target, or the value of a record."""


def _same(value: Any) -> Any:
    return value


class GivenSource(Source):
    """Items that a test gives, in its order."""

    def __init__(self, items: Made, *, is_files: bool = False, suffix: bytes = b"") -> None:
        self.is_files = is_files
        self.suffix = suffix
        self.closed = False
        self._items = items

    def plan(self) -> Iterator[Planned]:
        for key, (kind, _) in self._items.items():
            yield Planned(key, kind, None)

    def holds_records(self) -> bool:
        return any(kind == "record" for kind, _ in self._items.values())

    def items(self) -> Iterator[Item]:
        for key, (kind, value) in self._items.items():
            if kind == "record":
                yield Item(key, kind, load=partial(_same, value))
            else:
                yield Item(key, kind, partial(Bytes, value))

    def close(self) -> None:
        self.closed = True


def target(to: str, encoding: str | None = None, **more: Any) -> Target:
    """The target that `--to` names; hamt3 keeps DAG-CBOR unless it is told otherwise."""
    kind = kinds.parse(to)
    if kind.name == "mst":
        return MstTarget(**more)
    if kind.name == "unixfs":
        return UnixfsTarget(**more)
    chosen: Any = encoding or ("cbor" if kind.name == "hamt3" else "auto")
    return HamtTarget(kind, ValueOptions(encoding=chosen), **more)


def copied(source: Source, out: Path, to: str, **more: Any) -> Copied:
    """Copy a source as the command line does."""
    choices = {name: more.pop(name) for name in ("escape", "follow") if name in more}
    copy = Copy(source, target(to, **more), **choices)
    copy.plan()
    return copy.run(out)


def converted(path: Path, out: Path, to: str, **more: Any) -> Copied:
    """Copy what is in a CAR."""
    with Archive.open(path) as archive:
        source = ArchiveSource(archive.kind, archive.workspace.staged, archive.workspace.values)
        return copied(source, out, to, **more)


def content(path: Path) -> dict[str, Any]:
    """Everything in a CAR, as Python has it."""
    with Archive.open(path) as archive:
        return dict(archive)


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> bytes:
    """A tar of these members, in their order."""
    stream = io.BytesIO()
    opened: Callable[..., tarfile.TarFile] = tarfile.open
    with opened(fileobj=stream, mode=mode) as tar:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> Any:
    """One member of a tar."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info, data


def fill(folder: Path, files: Mapping[str, bytes]) -> Path:
    """A folder with these files."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder
