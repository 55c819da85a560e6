"""What the entries of a tree look like below a path, and keys as folders."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from mstfs.staging.tree import StagedTree
from mstfs.tree.interface import UNREADABLE, OnMissing
from mstfs.view.names import ITSELF, Names, Path

PAGE = 1024


class Child(NamedTuple):
    """One name in a folder: a file with its key and CID, or a folder.

    `key` is None for a folder, and then `cid` is what a tree says that the folder is, if it says it.
    """

    name: bytes
    key: bytes | None
    cid: bytes | None


class Namespace(Protocol):
    """The folders and files that a tree spells; scratch and drafts are not its business.

    Methods raise what a `Tree` raises where blocks on the way cannot be read.
    """

    def find(self, path: Path) -> Child | None:
        """What a path names, or None. The empty path is a folder."""
        ...

    def children(self, folder: Path, on_missing: OnMissing | None = None) -> Iterator[Child]:
        """The names in a folder, each once."""
        ...

    def keys_below(self, folder: Path) -> Iterator[tuple[Path, bytes, bytes]]:
        """Path, key and CID of every file below a folder."""
        ...

    def path_of(self, key: bytes) -> Path:
        """The path of a key, whether or not the tree has it."""
        ...

    def key_of(self, path: Path) -> bytes | None:
        """The key that a file's path spells, whether or not the tree has it; None where it spells none."""
        ...


def _no_folder(path: Path) -> bool:
    return False


class KeyNamespace(Namespace):
    """Keys as folders. `is_kept` says of a path that it is a folder, whether or not keys are below it."""

    def __init__(self, tree: StagedTree, names: Names, is_kept: Callable[[Path], bool] = _no_folder) -> None:
        self.tree = tree
        self.names = names
        self.is_kept = is_kept

    def path_of(self, key: bytes) -> Path:
        path = self.names.path_of(key)
        return (*path, ITSELF) if self.names.nested and self.is_folder(path) else path

    def key_of(self, path: Path) -> bytes | None:
        return self.names.key_of(path[:-1] if self._is_itself(path) else path)

    def _is_itself(self, path: Path) -> bool:
        return self.names.nested and len(path) > 1 and path[-1] == ITSELF

    def is_folder(self, path: Path) -> bool:
        """Whether a path is a folder: of keys, or because it is kept."""
        return self.is_kept(path) or self.folder_exists(path)

    def find(self, path: Path) -> Child | None:
        if not path:
            return Child(b"", None, None)
        nested = self.names.nested
        if nested and self.is_folder(path):
            return Child(path[-1], None, None)
        if self._is_itself(path) and not self.is_folder(path[:-1]):
            return None
        key = self.key_of(path)
        cid = self.tree.get(key) if key is not None else None
        if cid is not None:
            return Child(path[-1], key, cid)
        if nested or key is not None:
            return None  # The path of a file is never that of a folder of keys.
        return Child(path[-1], None, None) if self.is_folder(path) else None

    def folder_exists(self, folder: Path) -> bool:
        """True if a key lives below the folder. The root always exists."""
        if not folder:
            return True
        if not self.names.can_hold_keys(folder):
            return False
        prefix = self.names.prefix_of(folder)
        if self.names.is_whole(folder):
            try:
                entry = self.tree.seek(prefix)
            except UNREADABLE:
                # What stands first in the folder is damaged: it exists if anything in it can be read.
                if any(True for _ in self._below(folder, lambda error: None)):
                    return True
                if self.names.nested:
                    # Hashes scatter keys: one damaged node would hide each file behind a folder that may be.
                    return False
                raise
            return entry is not None and entry.key.startswith(prefix)
        return any(True for _ in self._below(folder, None))

    def children(self, folder: Path, on_missing: OnMissing | None = None) -> Iterator[Child]:
        """The names in a folder, folders once each: in key order, where keys have a form."""
        if not self.names.nested:
            yield from self._below(folder, on_missing)
            return
        # What is a file at first may turn out to be a folder too, once all names have been seen.
        found: dict[bytes, Child] = {}
        for child in self._below(folder, on_missing):
            if child.key is None or child.name not in found:
                found[child.name] = child
        if folder:
            key = self.names.key_of(folder)
            cid = self.tree.get(key) if key is not None else None
            if cid is not None:
                yield Child(ITSELF, key, cid)
        yield from found.values()

    def _below(self, folder: Path, on_missing: OnMissing | None) -> Iterator[Child]:
        """The names that keys spell in a folder; each inner folder is passed over with one search."""
        if not self.names.can_hold_keys(folder):
            return
        depth = len(folder)
        prefix = self.names.prefix_of(folder)
        seen: set[bytes] = set()
        after: bytes | None = None
        passed: bytes | None = None
        # Beside collections there are no files: the first entry of each is enough.
        size = PAGE if depth or self.names.nested else 1
        while page := self.tree.page(prefix, after, size, on_missing):
            for key, cid in page:
                if passed is not None and key <= passed:
                    continue
                path = self.names.path_of(key)
                if path[:depth] != folder:
                    continue
                if len(path) == depth + 1:
                    yield Child(path[depth], key, cid)
                    continue
                if path[depth] not in seen:
                    seen.add(path[depth])
                    yield Child(path[depth], None, None)
                inner = (*folder, path[depth])
                if self.names.is_whole(inner):
                    passed = self._last_below(inner)
            after = max(page[-1].key, passed or b"")

    def _last_below(self, folder: Path) -> bytes:
        # No key below the folder is greater than this, and no key beyond it is smaller: "/" + 1 is "0".
        return self.names.prefix_of(folder)[:-1] + b"/" + b"\xff" * 8192

    def keys_below(self, folder: Path) -> Iterator[tuple[Path, bytes, bytes]]:
        itself = self.names.key_of(folder) if self.names.nested and folder else None
        cid = self.tree.get(itself) if itself is not None else None
        if itself is not None and cid is not None:
            yield (*folder, ITSELF), itself, cid
        prefix = self.names.prefix_of(folder)
        after: bytes | None = None
        while page := self.tree.page(prefix, after, PAGE):
            for key, cid in page:
                path = self.path_of(key)
                if path[: len(folder)] == folder:
                    yield path, key, cid
            after = page[-1].key
