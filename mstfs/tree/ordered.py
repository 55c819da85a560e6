"""Trees that list their entries in one way only: in key order, from one key to another."""

from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice

from mstfs.tree.interface import Entry, OnMissing, Tree


def behind(prefix: bytes) -> bytes | None:
    """The least key that is greater than every key with the prefix; None if there is no such key."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


class OrderedTree(Tree):
    """A tree whose listings are parts of `between`."""

    @abstractmethod
    def between(
        self, root: bytes, start: bytes, end: bytes | None, on_missing: OnMissing | None
    ) -> Iterator[Entry]:
        """The entries from the key `start` on and below `end`, in key order. `on_missing` as in `page`."""
        ...

    def page(
        self,
        root: bytes,
        prefix: bytes = b"",
        after: bytes | None = None,
        limit: int | None = None,
        on_missing: OnMissing | None = None,
    ) -> list[Entry]:
        if limit is not None and limit <= 0:
            return []
        start = prefix if after is None or after < prefix else after + b"\0"
        return list(islice(self.between(root, start, behind(prefix), on_missing), limit))

    def walk(self, root: bytes, prefix: bytes = b"", on_missing: OnMissing | None = None) -> Iterator[Entry]:
        return self.between(root, prefix, behind(prefix), on_missing)

    def seek(self, root: bytes, key: bytes, on_missing: OnMissing | None = None) -> Entry | None:
        return next(self.between(root, key, None, on_missing), None)
