"""Writing CARs, and replacing files."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from car_files import Block, block, car_v1

from mstfs.blocks.car import CarFile
from mstfs.blocks.car_writer import replacing, write_car
from mstfs.codec import cid as cids
from mstfs.errors import CidError

BLOCKS = [
    block("one"),
    block("two", cids.DAG_CBOR),
    block("three", cids.RAW, cids.BLAKE3),
    (block("")[0], b""),
    (cids.multihash_of(block("four")[0]), b"four"),
    block("in the CID", cids.RAW, cids.IDENTITY),
]


@pytest.mark.parametrize("roots", [[], [BLOCKS[0][0]], [cid for cid, _ in BLOCKS]])
def test_bytes_and_count(roots: list[bytes]) -> None:
    target = io.BytesIO()
    assert write_car(target, roots, BLOCKS) == len(target.getvalue())
    assert target.getvalue() == car_v1(BLOCKS, roots)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.car"
    blocks = [block(f"{number} " * (number % 300)) for number in range(3000)]
    with replacing(path) as target:
        written = write_car(target, [blocks[7][0]], blocks)
    assert path.stat().st_size == written
    with CarFile.open(path, use_sidecar=False) as car:
        assert car.roots == (blocks[7][0],)
        assert [(found.cid, car.get(found.cid)) for found in car.sections()] == blocks


def test_other_readers_read_it() -> None:
    import libipld

    target = io.BytesIO()
    cid = cids.for_block(b"\xa0")
    write_car(target, [cid], [(cid, b"\xa0")])
    head, blocks = libipld.decode_car(target.getvalue())
    assert head == {"roots": [cid], "version": 1}
    assert blocks == {cid: {}}


def test_a_malformed_cid_is_refused() -> None:
    for roots, blocks in (([b"junk"], []), ([], [(b"junk", b"")]), ([], [(BLOCKS[0][0] + b"x", b"")])):
        with pytest.raises(CidError):
            write_car(io.BytesIO(), roots, blocks)


class Meter(io.RawIOBase):
    """Counts, keeps nothing."""

    total = largest = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        assert isinstance(data, bytes)
        self.total += len(data)
        self.largest = max(self.largest, len(data))
        return len(data)


def test_it_streams() -> None:
    data = bytes(1000)
    cid = cids.for_block(data)
    taken = 0
    meter = Meter()
    ahead = 0

    def blocks() -> Iterator[Block]:
        nonlocal taken, ahead
        for _ in range(5000):
            taken += 1000
            ahead = max(ahead, taken - meter.total)
            yield cid, data

    written = write_car(meter, [cid], blocks())  # type: ignore[arg-type]
    assert written == meter.total > 5_000_000
    assert ahead < 500_000
    assert meter.largest < 500_000


# --- replacing --------------------------------------------------------------------------------


def test_replacing_takes_the_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 2
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(error: type[BaseException]) -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(error)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_target_that_cannot_be_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OSError, match="folder"), replacing(folder) as file:
        file.write(b"new")
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "file"):
        pass


def test_modes(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        for umask, mode, expected in (
            (0o022, 0o666, 0o644),
            (0o022, 0o600, 0o600),
            (0o777, 0o600, 0o600),
            (0o000, 0o600, 0o600),
        ):
            os.umask(umask)
            with replacing(tmp_path / "file", mode) as file:
                file.write(b"x")
            assert (tmp_path / "file").stat().st_mode & 0o777 == expected
    finally:
        os.umask(old)


def test_long_names_fit(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    with replacing(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"
