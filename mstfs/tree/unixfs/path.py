"""Whole trees by path: finding one, and walking from one on.

The key of an entry is its path. What is a directory is known only once its block was read, so a walk reads
the nodes of what it passes (never raw blocks), and no directory that lies wholly before or behind the range.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import chain
from typing import NamedTuple, TypeAlias

from mstfs.errors import LimitExceeded
from mstfs.limits import KEY_BYTES, NESTING, REPEATED
from mstfs.tree.interface import UNREADABLE, OnMissing
from mstfs.tree.unixfs import file as files
from mstfs.tree.unixfs.directory import Listing, is_raw, lookup
from mstfs.tree.unixfs.file import DIRECTORY
from mstfs.tree.unixfs.node import Load, content

List: TypeAlias = Callable[[bytes, OnMissing | None], Listing]
"""From the CID of a directory to its dirents by name; errors as those of `directory.listing`."""


class Place(NamedTuple):
    """Something in a tree: its path, its CID, and whether it is a FILE, DIRECTORY or SYMLINK."""

    path: bytes
    cid: bytes
    kind: str


def kind_of(load: Load, cid: bytes) -> str:
    """FILE, DIRECTORY or SYMLINK. Raw blocks are not read."""
    return files.FILE if is_raw(cid) else files.kind_name(content(load, cid)[1])


def resolve(load: Load, root: bytes, path: bytes) -> bytes | None:
    """The CID of what stands at `path`, or None; the empty path is the root. No symbolic link is followed."""
    cid: bytes | None = root
    if not path:
        return cid
    if len(path) > KEY_BYTES:
        return None
    for name in path.split(b"/"):
        if cid is None or not name or kind_of(load, cid) != DIRECTORY:
            return None
        cid = lookup(load, cid, name)
    return cid


class _Frame:
    """A directory on the way down, with what is still to come of it.

    Entries come by name, but what turns out to be a directory has keys that come later, behind the names
    that go on with something smaller than a slash. So it waits in `later`, by its name with a slash.
    """

    def __init__(self, prefix: bytes, listing: Listing, start: bytes) -> None:
        self.prefix = prefix
        self.names, self.cids = listing
        self.later: list[tuple[bytes, bytes]] = []
        # Only the first part of what is left of the start counts here, and what it begins with.
        part = start[len(prefix) :].split(b"/", 1)[0] if start.startswith(prefix) else b""
        at = bisect_left(self.names, part)
        self._order = chain(_prefixes_of(part, self.names), range(at, len(self.names)))
        self._next = next(self._order, None)

    def pop(self) -> tuple[bytes, bytes, bool] | None:
        """The next name (or name with a slash) in key order, its CID, and whether it is a known directory."""
        at = self._next
        if self.later and (at is None or self.later[0][0] < self.names[at]):
            name, cid = heappop(self.later)
            return name, cid, True
        if at is None:
            return None
        self._next = next(self._order, None)
        return self.names[at], self.cids[at], False


def _prefixes_of(part: bytes, names: list[bytes]) -> list[int]:
    # Where the proper prefixes of a name stand among the names: a directory there may have keys behind it.
    found = []
    for size in range(1, len(part)):
        at = bisect_left(names, part[:size])
        if at == len(names):
            break
        if names[at] == part[:size]:
            found.append(at)
    return found


def places(
    load: Load,
    list_directory: List,
    root: bytes,
    start: bytes = b"",
    end: bytes | None = None,
    on_missing: OnMissing | None = None,
) -> Iterator[Place]:
    """Everything whose key is at least `start` and less than `end`, in key order; lazily.

    The key of a file or symbolic link is its path, that of a directory its path with a slash at the end (and
    that of the root directory is empty). A root that is a file has the empty path. With `on_missing` what
    could not be read is told and left out, else it is raised.
    """
    walk = _Walk(load, list_directory, start, on_missing)
    kind = walk.kind_of(root)
    if kind is None or end == b"":
        return
    if not start:
        yield Place(b"", root, kind)
    if kind != DIRECTORY:
        return
    walk.enter(b"", root)
    while walk.stack:
        frame = walk.stack[-1]
        item = frame.pop()
        if item is None:
            walk.stack.pop()
            continue
        name, cid, is_directory = item
        key = frame.prefix + name
        if end is not None and key >= end:
            return
        if is_directory:
            if key >= start:
                yield Place(key[:-1], cid, DIRECTORY)
            walk.enter(key, cid)
            continue
        inside = key + b"/"
        if inside < start and not start.startswith(inside):
            continue
        kind = walk.kind_of(cid)
        if kind == DIRECTORY:
            heappush(frame.later, (name + b"/", cid))
        elif kind is not None and key >= start:
            yield Place(key, cid, kind)


class _Walk:
    """The state of one walk: the directories on the way down, and what was seen."""

    def __init__(self, load: Load, list_directory: List, start: bytes, on_missing: OnMissing | None) -> None:
        self.stack: list[_Frame] = []
        self._load = load
        self._list = list_directory
        self._start = start
        self._on_missing = on_missing
        self._seen: set[bytes] = set()
        self._repeated = 0

    def kind_of(self, cid: bytes) -> str | None:
        """The kind of something, or None if it could not be read."""
        try:
            return kind_of(self._load, cid)
        except UNREADABLE as error:
            if self._on_missing is None:
                raise
            self._on_missing(error)
            return None

    def enter(self, prefix: bytes, cid: bytes) -> None:
        """Go down into the directory whose keys begin with `prefix`."""
        try:
            if len(self.stack) >= NESTING or len(prefix) > KEY_BYTES:
                raise LimitExceeded(f"directories are nested deeper than {NESTING} or {KEY_BYTES} bytes")
            if self._repeated > REPEATED:
                raise LimitExceeded(f"the same directories come again with more than {REPEATED} names")
            listing = self._list(cid, self._on_missing)
        except UNREADABLE as error:
            if self._on_missing is None:
                raise
            self._on_missing(error)
            return
        if cid in self._seen:
            self._repeated += len(listing.names) + 1
        self._seen.add(cid)
        self.stack.append(_Frame(prefix, listing, self._start))
