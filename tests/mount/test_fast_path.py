"""What is answered without Python is what Python would have answered, whatever changes meanwhile."""

import ctypes
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from mount.mounting import Mount, files_below, note_text, records_of, write_record
from mstfs.repo.sample import make_sample

POSTS = "app.bsky.feed.post"


@pytest.fixture(scope="module")
def large_car(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CAR with so many records that readers are read ahead."""
    path = tmp_path_factory.mktemp("large") / "large.car"
    make_sample(path, 6000, 7)
    return path


def answered(mount: Mount) -> int:
    """Requests that were answered without Python, and those that were not even made."""
    status = mount.status()
    return int(status["answered_without_python"]) + int(status["pushed"])


def read_again(number: int) -> bytes:
    """What an open file says, past what the kernel keeps of it."""
    os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
    return os.pread(number, 1 << 20, 0)


def some_names(number: int, size: int) -> list[str]:
    """The next names of an open folder, as many as fit into a buffer; none at the end."""
    buffer = ctypes.create_string_buffer(size)
    count = ctypes.CDLL(None, use_errno=True).getdents64(number, buffer, size)
    assert count >= 0, os.strerror(ctypes.get_errno())
    names = []
    at = 0
    while at < count:
        length = int.from_bytes(buffer.raw[at + 16 : at + 18], "little")
        names.append(buffer.raw[at + 19 : at + length].split(b"\0", 1)[0].decode())
        at += length
    return [name for name in names if name not in (".", "..")]


def posts(mount: Mount) -> list[str]:
    return sorted(os.listdir(mount / POSTS))


@pytest.mark.parametrize("options", [(), ("--read-only",)])
@pytest.mark.parametrize("backwards", [False, True])
def test_reading_everything(large_car: Path, tmp_path: Path, options: tuple[str], backwards: bool) -> None:
    expected = sorted(records_of(large_car).values())
    with Mount(large_car, *options, "--overlay" if not options else "--log-file", tmp_path / "x") as mount:
        files = sorted((path for path in mount.path.rglob("*.json")), reverse=backwards)
        assert sorted(path.read_bytes() for path in files) == expected
        assert answered(mount) > len(files) // 2


def test_reading_everything_again(large_car: Path) -> None:
    """What the kernel let go of is read ahead once more."""
    expected = sorted(records_of(large_car).values())
    with Mount(large_car, "--read-only") as mount:
        files = [path for path in mount.path.rglob("*.json") if path.parent.name != ".mstfs"]
        for _ in range(3):
            before = answered(mount)
            assert sorted(path.read_bytes() for path in files) == expected
            assert answered(mount) - before > len(files) // 2
            for path in files:
                number = os.open(path, os.O_RDONLY)
                os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(number)


def test_who_has_a_file_open_is_counted(car: Path) -> None:
    """Files that were opened without Python keep what they said when their names go to others."""
    with Mount(car) as mount:
        names = posts(mount)
        before = {name: (mount / POSTS / name).read_bytes() for name in names}
        count = answered(mount)
        held = {name: os.open(mount / POSTS / name, os.O_RDONLY) for name in names}
        assert answered(mount) > count, "these opens were not answered without Python"
        first, second, third, fourth = names[-4:]
        os.unlink(mount / POSTS / first)
        os.rename(mount / POSTS / second, mount / POSTS / third)
        (mount / "new.tmp").write_bytes(before[fourth].replace(b'"text": "', b'"text": "new '))
        os.rename(mount / "new.tmp", mount / POSTS / fourth)
        mount.sync()
        for name, number in held.items():
            assert read_again(number) == before[name], name
            os.close(number)
        assert (mount / POSTS / third).read_bytes() == before[second]
        assert b'"text": "new ' in (mount / POSTS / fourth).read_bytes()
        assert not (mount / POSTS / first).exists()
        # All are closed, and counted so: what was unlinked is let go of, and the mount ends well.
        assert {name: (mount / POSTS / name).read_bytes() for name in posts(mount)} == {
            name: (before | {third: before[second]})[name]
            if name != fourth
            else (mount / POSTS / name).read_bytes()
            for name in names
            if name not in (first, second)
        }


def test_who_only_reads_ends_without_a_word(car: Path) -> None:
    """Once a file is known, to open, read and close it takes two requests: OPEN and RELEASE."""
    with Mount(car) as mount:
        path = mount / POSTS / posts(mount)[0]
        assert path.read_bytes()

        def requests(count: int) -> int:
            before = mount.status()
            for _ in range(count):
                number = os.open(path, os.O_RDONLY)
                assert os.pread(number, 100, 0)
                os.close(number)
            # The kernel waits for no answer to RELEASE, and so may be ahead of the count.
            time.sleep(0.2)
            now = mount.status()
            named: int = sum(
                now["requests"][name] - before["requests"].get(name, 0) for name in now["requests"]
            )
            # The total is among them.
            return named // 2 + int(now["answered_without_python"]) - int(before["answered_without_python"])

        requests(1)
        assert requests(101) - requests(1) == 200
        with path.open("r+b"):
            pass
        assert mount.status()["requests"]["flush"] == 1, "who may write is heard"


def test_readers_see_old_or_new_and_nothing_between(car: Path) -> None:
    """Readers in a loop over names that are replaced, edited in place and published."""
    with Mount(car) as mount:
        names = posts(mount)[:20]
        texts = {name: (mount / POSTS / name).read_bytes() for name in names}
        allowed = {name: {texts[name]} for name in names}
        stop = threading.Event()
        wrong: list[str] = []

        def read() -> None:
            while not stop.is_set():
                for name in names:
                    data = (mount / POSTS / name).read_bytes()
                    if data not in allowed[name]:
                        wrong.append(f"{name}: {data!r}")

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for turn in range(6):
                for name in names:
                    new = texts[name].replace(b'"text": "', b'"text": "%d ' % turn)
                    assert new != texts[name]
                    allowed[name].add(new)
                    (mount / "new.tmp").write_bytes(new)
                    os.rename(mount / "new.tmp", mount / POSTS / name)
                    assert (mount / POSTS / name).read_bytes() == new
                if turn % 2:
                    mount.sync()
        finally:
            stop.set()
            for reader in readers:
                reader.join()
        assert not wrong, wrong[0]


def test_an_offer_is_taken_back_by_a_change(car: Path) -> None:
    """Neighbours were offered, and then changed by each way that there is: the next look shows the truth."""
    with Mount(car) as mount:
        names = posts(mount)
        old = files_below(mount / POSTS)
        mount.sync()
        for name in names[:4]:
            (mount / POSTS / name).read_bytes()
        target = names[-1]
        changed = old[target].replace(b'"text": "', b'"text": "changed ')
        (mount / POSTS / target).write_bytes(changed)
        assert (mount / POSTS / target).read_bytes() == changed
        assert (mount / POSTS / target).stat().st_size == len(changed)
        mount.mstfs("revert", mount / POSTS / target)
        assert (mount / POSTS / target).read_bytes() == old[target]
        (mount / POSTS / target).unlink()
        mount.sync()
        assert target not in posts(mount)
        mount.mstfs("checkout", mount.path, "1")
        assert files_below(mount / POSTS) == old


def test_who_has_a_file_open_keeps_it_when_another_root_is_shown(car: Path) -> None:
    with Mount(car) as mount:
        target = mount / POSTS / posts(mount)[-1]
        target.write_bytes(target.read_bytes().replace(b'"text": "', b'"text": "second '))
        mount.sync()
        second = files_below(mount / POSTS)
        count = answered(mount)
        held = {name: os.open(mount / POSTS / name, os.O_RDONLY) for name in posts(mount)}
        assert answered(mount) >= count + len(held) // 2, "these opens were not answered without Python"
        mount.mstfs("checkout", mount.path, "1")
        assert b'"text": "second ' not in target.read_bytes()
        for name, number in held.items():
            assert read_again(number) == second[name], name
            os.close(number)


def test_a_listing_survives_what_happens_meanwhile(large_car: Path, tmp_path: Path) -> None:
    """Every name that stays is listed once, though others come and go and the kernel keeps listings."""
    with Mount(large_car, "--overlay", tmp_path / "x") as mount:
        names = posts(mount)
        assert len(names) > 1400, "more than one call of getdents can give"
        assert posts(mount) == names, "and again, out of the kernel's cache"
        gone, kept = set(names[::7]), set(names) - set(names[::7])
        for begin_again in (False, True):
            number = os.open(mount / POSTS, os.O_RDONLY)
            try:
                seen = some_names(number, 20000)
                for name in sorted(gone):
                    if (mount / POSTS / name).exists():
                        (mount / POSTS / name).unlink()
                        (mount / POSTS / f"{name}.tmp").touch()
                if begin_again:
                    assert set(posts(mount)) >= kept
                while more := some_names(number, 3000):
                    seen += more
            finally:
                os.close(number)
            assert len(seen) == len(set(seen)), "a name was listed twice"
            assert kept <= set(seen)
            assert set(posts(mount)) == kept | {f"{name}.tmp" for name in gone}
            mount.mstfs("revert", mount.path)
            for name in gone:
                (mount / POSTS / f"{name}.tmp").unlink()
            assert posts(mount) == names


def test_a_file_that_is_made_in_a_folder_that_was_just_listed(large_car: Path, tmp_path: Path) -> None:
    with Mount(large_car, "--overlay", tmp_path / "overlay") as mount:
        names = posts(mount)
        for number, name in enumerate((names[0], names[-1], names[len(names) // 2])):
            for made in (name.replace(".json", "a.json"), name.replace(".json", "b.json")):
                write_record(mount / POSTS / f"first-{made}", number)
                names.append(f"first-{made}")
                assert posts(mount) == sorted(names)
                with (mount / POSTS / made).open("xb", buffering=0) as file:
                    names.append(made)
                    assert posts(mount) == sorted(names)
                    file.write(note_text(POSTS, number))
                    assert posts(mount) == sorted(names)
                assert posts(mount) == sorted(names)


@pytest.mark.parametrize("fast", [True, False])
def test_the_folder_in_which_files_are_made(car: Path, monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    """Its attributes are asked for before each new file, and they are those of that moment."""
    if not fast:
        monkeypatch.setenv("MSTFS_FAST_PATH", "0")
    with Mount(car) as mount:
        folder = mount / "org.example.busy"
        folder.mkdir(mode=0o700)
        requests = mount.status()["requests"]["getattr"]
        for number in range(50):
            before = time.time_ns()
            write_record(folder / f"r{number}.json", number)
            found = folder.stat()
            assert before - 10**9 < found.st_mtime_ns <= time.time_ns()
            assert (found.st_mode, found.st_size, found.st_nlink) == (stat.S_IFDIR | 0o700, 0, 1)
            assert (found.st_uid, found.st_gid, found.st_blksize) == (os.getuid(), os.getgid(), 128 << 10)
        assert (mount.status()["requests"]["getattr"] - requests < 25) is fast
        # Whatever changes them, they are true.
        folder.chmod(0o750)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o750
        write_record(folder / "s.json")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o750
        os.utime(folder, ns=(5, 5))
        assert folder.stat().st_mtime_ns == 5
        write_record(folder / "s.json", 2)
        assert folder.stat().st_mtime_ns == 5, "a file that is written anew does not change its folder"
        for change in (
            lambda: write_record(folder / "t.json"),
            lambda: (folder / "t.json").unlink(),
            lambda: (folder / "r1.json").rename(folder / "r.json"),
            lambda: (folder / "inner").mkdir(),
            lambda: (folder / "inner").rmdir(),
        ):
            os.utime(folder, ns=(5, 5))
            write_record(folder / "s.json", 3)
            change()
            assert folder.stat().st_mtime_ns > 5
        write_record(folder / "s.json", 4)
        (mount / "org.example.other").mkdir()
        for number in range(50):
            write_record(mount / "org.example.other" / f"r{number}.json", number)
            assert stat.S_IMODE(folder.stat().st_mode) == 0o750
            assert (mount / "org.example.other").stat().st_ino != folder.stat().st_ino
        mount.sync()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o750
