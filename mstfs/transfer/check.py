"""The look back: a new CAR is read as anybody would read it, and compared with the ledger."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from mstfs.blocks.car import CarFile
from mstfs.blocks.interface import BlockReader
from mstfs.codec import dag_cbor
from mstfs.errors import CopyDiffers, MstfsError
from mstfs.opening import open_workspace
from mstfs.transfer.archives import ArchiveSource
from mstfs.transfer.items import Item, Reading, digest_of, digest_with
from mstfs.transfer.ledger import NO_DIGEST, Ledger
from mstfs.transfer.names import shown
from mstfs.transfer.targets import Root, Target
from mstfs.tree.defect import Defect
from mstfs.tree.kinds import Kind

TOLD_ITEMS = 256
TOLD_BYTES = 16 << 20
"""Items, or bytes of content, after which progress is told again."""

_PIECE = 1 << 20


def check(
    path: Path, root: Root, target: Target, ledger: Ledger, progress: Callable[[int, int], None]
) -> str | None:
    """Read a CAR from beginning to end, and compare it with what was meant to be in it.

    Every node is verified strictly; the keys have to be the same ones, and each value of the same kind with
    the same content. CopyDiffers, with the key, where something is not so. The answer is what a reader has to
    be told about the values, if nothing in the file tells it. `progress` is told items and bytes.
    """
    with CarFile.open(path, use_sidecar=False) as car:
        if car.roots != (root.root,):
            raise CopyDiffers("the new file has another root than was written")
        workspace = open_workspace(car, None, "car", target.opening)
        kind = workspace.head.tree
        if workspace.head.data != root.data or kind.title != target.kind.title:
            raise CopyDiffers(
                f"the new file holds a {kind.title}, not the {target.kind.title} that was written"
            )
        for defect in _defects(car, kind, root.data):
            raise CopyDiffers(f"the new tree is defective: {defect.rule}: {defect.message}")
        source = ArchiveSource(kind, workspace.staged, workspace.values, folders=target.preserve)
        _compare(source.items(), ledger, target.preserve, progress)
        return _untold(workspace.tree, kind, root.data, target)


def _defects(blocks: BlockReader, kind: Kind, root: bytes) -> Iterator[Defect]:
    if kind.layout is not None:
        from mstfs.tree.hamt.verify import verify_tree as verify_hamt

        return verify_hamt(blocks, root, kind.layout)
    if kind.name == "unixfs":
        from mstfs.tree.unixfs.verify import verify_tree as verify_unixfs

        return verify_unixfs(blocks, root)
    from mstfs.tree.mst.verify import verify_tree as verify_mst

    return verify_mst(blocks, root)


def _compare(
    items: Iterator[Item], ledger: Ledger, preserve: bool, progress: Callable[[int, int], None]
) -> None:
    count = total = told = 0
    found: set[bytes] = set()

    def read(size: int) -> None:
        nonlocal total, told
        total += size
        if total - told >= TOLD_BYTES:
            told = total
            progress(count, total)

    for item in items:
        key = item.key
        row = ledger.get(key)
        if row is None and item.kind == "folder" and preserve:
            continue  # on the way to something, and never named by itself
        if row is None:
            raise CopyDiffers(f"{shown(key)} is in the new file, but not in the source")
        if row.kind != item.kind:
            raise CopyDiffers(f"{shown(key)} is a {item.kind} in the new file, and was a {row.kind}")
        try:
            digest = _digest(item, read)
        except MstfsError as error:
            raise CopyDiffers(f"{shown(key)} cannot be read in the new file: {error}") from error
        if preserve:
            digest = digest_with(digest, item)
        if digest != row.digest:
            raise CopyDiffers(f"{shown(key)} has another content in the new file than in the source")
        found.add(key)
        count += 1
        if not count % TOLD_ITEMS:
            progress(count, total)
    progress(count, total)
    if len(found) != len(ledger):
        missing = min(set(ledger.keys()) - found)
        raise CopyDiffers(f"{shown(missing)} is in the source, but not in the new file")


def _digest(item: Item, read: Callable[[int], None]) -> bytes:
    # The digest of what is read now; `read` is told how many bytes each time.
    if item.kind == "folder":
        return NO_DIGEST
    if item.kind == "record":
        block = dag_cbor.encode(item.load())
        read(len(block))
        return digest_of(block)
    with closing(item.open()) as content:
        reading = Reading(content)
        while data := reading.read(_PIECE):
            read(len(data))
        return reading.finish()


def _untold(tree: object, kind: Kind, root: bytes, target: Target) -> str | None:
    if kind.name != "hamt3":
        return None
    from mstfs.tree.hamt.tree import HamtTree
    from mstfs.values.cipher import Plain
    from mstfs.values.detect import detect

    assert isinstance(tree, HamtTree)
    assert kind.layout is not None
    opening = target.opening
    encoding = opening.options.encoding
    found = detect(tree, root, kind.layout, opening.cipher, Plain.of(kind.layout, opening.plain))
    return None if found == encoding else encoding
