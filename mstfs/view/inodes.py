"""Inodes: numbers that stay the same across mounts, and what the kernel still knows of each.

The kernel may know more files than have an `Inode` here: it was given them from pages, and nothing has
happened to them since. An `Inode` is made of such a number or path when it is asked for.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, Protocol

from mstfs.staging.files import StoredFile
from mstfs.view.buffers import Buffer
from mstfs.view.nodes import Node

ROOT = 1

NUMBER_BIT = 1 << 62
"""Set in every number but the root's, so that a number is never taken for a handle."""


@lru_cache(maxsize=128)
def plain_number(path: bytes, salt: int = 0) -> int:
    """The number of the file at a path: the same on every mount, unless another one moved away with it."""
    digest = blake2b(path, digest_size=8, salt=salt.to_bytes(8, "big") if salt else b"").digest()
    return (int.from_bytes(digest, "big") >> 2) | NUMBER_BIT


class HandedOut(Protocol):
    """What the kernel was given without an `Inode`."""

    def is_handed(self, number: int) -> bool:
        """Whether the kernel knows this number like that."""
        ...

    def path_of(self, number: int) -> bytes | None:
        """The path that has this number, if the kernel knows it like that."""
        ...

    def handed_below(self, prefix: bytes) -> Iterator[bytes]:
        """The paths that start with `prefix` and that the kernel knows like that."""
        ...

    def take_back(self, number: int, count: int) -> int:
        """The kernel drops `count` references; how many of these were not given like that."""
        ...


class Pinned(NamedTuple):
    """Contents that no longer depend on a name: their size, and `read(offset, length)`."""

    size: int
    read: Callable[[int, int], bytes]


class Inode:
    """One file or folder that the kernel knows or that is open.

    `path` is None once it was unlinked or replaced; `node` is what the path names, if that is known
    already. `pinned` is what those who have it open go on seeing. `mode` and `mtime_ns` were set by
    hand. `invalid` says that what was written last is no record. `writers` of its `opens` may write.
    `outdated`: the name means something else since a publication, a revert or a checkout. `diverged`: those
    who have it open see something else than the name will say once they are gone. `orphans` are files of the
    overlay that lost their path while this inode was open, and are kept until it is closed. `past_cache`: it
    is being made, and who writes it does so past the kernel's cache.
    """

    __slots__ = (
        "buffer",
        "diverged",
        "invalid",
        "lookups",
        "mode",
        "mtime_ns",
        "node",
        "number",
        "opens",
        "orphans",
        "outdated",
        "past_cache",
        "path",
        "pinned",
        "reply",
        "writers",
    )

    def __init__(self, number: int, path: bytes, node: Node | None) -> None:
        self.number = number
        self.path: bytes | None = path
        self.node = node
        self.lookups = 0
        self.opens = 0
        self.writers = 0
        self.mtime_ns: int | None = None
        self.buffer: Buffer | None = None
        self.pinned: Pinned | None = None
        self.mode: int | None = None
        self.invalid = False
        self.outdated = False
        self.diverged = False
        self.past_cache = False
        self.orphans: tuple[StoredFile, ...] = ()
        self.reply: bytes | None = None


class InodeTable:
    """Inodes by number and by path. An inode stays while the kernel knows it or it is open."""

    def __init__(self) -> None:
        root = Inode(ROOT, b"", None)
        root.lookups = 1
        self.by_number = {ROOT: root}
        self.by_path = {b"": root}
        self.displaced: set[int] = set()
        self.pages: HandedOut | None = None

    def get(self, path: bytes) -> Inode | None:
        """The inode that a path has, if the kernel knows it or it is open."""
        inode = self.by_path.get(path)
        if inode is None and self.pages is not None:
            number = plain_number(path)
            if number not in self.by_number and self.pages.is_handed(number):
                return self._add(number, path, None)
        return inode

    def numbered(self, number: int) -> Inode | None:
        """The inode of a number, if the kernel knows it or it is open."""
        inode = self.by_number.get(number)
        if inode is None and self.pages is not None:
            path = self.pages.path_of(number)
            if path is not None:
                return self._add(number, path, None)
        return inode

    def _add(self, number: int, path: bytes, node: Node | None) -> Inode:
        inode = Inode(number, path, node)
        self.by_path[path] = self.by_number[number] = inode
        return inode

    def is_peculiar(self, inode: Inode) -> bool:
        """Whether an inode may not be what its path alone would say."""
        return (
            inode.buffer is not None
            or inode.pinned is not None
            or inode.reply is not None
            or inode.mtime_ns is not None
            or inode.diverged
            or inode.outdated
            or inode.number in self.displaced
        )

    def peculiar(self) -> Iterator[bytes]:
        """The paths of inodes that may not be what their path alone would say."""
        for inode in self.by_number.values():
            if inode.path is not None and self.is_peculiar(inode):
                yield inode.path

    def at(self, path: bytes, node: Node | None = None) -> Inode:
        """The inode of a path, made if need be."""
        inode = self.get(path)
        if inode is None:
            inode = self._add(self._number(path), path, node)
        elif node is not None:
            inode.node = node
        return inode

    def free_number(self, path: bytes) -> int | None:
        """The number that the file of a path will have; None where something is remembered of either."""
        number = plain_number(path)
        known = path in self.by_path or number in self.by_number
        return None if known or (self.pages is not None and self.pages.is_handed(number)) else number

    def _number(self, path: bytes) -> int:
        salt = 0
        while (number := plain_number(path, salt)) in self.by_number:
            salt += 1
        if salt:
            self.displaced.add(number)
        return number

    def detach(self, inode: Inode) -> None:
        """The name is gone; the inode stays for those who have it open or know it."""
        assert inode.path is not None
        del self.by_path[inode.path]
        inode.path = None
        self.drop_if_unused(inode)

    def move(self, old: bytes, new: bytes, *, folder: bool) -> None:
        """A path was renamed: its inode, and in a `folder` those below it, go along."""
        found = self._below(old) if folder else iter((old,) if self.get(old) is not None else ())
        moves = [(path, new + path[len(old) :]) for path in found]
        inodes = [(self.by_path.pop(path), target) for path, target in moves]
        for inode, target in inodes:
            there = self.get(target)
            if there is not None:
                # Nothing has this name, but somebody remembers a file that had it.
                self.detach(there)
            inode.path = target
            inode.node = None
            self.by_path[target] = inode
            self.displaced.add(inode.number)

    def _below(self, path: bytes) -> Iterator[bytes]:
        prefix = path + b"/"
        if self.get(path) is not None:
            yield path
        if self.pages is not None:
            for handed in list(self.pages.handed_below(prefix)):
                self.get(handed)
        yield from [known for known in self.by_path if known.startswith(prefix)]

    def forget(self, number: int, count: int) -> None:
        """The kernel dropped `count` references."""
        if self.pages is not None:
            count = self.pages.take_back(number, count)
        inode = self.by_number.get(number)
        if inode is not None and number != ROOT:
            inode.lookups -= count
            self.drop_if_unused(inode)

    def drop_if_unused(self, inode: Inode) -> None:
        # The answer to a command waits for whoever asked, even if the kernel is short of memory meanwhile.
        waits = inode.buffer is not None or (inode.reply is not None and inode.path is not None)
        if inode.lookups <= 0 and inode.opens <= 0 and not waits and inode.number != ROOT:
            if self.pages is not None and self.pages.is_handed(inode.number):
                return
            self.by_number.pop(inode.number, None)
            self.displaced.discard(inode.number)
            if inode.path is not None and self.by_path.get(inode.path) is inode:
                del self.by_path[inode.path]
