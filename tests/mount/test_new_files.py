"""Files that are made without Python: nobody can tell, whatever is asked or done meanwhile."""

import errno
import json
import mmap
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mount import hamts
from mount.mounting import Mount, note_text, refused, run, wait_for, write_record

FOLDER = "org.example.new"
TEXT = note_text(FOLDER, 7)
MADE = "made.json"


@pytest.fixture(params=["fast", "slow"])
def mount(car: Path, request: pytest.FixtureRequest) -> Iterator[Mount]:
    """A mount with a folder in which a file was made, so that the next one may be made without Python."""
    fast = request.param == "fast"
    with Mount(car, environment={} if fast else {"MSTFS_FAST_PATH": "0"}) as mounted:
        (mounted / FOLDER).mkdir()
        write_record(mounted / FOLDER / "first.json")
        yield mounted


@pytest.fixture
def folder(mount: Mount) -> Path:
    return mount / FOLDER


def requests(mount: Mount) -> dict[str, int]:
    """How often Python was asked for what."""
    found: dict[str, int] = mount.status()["requests"]
    return found


accesses = pytest.mark.parametrize("access", [os.O_RDWR, os.O_WRONLY], ids=["read-and-write", "write-only"])
"""Who only writes does so past the kernel's cache."""


def make(path: Path, text: bytes = b"", mode: int = 0o644, access: int = os.O_RDWR) -> int:
    """A new file with some text, still open."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | access, mode)
    if text:
        assert os.write(descriptor, text) == len(text)
    return descriptor


def finish(descriptor: int, *texts: bytes) -> None:
    for text in texts:
        os.write(descriptor, text)
    os.close(descriptor)


@accesses
def test_one_after_the_other(mount: Mount, folder: Path, access: int) -> None:
    before, answered = requests(mount), mount.status()["answered_without_python"]
    fast = mount.environment == {}
    texts = {f"r{number}.json": note_text(FOLDER, number) for number in range(100)}
    for name, text in texts.items():
        finish(make(folder / name, access=access), text[:9], text[9:])
    asked = {name: count - before.get(name, 0) for name, count in requests(mount).items()}
    for name in ("create", "write", "release"):
        assert (asked.get(name, 0) < 5) is fast, name
    if access == os.O_WRONLY:
        answered = mount.status()["answered_without_python"] - answered
        assert answered < 450, "CREATE, WRITE twice, RELEASE, and nothing else"
    assert asked["flush"] >= 100, "each close is heard, and answered when it is kept"
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in texts} == texts
    assert all((folder / name).stat().st_size == len(text) for name, text in texts.items())
    assert mount.sync()["created"] == 101
    mount.remount()
    assert {name: (folder / name).read_bytes() for name in texts} == texts


def test_what_was_closed_survives_the_daemon(mount: Mount, folder: Path) -> None:
    for number in range(20):
        write_record(folder / f"r{number}.json", number)
    make(folder / MADE, TEXT)
    mount.kill()
    mount.start()
    assert sorted(os.listdir(folder)) == sorted(["first.json", *(f"r{number}.json" for number in range(20))])


def test_what_is_open_is_kept_at_the_end(mount: Mount, folder: Path) -> None:
    descriptor = make(folder / MADE, TEXT)
    make(folder / "torn.json", TEXT[:9])
    assert mount.process is not None
    mount.process.terminate()
    assert mount.process.wait() == mount.leaves_with
    with refused(errno.ENOTCONN):
        os.fstat(descriptor)
    mount.start()
    assert (folder / MADE).read_bytes() == TEXT
    assert (folder / "torn.json").read_bytes() == TEXT[:9]
    assert mount.state(f"{FOLDER}/torn.json")["state"] == "draft"


# --- what others see, and do, before the close ----------------------------------------------------


def listing(path: Path) -> None:
    assert MADE in os.listdir(path.parent)


def looking(path: Path) -> None:
    found = path.stat()
    assert (found.st_size, stat.S_IMODE(found.st_mode), found.st_nlink) == (len(TEXT), 0o644, 1)


def reading(path: Path) -> None:
    assert path.read_bytes() == TEXT


def reading_through_another(path: Path) -> None:
    assert run("cat", path, cwd=path.parent).stdout.encode() == TEXT


def making_it_again(path: Path) -> None:
    with refused(errno.EEXIST):
        os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    with refused(errno.EEXIST):
        path.mkdir()
    with refused(errno.EEXIST):
        path.symlink_to("x")


def removing_its_folder(path: Path) -> None:
    with refused(errno.ENOTEMPTY):
        path.parent.rmdir()


def linking(path: Path) -> None:
    with refused(errno.EPERM):
        os.link(path, path.with_name("other.json"))


def asking_for_its_state(path: Path) -> None:
    assert os.getxattr(path, "user.mstfs.state") == b"draft"


def setting_its_time(path: Path) -> None:
    os.utime(path, ns=(5, 5))
    assert path.stat().st_mtime_ns == 5


def publishing(path: Path) -> None:
    run("sync", "-f", path, cwd=path.parent)


def making_another(path: Path) -> None:
    other = path.with_name("between.json")
    write_record(other)
    assert other.exists()


def moving_its_folder(path: Path) -> None:
    moved = path.parent.with_name("org.example.moved")
    path.parent.rename(moved)
    assert (moved / path.name).read_bytes() == TEXT
    moved.rename(path.parent)


LOOKS = (
    listing, looking, reading, reading_through_another, making_it_again, removing_its_folder, linking,
    asking_for_its_state, setting_its_time, publishing, making_another, moving_its_folder,
)  # fmt: skip


@accesses
@pytest.mark.parametrize("look", LOOKS)
def test_what_is_done_to_a_file_that_is_being_written(
    mount: Mount, folder: Path, look: Callable[[Path], None], access: int
) -> None:
    descriptor = make(folder / MADE, TEXT, access=access)
    look(folder / MADE)
    assert os.fstat(descriptor).st_ino == (folder / MADE).stat().st_ino
    if access == os.O_RDWR:
        assert os.pread(descriptor, 1 << 16, 0) == TEXT
    os.close(descriptor)
    assert (folder / MADE).read_bytes() == TEXT
    assert mount.state(f"{FOLDER}/{MADE}")["state"] == "staged"
    mount.sync()
    assert (folder / MADE).read_bytes() == TEXT


def rewritten(descriptor: int) -> bytes:
    os.pwrite(descriptor, b" {", 0)
    return b" {" + TEXT[2:]


def cut(descriptor: int) -> bytes:
    os.ftruncate(descriptor, len(TEXT) - 1)
    return TEXT[:-1]


def continued(descriptor: int) -> bytes:
    more = b" " * 70_000
    os.write(descriptor, more)
    return TEXT + more


def made_longer(descriptor: int) -> bytes:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b" " + TEXT, 0)
    return b" " + TEXT


def synced(descriptor: int) -> bytes:
    os.fsync(descriptor)
    return TEXT


def closed_twice(descriptor: int) -> bytes:
    os.close(os.dup(descriptor))
    os.write(descriptor, b"\n")
    os.close(os.dup(descriptor))
    os.write(descriptor, b"\n")
    return TEXT + b"\n\n"


@accesses
@pytest.mark.parametrize("change", [rewritten, cut, continued, made_longer, synced, closed_twice])
def test_what_else_is_written(
    mount: Mount, folder: Path, change: Callable[[int], bytes], access: int
) -> None:
    descriptor = make(folder / MADE, TEXT, access=access)
    text = change(descriptor)
    assert os.fstat(descriptor).st_size == len(text)
    os.close(descriptor)
    assert (folder / MADE).read_bytes() == text
    mount.kill()
    mount.start()
    assert (folder / MADE).read_bytes() == text


@accesses
def test_who_reads_beside_who_writes(folder: Path, access: int) -> None:
    """Everybody sees at once what was written, and nothing of what was there before."""
    descriptor = make(folder / MADE, access=access)
    readers, text = [], b""
    for number in range(40):
        readers.append(os.open(folder / MADE, os.O_RDONLY))
        line = b"%d " % number * (1 if number % 3 else 700)
        os.write(descriptor, line)
        text += line
        assert (folder / MADE).stat().st_size == len(text)
        for reader in (readers[0], readers[number // 2], readers[-1]):
            assert os.pread(reader, 1 << 16, 0) == text
            assert os.pread(reader, 1 << 16, len(text)) == b""
        with mmap.mmap(readers[-1], len(text), mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
            assert mapped[:] == text
    os.ftruncate(descriptor, 10)
    os.pwrite(descriptor, b"x", 20)
    text = text[:10] + bytes(10) + b"x"
    assert [os.pread(reader, 1 << 16, 0) for reader in readers] == [text] * 40
    with refused(errno.EINVAL):
        os.close(descriptor)
    assert [os.pread(reader, 1 << 16, 0) for reader in readers] == [text] * 40
    (folder / MADE).write_bytes(TEXT)
    assert [os.pread(reader, 1 << 16, 0) for reader in readers] == [TEXT] * 40
    for reader in readers:
        os.close(reader)


def test_what_was_just_made_can_be_mapped(folder: Path) -> None:
    """A shared mapping needs the kernel's cache, past which it is written until it is closed."""
    for number in range(50):
        text = write_record(folder / MADE, number)
        with (folder / MADE).open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[:] == text
        (folder / MADE).unlink()
    descriptor = make(folder / MADE, TEXT, access=os.O_WRONLY)
    with (folder / MADE).open("rb") as file:
        with refused(errno.ENODEV):
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        os.close(descriptor)
        assert file.read() == TEXT


@accesses
@pytest.mark.parametrize("name", [MADE, "made.tmp"])
def test_attributes_that_are_set_before_the_close(mount: Mount, folder: Path, name: str, access: int) -> None:
    """As tar and `cp -a` do it. A record has no permission bits of its own."""
    before = requests(mount)
    descriptor = make(folder / name, TEXT, 0o600, access)
    os.fchmod(descriptor, 0o4640)
    os.fchown(descriptor, os.getuid(), os.getgid())
    os.utime(descriptor, ns=(5, 12_345_678_901))
    shown = 0o644 if name == MADE else 0o640
    for found in (os.fstat(descriptor), (folder / name).stat()):
        assert (found.st_mode & 0o7777, found.st_mtime_ns, found.st_size) == (
            shown,
            12_345_678_901,
            len(TEXT),
        )
    assert (requests(mount).get("setattr") == before.get("setattr")) is (mount.environment == {})
    os.close(descriptor)
    for _ in range(2):
        found = (folder / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (shown, 12_345_678_901)
        mount.kill()
        mount.start()


def test_times_that_are_set_before_the_close(folder: Path) -> None:
    descriptor = make(folder / MADE, TEXT)
    for given, kept in ((0, 0), (-5 * 10**9, -5 * 10**9), (10**19, (1 << 63) - 1), (1 << 60, 1 << 60)):
        os.utime(descriptor, ns=(given, given))
        assert os.fstat(descriptor).st_mtime_ns == kept
        assert (folder / MADE).stat().st_mtime_ns == kept
    os.close(descriptor)
    descriptor = make(folder / "now.json", TEXT)
    for change in (os.utime, lambda descriptor: os.write(descriptor, b"\n")):
        os.utime(descriptor, ns=(7, 7))
        before = time.time_ns()
        change(descriptor)
        assert before - 10**7 <= os.fstat(descriptor).st_mtime_ns <= time.time_ns()
    os.close(descriptor)


@pytest.mark.parametrize(("user", "group"), [(12345, -1), (-1, 12345)])
def test_nobody_is_given_a_file(folder: Path, user: int, group: int) -> None:
    descriptor = make(folder / MADE, TEXT)
    with refused(errno.EPERM):
        os.fchown(descriptor, user, group)
    assert (os.fstat(descriptor).st_uid, os.fstat(descriptor).st_gid) == (os.getuid(), os.getgid())


def test_what_is_empty_or_no_record(mount: Mount, folder: Path) -> None:
    os.close(make(folder / "empty.json"))
    descriptor = make(folder / "torn.json", TEXT[:9])
    with refused(errno.EINVAL):
        os.close(descriptor)
    assert {name: (folder / name).stat().st_size for name in ("empty.json", "torn.json")} == {
        "empty.json": 0,
        "torn.json": 9,
    }
    assert mount.state(f"{FOLDER}/torn.json")["state"] == "draft"
    write_record(folder / "torn.json")
    assert mount.state(f"{FOLDER}/torn.json")["state"] == "staged"


def test_what_is_published_already(mount: Mount, folder: Path) -> None:
    """The same record in another spelling is no edit: once it is closed, everybody sees what is published."""
    text = (folder / "first.json").read_bytes()
    mount.sync()
    (folder / "first.json").unlink()
    write_record(folder / "second.json")
    descriptor = make(folder / "first.json", text + b" " * 50)
    assert os.fstat(descriptor).st_size == len(text) + 50, "which the kernel keeps"
    os.close(descriptor)
    wait_for(lambda: (folder / "first.json").stat().st_size == len(text), "the file to be released")
    assert (folder / "first.json").read_bytes() == text
    assert mount.staged() == [f"A {FOLDER}/second"]


def test_permission_bits(mount: Mount, folder: Path) -> None:
    """A record has none of its own; scratch has those that were asked for."""
    umask = os.umask(0o027)
    try:
        os.close(make(folder / "scratch.tmp", b"x", 0o600))
        for name, asked, shown in (
            ("a.json", 0o600, 0o644), ("b.json", 0o777, 0o644),
            ("a.tmp", 0o600, 0o600), ("b.tmp", 0o777, 0o750),
        ):  # fmt: skip
            descriptor = make(folder / name, b"", asked)
            assert stat.S_IMODE(os.fstat(descriptor).st_mode) == shown, name
            finish(descriptor, TEXT)
            assert stat.S_IMODE((folder / name).stat().st_mode) == shown, name
            found = (folder / name).stat()
            assert (found.st_uid, found.st_gid, found.st_nlink) == (os.getuid(), os.getgid(), 1)
    finally:
        os.umask(umask)


def test_the_time_is_that_of_the_last_write(folder: Path) -> None:
    for name in ("a.json", "a.tmp", "b.json", "b.tmp"):
        before = time.time_ns()
        descriptor = make(folder / name)
        assert before - 10**7 <= os.fstat(descriptor).st_mtime_ns <= time.time_ns()
        time.sleep(0.1)
        between = time.time_ns()
        os.write(descriptor, TEXT)
        time.sleep(0.1)
        os.close(descriptor)
        assert between - 10**7 <= (folder / name).stat().st_mtime_ns < time.time_ns() - 9 * 10**7


def test_a_name_that_was_looked_for_and_came_to_be_another_way(mount: Mount, folder: Path) -> None:
    """A name that is not there may be made next; if something else happens first, that is what is so."""
    ways: tuple[Callable[[Path], object], ...] = (
        lambda path: (folder / "first.json").rename(path),
        lambda path: path.write_bytes(TEXT),
        lambda path: path.symlink_to("x"),
        lambda path: path.mkdir(),
        lambda path: run("cp", folder / "number.0.tmp", path, cwd=folder),
    )
    for number, way in enumerate(ways):
        write_record(folder / f"before{number}.json")
        path = folder / (f"number.{number}.json" if number < 2 else f"number.{number}.tmp")
        assert not path.exists()
        (folder / "number.0.tmp").write_bytes(TEXT)
        assert not path.exists()
        way(path)
        with refused(errno.EEXIST):
            make(path)
    write_record(folder / "after.json")
    assert not (folder / "removed.json").exists()
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    with refused(errno.ENOENT):
        make(folder / "removed.json")


def test_another_name_than_the_one_that_was_looked_for_last(folder: Path) -> None:
    names = ["x.json", "y.json", "y", "x.jso"]
    for name in names:
        assert not (folder / name).exists()
    for name in names:
        write_record(folder / name)
        assert sorted(os.listdir(folder)) == sorted(["first.json", *names[: names.index(name) + 1]])


def test_its_folder_has_a_new_time(folder: Path) -> None:
    for name in ("a.json", "b.tmp"):
        before = folder.stat().st_mtime_ns
        time.sleep(0.02)
        descriptor = make(folder / name, TEXT)
        made = folder.stat().st_mtime_ns
        assert made > before
        os.close(descriptor)
        assert folder.stat().st_mtime_ns == made


def test_names_that_cannot_be(mount: Mount, folder: Path) -> None:
    for name, code in (("x" * 256, errno.ENAMETOOLONG), ("x" * 300 + ".json", errno.ENAMETOOLONG)):
        with refused(code):
            make(folder / name)
    for name in ("%", "no key.json", "%=x.json", "%-x", "ä.json", "x" * 255):
        write_record(folder / "before.json")
        finish(make(folder / name), TEXT)
        assert (folder / name).read_bytes() == TEXT
        assert name in os.listdir(folder)
    write_record(mount / "top.json")
    with refused(errno.EPERM):
        make(mount / ".mstfs/new")


def test_several_programs_at_once(mount: Mount, folder: Path) -> None:
    script = """
for number in $(seq 60); do
    printf '{"n": %s, "$type": "org.example.new"}' $number > "$0$1.$number.json" || exit 1
    ls "$0" > /dev/null; cat "$0$1.$number.json" > /dev/null || exit 1
done
"""
    workers = [
        subprocess.Popen(["sh", "-c", script, f"{folder}/", str(number)], cwd=mount.folder)
        for number in range(3)
    ]
    for _ in range(5):
        mount.sync()
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    texts = {
        f"{worker}.{number}.json": f'{{"n": {number}, "$type": "org.example.new"}}'.encode()
        for worker in range(3)
        for number in range(1, 61)
    }
    assert set(os.listdir(folder)) == {"first.json", *texts}
    mount.sync()
    mount.remount()
    assert {name: json.loads((folder / name).read_bytes()) for name in texts} == {
        name: json.loads(text) for name, text in texts.items()
    }


def test_keys_of_a_hamt(tmp_path: Path) -> None:
    """There every name is a key, and a file may stand in the way of a folder."""
    car = tmp_path / "hamt.car"
    hamts.make(tmp_path, hamts.RAW, {"d/old": b"old"}).rename(car)
    with Mount(car) as mount:
        texts = {f"d/{number}": os.urandom(number * 900) for number in range(1, 90)}
        for name, text in texts.items():
            finish(make(mount / name), text)
        with refused(errno.EILSEQ):
            make(Path(os.fsdecode(bytes(mount / "d") + b"/\xff")))
        with refused(errno.ENOTDIR):
            make(mount / "d/1/x")
        assert {name: (mount / name).read_bytes() for name in texts} == texts
        mount.sync()
        mount.remount()
        assert {name: (mount / name).read_bytes() for name in texts} == texts
