"""One writable store above any number of readers."""

from collections.abc import Iterable, Sequence

from mstfs.blocks.interface import BlockReader, BlockStore, ReadSmall, read_nothing
from mstfs.errors import BlockError, ConflictingBlock, CorruptBlock, MissingBlock, ReadOnly, UnreachableBlock


class OverlayBlocks(BlockStore):
    """Reads from `upper`, then from `lowers` in their order; writes to `upper` only.

    A layer whose copy is corrupt or out of reach is passed over when another has a sound one. Without
    `upper`, puts and deletes raise ReadOnly. A delete does not hide what a lower layer holds.
    """

    def __init__(self, upper: BlockStore | None, lowers: Sequence[BlockReader]) -> None:
        self.upper = upper
        self.lowers = tuple(lowers)
        if upper is None and len(self.lowers) == 1:
            # There is nothing to choose from, and walks ask for every node.
            self.get = self.lowers[0].get  # type: ignore[method-assign]

    @property
    def read_small(self) -> ReadSmall:  # type: ignore[override]
        # Whichever layer has bytes that match the CID, they are the same.
        return self.lowers[0].read_small if self.lowers else read_nothing

    def get(self, cid: bytes) -> bytes:
        upper = self.upper
        failure: BlockError | None = None
        if upper is not None and upper.may_hold(cid):
            try:
                return upper.get(cid)
            except BlockError as error:
                failure = error
        for lower in self.lowers:
            try:
                return lower.get(cid)
            except BlockError as error:
                failure = _worse(failure, error)
        raise failure or MissingBlock(cid)

    def expect(self, cids: Sequence[bytes]) -> None:
        for lower in self.lowers[:1]:
            lower.expect(cids)

    def has(self, cid: bytes) -> bool:
        upper = self.upper
        if upper is not None and upper.may_hold(cid) and upper.has(cid):
            return True
        return any(lower.has(cid) for lower in self.lowers)

    def length(self, cid: bytes) -> int:
        upper = self.upper
        failure: BlockError | None = None
        if upper is not None and upper.may_hold(cid):
            try:
                return upper.length(cid)
            except BlockError as error:
                failure = error
        for lower in self.lowers:
            try:
                return lower.length(cid)
            except BlockError as error:
                failure = _worse(failure, error)
        raise failure or MissingBlock(cid)

    def may_hold(self, cid: bytes) -> bool:
        # A reader has no cheap answer; only without readers does the upper layer speak for all.
        return bool(self.lowers) or (self.upper is not None and self.upper.may_hold(cid))

    def put(self, cid: bytes, data: bytes) -> None:
        try:
            self._writable().put(cid, data)
        except CorruptBlock as error:
            raise self._refusal(error) from None

    def put_many(self, blocks: Iterable[tuple[bytes, bytes]]) -> None:
        try:
            self._writable().put_many(blocks)
        except CorruptBlock as error:
            raise self._refusal(error) from None

    def delete(self, cid: bytes) -> None:
        self._writable().delete(cid)

    def _writable(self) -> BlockStore:
        if self.upper is None:
            raise ReadOnly("the archive is opened for reading only: there is no overlay to write to")
        return self.upper

    def _refusal(self, error: CorruptBlock) -> BlockError:
        # The upper layer cannot know that a lower one holds the block.
        if self.has(error.cid):
            return ConflictingBlock(error.cid, "other bytes were put under the CID of a block that is held")
        return error


def _worse(first: BlockError | None, second: BlockError) -> BlockError:
    # What to tell when no layer has a sound copy: damage before trouble before absence.
    for kind in (CorruptBlock, UnreachableBlock):
        for error in (first, second):
            if isinstance(error, kind):
                return error
    return second
