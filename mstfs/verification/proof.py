"""Proofs about one key of any tree: the blocks that show its value or its absence, and the value's own block.

Of a repository the commit vouches for the tree (`mstfs.repo.proof`). What places the keys of a HAMT is found
out from the blocks of the proof itself, so a proof carries as many nodes as that takes.
"""

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import BlockError, FormatError, MissingBlock, MissingBlocks, ProofError, Refused
from mstfs.repo import proof as repo_proof
from mstfs.repo.head import Head, read_head
from mstfs.repo.proof import Proven
from mstfs.tree.hamt import proof as hamt_proof
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.kinds import Kind
from mstfs.tree.proof_blocks import Given, Recorder
from mstfs.tree.sharded import proof as sharded_proof
from mstfs.tree.unixfs import proof as unixfs_proof
from mstfs.tree.unixfs.file import DIRECTORY
from mstfs.tree.unixfs.tree import UnixfsTree

Blocks = list[tuple[bytes, bytes]]
"""CIDs and blocks, the root first."""


def make_proof(blocks: BlockReader, head: Head, key: bytes) -> tuple[bytes | None, Blocks]:
    """The CID under the key (None: absent) and the blocks that prove it, the root first.

    Of a value that is a UnixFS file of several blocks only the topmost one is there. In a UnixFS tree the key
    is a path, which may be that of a directory. BlockError if a block cannot be had, Refused where no proof
    is possible.
    """
    if head.tree.name == "mst":
        return repo_proof.make_proof(blocks, head, key)
    found = _way(blocks, head, key)
    value = _value(found, head, key)
    if value is not None and value not in found and not _stands_inside(found, head, value):
        found[value] = blocks.get(value)
    return value, list(found.items())


def check_proof(
    blocks: BlockReader,
    root: bytes,
    key: bytes,
    signing_key: str | None = None,
    *,
    allow_unsigned: bool = False,
    kind: Kind | None = None,
) -> tuple[Kind, Proven]:
    """The kind of the tree, and what `blocks` prove about a key under `root`. Trusts nothing but the root.

    `kind` is what a person says about the tree; the other arguments are those of `repo.proof.check_proof`.
    ProofError if it is not proven; SignatureError if `signing_key` is malformed.
    """
    try:
        head = read_head(blocks, root, kind)
    except (BlockError, FormatError, Refused) as error:
        raise ProofError(str(error)) from None
    if head.tree.name == "mst":
        proven = repo_proof.check_proof(blocks, root, key, signing_key, allow_unsigned=allow_unsigned)
        return head.tree, proven
    if signing_key is not None:
        raise ProofError("there is no commit, so the signing key vouches for nothing")
    try:
        # Only the way is read, however big the file is; then it is checked as if it came from anywhere.
        found = _way(blocks, head, key)
        value = _value(found, head, key)
        held = value is not None and _is_held(blocks, found, head, value)
    except ProofError:
        raise
    except (BlockError, MissingBlocks, FormatError, Refused) as error:
        raise ProofError(str(error)) from None
    return head.tree, Proven(value, held, head.data, None, None, "unsigned")


# --- for each kind of tree ------------------------------------------------------------------------


def _way(blocks: BlockReader, head: Head, key: bytes) -> dict[bytes, bytes]:
    """The blocks that show what is under a key, but for that of the value."""
    kind, root = head.tree, head.data
    if kind.layout is not None:
        return _way_in_hamt(blocks, root, kind.layout, key)
    if kind.name == "unixfs":
        if key.startswith(b"/"):
            raise Refused("a name that is empty or holds a slash has no path, so nothing can be proven of it")
        return dict(unixfs_proof.prove(blocks, root, key))
    return dict(sharded_proof.prove(blocks, root, key, UnixfsTree))


def _way_in_hamt(blocks: BlockReader, root: bytes, layout: Layout, key: bytes) -> dict[bytes, bytes]:
    recorder = Recorder(blocks)
    placed = HamtTree(recorder, layout).layout(root)
    found = dict(hamt_proof.prove(blocks, root, placed, key))
    if _layout_of(found, root, layout) != placed:
        # Too few keys are on the way to tell where keys are. What told it here tells it there.
        found |= recorder.found
    return found


def _layout_of(found: dict[bytes, bytes], root: bytes, layout: Layout) -> Layout:
    return HamtTree(Given(found.items()), layout).layout(root)


def _value(found: dict[bytes, bytes], head: Head, key: bytes) -> bytes | None:
    """The CID that these blocks prove to be under a key, or None.

    ProofError, BlockError or Refused if they prove nothing.
    """
    layout, root = head.tree.layout, head.data
    if layout is not None:
        return hamt_proof.check(root, _layout_of(found, root, layout), key, found.items())
    if head.tree.name == "unixfs":
        return unixfs_proof.check(root, key, found.items())
    return sharded_proof.check(root, key, found.items(), UnixfsTree)


def _stands_inside(found: dict[bytes, bytes], head: Head, value: bytes) -> bool:
    """Whether a value has no block: it stands in its CID, or in one of these nodes."""
    if cids.identity_data(value) is not None:
        return True
    layout = head.tree.layout
    if layout is None:
        return False
    tree = HamtTree(Given(found.items()), layout)
    tree.page(head.data, limit=1, on_missing=lambda error: None)
    return tree.inline_value(value) is not None


def _is_held(blocks: BlockReader, found: dict[bytes, bytes], head: Head, value: bytes) -> bool:
    """Whether all of a value is among the blocks."""
    if _stands_inside(found, head, value):
        return True
    try:
        if cids.codec_of(value) != cids.DAG_PB:
            blocks.get(value)
            return True
        files = UnixfsTree(blocks)
        # Of a directory, what is in it is not what is proven.
        if files.attributes(value).kind != DIRECTORY:
            for _ in files.nodes(value):
                pass
    except MissingBlock:
        return False
    return True
