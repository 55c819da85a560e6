"""Who may open the file of an overlay, and who may read it."""

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from overlays import SCHEMA, line_of, note, notes, start_child

from mstfs.blocks import sqlite
from mstfs.blocks.sqlite import Database
from mstfs.errors import (
    OverlayBusy,
    OverlayDamaged,
    OverlayError,
    Refused,
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_files_are_private_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        database = Database.open(path, schema=SCHEMA)
        note(database, "a")
    finally:
        os.umask(before)
    with database:
        beside = sorted(file.name for file in path.parent.iterdir())
        assert beside == ["overlay", "overlay-shm", "overlay-wal"]
        assert {mode_of(file) for file in path.parent.iterdir()} == {0o600}


def test_a_careless_copy_is_made_private_again(path: Path) -> None:
    child = start_child(path, "note('a'); say('ready'); sys.stdin.read()")
    assert line_of(child) == "ready"
    child.kill()
    child.communicate()
    for file in path.parent.iterdir():
        file.chmod(0o666)
    with Database.open(path) as database:
        assert {mode_of(file) for file in path.parent.iterdir()} == {0o600}
        assert notes(database) == ["a"]


def test_what_is_no_regular_file_is_refused(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    Database.open(target, schema=SCHEMA).close()
    before = target.read_bytes()
    path.symlink_to(target)
    for read_only in (False, True):
        with pytest.raises(OverlayError, match=r"overlay: cannot be opened: it is a symbolic link"):
            Database.open(path, read_only=read_only)
    path.unlink()
    path.symlink_to(tmp_path / "dangling")
    with pytest.raises(OverlayError, match="symbolic link"):
        Database.open(path)
    assert not (tmp_path / "dangling").exists()
    assert target.read_bytes() == before
    path.unlink()
    os.mkfifo(path)
    for read_only in (False, True):
        with pytest.raises(OverlayError, match="not a regular file"):
            Database.open(path, read_only=read_only)
    with pytest.raises(OverlayError, match=r"cannot be opened|not a regular file"):
        Database.open(tmp_path)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_links_in_the_place_of_side_files_are_refused(path: Path, tmp_path: Path, suffix: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    Path(f"{path}{suffix}").symlink_to(victim)
    with pytest.raises(OverlayError, match="symbolic link"):
        Database.open(path, schema=SCHEMA)
    assert victim.read_bytes() == b"precious"


def test_reading_creates_nothing(path: Path) -> None:
    with pytest.raises(OverlayError, match="no such overlay"):
        Database.open(path, read_only=True, schema=SCHEMA)
    assert list(path.parent.iterdir()) == []
    with pytest.raises(OverlayError, match="No such file"):
        Database.open(path / "absent" / "overlay")


def foreign(path: Path, application: int, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(
        f"PRAGMA application_id={application}; PRAGMA user_version={version}; CREATE TABLE other (x);"
    )
    connection.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"my diary\n" * 400),
        lambda path: path.write_bytes(b"x"),
        lambda path: foreign(path, 0, 0),
        lambda path: foreign(path, 77, 1),
        lambda path: foreign(path, sqlite.APPLICATION_ID, sqlite.FORMAT_VERSION + 1),
        lambda path: foreign(path, sqlite.APPLICATION_ID, 0),
    ],
    ids=["text", "one-byte", "plain-database", "other-application", "newer", "older"],
)
def test_files_of_others_are_refused_and_left_alone(path: Path, make: Callable[[Path], object]) -> None:
    make(path)
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(OverlayDamaged) as caught:
            Database.open(path, read_only=read_only, schema=SCHEMA)
        assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["overlay"]


def test_an_empty_file_becomes_an_overlay(path: Path) -> None:
    path.touch(0o644)
    with Database.open(path, schema=SCHEMA) as database:
        note(database, "a")
        assert mode_of(path) == 0o600


def test_the_name_of_a_new_file_is_made_durable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    )
    for _ in range(2):
        Database.open(path, schema=SCHEMA).close()
    assert synced == [str(path.parent)]


@pytest.mark.parametrize("name", ["a b?mode=memory#x%41", "né\n", "\udcff"])
def test_odd_file_names_are_taken_literally(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for read_only in (False, True):
        with Database.open(path, read_only=read_only, schema=SCHEMA) as database:
            assert notes(database) == []
        # A reader cannot take its side files away again, as it may not be the last one.
        assert {file.name for file in tmp_path.iterdir()} <= {name, name + "-wal", name + "-shm"}
        assert path.is_file()


def test_one_writer_at_a_time(path: Path) -> None:
    child = start_child(path, "say(str(os.getpid())); sys.stdin.read()")
    pid = line_of(child)
    for _ in range(2):
        with pytest.raises(OverlayBusy) as caught:
            Database.open(path)
        assert str(path) in str(caught.value)
        # Not every file system shows its locks under the device number that stat() tells.
        assert f"(pid {pid})" in str(caught.value) or "another process has" in str(caught.value)
    child.kill()
    child.communicate()
    Database.open(path).close()


def test_a_second_opening_in_this_process_leaves_the_first_its_locks(path: Path) -> None:
    child_code = "database.execute('PRAGMA wal_checkpoint(TRUNCATE)'); database.close(); say('done')"
    with Database.open(path, schema=SCHEMA) as database:
        with pytest.raises(OverlayBusy, match=rf"this process \(pid {os.getpid()}\)"):
            Database.open(path)
        note(database, "a")
        locks = Path("/proc/locks").read_text().splitlines()
        mine = [line for line in locks if "POSIX" in line and f" {os.getpid()} " in line]
        inode = f":{path.stat().st_ino} "
        if any(inode in line for line in locks):
            assert any(inode in line for line in mine), "SQLite's own lock on the file is gone"
    child = start_child(path, child_code)
    assert line_of(child) == "done"
    child.communicate()
    with Database.open(path) as database:
        assert notes(database) == ["a"]


def test_closing(path: Path) -> None:
    database = Database.open(path, schema=SCHEMA)
    note(database, "a")
    database.close()
    database.close()
    assert [file.name for file in path.parent.iterdir()] == ["overlay"]
    for use in (lambda: note(database, "b"), lambda: notes(database), lambda: database.row("SELECT 1")):
        with pytest.raises(OverlayError, match="closed"):
            use()
    with Database.open(path) as again:
        assert notes(again) == ["a"]


def test_schemas_are_scripts(path: Path) -> None:
    script = """
        -- A comment; with a semicolon.
        CREATE TABLE IF NOT EXISTS one (text TEXT DEFAULT 'a;b');
        CREATE TABLE IF NOT EXISTS two (x);  -- another
    """
    for _ in range(2):
        with Database.open(path, schema=(script, "CREATE TABLE IF NOT EXISTS three (x)")) as database:
            database.execute("INSERT INTO one DEFAULT VALUES")
            found = database.execute("SELECT name FROM sqlite_master ORDER BY name")
            assert found == [("one",), ("three",), ("two",)]
            assert database.row("SELECT text FROM one") == ("a;b",)
    with pytest.raises(Refused, match="inside a statement"):
        Database.open(path, schema=("CREATE TABLE IF NOT EXISTS four (x DEFAULT 'unfinished)",))
