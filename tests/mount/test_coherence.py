"""The kernel keeps what it knows until it is told otherwise: after every change it shows the truth."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mount.mounting import Mount, files_below, note_text, run, wait_for, write_record

COLLECTION = "org.example.coherent"


@pytest.fixture
def mount(car: Path) -> Iterator[Mount]:
    with Mount(car) as mounted:
        (mounted / COLLECTION).mkdir()
        yield mounted


def look(mount: Mount, names: list[str]) -> dict[str, tuple[int, bytes] | None]:
    """Size and contents of each name (None where it is absent), so that the kernel knows them all."""
    found: dict[str, tuple[int, bytes] | None] = {}
    for name in names:
        try:
            found[name] = ((mount / name).stat().st_size, (mount / name).read_bytes())
        except FileNotFoundError:
            found[name] = None
    return found


@contextmanager
def watched(mount: Mount, *names: str) -> Iterator[Callable[..., None]]:
    """Make the kernel know these names and their folders; then `shows(name=text)` checks all it shows."""
    look(mount, list(names))
    for name in names:
        if (mount / name).parent.exists():
            os.listdir((mount / name).parent)

    def shows(**wanted: bytes | None) -> None:
        for name in names:
            text = wanted.get(Path(name).stem)
            assert look(mount, [name]) == {name: None if text is None else (len(text), text)}
            folder = (mount / name).parent
            listed = os.listdir(folder) if folder.exists() else []
            assert (Path(name).name in listed) is (text is not None)
            with os.scandir(folder) if folder.exists() else os.scandir(mount.path) as entries:
                sizes = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
            assert sizes.get(Path(name).name) == (None if text is None else len(text))

    yield shows


def test_after_changes_through_the_mount(mount: Mount) -> None:
    name = f"{COLLECTION}/a.json"
    path = mount / name
    one, two = note_text(COLLECTION, 1), note_text(COLLECTION, 22)
    with watched(mount, name, f"{COLLECTION}/b.json") as shows:
        path.write_bytes(one)
        shows(a=one)
        path.write_bytes(two)
        shows(a=two)
        (mount / COLLECTION / "t").write_bytes(one)
        (mount / COLLECTION / "t").rename(path)
        shows(a=one)
        path.rename(mount / COLLECTION / "b.json")
        shows(b=one)
        (mount / COLLECTION / "b.json").unlink()
        shows()
        path.write_bytes(one)
        os.truncate(path, len(one) - 1)
        shows(a=one[:-1])


def test_after_a_draft(mount: Mount) -> None:
    name = f"{COLLECTION}/a.json"
    text = write_record(mount / name)
    mount.sync()
    with watched(mount, name) as shows:
        with pytest.raises(OSError, match="Invalid"):
            (mount / name).write_bytes(b"{ draft")
        shows(a=b"{ draft")
        mount.mstfs("revert", mount / name)
        shows(a=text)
        with pytest.raises(OSError, match="Invalid"):
            os.truncate(mount / name, 3)
        shows(a=text[:3])
        mount.mstfs("revert", mount.path)
        shows(a=text)


def test_after_publishing(mount: Mount) -> None:
    name = f"{COLLECTION}/a.json"
    loose = b'{"$type":"org.example.coherent","n":1}'
    (mount / name).write_bytes(loose)
    with watched(mount, name) as shows:
        shows(a=loose)
        folder = (mount / COLLECTION).stat().st_mtime_ns
        untimed = mount / "app.bsky.actor.profile/self.json"
        before = untimed.stat().st_mtime_ns
        mount.sync()
        shows(a=note_text(COLLECTION))
        assert untimed.stat().st_mtime_ns > before, "what has no time of its own has the time of the head"
        assert (mount / name).stat().st_mtime_ns == untimed.stat().st_mtime_ns
        assert (mount / COLLECTION).stat().st_mtime_ns >= folder
        run("sync", mount.path)
        shows(a=note_text(COLLECTION))


def test_after_a_checkout(mount: Mount) -> None:
    (mount / COLLECTION).rmdir()
    names = [f"{COLLECTION}/{letter}.json" for letter in "abc"]
    with watched(mount, *names) as shows:
        (mount / COLLECTION).mkdir()
        a, b = (write_record(mount / COLLECTION / f"{letter}.json", 1) for letter in "ab")
        mount.sync()
        (mount / COLLECTION / "a.json").unlink()
        b2, c = (write_record(mount / COLLECTION / f"{letter}.json", 333) for letter in "bc")
        mount.sync()
        shows(b=b2, c=c)
        mount.mstfs("checkout", mount.path, "2")
        shows(a=a, b=b)
        mount.mstfs("checkout", mount.path, "3")
        shows(b=b2, c=c)
        mount.mstfs("checkout", mount.path, "1")
        shows()
        mount.mstfs("checkout", mount.path, "2")
        shows(a=a, b=b)


def test_a_collection_that_a_checkout_brings_and_takes(mount: Mount) -> None:
    likes = files_below(mount / "app.bsky.feed.like")
    run("rm", "-r", mount / "app.bsky.feed.like")
    mount.sync()
    assert not (mount / "app.bsky.feed.like").exists()
    assert "app.bsky.feed.like" not in os.listdir(mount.path)
    mount.mstfs("checkout", mount.path, "1")
    assert files_below(mount / "app.bsky.feed.like") == likes
    assert "app.bsky.feed.like" in os.listdir(mount.path)
    mount.mstfs("checkout", mount.path, "2")
    assert not (mount / "app.bsky.feed.like").exists()
    assert "app.bsky.feed.like" not in os.listdir(mount.path)


@pytest.mark.parametrize("change", ["publish", "revert", "revert a draft", "checkout"])
def test_an_open_file_keeps_what_it_saw(mount: Mount, change: str) -> None:
    path = mount / COLLECTION / "a.json"
    write_record(path, 1)
    mount.sync()
    old = b'{"$type":"org.example.coherent", "n":7}' + b" " * 200_000
    if change == "revert a draft":
        old = b"{" + old
        with pytest.raises(OSError, match="Invalid"):
            path.write_bytes(old)
    else:
        path.write_bytes(old)
    if change == "checkout":
        mount.sync()
        old = path.read_bytes()
    with path.open("rb", buffering=0) as reader:
        assert reader.read(3) == old[:3]
        if change == "publish":
            mount.sync()
            new = note_text(COLLECTION, 7)
        else:
            new = note_text(COLLECTION, 1)
            mount.mstfs(*(("checkout", mount.path, "2") if change == "checkout" else ("revert", path)))
        assert path.read_bytes() == new, "whoever opens it now sees what it says now"
        assert path.stat().st_size == len(new)
        assert os.fstat(reader.fileno()).st_size == len(old)
        assert os.pread(reader.fileno(), 1 << 20, 0) == old
        assert os.pread(reader.fileno(), 1000, len(old) - 10) == old[-10:]
        path.write_bytes(note_text(COLLECTION, 8))
        assert os.pread(reader.fileno(), 1 << 20, 0) == old
    assert path.read_bytes() == note_text(COLLECTION, 8)
    assert mount.staged() == [f"M {COLLECTION}/a"]


@pytest.mark.parametrize("change", ["publish", "revert", "checkout"])
@pytest.mark.parametrize("how", ["write", "truncate"])
def test_who_reads_on_keeps_nobody_else_from_the_truth(mount: Mount, how: str, change: str) -> None:
    """A file was open before it was changed, and stays open; nobody has it open to write any more."""
    path = mount / COLLECTION / "a.json"
    one = write_record(path, 1)
    mount.sync()
    two = note_text(COLLECTION, 2)
    changed = two + b" " * 90
    if how == "truncate":
        path.write_bytes(changed + b"    ")
    with path.open("rb", buffering=0) as reader:
        if how == "write":
            path.write_bytes(changed)
        else:
            os.truncate(path, len(changed))
        assert os.pread(reader.fileno(), 5000, 0) == changed
        if change != "revert":
            mount.sync()
        if change == "publish":
            new = two
        else:
            mount.mstfs(*(("checkout", mount.path, "2") if change == "checkout" else ("revert", path)))
            new = one
        assert path.read_bytes() == new
        assert path.stat().st_size == len(new)
        assert mount.staged() == []
        assert os.pread(reader.fileno(), 5000, 0) in (changed, new)
    assert path.read_bytes() == new


def test_a_file_that_is_cut_by_its_name_is_staged_though_somebody_reads_it(mount: Mount) -> None:
    path = mount / COLLECTION / "a.json"
    write_record(path, 1)
    mount.sync()
    two = note_text(COLLECTION, 2)
    path.write_bytes(two + b"    ")
    path.with_name("b.tmp").write_bytes(b"twelve bytes")
    readers = [os.open(name, os.O_RDONLY) for name in (path, path.with_name("b.tmp"))]
    os.truncate(path, len(two) + 1)
    os.truncate(path.with_name("b.tmp"), 6)
    assert mount.staged() == [f"M {COLLECTION}/a"]
    mount.kill()
    for reader in readers:
        os.close(reader)
    mount.start()
    assert path.read_bytes() == two + b" "
    assert path.with_name("b.tmp").read_bytes() == b"twelve"


@pytest.mark.parametrize("change", ["publish", "revert", "checkout"])
def test_who_is_writing_goes_on_writing(mount: Mount, change: str) -> None:
    path = mount / COLLECTION / "a.json"
    write_record(path, 1)
    mount.sync()
    path.write_bytes(note_text(COLLECTION, 2))
    if change == "checkout":
        mount.sync()
    with path.open("r+b", buffering=0) as writer:
        if change == "publish":
            mount.sync()
        else:
            mount.mstfs(*(("checkout", mount.path, "2") if change == "checkout" else ("revert", path)))
        assert os.pread(writer.fileno(), 1000, 0) == note_text(COLLECTION, 2)
        os.pwrite(writer.fileno(), note_text(COLLECTION, 3), 0)
    assert path.read_bytes() == note_text(COLLECTION, 3)
    assert mount.staged() == [f"M {COLLECTION}/a"]


def test_who_could_write_and_did_not_changes_nothing(mount: Mount) -> None:
    path = mount / COLLECTION / "a.json"
    one, two = write_record(path, 1), note_text(COLLECTION, 2)
    mount.sync()
    path.write_bytes(two)
    mount.sync()
    with path.open("r+b", buffering=0) as idle:
        assert idle.read() == two
        mount.mstfs("checkout", mount.path, "2")
        assert os.pread(idle.fileno(), 1000, 0) == two
    wait_for(lambda: path.read_bytes() == one, "the file to be released")
    assert mount.staged() == []


def test_readers_of_a_name_that_is_replaced_see_one_text_or_the_other(mount: Mount) -> None:
    path = mount / COLLECTION / "a.json"
    texts = [note_text(COLLECTION, number, {"text": str(number) * (3000 * number)}) for number in range(1, 4)]
    path.write_bytes(texts[0])
    stop = threading.Event()
    seen: list[bytes] = []

    def read() -> None:
        while not stop.is_set():
            data = path.read_bytes()
            if data not in texts:
                seen.append(data)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(120):
            temporary = mount / COLLECTION / "temporary"
            temporary.write_bytes(texts[number % 3])
            temporary.rename(path)
            if number % 40 == 20:
                mount.sync()
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert seen == []
    assert path.read_bytes() == texts[119 % 3]


def test_listings_during_changes_show_what_does_not_change(mount: Mount) -> None:
    steady = {f"s{number}.json" for number in range(300)}
    for name in steady:
        write_record(mount / COLLECTION / name)
    stop = threading.Event()
    wrong: list[set[str]] = []

    def read() -> None:
        while not stop.is_set():
            names = os.listdir(mount / COLLECTION)
            if not steady <= set(names) or len(names) != len(set(names)):
                wrong.append(steady ^ set(names))
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(150):
            write_record(mount / COLLECTION / f"t{number}.json")
            if number % 2:
                (mount / COLLECTION / f"t{number}.json").unlink()
            if number % 50 == 25:
                mount.sync()
    finally:
        stop.set()
        reader.join()
    assert wrong == []
    assert len(os.listdir(mount / COLLECTION)) == 375


def test_a_sync_of_the_folder_while_other_commands_run(mount: Mount) -> None:
    run("rm", "-r", mount / "app.bsky.feed.like")
    mount.sync()
    stop = threading.Event()

    def sync_on_and_on() -> None:
        while not stop.is_set():
            fd = os.open(mount.path, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(fd)
            os.close(fd)

    syncing = [threading.Thread(target=sync_on_and_on) for _ in range(2)]
    for thread in syncing:
        thread.start()
    try:
        for number in range(6):
            mount.mstfs("checkout", "--force", mount.path, str(1 + number % 2))
            assert (mount / "app.bsky.feed.like").exists() is (number % 2 == 0)
            write_record(mount / COLLECTION / f"{number}.json")
    finally:
        stop.set()
        for thread in syncing:
            thread.join()
    mount.sync()
    assert mount.staged() == []


DROP_CACHES = Path("/proc/sys/vm/drop_caches")


@pytest.mark.may_skip
@pytest.mark.skipif(not os.access(DROP_CACHES, os.W_OK), reason="needs the right to drop the kernel's caches")
def test_what_the_kernel_forgets_is_there_when_it_asks_again(mount: Mount) -> None:
    before = files_below(mount.path)
    numbers = {name: (mount / name).stat().st_ino for name in before}
    command = mount / ".mstfs/commands/one"
    command.write_text('{"command": "publish"}')
    scratch = (mount / "scratch").open("w+b", buffering=0)
    scratch.write(b"still here")
    (mount / "scratch").unlink()
    # Bit 1: directory entries and inodes that nobody uses.
    DROP_CACHES.write_text("2")
    assert json.loads(command.read_text())["ok"] is True
    command.unlink()
    assert files_below(mount.path) == before
    assert {name: (mount / name).stat().st_ino for name in before} == numbers
    assert os.pread(scratch.fileno(), 100, 0) == b"still here"
    scratch.close()
