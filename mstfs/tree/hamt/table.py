"""The key table of a root: every entry in key order, made by one walk and kept."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from threading import Lock
from typing import cast

from mstfs.errors import LimitExceeded, MstfsError, NodeError
from mstfs.limits import TREE_HEIGHT
from mstfs.tree.hamt.node import Load
from mstfs.tree.interface import UNREADABLE, Entry, OnMissing

# What CPython takes for an entry beyond the bytes of its key: two objects, two slots, the CID, the map.
_ENTRY_COST = 33 + 8 + 33 + 8 + 36 + 50

# The same as `Entry(*pair)`, without a Python frame for each of many entries.
_new_entry = cast(Callable[[tuple[bytes, bytes]], Entry], partial(tuple.__new__, Entry))


_GETS_PER_MAP = 16
"""One look-up for so many keys makes a map worth it."""

HOLES_MAX = 4096
"""Subtrees that cannot be read, of which a table remembers why."""


class KeyTable:
    """Keys in ascending order, their CIDs, and what was wrong with the subtrees that are not in it."""

    def __init__(self, keys: list[bytes], cids: list[bytes], holes: tuple[MstfsError, ...]) -> None:
        self.keys = keys
        self.cids = cids
        self.holes = holes
        self._by_key: dict[bytes, bytes] | None = None
        self._gets = 0

    def get(self, key: bytes) -> bytes | None:
        """The CID under a key."""
        if self._by_key is not None:
            return self._by_key.get(key)
        self._gets += 1
        if _GETS_PER_MAP * self._gets > len(self.keys):
            # Who asks for so many keys is better off with a map, which takes less time, and more room.
            self._by_key = dict(zip(self.keys, self.cids, strict=True))
        at = bisect_left(self.keys, key)
        return self.cids[at] if at < len(self.keys) and self.keys[at] == key else None

    def seek(self, key: bytes) -> Entry | None:
        """The first entry whose key is `key` or greater."""
        at = bisect_left(self.keys, key)
        return Entry(self.keys[at], self.cids[at]) if at < len(self.keys) else None

    def bounds(self, prefix: bytes, after: bytes | None = None) -> tuple[int, int]:
        """Where the entries with this prefix and keys greater than `after` begin and end."""
        low = bisect_left(self.keys, prefix if after is None or after < prefix else after + b"\0")
        # The least key that is greater than every key with the prefix; nothing but ff bytes has none.
        stem = prefix.rstrip(b"\xff")
        if not stem:
            return low, len(self.keys)
        return low, bisect_left(self.keys, stem[:-1] + bytes((stem[-1] + 1,)), low)

    def page(self, prefix: bytes, after: bytes | None, limit: int | None) -> list[Entry]:
        """At most `limit` entries with this prefix and keys greater than `after`."""
        low, high = self.bounds(prefix, after)
        if limit is not None:
            high = min(high, low + max(0, limit))
        return list(map(_new_entry, zip(self.keys[low:high], self.cids[low:high], strict=True)))

    def walk(self, prefix: bytes) -> Iterator[Entry]:
        """Every entry with this prefix."""
        low, high = self.bounds(prefix)
        yield from map(_new_entry, zip(self.keys[low:high], self.cids[low:high], strict=True))

    def tell(self, on_missing: OnMissing | None) -> None:
        """Hand every hole to `on_missing`; without it the first one is raised."""
        for hole in self.holes:
            if on_missing is None:
                raise hole.with_traceback(None)
            on_missing(hole)


def read(load: Load, root: bytes) -> KeyTable:
    """The table of a root; reads every node, and passes over those that it cannot read.

    An honest tree never links a node twice, as its keys stand only once: such links are holes too, and so is
    what hangs deeper than any hash reaches.
    """
    entries: dict[bytes, bytes] = {}
    holes: list[MstfsError] = []
    seen = {root}
    stack = [(root, 0)]
    while stack:
        cid, level = stack.pop()
        try:
            node = load(cid, level)
        except UNREADABLE as error:
            if len(holes) <= HOLES_MAX:
                holes.append(error.with_traceback(None))
            continue
        entries.update(node.entries)
        if not node.links:
            continue
        level += 1
        if level >= TREE_HEIGHT:
            if len(holes) <= HOLES_MAX:
                holes.append(LimitExceeded(f"the tree is higher than {TREE_HEIGHT} levels"))
            continue
        repeated = False
        for link in node.links.values():
            if link in seen:
                repeated = True
            else:
                seen.add(link)
                stack.append((link, level))
        if repeated and len(holes) <= HOLES_MAX:
            holes.append(NodeError(cid, "repeated-node", "links nodes that are linked elsewhere too"))
    if len(holes) > HOLES_MAX:
        holes[HOLES_MAX] = LimitExceeded(f"more than {HOLES_MAX} subtrees of the tree cannot be read")
    keys = sorted(entries)
    return KeyTable(keys, list(map(entries.__getitem__, keys)), tuple(holes))


class TableCache:
    """Key tables by root, of about `limit` bytes together; the last one stays in any case."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._held: OrderedDict[bytes, tuple[KeyTable, int]] = OrderedDict()
        self._last: tuple[bytes, KeyTable] | None = None
        self._used = 0

    def get(self, root: bytes) -> KeyTable | None:
        """The table of a root, if it is held."""
        last = self._last
        if last is not None and last[0] == root:
            return last[1]
        if root not in self._held:
            return None
        with self._lock:
            held = self._held.get(root)
            if held is None:
                return None
            self._held.move_to_end(root)
            self._last = root, held[0]
            return held[0]

    def takes(self, entries: int) -> bool:
        """Whether a table of so many entries is within the limit."""
        return _ENTRY_COST * entries <= self._limit

    def put(self, root: bytes, table: KeyTable) -> None:
        """Hold a table in place of one that the root had, and let go of those not used for longest."""
        cost = _ENTRY_COST * len(table.keys) + sum(map(len, table.keys)) + 200 * len(table.holes)
        with self._lock:
            self._drop(root)
            self._held[root] = (table, cost)
            self._last = root, table
            self._used += cost
            while self._used > self._limit and len(self._held) > 1:
                _, (_, freed) = self._held.popitem(last=False)
                self._used -= freed

    def _drop(self, root: bytes) -> None:
        held = self._held.pop(root, None)
        if held is not None:
            self._used -= held[1]
