"""The blocks that a walk looks at, and how it tells how many they were."""

from collections.abc import Callable
from typing import Protocol

from mstfs.blocks.car_survey import BAD, LINKED, TOLD, UNPROVEN, CarSurvey
from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import BlockError, CidError
from mstfs.tree.defect import Defect, block_defect


class Sight(BlockReader, Protocol):
    """A block reader that can also say whether a block is sound."""

    def flaw(self, cid: bytes) -> Defect | None:
        """What is wrong with a block as such; it counts as linked from now on."""
        ...


class Surveyed(Sight):
    """The blocks of a file that were all hashed already: whether one is sound is known without reading it."""

    def __init__(self, survey: CarSurvey, tell: Callable[[int], None]) -> None:
        self._survey = survey
        self._tell = tell
        self._count = 0

    def _step(self) -> None:
        self._count += 1
        self._tell(self._count)

    def get(self, cid: bytes) -> bytes:
        self._step()
        return self._survey.get(cid)

    def has(self, cid: bytes) -> bool:
        return self._survey.has(cid)

    def length(self, cid: bytes) -> int:
        return self._survey.length(cid)

    def flaw(self, cid: bytes) -> Defect | None:
        self._step()
        survey = self._survey
        try:
            ordinal = survey.match(cid)
            if ordinal < 0:
                return None if cids.identity_data(cid) is not None else _missing(cid)
        except CidError as error:
            return Defect("block-hash-unknown", str(error), cid)
        flags = survey.flags[ordinal]
        survey.flags[ordinal] = flags | LINKED
        if not flags & (BAD | UNPROVEN):
            return None
        survey.flags[ordinal] |= TOLD
        rule = "block-hash" if flags & BAD else "block-hash-unknown"
        return Defect(rule, survey.flaw(ordinal), cid)


class Read(Sight):
    """Any blocks, each looked at by reading it."""

    def __init__(self, blocks: BlockReader, tell: Callable[[int], None]) -> None:
        self._blocks = blocks
        self._tell = tell
        self._count = 0

    def get(self, cid: bytes) -> bytes:
        self._count += 1
        self._tell(self._count)
        return self._blocks.get(cid)

    def has(self, cid: bytes) -> bool:
        return self._blocks.has(cid)

    def length(self, cid: bytes) -> int:
        return self._blocks.length(cid)

    def flaw(self, cid: bytes) -> Defect | None:
        try:
            self.get(cid)
        except BlockError as error:
            return block_defect(error)
        except CidError as error:
            return Defect("block-hash-unknown", str(error), cid)
        return None


def _missing(cid: bytes) -> Defect:
    return Defect("missing-block", "the block is missing", cid)
