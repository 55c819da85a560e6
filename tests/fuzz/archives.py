"""Targets: whole files, read through the file system as every other CAR."""

import os
from functools import cache
from pathlib import Path

from car_files import BLOCKS, car_v1, car_v2, index_sorted, multihash_index_sorted, offsets_of
from crooked import Repo

from fuzz.target import attempt, target
from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.errors import CarError, CidError, MissingBlock, MstfsError
from mstfs.repo.head import choose_root
from mstfs.repo.verify import verify_repository

ROOTS = [BLOCKS[1][0]]


@cache
def _descriptor() -> int:
    # One file in memory for all inputs: its path is a regular file like any other.
    return os.memfd_create("fuzzed.car")


def file_of(data: bytes) -> Path:
    """The path of a file with these bytes; the next call writes over it."""
    fd = _descriptor()
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)
    return Path(f"/proc/self/fd/{fd}")


def small_repository() -> bytes:
    """The CAR of a sound repository with few records."""
    repo = Repo()
    repo.records = dict(list(repo.records.items())[:4])
    return repo.car()


def cars() -> list[bytes]:
    """CARs of both versions."""
    payload = car_v1(BLOCKS, ROOTS)
    index = multihash_index_sorted(entries())
    return [payload, small_repository(), car_v2(payload, index), car_v2(payload, gap=9), car_v1([])]


def entries() -> list[tuple[bytes, int]]:
    """CIDs and offsets of the blocks that an index can name."""
    return [row for row in offsets_of(BLOCKS, ROOTS) if cids.hash_of(row[0])[0] == cids.SHA2_256]


@target(cars, weight=8)
def car(data: bytes) -> None:
    """A file that is a CAR, or none: whatever can be read is what its CID names, and the verifier ends."""
    try:
        opened = CarFile.open(file_of(data), use_sidecar=False)
    except CarError:
        return
    with opened:
        sections = list(opened.sections())
        for section in sections[:50]:
            raw = opened.read_raw(section.data_offset, section.length)
            block = attempt(opened.get, section.cid)
            assert block is None or cids.matches(section.cid, block)
            if block is None:
                assert not _proven(section.cid, raw)
            attempt(opened.length, section.cid)
        assert opened.block_count == len(sections)
        assert opened.torn is None or "offset" in opened.torn
        attempt(choose_root, opened, opened.roots)
        for root in opened.roots[:3]:
            attempt(opened.get, root)
        report = verify_repository(opened)
        assert report.blocks_seen <= len(sections)
        assert opened.padding >= 0


def _proven(cid: bytes, data: bytes) -> bool:
    try:
        return cids.matches(cid, data)
    except CidError:
        return False


def indexes() -> list[bytes]:
    """Both kinds of index that a CARv2 may carry, and one that is empty."""
    return [index_sorted(entries()), multihash_index_sorted(entries()), b"\x81\x08" + bytes(12)]


@target(indexes, weight=8)
def car_index(data: bytes) -> None:
    """A CARv2 finds every block whatever its index says, and none that it does not have."""
    payload = car_v1(BLOCKS, ROOTS)
    with CarFile.open(file_of(car_v2(payload, data or b"\0")), use_sidecar=False) as opened:
        for cid, block in BLOCKS:
            assert opened.get(cid) == block
            assert opened.length(cid) == len(block)
        try:
            opened.get(cids.for_block(b"elsewhere"))
        except MissingBlock:
            return
    raise AssertionError("a block that is not there was found")


@cache
def sidecars() -> list[bytes]:
    """The index that mstfs itself keeps beside a CAR."""
    path = _beside()
    with CarFile.open(path, index=path.with_name("index")) as opened:
        assert opened.index_path is not None
        return [opened.index_path.read_bytes()]


@cache
def _beside() -> Path:
    import atexit
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="mstfs-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "whole.car"
    path.write_bytes(car_v1(BLOCKS, ROOTS))
    return path


@target(sidecars, weight=20)
def car_sidecar(data: bytes) -> None:
    """A damaged or forged index beside the CAR costs time at most: it is never believed against the file."""
    path = _beside()
    index = path.with_name("index")
    index.write_bytes(data)
    with CarFile.open(path, index=index) as opened:
        for cid, block in BLOCKS:
            try:
                assert opened.get(cid) == block
            except MstfsError as error:
                raise AssertionError(f"{error}: it is there") from error
