"""HAMTs to mount: empty ones of every kind that can be changed, and what must hold of what they publish."""

from pathlib import Path
from typing import Any, NamedTuple

import mstfs
from mstfs.archive import Archive
from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.hamt.verify import verify_tree
from mstfs.tree.interface import Edit


class Kind(NamedTuple):
    """A kind of tree, and how its values are encoded where it leaves that open."""

    tree: str
    values: str = "auto"


KINDS = {
    "hamt3-raw": Kind("hamt3", "raw"),
    "hamt3-cbor": Kind("hamt3", "cbor"),
    "hamt2": Kind("hamt2"),
    "hashmap": Kind("hashmap"),
    "hashmap-5": Kind("hashmap,width=5,bucket=2"),
    "hashmap-3": Kind("hashmap,width=3,bucket=1"),
}

RAW = KINDS["hamt3-raw"]
CBOR = KINDS["hamt3-cbor"]
HASH_MAP = KINDS["hashmap"]

FILES = {"a": b"old a", "folder/b": b"old b", "folder/inner/c": b"", "zarr.json": b"{}"}


def make(folder: Path, kind: Kind, files: dict[str, Any] | None = None) -> Path:
    """A CAR without an overlay, in `folder`, that holds these values: bytes are blobs, others are records."""
    draft, car = folder / "draft.car", folder / "tree.car"
    with mstfs.create(draft, kind.tree, values=kind.values) as archive:
        archive.update(files or {})
        archive.publish()
        archive.export(car)
        overlay = archive.overlay_path
    assert overlay is not None
    for path in (draft, overlay, Path(f"{draft}.mstfs-index")):
        path.unlink(missing_ok=True)
    return car


def check(car: Path) -> None:
    """The published tree is sound, and canonical where its layout is: as if it had been made in one go."""
    with Archive.open(car) as archive:
        tree, root = archive.workspace.tree, archive.head.data
        assert isinstance(tree, HamtTree)
        layout = tree.layout(root)
        assert list(verify_tree(archive.workspace.blocks, root, layout)) == []
        if layout.canonical:
            blocks = MemoryBlocks()
            anew = HamtTree(blocks, layout, hash_code=cids.hash_of(root)[0])
            empty, block = anew.empty()
            blocks.put(empty, block)
            assert anew.apply(empty, [Edit(key, cid) for key, cid in tree.page(root)]).root == root


def files_of(source: Path) -> dict[str, bytes]:
    """Key -> file of everything in an archive, read without a mount."""
    with Archive.open(source) as archive:
        return {key: archive.read(key) for key in archive}
