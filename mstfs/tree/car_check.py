"""What is wrong with a CAR as a file, whatever tree is in it: its frame, its hashes, what no link leads to.

Source: CARv1 specification. Rules: `car-torn` (the file ends inside a section, or goes on with something that
is none), `section-cid`, `car-padding`, `car-header`, `block-hash`, `block-hash-unknown` (a CID that proves
nothing), `section-codec` (the bytes are there, but under another CID). Blocks that nothing links to and
blocks that stand twice are counted, not reported.
"""

from collections.abc import Callable, Iterator

from mstfs.blocks.car import CarFile
from mstfs.blocks.car_survey import BAD, COPY, LINKED, RESPELLED, TOLD, UNPROVEN, CarSurvey
from mstfs.codec import lenient
from mstfs.errors import CidError
from mstfs.tree.defect import Defect

Progress = Callable[[int, int], None]
"""Called now and then with steps done and steps in all: a block is one step when it is hashed, one later."""

HASH_RULES = frozenset(("block-hash", "block-hash-unknown"))
"""The rules that the bytes of a single block break, which are told once for each block."""


class CarCheck:
    """The passes over one file that do not depend on its tree. Call the methods in the order in which they
    stand.

    `survey` reads the blocks. Between the passes the caller walks the tree, and says with `step` how far it
    is.
    """

    def __init__(self, car: CarFile, progress: Progress | None) -> None:
        self.car = car
        self.survey = CarSurvey(car)
        self._progress = progress
        self._done = 0
        self._total = 0

    def header(self) -> Iterator[Defect]:
        """What is wrong with the CBOR of the header."""
        for departure in lenient.read(self.survey.header).departures:
            yield Defect("car-header", f"the header is not canonical: {departure.message}")

    def scan(self, look: Callable[[bytes], bool]) -> Iterator[Defect]:
        """Hash every block; `look` as for `CarSurvey.scan`. Gives what is wrong between and behind them."""
        survey, car = self.survey, self.car
        self._total = 2 * car.block_count
        for done in survey.scan(look):
            self.step(done)
        self._total = 2 * len(survey)
        for offset, reason in survey.problems:
            # The scan skips NUL bytes, and sections whose length alone could be read.
            rule = "section-cid" if car.read_raw(offset, 1) != b"\0" else "car-padding"
            yield Defect(rule, reason, offset=offset)
        if survey.padding:
            message = f"{survey.padding} NUL bytes at the end"
            yield Defect("car-padding", message, offset=survey.end - survey.padding)
        if survey.torn is not None:
            yield Defect("car-torn", survey.torn, offset=survey.end)

    def step(self, done: int) -> None:
        """So many steps are done."""
        done = min(done, self._total)
        enough = min(self._done + 1024, self._total)
        if self._progress is not None and done >= enough and done > self._done:
            self._done = done
            self._progress(done, self._total)

    def told(self, cid: bytes) -> None:
        """The flaws of this block were reported; `leftovers` leaves it out."""
        try:
            ordinal = self.survey.match(cid)
        except CidError:
            return  # No section can have such a CID.
        if ordinal >= 0:
            self.survey.flags[ordinal] |= TOLD

    def leftovers(self) -> Iterator[Defect]:
        """Wrong blocks that no link led to, and blocks whose CID is not the one that links spell."""
        survey = self.survey
        for ordinal, flags in enumerate(survey.flags):
            if flags & (BAD | UNPROVEN) and not flags & TOLD:
                rule = "block-hash" if flags & BAD else "block-hash-unknown"
                message = survey.flaw(ordinal)
            elif flags & RESPELLED:
                rule = "section-codec"
                message = "links name this block with another codec than the CID in the file"
            else:
                continue
            yield Defect(rule, message, survey.stored_cid(ordinal), None, survey.offset(ordinal))
        self.step(self._total)

    def located(self, defect: Defect) -> Defect:
        """The defect with the place of its block in the file."""
        if defect.offset is not None or defect.cid is None:
            return defect
        try:
            ordinal = self.survey.match(defect.cid)
        except CidError:
            return defect
        return defect if ordinal < 0 else defect._replace(offset=self.survey.offset(ordinal))

    @property
    def unlinked(self) -> int:
        """Blocks that nothing links to."""
        return self.survey.count(0, LINKED | COPY)

    @property
    def duplicates(self) -> int:
        """Blocks that are copies of others."""
        return self.survey.count(COPY)
