"""The staged tree: edits laid over a root, read as one."""

from collections.abc import Iterator

from mstfs.staging.edits import Edits
from mstfs.tree.interface import Entry, OnMissing, Tree


class StagedTree:
    """What a tree will be once its staged edits are published.

    `edits` None gives the tree at `root` alone (a root of the history). Keys are bytes, values
    are CIDs. A subtree that cannot be read is reported to `on_missing` and skipped by listings.
    """

    def __init__(self, tree: Tree, root: bytes, edits: Edits | None) -> None:
        self.tree = tree
        self.root = root
        self.edits = edits

    def get(self, key: bytes) -> bytes | None:
        """The CID of a key, or None. Raises BlockError where a node on the way cannot be read."""
        if self.edits is not None:
            edit = self.edits.get(key)
            if edit is not None:
                return edit.cid
        return self.tree.get(self.root, key)

    def published(self, key: bytes) -> bytes | None:
        """The CID of a key at the root, staged edits aside."""
        return self.tree.get(self.root, key)

    def seek(self, key: bytes) -> Entry | None:
        """The first entry whose key is not less than `key`."""
        if self.edits is None or not self.edits:
            return self.tree.seek(self.root, key)
        return next(self._merged(key, inclusive=True, prefix=b""), None)

    def page(
        self,
        prefix: bytes = b"",
        after: bytes | None = None,
        limit: int | None = None,
        on_missing: OnMissing | None = None,
    ) -> list[Entry]:
        """Up to `limit` entries that start with `prefix` and follow `after`, in key order."""
        if self.edits is None or not self.edits.any_within(prefix):
            return self.tree.page(self.root, prefix, after, limit, on_missing=on_missing)
        entries: list[Entry] = []
        inclusive = after is None or after < prefix
        start = prefix if after is None or inclusive else after
        for entry in self._merged(start, inclusive=inclusive, prefix=prefix, on_missing=on_missing):
            if limit is not None and len(entries) >= limit:
                break
            entries.append(entry)
        return entries

    def _merged(
        self, start: bytes, *, inclusive: bool, prefix: bytes, on_missing: OnMissing | None = None
    ) -> Iterator[Entry]:
        assert self.edits is not None
        below = self._below(start, inclusive, prefix, on_missing)
        base = next(below, None)
        staged = self.edits.after(start, inclusive)
        key = next(staged, None)
        while base is not None or key is not None:
            if key is not None and not key.startswith(prefix):
                key = None
                continue
            if key is None or (base is not None and base.key < key):
                assert base is not None
                yield base
                base = next(below, None)
                continue
            if base is not None and base.key == key:
                base = next(below, None)
            edit = self.edits.get(key)
            if edit is not None and edit.cid is not None:
                yield Entry(key, edit.cid)
            key = next(staged, None)

    def _below(
        self, start: bytes, inclusive: bool, prefix: bytes, on_missing: OnMissing | None
    ) -> Iterator[Entry]:
        after: bytes | None = start
        if inclusive and start == prefix:
            after = None
        elif inclusive:
            first = self.tree.seek(self.root, start)
            if first is None or not first.key.startswith(prefix):
                return
            yield first
            after = first.key
        # Pages grow, so that a look at the first entries is cheap and a whole listing is quick.
        size = 16
        while True:
            page = self.tree.page(self.root, prefix, after, size, on_missing=on_missing)
            yield from page
            if len(page) < size:
                return
            after = page[-1].key
            size = min(size * 4, 4096)
