"""The bytes of a manifest, a shard or a metadata document: one block, or a UnixFS file.

Kubo makes a file of what is over its chunk size, and gives out a dag-pb CID where another one was asked for.
"""

from collections.abc import Iterator
from typing import Protocol

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import CidError, LimitExceeded, MissingBlock, MissingBlocks, NodeError
from mstfs.limits import MANIFEST_BYTES


class Files(Protocol):
    """What reads UnixFS files."""

    def size(self, cid: bytes) -> int:
        """The bytes that a file claims to have."""
        ...

    def read(self, cid: bytes, offset: int, length: int) -> bytes:
        """A range of a file."""
        ...

    def nodes(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every block of a file in pre-order, as CID and bytes."""
        ...


def read(blocks: BlockReader, files: Files | None, cid: bytes) -> bytes:
    """The content behind a link. Raises BlockError, NodeError or LimitExceeded.

    Without `files` a UnixFS file is a NodeError.
    """
    try:
        if cids.codec_of(cid) != cids.DAG_PB:
            return blocks.get(cid)
    except CidError as error:
        raise NodeError(cid, "node-link", f"is linked in a way that proves nothing: {error}") from None
    if files is None:
        raise NodeError(cid, "node-codec", "is a UnixFS file, and nothing here reads those")
    size = files.size(cid)
    if size > MANIFEST_BYTES:
        raise LimitExceeded(f"{size} bytes of a manifest or shard are over the limit of {MANIFEST_BYTES}")
    try:
        return files.read(cid, 0, size)
    except MissingBlocks as error:
        # A listing goes on behind a shard that cannot be read, and this is told with one block's error.
        raise MissingBlock(error.cids[0]) from None
