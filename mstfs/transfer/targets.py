"""What items become: values, and a tree of them. One class for each family of trees.

Makers and builders are generators. They yield blocks as (CID, bytes), children first, and return the outcome.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, dag_json
from mstfs.errors import Refused
from mstfs.limits import RECORD_BYTES
from mstfs.opening import Reading as Opening
from mstfs.repo import commit as commits
from mstfs.repo import record, tid
from mstfs.repo.commit import Signer
from mstfs.transfer.items import Content, Item, ItemKind, Reading, digest_of, digest_with
from mstfs.transfer.ledger import NO_DIGEST, Ledger, Row
from mstfs.tree import kinds
from mstfs.tree.interface import Edit
from mstfs.tree.kinds import Kind
from mstfs.tree.unixfs.builder import CHUNK_BYTES, Built, build_file, build_symlink, time_of
from mstfs.tree.unixfs.folders import Folder, build_folders
from mstfs.values.interface import ValueOptions

if TYPE_CHECKING:
    from mstfs.values.cipher import Cipher

Making: TypeAlias = Generator[tuple[bytes, bytes], None, Row]


@dataclass(frozen=True)
class Root:
    """What was built: the root of the CAR, and that of the tree in it (another one if there is a commit)."""

    root: bytes
    data: bytes


Building: TypeAlias = Generator[tuple[bytes, bytes], None, Root]


class Target(Protocol):
    """Makes one kind of tree."""

    kind: Kind
    stand_in: bytes
    """A CID as long as that of any root."""
    opening: Opening
    """How a reader has to open the new tree."""
    is_files: bool
    """Whether it holds files, with symbolic links and folders."""
    preserve: bool
    """Whether it keeps modes and times."""

    def make(self, key: bytes, item: Item) -> Making:
        """The value of an item that is a record, a blob, or (in files) a symbolic link or a folder.

        Raises Refused where the tree cannot hold such a one, and what reading the item raises.
        """
        ...

    def portable(self, key: bytes, other: bytes) -> bool:
        """Whether the value of one key says the same under the other."""
        return True

    def build(self, ledger: Ledger) -> Building:
        """The tree of all values."""
        ...


@contextmanager
def _opened(item: Item) -> Iterator[Content]:
    with closing(item.open()) as content:
        yield content


# --- HAMTs ----------------------------------------------------------------------------------------


class HamtTarget(Target):
    """A HAMT of any layout that can be written. `options` say how values are made.

    With `parse` the text of a blob is a record in DAG-JSON. With a `cipher` values are encrypted, but for
    those of keys that fit a pattern of `plain`; the same items give another root each time then.
    """

    is_files = False
    preserve = False

    def __init__(
        self,
        kind: Kind,
        options: ValueOptions,
        parse: bool = False,
        cipher: "Cipher | None" = None,
        plain: tuple[str, ...] = (),
    ) -> None:
        from mstfs.tree.hamt.tree import HamtTree
        from mstfs.values.cipher import Plain
        from mstfs.values.hamt import HamtValues

        layout = kind.layout
        assert layout is not None
        if not layout.writable:
            raise Refused(f"a {kind.title} can be read, not made")
        self.kind = kind
        self.opening = Opening(options=options, cipher=cipher, plain=plain)
        self.stand_in = cids.for_block(b"", cids.DAG_CBOR, layout.node_hash)
        self._layout = layout
        self._parse = parse
        tree = HamtTree(MemoryBlocks(), layout)
        self._values = HamtValues(tree, layout, options, cipher, Plain.of(layout, plain))

    def make(self, key: bytes, item: Item) -> Making:
        if item.kind == "blob" and not self._parse:
            with _opened(item) as content:
                reading = Reading(content)
                cid = yield from self._values.make(key, "blob", reading.range, content.size)
                return Row("blob", reading.finish(), 0, cid)
        if item.kind == "record":
            value = item.load()
            block = dag_cbor.encode(value)
        else:
            with _opened(item) as content:
                block = dag_json.parse(_text(content))
            value = dag_cbor.decode(block)
        if self.opening.options.encoding == "raw":
            raise Refused("it is a record, and raw values are blobs: leave out --values raw")
        cid = yield from self._values.make_loaded(key, value)
        return Row(_kind_of(value), digest_of(value if type(value) is bytes else block), 0, cid)

    def portable(self, key: bytes, other: bytes) -> bool:
        return self._values.portable(key, other)

    def build(self, ledger: Ledger) -> Building:
        from mstfs.tree.hamt import edit

        root, nodes = edit.build(self._layout, ledger.values(), self._layout.node_hash)
        yield from nodes.items()
        return Root(root, root)


def _kind_of(value: Any) -> Literal["record", "blob"]:
    # What DAG-CBOR says: a byte string on its own is a blob, wherever it came from.
    return "blob" if type(value) is bytes else "record"


def _text(content: Content) -> bytes:
    reading = Reading(content)
    if content.size > RECORD_BYTES:
        raise Refused(f"{content.size} bytes are more than the {RECORD_BYTES} that a record can have")
    text = reading.read()
    reading.finish()
    return text


# --- repositories ---------------------------------------------------------------------------------


class MstTarget(Target):
    """An MST of atproto records, bare or with a commit. Blobs are parsed as atproto JSON."""

    kind = kinds.MST
    opening = Opening()
    is_files = False
    preserve = False
    stand_in = cids.for_block(b"")

    def __init__(self, did: str | None = None, signer: Signer | None = None) -> None:
        self._did = did
        self._signer = signer

    def make(self, key: bytes, item: Item) -> Making:
        if item.kind == "record":
            value = item.load()
            if type(value) is not dict:
                raise Refused(f"the records of an MST are maps, and this is {_said(value)}")
            block = record.from_value(value)
        else:
            with _opened(item) as content:
                block = record.parse(_text(content))
        cid = cids.for_block(block)
        yield cid, block
        return Row("record", digest_of(block), 0, cid)

    def build(self, ledger: Ledger) -> Building:
        blocks = MemoryBlocks()
        tree = kinds.MST.open(blocks)
        empty, node = tree.empty()
        blocks.put(empty, node)
        data, nodes = tree.apply(empty, [Edit(*entry) for entry in ledger.values()])
        yield from nodes.items() if nodes else ((empty, node),)
        if self._did is None:
            return Root(data, data)
        rev = tid.next_after(None, time.time_ns() // 1000, 0)
        root, commit = commits.make(self._did, data, rev, self._signer)
        yield root, commit
        return Root(root, data)


def _said(value: Any) -> str:
    words = {list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return words.get(type(value), "a number" if isinstance(value, int | float) else "a link")


# --- UnixFS ---------------------------------------------------------------------------------------


class UnixfsTarget(Target):
    """Folders, files and symbolic links as Kubo makes them. Records become files with their text.

    With `preserve` modes and times are kept, where the source has them.
    """

    kind = kinds.UNIXFS
    opening = Opening()
    is_files = True
    stand_in = cids.for_block(b"", cids.DAG_PB)

    def __init__(self, chunk_bytes: int | None = None, *, preserve: bool = False) -> None:
        self.preserve = preserve
        self._chunk_bytes = CHUNK_BYTES if chunk_bytes is None else chunk_bytes
        self._folders: dict[bytes, Folder] = {}

    def make(self, key: bytes, item: Item) -> Making:
        mode = item.mode if self.preserve else None
        mtime = time_of(item.mtime_ns) if self.preserve and item.mtime_ns is not None else None
        if item.kind == "folder":
            digest, tsize, cid = NO_DIGEST, 0, b""
            if self.preserve:
                self._folders[key] = Folder(mode, mtime)
        else:
            with _opened(item) as content:
                reading = Reading(content)
                if item.kind == "symlink":
                    built = yield from build_symlink(reading.read(), mode=mode, mtime=mtime)
                else:
                    built = yield from build_file(reading, self._chunk_bytes, mode=mode, mtime=mtime)
                digest, tsize, cid = reading.finish(), built.tsize, built.cid
        if self.preserve:
            digest = digest_with(digest, item)
        kind: ItemKind = item.kind if item.kind in ("symlink", "folder") else "blob"
        return Row(kind, digest, tsize, cid)

    def build(self, ledger: Ledger) -> Building:
        built = yield from build_folders(self._entries(ledger))
        return Root(built.cid, built.cid)

    def _entries(self, ledger: Ledger) -> Iterator[tuple[tuple[bytes, ...], Built | Folder | None]]:
        # No name holds a NUL, so this is the order of the tuples of names: folders come as a whole.
        for key in sorted(ledger.keys(), key=lambda key: key.replace(b"/", b"\0")):
            row = ledger.get(key)
            assert row is not None
            path = tuple(key.split(b"/")) if key else ()
            if row.kind == "folder":
                yield path, self._folders.get(key)
            else:
                yield path, Built(row.cid, 0, row.tsize)
