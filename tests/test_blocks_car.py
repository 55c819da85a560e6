"""CAR files: reading sound ones, and what happens with the others."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from car_files import (
    ABSENT,
    BLOCKS,
    block,
    car_v1,
    car_v2,
    header,
    holds,
    offsets_of,
    opened,
    overwrite,
    write,
)
from contracts.block_store import BlockReaderContract, ReaderOf

from mstfs.blocks import car_index, car_scan
from mstfs.blocks.car import CarFile
from mstfs.blocks.car_format import read_frame
from mstfs.codec import cid as cids
from mstfs.errors import CarError, CidError, CorruptBlock, MissingBlock

pytestmark = pytest.mark.usefixtures("index_in_c_and_in_python")


class TestCarContract(BlockReaderContract):
    @pytest.fixture
    def reader_of(self, tmp_path: Path) -> Iterator[ReaderOf]:
        with ExitStack() as cars:
            yield lambda blocks: cars.enter_context(opened(tmp_path, car_v1(blocks.items())))


# --- sound files ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("use_sidecar", [False, True])
def test_blocks_of_every_kind(tmp_path: Path, version: int, use_sidecar: bool) -> None:
    data = car_v1(BLOCKS, [BLOCKS[0][0], BLOCKS[2][0]])
    data = data if version == 1 else car_v2(data, gap=100)
    for _ in range(2):  # the second time, the sidecar is there
        with opened(tmp_path, data, use_sidecar) as car:
            assert holds(car, BLOCKS)
            assert holds(car, BLOCKS)
            assert car.version == version
            assert car.roots == (BLOCKS[0][0], BLOCKS[2][0])
            assert car.size == len(data)
            assert car.block_count == len(BLOCKS)
            assert (car.torn, car.problems, car.padding) == (None, (), 0)
            assert not car.has(ABSENT)
            with pytest.raises(MissingBlock) as caught:
                car.get(ABSENT)
            assert caught.value.cid == ABSENT


def test_sections_come_in_file_order(tmp_path: Path) -> None:
    with opened(tmp_path, car_v1(BLOCKS)) as car:
        sections = list(car.sections())
        assert [(found.cid, found.offset) for found in sections] == offsets_of(BLOCKS)
        assert [car.read_raw(found.data_offset, found.length) for found in sections] == [
            data for _, data in BLOCKS
        ]
        located = [car.locate(found.cid) for found in sections if cids.identity_data(found.cid) is None]
        assert located == [
            (found.data_offset, found.length) for found in sections if cids.identity_data(found.cid) is None
        ]
        assert car.locate(ABSENT) is None


def test_what_a_pass_found_is_known_behind_it(tmp_path: Path) -> None:
    with opened(tmp_path, car_v1(BLOCKS) + b"\x50torn") as car:
        scan = car.scan()
        assert len(list(scan.sections())) == scan.blocks == len(BLOCKS)
        assert scan.torn == car.torn is not None


def test_small_windows_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Windows of every size put their edges at every place of a section.
    blocks = [block(f"{number} " * (number % 40)) for number in range(300)] + BLOCKS
    path = write(tmp_path, car_v1(blocks) + bytes(7))
    with CarFile.open(path, use_sidecar=False) as car:
        expected = list(car.sections())
    assert len(expected) == len(blocks)
    for size in range(138, 260):
        monkeypatch.setattr(car_scan, "_WINDOW_MIN", size)
        monkeypatch.setattr(car_scan, "_WINDOW_MAX", 16 * size)
        with CarFile.open(path, use_sidecar=False) as car:
            assert list(car.sections()) == expected
            assert (car.block_count, car.padding, car.torn) == (len(blocks), 7, None)
            assert all(car.has(cid) for cid, _ in blocks)


def test_blocks_are_matched_by_multihash(tmp_path: Path) -> None:
    cid, data = block("text", cids.DAG_CBOR)
    with opened(tmp_path, car_v1([(cid, data)])) as car:
        for other in (cids.for_block(data), cids.for_block(data, cids.RAW), cids.multihash_of(cid)):
            assert car.get(other) == data
        # The same digest under another hash function is another multihash.
        with pytest.raises(MissingBlock):
            car.get(b"\x01\x55\x1e\x20" + cid[4:])


def test_no_blocks_and_no_roots(tmp_path: Path) -> None:
    for use_sidecar in (False, True, True):
        with opened(tmp_path, header(), use_sidecar) as car:
            assert (car.roots, car.block_count, list(car.sections())) == ((), 0, [])
            assert not car.has(ABSENT)


def test_the_file_is_never_written_to(tmp_path: Path) -> None:
    path = write(tmp_path, car_v1(BLOCKS))
    path.chmod(0o400)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    with CarFile.open(path) as car:
        assert holds(car, BLOCKS)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    data = car_v1(BLOCKS)
    first = write(tmp_path, data, "a.car")
    second = write(tmp_path, data, "b.car")
    os.utime(second, ns=(1, 1))
    third = write(tmp_path, data + b"\x00", "c.car")
    prints = []
    for path in (first, second, third):
        with CarFile.open(path, use_sidecar=False) as car:
            prints.append(car.fingerprint)
    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 32


def test_read_raw_stays_in_the_file(tmp_path: Path) -> None:
    with opened(tmp_path, car_v1(BLOCKS)) as car:
        for offset, length in ((0, car.size + 1), (car.size, 1), (-1, 1), (0, -1), (2**70, 1)):
            with pytest.raises(CarError, match=r"a\.car"):
                car.read_raw(offset, length)


# --- corrupt blocks ---------------------------------------------------------------------------


def test_corrupt_blocks_are_never_given(tmp_path: Path) -> None:
    (cid, _), other = block("right"), block("other")
    with opened(tmp_path, car_v1([(cid, b"wrong"), other])) as car:
        for _ in range(2):
            assert car.has(cid)
            with pytest.raises(CorruptBlock) as caught:
                car.get(cid)
            assert caught.value.cid == cid
        assert car.get(other[0]) == other[1]


@pytest.mark.parametrize("use_sidecar", [False, True])
def test_a_sound_copy_is_found_behind_corrupt_ones(tmp_path: Path, use_sidecar: bool) -> None:
    cid, data = block("right")
    copies = [(cid, b"wrong"), (cid, b""), (cid, b"right!"), (cid, data), (cid, b"wrong again")]
    for _ in range(2):
        with opened(tmp_path, car_v1([block("a"), *copies, block("b")]), use_sidecar) as car:
            assert car.get(cid) == data
            assert car.get(cid) == data
            assert car.block_count == 7


def test_the_length_is_that_of_the_sound_copy(tmp_path: Path) -> None:
    cid, data = block("right")
    with opened(tmp_path, car_v1([(cid, b""), block("a"), (cid, data)])) as car:
        assert car.length(cid) == len(data)
    false = car_v1([(cid, b""), block("a"), (cid, b"wrong")])
    with opened(tmp_path, false) as car, pytest.raises(CorruptBlock):
        car.length(cid)


def test_lengths_of_false_and_torn_blocks(tmp_path: Path) -> None:
    cid, data = block("right")
    with opened(tmp_path, car_v1([(cid, b"wrong")])) as car:
        assert car.length(cid) == len(b"wrong")
        with pytest.raises(CorruptBlock):
            car.get(cid)
    torn = car_v1([block("a"), (cid, data)])[:-1]
    with opened(tmp_path, torn) as car, pytest.raises(MissingBlock):
        car.length(cid)


def test_the_first_copy_wins(tmp_path: Path) -> None:
    cid, data = block("twice")
    with opened(tmp_path, car_v1([(cid, data), block("between"), (cid, data)])) as car:
        first = next(car.sections())
        assert car.locate(cid) == (first.data_offset, first.length)


def test_verify_once_and_always(tmp_path: Path) -> None:
    cid, data = block("good" * 2000)  # A small one is hashed every time.
    path = write(tmp_path, car_v1([(cid, data)]))
    offset = path.stat().st_size - len(data)
    with (
        CarFile.open(path, use_sidecar=False) as once,
        CarFile.open(path, use_sidecar=False, verify="always") as always,
    ):
        assert once.get(cid) == always.get(cid) == data
        overwrite(path, offset, b"evil")
        assert once.get(cid) == b"evil" + data[4:]
        with pytest.raises(CorruptBlock):
            always.get(cid)


def test_small_blocks_are_hashed_every_time(tmp_path: Path) -> None:
    cid, data = block("good")
    path = write(tmp_path, car_v1([(cid, data)]))
    with CarFile.open(path, use_sidecar=False) as car:
        assert car.get(cid) == data
        overwrite(path, path.stat().st_size - len(data), b"evil")
        if vars(car_index)["fast_index"] is None:
            assert car.get(cid) == b"evil"
        else:
            with pytest.raises(CorruptBlock):
                car.get(cid)


def test_hashes_that_prove_nothing(tmp_path: Path) -> None:
    sha1 = b"\x01\x55\x11\x14" + bytes(20)
    with opened(tmp_path, car_v1([(sha1, b"data")])) as car:
        assert car.has(sha1)
        with pytest.raises(CidError):
            car.get(sha1)


def test_a_cid_that_looks_like_another(tmp_path: Path) -> None:
    cid, data = block("text")
    with opened(tmp_path, car_v1([(cid, data)])) as car:
        assert car.get(cid) == data
        # A codec of two bytes, whose second is 0x12; so the hash function is 0x20, which nobody has.
        other = b"\x01\x80\x12\x20\x1f" + cid[5:]
        cids.check(other)
        assert not car.has(other)
        with pytest.raises(MissingBlock):
            car.get(other)


@pytest.mark.parametrize("bad", [b"", b"\x01", b"\x01\x71\x12", b"junk" * 9, b"\x05" + ABSENT[1:]])
def test_malformed_cids_are_refused(tmp_path: Path, bad: bytes) -> None:
    with opened(tmp_path, car_v1(BLOCKS)) as car:
        for function in (car.get, car.has, car.locate):
            with pytest.raises(CidError):
                function(bad)


# --- real files -------------------------------------------------------------------------------

BROKEN = {"go-car__badheaderlength.car", "go-car__sample-corrupt-pragma.car"}


def real_files(shared_fixtures: Path) -> list[Path]:
    folders = ("car", "atproto", "unixfs", "hamt", "mst-diff/cars")
    return [path for folder in folders for path in sorted((shared_fixtures / folder).glob("*.car"))]


def test_real_files(shared_fixtures: Path, tmp_path: Path) -> None:
    files = [path for path in real_files(shared_fixtures) if path.name not in BROKEN]
    assert len(files) > 20
    unproven = 0
    for path in files:
        index = tmp_path / f"{path.name}.index"
        for _ in range(2):
            with CarFile.open(path, index=index) as car:
                sections = list(car.sections())
                assert sections
                assert (car.torn, car.problems) == (None, ())
                for found in sections:
                    raw = car.read_raw(found.data_offset, found.length)
                    try:
                        assert car.get(found.cid) == raw
                    except CidError:
                        unproven += 1
                assert car.block_count == len(sections)
                assert index.exists()
    assert unproven == 0


def test_broken_real_files(shared_fixtures: Path, tmp_path: Path) -> None:
    for name in sorted(BROKEN):
        with pytest.raises(CarError, match=name):
            CarFile.open(shared_fixtures / "car" / name, index=tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_described_file(shared_fixtures: Path) -> None:
    folder = shared_fixtures / "car"
    described = json.loads((folder / "ipld__carv1-basic.json").read_text())
    with CarFile.open(folder / "ipld__carv1-basic.car", use_sidecar=False) as car:
        assert [cids.to_text(root) for root in car.roots] == [
            root["/"] for root in described["header"]["roots"]
        ]
        assert [
            (cids.to_text(found.cid), found.offset, found.data_offset, found.length)
            for found in car.sections()
        ] == [
            (wanted["cid"]["/"], wanted["offset"], wanted["blockOffset"], wanted["blockLength"])
            for wanted in described["blocks"]
        ]


def test_versions_and_wrapping_of_real_files(shared_fixtures: Path) -> None:
    found = {}
    for name in ("v1", "v2-indexless", "wrapped-v2"):
        with CarFile.open(shared_fixtures / "car" / f"go-car__sample-{name}.car", use_sidecar=False) as car:
            found[name] = (car.version, car.roots, [one.cid for one in car.sections()])
    assert [found[name][0] for name in found] == [1, 2, 2]
    assert found["v1"][1:] == found["v2-indexless"][1:] == found["wrapped-v2"][1:]


def test_a_real_file_cut_at_every_byte(shared_fixtures: Path, tmp_path: Path) -> None:
    for name in (
        "car/ipld__carv1-basic.car",
        "car/go-car__sample-rw-bs-v2.car",
        "atproto/repo-stream__empty.car",
    ):
        data = (shared_fixtures / name).read_bytes()
        with CarFile.open(shared_fixtures / name, use_sidecar=False) as car:
            wanted = {found.cid: car.get(found.cid) for found in car.sections()}
        for length in range(0, len(data), 1 if len(data) < 1000 else 7):
            path = write(tmp_path, data[:length])
            try:
                cut = CarFile.open(path, use_sidecar=False)
            except CarError:
                continue
            with cut:
                for cid, content in wanted.items():
                    assert not cut.has(cid) or cut.get(cid) == content


def test_frames_of_real_files(shared_fixtures: Path) -> None:
    path = shared_fixtures / "car" / "go-car__sample-rw-bs-v2.car"
    with path.open("rb") as file:
        frame = read_frame(file.fileno(), path.stat().st_size)
    assert (frame.version, frame.payload, frame.end, frame.index_offset) == (2, 1464, 1737, 1737)
