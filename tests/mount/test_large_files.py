"""Large files, mounted: read without Python, checked all the same, and never older than what is there."""

import errno
import json
import os
import random
import shutil
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from car_files import section

import mstfs as library
from mount.faulty_io import Rules, environment
from mount.mounting import Mount, mstfs, refused, run, wait_for
from mstfs.archive import Archive
from mstfs.codec import cid as cids
from mstfs.tree.unixfs.builder import CHUNK_BYTES

DATA = random.Random(12).randbytes(20_000_000)
OTHER = DATA[::-1]
SMALL = 1 << 16


@pytest.fixture(scope="session")
def made_unixfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a large file and a small one."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "files").mkdir()
    (folder / "files/large").write_bytes(DATA)
    (folder / "files/small").write_bytes(b"small")
    mstfs("import", folder / "files", folder / "made.car", "--to", "unixfs", folder=folder)
    return folder / "made.car"


@pytest.fixture
def unixfs(made_unixfs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made_unixfs, tmp_path / "unixfs.car"))


@pytest.fixture(scope="session", params=["hashmap", "hamt3"])
def made_hamt(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A map with a large value and a small one; the blocks of one are hashed by Python."""
    folder = tmp_path_factory.mktemp("large")
    library.create(folder / "new.car", request.param).close()
    with Archive.open(folder / "new.car", mode="write") as archive:
        archive["large"] = DATA
        archive["small"] = b"small"
        archive.publish()
        archive.export(folder / "made.car")
    return folder / "made.car"


@pytest.fixture
def hamt(made_hamt: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made_hamt, tmp_path / "hamt.car"))


def reads(mount: Mount) -> int:
    """How often Python was asked to read."""
    return int(mount.status()["requests"].get("read", 0))


def much_is_read(mount: Mount) -> bool:
    return int(mount.status()["answered_without_python"]) > 30


def drop(fd: int) -> None:
    """Have the kernel forget what it knows of a file."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def damage(car: Path, data: bytes) -> int:
    """Change a byte of each place in a CAR where some bytes stand; how many there were."""
    text = bytearray(car.read_bytes())
    found, at = 0, text.find(data)
    while at >= 0:
        text[at] ^= 1
        found, at = found + 1, text.find(data, at + 1)
    car.write_bytes(text)
    return found


def test_it_is_read_without_python(unixfs: Path) -> None:
    tags = unixfs.with_name("unixfs.car.mstfs-tags")
    (unixfs.parent / "copy").write_bytes(DATA)
    for _ in range(2):
        with Mount(unixfs) as mount:
            run("cmp", mount / "large", unixfs.parent / "copy")
            assert reads(mount) <= 5
            assert mount.status()["answered_without_python"] >= len(DATA) >> 20
    assert tags.stat().st_mode & 0o777 == 0o600
    assert mstfs("verify", unixfs, folder=unixfs.parent).returncode == 0


@pytest.mark.parametrize("size", [4096, 5000, 300_000])
def test_parts_of_it(unixfs: Path, size: int) -> None:
    chosen = random.Random(size)
    for _ in range(2):
        with Mount(unixfs) as mount:
            fd = os.open(mount / "large", os.O_RDONLY)
            for _ in range(150):
                offset = chosen.randrange(len(DATA) + 5000)
                assert os.pread(fd, size, offset) == DATA[offset : offset + size]
                drop(fd)
            os.close(fd)
            assert reads(mount) <= 10


@pytest.mark.parametrize("seen", [False, True])
def test_a_damaged_block(unixfs: Path, seen: bool) -> None:
    """It is never shown, whether or not it was sound when it was read before; all else goes on."""
    if seen:
        with Mount(unixfs) as mount:
            assert (mount / "large").read_bytes() == DATA
    start = 30 * CHUNK_BYTES
    assert damage(unixfs, DATA[start + 100_000 : start + 100_100]) == 1
    bad = cids.for_block(DATA[start : start + CHUNK_BYTES], cids.RAW)
    with Mount(unixfs) as mount:
        with refused(errno.EIO):
            (mount / "large").read_bytes()
        fd = os.open(mount / "large", os.O_RDONLY)
        found = []
        for offset in range(0, len(DATA), 65_536):
            wanted = DATA[offset : offset + 65_536]
            try:
                data = os.pread(fd, 65_536, offset)
            except OSError as error:
                assert error.errno == errno.EIO  # noqa: PT017
                data = b""
            assert wanted.startswith(data)
            if data != wanted:
                found.append(offset)  # Pages before the bad one may be known to be sound.
        os.close(fd)
        assert start + 65_536 in found
        assert set(found) <= set(range(start, start + CHUNK_BYTES, 65_536))
        assert (mount / "small").read_bytes() == b"small"
        assert cids.to_text(bad) in mount.log()
        assert mount.status()["errors"] > 0


def test_the_sound_one_of_two_copies(unixfs: Path) -> None:
    """Python finds it where the fast path does not."""
    start = 7 * CHUNK_BYTES
    block = DATA[start : start + CHUNK_BYTES]
    cid = cids.for_block(block, cids.RAW)
    assert damage(unixfs, block[100:200]) == 1
    with unixfs.open("ab") as file:
        file.write(section(cid, block))
    with Mount(unixfs) as mount:
        for _ in range(2):
            assert (mount / "large").read_bytes() == DATA
            with (mount / "large").open("rb") as opened:
                drop(opened.fileno())
        assert mount.status()["errors"] == 0


def test_trouble_that_passes(unixfs: Path, tmp_path: Path, faulty_library: Path, rules: Rules) -> None:
    faulty = environment(faulty_library, unixfs, rules=rules.path)
    with Mount(unixfs, environment=faulty) as mount:
        fd = os.open(mount / "large", os.O_RDONLY)
        assert os.pread(fd, 4096, SMALL) == DATA[SMALL : SMALL + 4096]
        with rules("r .car 5"), refused(errno.EIO):
            os.pread(fd, 4096, 5_000_000)
        assert os.pread(fd, 4096, 5_000_000) == DATA[5_000_000:5_004_096]
        os.close(fd)
        assert (mount / "large").read_bytes() == DATA
        with rules("r .car 0"):
            fd = os.open(mount / "large", os.O_RDONLY)
            drop(fd)
            assert os.pread(fd, 1_000_000, 3_000_000) == DATA[3_000_000:4_000_000]
            os.close(fd)


def test_a_value_is_read_without_python(hamt: Path) -> None:
    """But for the first time, where Python must hash it."""
    for first in (True, False):
        with Mount(hamt, "--read-only") as mount:
            assert (mount / "large").read_bytes() == DATA
            assert reads(mount) <= 5
            fd = os.open(mount / "large", os.O_RDONLY)
            drop(fd)
            before = mount.status()["answered_without_python"]
            assert os.pread(fd, len(DATA), 0) == DATA
            assert mount.status()["answered_without_python"] >= before + (len(DATA) >> 20), first
            os.close(fd)


@pytest.mark.parametrize("seen", [False, True])
def test_a_damaged_block_of_a_value(hamt: Path, seen: bool) -> None:
    if seen:
        with Mount(hamt) as mount:
            assert (mount / "large").read_bytes() == DATA
    assert damage(hamt, DATA[5_000_000:5_000_100]) == 1
    with Mount(hamt) as mount:
        with refused(errno.EIO):
            (mount / "large").read_bytes()
        with (mount / "large").open("rb", buffering=0) as opened:
            assert os.pread(opened.fileno(), 100_000, 7_000_000) == DATA[7_000_000:7_100_000]
            with refused(errno.EIO):
                os.pread(opened.fileno(), 4096, 5_000_000)
        assert (mount / "small").read_bytes() == b"small"
        assert "do not match" in mount.log()


def test_readers_see_what_is_there(hamt: Path) -> None:
    """After each change, of whatever kind, the next read shows it."""
    with Mount(hamt) as mount:
        file, expected = mount / "large", DATA

        def check() -> None:
            for _ in range(2):
                with file.open("rb", buffering=0) as opened:
                    drop(opened.fileno())
                    assert os.fstat(opened.fileno()).st_size == len(expected)
                    for offset in (SMALL, 10_000_000, len(expected) - 5000):
                        assert os.pread(opened.fileno(), 4096, offset) == expected[offset : offset + 4096]
            assert file.read_bytes() == expected

        check()
        assert mount.status()["answered_without_python"] > 0
        first = mount.status()["root"]
        with file.open("r+b") as opened:
            opened.seek(10_000_001)
            opened.write(b"changed")
        expected = DATA[:10_000_001] + b"changed" + DATA[10_000_008:]
        check()
        mstfs("sync", mount.path, folder=mount.folder)
        check()
        file.write_bytes(OTHER)
        expected = OTHER
        check()
        mstfs("revert", file, folder=mount.folder)
        expected = DATA[:10_000_001] + b"changed" + DATA[10_000_008:]
        check()
        os.truncate(file, 15_000_000)
        expected = expected[:15_000_000]
        check()
        mstfs("sync", mount.path, folder=mount.folder)
        mstfs("checkout", mount.path, first, folder=mount.folder)
        expected = DATA
        check()
        (mount / "new").write_bytes(OTHER)
        (mount / "new").rename(file)
        expected = OTHER
        check()
        file.rename(mount / "elsewhere")
        mstfs("revert", mount.path, folder=mount.folder)
        expected = DATA
        check()
        assert mount.status()["errors"] == 0


def test_readers_see_what_is_being_written(hamt: Path) -> None:
    """Before it is closed, too; and who has it open goes on seeing it when the name says something else."""
    with Mount(hamt) as mount:
        file = mount / "large"
        reader = os.open(file, os.O_RDONLY)

        def read(offset: int) -> bytes:
            drop(reader)
            return os.pread(reader, 4096, offset)

        assert read(3_000_000) == DATA[3_000_000:3_004_096]
        writer = os.open(file, os.O_RDWR)
        for offset in (3_000_001, 12_000_000):
            os.pwrite(writer, b"changed", offset)
            assert read(offset) == b"changed" + DATA[offset + 7 : offset + 4096]
            assert os.pread(writer, 4096, offset) == b"changed" + DATA[offset + 7 : offset + 4096]
        assert read(7_000_000) == DATA[7_000_000:7_004_096]
        os.close(writer)
        assert read(12_000_000) == b"changed" + DATA[12_000_007:12_004_096]
        mstfs("revert", mount.path, folder=mount.folder)
        with file.open("rb") as other:
            other.seek(12_000_000)
            assert other.read(4096) == DATA[12_000_000:12_004_096]
        assert read(12_000_000) == b"changed" + DATA[12_000_007:12_004_096]
        assert read(16_000_000) == DATA[16_000_000:16_004_096]
        os.close(reader)
        assert mount.status()["errors"] == 0


def test_whole_contents_while_it_is_replaced(hamt: Path, tmp_path: Path) -> None:
    """A program that reads all of it, through one handle, gets the old or the new."""
    with Mount(hamt) as mount:
        file, ended = mount / "large", threading.Event()
        wrong: list[str] = []
        seen: set[bytes] = set()

        def read() -> None:
            while not ended.is_set():
                with file.open("rb", buffering=0) as opened:
                    drop(opened.fileno())
                    data = b"".join(iter(partial(opened.read, 700_000), b""))
                if data in (DATA, OTHER):
                    seen.add(data[:1])
                else:
                    wrong.append(f"{len(data)} bytes")

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for number in range(6):
                (mount / "next").write_bytes(OTHER if number % 2 == 0 else DATA)
                (mount / "next").rename(file)
                if number == 3:
                    mstfs("sync", mount.path, folder=mount.folder)
        finally:
            ended.set()
            for reader in readers:
                reader.join()
        assert not wrong
        assert len(seen) == 2
        assert mount.status()["errors"] == 0


def test_many_readers_at_once(unixfs: Path) -> None:
    with Mount(unixfs) as mount:
        wrong: list[int] = []

        def read(seed: int) -> None:
            chosen = random.Random(seed)
            fd = os.open(mount / "large", os.O_RDONLY)
            for _ in range(100):
                offset, size = chosen.randrange(len(DATA)), chosen.choice([1, 4096, 200_000, 2_000_000])
                if os.pread(fd, size, offset) != DATA[offset : offset + size]:
                    wrong.append(offset)
                if chosen.random() < 0.2:
                    drop(fd)
            os.close(fd)

        readers = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert not wrong
        assert mount.status()["errors"] == 0


def test_it_ends_while_it_is_read(unixfs: Path) -> None:
    """Whoever reads is told something, and the daemon ends as it should."""
    for _ in range(5):
        ended = threading.Event()

        def read(path: Path, ended: threading.Event) -> None:
            with suppress(OSError), path.open("rb", buffering=0) as opened:
                while not ended.is_set():
                    drop(opened.fileno())
                    os.pread(opened.fileno(), len(DATA), 0)

        with Mount(unixfs) as mount:
            readers = [threading.Thread(target=read, args=(mount / "large", ended)) for _ in range(2)]
            for reader in readers:
                reader.start()
            wait_for(partial(much_is_read, mount), "much is read")
            threading.Timer(0.05, ended.set).start()
        for reader in readers:
            reader.join()


def test_the_status_while_much_is_read(unixfs: Path) -> None:
    """It is whole, though it says something else at each look: it has one length."""
    with Mount(unixfs) as mount:
        ended = threading.Event()

        def read() -> None:
            with (mount / "large").open("rb", buffering=0) as opened:
                while not ended.is_set():
                    drop(opened.fileno())
                    os.pread(opened.fileno(), len(DATA), 0)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            texts = [(mount / ".mstfs/status").read_bytes() for _ in range(500)]
        finally:
            ended.set()
            reader.join()
        found = [json.loads(text)["answered_without_python"] for text in texts]
        assert found == sorted(found)
        assert len(set(found)) > 50
        assert len({len(text) for text in texts}) == 1
        assert (mount / ".mstfs/status").stat().st_size == len(texts[0])


def test_without_the_fast_path(unixfs: Path) -> None:
    with Mount(unixfs, environment={"MSTFS_FAST_PATH": "0"}) as mount:
        assert (mount / "large").read_bytes() == DATA
        assert reads(mount) >= len(DATA) >> 20
    assert not unixfs.with_name("unixfs.car.mstfs-tags").exists()
