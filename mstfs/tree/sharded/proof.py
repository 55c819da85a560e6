"""Proofs: the blocks that show what a sharded Zarr store holds under a key.

These are the manifest, the shard that the key of a chunk leads to, and the metadata document of the array,
which says how the keys of its chunks are spelled; of a store of version 1 all documents of arrays, among
which is the one that the shards belong to.
"""

from collections.abc import Callable, Iterable

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import (
    BlockError,
    CidError,
    LimitExceeded,
    MissingBlock,
    MissingBlocks,
    NodeError,
    ProofError,
)
from mstfs.tree.proof_blocks import Given, Recorder
from mstfs.tree.sharded.content import Files
from mstfs.tree.sharded.tree import ShardedTree

Blocks = list[tuple[bytes, bytes]]
"""CIDs and blocks, the root first."""

MakeFiles = Callable[[BlockReader], Files]
"""From blocks to what reads UnixFS files made of them."""


def prove(blocks: BlockReader, root: bytes, key: bytes, files: MakeFiles | None = None) -> Blocks:
    """The blocks that show what `root` has under `key`, or that it does not have the key."""
    recorder = Recorder(blocks)
    _tree(recorder, files).get(root, key)
    return list(recorder.found.items())


def check(
    root: bytes, key: bytes, blocks: Iterable[tuple[bytes, bytes]], files: MakeFiles | None = None
) -> bytes | None:
    """The CID that the store `root` has under `key`, None if it does not have the key.

    Trusts nothing but the root. Blocks that have nothing to do with the proof do no harm. Raises ProofError
    if the blocks do not suffice, or do not fit together.
    """
    try:
        return _tree(Given(blocks), files).get(root, key)
    except MissingBlocks as error:
        raise ProofError(f"the proof lacks block {cids.to_text(error.cids[0])}") from None
    except MissingBlock as error:
        raise ProofError(f"the proof lacks block {cids.to_text(error.cid)}") from None
    except (NodeError, LimitExceeded, CidError, BlockError) as error:
        raise ProofError(str(error)) from None


def _tree(blocks: BlockReader, files: MakeFiles | None) -> ShardedTree:
    return ShardedTree(blocks, None if files is None else files(blocks))
