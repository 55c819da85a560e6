"""Directories as folders: what a UnixFS tree looks like below a path.

Here a folder is a directory of the tree, an empty one too, and the key of a file or symbolic link is its
path in the tree. Names are any bytes, so those that cannot be names are escaped as parts of keys are
(`names`): the mark says whether the name is that of a directory, and `.mstfs` is escaped in the topmost
folder only.

Names that are empty or hold a slash have no path in the tree. What stands under or below one has a key that
begins with a slash, as no other does: each name with `%` as `%25` and a slash as `%2F`, an empty one as `%`.

What an entry is stands in its block. One whose block cannot be had is listed as a file, and reading it fails.
A root that is a file or a symbolic link is the only entry of the topmost folder; its name is the CID.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mstfs.codec import cid as cids
from mstfs.codec.dag_pb import KIND_SHARD
from mstfs.errors import BlockError, FormatError, LimitExceeded, MstfsError
from mstfs.limits import KEY_BYTES, NAME_BYTES, NESTING, REPEATED
from mstfs.tree.interface import UNREADABLE, OnMissing
from mstfs.tree.unixfs.directory import directory
from mstfs.tree.unixfs.file import DIRECTORY
from mstfs.tree.unixfs.path import kind_of
from mstfs.tree.unixfs.tree import UnixfsTree
from mstfs.view.names import (
    CONTINUED,
    CONTROL,
    FILE,
    FOLDER,
    PIECE_BYTES,
    Path,
    is_plain,
    pieces,
    strip_armour,
)
from mstfs.view.namespace import Child, Namespace

_PLACES = 4096
"""Folders whose directory is remembered."""

_STRAYS = 1 << 16
"""Names that a listing found where their hash does not lead, and that are remembered."""

_PIECES = 3 * KEY_BYTES // (PIECE_BYTES - 2) + 1
"""Pieces of the longest name, if each byte takes three."""


class _Place(NamedTuple):
    """A folder: the directory, the names on the way to it, and the pieces of a name that goes on in it."""

    cid: bytes
    names: tuple[bytes, ...]
    begun: Path = ()


class _Step(NamedTuple):
    """What a name in a folder stands for: its name in the directory, the CID, and whether a directory."""

    name: bytes
    cid: bytes
    is_folder: bool


class DirectoryNamespace(Namespace):
    """The folders and files of the UnixFS tree at `root`.

    Looking up a name reads one path of shards in each directory on the way. What is deeper than NESTING
    directories, or has a longer key than KEY_BYTES, is out of reach; so it is for walks of the tree.
    Safe to use from several threads if the block reader is.
    """

    def __init__(self, tree: UnixfsTree, root: bytes) -> None:
        self.tree = tree
        self.root = root
        self._file_name = cids.to_text(root).encode()
        self._has_root: bool | None = None
        self._places: dict[Path, _Place] = {}
        self._strays: dict[tuple[bytes, bytes], bytes] = {}

    def find(self, path: Path) -> Child | None:
        """What a path names, or None. Errors only where the way to it cannot be read."""
        if not self._root_is_folder():
            if path == (self._file_name,):
                return Child(self._file_name, b"", self.root)
            return None if path else Child(b"", None, None)
        if not path:
            return Child(b"", None, self.root)
        folder = self._place(path[:-1])
        if folder is None:
            return None
        name = path[-1]
        if name.startswith(CONTINUED):
            return Child(name, None, None) if self._goes_on(path) else None
        found = self._step(folder, name, lenient=True)
        if found is None:
            return None
        key = _key((*folder.names, found.name))
        if len(key) > KEY_BYTES:
            return None
        return Child(name, None if found.is_folder else key, found.cid)

    def _goes_on(self, path: Path) -> bool:
        # Whether a long name goes on below a path that ends in a piece of one.
        place = self._place(path)
        if place is None:
            return False
        errors: list[MstfsError] = []
        found = any(True for _ in self._listed(place, errors.append))
        if errors and not found:
            raise errors[0]
        return found

    def folder_exists(self, folder: Path) -> bool:
        """True for a directory, and for a folder in which a long name goes on."""
        found = self.find(folder)
        return found is not None and found.key is None

    def children(self, folder: Path, on_missing: OnMissing | None = None) -> Iterator[Child]:
        """The names in a folder in the order of its blocks, each once; shard by shard, as they are asked for.

        What is no raw block is read, to see whether it is a directory. `on_missing` is told of shards that
        could not be read, and of entries whose key is too long; without it that is raised.
        """
        if not self._root_is_folder():
            if not folder:
                yield Child(self._file_name, b"", self.root)
            return
        place = self._place(folder)
        if place is not None:
            yield from self._listed(place, on_missing)

    def keys_below(
        self, folder: Path, on_missing: OnMissing | None = None
    ) -> Iterator[tuple[Path, bytes, bytes]]:
        """Path, key and CID of every file below a folder, directory by directory.

        `on_missing` is told of all that could not be read or is too deep; without it that is raised.
        LimitExceeded in any case once directories that come again have had too many names.
        """
        seen: set[bytes] = set()
        repeated = 0
        ways = [(folder, self.children(folder, on_missing), False)]
        while ways:
            above, children, again = ways[-1]
            try:
                child = next(children, None)
            except UNREADABLE as error:
                if on_missing is None:
                    raise
                on_missing(error)
                child = None
            if child is None:
                ways.pop()
                continue
            repeated += again
            if repeated > REPEATED:
                raise LimitExceeded(f"the same directories come again with more than {REPEATED} names")
            path = (*above, child.name)
            if child.key is None:
                ways.append((path, self.children(path, on_missing), again or child.cid in seen))
                if child.cid is not None:
                    seen.add(child.cid)
            elif child.cid is not None:
                yield path, child.key, child.cid

    # --- keys and paths -----------------------------------------------------------------------

    def path_of(self, key: bytes) -> Path:
        if not key and not self._root_is_folder():
            return (self._file_name,)
        names = _names_of(key)
        path: list[bytes] = []
        for depth, name in enumerate(names, 1):
            if _is_plain(name, depth == 1):
                path.append(name)
            else:
                path += pieces(name, FILE if depth == len(names) else FOLDER, NAME_BYTES)
        return tuple(path)

    def key_of(self, path: Path) -> bytes | None:
        if not self._root_is_folder():
            return b"" if path == (self._file_name,) else None
        names: list[bytes] = []
        begun: list[bytes] = []
        for depth, part in enumerate(path, 1):
            begun.append(part)
            if part.startswith(CONTINUED):
                continue
            spelled = _spelled(begun, not names)
            if spelled is None or spelled[1] not in (b"", FILE if depth == len(path) else FOLDER):
                return None
            names.append(spelled[0])
            begun.clear()
        if begun or not names:
            return None
        key = _key(names)
        return key if len(key) <= KEY_BYTES else None

    # --- the tree -----------------------------------------------------------------------------

    def _root_is_folder(self) -> bool:
        if self._has_root is None:
            self._has_root = kind_of(self.tree.node, self.root) == DIRECTORY
        return self._has_root

    def _place(self, folder: Path) -> _Place | None:
        """The directory of a folder, or None if there is none."""
        known = len(folder)
        while known and folder[:known] not in self._places:
            known -= 1
        place = self._places[folder[:known]] if known else _Place(self.root, ())
        for depth in range(known, len(folder)):
            part = folder[depth]
            if part.startswith(CONTINUED):
                if len(place.begun) == _PIECES:
                    return None
                place = place._replace(begun=(*place.begun, part))
                continue
            found = self._step(place, part, lenient=False)
            if found is None or not found.is_folder:
                return None
            place = _Place(found.cid, (*place.names, found.name))
            if len(place.names) >= NESTING or sum(map(len, place.names)) > KEY_BYTES:
                raise LimitExceeded(f"directories are nested deeper than {NESTING} or {KEY_BYTES} bytes")
            if len(self._places) >= _PLACES:
                self._places.clear()
            self._places[folder[: depth + 1]] = place
        return place

    def _step(self, place: _Place, part: bytes, lenient: bool) -> _Step | None:
        """What a name in a folder stands for; `lenient` takes for a file what cannot be read."""
        spelled = _spelled((*place.begun, part), not place.names)
        if spelled is None:
            return None
        name, mark = spelled
        cid = self._strays.get((place.cid, name)) or self.tree.lookup(place.cid, name)
        if cid is None:
            return None
        is_folder = self._is_folder(cid) if lenient else kind_of(self.tree.node, cid) == DIRECTORY
        return _Step(name, cid, is_folder) if mark in (b"", FOLDER if is_folder else FILE) else None

    def _is_folder(self, cid: bytes) -> bool:
        try:
            return kind_of(self.tree.node, cid) == DIRECTORY
        except (BlockError, FormatError):
            return False

    def _listed(self, place: _Place, on_missing: OnMissing | None) -> Iterator[Child]:
        top = not place.names
        depth = len(place.begun)
        begun: set[bytes] = set()
        sharded = directory(self.tree.node, place.cid).kind == KIND_SHARD
        for name, cid, _ in self.tree.entries(place.cid, on_missing):
            plain = _is_plain(name, top)
            if plain and depth:
                continue
            key = _key((*place.names, name))
            if len(key) > KEY_BYTES:
                error = LimitExceeded(f"the key of an entry has {len(key)} bytes, more than {KEY_BYTES}")
                if on_missing is None:
                    raise error
                on_missing(error)
                continue
            if sharded:
                self._note_stray(place.cid, name, cid)
            if plain:
                yield Child(name, None if self._is_folder(cid) else key, cid)
                continue
            parts = pieces(name, FILE, NAME_BYTES)
            if tuple(parts[:depth]) != place.begun:
                continue
            if len(parts) > depth + 1:
                if parts[depth] not in begun:
                    begun.add(parts[depth])
                    yield Child(parts[depth], None, None)
            elif self._is_folder(cid):
                yield Child(FOLDER + parts[depth][len(FILE) :], None, cid)
            else:
                yield Child(parts[depth], key, cid)

    def _note_stray(self, folder: bytes, name: bytes, cid: bytes) -> None:
        # A shard may hold a name where its hash does not lead, or say that it uses another hash. Whoever
        # lists the folder sees the name, and then it must be there.
        try:
            if self.tree.lookup(folder, name) == cid:
                return
        except UNREADABLE:
            pass
        if len(self._strays) < _STRAYS:
            self._strays[folder, name] = cid


# --- names ------------------------------------------------------------------------------------


def _is_plain(name: bytes, top: bool) -> bool:
    if name == CONTROL:
        return not top
    return is_plain(name, NAME_BYTES) and b"/" not in name


def _spelled(parts: Sequence[bytes], top: bool) -> tuple[bytes, bytes] | None:
    """The name that the parts of a path spell, and its mark if it is escaped, else an empty one.

    None if they spell none, or spell it in another way than `pieces` does.
    """
    last = parts[-1]
    if len(parts) == 1 and _is_plain(last, top):
        return last, b""
    mark = last[:2]
    if mark not in (FILE, FOLDER):
        return None
    name = b"".join([strip_armour(part[2:]) for part in parts])
    if _is_plain(name, top) or pieces(name, mark, NAME_BYTES) != list(parts):
        return None
    return name, mark


def _key(names: Sequence[bytes]) -> bytes:
    key = b"/".join(names)
    if all(names) and key.count(b"/") == len(names) - 1:
        return key
    return b"/" + b"/".join([name.replace(b"%", b"%25").replace(b"/", b"%2F") or b"%" for name in names])


def _names_of(key: bytes) -> list[bytes]:
    if not key.startswith(b"/"):
        return key.split(b"/")
    return [
        b"" if part == b"%" else part.replace(b"%2F", b"/").replace(b"%25", b"%")
        for part in key[1:].split(b"/")
    ]
