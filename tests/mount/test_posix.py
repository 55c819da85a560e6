"""Calls on the names and the attributes in a mount: what docs/posix.md says is what happens.

Hacking
    Each row of the table there names its test, by the function's name without `test_`, and each test stands
    in the table; so does each request that the kernel may send. `work` is a folder of scratch, with a file
    `f`. Calls on what files hold are in `test_posix_contents`.
"""

import ctypes
import errno
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mount.mounting import PROJECT, Mount, refused, run
from mount.posix import RECORD, TEXT, Long, call, folder_of, libc, opened

TABLE = PROJECT / "docs/posix.md"
TESTS = (Path(__file__), Path(__file__).with_name("test_posix_contents.py"))


@pytest.fixture(scope="module")
def mount(module_car: Path) -> Iterator[Mount]:
    with Mount(module_car, "--no-publish-on-unmount") as mounted:
        yield mounted


@pytest.fixture
def work(mount: Mount, request: pytest.FixtureRequest) -> Path:
    return folder_of(mount, request.node.name)


# --- the table ------------------------------------------------------------------------------------


def rows() -> list[list[str]]:
    """The cells of each row of the table."""
    found = [
        [cell.strip() for cell in line.strip()[1:-1].split("|")]
        for line in TABLE.read_text().splitlines()
        if line.startswith("| ")
    ]
    return [row for row in found if row[0] != "call"]


def test_the_table_has_a_test_for_each_row_and_a_row_for_each_test() -> None:
    found = [name for file in TESTS for name in re.findall(r"^def test_(\w+)\(", file.read_text(), re.M)]
    tests = {name for name in found if not name.startswith("the_table_")}
    told = rows()
    assert len(told) > 25
    assert {len(row) for row in told} == {4}
    assert [row[3].strip("`") for row in told if row[3].strip("`") not in tests] == []
    assert tests - {row[3].strip("`") for row in told} == set()


def test_the_table_has_a_row_for_each_request() -> None:
    source = (PROJECT / "mstfs/fuse/operations.py").read_text()
    handlers = set(re.findall(r"^    async def ([a-z]\w*)\(", source, re.MULTILINE))
    handlers.remove("guarded")
    assert {"lookup", "readdir", "write"} <= handlers
    told = {word for row in rows() for word in re.findall(r"\w+", row[2])}
    assert told >= handlers
    assert told - handlers == set(), "what the kernel does by itself asks nobody"


# --- what the table says: looking -----------------------------------------------------------------


def test_stat(mount: Mount, work: Path) -> None:
    found, folder = (work / "f").stat(), work.stat()
    assert stat.S_ISREG(found.st_mode)
    assert (found.st_size, found.st_blocks, found.st_nlink) == (len(TEXT), 20, 1)
    assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())
    assert found.st_mtime_ns == found.st_ctime_ns == found.st_atime_ns
    assert stat.S_ISDIR(folder.st_mode)
    assert folder.st_nlink == 1, "find(1) takes that for: count them yourself"
    assert mount.path.stat().st_ino == 1
    assert (work / "f").stat().st_ino == found.st_ino
    assert (mount / RECORD).stat().st_mode & 0o777 == 0o644
    with opened(work / "f", os.O_RDONLY) as descriptor:
        (work / "f").unlink()
        assert os.fstat(descriptor).st_nlink == 0
    assert run("stat", "-c", "%w", work).stdout == "-\n"
    for name, code in (("none", errno.ENOENT), ("n" * 256, errno.ENAMETOOLONG)):
        with refused(code):
            (work / name).stat()
    with refused(errno.ENOTDIR):
        (mount / RECORD / "x").stat()


def test_access(work: Path) -> None:
    (work / "f").chmod(0o644)
    assert os.access(work / "f", os.R_OK | os.W_OK)
    assert not os.access(work / "f", os.X_OK)
    (work / "f").chmod(0o755)
    assert os.access(work / "f", os.X_OK)


def test_readdir(work: Path) -> None:
    names = {f"n{number}" for number in range(300)}
    for name in names:
        (work / name).touch()
    assert set(os.listdir(work)) == names | {"f"}
    with os.scandir(work) as entries:
        assert all(entry.inode() == (work / entry.name).stat().st_ino for entry in entries)
    libc.fdopendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = Long
    folder = ctypes.c_void_p(libc.fdopendir(os.open(work, os.O_RDONLY)))

    def name_at(place: Long) -> bytes:
        libc.seekdir(folder, place)
        return ctypes.string_at(libc.readdir(folder) + 19)

    places = []
    for _ in range(100):
        places.append(Long(libc.telldir(folder)))
        assert libc.readdir(folder)
    seen = [name_at(place) for place in places]
    assert [name_at(place) for place in reversed(places)] == seen[::-1]
    assert len(set(seen)) == 100
    assert libc.closedir(folder) == 0


def test_statfs(mount: Mount) -> None:
    found, below = os.statvfs(mount.path), os.statvfs(mount.folder)
    assert (found.f_namemax, found.f_bsize, found.f_blocks) == (255, below.f_bsize, below.f_blocks)
    assert found.f_flag & os.ST_NOSUID
    assert found.f_flag & os.ST_NODEV


def test_xattr(mount: Mount, work: Path) -> None:
    assert os.getxattr(mount / RECORD, "user.mstfs.key") == b"app.bsky.actor.profile/self"
    assert "user.mstfs.cid" in os.listxattr(mount / RECORD)
    for name in ("user.x", "user.mstfs.no", "security.capability", "system.posix_acl_access"):
        with refused(errno.ENODATA):
            os.getxattr(work / "f", name)
    for name in ("user.x", "user.mstfs.state"):
        with refused(errno.ENOTSUP):
            os.setxattr(work / "f", name, b"1")
        with refused(errno.ENOTSUP):
            os.removexattr(work / "f", name)


# --- names ----------------------------------------------------------------------------------------


def test_mkdir(work: Path) -> None:
    (work / "d").mkdir(0o700)
    assert (work / "d").stat().st_mode & 0o777 == 0o700
    for path, code in (("d", errno.EEXIST), ("none/d", errno.ENOENT), ("f/d", errno.ENOTDIR)):
        with refused(code):
            (work / path).mkdir()


def test_rmdir(mount: Mount, work: Path) -> None:
    (work / "d").mkdir()
    with refused(errno.ENOTEMPTY):
        work.rmdir()
    with refused(errno.ENOTDIR):
        (work / "f").rmdir()
    with refused(errno.EBUSY):
        mount.path.rmdir()
    with opened(work / "d", os.O_RDONLY) as descriptor:
        (work / "d").rmdir()
        assert os.listdir(descriptor) == []
        with refused(errno.ENOENT):
            os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
    assert os.listdir(work) == ["f"]


def test_unlink(work: Path) -> None:
    with opened(work / "f") as descriptor:
        (work / "f").unlink()
        assert not (work / "f").exists()
        os.pwrite(descriptor, b"later", len(TEXT))
        assert os.pread(descriptor, 2 * len(TEXT), 0) == TEXT + b"later"
    with refused(errno.ENOENT):
        (work / "f").unlink()
    (work / "d").mkdir()
    with refused(errno.EISDIR):
        (work / "d").unlink()


def test_rename(mount: Mount, work: Path) -> None:
    (work / "e").write_bytes(b"e")
    (work / "d").mkdir()
    (work / "d/x").touch()
    (work / "empty").mkdir()
    with opened(work / "f", os.O_RDONLY) as descriptor:
        (work / "e").rename(work / "f")
        assert os.read(descriptor, 10) == TEXT[:10]
    assert (work / "f").read_bytes() == b"e"
    (work / "f").rename(work / "f")
    with refused(errno.EINVAL):
        work.rename(work / "d" / "y")
    with refused(errno.ENOTDIR):
        (work / "d").rename(work / "f")
    with refused(errno.EISDIR):
        (work / "f").rename(work / "d")
    with refused(errno.ENOTEMPTY):
        (work / "empty").rename(work / "d")
    with refused(errno.EXDEV):
        (work / "f").rename(mount.folder / "f")
    (work / "d").rename(work / "empty")
    assert os.listdir(work / "empty") == ["x"]


def test_renameat2(work: Path) -> None:
    (work / "e").write_bytes(b"e")

    def rename(flags: int, source: str, target: str) -> int:
        names = os.fsencode(work / source), os.fsencode(work / target)
        return call(libc.renameat2, -100, names[0], -100, names[1], flags)

    noreplace, exchange, whiteout = 1, 2, 4
    assert rename(noreplace, "e", "f") == errno.EEXIST
    assert rename(exchange, "e", "f") == errno.EINVAL
    assert rename(whiteout, "e", "g") == errno.EINVAL
    assert rename(noreplace, "e", "g") == 0
    assert sorted(os.listdir(work)) == ["f", "g"]


def test_link(work: Path) -> None:
    with refused(errno.EPERM):
        os.link(work / "f", work / "g")


def test_symlink(work: Path) -> None:
    (work / "l").symlink_to("f")
    (work / "long").symlink_to("x" * 4095)
    (work / "loop").symlink_to("loop")
    assert (work / "l").read_bytes() == TEXT
    assert os.readlink(work / "long") == "x" * 4095
    assert (work / "long").lstat().st_size == 4095
    for name, code in (("f", errno.EINVAL), ("none", errno.ENOENT)):
        with refused(code):
            os.readlink(work / name)
    with refused(errno.EEXIST):
        (work / "f").symlink_to("x")
    with refused(errno.ELOOP):
        (work / "loop").read_bytes()
    with refused(errno.EPERM):
        (work.parent / "org.example.note/linked.json").symlink_to("x")


def test_mknod(work: Path) -> None:
    os.mknod(work / "plain", stat.S_IFREG | 0o640)
    assert (work / "plain").stat().st_mode == stat.S_IFREG | 0o640
    with refused(errno.EPERM):
        os.mkfifo(work / "pipe")
    if os.geteuid() == 0:
        with refused(errno.EPERM):
            os.mknod(work / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with opened(work, os.O_RDONLY) as folder, closing(socket.socket(socket.AF_UNIX)) as end:  # noqa: SIM117
        with refused(errno.EPERM):
            end.bind(f"/proc/self/fd/{folder}/s")


def test_names(work: Path) -> None:
    for name in (b"n" * 255, b"\xff\xfe", "größe".encode(), b" ", b"a\nb", b"-rf", b"*"):
        path = os.fsencode(work) + b"/" + name
        with open(path, "wb") as file:
            file.write(name)
        with open(path, "rb") as file:
            assert file.read() == name
    with refused(errno.ENAMETOOLONG):
        (work / ("n" * 256)).touch()
    assert not (work / "F").exists(), "large and small letters differ"


# --- attributes -----------------------------------------------------------------------------------


def test_chmod(mount: Mount, work: Path) -> None:
    for path, mode, kept in (
        (work / "f", 0o640, 0o640),
        (work / "f", 0o4755, 0o755),
        (work, 0o700, 0o700),
        (work, 0o755, 0o755),
        (mount / RECORD, 0o600, 0o644),
        (mount / "app.bsky.actor.profile", 0o700, 0o755),
    ):
        path.chmod(mode)
        assert path.stat().st_mode & 0o7777 == kept
    with opened(work / "f") as descriptor:
        os.fchmod(descriptor, 0o600)
    assert (work / "f").stat().st_mode & 0o777 == 0o600


def test_chown(mount: Mount, work: Path) -> None:
    for path in (work / "f", work, mount / RECORD):
        os.chown(path, os.getuid(), os.getgid())
        os.chown(path, -1, -1)
        if os.geteuid() == 0:
            with refused(errno.EPERM):
                os.chown(path, 1, -1)


def test_utimensat(mount: Mount, work: Path) -> None:
    latest = (1 << 63) - 1
    for path in (work / "f", work, mount / RECORD):
        for asked, kept in (
            (10**18 + 3, 10**18 + 3),
            (0, 0),
            (-(10**9), -(10**9)),
            (1 << 62, 1 << 62),
            (10**9 << 36, latest),
            (-(10**9) << 40, -latest),
        ):
            os.utime(path, ns=(asked, asked))
            # What other file systems do not reach either is as near as can be.
            assert path.stat().st_mtime_ns == kept
        os.utime(path)
        assert path.stat().st_mtime_ns > 10**18
    before = (work / "f").stat().st_mtime_ns
    run("touch", "-a", work / "f")
    assert (work / "f").stat().st_mtime_ns == before


def test_truncate(work: Path) -> None:
    file = work / "f"
    os.truncate(file, 10)
    assert file.read_bytes() == TEXT[:10]
    os.truncate(file, 100_000)
    assert file.read_bytes() == TEXT[:10] + bytes(99_990)
    os.truncate(file, 4 << 30)
    assert file.stat().st_size == 4 << 30
    with opened(file) as descriptor:
        assert os.pread(descriptor, 10, (4 << 30) - 10) == bytes(10)
        os.ftruncate(descriptor, 5)
        with refused(errno.EFBIG):
            os.ftruncate(descriptor, (4 << 30) + 1)
    assert file.read_bytes() == TEXT[:5]
    with refused(errno.EISDIR):
        os.truncate(work, 0)
    with opened(file, os.O_RDONLY) as descriptor, refused(errno.EINVAL):
        os.ftruncate(descriptor, 0)
