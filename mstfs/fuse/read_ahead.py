"""Reading ahead: who reads one small file after the other gets the next ones without asking Python.

The first miss in a folder does nothing. With each further one more of the files that follow are rendered and
offered to the fast path, and once the end of the folder was reached, those before. So a reader that goes in
the order of the listing misses rarely, and so does one that goes in any other order but takes them all. On
read-only mounts a reader that is alone need not even ask: the kernel is given what was offered (fast_push.c).

While that reader is busy with what it was given, the next files are made ready: it waits for them no longer
than it takes to hand them over.

Tricky bits
    What is not ready is made while the reader waits: with one processor for the reader and one for who
    answers it, a thread beside them only takes turns with both.
"""

import logging
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import perf_counter

from mstfs.errors import MstfsError
from mstfs.fuse.fast_path import FastPath
from mstfs.view.inodes import Inode
from mstfs.view.nodes import Leaf
from mstfs.view.pages import FolderPages, Sibling
from mstfs.view.view import View

log = logging.getLogger("mstfs")

FILE_BYTES = 64 << 10
"""Larger files are read ahead by the kernel itself."""

HELD_BYTES = 16 << 20
"""What may be offered at a time."""

FILES = 1 << 16
"""How many files may have been offered before all of it begins again."""

FIRST, MOST = 8, 512
"""Files that the second miss makes ready, and those that the eighth does."""

AT_ONCE = 64
"""Files that are made ready between two looks at the clock."""

READY_AT_ONCE = 8
"""Files that are made ready between two looks at whether somebody asks."""

READY_BYTES = 1 << 20
"""What may be ready in a folder."""

SECONDS = 0.004
"""How long others may have to wait for us."""

FOLDERS = 16
"""Folders that are remembered."""

QUIET_SECONDS = 1.0
"""How long nothing is pushed after it took too long: two programs wanted the same file, or all processors."""


@dataclass
class Window:
    """How far a folder has been read ahead, by place in its pages or else by key; and how much comes next.

    What is `ready` comes before that: numbers of files and what they say.
    """

    at: int = 0
    after: bytes = b""
    size: int = FIRST
    wrapped: bool = False
    ready: list[tuple[int, bytes]] = field(default_factory=list)

    def end_reached(self) -> None:
        """Begin at the start of the folder; who comes back to all of it later goes slowly again."""
        if self.wrapped:
            self.size = FIRST
        self.wrapped = not self.wrapped
        self.at, self.after = 0, b""


class ReadAhead:
    """The windows of all folders that are being read."""

    def __init__(self, view: View, fast: FastPath) -> None:
        self.view = view
        self.fast = fast
        self.windows: OrderedDict[bytes, Window] = OrderedDict()
        self.pushes = view.workspace.read_only
        self.pushes_from = 0.0
        self.reading: tuple[Window, bytes, FolderPages | None] | None = None
        """The folder whose reader is busy with what it was given."""

    def begin_again(self) -> None:
        """Something is about to change: what was known of its folder is not known any more."""
        self.windows.clear()
        self.reading = None

    def missed(self, inode: Inode) -> None:
        """A file was asked for that nobody had offered: perhaps its neighbours come next."""
        node = self.view.node(inode) if inode.node is None else inode.node
        if not self.fast.active or not isinstance(node, Leaf) or inode.path is None or node.fixed:
            return
        folder = inode.path.rpartition(b"/")[0]
        place = self.fast.place_of(inode.number)
        pages = self.view.pages.by_path.get(folder)
        if place is None or pages is None or place[0] != pages.number:
            place = pages = None
        window = self.windows.get(folder)
        if window is None:
            self.windows[folder] = Window(at=place[1] if place is not None else 0, after=node.key)
            if len(self.windows) > FOLDERS:
                self.windows.popitem(last=False)
            return
        if self.fast.held > HELD_BYTES or self.fast.offered > FILES:
            # Much of it was never asked for: the kernel had it already.
            self.fast.forget()
        if not window.wrapped:
            window.at = max(window.at, place[1]) if place is not None else window.at
            window.after = max(window.after, node.key)
        self._advance(window, folder, pages, inode.number)

    def _advance(self, window: Window, folder: bytes, pages: FolderPages | None, waiting: int) -> None:
        """Offer what comes next in a folder, or push it, while one file of it is waited for."""
        end = perf_counter() + SECONDS
        wanted = window.size
        window.size = min(2 * window.size, MOST)
        pushes = self.pushes and self.fast.reads_alone and perf_counter() > self.pushes_from
        more = True
        try:
            while more and wanted > 0:
                if window.ready:
                    made, window.ready = window.ready[:AT_ONCE], window.ready[AT_ONCE:]
                else:
                    more, files = self._some(window, folder, pages, min(wanted, AT_ONCE))
                    made = self._made(files)
                wanted -= AT_ONCE
                made = [file for file in made if file[0] != waiting]
                self.fast.offer(made)
                if (pushes and not self.fast.push([number for number, _ in made])) or perf_counter() > end:
                    break
        finally:
            # Nothing is pushed once the reader has its answer.
            if pushes and not self.fast.end_push():
                self.pushes_from = perf_counter() + QUIET_SECONDS
        if not more:
            window.end_reached()
        self.reading = (window, folder, pages) if pushes and more else None

    def look_ahead(self) -> None:
        """Make ready what comes next in a folder, until somebody asks for something."""
        if self.reading is None:
            return
        end = perf_counter() + SECONDS
        try:
            window, folder, pages = self.reading
            size = sum(len(data) for _, data in window.ready)
            while len(window.ready) < window.size and size < READY_BYTES:
                if self.fast.asked or perf_counter() > end:
                    return
                more, files = self._some(window, folder, pages, READY_AT_ONCE)
                made = self._made(files)
                window.ready += made
                size += sum(len(data) for _, data in made)
                if not more:
                    window.end_reached()
                    break
        except MstfsError:
            pass  # Who asks for it is told.
        except Exception:
            log.exception("unexpected error in reading ahead")
        self.reading = None

    def _some(
        self, window: Window, folder: bytes, pages: FolderPages | None, count: int
    ) -> tuple[bool, Iterable[Sibling]]:
        """The files among the next entries of a folder, and whether there are more."""
        if pages is None:
            files, last = self.view.siblings(folder, window.after, count)
            window.after = last or b""
            return last is not None, files
        first = window.at
        window.at = min(first + count, pages.count)
        return window.at < pages.count, pages.files(first, window.at)

    def _made(self, files: Iterable[Sibling]) -> list[tuple[int, bytes]]:
        """The numbers of files, and what they say; without what is large or cannot be read."""
        small = [file for file in files if file.size is None or file.size <= FILE_BYTES]
        texts = self.view.values.whole([(file.key, file.cid) for file in small], FILE_BYTES)
        return [
            (file.number, text)
            for file, text in zip(small, texts, strict=True)
            if text is not None and (file.size is None or file.size == len(text))
        ]
