"""Whole folders out of a stream of paths, in bounded memory: `build_folders`.

    build_folders(
        entries: Iterable[tuple[tuple[bytes, ...], Built | Folder | None]],
        hash_code: int = cids.SHA2_256,
        directory_bytes: int = DIRECTORY_BYTES,
        estimate: Estimate = "links",
    ) -> Blocks

A path is a tuple of names. What stands there is a file or symbolic link that was built before (its blocks are
the caller's business), or a folder: `Folder` with its own mode and time, or None for one without. Folders on
the way to something come into being by themselves.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from mstfs.codec import cid as cids
from mstfs.codec.dag_pb import Mtime
from mstfs.errors import Refused
from mstfs.limits import KEY_BYTES, NESTING
from mstfs.tree.unixfs.builder import DIRECTORY_BYTES, Blocks, Built, Estimate, build_directory
from mstfs.tree.unixfs.directory import Dirent

Parts: TypeAlias = tuple[bytes, ...]

_SHOWN = 200


class Folder(NamedTuple):
    """A folder that is there even if nothing is in it, and what it carries."""

    mode: int | None = None
    mtime: Mtime | None = None


class _Open:
    """A folder of which more may come: what is known to be in it, and which of that are folders."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.dirents: dict[bytes, Dirent] = {}
        self.folders: set[bytes] = set()
        self.told: Folder | None = None

    def build(self, hash_code: int, directory_bytes: int, estimate: Estimate) -> Blocks:
        rows = sorted(self.dirents.values())
        mode, mtime = self.told or Folder()
        return build_directory(rows, hash_code, directory_bytes, estimate, mode, mtime)


def build_folders(
    entries: Iterable[tuple[Parts, Built | Folder | None]],
    hash_code: int = cids.SHA2_256,
    directory_bytes: int = DIRECTORY_BYTES,
    estimate: Estimate = "links",
) -> Blocks:
    """The blocks of all folders, children before their parents; returns what was built for the topmost one.

    All that is below a folder must come together, as it does in the order of paths: either that of the
    tuples, or that of the bytes of joined paths, if then each `Folder` (or None) comes right before or behind
    what is in it. In memory are the dirents of one folder of each depth. Large folders are sharded as in
    `build_directory`, each for itself. The empty path is the topmost folder.

    Raises Refused, naming the path, for one that comes twice, is a file and a folder, is torn apart, has a
    name that no file can have, or is too long or too deep to be read again.
    """
    way = [_Open(b"")]
    here: Parts = ()
    for parts, what in entries:
        _check(parts)
        is_file = isinstance(what, Built)
        if is_file and not parts:
            raise Refused("the topmost entry of a folder must be a folder")
        folder = parts[:-1] if is_file else parts
        common = 0
        while common < min(len(here), len(folder)) and here[common] == folder[common]:
            common += 1
        while len(way) > common + 1:
            yield from _close(way, hash_code, directory_bytes, estimate)
        for depth in range(common, len(folder)):
            if folder[depth] in way[-1].dirents:
                raise Refused(_conflict(way[-1], folder[: depth + 1], True))
            way.append(_Open(folder[depth]))
        here = folder
        top = way[-1]
        if not isinstance(what, Built):
            if top.told is not None:
                raise Refused(_twice(parts))
            top.told = what or Folder()
        elif parts[-1] in top.dirents:
            raise Refused(_conflict(top, parts, False))
        else:
            top.dirents[parts[-1]] = Dirent(parts[-1], what.cid, what.tsize)
    while len(way) > 1:
        yield from _close(way, hash_code, directory_bytes, estimate)
    return (yield from way[0].build(hash_code, directory_bytes, estimate))


def _close(way: list[_Open], hash_code: int, directory_bytes: int, estimate: Estimate) -> Blocks:
    # Build the deepest open folder, and put it into the one above.
    done = way.pop()
    built = yield from done.build(hash_code, directory_bytes, estimate)
    way[-1].dirents[done.name] = Dirent(done.name, built.cid, built.tsize)
    way[-1].folders.add(done.name)
    return built


def _conflict(folder: _Open, parts: Parts, is_folder: bool) -> str:
    # Why something cannot stand at `parts`, where something stands already.
    was_folder = parts[-1] in folder.folders
    if was_folder != is_folder:
        return f"{_shown(parts)} is a file and a folder"
    return f"what is in the folder {_shown(parts)} does not come together" if is_folder else _twice(parts)


def _twice(parts: Parts) -> str:
    return f"{_shown(parts)} comes twice"


def _check(parts: Parts) -> None:
    for name in parts:
        if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            raise Refused(f"{_shown(parts)} has a part that no file can be called")
    size = sum(map(len, parts)) + len(parts)
    if size > KEY_BYTES or len(parts) >= NESTING:
        raise Refused(f"{_shown(parts)} is longer than {KEY_BYTES} bytes or {NESTING} names")


def _shown(parts: Parts) -> str:
    text = b"/".join(parts).decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
