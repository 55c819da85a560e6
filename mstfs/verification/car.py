"""The strict verifier of a tree of any kind but a repository's in one CAR file.

Three passes, as for repositories: every block of the file is hashed in file order (`mstfs.tree.car_check`),
the tree and its values are walked from the root, and what was never reached is counted. Rules of this module:
`car-root-count` (the header names no root).
"""

from collections.abc import Iterator

from mstfs.blocks.car import CarFile
from mstfs.errors import Refused
from mstfs.tree.car_check import HASH_RULES, CarCheck, Progress
from mstfs.tree.defect import Defect
from mstfs.verification.report import TreeReport
from mstfs.verification.sight import Surveyed
from mstfs.verification.walk import Question, Walk


class CarVerification:
    """One verification. Iterate over it once for the defects as they are found, then ask for the `report`.

    Raises CarError and OSError if the file cannot be read.
    """

    def __init__(self, car: CarFile, question: Question, *, progress: Progress | None = None) -> None:
        self._car = car
        self._question = question
        self._check = CarCheck(car, progress)
        survey = self._check.survey
        self._walk = Walk(Surveyed(survey, lambda count: self._check.step(len(survey) + count)), question)
        self._count = 0
        self._ended = False

    def __iter__(self) -> Iterator[Defect]:
        for defect in self._run():
            self._count += 1
            yield self._check.located(defect)
        self._ended = True

    def _run(self) -> Iterator[Defect]:
        yield from self._check.header()
        if not self._car.roots:
            yield Defect("car-root-count", "the header names no root")
        # What a block must be depends on what links to it, so it is looked at when the walk comes to it.
        yield from self._check.scan(lambda data: False)
        for defect in self._walk:
            if defect.cid is not None and defect.rule in HASH_RULES:
                self._check.told(defect.cid)
            yield defect
        yield from self._check.leftovers()

    def report(self, defects: tuple[Defect, ...] = ()) -> TreeReport:
        """What was found, with the defects that the caller kept. Refused before the iteration has ended."""
        if not self._ended:
            raise Refused("the verification has not ended yet")
        walk, check = self._walk, self._check
        return TreeReport(
            kind=self._question.kind,
            root=self._question.root,
            entries=walk.entries,
            nodes=walk.nodes,
            blocks_seen=len(check.survey),
            unlinked=check.unlinked,
            duplicates=check.duplicates,
            values=walk.looked,
            complete=walk.complete,
            defect_count=self._count,
            defects=defects,
        )
