"""What a root is: a commit with its tree, or a bare tree of any kind."""

from dataclasses import dataclass, replace

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.errors import CborError, FormatError, LimitExceeded, Refused
from mstfs.limits import MANIFEST_BYTES
from mstfs.repo import commit as commits
from mstfs.repo.commit import Commit
from mstfs.tree import kinds
from mstfs.tree.hamt.filecoin import Filecoin
from mstfs.tree.kinds import MST, Kind


@dataclass(frozen=True)
class Head:
    """A root that can be mounted.

    `root` is the commit's CID, or equals `data`, the root of the tree, where there is no commit. `tree` is
    the kind of the tree.
    """

    root: bytes
    data: bytes
    commit: Commit | None
    tree: Kind = MST

    @property
    def rev(self) -> str | None:
        return self.commit.rev if self.commit is not None else None

    @property
    def kind(self) -> str:
        """`signed`, `unsigned` or `bare`: what every place that shows a root says about it."""
        if self.commit is None:
            return "bare"
        return "signed" if self.commit.is_signed else "unsigned"


def read_head(blocks: BlockReader, root: bytes, kind: Kind | None = None) -> Head:
    """Read the block of a root and tell what it is; `kind` is what a person says that its tree is.

    Raises BlockError where the block cannot be had, FormatError or Refused where it is no root that can be
    mounted. Source: atproto repository specification, "Commit Objects"; IPLD kinds of roots.
    """
    block = blocks.get(root)
    name = cids.to_text(root)
    if cids.codec_of(root) == cids.DAG_CBOR and _looks_like_commit(name, block) and kind in (None, MST):
        commit = commits.decode(block)
        return Head(root, commit.data, commit)
    found = kinds.sniff(root, block)
    if kind is not None:
        return Head(root, root, None, _as_told(name, kind, found or _in_other_words(root, block)))
    if found is None:
        raise Refused(f"root {name} is {_in_words(root)}: no commit, and no tree that is known")
    if found.name == "filecoin":
        raise Refused(
            f"root {name} looks like a HAMT of Filecoin, whose parameters are in no file: "
            "give them with --tree filecoin,width=5,bucket=3,hash=sha2-256"
        )
    return Head(root, root, None, found)


def _looks_like_commit(name: str, block: bytes) -> bool:
    if len(block) > MANIFEST_BYTES:
        raise LimitExceeded(f"root {name}: {len(block)} bytes are more than any kind of root has")
    try:
        value = dag_cbor.decode(block)
    except CborError as error:
        raise FormatError(f"root {name} is not valid DAG-CBOR: {error}") from error
    return isinstance(value, dict) and "data" in value and "did" in value


def _as_told(name: str, told: Kind, found: Kind | None) -> Kind:
    """The kind that a person named, with what the root says about its layout."""
    if told.name == "filecoin" and found is not None and found.name == "filecoin":
        # The form of its pointers is the one thing that a root tells.
        assert isinstance(told.layout, Filecoin)
        assert isinstance(found.layout, Filecoin)
        return replace(told, layout=replace(told.layout, old=found.layout.old))
    if (told, found) == (kinds.SHARDED_ZARR, kinds.UNIXFS):
        return told  # Kubo makes a file of a manifest that is over its chunk size.
    if found is None or found.name != told.name:
        what = f"a {found.title}" if found is not None else "no tree that is known"
        raise Refused(f"root {name} is {what}, not a {told.title}")
    return found


def _in_other_words(root: bytes, block: bytes) -> Kind | None:
    # Some stores call every block raw. What a person says is a HAMT may be one all the same.
    from mstfs.tree.hamt.sniff import sniff

    layout = sniff(block)
    return kinds.of_layout(layout) if layout is not None else None


def _in_words(root: bytes) -> str:
    codec = cids.codec_of(root)
    return "some other value" if codec == cids.DAG_CBOR else f"a block of codec {codec:#x}"


def choose_root(blocks: BlockReader, roots: tuple[bytes, ...], kind: Kind | None = None) -> Head:
    """The first of a CAR's roots that can be mounted.

    Raises what the first root raised where none can; Refused where there is no root at all.
    """
    if not roots:
        raise Refused("the CAR names no root: give one with --root CID")
    first: Exception | None = None
    for root in roots:
        try:
            return read_head(blocks, root, kind)
        except Exception as error:
            first = first or error
    assert first is not None
    raise first
