"""Keys as folders: what the entries of a tree look like below a path."""

from collections.abc import Iterator
from typing import NamedTuple

from mstfs.staging.tree import OnMissing, StagedTree
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
        prefix = self.names.prefix_of(folder)
        if self.names.is_whole(folder):
            entry = self.tree.seek(prefix)
            return (
                entry is not None
                and entry.key.startswith(prefix)
                and self.names.path_of(entry.key)[: len(folder)] == folder
            )
        return any(True for _ in self.children(folder))

    def children(self, folder: Path, on_missing: OnMissing | None = None) -> Iterator[Child]:
        """The names in a folder, folders once each, in key order.

        A folder inside is passed over with one search, whatever it holds.
        """
        depth = len(folder)
        prefix = self.names.prefix_of(folder)
        seen: set[bytes] = set()
        after: bytes | None = None
        while True:
            page = self.tree.page(prefix, after, PAGE if depth else 1, on_missing)
            if not page:
                return
            for key, cid in page:
                after = key
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
                    after = self._last_below(inner)
                    break

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
