"""Where the blocks of a proof come from when it is made, and where they are when it is checked."""

from collections.abc import Iterable

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import MissingBlock, ProofError


class Recorder(BlockReader):
    """Hands on to another reader, and remembers every block that was read, in order, in `found`."""

    def __init__(self, blocks: BlockReader) -> None:
        self.found: dict[bytes, bytes] = {}
        self._blocks = blocks

    def get(self, cid: bytes) -> bytes:
        block = self.found[cid] = self._blocks.get(cid)
        return block

    def has(self, cid: bytes) -> bool:
        return self._blocks.has(cid)

    def length(self, cid: bytes) -> int:
        return len(self.get(cid))


class Given(BlockReader):
    """The blocks of a proof, each checked when it is read: ProofError for one that does not match its CID."""

    def __init__(self, blocks: Iterable[tuple[bytes, bytes]]) -> None:
        self._held = dict(blocks)

    def get(self, cid: bytes) -> bytes:
        block = self._held.get(cid)
        if block is None:
            block = cids.identity_data(cid)
        if block is None:
            raise MissingBlock(cid)
        if not cids.matches(cid, block):
            raise ProofError(f"block {cids.to_text(cid)} does not match its CID")
        return block

    def has(self, cid: bytes) -> bool:
        return cid in self._held or cids.identity_data(cid) is not None

    def length(self, cid: bytes) -> int:
        return len(self.get(cid))
