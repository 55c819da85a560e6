"""Which large files the fast path is told of, and what Python does for those that it cannot read."""

import errno
import random
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from fast_large import Fast
from pyfuse3 import FUSEError

import mstfs
from mstfs.archive import Archive
from mstfs.codec import cid as cids
from mstfs.fuse import large_files
from mstfs.fuse.fast_path import LEAF_BYTES
from mstfs.fuse.large_files import FEW, MOST, SMALLER_BYTES, LargeFiles
from mstfs.values.interface import ValueOptions
from mstfs.view.inodes import Inode
from mstfs.view.nodes import Leaf
from mstfs.view.view import View


class World:
    """A HAMT with one large file, and what tells the fast path of it."""

    def __init__(self, folder: Path, archive: Archive) -> None:
        self.archive = archive
        self.view = View(archive.workspace)
        self.fast = Fast()
        self.large = LargeFiles(self.view, self.fast, archive.car, self.answer)

    async def answer(self, handle: Any, offset: int, length: int) -> bytes:
        raise AssertionError("nothing failed")

    def inode(self, name: str) -> Inode:
        node = self.view.resolve(name.encode())
        assert node is not None
        return self.view.inodes.at(name.encode(), node)

    def read(self, inode: Inode, offset: int, length: int) -> bytes | None:
        """As the kernel is answered: None where `View.read` answers."""
        assert self.archive.car is not None
        assert isinstance(inode.node, Leaf)
        found = None
        try:
            found = self.fast.read_large(inode.number, offset, length)
        except LookupError:
            found = self.large._read(self.archive.car, inode.node, inode.number, offset, length)
        return self.large.read(inode, offset, length) if found is None else found


def world(folder: Path, use: Callable[[World], None], **how: Any) -> None:
    """Make one, and use it, in an event loop."""
    with Archive.open(folder / "map.car", mode="write", **how) as archive:
        made = World(folder, archive)

        async def run() -> None:
            use(made)

        try:
            trio.run(run)
        finally:
            made.large.end()


def make(folder: Path, files: dict[str, bytes], layout: str = "hashmap", **options: Any) -> None:
    mstfs.create(folder / "made.car", layout).close()
    with Archive.open(folder / "made.car", mode="write", options=ValueOptions(**options)) as archive:
        for name, data in files.items():
            archive[name] = data
        archive.publish()
        archive.export(folder / "map.car")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


DATA = random.Random(8).randbytes(3_000_000)


@pytest.mark.parametrize("layout", ["hashmap", "hamt3"])
def test_files_in_the_car(tmp_path: Path, layout: str) -> None:
    files = {"large": DATA, "small": DATA[:60_000], "one block": DATA[:200_000]}
    make(tmp_path, files, layout, chunk_bytes=250_000)

    def use(world: World) -> None:
        inode = world.inode("large")
        assert world.large.read(inode, 0, SMALLER_BYTES) is None, "it might be a small one"
        assert world.large.read(world.inode("small"), 50_000, 50_000) is None
        for name, data in (("large", DATA), ("one block", DATA[:200_000])):
            for offset in (100_000, 0, len(data) - 5000):
                assert world.read(world.inode(name), offset, 100_000) == data[offset : offset + 100_000]
        assert {number for number, *_ in world.large.known} == {inode.number, world.inode("one block").number}
        assert world.large.others == {world.inode("small").number}
        world.large.begin_again()
        assert not world.large.known | world.large.others
        assert world.fast.read_large(inode.number, 0, 10) is None
        assert world.large.most == FEW

    world(tmp_path, use)
    assert (tmp_path / "map.car.mstfs-tags").stat().st_size > 64


def test_each_node_is_told_of_once(tmp_path: Path) -> None:
    make(tmp_path, {"large": DATA}, chunk_bytes=1000)

    def use(world: World) -> None:
        inode = world.inode("large")
        told: list[int] = []
        real = world.fast.tell_large

        def tell(number: int, size: int, leaves: bytes) -> bool:
            told.append(len(leaves) // LEAF_BYTES)
            return real(number, size, leaves)

        world.fast.tell_large = tell  # type: ignore[method-assign]
        for few in (False, True):
            chosen = random.Random(4)
            for _ in range(3000):
                offset = chosen.randrange(SMALLER_BYTES, len(DATA) - 100)
                data = world.fast.read_large(inode.number, offset, 10)
                if data is None:
                    data = world.large.read(inode, offset, 10)
                assert data in (DATA[offset : offset + 10], None)
            if not few:
                assert len(told) <= 3000 // 174 + 10
                world.large.begin_again()
                told.clear()
        assert told[:6] == sorted(told[:6])
        assert (told[0], max(told)) == (FEW, 174)
        assert world.large.most == MOST

    world(tmp_path, use)


def test_files_that_python_reads(tmp_path: Path) -> None:
    make(tmp_path, {"large": DATA})

    def use(world: World) -> None:
        world.archive["staged"] = DATA[::-1]
        inode = world.inode("staged")
        for _ in range(2):
            assert world.large.read(inode, 0, 100_000) is None, "its blocks are in the overlay"
            assert len(world.large.known) == 1
        world.large.begin_again()
        world.large.car = None
        assert world.large.read(world.inode("large"), 0, 100_000) is None

    world(tmp_path, use)


def test_a_file_that_was_edited(tmp_path: Path) -> None:
    """But for what is in the overlay now it is read as before, however often something is forgotten."""
    make(tmp_path, {"large": DATA}, chunk_bytes=20_000)
    edited = DATA[:1_000_000] + b"changed" + DATA[1_000_007:]
    options = ValueOptions(chunk_bytes=20_000)
    with Archive.open(tmp_path / "map.car", mode="write", options=options) as archive:
        archive["large"] = edited
        archive.publish()

    def use(world: World) -> None:
        inode = world.inode("large")
        missed = []
        for few in (False, True, False):
            world.large.begin_again()
            world.large.most = FEW if few else MOST
            for offset in [*range(80_000, len(DATA), 20_000)] * 2:
                data = world.read(inode, offset, 10)
                assert data in (edited[offset : offset + 10], None)
                if data is None:
                    missed.append(offset)
        assert set(missed) == {1_000_000}
        for number in range(1, 100):
            world.fast.tell_large(number, 100, bytes(LEAF_BYTES))
        world.large.known.clear()
        assert world.large.read(inode, 2_000_000, 10) == edited[2_000_000:2_000_010]
        assert not world.large.others

    world(tmp_path, use, options=options)


@pytest.mark.parametrize("layout", ["hashmap", "hamt3"])
def test_always_verifying(tmp_path: Path, layout: str) -> None:
    """No tag is believed, and none is made."""
    make(tmp_path, {"large": DATA}, layout)

    def use(world: World) -> None:
        found = world.large.read(world.inode("large"), 0, 100_000)
        assert found == (DATA[:100_000] if layout == "hashmap" else None)

    world(tmp_path, use, verify="always")
    assert not (tmp_path / "map.car.mstfs-tags").exists()


def test_small_blocks_that_only_python_can_hash(tmp_path: Path) -> None:
    make(tmp_path, {"large": DATA}, "hamt3", chunk_bytes=large_files.PAGE_BYTES)

    def use(world: World) -> None:
        assert world.large.read(world.inode("large"), 0, 100_000) is None
        assert world.large.event < 0, "it has not even begun"

    world(tmp_path, use)


def test_a_block_that_python_finds_wrong(tmp_path: Path) -> None:
    make(tmp_path, {"large": DATA}, "hamt3")
    car = tmp_path / "map.car"
    data = car.read_bytes()
    car.write_bytes(data.replace(DATA[1_500_000:1_500_100], bytes(100)))

    def use(world: World) -> None:
        inode = world.inode("large")
        assert world.read(inode, 2_500_000, 100_000) == DATA[2_500_000:2_600_000]
        assert world.read(inode, 1_100_000, 100) is None
        assert inode.number in world.large.others

    world(tmp_path, use)


def test_blocks_that_the_fast_path_cannot_read(tmp_path: Path) -> None:
    """Of other hash functions, of another length than the file says, not in the CAR."""
    make(tmp_path, {"large": DATA})

    def use(world: World) -> None:
        car, leaf = world.archive.car, world.view.resolve(b"large")
        assert car is not None
        assert isinstance(leaf, Leaf)
        large = world.view.values.raw_parts(leaf.key, leaf.cid, 0, 100)
        assert all(one.start + one.length == other.start for one, other in pairwise(large))
        assert len(world.large._located(car, large)) == LEAF_BYTES * len(large) > 0
        for other in (
            large[1]._replace(length=large[1].length - 1),
            large[1]._replace(cid=cids.for_block(DATA, cids.RAW, cids.SHA2_512)),
            large[1]._replace(cid=cids.for_block(b"missing", cids.RAW)),
        ):
            found = world.large._located(car, [large[0], other, *large[2:]])
            assert len(found) == LEAF_BYTES * (len(large) - 1)

    world(tmp_path, use)


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 0), (FUSEError(errno.ENOMEM), errno.ENOMEM), (RuntimeError("a bug"), errno.EIO)],
)
def test_who_asked_is_always_answered(
    tmp_path: Path, error: Exception | None, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, {"large": DATA})
    finished = []

    async def answer(handle: Any, offset: int, length: int) -> bytes:
        if error is not None:
            raise error
        return DATA[offset : offset + length]

    def use(world: World) -> None:
        world.large.answer = answer
        world.fast.finish_large = lambda *words: finished.append(words)  # type: ignore[method-assign]
        with suppress(StopIteration):
            world.large._answer(77, world.inode("large").number, 5, 10).send(None)

    world(tmp_path, use)
    assert finished == [(77, code, b"" if code else DATA[5:15])]
    assert ("a bug" in caplog.text) == (code == errno.EIO)
