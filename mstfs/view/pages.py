"""Large folders as pages: the attributes of what a root says is in a folder, packed for the fast path.

A page says what `stat` says of up to PAGE entries, in columns that C code answers the kernel from; no `Inode`
is made for what is handed out like that (see `mstfs/fuse/fast_listing.c`). Pages belong to the root of which
they were made, and stay as they are: whatever came since then, staged or published, is a difference, and of
these names the view is asked.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mstfs.errors import MstfsError
from mstfs.tree.interface import UNREADABLE
from mstfs.view.inodes import plain_number
from mstfs.view.names import ITSELF, Path, in_control
from mstfs.view.namespace import Child, KeyNamespace, Namespace
from mstfs.view.nodes import Attributes, Folder, Leaf
from mstfs.view.page_store import Kept, PageStore

if TYPE_CHECKING:
    from mstfs.view.view import View

PAGE = 256
"""Entries in a page; as in `fast_listing.c`. To make one takes about as long as others may have to wait."""

STORED_AT_ONCE = 16
"""Pages that are read from disk at a time."""

LARGE = 32
"""Entries from which on a folder has pages, and they are worth storing."""

HUGE = 1 << 16
"""Entries from which on the look at all of a folder leaves much in memory that is not needed soon."""

FILE, FOLDER, ASK = range(3)
"""Types of entries. What cannot be read is asked for each time: it may be there later."""

NO_TIME = -(1 << 63)
"""The time of an entry that has none of its own: that of the head stands for it."""

HEAD = struct.Struct("<IIII")
KINDS = {FILE: "file", FOLDER: "folder"}


class Handout(Protocol):
    """What answers the kernel from pages, and counts what it gave out."""

    def new_folder(self) -> int:
        """A number for the pages of a folder."""
        ...

    def add_page(self, folder: int, page: Page) -> bool:
        """Take a page; its memory stays where it is for good. False if it cannot be taken."""
        ...

    def drop_folder(self, folder: int) -> None:
        """Forget all pages of a folder, of which nothing is handed out any more."""
        ...

    def place_of(self, number: int) -> tuple[int, int] | None:
        """Folder and index of an inode that the kernel was given from a page; None for any other one."""
        ...

    def take_back(self, number: int, count: int) -> int:
        """The kernel forgets an inode `count` times; how many of these were not counted here."""
        ...


class Page:
    """The columns of a page, all in one piece of memory; `handed` counts how often each entry was given out.

    Layout: u32 entries, bytes of names, bytes of CIDs, 0; then for each entry u64 inode, u64 size in bytes,
    i64 mtime in ns, u32 end of its name, u32 end of its CID, u8 type; then names, each with a 0 behind, and
    CIDs. Numbers are little-endian.
    """

    __slots__ = (
        *("blob", "count", "handed", "inodes", "sizes", "mtimes", "types"),
        *("name_ends", "cid_ends", "names_at", "cids_at"),
    )

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        count, names, _, _ = HEAD.unpack_from(blob)
        self.count = count
        view = memoryview(blob)
        at = HEAD.size
        self.inodes = view[at : at + 8 * count].cast("Q")
        self.sizes = view[at + 8 * count : at + 16 * count].cast("Q")
        self.mtimes = view[at + 16 * count : at + 24 * count].cast("q")
        self.name_ends = view[at + 24 * count : at + 28 * count].cast("I")
        self.cid_ends = view[at + 28 * count : at + 32 * count].cast("I")
        self.types = view[at + 32 * count : at + 33 * count]
        self.names_at = at + 33 * count
        self.cids_at = self.names_at + names
        self.handed = array("I", bytes(4 * count))

    def name(self, index: int) -> bytes:
        """The name of an entry."""
        start = self.name_ends[index - 1] if index else 0
        return self.blob[self.names_at + start : self.names_at + self.name_ends[index] - 1]

    def cid(self, index: int) -> bytes:
        """The CID of an entry; empty for a folder."""
        start = self.cid_ends[index - 1] if index else 0
        return self.blob[self.cids_at + start : self.cids_at + self.cid_ends[index]]


def pack(view: View, prefix: bytes, entries: list[Child]) -> bytes:
    """The page of these entries of a folder; `prefix` ends in `/` but for the top."""
    size_of, time_of = view.values.size, view.time_of_key
    count = len(entries)
    numbers, sizes, mtimes = array("Q"), array("Q"), array("q")
    name_ends, cid_ends, types = array("I"), array("I"), bytearray(count)
    names_end = cids_end = 0
    for index, (name, key, cid) in enumerate(entries):
        numbers.append(plain_number(prefix + name))
        names_end += len(name) + 1
        name_ends.append(names_end)
        size, mtime = 0, NO_TIME
        if key is None or cid is None:
            types[index] = FOLDER
        else:
            cids_end += len(cid)
            try:
                size = size_of(key, cid)
            except MstfsError:
                types[index] = ASK
            time_ns = time_of(key)
            mtime = NO_TIME if time_ns is None else time_ns
        cid_ends.append(cids_end)
        sizes.append(size)
        mtimes.append(mtime)
    names = b"".join([entry.name + b"\0" for entry in entries])
    cids = b"".join([entry.cid for entry in entries if entry.cid is not None and entry.key is not None])
    head = HEAD.pack(count, len(names), len(cids), 0)
    columns = (numbers, sizes, mtimes, name_ends, cid_ends)
    return b"".join([head, *[column.tobytes() for column in columns], types, names, cids])


class Spot(NamedTuple):
    """An entry of a page."""

    page: Page
    at: int


class Sibling(NamedTuple):
    """A file beside one that was read: the number of its inode, and its size in bytes if that is known."""

    number: int
    key: bytes
    cid: bytes
    size: int | None


class FolderPages:
    """The pages of one folder, made as far as somebody has read."""

    def __init__(self, view: View, path: bytes, root: bytes, namespace: Namespace, number: int) -> None:
        self.view = view
        self.path = path
        self.prefix = path + b"/" if path else b""
        self.parts: Path = tuple(path.split(b"/")) if path else ()
        self.root = root
        self.namespace = namespace
        self.number = number
        self.kept: Kept | None = None
        self.source: Iterator[Child] | None = None
        self.pages: list[Page] = []
        self.count = 0
        self.complete = False
        self.whole = True
        self.drift: set[bytes] = set()
        self.held: dict[bytes, bool] = {}

    def _missing(self, error: MstfsError) -> None:
        self.whole = False
        self.view.unlisted(self.path, error)

    def extend(self, handout: Handout) -> None:
        """Add the next page, or some that are stored. Raises MstfsError where it cannot be had."""
        if self.kept is not None:
            wanted = min(len(self.pages) + STORED_AT_ONCE, self.kept.pages)
            for blob in islice(self.kept.blobs, STORED_AT_ONCE):
                self._add(Page(blob), handout)
            if len(self.pages) == wanted:
                self.complete = wanted == self.kept.pages
                return
            # The others are damaged.
            self.kept = None
        if self.source is None:
            self.source = islice(self.namespace.children(self.parts, self._missing), self.count, None)
        entries = list(islice(self.source, PAGE))
        if entries:
            self._add(Page(pack(self.view, self.prefix, entries)), handout)
        self.complete = len(entries) < PAGE

    def _add(self, page: Page, handout: Handout) -> None:
        if not handout.add_page(self.number, page):
            raise MstfsError(f"the listing of {self.path!r} cannot be held in memory")
        self.pages.append(page)
        self.count += page.count

    def to_keep(self) -> Kept | None:
        """All pages, once, if they are worth storing and are not stored."""
        if not self.complete or not self.whole or self.kept is not None or self.count < LARGE:
            return None
        if any(ASK in page.types for page in self.pages):
            return None
        self.kept = Kept(self.root, len(self.pages), iter([page.blob for page in self.pages]))
        return self.kept

    def spot(self, index: int) -> Spot:
        """The entry of that number."""
        return Spot(self.pages[index // PAGE], index % PAGE)

    def holds(self, name: bytes) -> bool:
        """Whether the folder has this name at the root of which the pages are made."""
        if self.complete and not self.count and self.whole:
            return False
        known = self.held.get(name)
        if known is None:
            try:
                known = self.namespace.find((*self.parts, name)) is not None
            except UNREADABLE:
                known = False
            self.held[name] = known
        return known

    def leaf(self, spot: Spot) -> Leaf | Folder:
        """What a name of a page named at its root."""
        if spot.page.types[spot.at] == FOLDER:
            return Folder()
        key = self.namespace.key_of((*self.parts, spot.page.name(spot.at)))
        assert key is not None
        return Leaf(key, spot.page.cid(spot.at))

    def files(self, first: int, end: int) -> Iterator[Sibling]:
        """The files among some entries that the kernel knows, but those of which the view must be asked."""
        differs = self.view.pages.differing(self)
        key_of, parts = self.namespace.key_of, self.parts
        while first < end:
            page, at = self.spot(first)
            first += page.count - at
            for place in range(at, min(page.count, page.count - (first - end))):
                if page.types[place] != FILE or not page.handed[place]:
                    continue
                name = page.name(place)
                if differs(name):
                    continue
                key = key_of((*parts, name))
                assert key is not None
                yield Sibling(page.inodes[place], key, page.cid(place), page.sizes[place])

    def attributes(self, spot: Spot) -> Attributes:
        """What `stat` says of an entry that is no difference."""
        page, index = spot
        view = self.view
        mtime_ns = page.mtimes[index]
        kind = KINDS[page.types[index]]
        return Attributes(
            page.inodes[index],
            kind,
            view.folder_mode if kind == "folder" else view.file_mode,
            page.sizes[index],
            view.rev_ns if mtime_ns == NO_TIME else mtime_ns,
            True,
        )


def _most_drift(count: int) -> int:
    """So many names may differ before it is better to begin anew."""
    return max(PAGE, count // 8)


class Pages:
    """The pages of all large folders of a view. Without a `handout` there are none."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.handout: Handout | None = None
        self.by_path: dict[bytes, FolderPages] = {}
        self.by_number: dict[int, FolderPages] = {}
        self.store: PageStore | None = None
        self.let_go: Callable[[bool], None] = lambda everything: None
        """Much was looked at: give memory back, all that is not needed soon or only what costs nothing."""
        self.changes: tuple[bytes, bytes, list[bytes]] = (b"", b"", [])

    def begin(self, handout: Handout) -> None:
        """Make pages from now on."""
        self.handout = handout
        self.view.inodes.pages = self

    def of(self, path: bytes) -> FolderPages | None:
        """The pages of a folder, begun if it is large; None if it is not."""
        if self.handout is None or in_control(path) or not isinstance(self.view.namespace, KeyNamespace):
            return None
        if self.view.values.carries_attributes:
            return None
        pages = self.by_path.get(path)
        if pages is not None:
            return pages
        pages = self._stored(path)
        if pages is None:
            if sum(1 for _ in islice(self.view.children(path), LARGE)) < LARGE:
                return None
            pages = self._begun(path, self.view.workspace.head.data)
        number = pages.number
        self.by_path[path] = self.by_number[number] = pages
        return pages

    def _begun(self, path: bytes, root: bytes) -> FolderPages:
        assert self.handout is not None
        namespace = KeyNamespace(self.view.workspace.at(root), self.view.names)
        return FolderPages(self.view, path, root, namespace, self.handout.new_folder())

    def _stored(self, path: bytes) -> FolderPages | None:
        """The pages that are stored of a folder, if what was published since is little enough."""
        kept = self.store.read(path) if self.store is not None else None
        if kept is None:
            return None
        head = self.view.workspace.head.data
        if self.changes[:2] != (kept.root, head):
            try:
                found = self.view.workspace.tree.diff(kept.root, head).changes
            except MstfsError:
                return None  # The root that was listed is not there any more.
            self.changes = (kept.root, head, [change.key for change in found])
        above = tuple(path.split(b"/")) if path else ()
        drift = set()
        for key in self.changes[2]:
            parts = self.view.names.path_of(key)
            if parts[: len(above)] == above and len(parts) > len(above):
                drift.add(parts[len(above)])
        if len(drift) > _most_drift(kept.pages * PAGE):
            return None
        pages = self._begun(path, kept.root)
        pages.kept = kept
        pages.drift = drift
        return pages

    def renew(self, path: bytes) -> None:
        """Nobody is half through reading a folder: begin it anew if it has changed too much."""
        pages = self.by_path.get(path)
        if pages is None or len(pages.drift) <= _most_drift(pages.count):
            return
        del self.by_path[path]
        for old in [old for old in self.by_number.values() if self.by_path.get(old.path) is not old]:
            # What the kernel still knows from here moves on when the new pages hold it too.
            if not any(any(page.handed) for page in old.pages) and self.handout is not None:
                self.handout.drop_folder(old.number)
                del self.by_number[old.number]

    def forget_incomplete(self, path: bytes) -> None:
        """A part of a folder could not be read: the next reader begins anew."""
        pages = self.by_path.get(path)
        if pages is not None and not pages.whole:
            del self.by_path[path]

    def drifted(self, keys: Iterable[bytes]) -> None:
        """What these keys say was published anew, or is gone."""
        if not self.by_path:
            return
        above: dict[Path, list[tuple[int, set[bytes]]]] = {}
        for key in keys:
            path = self.view.plain_path(key)
            found = above.get(path[:-1])
            if found is None:
                pages = [self.by_path.get(b"/".join(path[:depth])) for depth in range(len(path))]
                found = above[path[:-1]] = [
                    (at, one.drift) for at, one in enumerate(pages) if one is not None
                ]
            for depth, drift in found:
                drift.add(path[depth])

    def differing(self, pages: FolderPages) -> Callable[[bytes], bool]:
        """What says of a name in a folder whether the view must be asked, until something changes."""
        view = self.view
        by_path, is_peculiar, prefix = view.inodes.by_path, view.inodes.is_peculiar, pages.prefix
        if (
            pages.drift
            or len(view.workspace.edits)
            or view.workspace.files.names(pages.path)
            or view.pending
            or view.kept
            or view.folder_times
            or view.names.nested
        ):
            return partial(self.differs, pages)

        def has_peculiar_inode(name: bytes) -> bool:
            inode = by_path.get(prefix + name)
            return inode is not None and is_peculiar(inode)

        return has_peculiar_inode

    def differs(self, pages: FolderPages, name: bytes) -> bool:
        """Whether the view must be asked of a name in a folder. True for all `differences`."""
        view = self.view
        path, place = pages.prefix + name, (*pages.parts, name)
        edits = view.workspace.edits
        if name in pages.drift or (name == ITSELF and bool(pages.parts) and view.names.nested):
            return True
        if len(edits):
            key = view.namespace.key_of(place)
            if (key is not None and edits.get(key) is not None) or edits.any_within(
                view.names.prefix_of(place)
            ):
                return True
        if view.workspace.files.has_name(pages.path, name):
            return True
        if path in view.pending or path in view.kept or path in view.folder_times:
            return True
        inode = view.inodes.by_path.get(path)
        return inode is not None and view.inodes.is_peculiar(inode)

    def differences(self, pages: FolderPages) -> set[bytes]:
        """All names in a folder of which the view must be asked; takes as long as there are edits in it."""
        view = self.view
        names = set(pages.drift)
        if pages.parts and view.names.nested:
            names.add(ITSELF)
        depth = len(pages.parts)
        for key in view.workspace.edits.within(view.names.prefix_of(pages.parts)):
            path = view.names.path_of(key)
            if path[:depth] == pages.parts and len(path) > depth:
                names.add(path[depth])
        names.update(view.workspace.files.names(pages.path))
        start = len(pages.prefix)
        for paths in (view.pending, view.kept, view.folder_times):
            names.update(
                path[start:]
                for path in paths
                if path.startswith(pages.prefix) and b"/" not in path[start:] and len(path) > start
            )
        names.update(
            path[start:]
            for path in view.inodes.peculiar()
            if path.startswith(pages.prefix) and b"/" not in path[start:]
        )
        return names

    # --- what was handed out ------------------------------------------------------------------

    def take_back(self, number: int, count: int) -> int:
        """The kernel drops `count` references; how many of these were not given from a page."""
        return count if self.handout is None else self.handout.take_back(number, count)

    def is_handed(self, number: int) -> bool:
        """Whether the kernel was given an inode from a page, and has not forgotten it."""
        return self.handout is not None and self.handout.place_of(number) is not None

    def path_of(self, number: int) -> bytes | None:
        """The path of an inode that was handed out and that nothing has happened to since."""
        place = self.handout.place_of(number) if self.handout is not None else None
        if place is None:
            return None
        pages = self.by_number[place[0]]
        page, index = pages.spot(place[1])
        return pages.prefix + page.name(index)

    def handed_below(self, prefix: bytes) -> Iterator[bytes]:
        """The paths of all that was handed out below a folder."""
        for pages in list(self.by_number.values()):
            if pages.prefix.startswith(prefix):
                for page in pages.pages:
                    for index, count in enumerate(page.handed):
                        if count:
                            yield pages.prefix + page.name(index)

    def untimed(self) -> Iterator[int]:
        """The inodes that were handed out with the time of the head."""
        for pages in self.by_number.values():
            for page in pages.pages:
                for index, count in enumerate(page.handed):
                    if count and page.mtimes[index] == NO_TIME:
                        yield page.inodes[index]
