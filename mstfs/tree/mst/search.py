"""Reading an MST: one key, the first key from a given one on, ranges, and all blocks in order.

Nothing here trusts the tree. A path is never longer than `limits.TREE_HEIGHT`, and `Watch` refuses
what would make a walk longer than the tree is large.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeAlias, cast

from mstfs.blocks.interface import ReadSmall, read_nothing
from mstfs.errors import LimitExceeded, NodeError
from mstfs.limits import TREE_HEIGHT
from mstfs.tree.interface import UNREADABLE, Entry, OnMissing
from mstfs.tree.mst.node import Load, MstNode, decode, depth_of
from mstfs.tree.node_cache import Generations
from mstfs.tree.ordered import behind

try:
    from mstfs.tree.mst import fast_search
except ImportError:  # There was no compiler: everything is done here.
    fast_search = None  # type: ignore[assignment]

Run: TypeAlias = tuple[Sequence[bytes], Sequence[bytes]]
"""Keys and values of neighbouring entries, at least one."""

Held: TypeAlias = MstNode | bytes
"""A node, or the block of one that was passed only once: it is canonical, and the bytes of its CID."""

Fresh: TypeAlias = tuple[bytes, Held, int]
"""What a cache might take: its CID, the node or its block, the bytes of memory that it takes."""

# The same as `Entry(*pair)`, without a Python frame for each of many entries.
new_entry = cast(Callable[[tuple[bytes, bytes]], Entry], partial(tuple.__new__, Entry))


class Watch:
    """Looks at each node on one walk, and refuses those that cannot stand where they are.

    An honest tree never links a node twice, as its keys stand only once. With the keys of each child
    inside its parent's gap, only empty nodes could come again: those are remembered.
    """

    def __init__(self) -> None:
        self._lowest = TREE_HEIGHT  # the level (the root's is 0) of layer 0, once a key has told
        self._layered = False
        self._empty: set[bytes] = set()

    def admit(self, cid: bytes, node: MstNode, level: int, low: bytes, high: bytes | None) -> None:
        """NodeError unless a node `level` links below the root may have its keys between `low` and `high`."""
        keys = node.keys
        if level > self._lowest:
            raise NodeError(cid, "node-layer", "stands below the lowest layer of its tree")
        if keys:
            if keys[0] <= low or (high is not None and keys[-1] >= high):
                raise NodeError(cid, "key-range", "has keys outside of the gap in its parent")
            if not self._layered:
                self._lowest = min(TREE_HEIGHT, level + depth_of(keys[0]))
                self._layered = True
        elif node.links[0] is None:
            if level:
                raise NodeError(cid, "empty-leaf", "is empty without being a root")
        elif cid in self._empty:
            raise NodeError(cid, "repeated-node", "is linked more than once")
        else:
            self._empty.add(cid)


def get(
    load: Load,
    root: bytes,
    key: bytes,
    held: Generations[Held] = ({}, {}),
    read_small: ReadSmall = read_nothing,
    fresh: list[Fresh] | None = None,
) -> bytes | None:
    """The CID under `key`, or None.

    Only nodes are loaded that are not `held`, and whose blocks cannot be read the short way. Blocks that were
    read like that are added to `fresh`, as is the node of a block that was held, and what only the older
    generation held.
    """
    cid: bytes | None = root
    levels = TREE_HEIGHT + 1
    if fresh is None:
        fresh = []
    while cid is not None:
        if fast_search is not None:
            found = fast_search.descend(MstNode, held, read_small, fresh, cid, key, levels)
            if not isinstance(found, tuple):
                return found
            cid, levels = found
        if not levels:
            raise LimitExceeded(f"the tree is higher than {TREE_HEIGHT} layers")
        keys, values, links = load(cid)
        at = bisect_left(keys, key)
        if at < len(keys) and keys[at] == key:
            return values[at]
        cid = links[at]
        levels -= 1
    return None


def seek(load: Load, root: bytes, key: bytes, on_missing: OnMissing | None = None) -> Entry | None:
    """The first entry whose key is `key` or greater; reads one path.

    A subtree that could not be read is told to `on_missing`, and the answer is the entry behind it.
    """
    found: Entry | None = None
    cid: bytes | None = root
    for _ in range(TREE_HEIGHT + 1):
        if cid is None:
            return found
        try:
            keys, values, links = load(cid)
            if found is not None and keys and keys[-1] >= found.key:
                raise NodeError(cid, "key-range", "has keys outside of the gap in its parent")
        except UNREADABLE as error:
            if on_missing is None:
                raise
            on_missing(error)
            return found
        at = bisect_left(keys, key)
        if at < len(keys):
            found = Entry(keys[at], values[at])
            if keys[at] == key:
                return found
        cid = links[at]
    if cid is None:
        return found
    raise LimitExceeded(f"the tree is higher than {TREE_HEIGHT} layers")


def page(
    load: Load,
    root: bytes,
    prefix: bytes = b"",
    after: bytes | None = None,
    limit: int | None = None,
    on_missing: OnMissing | None = None,
) -> list[Entry]:
    """At most `limit` entries in key order with this prefix and keys greater than `after`."""
    entries: list[Entry] = []
    if limit is not None and limit <= 0:
        return entries
    start = prefix if after is None or after < prefix else after + b"\0"
    for keys, values in _until(runs(load, root, start, on_missing), behind(prefix)):
        entries.extend(map(new_entry, zip(keys, values, strict=True)))
        if limit is not None and len(entries) >= limit:
            del entries[limit:]
            break
    return entries


def walk(
    load: Load, root: bytes, prefix: bytes = b"", on_missing: OnMissing | None = None
) -> Iterator[Entry]:
    """Every entry with this prefix in key order, reading nodes only as far as it is consumed."""
    for keys, values in _until(runs(load, root, prefix, on_missing), behind(prefix)):
        yield from map(new_entry, zip(keys, values, strict=True))


def columns(load: Load, root: bytes, prefix: bytes = b"") -> tuple[list[bytes], list[bytes]]:
    """The keys with this prefix in order, and their CIDs."""
    columns: tuple[list[bytes], list[bytes]] = [], []
    for keys, values in _until(runs(load, root, prefix, None), behind(prefix)):
        columns[0].extend(keys)
        columns[1].extend(values)
    return columns


def _until(source: Iterable[Run], end: bytes | None) -> Iterator[Run]:
    for keys, values in source:
        if end is not None and keys[-1] >= end:
            size = bisect_left(keys, end)
            if size:
                yield keys[:size], values[:size]
            return
        yield keys, values


def runs(load: Load, root: bytes, start: bytes, on_missing: OnMissing | None) -> Iterator[Run]:
    """The entries from the key `start` on, in key order, in the pieces in which they stand in nodes."""
    watch = Watch()
    missing: set[bytes] = set()
    # Each node on the path: its parts, the key that it is at, and the first key behind the node.
    stack: list[tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes | None, ...], int, bytes | None]] = []
    low = b""
    high: bytes | None = None
    cid: bytes | None = root
    while True:
        if cid is not None and cid not in missing:
            try:
                node = load(cid)
                watch.admit(cid, node, len(stack), low, high)
            except UNREADABLE as error:
                if on_missing is None:
                    raise
                missing.add(cid)
                on_missing(error)
            else:
                keys, values, links = node
                at = bisect_left(keys, start) if low < start else 0
                if any(links):
                    stack.append((keys, values, links, at, high))
                    if at:
                        low = keys[at - 1]
                    if at < len(keys):
                        high = keys[at]
                    cid = links[at]
                    continue
                if at < len(keys):
                    yield keys[at:], values[at:]
                    low = keys[-1]
        while True:
            if not stack:
                return
            keys, values, links, at, high = stack.pop()
            if at < len(keys):
                break
        end = at + 1
        while end < len(keys) and links[end] is None:
            end += 1
        yield keys[at:end], values[at:end]
        low = keys[end - 1]
        stack.append((keys, values, links, end, high))
        if end < len(keys):
            high = keys[end]
        cid = links[end]


def stream(read: Callable[[bytes], bytes], root: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """The CIDs of a tree in pre-order: nodes with their blocks, and values, each with None, between them.

    This is the order that the atproto specification gives to streamable CAR files ("Repository
    Exports"): a node, then in key order the subtrees and the records that it links.
    """
    watch = Watch()
    stack: list[tuple[MstNode, int, bytes | None]] = []
    low = b""
    high: bytes | None = None
    cid: bytes | None = root
    while True:
        if cid is not None:
            block = read(cid)
            node = decode(cid, block)
            watch.admit(cid, node, len(stack), low, high)
            yield cid, block
            stack.append((node, 0, high))
            if node.keys:
                high = node.keys[0]
            cid = node.links[0]
            continue
        while True:
            if not stack:
                return
            node, at, high = stack.pop()
            if at < len(node.keys):
                break
        yield node.values[at], None
        low = node.keys[at]
        at += 1
        stack.append((node, at, high))
        if at < len(node.keys):
            high = node.keys[at]
        cid = node.links[at]
