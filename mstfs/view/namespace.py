"""Keys as folders: what the entries of a tree look like below a path."""

from collections.abc import Iterator
from typing import NamedTuple

from mstfs.staging.tree import StagedTree
from mstfs.tree.interface import UNREADABLE, OnMissing
from mstfs.view.names import Names, Path

PAGE = 1024


class Child(NamedTuple):
    """One name in a folder: a file with its key and CID, or a folder (`key` and `cid` None)."""

    name: bytes
    key: bytes | None
    cid: bytes | None


class Namespace:
    """The folders and files that a staged tree spells; scratch and drafts are not its business."""

    def __init__(self, tree: StagedTree, names: Names) -> None:
        self.tree = tree
        self.names = names

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
                if any(True for _ in self.children(folder, lambda error: None)):
                    return True
                raise
            return entry is not None and entry.key.startswith(prefix)
        return any(True for _ in self.children(folder))

    def children(self, folder: Path, on_missing: OnMissing | None = None) -> Iterator[Child]:
        """The names in a folder, folders once each, in key order.

        A folder inside is passed over with one search, whatever it holds.
        """
        if not self.names.can_hold_keys(folder):
            return
        depth = len(folder)
        prefix = self.names.prefix_of(folder)
        seen: set[bytes] = set()
        after: bytes | None = None
        passed = b""
        while page := self.tree.page(prefix, after, PAGE if depth else 1, on_missing):
            for key, cid in page:
                if key <= passed:
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
            after = max(page[-1].key, passed)

    def _last_below(self, folder: Path) -> bytes:
        # No key below the folder is greater than this, and no key beyond it is smaller: "/" + 1 is "0".
        return self.names.prefix_of(folder)[:-1] + b"/" + b"\xff" * 8192

    def keys_below(self, folder: Path) -> Iterator[tuple[Path, bytes, bytes]]:
        """Path, key and CID of every entry below a folder, in key order."""
        prefix = self.names.prefix_of(folder)
        after: bytes | None = None
        while page := self.tree.page(prefix, after, PAGE):
            for key, cid in page:
                path = self.names.path_of(key)
                if path[: len(folder)] == folder:
                    yield path, key, cid
            after = page[-1].key
