"""Archives as sources: whatever a mount of them would show."""

from collections.abc import Iterator
from functools import partial

from mstfs.staging.tree import StagedTree
from mstfs.transfer.items import Content, Item, Planned, Source
from mstfs.tree.kinds import Kind
from mstfs.tree.unixfs.file import DIRECTORY
from mstfs.tree.unixfs.tree import UnixfsTree
from mstfs.values.interface import Values

_PAGE = 4096


class ArchiveSource(Source):
    """A tree with what is staged on it, of any kind. The archive stays open, and is closed by others.

    With `folders` all folders of UnixFS are items, the topmost one (its key is empty) too; else only those in
    which there is nothing.
    """

    def __init__(self, kind: Kind, tree: StagedTree, values: Values, *, folders: bool = False) -> None:
        self.is_files = kind.name == "unixfs"
        self.suffix = values.suffix
        self._kind = kind
        self._tree = tree
        self._values = values
        self._folders = folders

    def plan(self) -> Iterator[Planned]:
        if self._kind.name == "unixfs":
            for item in self._files():
                yield Planned(item.key, item.kind, None)
            return
        for key, _ in self._entries():
            yield Planned(key, "record" if self._kind.name == "mst" else None, None)

    def holds_records(self) -> bool:
        if self._kind.name in ("mst", "unixfs"):
            return self._kind.name == "mst"
        return any(self._values.kind(key, cid) == "record" for key, cid in self._entries())

    def items(self) -> Iterator[Item]:
        values = self._values
        if self._kind.name == "unixfs":
            yield from self._files()
            return
        kind_of, load = values.kind, values.load
        for key, cid in self._entries():
            yield Item(
                key, kind_of(key, cid), partial(ValueContent, values, key, cid), partial(load, key, cid)
            )

    def close(self) -> None:
        pass

    def _entries(self) -> Iterator[tuple[bytes, bytes]]:
        after: bytes | None = None
        while page := self._tree.page(b"", after, _PAGE):
            yield from page
            after = page[-1].key

    def _files(self) -> Iterator[Item]:
        tree, values = self._tree.tree, self._values
        assert isinstance(tree, UnixfsTree)
        folder: tuple[bytes, bytes] | None = None
        for path, cid, kind in tree.places(self._tree.root):
            if folder is not None and not path.startswith(folder[0] + b"/"):
                yield self._item(folder[0], folder[1], "folder")
            folder = None
            if kind != DIRECTORY:
                yield self._item(path, cid, values.kind(path, cid))
            elif self._folders:
                yield self._item(path, cid, "folder")
            elif path:
                folder = path, cid
        if folder is not None:
            yield self._item(folder[0], folder[1], "folder")

    def _item(self, path: bytes, cid: bytes, kind: str) -> Item:
        told = self._values.attributes(path, cid)
        mode, mtime_ns = told.mode, told.mtime_ns
        if kind == "folder":
            return Item(path, "folder", mode=mode, mtime_ns=mtime_ns)
        opened = partial(ValueContent, self._values, path, cid)
        return Item(path, "symlink" if kind == "symlink" else "blob", opened, mode=mode, mtime_ns=mtime_ns)


class ValueContent(Content):
    """The file of one value."""

    def __init__(self, values: Values, key: bytes, cid: bytes) -> None:
        self.size = values.size(key, cid)
        self._values = values
        self._key = key
        self._cid = cid

    def read(self, offset: int, length: int) -> bytes:
        return self._values.read(self._key, self._cid, offset, length)

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass
