"""What a root is: a commit with its tree, or a bare tree."""

from dataclasses import dataclass

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.errors import CborError, FormatError, Refused
from mstfs.repo import commit as commits
from mstfs.repo.commit import Commit

SO_FAR = "atproto repositories and bare MSTs can be mounted so far"


@dataclass(frozen=True)
class Head:
    """A root that can be mounted. `root` is the commit's CID, or equals `data` for a bare tree."""

    root: bytes
    data: bytes
    commit: Commit | None

    @property
    def rev(self) -> str | None:
        return self.commit.rev if self.commit is not None else None

    @property
    def kind(self) -> str:
        """`signed`, `unsigned` or `bare`: what every place that shows a root says about it."""
        if self.commit is None:
            return "bare"
        return "signed" if self.commit.is_signed else "unsigned"


def read_head(blocks: BlockReader, root: bytes) -> Head:
    """Read the block of a root and tell a commit from a bare MST node.

    Raises BlockError where the block cannot be had, FormatError where it is no root that can be
    mounted. Source: atproto repository specification, "Commit Objects"; IPLD kinds of roots.
    """
    block = blocks.get(root)
    name = cids.to_text(root)
    if cids.codec_of(root) != cids.DAG_CBOR:
        raise Refused(f"root {name} is {_other_kind(root, block)}, not DAG-CBOR: {SO_FAR}")
    try:
        value = dag_cbor.decode(block)
    except CborError as error:
        raise FormatError(f"root {name} is not valid DAG-CBOR: {error}") from error
    if isinstance(value, dict) and set(value) == {"e", "l"}:
        return Head(root, root, None)
    if isinstance(value, dict) and "data" in value and "did" in value:
        commit = commits.decode(block)
        return Head(root, commit.data, commit)
    raise Refused(f"root {name} is {_other_kind(root, block)}, no commit and no MST node: {SO_FAR}")


def _other_kind(root: bytes, block: bytes) -> str:
    """What a root is that cannot be mounted, in words."""
    from mstfs.tree.hamt.sniff import sniff

    codec = cids.codec_of(root)
    if codec == cids.DAG_PB:
        return "a UnixFS file or directory"
    if codec != cids.DAG_CBOR:
        return "raw bytes" if codec == cids.RAW else f"a block of codec {codec:#x}"
    layout = sniff(block)
    return f"a HAMT ({type(layout).__name__})" if layout is not None else "some other value"


def choose_root(blocks: BlockReader, roots: tuple[bytes, ...]) -> Head:
    """The first of a CAR's roots that can be mounted.

    Raises what the first root raised where none can; Refused where there is no root at all.
    """
    if not roots:
        raise Refused("the CAR names no root: give one with --root CID")
    first: Exception | None = None
    for root in roots:
        try:
            return read_head(blocks, root)
        except Exception as error:
            first = first or error
    assert first is not None
    raise first
