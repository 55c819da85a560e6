"""Large files that the fast path reads: bytes that were hashed, or none; whatever their tags say."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from car_files import car_v1, overwrite
from fast_large import PROJECT, Fast, leaf
from hypothesis import given, settings
from hypothesis import strategies as st

from mstfs.blocks import car_tags
from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.fuse import large_files
from mstfs.fuse.fast_path import LEAF_BYTES

PAGE = 16 << 10
INODE = 77
CHUNKS = [100, 5000, PAGE, PAGE + 1, 3 * PAGE - 1, 262_144]


class File:
    """A CAR of one file, or of some blocks, which the fast path was told of."""

    def __init__(self, folder: Path, data: list[bytes], code: int = cids.SHA2_256) -> None:
        self.car = folder / "file.car"
        self.blocks = [(cids.for_block(part, cids.RAW, code), part) for part in data]
        self.data = b"".join(data)
        self.car.write_bytes(car_v1(self.blocks))
        self.fast = Fast()
        self.event = os.eventfd(0, os.EFD_NONBLOCK)
        self.tags = os.open(folder / "tags", os.O_RDWR | os.O_CREAT)
        self.offsets: list[int] = []
        self.opened: CarFile | None = None

    def begin(self, secret: bytes = b"s" * 32, *, tags: bool = True) -> None:
        """Tell of it, as if it had just been mounted."""
        self.end()
        self.opened = CarFile.open(self.car, use_sidecar=False)
        begun = self.fast.begin_large(self.opened.fileno(), self.tags if tags else -1, secret, self.event)
        assert begun
        found = [self.opened.locate(cid) for cid, _ in self.blocks]
        assert None not in found
        self.offsets = [place[0] for place in found if place is not None]
        self.tell(range(len(self.blocks)))

    def tell(self, which: range) -> None:
        leaves = b""
        for at in which:
            start = sum(len(data) for _, data in self.blocks[:at])
            cid, data = self.blocks[at]
            leaves += leaf(start, self.offsets[at], len(data), cid)
        self.fast.tell_large(INODE, len(self.data), leaves)

    def read(self, offset: int, length: int) -> bytes | None:
        return self.fast.read_large(INODE, offset, length)

    def end(self) -> None:
        if self.opened is not None:
            self.fast.end_large()
            self.opened.close()
            self.opened = None


@pytest.fixture
def file_of(tmp_path: Path) -> Iterator[Callable[..., File]]:
    made = []

    def make(data: list[bytes], code: int = cids.SHA2_256) -> File:
        made.append(File(tmp_path, data, code))
        return made[-1]

    yield make
    for file in made:
        file.end()
        os.close(file.event)
        os.close(file.tags)


def parts(sizes: list[int]) -> list[bytes]:
    chosen = random.Random(3)
    return [chosen.randbytes(size) for size in sizes]


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("tags", [True, False])
def test_every_range(file_of: Callable[..., File], chunk: int, tags: bool) -> None:
    file = file_of(parts([chunk] * 20 + [chunk // 2 + 1]))
    data, chosen = file.data, random.Random(1)
    for _ in range(2):
        file.begin(tags=tags)
        for _ in range(200):
            offset = chosen.randrange(len(data))
            length = chosen.choice([1, 4096, chunk, 2 * PAGE, chosen.randrange(1, 40 * chunk)])
            offset -= offset % chosen.choice([1, 4096, PAGE, chunk])
            assert file.read(offset, min(length, 1 << 20)) == data[offset : offset + min(length, 1 << 20)]


@given(st.lists(st.integers(PAGE - 2, 4 * PAGE + 2), min_size=2, max_size=8), st.data())
@settings(max_examples=60)
def test_each_page_has_a_tag_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    """After all was read once, a page is read though another one of its block is damaged."""
    file = File(tmp_path_factory.mktemp("tags"), parts(sizes))
    try:
        file.begin()
        for at in data.draw(st.permutations(range(len(sizes)))):
            start = sum(sizes[:at])
            assert file.read(start, 1) == file.data[start : start + 1]
        for at, (offset, size) in enumerate(zip(file.offsets, sizes, strict=True)):
            if size <= PAGE:
                continue
            pages = (size + PAGE - 1) // PAGE
            bad = data.draw(st.integers(0, pages - 1))
            overwrite(file.car, offset + bad * PAGE, bytes([file.blocks[at][1][bad * PAGE] ^ 1]))
            start = sum(sizes[:at])
            for page in range(pages):
                first, last = page * PAGE, min(size, (page + 1) * PAGE)
                if page != bad:
                    assert file.read(start + first, last - first) == file.blocks[at][1][first:last]
            with pytest.raises(ValueError, match="block"):
                file.read(start, size)
            assert file.read(start, 1) is None, "it is not told of any more"
    finally:
        file.end()
        os.close(file.event)
        os.close(file.tags)


@pytest.mark.parametrize("tags", [True, False])
def test_a_block_that_does_not_match(file_of: Callable[..., File], tags: bool) -> None:
    file = file_of(parts([3 * PAGE] * 4))
    file.begin(tags=tags)
    overwrite(file.car, file.offsets[1] + 2 * PAGE, b"\0\0\0\0")
    assert file.read(0, 3 * PAGE) == file.data[: 3 * PAGE]
    for offset, length in ((3 * PAGE, 1), (0, len(file.data))):
        with pytest.raises(ValueError, match="block"):
            file.read(offset, length)
        file.tell(range(4))
    assert file.read(6 * PAGE, 6 * PAGE) == file.data[6 * PAGE :]


def test_a_car_that_became_shorter(file_of: Callable[..., File]) -> None:
    file = file_of(parts([3 * PAGE] * 4))
    file.begin()
    assert file.read(0, len(file.data)) == file.data
    os.truncate(file.car, file.offsets[3] + PAGE)
    with pytest.raises(ValueError, match="block"):
        file.read(9 * PAGE, 3 * PAGE)
    file.tell(range(4))
    assert file.read(9 * PAGE, PAGE) == file.data[9 * PAGE : 10 * PAGE], "its tag is known"
    assert file.read(0, 9 * PAGE) == file.data[: 9 * PAGE]


def tags_of(file: File) -> bytes:
    return os.pread(file.tags, 1 << 20, 0)


def nothing(tags: bytes) -> bytes:
    return b""


def zeros(tags: bytes) -> bytes:
    return bytes(len(tags))


def shifted(tags: bytes) -> bytes:
    return tags[:64] + bytes(16) + tags[64:]


def cut(tags: bytes) -> bytes:
    return tags[: len(tags) // 2 + 5]


def flipped(tags: bytes) -> bytes:
    return bytes(byte ^ 1 for byte in tags)


@pytest.mark.parametrize("change", [nothing, zeros, shifted, cut, flipped])
def test_tags_that_do_not_fit(file_of: Callable[..., File], change: Callable[[bytes], bytes]) -> None:
    """They are made again."""
    file = file_of(parts([2 * PAGE + 5] * 5))
    file.begin()
    assert file.read(0, len(file.data)) == file.data
    right = tags_of(file)
    os.ftruncate(file.tags, 0)
    os.pwrite(file.tags, change(right), 0)
    file.begin()
    assert file.read(0, len(file.data)) == file.data
    found = tags_of(file)
    for at in range(64, len(right), 16):
        assert found[at : at + 16] == right[at : at + 16] or not any(right[at : at + 16])


def test_tags_of_another_secret(file_of: Callable[..., File]) -> None:
    file = file_of(parts([2 * PAGE] * 3))
    file.begin(b"a" * 32)
    assert file.read(0, len(file.data)) == file.data
    theirs = tags_of(file)
    overwrite(file.car, file.offsets[0], b"\0\0\0\0")
    file.begin(b"b" * 32)
    with pytest.raises(ValueError, match="block"):
        file.read(PAGE, PAGE)
    assert file.read(2 * PAGE, 4 * PAGE) == file.data[2 * PAGE :]
    assert tags_of(file) != theirs


def moved(file: File, source: int, target: int, pages: int) -> None:
    """Put pages of the CAR, by their offsets, over others, with their tags."""
    car = file.car.read_bytes()
    overwrite(file.car, target, car[source : source + pages * PAGE])


def test_tags_belong_to_their_block_and_their_page(file_of: Callable[..., File]) -> None:
    file = file_of(parts([4 * PAGE] * 2))
    file.begin()
    assert file.read(0, len(file.data)) == file.data
    first, second = (64 + 32 * (offset // PAGE) for offset in file.offsets)
    tags = tags_of(file)
    # The second block where the first one should be, with its tags.
    moved(file, file.offsets[1], file.offsets[0], 4)
    os.pwrite(file.tags, tags[second : second + 64], first)
    with pytest.raises(ValueError, match="block"):
        file.read(0, PAGE)
    # Two pages of the second one exchanged, with their tags.
    moved(file, file.offsets[1] + PAGE, file.offsets[1], 1)
    overwrite(file.car, file.offsets[1] + PAGE, file.data[4 * PAGE : 5 * PAGE])
    os.pwrite(file.tags, tags[second + 16 : second + 32] + tags[second : second + 16], second)
    with pytest.raises(ValueError, match="block"):
        file.read(4 * PAGE, PAGE)


def test_blocks_that_python_hashes(file_of: Callable[..., File]) -> None:
    """Those of another hash function have no tags before; bytes that are not theirs never fit."""
    file = file_of(parts([3 * PAGE] * 3), cids.BLAKE3)
    file.begin()
    for _ in range(2):
        with pytest.raises(LookupError):
            file.read(0, 10)
    for at, (cid, data) in enumerate(file.blocks[:2]):
        file.fast.tag_large(leaf(0, file.offsets[at], len(data), cid)[8:], data)
    assert file.read(0, 6 * PAGE) == file.data[: 6 * PAGE]
    with pytest.raises(LookupError):
        file.read(0, 6 * PAGE + 1)
    overwrite(file.car, file.offsets[1] + PAGE, b"\0\0\0\0")
    file.begin()
    assert file.read(0, 4 * PAGE) == file.data[: 4 * PAGE]
    with pytest.raises(LookupError):
        file.read(4 * PAGE, 1)
    file.begin(tags=False)
    file.fast.tag_large(leaf(0, file.offsets[0], 3 * PAGE, file.blocks[0][0])[8:], file.blocks[0][1])
    with pytest.raises(LookupError):
        file.read(0, 1)


def test_what_was_not_told_of(file_of: Callable[..., File]) -> None:
    file = file_of(parts([1000] * 100))
    file.begin()
    file.fast.withdraw_large()
    assert file.read(0, 10) is None
    file.tell(range(10, 20))
    file.tell(range(30, 40))
    assert file.read(10_000, 10_000) == file.data[10_000:20_000]
    for offset, length in ((9999, 2), (19_999, 2), (15_000, 20_000), (20_000, 1), (0, 1), (99_999, 1)):
        assert file.read(offset, length) is None
    file.tell(range(15, 35))
    assert file.read(10_000, 30_000) == file.data[10_000:40_000]
    file.tell(range(100))
    assert file.read(0, 64_000) == file.data[:64_000]
    assert file.read(500, 64_000) is None, "of too many blocks"
    assert file.read(90_000, 64_000) == file.data[90_000:]
    assert file.read(100_000, 1) is None
    too_large = leaf(0, file.offsets[0], (4 << 20) + 1, file.blocks[0][0])
    file.fast.tell_large(INODE + 1, 5 << 20, too_large)
    assert file.fast.read_large(INODE + 1, 0, 10) is None
    assert file.read(0, 0) is None


def test_so_many_files_and_blocks_are_known(file_of: Callable[..., File]) -> None:
    file = file_of(parts([1000]))
    file.begin()
    cid, offset = file.blocks[0][0], file.offsets[0]
    for number in range(1000, 1063):
        file.fast.tell_large(number, 1000, leaf(0, offset, 1000, cid))
    assert file.fast.read_large(1000, 0, 10) == file.read(0, 10) == file.data[:10]
    file.fast.tell_large(2000, 1000, leaf(0, offset, 1000, cid))
    assert (file.read(0, 10), file.fast.read_large(1000, 0, 10)) == (None, None)
    assert file.fast.read_large(2000, 0, 10) == file.data[:10]
    many = [leaf(at * 1000, offset, 1000, cid) for at in range(1 << 16)]
    file.fast.tell_large(3000, 1000 << 16, b"".join(many))
    assert file.fast.read_large(2000, 0, 10) is None
    assert file.fast.read_large(3000, 65_535_990, 100) == file.data[-10:]


def test_c_has_the_same_numbers() -> None:
    source = {
        name: (PROJECT / name).read_text()
        for name in ("mstfs/blocks/fast_parts.c", "mstfs/blocks/fast_parts.h")
    }
    text = "".join(source.values())
    assert f"#define MSTFS_BLOCK_MOST ({large_files.BLOCK_BYTES >> 20}u << 20)" in text
    assert f"#define HEADER {car_tags._HEADER_BYTES} " in text
    assert f"#define PAGE ({large_files.PAGE_BYTES >> 10}u << 10)" in text
    assert f"#define SHA2_256 {cids.SHA2_256:#x}" in text
    assert large_files._START.size + large_files._BLOCK.size == LEAF_BYTES
