"""Which verifier a root needs."""

from dataclasses import replace

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, lenient
from mstfs.errors import CborError, CidError, Refused
from mstfs.limits import NODE_BYTES
from mstfs.tree import kinds
from mstfs.tree.hamt.filecoin import Filecoin
from mstfs.tree.hamt.sniff import sniff as sniff_hamt
from mstfs.tree.kinds import Kind


def kind_of(root: bytes, block: bytes | None, told: Kind | None = None) -> Kind | None:
    """The kind of the tree under a root; None for what the verifier of repositories is to look at.

    That is commits, MSTs, and whatever is nothing known. `block` is the root's, None where it cannot be had.
    `told` is what a person says. Unlike a reader this also knows the root of a tree whose block breaks the
    rules of DAG-CBOR. Refused where the root is another kind of tree than a person says, and for a HAMT of
    Filecoin whose parameters nobody gave.
    """
    found = _sniffed(root, block)
    if told is None:
        if found is not None and found.name == "filecoin":
            raise Refused(
                f"root {cids.to_text(root)} looks like a HAMT of Filecoin, whose parameters are in no file: "
                "give them with --tree filecoin,width=5,bucket=3,hash=sha2-256"
            )
        return None if found is None or found.name == "mst" else found
    if found is not None and found.name != told.name and told.is_hamt and block is not None:
        # Some stores call every block raw.
        layout = sniff_hamt(block)
        found = found if layout is None else kinds.of_layout(layout)
    if found is None:
        return None if told.name == "mst" else told
    if found.name != told.name:
        raise Refused(f"root {cids.to_text(root)} is a {found.title}, not a {told.title}")
    if isinstance(told.layout, Filecoin) and isinstance(found.layout, Filecoin):
        return replace(told, layout=replace(told.layout, old=found.layout.old))
    return None if found.name == "mst" else found


def _sniffed(root: bytes, block: bytes | None) -> Kind | None:
    try:
        if block is None:
            return kinds.UNIXFS if cids.codec_of(root) in (cids.DAG_PB, cids.RAW) else None
        found = kinds.sniff(root, block)
        if found is not None or cids.codec_of(root) != cids.DAG_CBOR or len(block) > NODE_BYTES:
            return found
        return kinds.sniff(root, dag_cbor.encode(lenient.read(block).value))
    except (CborError, CidError):
        return None
