"""The strict check of what one root reaches, wherever its blocks are: a CAR, an overlay above it, or both.

For trees of any kind but a repository's; `mstfs.repo.verify_head` is for those.
"""

from collections.abc import Callable, Iterator

from mstfs.blocks.interface import BlockReader
from mstfs.errors import Refused
from mstfs.tree.defect import Defect
from mstfs.verification.report import TreeReport
from mstfs.verification.sight import Read
from mstfs.verification.walk import Question, Walk

_STEP = 256


class HeadVerification:
    """One verification. Iterate over it once for the defects as they are found, then ask for the `report`.

    `progress` is called now and then with the number of blocks that were read.
    """

    def __init__(
        self, blocks: BlockReader, question: Question, *, progress: Callable[[int], None] | None = None
    ) -> None:
        self._question = question
        self._progress = progress
        self._walk = Walk(Read(blocks, self._tell), question)
        self._count = 0
        self._ended = False

    def _tell(self, count: int) -> None:
        if self._progress is not None and not count % _STEP:
            self._progress(count)

    def __iter__(self) -> Iterator[Defect]:
        for defect in self._walk:
            self._count += 1
            yield defect
        self._ended = True

    def report(self, defects: tuple[Defect, ...] = ()) -> TreeReport:
        """What was found, with the defects that the caller kept. Refused before the iteration has ended."""
        if not self._ended:
            raise Refused("the verification has not ended yet")
        walk = self._walk
        return TreeReport(
            kind=self._question.kind,
            root=self._question.root,
            entries=walk.entries,
            nodes=walk.nodes,
            blocks_seen=walk.blocks,
            unlinked=0,
            duplicates=0,
            values=walk.looked,
            complete=walk.complete,
            defect_count=self._count,
            defects=defects,
        )
