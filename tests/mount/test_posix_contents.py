"""Calls on what the files in a mount hold: what docs/posix.md says is what happens.

Hacking
    `test_posix` looks whether each of these tests stands in the table there.
"""

import errno
import fcntl
import mmap
import os
import select
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mount.mounting import Mount, note_text, refused, run, shell
from mount.posix import TEXT, Long, call, folder_of, libc, opened


@pytest.fixture(scope="module")
def mount(module_car: Path) -> Iterator[Mount]:
    with Mount(module_car, "--no-publish-on-unmount") as mounted:
        yield mounted


@pytest.fixture
def work(mount: Mount, request: pytest.FixtureRequest) -> Path:
    return folder_of(mount, request.node.name)


def test_open(work: Path) -> None:
    file = work / "f"
    for path, flags, code in (
        (file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, errno.EEXIST),
        (file, os.O_DIRECTORY, errno.ENOTDIR),
        (work, os.O_WRONLY, errno.EISDIR),
        (work / "none", os.O_RDONLY, errno.ENOENT),
        (work, os.O_TMPFILE | os.O_RDWR, errno.ENOTSUP),
    ):
        with refused(code), opened(path, flags):
            pass
    (work / "l").symlink_to("f")
    with refused(errno.ELOOP), opened(work / "l", os.O_NOFOLLOW):
        pass
    with opened(file, os.O_PATH) as descriptor:
        assert os.fstat(descriptor).st_size == len(TEXT)
    with opened(file, os.O_WRONLY | os.O_APPEND) as descriptor:
        os.write(descriptor, b"end")
    assert file.read_bytes() == TEXT + b"end"
    with opened(file, os.O_WRONLY | os.O_TRUNC):
        assert file.stat().st_size == 0
    before = os.umask(0o027)
    try:
        with opened(work / "g", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666) as descriptor:
            assert os.fstat(descriptor).st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_read_and_write(work: Path) -> None:
    file = work / "f"
    for flags in (os.O_RDWR, os.O_RDWR | os.O_SYNC, os.O_RDWR | os.O_DIRECT):
        with opened(file, flags) as descriptor, closing(mmap.mmap(-1, 4096)) as aligned:
            aligned[:] = b"a" * 4096
            assert os.pwritev(descriptor, [aligned], 4096) == 4096
            assert os.preadv(descriptor, [aligned], 0) == 4096
            assert aligned[:] == TEXT[:4096]
            assert os.preadv(descriptor, [aligned], 1 << 20) == 0
    assert file.read_bytes() == TEXT[:4096] + b"a" * 4096 + TEXT[8192:]
    with opened(file) as descriptor:
        assert os.pwrite(descriptor, b"x", 200_000) == 1
        assert os.pread(descriptor, 10, 199_995) == bytes(5) + b"x"
        with refused(errno.EFBIG):
            os.pwrite(descriptor, b"x", 4 << 30)
    with opened(work, os.O_RDONLY) as folder, refused(errno.EISDIR):
        os.read(folder, 1)


def test_lseek(work: Path) -> None:
    os.truncate(work / "f", 1 << 20)
    with opened(work / "f") as descriptor:
        assert os.lseek(descriptor, 0, os.SEEK_END) == 1 << 20
        assert os.lseek(descriptor, 500_000, os.SEEK_DATA) == 500_000, "a hole is data, too"
        assert os.lseek(descriptor, 0, os.SEEK_HOLE) == 1 << 20
        with refused(errno.ENXIO):
            os.lseek(descriptor, 1 << 20, os.SEEK_DATA)


def test_close(mount: Mount) -> None:
    path = mount / "org.example.note/closed.json"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"{")
    with refused(errno.EINVAL):
        os.close(descriptor)
    assert mount.state("org.example.note/closed.json")["state"] == "draft"
    path.write_bytes(note_text("org.example.note"))
    assert mount.state("org.example.note/closed.json")["state"] == "staged"
    path.unlink()


def test_fsync(mount: Mount, work: Path) -> None:
    with opened(work / "f") as descriptor:
        os.write(descriptor, b"new")
        os.fsync(descriptor)
        os.fdatasync(descriptor)
        assert call(libc.sync_file_range, descriptor, Long(0), Long(0), 2) == 0
        assert call(libc.syncfs, descriptor) == 0
    with opened(work, os.O_RDONLY) as folder:
        os.fsync(folder)
    root = mount.status()["root"]
    path = mount / "org.example.note/synced.json"
    path.write_bytes(note_text("org.example.note", 7))
    with opened(mount.path, os.O_RDONLY) as top:
        os.fsync(top)
    assert mount.status()["root"] != root
    assert mount.staged() == []


def test_fallocate(work: Path) -> None:
    keep_size, punch = 1, 2
    with opened(work / "f") as descriptor:
        for mode in (0, keep_size, keep_size | punch):
            assert call(libc.fallocate, descriptor, mode, Long(0), Long(20_000)) == errno.ENOTSUP
        os.posix_fallocate(descriptor, 0, 20_000)
    assert (work / "f").read_bytes() == TEXT + bytes(10_000)


def test_mmap(work: Path) -> None:
    with opened(work / "f") as descriptor:
        with closing(mmap.mmap(descriptor, 0)) as shared:
            shared[:3] = b"map"
            shared.flush()
            assert os.pread(descriptor, 5, 0) == b"map34"
        with closing(mmap.mmap(descriptor, 0, mmap.MAP_PRIVATE)) as private:
            private[:3] = b"own"
        assert os.pread(descriptor, 5, 0) == b"map34"
    assert (work / "f").read_bytes() == b"map" + TEXT[3:]


def test_copying_in_the_kernel(work: Path) -> None:
    with opened(work / "f") as source, opened(work / "g", os.O_RDWR | os.O_CREAT) as target:
        assert os.copy_file_range(source, target, 5000, 0, 0) == 5000
        assert os.sendfile(target, source, 0, 3000) == 3000
        reader, writer = os.pipe()
        with open(reader, "rb") as file, open(writer, "wb"):
            assert os.splice(source, writer, 10, offset_src=0) == 10
            assert file.read(10) == TEXT[:10]
    assert (work / "g").read_bytes() == TEXT[:3000] + TEXT[3000:5000]


def test_ioctl(work: Path) -> None:
    getflags, clone, fiemap, bytes_ready = 0x80086601, 0x40049409, 0xC020660B, 0x541B
    with opened(work / "f") as descriptor, opened(work / "g", os.O_RDWR | os.O_CREAT) as other:
        with refused(errno.ENOTTY):
            fcntl.ioctl(descriptor, getflags, bytes(8))
        with refused(errno.EOPNOTSUPP):
            fcntl.ioctl(other, clone, descriptor)
        with refused(errno.EOPNOTSUPP):
            fcntl.ioctl(descriptor, fiemap, bytes(32))
        ready = fcntl.ioctl(descriptor, bytes_ready, bytes(4))
        assert struct.unpack("i", ready) == (len(TEXT),)


def test_locks(work: Path) -> None:
    script = "import fcntl, sys; fcntl.{}(open('f', 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with opened(work / "f") as descriptor:
        for lock in ("flock", "lockf"):
            getattr(fcntl, lock)(descriptor, fcntl.LOCK_EX)
            done = run("python3", "-c", script.format(lock), cwd=work, code=1)
            assert "BlockingIOError" in done.stderr
            getattr(fcntl, lock)(descriptor, fcntl.LOCK_UN)
            run("python3", "-c", script.format(lock), cwd=work)


def test_poll(work: Path) -> None:
    with opened(work / "f") as descriptor:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN | select.POLLOUT)
        assert waiting.poll(0) == [(descriptor, select.POLLIN | select.POLLOUT)]


def test_inotify(work: Path) -> None:
    created = 0x100
    with open(libc.inotify_init(), "rb", buffering=0) as watch:
        assert libc.inotify_add_watch(watch.fileno(), os.fsencode(work), created) > 0
        (work / "new").touch()
        assert b"new\0" in watch.read(4096)


def test_execve(work: Path) -> None:
    (work / "f").write_text("#!/bin/sh\necho it runs\n")
    with refused(errno.EACCES):
        run("./f", cwd=work)
    (work / "f").chmod(0o755)
    assert shell("./f", cwd=work).stdout == "it runs\n"
