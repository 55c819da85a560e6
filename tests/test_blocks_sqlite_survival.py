"""What survives kills, full disks and damage, and what others see of it."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from contracts.block_store import (
    TEXT,
)
from overlays import SCHEMA, line_of, note, notes, start_child, undone

from mstfs.blocks.memory import MemoryBlocks
from mstfs.blocks.overlay import OverlayBlocks
from mstfs.blocks.sqlite import Database
from mstfs.blocks.sqlite_blocks import SqliteBlocks
from mstfs.codec import cid as cids
from mstfs.errors import (
    CorruptBlock,
    MissingBlock,
    OverlayDamaged,
    OverlayError,
    StorageFull,
    UnreachableBlock,
)

CID = cids.for_block(TEXT)


# --- what survives ----------------------------------------------------------------------------


def test_what_was_committed_survives_kill_9(path: Path) -> None:
    code = """
blocks = SqliteBlocks(database)
for number in range(100_000):
    data = b"block %d" % number
    with database.transaction():
        blocks.put(cids.for_block(data), data)
        note(f"{number:06}")
    if number % 50 == 49:
        database.sync()
    say(str(number))
"""
    child = start_child(path, code)
    for number in range(333):
        assert line_of(child) == str(number)
    child.send_signal(signal.SIGKILL)
    assert child.stdout is not None
    # `communicate` would pass over the lines that the last readline left in its buffer.
    rest = child.stdout.read()
    child.communicate()
    last = int(rest.split("\n")[-2]) if "\n" in rest else 332
    with Database.open(path) as database:
        blocks = SqliteBlocks(database)
        found = notes(database)
        # The child may have been killed between a commit and the word about it.
        assert len(found) in (last + 1, last + 2)
        for number in range(last + 1):
            data = b"block %d" % number
            assert blocks.get(cids.for_block(data)) == data
        assert blocks.count() == len(found)
        assert database.execute("PRAGMA integrity_check") == [("ok",)]


def test_a_transaction_that_was_cut_by_kill_9_leaves_nothing(path: Path) -> None:
    code = """
note("before")
with database.transaction(durable=True):
    for number in range(20_000):
        note(f"{number:06}" + "x" * 500)
    say("half")
    sys.stdin.read()
"""
    child = start_child(path, code)
    assert line_of(child) == "half"
    child.kill()
    child.communicate()
    with Database.open(path) as database:
        assert notes(database) == ["before"]


def synced_between(trace: str, start: str, end: str) -> list[str]:
    """The files that were synced between two words on the child's standard output."""
    found: list[str] = []
    inside = False
    for line in trace.splitlines():
        if f'"{start}\\n"' in line:
            inside = True
        elif f'"{end}\\n"' in line:
            return found
        elif inside and "sync(" in line:
            assert line.rstrip().endswith("= 0"), line
            found.append(line.split("<")[1].split(">")[0])
    raise AssertionError(f"{start} and {end} are not in the trace")


def test_durable_means_synced(path: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("needs strace to see which files are synced")
    trace = tmp_path / "trace"
    code = """
note("a")
say("ordinary")
note("b")
with database.transaction():
    note("c")
say("durable")
with database.transaction(durable=True):
    note("d")
say("nested")
with database.transaction():
    with database.transaction(durable=True):
        note("e")
say("later")
note("f")
say("sync")
database.sync()
say("end")
"""
    strace = ("strace", "-f", "-y", "-s", "50", "-e", "trace=write,fsync,fdatasync", "-o", str(trace))
    child = start_child(path, code, *strace)
    child.communicate()
    text = trace.read_text() if trace.exists() else ""
    if child.returncode and '"end' not in text:
        pytest.skip("strace may not trace here")
    log = f"{path}-wal"
    assert synced_between(text, "ordinary", "durable") == []
    assert synced_between(text, "durable", "nested") == [log]
    assert synced_between(text, "nested", "later") == [log]
    assert synced_between(text, "later", "sync") == []
    assert synced_between(text, "sync", "end") == [log]
    # The names must last as well: the folder is synced for the new file and for the new log.
    opening = [line for line in text.splitlines()[:60] if f"<{path.parent}>" in line]
    assert len(opening) >= 2


@pytest.mark.parametrize(("number", "kind"), [(5, OverlayError), (28, StorageFull)])
def test_a_failed_sync_is_told(
    database: Database, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[OverlayError]
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    note(database, "a")
    database.sync()
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(kind) as caught:
        database.sync()
    assert type(caught.value) is kind
    assert str(database.path) in str(caught.value)
    with pytest.raises(kind), database.transaction(), database.transaction(durable=True):
        note(database, "b")
    monkeypatch.undo()
    # The kernel would say yes from now on, whatever became of what it could not write.
    note(database, "c")
    for durably in (database.sync, lambda: undone(database, "d", durable=True)):
        with pytest.raises(kind, match="and opened again"):
            durably()
    path = database.path
    database.close()
    with Database.open(path) as again:
        assert notes(again) == ["a", "b", "c"]
        again.sync()


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_an_overlay_that_lost_its_place_takes_nothing_more(database: Database, suffix: str) -> None:
    note(database, "a")
    file = Path(f"{database.path}{suffix}")
    away = file.with_name("away")
    file.rename(away)
    for write in (database.sync, lambda: undone(database, "b"), lambda: undone(database, "b", durable=True)):
        with pytest.raises(OverlayError, match="moved, replaced or deleted"):
            write()
    file.write_bytes(b"another file")
    with pytest.raises(OverlayError, match="moved, replaced or deleted"):
        database.sync()
    assert notes(database) == ["a"]
    away.rename(file)
    with database.transaction(durable=True):
        note(database, "b")
    assert notes(database) == ["a", "b"]


# --- full, damaged, shared --------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True])
def test_a_full_database_changes_nothing_and_goes_on(database: Database, nested: bool) -> None:
    blocks = SqliteBlocks(database)
    blocks.put(CID, TEXT)
    pages = database.execute("PRAGMA page_count")[0][0]
    database.execute(f"PRAGMA max_page_count={pages + 20}")
    big = os.urandom(1 << 20)

    def fill() -> None:
        with database.transaction():
            note(database, "dropped")
            blocks.put(cids.for_block(b"small"), b"small")
            blocks.put(cids.for_block(big), big)

    def fill_inside() -> None:
        with database.transaction(durable=True):
            note(database, "outer")
            fill()

    with pytest.raises(StorageFull) as caught:
        fill_inside() if nested else fill()
    assert str(database.path) in str(caught.value)
    with pytest.raises(StorageFull):
        blocks.put(cids.for_block(big), big)
    with pytest.raises(StorageFull):
        blocks.put_many([(cids.for_block(b"small"), b"small"), (cids.for_block(big), big)])
    assert notes(database) == []
    assert list(blocks.cids()) == [CID]
    assert not blocks.may_hold(cids.for_block(b"small"))
    note(database, "still works")
    database.execute("PRAGMA max_page_count=1000000")
    blocks.put(cids.for_block(big), big)
    assert blocks.get(cids.for_block(big)) == big
    assert database.execute("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("nested", [False, True])
def test_a_swallowed_full_disk_does_not_commit_the_rest(database: Database, nested: bool) -> None:
    pages = database.execute("PRAGMA page_count")[0][0]
    database.execute(f"PRAGMA max_page_count={pages + 20}")
    try:
        with database.transaction():
            note(database, "first")
            with pytest.raises(StorageFull), database.transaction():
                note(database, "x" * (1 << 20))
            if nested:
                with database.transaction():
                    note(database, "last")
            else:
                note(database, "last")
    except OverlayError:
        assert notes(database) == []
    else:
        assert notes(database) == ["first", "last"]
    note(database, "afterwards")
    assert "afterwards" in notes(database)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    point = tmp_path / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(point)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield point
    subprocess.run(["umount", str(point)], check=True)


def test_a_full_disk_changes_nothing_and_goes_on(small_disk: Path) -> None:
    with Database.open(small_disk / "overlay", schema=SCHEMA) as database:
        blocks = SqliteBlocks(database)
        held = []

        def fill() -> None:
            for number in range(1000):
                data = number.to_bytes(2, "big") * 4000
                blocks.put(cids.for_block(data), data)
                held.append(data)

        def fill_at_commit() -> None:
            # Small enough for SQLite's cache, so that the log is written by the commit alone.
            with database.transaction(durable=True):
                for number in range(100):
                    note(database, f"{number}" + "x" * 8000)

        with pytest.raises(StorageFull):
            fill()
        with pytest.raises(StorageFull):
            fill_at_commit()
        assert notes(database) == []
        assert len(held) > 10
        assert [blocks.get(cids.for_block(data)) for data in held] == held
        # Room is made from outside, and everything goes on.
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
        note(database, "still works")
        database.sync()
        assert database.execute("PRAGMA integrity_check") == [("ok",)]
    with Database.open(small_disk / "overlay") as database:
        assert notes(database) == ["still works"]
        assert SqliteBlocks(database).count() == len(held)


def fill_up(folder: Path) -> None:
    with open(folder / "filler", "wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass


def test_opening_on_a_full_disk_says_so(small_disk: Path) -> None:
    fill_up(small_disk)
    with pytest.raises(StorageFull, match="overlay"):
        Database.open(small_disk / "overlay", schema=SCHEMA)
    (small_disk / "filler").unlink()
    with Database.open(small_disk / "overlay", schema=SCHEMA) as database:
        note(database, "a")
    fill_up(small_disk)
    with pytest.raises(StorageFull, match="overlay"):
        Database.open(small_disk / "overlay", schema=SCHEMA)


def test_a_damaged_file_is_told_and_sound_layers_answer(path: Path) -> None:
    pairs = [(cids.for_block(b"%d" % n * 500), b"%d" % n * 500) for n in range(1000, 1400)]
    with Database.open(path, schema=SCHEMA) as database:
        SqliteBlocks(database).put_many(pairs)
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))
    with Database.open(path) as database:
        with pytest.raises(OverlayDamaged) as caught:
            database.execute("SELECT sum(length(hex(data))), sum(length(multihash)) FROM blocks")
        assert str(path) in str(caught.value)
        try:
            blocks = SqliteBlocks(database)
        except OverlayDamaged:
            return
        bad = 0
        for cid, data in pairs:
            try:
                assert blocks.get(cid) == data
            except (UnreachableBlock, CorruptBlock, MissingBlock):
                bad += 1
        assert bad
        overlay = OverlayBlocks(blocks, [MemoryBlocks(pairs)])
        assert [overlay.get(cid) for cid, _ in pairs] == [data for _, data in pairs]


def test_a_file_cut_short_is_told(path: Path) -> None:
    with Database.open(path, schema=SCHEMA) as database:
        SqliteBlocks(database).put_many([(cids.for_block(bytes(n)), bytes(n)) for n in range(5000, 5100)])
    os.truncate(path, 8192)

    def read_all() -> None:
        with Database.open(path, schema=SCHEMA) as database:
            SqliteBlocks(database).count()
            database.execute("SELECT sum(length(hex(data))) FROM blocks")

    with pytest.raises(OverlayDamaged, match="overlay"):
        read_all()


def test_readers_in_other_processes_follow_the_writer(path: Path) -> None:
    code = """
blocks = SqliteBlocks(database)
say("open")
for line in sys.stdin:
    data = line.strip().encode()
    blocks.put(cids.for_block(data), data)
    say("put")
"""
    child = start_child(path, code)
    assert line_of(child) == "open"
    assert child.stdin is not None
    with Database.open(path, read_only=True) as reader:
        blocks = SqliteBlocks(reader)
        for word in ("one", "two", "three"):
            cid = cids.for_block(word.encode())
            assert not blocks.has(cid)
            child.stdin.write(word + "\n")
            child.stdin.flush()
            assert line_of(child) == "put"
            assert blocks.may_hold(cid)
            assert blocks.get(cid) == word.encode()
    child.communicate()
    assert child.returncode == 0


@pytest.fixture
def readable_folder() -> Iterator[Path]:
    # The folders that pytest makes are closed to the user that the test becomes.
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def as_ordinary_user(action: Callable[[], object]) -> str:
    """What `action` gives, or the error that it raises, run in a child without root's rights."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "nothing"
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            answer = repr(action())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        finally:
            os.write(writable, answer.encode()[:4000])
            os._exit(0)
    os.close(writable)
    with open(readable, encoding="utf-8") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def read_notes(path: Path) -> list[str]:
    with Database.open(path, read_only=True) as reader:
        return notes(reader)


def give_away(folder: Path, mode: int) -> None:
    if os.geteuid() == 0:
        for file in (folder, *folder.iterdir()):
            os.chown(file, 65534, 65534)
    folder.chmod(mode)


def test_an_overlay_in_a_folder_that_takes_no_files_is_read(readable_folder: Path) -> None:
    path = readable_folder / "overlay"
    with Database.open(path, schema=SCHEMA) as database:
        note(database, "a")
    give_away(readable_folder, 0o555)
    assert as_ordinary_user(lambda: read_notes(path)) == "['a']"
    assert as_ordinary_user(lambda: Database.open(readable_folder / "new")).startswith("OverlayError: ")
    give_away(readable_folder, 0o755)


def test_a_log_in_a_folder_that_takes_no_files_is_not_ignored(readable_folder: Path) -> None:
    path = readable_folder / "overlay"
    with Database.open(path, schema=SCHEMA) as database:
        note(database, "a")
    child = start_child(path, "note('in the log'); say('ready'); sys.stdin.read()")
    assert line_of(child) == "ready"
    child.kill()
    child.communicate()
    Path(f"{path}-shm").unlink()
    give_away(readable_folder, 0o555)
    answer = as_ordinary_user(lambda: read_notes(path))
    assert answer == "['a', 'in the log']" or answer.startswith("OverlayError: ")
    give_away(readable_folder, 0o755)
