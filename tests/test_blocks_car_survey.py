"""A surveyed CAR is a block reader like any other."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from car_files import car_v1, opened
from contracts.block_store import TEXT, BlockReaderContract, ReaderOf

from mstfs.blocks.car_survey import LINKED, CarSurvey
from mstfs.codec import cid as cids


@pytest.fixture
def reader_of(tmp_path: Path) -> Iterator[ReaderOf]:
    with ExitStack() as cars:

        def surveyed(blocks: Mapping[bytes, bytes]) -> CarSurvey:
            survey = CarSurvey(cars.enter_context(opened(tmp_path, car_v1(blocks.items()))))
            for _ in survey.scan(lambda data: True):
                pass
            return survey

        yield surveyed


class TestSurveyContract(BlockReaderContract):
    @pytest.fixture
    def reader_of(self, reader_of: ReaderOf) -> ReaderOf:
        return reader_of


def test_asking_for_a_length_links_nothing(reader_of: ReaderOf) -> None:
    cid = cids.for_block(TEXT)
    survey = reader_of({cid: TEXT})
    assert isinstance(survey, CarSurvey)
    assert survey.length(cid) == len(TEXT)
    assert not survey.count(LINKED)
    survey.get(cid)
    assert survey.count(LINKED) == 1
