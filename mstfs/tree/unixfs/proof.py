"""Proofs: the blocks on the way to a path, which show what a directory tree holds there.

A plain directory shows all of its names. In a sharded one the hash of a name leads to the only place where a
look-up finds it, so the shards up to there prove both that it is there and that it is not. The block of what
stands at the path is on the way too: it tells a directory from a file.
"""

from collections.abc import Callable, Iterable

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import CidError, LimitExceeded, MissingBlock, NodeError, ProofError
from mstfs.tree.unixfs.directory import is_raw
from mstfs.tree.unixfs.node import UnixfsNode, content, decode
from mstfs.tree.unixfs.path import resolve

Blocks = list[tuple[bytes, bytes]]
"""CIDs and blocks, the root first."""


def prove(blocks: BlockReader, root: bytes, path: bytes) -> Blocks:
    """The blocks that show what stands at `path` below `root`, or that nothing does; no symbolic link is
    followed.

    Names are parted by slashes, the empty path is the root. A raw block that stands at the path, which is a
    file without looking, is not among them.
    """
    found: dict[bytes, bytes] = {}

    def load(cid: bytes) -> UnixfsNode:
        block = found[cid] = blocks.get(cid)
        return decode(cid, block)

    _find(load, root, path)
    return list(found.items())


def check(root: bytes, path: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The CID of what stands at `path` below `root`, None if nothing does.

    Trusts nothing but the root. Blocks that have nothing to do with the proof do no harm. Raises ProofError
    if the blocks do not suffice, or do not fit together.
    """
    held = dict(blocks)

    def load(cid: bytes) -> UnixfsNode:
        block = held.get(cid)
        if block is None:
            raise MissingBlock(cid)
        if not cids.matches(cid, block):
            raise ProofError(f"block {cids.to_text(cid)} does not match its CID")
        return decode(cid, block)

    try:
        return _find(load, root, path)
    except MissingBlock as error:
        raise ProofError(f"the proof lacks block {cids.to_text(error.cid)}") from None
    except (NodeError, LimitExceeded, CidError) as error:
        raise ProofError(str(error)) from None


def _find(load: Callable[[bytes], UnixfsNode], root: bytes, path: bytes) -> bytes | None:
    cid = resolve(load, root, path)
    if cid is not None and not is_raw(cid):
        content(load, cid)
    return cid
