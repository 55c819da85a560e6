"""The index that a CARv2 carries: used when it is right, and no harm when it is not."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from car_files import (
    ABSENT,
    block,
    car_v1,
    car_v2,
    holds,
    index_sorted,
    multihash_index_sorted,
    offsets_of,
    opened,
)
from contracts.block_store import BlockReaderContract, ReaderOf

from mstfs.blocks.car import CarFile
from mstfs.blocks.car_embedded import EmbeddedIndex, read_tables
from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import CarError, VarintError

IndexMaker = Callable[[list[tuple[bytes, int]]], bytes]
SHA = [block(f"number {number}") for number in range(40)]


@pytest.mark.parametrize("make", [index_sorted, multihash_index_sorted])
@pytest.mark.parametrize("gap", [0, 64])
def test_the_embedded_index_is_used(tmp_path: Path, make: IndexMaker, gap: int) -> None:
    data = car_v2(car_v1(SHA), make(offsets_of(SHA)), gap)
    with opened(tmp_path, data, use_sidecar=True) as car:
        assert holds(car, SHA)
        assert holds(car, SHA)
        assert car.index_path is None
        assert car.torn is None
        assert not (tmp_path / "a.car.mstfs-index").exists()
        # The first miss looks through the file once, and for all.
        assert not car.has(ABSENT)
        assert car.index_path == tmp_path / "a.car.mstfs-index"
        assert holds(car, SHA)
        assert car.block_count == len(SHA)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda entries: index_sorted(entries[:20]),
        lambda entries: index_sorted([(cid, offset + 1) for cid, offset in entries]),
        lambda entries: index_sorted([(cid, 2**63 + offset) for cid, offset in entries]),
        lambda entries: index_sorted([(cid, entries[0][1]) for cid, _ in entries]),
        lambda entries: index_sorted(entries)[:-1],
        lambda entries: index_sorted(entries)[:2],
        lambda entries: b"\x01" + index_sorted(entries),
        lambda entries: b"\x80\x08" + b"\xff" * 16,
        lambda entries: b"\x81\x08" + b"\xff\xff\xff\x7f" * 16,
        lambda entries: b"\x81\x08" + b"\xff\xff\xff\x7f" + bytes(12) * 1000,
        lambda entries: b"\x80\x08\x01\x00\x00\x00\x28\x00\x00\x00" + bytes(8),
        lambda entries: b"\x80\x08\x01\x00\x00\x00\x08\x00\x00\x00" + b"\x08" + bytes(30),
        lambda entries: b"\xff" * 30,
    ],
)
def test_a_wrong_embedded_index_does_no_harm(tmp_path: Path, spoil: IndexMaker) -> None:
    data = car_v2(car_v1(SHA), spoil(offsets_of(SHA)))
    with opened(tmp_path, data) as car:
        assert holds(car, SHA)
        assert not car.has(ABSENT)
        assert car.block_count == len(SHA)


def test_corrupt_copies_behind_an_embedded_index(tmp_path: Path) -> None:
    cid, data = block("right")
    blocks = [(cid, b"wrong"), *SHA, (cid, data)]
    with opened(tmp_path, car_v2(car_v1(blocks), index_sorted(offsets_of(blocks)[:-1]))) as car:
        assert car.get(cid) == data
        assert holds(car, SHA)


class TestIndexedCarContract(BlockReaderContract):
    @pytest.fixture
    def reader_of(self, tmp_path: Path) -> Iterator[ReaderOf]:
        def make(blocks: Mapping[bytes, bytes]) -> BlockReader:
            pairs = list(blocks.items())
            entries = [entry for entry in offsets_of(pairs) if cids.hash_of(entry[0])[0] == cids.SHA2_256]
            data = car_v2(car_v1(pairs), index_sorted([entry for entry in entries if len(entry[0]) > 32]))
            return cars.enter_context(opened(tmp_path, data))

        with ExitStack() as cars:
            yield make

    def test_lengths_need_no_hashing(self, reader_of: ReaderOf, monkeypatch: pytest.MonkeyPatch) -> None:
        """They do here: such an index may lead to a false copy, of another length than the sound one."""
        cid, data = block("right")
        assert reader_of({cid: data}).length(cid) == len(data)


def test_the_length_of_a_sound_copy_is_told(tmp_path: Path) -> None:
    cid, data = block("right")
    blocks = [(cid, b"wrong"), *SHA, (cid, data)]
    with opened(tmp_path, car_v2(car_v1(blocks), index_sorted(offsets_of(blocks)[:-1]))) as car:
        assert car.length(cid) == len(data)


# --- real files -------------------------------------------------------------------------------


def test_real_index_files(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "car"
    with CarFile.open(folder / "go-car__sample-v1.car", use_sidecar=False) as car:
        offsets = {cids.hash_of(found.cid)[1]: found.offset for found in car.sections()}
    for name in ("sample-index", "sample-multihash-index-sorted"):
        path = folder / f"go-car__{name}.carindex"
        data = path.read_bytes()
        with path.open("rb") as file:
            tables = read_tables(file.fileno(), 0, len(data))
        entries = {
            data[at : at + table.width - 8]: int.from_bytes(
                data[at + table.width - 8 : at + table.width], "little"
            )
            for table in tables
            for at in range(table.base, table.base + table.rows * table.width, table.width)
        }
        assert entries.items() <= offsets.items()
        assert len(entries) > 1000
        for length in range(0, len(data), 997):
            with path.open("rb") as file, pytest.raises((CarError, VarintError)):
                read_tables(file.fileno(), 0, length)


def test_a_real_file_with_its_index(shared_fixtures: Path) -> None:
    with CarFile.open(shared_fixtures / "car" / "go-car__sample-wrapped-v2.car", use_sidecar=False) as car:
        assert isinstance(car._index, EmbeddedIndex)
        for found in car.sections():
            assert car.get(found.cid) == car.read_raw(found.data_offset, found.length)
        assert isinstance(car._index, EmbeddedIndex)
