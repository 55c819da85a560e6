"""Writing to a mount: what each call does, and what each must refuse."""

import errno
import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mount.mounting import (
    Mount,
    note_text,
    records_of,
    refused,
    run,
    shell,
    wait_for,
    write_record,
)
from mstfs.limits import RECORD_BYTES, SCRATCH_BYTES

PROFILE = "app.bsky.actor.profile/self.json"


@pytest.fixture(scope="module")
def mount(module_car: Path) -> Iterator[Mount]:
    with Mount(module_car) as mounted:
        yield mounted


@pytest.fixture
def collection(mount: Mount, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A new, empty collection of the test's own, gone afterwards."""
    name = request.node.name.removeprefix("test_").replace("_", "-").split("[")[0][:60].strip("-")
    folder = mount / f"org.example.{name}.x"
    folder.mkdir()
    yield folder
    run("rm", "-r", folder)
    assert [line for line in mount.staged() if folder.name in line] == []


def test_a_new_record_is_staged_and_reads_back(mount: Mount, collection: Path) -> None:
    text = write_record(collection / "one.json")
    assert (collection / "one.json").read_bytes() == text
    assert (collection / "one.json").stat().st_size == len(text)
    assert os.listdir(collection) == ["one.json"]
    assert mount.staged() == [f"A {collection.name}/one"]
    assert mount.state(f"{collection.name}/one.json")["state"] == "staged"
    assert mount.status()["staged"] == {"put": 1, "delete": 0}


def test_text_is_kept_as_it_was_written_until_it_is_published(car: Path) -> None:
    with Mount(car) as mount:
        path = mount / "org.example.note/loose.json"
        loose = '{"n":1,\n\n"$type":"org.example.note",   "s": "\\u00e9"}'
        path.write_text(loose)
        assert path.read_text() == loose
        mount.remount()
        assert path.read_text() == note_text("org.example.note", 1, {"s": "é"}).decode()
        assert path.stat().st_size == len(path.read_bytes())


def test_writing_back_what_was_read_is_no_edit(car: Path, tmp_path: Path) -> None:
    with Mount(car) as mount:
        run("cp", "-r", mount.path, tmp_path / "out")
        for words in (("cp", "-rT"), ("cp", "-rTp"), ("rsync", "-aI"), ("rsync", "-rI", "--inplace")):
            source = tmp_path / "out" if words[0] == "cp" else f"{tmp_path / 'out'}/"
            run(*words, source, mount.path)
            assert mount.staged() == []
            assert mount.status()["staged"] == {"put": 0, "delete": 0}
        shell(f"tar c -C '{tmp_path}/out' . | tar x -C '{mount.path}'", cwd=tmp_path)
        assert mount.status()["staged"] == {"put": 0, "delete": 0}
        before = (mount / ".mstfs/root").read_text()
        assert mount.sync()["changed"] is False
        assert (mount / ".mstfs/root").read_text() == before
        assert mount.status()["scratch"]["files"] == 0


def test_an_edit_that_is_taken_back_is_no_edit(mount: Mount) -> None:
    before = (mount / PROFILE).read_bytes()
    run("sed", "-i", "s/Nobody/Somebody/", mount / PROFILE)
    assert mount.staged() == ["M app.bsky.actor.profile/self"]
    run("sed", "-i", "s/Somebody/Nobody/", mount / PROFILE)
    assert mount.staged() == []
    (mount / PROFILE).unlink()
    assert mount.staged() == ["D app.bsky.actor.profile/self"]
    (mount / PROFILE).write_bytes(before)
    assert mount.staged() == []


def test_shell_redirection(mount: Mount, collection: Path) -> None:
    text = note_text(collection.name).decode()
    (mount.folder / "text").write_text(text)
    shell("cat ../../text > a.json; cat < ../../text > b.json", cwd=collection)
    shell('while read -r line; do echo "$line"; done < a.json > c.json', cwd=collection)
    shell("head -n 2 ../../text > d.json || true; tail -n +3 ../../text >> d.json", cwd=collection)
    shell("printf %s '' > e.json; cat ../../text > e.json; : > f.json", cwd=collection)
    for name in "abde":
        assert (collection / f"{name}.json").read_text() == text
    assert mount.staged() == [f"A {collection.name}/{name}" for name in "abcde"]
    assert (collection / "c.json").read_text().split() == text.split()
    assert mount.state(f"{collection.name}/f.json")["state"] == "draft"
    assert mount.state(f"{collection.name}/f.json")["error"] == "the file is empty"


def test_append(mount: Mount, collection: Path) -> None:
    text = note_text(collection.name)
    path = collection / "a.json"
    path.write_bytes(text)
    with path.open("ab", buffering=0) as file:
        file.write(b"\n")
        file.seek(0)
        file.write(b"  ")
    assert path.read_bytes() == text + b"\n  "
    scratch = collection / "log"
    for number in range(3):
        shell(f"echo {number} >> log", cwd=collection)
    assert scratch.read_text() == "0\n1\n2\n"
    assert mount.staged() == [f"A {collection.name}/a"]


def test_exclusive_creation(collection: Path) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(collection / "lock", flags))
    with refused(errno.EEXIST):
        os.open(collection / "lock", flags)
    write_record(collection / "a.json")
    with refused(errno.EEXIST):
        os.open(collection / "a.json", flags)
    (collection / "a.json").unlink()
    os.close(os.open(collection / "a.json", flags))
    assert sorted(os.listdir(collection)) == ["a.json", "lock"]


def test_truncate(mount: Mount, collection: Path) -> None:
    text = note_text(collection.name)
    path = collection / "a.json"
    path.write_bytes(text + b"    ")
    os.truncate(path, len(text))
    assert path.read_bytes() == text
    assert mount.state(f"{collection.name}/a.json")["state"] == "staged"
    with refused(errno.EINVAL):
        os.truncate(path, 5)
    assert path.read_bytes() == text[:5]
    assert mount.state(f"{collection.name}/a.json")["state"] == "draft"
    path.write_bytes(text)
    assert mount.state(f"{collection.name}/a.json")["state"] == "staged"
    os.truncate(path, 0)
    assert (path.read_bytes(), path.stat().st_size) == (b"", 0)
    scratch = collection / "scratch"
    scratch.write_bytes(b"abc")
    run("truncate", "-s", "200000", scratch)
    assert scratch.read_bytes() == b"abc" + bytes(199997)
    run("truncate", "-s", "70000", scratch)
    run("truncate", "-s", "100000", scratch)
    with scratch.open("r+b") as file:
        file.truncate(2)
        file.truncate(10)
    assert scratch.read_bytes() == b"ab" + bytes(8)


def test_writes_at_any_offset_match_those_to_a_local_file(collection: Path, tmp_path: Path) -> None:
    rng = random.Random(5)
    local = tmp_path / "local"
    with (collection / "scratch").open("w+b", buffering=0) as here, local.open("w+b", buffering=0) as there:
        for _ in range(300):
            offset, data = rng.randrange(400_000), rng.randbytes(rng.randrange(1, 9000))
            choice = rng.random()
            for file in (here, there):
                if choice < 0.1:
                    os.ftruncate(file.fileno(), offset)
                elif choice < 0.2:
                    os.fsync(file.fileno())
                else:
                    os.pwrite(file.fileno(), data, offset)
            start = rng.randrange(400_000)
            assert os.pread(here.fileno(), 5000, start) == os.pread(there.fileno(), 5000, start)
        assert os.fstat(here.fileno()).st_size == os.fstat(there.fileno()).st_size
    assert (collection / "scratch").read_bytes() == local.read_bytes()


def test_a_big_scratch_file(mount: Mount, collection: Path, tmp_path: Path) -> None:
    size = 50 << 20
    rng = random.Random(6)
    data = rng.randbytes(1 << 20) * (size >> 20)
    local, here = tmp_path / "big", collection / "big"
    local.write_bytes(data)
    run("cp", local, here)
    edits = [(rng.randrange(size), rng.randbytes(rng.randrange(1, 5000))) for _ in range(400)]
    for path in (here, local):
        with path.open("r+b", buffering=0) as file:
            for offset, piece in edits:
                os.pwrite(file.fileno(), piece, offset)
    run("cmp", here, local)
    assert here.stat().st_size == local.stat().st_size
    assert mount.status()["scratch"]["bytes"] >= size
    assert "staged" not in mount.state(f"{collection.name}/big").values()


def test_limits_of_size(collection: Path) -> None:
    with (collection / "a.json").open("wb", buffering=0) as file:
        file.write(b"{}")
        with refused(errno.EFBIG):
            os.pwrite(file.fileno(), b"x", RECORD_BYTES)
        with refused(errno.EFBIG):
            os.ftruncate(file.fileno(), RECORD_BYTES + 1)
        file.seek(0)
        file.write(note_text(collection.name))
    with (collection / "scratch").open("wb", buffering=0) as file:
        with refused(errno.EFBIG):
            os.ftruncate(file.fileno(), SCRATCH_BYTES + 1)
        os.ftruncate(file.fileno(), RECORD_BYTES + 1)
    with refused(errno.EFBIG):
        (collection / "scratch").rename(collection / "b.json")
    assert (collection / "scratch").stat().st_size == RECORD_BYTES + 1
    assert (collection / "a.json").read_bytes() == note_text(collection.name)


def test_names_that_are_too_long(collection: Path) -> None:
    for name in ("x" * 256, "x" * 251 + ".json", "x" * 2000):
        with refused(errno.ENAMETOOLONG):
            (collection / name).write_text("{}")
        with refused(errno.ENAMETOOLONG):
            (collection / name).mkdir()
    write_record(collection / ("x" * 250 + ".json"))


def test_what_no_mount_can_hold_is_refused(mount: Mount, collection: Path) -> None:
    path = collection / "a.json"
    text = write_record(path)
    with refused(errno.EPERM):
        os.link(path, collection / "b.json")
    with refused(errno.EPERM):
        os.mkfifo(collection / "fifo")
    with refused(errno.EPERM):
        os.mknod(collection / "socket", stat.S_IFSOCK | 0o600)
    with refused(errno.EPERM):
        os.chown(path, os.getuid() + 1, -1)
    with refused(errno.EPERM):
        (collection / "c.json").symlink_to("a.json")
    with refused(errno.EPERM):
        (collection / "d.json").mkdir()
    assert os.listdir(collection) == ["a.json"]
    assert path.read_bytes() == text


def test_what_copies_do_to_files_does_not_fail(mount: Mount, collection: Path, tmp_path: Path) -> None:
    text = note_text(collection.name)
    source = tmp_path / "a.json"
    source.write_bytes(text)
    os.utime(source, ns=(10**18, 10**18 + 5))
    source.chmod(0o600)
    run("cp", "-p", source, collection / "a.json")
    assert (collection / "a.json").stat().st_mtime_ns == 10**18 + 5
    run("cp", "-p", source, collection / "scratch")
    assert (collection / "scratch").stat().st_mtime_ns == 10**18 + 5
    assert stat.S_IMODE((collection / "scratch").stat().st_mode) == 0o600
    run("chmod", "755", collection / "scratch")
    run("touch", "-d", "2001-02-03T04:05:06Z", collection / "scratch", collection / "a.json", mount / PROFILE)
    run("chown", f"{os.getuid()}:{os.getgid()}", collection / "a.json", collection)
    run("chmod", "600", collection / "a.json", mount / PROFILE)
    run("chmod", "700", collection)
    for name in ("scratch", "a.json"):
        assert (collection / name).stat().st_mtime == 981173106
    assert stat.S_IMODE((collection / "scratch").stat().st_mode) == 0o755
    assert mount.staged() == [f"A {collection.name}/a"]
    (mount / PROFILE).chmod(0o644)


def test_a_file_that_is_unlinked_stays_readable(mount: Mount, collection: Path) -> None:
    text = write_record(collection / "a.json")
    (collection / "scratch").write_bytes(b"s" * 200_000)
    profile = (mount / PROFILE).read_bytes()
    paths = [collection / "a.json", collection / "scratch", mount / PROFILE]
    files = [path.open("r+b", buffering=0) for path in paths]
    try:
        for path in paths:
            path.unlink()
            assert not path.exists()
        for file, data in zip(files, (text, b"s" * 200_000, profile), strict=True):
            assert os.fstat(file.fileno()).st_size == len(data)
            assert os.pread(file.fileno(), 1 << 20, 0) == data
            os.pwrite(file.fileno(), b"more", len(data))
            assert os.pread(file.fileno(), 1 << 20, len(data) - 1) == data[-1:] + b"more"
        other = write_record(collection / "a.json", 2)
        assert os.pread(files[0].fileno(), 1 << 20, 0) == text + b"more"
        assert (collection / "a.json").read_bytes() == other
    finally:
        for file in files:
            file.close()
    assert (collection / "a.json").read_bytes() == other
    assert not (mount / PROFILE).exists()
    (mount / PROFILE).write_bytes(profile)
    assert mount.staged() == [f"A {collection.name}/a"]


def test_two_writers_share_a_file(collection: Path) -> None:
    with (
        (collection / "s").open("w+b", buffering=0) as one,
        (collection / "s").open("r+b", buffering=0) as two,
    ):
        one.write(b"0123456789")
        os.pwrite(two.fileno(), b"ab", 3)
        assert os.pread(one.fileno(), 100, 0) == b"012ab56789"
    assert (collection / "s").read_bytes() == b"012ab56789"


def test_a_reader_may_close_while_a_record_is_half_written(mount: Mount, collection: Path) -> None:
    text = note_text(collection.name)
    path = collection / "a.json"
    with path.open("wb", buffering=0) as writer:
        writer.write(text[:10])
        assert run("cat", path).stdout.encode() == text[:10]
        writer.write(text[10:])
    assert mount.staged() == [f"A {collection.name}/a"]
    assert mount.status()["drafts"] == []


def test_memory_maps(collection: Path) -> None:
    import mmap

    path = collection / "mapped"
    path.write_bytes(b"a" * 10_000)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        assert shared[:3] == b"aaa"
        shared[5000:5003] = b"xyz"
        shared.flush()
        assert os.pread(file.fileno(), 5, 4999) == b"axyza"
    assert path.read_bytes() == b"a" * 5000 + b"xyz" + b"a" * 4997


def test_scratch_survives_a_remount_and_is_never_published(car: Path) -> None:
    with Mount(car) as mount:
        data = os.urandom(150_000)
        (mount / "folder/inner").parent.mkdir()
        (mount / "folder/inner").write_bytes(data)
        (mount / "folder/link").symlink_to("inner")
        (mount / "folder/inner").chmod(0o750)
        os.utime(mount / "folder/inner", ns=(5, 10**18))
        assert mount.sync()["changed"] is False
        mount.remount()
        assert (mount / "folder/link").read_bytes() == data
        found = (mount / "folder/inner").stat()
        assert (found.st_mtime_ns, stat.S_IMODE(found.st_mode)) == (10**18, 0o750)
        assert mount.status()["scratch"] == {"files": 1, "bytes": len(data)}
        run("rm", "-r", mount / "folder")
        wait_for(lambda: mount.status()["scratch"]["files"] == 0, "scratch to be gone")
    assert len(records_of(car)) == len(records_of(mount.source))
