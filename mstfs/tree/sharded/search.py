"""A whole store in key order: the metadata and the chunks of each array, merged as they come.

An array is looked into once the walk comes to keys that begin with its path; a shard once the walk comes to
a chunk in it.
"""

from bisect import bisect_left
from collections.abc import Iterator
from heapq import heappop, heappush, heapreplace
from typing import TypeAlias

from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, MstfsError
from mstfs.tree.interface import UNREADABLE, Entry, OnMissing
from mstfs.tree.sharded.chunks import ChunkKeys
from mstfs.tree.sharded.manifest import ArrayIndex
from mstfs.tree.sharded.shard import Shard
from mstfs.tree.sharded.store import NO_CHUNKS, Store

REPEATED = 1 << 20
"""Chunks that one walk gives out of shards that it was in before."""

FRONTIER = 1024
"""Missing shards that one error names, at most."""

_Source: TypeAlias = Iterator[tuple[bytes, bytes]]

# Of equal keys that of the longest path counts, then the metadata, then what yields to the metadata.
_METADATA = 1
_YIELDING = 2


def entries(
    store: Store, start: bytes = b"", end: bytes | None = None, on_missing: OnMissing | None = None
) -> Iterator[Entry]:
    """Every entry whose key is at least `start` and less than `end`, in key order; lazily.

    With `on_missing` what could not be read is told and left out; else it is raised, a missing shard as
    MissingBlocks with others of the same array that are missing too.
    """
    if end is not None and start >= end:
        return
    walk = _Walk(store, on_missing)
    waiting = walk.arrays(start, end)
    low, high = store.manifest.bounds(start, end)
    heap: list[tuple[bytes, int, bytes, _Source]] = []
    _begin(heap, _METADATA, walk.metadata(low, high))
    last: bytes | None = None
    while True:
        while waiting and (not heap or waiting[-1][0] <= heap[0][0]):
            _, path, index = waiting.pop()
            keys = walk.keys(path)
            if keys is not None:
                order = _YIELDING if store.yields(path) else -len(path)
                _begin(heap, order, keys.walk(_Places(walk, index), start))
        if not heap:
            return
        key, order, cid, source = heap[0]
        if end is not None and key >= end:
            return
        if key != last:
            yield Entry(key, cid)
            last = key
        following = next(source, None)
        if following is None:
            heappop(heap)
        else:
            heapreplace(heap, (following[0], order, following[1], source))


def _begin(heap: list[tuple[bytes, int, bytes, _Source]], order: int, source: _Source) -> None:
    first = next(source, None)
    if first is not None:
        heappush(heap, (first[0], order, first[1], source))


class _Walk:
    """The state of one walk: what was told, and which shards it was in."""

    def __init__(self, store: Store, on_missing: OnMissing | None) -> None:
        self.store = store
        self._on_missing = on_missing
        self._seen: set[bytes] = set()
        self._repeated = 0

    def arrays(self, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes, ArrayIndex]]:
        """What all keys of an array begin with, its path and its index; the last one comes first."""
        try:
            arrays = self.store.arrays()
        except UNREADABLE as error:
            self.tell(error)
            return []
        rows = [
            (path + b"/" if path else b"", path, index) for path, index in arrays.items() if index.present
        ]
        rows = [row for row in rows if row[0] >= start or start.startswith(row[0])]
        return sorted([row for row in rows if end is None or row[0] < end], reverse=True)

    def metadata(self, low: int, high: int) -> _Source:
        """The entries of the metadata from one place in its order to another."""
        keys, metadata = self.store.manifest.keys, self.store.manifest.metadata
        for at in range(low, high):
            yield keys[at], metadata[keys[at]]

    def keys(self, path: bytes) -> ChunkKeys | None:
        """How the keys of an array are spelled; None where that could not be read."""
        try:
            return self.store.keys(path)
        except UNREADABLE as error:
            self.tell(error)
            return None

    def shard(self, index: ArrayIndex, number: int) -> Shard:
        """A shard that the walk comes to for the first time, an empty one if it could not be read."""
        try:
            shard = self.store.shard(index, number)
            cid = index.shards[number]
            if cid is not None and cid in self._seen:
                if self._repeated > REPEATED:
                    return NO_CHUNKS  # This was told already.
                self._repeated += len(shard.places) + 1
                if self._repeated > REPEATED:
                    raise LimitExceeded(f"the same shards come again with more than {REPEATED} chunks")
            elif cid is not None:
                self._seen.add(cid)
        except MissingBlock as error:
            if self._on_missing is None:
                raise self._frontier(error, index) from error
            self._on_missing(error)
            return NO_CHUNKS
        except UNREADABLE as error:
            self.tell(error)
            return NO_CHUNKS
        return shard

    def tell(self, error: MstfsError) -> None:
        """Hand on what could not be read, or raise it."""
        if self._on_missing is None:
            raise error
        self._on_missing(error)

    def _frontier(self, error: MissingBlock, index: ArrayIndex) -> MissingBlocks:
        missing = {error.cid: None}
        for number in index.present:
            cid = index.shards[number]
            if cid is not None and len(missing) < FRONTIER and not self.store.has(cid):
                missing[cid] = None
        return MissingBlocks(missing)


class _Places:
    """The chunks that one array has, for one walk."""

    def __init__(self, walk: _Walk, index: ArrayIndex) -> None:
        self._walk = walk
        self._index = index
        self._left_out: set[int] = set()
        self._visited: set[int] = set()
        self._number = -1
        self._shard = NO_CHUNKS

    def _load(self, number: int) -> Shard:
        if number == self._number:
            return self._shard
        if number not in self._visited:
            self._visited.add(number)
            shard = self._walk.shard(self._index, number)
            if shard is NO_CHUNKS:
                self._left_out.add(number)
        elif number in self._left_out:
            shard = NO_CHUNKS
        else:
            shard = self._walk.store.shard(self._index, number)
        self._number, self._shard = number, shard
        return shard

    def any(self, low: int, high: int) -> bool:
        per_shard, present = self._index.per_shard, self._index.present
        first, last = low // per_shard, (high - 1) // per_shard
        at = bisect_left(present, first)
        if at == len(present) or present[at] > last:
            return False
        if first < last:
            return True
        base = first * per_shard
        return self._load(first).any(low - base, high - base)

    def items(self, low: int, high: int) -> Iterator[tuple[int, bytes]]:
        per_shard = self._index.per_shard
        for number in range(low // per_shard, (high - 1) // per_shard + 1):
            base = number * per_shard
            for place, cid in self._load(number).items(max(low - base, 0), min(high - base, per_shard)):
                yield base + place, cid
