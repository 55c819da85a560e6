"""Which kind of tree a root is, and how a tree of that kind is opened.

Source: IPLD kinds of roots; the specifications that the packages `mst`, `hamt`, `unixfs` and `sharded` name.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.errors import CborError, Refused
from mstfs.limits import MANIFEST_BYTES
from mstfs.tree.interface import Tree

if TYPE_CHECKING:
    from mstfs.tree.hamt.layout import Layout


@dataclass(frozen=True)
class Kind:
    """A kind of tree. `name` is what people call it; `layout` is that of a HAMT, else None."""

    name: str
    layout: "Layout | None" = None

    @property
    def is_hamt(self) -> bool:
        return self.layout is not None

    @property
    def writable(self) -> bool:
        """Whether trees of this kind can be changed."""
        return self.layout.writable if self.layout is not None else self.name == "mst"

    @property
    def title(self) -> str:
        """The kind in words, with the parameters that are not the usual ones."""
        if self.layout is None:
            return _TITLES[self.name]
        if self.name in ("hamt2", "hamt3"):
            return f"HAMT of {self.layout.name}"
        return f"{self.layout.name}, bit width {self.layout.width}, bucket size {self.layout.bucket_size}"

    @property
    def spelled(self) -> str:
        """The kind as `parse` reads it, with the parameters that a root does not tell."""
        if self.name != "filecoin" or self.layout is None:
            return self.name
        from mstfs.tree.hamt.hashes import NAMES

        layout = self.layout
        return f"{self.name},width={layout.width},bucket={layout.bucket_size},hash={NAMES[layout.key_hash]}"

    def open(self, blocks: BlockReader, hash_code: int | None = None) -> Tree:
        """The tree of this kind over a block reader; `hash_code` is that of new trees' CIDs."""
        if self.layout is not None:
            from mstfs.tree.hamt.tree import HamtTree

            return HamtTree(blocks, self.layout, hash_code=hash_code)
        if self.name == "unixfs":
            from mstfs.tree.unixfs.tree import UnixfsTree

            return UnixfsTree(blocks)
        if self.name == "sharded-zarr":
            from mstfs.tree.sharded.tree import ShardedTree
            from mstfs.tree.unixfs.tree import UnixfsTree

            return ShardedTree(blocks, UnixfsTree(blocks))
        from mstfs.tree.mst.tree import MstTree

        return MstTree(blocks)


MST = Kind("mst")
UNIXFS = Kind("unixfs")
SHARDED_ZARR = Kind("sharded-zarr")

_TITLES = {
    "mst": "Merkle search tree",
    "unixfs": "UnixFS",
    "sharded-zarr": "sharded Zarr manifest of py-hamt",
}


def sniff(root: bytes, block: bytes) -> Kind | None:
    """The kind of the tree with this root, or None where it is none that is known (a commit is none).

    Looks at the outermost form only. A Filecoin HAMT does not tell its parameters: its layout is a guess.
    """
    codec = cids.codec_of(root)
    if codec in (cids.DAG_PB, cids.RAW):
        return UNIXFS
    if codec != cids.DAG_CBOR or len(block) > MANIFEST_BYTES:
        return None
    try:
        value = dag_cbor.decode(block)
    except CborError:
        return None
    if isinstance(value, dict):
        if value.keys() == {"e", "l"}:
            return MST
        if value.get("manifest_version") in ("sharded_zarr_v1", "sharded_zarr_v2"):
            return SHARDED_ZARR
    from mstfs.tree.hamt import sniff as hamt

    layout = hamt.sniff(block)
    return None if layout is None else of_layout(layout)


def of_layout(layout: "Layout") -> Kind:
    """The kind of a HAMT with this layout."""
    from mstfs.tree.hamt.filecoin import Filecoin
    from mstfs.tree.hamt.hashmap import HashMap
    from mstfs.tree.hamt.pyhamt2 import PyHamt2

    if isinstance(layout, PyHamt2):
        return Kind("hamt2", layout)
    if isinstance(layout, HashMap):
        return Kind("hashmap", layout)
    if isinstance(layout, Filecoin):
        return Kind("filecoin", layout)
    return Kind("hamt3", layout)


def parse(text: str) -> Kind:
    """A kind as a person names it: a name, and for some HAMTs `,parameter=value` behind it, once or more.

    IPLD HashMaps and Filecoin's HAMTs have `width` (bits of the hash a level), `bucket` (entries in a bucket)
    and `hash` (a multicodec name). A colon may stand for a comma. Refused for a word that means nothing.
    """
    name, *words = text.replace(":", ",").split(",")
    plain = {"mst": MST, "unixfs": UNIXFS, "sharded-zarr": SHARDED_ZARR}
    if name in plain and not words:
        return plain[name]
    given = _parameters(text, words)
    from mstfs.tree.hamt.filecoin import Filecoin
    from mstfs.tree.hamt.hashmap import HashMap
    from mstfs.tree.hamt.pyhamt2 import PyHamt2
    from mstfs.tree.hamt.pyhamt3 import PyHamt3

    if name in ("hamt2", "hamt3") and not words:
        return Kind(name, PyHamt2() if name == "hamt2" else PyHamt3())
    if name == "filecoin":
        return Kind(name, Filecoin(**{"width": 5, "bucket_size": 3, **given}))
    if name == "hashmap":
        code = given.get("key_hash", cids.SHA2_256)
        return Kind(name, HashMap(**{**given, "key_hash": code, "declared": code}))
    raise Refused(
        f"{text} is no kind of tree: mst, hamt2, hamt3, hashmap, filecoin, unixfs and sharded-zarr are known"
    )


def _parameters(text: str, words: list[str]) -> dict[str, Any]:
    from mstfs.tree.hamt.hashes import NAMES

    codes = {name: code for code, name in NAMES.items()}
    fields = {"width": "width", "bucket": "bucket_size"}
    found: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name == "hash" and value in codes:
            found["key_hash"] = codes[value]
        elif name in ("width", "bucket") and value.isdigit() and 0 < int(value) <= 1 << 16:
            found[fields[name]] = int(value)
        else:
            raise Refused(
                f"{text}: {word} is no parameter; width=BITS, bucket=ENTRIES and hash={'|'.join(codes)} are"
            )
    if not 3 <= found.get("width", 8) <= 16:
        raise Refused(f"{text}: the width must be from 3 to 16 bits")
    return found
