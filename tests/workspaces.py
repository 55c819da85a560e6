"""Workspaces for tests: small trees in memory with an overlay above, and CARs of them."""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import naive_mst

from mstfs.blocks.car_writer import write_car
from mstfs.blocks.interface import BlockReader
from mstfs.blocks.memory import MemoryBlocks
from mstfs.blocks.overlay import OverlayBlocks
from mstfs.blocks.sqlite import Database
from mstfs.blocks.sqlite_blocks import SqliteBlocks
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.codec.cid import Link
from mstfs.opening import SCHEMA
from mstfs.repo import commit as commits
from mstfs.repo.head import Head, read_head
from mstfs.repo.record import render
from mstfs.staging.edits import Edits, StagedEdit
from mstfs.staging.tree import StagedTree
from mstfs.staging.workspace import Workspace
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.mst.tree import MstTree
from mstfs.values.hamt import HamtValues
from mstfs.values.interface import ValueOptions, Values
from mstfs.values.records import RecordValues

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
REV = "3jzfcijpj2z2a"

_numbers = itertools.count()


def block(number: int) -> bytes:
    """The block of some record."""
    return dag_cbor.encode({"$type": "org.example.note", "number": number})


def cid(number: int) -> bytes:
    return cids.for_block(block(number))


def text(number: int) -> bytes:
    """The record as a mount shows it."""
    return render(block(number))


def odd_text(number: int) -> bytes:
    """The same record as somebody else would write it down."""
    return b'{ "number":%d,\t"$type":"org.example.note" }' % number


def swapped_text(number: int) -> bytes:
    """The same record with its fields the other way round: as long as `text`, and not equal."""
    return b'{\n  "number": %d,\n  "$type": "org.example.note"\n}\n' % number


def data_root(entries: Mapping[bytes, int]) -> bytes:
    """The root of the tree with these records, built the plain way."""
    return naive_mst.build({key: cid(number) for key, number in entries.items()})[0]


def tree_blocks(entries: Mapping[bytes, int]) -> tuple[bytes, dict[bytes, bytes]]:
    """A bare tree of records: its root, and all blocks."""
    data, nodes = naive_mst.build({key: cid(number) for key, number in entries.items()})
    return data, nodes | {cid(number): block(number) for number in entries.values()}


def old_commit(data: bytes) -> tuple[bytes, bytes]:
    """A commit of version 2, as older files have it."""
    made = dag_cbor.encode({"did": DID, "version": 2, "data": Link(data), "prev": None, "sig": b"\1" * 64})
    return cids.for_block(made), made


def crooked_commit(data: bytes, **fields: object) -> tuple[bytes, bytes]:
    """A readable commit with fields that `commits.make` would refuse."""
    fields = {"did": DID, "version": 3, "data": Link(data), "prev": None, "rev": REV} | fields
    made = dag_cbor.encode(fields)
    return cids.for_block(made), made


def repository(
    entries: Mapping[bytes, int], *, rev: str = REV, kind: str = "commit"
) -> tuple[bytes, dict[bytes, bytes]]:
    """Root and blocks of a repository; `kind` is commit, old or bare."""
    data, blocks = tree_blocks(entries)
    if kind == "bare":
        return data, blocks
    root, made = commits.make(DID, data, rev, None) if kind == "commit" else old_commit(data)
    return root, blocks | {root: made}


def write_repository(path: Path, entries: Mapping[bytes, int], **options: str) -> bytes:
    """Write the CAR of `repository`; gives the root."""
    root, blocks = repository(entries, **options)
    write_blocks(path, (root,), blocks)
    return root


def write_blocks(path: Path, roots: Iterable[bytes], blocks: Mapping[bytes, bytes]) -> None:
    with path.open("wb") as file:
        write_car(file, tuple(roots), blocks.items())


def read_only(entries: Mapping[bytes, int], blocks: BlockReader | None = None, **options: str) -> Workspace:
    """A workspace without an overlay; `blocks` may stand before those of the repository."""
    root, held = repository(entries, **options)
    layers: list[BlockReader] = [MemoryBlocks(held.items())]
    if blocks is not None:
        layers.insert(0, blocks)
    overlay = OverlayBlocks(None, layers)
    return Workspace(
        head=read_head(overlay, root),
        blocks=overlay,
        tree=MstTree(overlay),
        values=RecordValues(overlay, ValueOptions()),
        database=None,
    )


def writable(folder: Path, entries: Mapping[bytes, int], **options: str) -> Workspace:
    """A workspace with an overlay of its own in `folder`."""
    root, held = repository(entries, **options)
    database = Database.open(folder / f"overlay{next(_numbers)}.mstfs", schema=SCHEMA)
    return over(database, MemoryBlocks(held.items()), root)


def over(
    database: Database, lower: BlockReader, root: bytes, options: ValueOptions | None = None
) -> Workspace:
    """A workspace at `root` over an open database, with its first event if it has none."""
    blocks = OverlayBlocks(SqliteBlocks(database), [lower])
    head: Head = read_head(blocks, root)
    tree = head.tree.open(blocks, cids.hash_of(head.data)[0])
    values: Values = RecordValues(blocks, options or ValueOptions())
    if head.tree.layout is not None:
        assert isinstance(tree, HamtTree)
        values = HamtValues(tree, head.tree.layout, options or ValueOptions())
    workspace = Workspace(
        head=head,
        blocks=blocks,
        tree=tree,
        values=values,
        database=database,
        read_only=False,
    )
    if workspace.history.head() is None:
        with workspace.transaction():
            workspace.history.append("import", head.root, head.data, rev=head.rev, time_ns=1)
    return workspace


class EditsInMemory(Edits):
    """Staged edits for a test that needs no tables."""

    def __init__(self, edits: Mapping[bytes, bytes | None]) -> None:
        super().__init__(None)
        self.by_key = {key: StagedEdit(cid, False, 0, 1) for key, cid in edits.items()}
        self.keys = sorted(edits)


def staged_tree(entries: Mapping[bytes, int], edits: Mapping[bytes, bytes | None]) -> StagedTree:
    """The tree of these records with edits on top, all in memory."""
    root, blocks = tree_blocks(entries)
    return StagedTree(MstTree(MemoryBlocks(blocks.items())), root, EditsInMemory(edits))


def staged(workspace: Workspace) -> dict[bytes, bytes]:
    """Everything that the staged tree holds."""
    return dict(workspace.staged.page())


def put(workspace: Workspace, key: bytes, number: int) -> None:
    with workspace.transaction():
        workspace.stage_cid(key, cid(number), block=block(number))


def delete(workspace: Workspace, key: bytes) -> None:
    with workspace.transaction():
        workspace.stage_delete(key)


def mirrors(workspace: Workspace) -> tuple[object, ...]:
    """What is held in memory beside the tables."""
    edits, files = workspace.edits, workspace.files
    children = {folder: frozenset(names) for folder, names in files.children.items()}
    return dict(edits.by_key), list(edits.keys), dict(files.by_path), children, workspace.head


def check_mirrors(workspace: Workspace) -> None:
    """The mirrors say what the tables say."""
    before = mirrors(workspace)
    workspace.edits.reload()
    workspace.files.reload()
    assert mirrors(workspace) == before
