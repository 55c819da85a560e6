"""What is read ahead is what stands in the file, or nothing; whoever asks, and whatever is wrong with it."""

import io
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from car_files import car_v1, opened, overwrite
from parts_in_c import keeps_nothing, part_in_c

from mstfs.blocks import car as cars
from mstfs.blocks import fast_ahead
from mstfs.blocks.car import CarFile
from mstfs.blocks.interface import BlockReader
from mstfs.blocks.overlay import OverlayBlocks
from mstfs.codec import cid as cids
from mstfs.errors import CorruptBlock, MissingBlocks
from mstfs.tree.unixfs.builder import build_file, gather
from mstfs.tree.unixfs.file import EXPECTED_BLOCKS
from mstfs.tree.unixfs.tree import UnixfsTree

PLACES = EXPECTED_BLOCKS  # What is expected at once finds room.
MOST = 1 << 20
SIZES = [0, 1, 55, 64, 4097, 100_000, 262_144, MOST]


class Blocks:
    """A file of blocks, and a reader of it."""

    def __init__(self, path: Path) -> None:
        chosen = random.Random(5)
        self.data = [chosen.randbytes(size) for size in SIZES * 5 if size > 1] + [b"", b"1"]
        self.cids = [cids.for_block(data, cids.RAW) for data in self.data]
        sizes = list(map(len, self.data))
        self.offsets = [sum(sizes[:at]) for at in range(len(sizes))]
        path.write_bytes(b"".join(self.data))
        self.file = os.open(path, os.O_RDWR)
        self.reader = fast_ahead.Reader(self.file)

    def expect(self, at: int) -> None:
        self.reader.expect(self.cids[at], self.offsets[at], len(self.data[at]))

    def read(self, at: int) -> bytes:
        """A block that is sound; who asks too early gets nothing, and asks again."""
        for _ in range(5000):
            self.expect(at)
            time.sleep(0.001)
            data = self.reader.take(self.cids[at])
            if data is not None:
                return data
        raise AssertionError("it is never read")


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[Blocks]:
    made = Blocks(tmp_path / "file")
    yield made
    made.reader.close()
    os.close(made.file)


def test_blocks_of_every_size(blocks: Blocks) -> None:
    for at, data in enumerate(blocks.data):
        assert blocks.read(at) == data
        assert blocks.reader.take(blocks.cids[at]) is None, "it was taken already"


def test_what_nobody_takes_makes_room(blocks: Blocks) -> None:
    for at in range(len(blocks.data)):
        blocks.expect(at)
    found = [blocks.reader.take(cid) for cid in blocks.cids]
    assert sum(data is not None for data in found) <= PLACES
    assert all(data in (None, wanted) for data, wanted in zip(found, blocks.data, strict=True))
    assert blocks.read(0) == blocks.data[0]


def test_what_is_wrong_is_not_given(blocks: Blocks) -> None:
    """Each is followed by a sound one, which is read after it."""
    bad, good = 6 * 3 + 4, 2
    length = len(blocks.data[bad])
    for at in (0, length // 2, length - 1):
        os.pwrite(blocks.file, bytes([blocks.data[bad][at] ^ 1]), blocks.offsets[bad] + at)
        for _ in range(20):
            blocks.expect(bad)
            assert blocks.read(good) == blocks.data[good]
            assert blocks.reader.take(blocks.cids[bad]) is None
        os.pwrite(blocks.file, blocks.data[bad][at : at + 1], blocks.offsets[bad] + at)
    assert blocks.read(bad) == blocks.data[bad]
    # Beyond the end of the file, and in none.
    blocks.reader.expect(blocks.cids[bad], 1 << 40, length)
    assert blocks.read(good) == blocks.data[good]
    assert blocks.reader.take(blocks.cids[bad]) is None
    os.ftruncate(blocks.file, blocks.offsets[bad] + length - 1)
    blocks.expect(bad)
    assert blocks.read(good) == blocks.data[good]
    assert blocks.reader.take(blocks.cids[bad]) is None
    closed = fast_ahead.Reader(-1)
    for _ in range(50):
        closed.expect(blocks.cids[good], blocks.offsets[good], len(blocks.data[good]))
        time.sleep(0.001)
        assert closed.take(blocks.cids[good]) is None


def test_arguments(blocks: Blocks) -> None:
    cid = blocks.cids[0]
    for offset, length in ((0, MOST + 1), (-1, 5), (0, -1), ((1 << 63) - 5, 10)):
        blocks.reader.expect(cid, offset, length)
        time.sleep(0.002)
        assert blocks.reader.take(cid) is None
    calls: list[tuple[Any, ...]] = [
        (),
        (cid,),
        ("text", 0, 1),
        (cid[:-1], 0, 1),
        (cid, "0", 1),
        (cid, 0, None),
    ]
    for arguments in calls:
        with pytest.raises(TypeError):
            blocks.reader.expect(*arguments)
    with pytest.raises(OverflowError):
        blocks.reader.expect(cid, 1 << 64, 1)
    for wrong in (None, b"", cid + b"1"):
        with pytest.raises(TypeError):
            blocks.reader.take(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        fast_ahead.Reader("file")  # type: ignore[arg-type]


def test_several_threads_at_once(blocks: Blocks) -> None:
    wrong: list[int] = []
    taken: list[int] = []

    def work(seed: int) -> None:
        chosen = random.Random(seed)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            at = chosen.randrange(len(blocks.data))
            if chosen.random() < 0.6:
                blocks.expect(at)
            else:
                data = blocks.reader.take(blocks.cids[at])
                if data is not None:
                    (taken if data == blocks.data[at] else wrong).append(at)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(taken) > 100


def test_the_end(blocks: Blocks) -> None:
    before = threading.active_count(), len(os.listdir("/proc/self/task"))
    for _ in range(50):
        reader = fast_ahead.Reader(blocks.file)
        for at in range(PLACES):
            reader.expect(blocks.cids[at], blocks.offsets[at], len(blocks.data[at]))
        if random.random() < 0.5:
            reader.close()
            reader.close()
            reader.expect(blocks.cids[0], 0, 5)
            assert reader.take(blocks.cids[0]) is None
        del reader
    fast_ahead.Reader(blocks.file).close()
    assert (threading.active_count(), len(os.listdir("/proc/self/task"))) == before


def test_nothing_is_kept(blocks: Blocks) -> None:
    """Of blocks that are taken, too early or not, that are wrong, that make room, or are left in the end."""
    # Python counts objects of up to 512 bytes only.
    small = [blocks.cids[at] for at in range(len(blocks.data)) if len(blocks.data[at]) in (55, 64)]

    def work() -> None:
        reader = fast_ahead.Reader(blocks.file)
        for number in range(500):
            cid = small[number % len(small)]
            at = blocks.cids.index(cid)
            reader.expect(cid, blocks.offsets[at] + number % 2, len(blocks.data[at]))
            if number % 5 == 0:
                time.sleep(0.0005)
            reader.take(cid)
        reader.close()
        for _ in range(30):
            reader = fast_ahead.Reader(blocks.file)
            for number in range(2 * PLACES):
                reader.expect(cids.for_block(b"%d" % number, cids.RAW), 0, 60)
            reader.close()

    keeps_nothing(work, 200)


# --- files in a CAR ---------------------------------------------------------------------------


class Large:
    """A CAR with a file of some hundred blocks, and what it says."""

    def __init__(self, folder: Path, chunk: int, links: int) -> None:
        self.content = random.Random(7).randbytes(100 * chunk + 17)
        self.blocks: list[tuple[bytes, bytes]] = []
        built = gather(
            build_file(io.BytesIO(self.content), chunk_bytes=chunk, links_per_node=links),
            lambda cid, data: self.blocks.append((cid, data)),
        )
        self.top = built.cid
        self.car = opened(folder, car_v1(self.blocks))
        self.chunk = chunk

    def read(self, blocks: BlockReader, step: int) -> list[bytes]:
        tree = UnixfsTree(blocks)
        return [tree.read(self.top, at, step) for at in range(0, len(self.content), step)]


@pytest.fixture(params=[(262_144, 174), (65_536, 7), (5_000, 174), (4_000, 174)])
def large(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Large]:
    made = Large(tmp_path, *request.param)
    with made.car:
        yield made


@pytest.mark.parametrize("where", ["in C", "in Python"])
def test_whole_files_in_order(large: Large, where: str) -> None:
    with part_in_c(where, cars, "fast_ahead"):
        for step in (1 << 20, 100_000):
            assert b"".join(large.read(large.car, step)) == large.content


def test_that_it_is_read_ahead(large: Large, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly everything comes from the thread, where blocks are large."""
    read: list[int] = []

    def hashed(cid: bytes, data: bytes) -> bool:
        read.append(len(data))
        time.sleep(0.001)  # So that the thread is the one that is faster.
        return bool(matches(cid, data))

    matches = cids.matches
    monkeypatch.setattr(cids, "matches", hashed)
    given = bytearray()
    tree = UnixfsTree(OverlayBlocks(None, [large.car]))
    for at in range(0, len(large.content), 131_072):
        given += tree.read(large.top, at, 131_072)
        time.sleep(0.001)
    assert given == large.content
    # Small blocks are not hashed here at all.
    most = {262_144: 0.5, 65_536: 0.5, 5_000: 0.8, 4_000: 0.05}[large.chunk]
    assert sum(read) < most * len(large.content)


def test_a_block_that_is_not_sound(large: Large) -> None:
    """It is an error where it stands, and nowhere else."""
    chunk = large.chunk
    cid = cids.for_block(large.content[50 * chunk : 51 * chunk], cids.RAW)
    where = large.car.locate(cid)
    assert where is not None
    overwrite(large.car.path, where[0] + 10, bytes([large.content[50 * chunk + 10] ^ 1]))
    tree = UnixfsTree(large.car)
    for at in range(0, len(large.content), chunk):
        if at == 50 * chunk:
            with pytest.raises(CorruptBlock) as caught:
                tree.read(large.top, at, chunk)
            assert caught.value.cid == cid
        else:
            assert tree.read(large.top, at, chunk) == large.content[at : at + chunk]


def test_a_block_that_is_missing(tmp_path: Path) -> None:
    large = Large(tmp_path, 65_536, 174)
    large.car.close()
    gone = large.blocks[50][0]
    with opened(tmp_path, car_v1([block for block in large.blocks if block[0] != gone])) as car:
        tree = UnixfsTree(car)
        for at in range(0, len(large.content), 65_536):
            if at == 50 * 65_536:
                with pytest.raises(MissingBlocks):
                    tree.read(large.top, at, 65_536)
            else:
                assert tree.read(large.top, at, 65_536) == large.content[at : at + 65_536]


def test_letting_go_and_closing_in_the_middle(large: Large) -> None:
    tree = UnixfsTree(large.car)
    given = b""
    for at in range(0, len(large.content), 300_000):
        given += tree.read(large.top, at, 300_000)
        if at % 900_000 == 0:
            large.car.let_go()
    assert given == large.content
    tree.read(large.top, 0, 300_000)
    tree.read(large.top, 300_000, 300_000)
    large.car.close()
    large.car.close()


class Told(OverlayBlocks):
    """Notes what is expected."""

    def __init__(self, car: CarFile) -> None:
        super().__init__(None, [car])
        self.expected: list[bytes] = []

    def expect(self, cids: Sequence[bytes]) -> None:
        assert len(cids) <= EXPECTED_BLOCKS
        self.expected += cids


def test_only_who_goes_on_is_read_ahead(large: Large) -> None:
    told = Told(large.car)
    tree = UnixfsTree(told)
    size = len(large.content)
    for at in (size // 2, 0, size // 4, 3, size // 3):
        tree.read(large.top, at, 100)
    assert not told.expected
    tree.read(large.top, size // 3 + 100, 100)
    assert told.expected
    assert set(told.expected) <= {cid for cid, _ in large.blocks}
    told.expected.clear()
    large.read(told, 4 * large.chunk)
    leaves = {cid for cid, data in large.blocks if data in large.content}
    assert len(leaves & set(told.expected)) > len(leaves) // 2
