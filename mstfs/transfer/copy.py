"""The way from a source to a new CAR: names, values, tree, and the look back.

The file gets its name in one step, once everything in it was read back; whatever fails before that, or stops
it, leaves nothing behind.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mstfs.blocks.car_writer import replacing
from mstfs.errors import BlockError, FormatError, MissingBlock, MissingBlocks, Refused
from mstfs.transfer.car_output import CarOutput
from mstfs.transfer.check import TOLD_BYTES, TOLD_ITEMS, check
from mstfs.transfer.items import Item, Source
from mstfs.transfer.ledger import Ledger, Row
from mstfs.transfer.names import Spelling, folders_above, shown, spelling
from mstfs.transfer.symlinks import resolve
from mstfs.transfer.targets import Root, Target

Progress = Callable[[str, int, int], None]
"""Told what is being done (`writing`, `checking`), how many items are done, and how many bytes of content."""


@dataclass(frozen=True)
class Plan:
    """What a source announces; None for what only reading everything would tell."""

    items: int | None
    size: int | None


@dataclass(frozen=True)
class Copied:
    """What was written: the root of the CAR and that of its tree, and what is in it.

    `content` counts the bytes of all values, `size` those of the file. `left_out` are folders with nothing in
    them, where the tree has no place for them. `encoding` is what a reader has to be told about the values,
    as it would not find it out; else None.
    """

    root: bytes
    data: bytes
    keys: int
    folders: int
    left_out: int
    content: int
    blocks: int
    size: int
    checked: bool
    encoding: str | None


class Copy:
    """One copy from a source to a target.

    With `escape`, keys get or lose the names that a mount shows; with `follow`, a symbolic link becomes what
    it points to, if that is in the source.
    """

    def __init__(self, source: Source, target: Target, *, escape: bool = False, follow: bool = False) -> None:
        self._source = source
        self._target = target
        self._follow = follow
        self._spelling: Spelling = spelling(target.kind, source.is_files, source.suffix, escape)
        self._ledger = Ledger()
        self._links: dict[bytes, tuple[bytes, bytes]] = {}
        self._left_out = 0
        self._items = 0
        self._content = 0
        self._told = 0
        self._progress: Progress = lambda what, items, size: None

    def plan(self) -> Plan:
        """Look through the source before anything is written. Raises Refused for what cannot be copied."""
        planned = self._source.plan()
        if planned is None:
            return Plan(None, None)
        keys: set[bytes] = set()
        items = total = 0
        sized = True
        for key, kind, size in planned:
            items += 1
            if size is None:
                sized = False
            else:
                total += size
            if kind == "symlink" and not self._target.is_files and not self._follow:
                raise self._no_symlinks(key)
            if kind != "folder":
                spelled = self._spelling.key_of(key)
                if self._target.is_files:
                    keys.add(spelled)
        self._spelling.settled(keys)
        return Plan(items, total if sized else None)

    def run(self, out: Path, *, look_back: bool = True, progress: Progress | None = None) -> Copied:
        """Write the CAR. Raises what reading the source raises, with the key; CopyDiffers; OSError."""
        if progress is not None:
            self._progress = progress
        with replacing(out) as file:
            output = CarOutput(file, self._target.stand_in)
            self._write_values(output)
            self._settle()
            root = self._write_tree(output)
            size = output.finish(root.root)
            encoding = None
            if look_back:
                encoding = self._look_back(file, root)
        folders = len(self._ledger.of_kind("folder"))
        return Copied(
            root=root.root,
            data=root.data,
            keys=len(self._ledger) - folders,
            folders=folders,
            left_out=self._left_out,
            content=self._content,
            blocks=output.blocks,
            size=size,
            checked=look_back,
            encoding=encoding,
        )

    # --- values -----------------------------------------------------------------------------------

    def _write_values(self, output: CarOutput) -> None:
        for item in self._source.items():
            with _named(item.key):
                self._take(item, output)
            self._items += 1
            if not self._items % TOLD_ITEMS:
                self._tell()
        self._tell()

    def _tell(self) -> None:
        self._told = self._content
        self._progress("writing", self._items, self._content)

    def _take(self, item: Item, output: CarOutput) -> None:
        target, ledger = self._target, self._ledger
        kind = item.kind
        if kind == "folder":
            if not target.is_files:
                self._left_out += bool(item.key)
                return
            if not item.key and not target.preserve:
                return  # the folder that everything is in
            key = item.key
        else:
            key = self._spelling.key_of(item.key)
            self._links.pop(key, None)
        if kind == "link":
            other = self._spelling.key_of(_bytes_of(item))
            if other in self._links:
                self._links[key] = item.key, self._links[other][1]
                return
            row = ledger.get(other)
            if row is None or row.kind == "folder":
                raise Refused("it is a hard link to something that does not stand before it")
            self._share(key, other, row)
            return
        if kind == "symlink" and not target.is_files:
            if not self._follow:
                raise self._no_symlinks(item.key)
            self._links[key] = item.key, _bytes_of(item)
            if key in ledger:
                ledger.drop(key)
            return
        making = target.make(key, item)
        put = output.put
        while True:
            try:
                cid, block = next(making)
            except StopIteration as end:
                ledger.put(key, end.value)
                return
            put(cid, block)
            self._content += len(block)
            if self._content - self._told >= TOLD_BYTES:
                self._tell()

    def _share(self, key: bytes, other: bytes, row: Row) -> None:
        """Let a key have the value of another one."""
        if not self._target.portable(other, key):
            raise Refused(
                f"{shown(key)} is a link to {shown(other)}, and only one of them is to be encrypted"
            )
        self._ledger.put(key, row)

    def _no_symlinks(self, key: bytes) -> Refused:
        return Refused(
            f"{shown(key)} is a symbolic link, which only UnixFS has: --follow copies what it points to"
        )

    # --- the tree ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Symbolic links and names that nobody knew before all keys were there."""
        ledger = self._ledger
        for key, (other, row) in resolve(self._links, ledger, self._spelling).items():
            self._share(key, other, row)
        if not self._target.is_files:
            return
        keys = ledger.keys()
        above = folders_above(keys)
        folders = ledger.of_kind("folder")
        for folder in folders:
            if folder in above and not self._target.preserve:
                ledger.drop(folder)  # there is something in it after all, by which it is known
        for key, other in self._spelling.settled(set(keys).difference(folders)).items():
            ledger.move(key, other)

    def _write_tree(self, output: CarOutput) -> Root:
        building = self._target.build(self._ledger)
        while True:
            try:
                output.put(*next(building))
            except StopIteration as end:
                root: Root = end.value
                return root

    def _look_back(self, file: BinaryIO, root: Root) -> str | None:
        # The file has no name of its own yet, but it can be opened anew by its number all the same.
        path = Path(f"/proc/self/fd/{file.fileno()}")
        progress = self._progress
        return check(
            path, root, self._target, self._ledger, lambda items, size: progress("checking", items, size)
        )


def _bytes_of(item: Item) -> bytes:
    with closing(item.open()) as content:
        return content.read(0, content.size)


@contextmanager
def _named(key: bytes) -> Iterator[None]:
    """Errors that do not say which item they are about begin with its key."""
    try:
        yield
    except (Refused, FormatError) as error:
        name = shown(key)
        if name in str(error):
            raise
        raise Refused(f"{name}: {error}") from error
    except BlockError as error:
        error.message += f" (needed for {shown(key)})"
        raise
    except MissingBlocks as error:
        raise MissingBlock(error.cids[0], f"missing (needed for {shown(key)})") from error
