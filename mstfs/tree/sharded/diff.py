"""What turns one store into another, by key.

Where two arrays of a path count their chunks alike (all but the first dimension of the grid are equal, and so
are the spelling and the length of a shard) their shards are compared one by one, and equal ones are not read:
so it is after chunks were changed, or appended. Otherwise all shards of both are read.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks
from mstfs.tree.interface import Change, TreeDiff
from mstfs.tree.sharded.manifest import ArrayIndex
from mstfs.tree.sharded.search import REPEATED
from mstfs.tree.sharded.shard import Shard
from mstfs.tree.sharded.store import NO_CHUNKS, Store

BlocksOf = Callable[[bytes], Iterable[bytes]]
"""The CIDs of all blocks that a manifest or a shard consists of; may raise MissingBlock."""

_Result = TypeVar("_Result")


def diff(a: bytes, old: Store, b: bytes, new: Store, blocks_of: BlocksOf) -> TreeDiff:
    """The changed entries, and the blocks of manifests and shards that only one side has.

    Raises MissingBlocks with all documents and shards that this needs and that are missing.
    """
    run = _Run()
    before, after = run.arrays(old), run.arrays(new)
    candidates = _changed_keys(old.manifest.metadata, new.manifest.metadata)
    for path in sorted(before.keys() | after.keys()):
        candidates.update(_changed_chunks(run, before.get(path), after.get(path)))
    run.check()
    changes = []
    # A key may stand in several places, of which one counts: the look-up knows which.
    for key in sorted(candidates):
        change = Change(key, run.try_to(partial(old.get, key), None), run.try_to(partial(new.get, key), None))
        if change.old != change.new:
            changes.append(change)
    left, right = {a, *old.manifest.shards()}, {b, *new.manifest.shards()}
    created = run.blocks(right - left, blocks_of)
    deleted = run.blocks(left - right, blocks_of)
    run.check()
    return TreeDiff(tuple(changes), created - deleted, deleted - created)


class _Run:
    """One comparison: what was missing so far."""

    def __init__(self) -> None:
        self._missing: dict[bytes, None] = {}
        self._seen: set[tuple[bytes | None, bytes | None]] = set()
        self._repeated = 0

    def try_to(self, read: Callable[[], _Result], otherwise: _Result) -> _Result:
        """What `read` gives; if it misses a block, that is noted for `check`."""
        try:
            return read()
        except MissingBlock as error:
            self._missing[error.cid] = None
            return otherwise

    def check(self) -> None:
        if self._missing:
            raise MissingBlocks(self._missing)

    def count(self, what: tuple[bytes | None, bytes | None], chunks: int) -> None:
        """Bounds what comes again: a few blocks can spell an endless tree."""
        if what in self._seen:
            self._repeated += chunks + 1
            if self._repeated > REPEATED:
                raise LimitExceeded(f"the same shards come again with more than {REPEATED} chunks")
        self._seen.add(what)

    def arrays(self, store: Store) -> dict[bytes, "_Array"]:
        arrays = self.try_to(store.arrays, dict[bytes, ArrayIndex]())
        return {path: _Array(self, store, path, index) for path, index in arrays.items() if index.present}

    def blocks(self, tops: Iterable[bytes], blocks_of: BlocksOf) -> frozenset[bytes]:
        found: set[bytes] = set()
        for cid in tops:
            found.update(self.try_to(partial(blocks_of, cid), []))
        return frozenset(found)


class _Array:
    """An array that has shards, on one side."""

    def __init__(self, run: _Run, store: Store, path: bytes, index: ArrayIndex) -> None:
        self._run = run
        self._store = store
        self._path = path
        self.index = index

    def __iter__(self) -> Iterator[bytes]:
        """The keys of all its chunks."""
        for number in self.index.present:
            places = self.shard(number).places
            self._run.count((self.cid(number), None), len(places))
            yield from self.keys(number, places)

    def cid(self, number: int) -> bytes | None:
        return self.index.shards[number] if number < len(self.index.shards) else None

    def shard(self, number: int) -> Shard:
        if self.cid(number) is None:
            return NO_CHUNKS
        return self._run.try_to(lambda: self._store.shard(self.index, number), NO_CHUNKS)

    def keys(self, number: int, places: Iterable[int]) -> Iterator[bytes]:
        """The keys of some places in a shard."""
        keys = self._run.try_to(lambda: self._store.keys(self._path), None)
        if keys is None:
            return
        base = number * self.index.per_shard
        for place in places:
            if base + place < self.index.total:
                yield keys.key(base + place)

    def counts_like(self, other: "_Array") -> bool:
        """Whether equal linear indexes mean equal keys on both sides."""
        one, two = self.index, other.index
        if (one.per_shard, len(one.grid), one.grid[1:]) != (two.per_shard, len(two.grid), two.grid[1:]):
            return False
        # The key of the first chunk shows the spelling.
        return list(self.keys(0, (0,))) == list(other.keys(0, (0,)))


def _changed_keys(old: dict[bytes, bytes], new: dict[bytes, bytes]) -> set[bytes]:
    return {key for key, cid in old.items() if new.get(key) != cid} | (new.keys() - old.keys())


def _changed_chunks(run: _Run, before: _Array | None, after: _Array | None) -> Iterator[bytes]:
    """The keys at which two arrays may differ, and all at which they do."""
    if before is None or after is None or not before.counts_like(after):
        for side in (before, after):
            yield from side or ()
        return
    # Chunks behind the end of an array are none, though a shard may name them. So where one array ends
    # in the middle of a shard and the other goes on, an equal shard says two things.
    shorter = min(before.index.total, after.index.total)
    edge = shorter // after.index.per_shard if before.index.total != after.index.total else -1
    for number in sorted({*before.index.present, *after.index.present}):
        if before.cid(number) == after.cid(number) and number != edge:
            continue
        old, new = before.shard(number), after.shard(number)
        rows = dict(old.items(0, old.length)), dict(new.items(0, new.length))
        places = rows[0].keys() | rows[1].keys()
        run.count((before.cid(number), after.cid(number)), len(places))
        if number != edge:
            places = {place for place in places if rows[0].get(place) != rows[1].get(place)}
        yield from before.keys(number, places)
        yield from after.keys(number, places)
