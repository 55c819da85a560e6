"""What survives the death of the daemon: drafts, edits, and one of two heads."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from mount.mounting import (
    PATIENCE,
    Mount,
    environment_of,
    files_below,
    has_ended,
    is_mounted,
    mstfs,
    note_text,
    records_of,
    run,
    wait_for,
    write_record,
)
from mstfs.archive import Archive

PROFILE = "app.bsky.actor.profile/self.json"


def test_a_draft_survives_and_is_published_once_it_is_right(car: Path) -> None:
    name = "org.example.draft/a.json"
    wrong = '{\n  "n": 1,\n  "n": 2,\n  "$type": "org.example.draft"\n}\n'
    with Mount(car) as mount:
        (mount / "org.example.draft").mkdir()
        with pytest.raises(OSError, match="Invalid argument"):
            (mount / name).write_text(wrong)
        mount.kill()
        mount.start()
        assert (mount / name).read_text() == wrong
        state = mount.state(name)
        assert (state["state"], state["key"]) == ("draft", "org.example.draft/a")
        assert state["error"].startswith("line 3, column 3: ")
        assert mount.status()["drafts"] == [
            {"path": name, "error": state["error"], "size": len(wrong)},
        ]
        shown = mount.mstfs("status", mount.path, code=None)
        assert name in shown.stdout
        assert "line 3, column 3: " in shown.stdout
        assert mount.staged() == []
        run("sed", "-i", "3d", mount / name)
        assert mount.state(name)["state"] == "staged"
        assert mount.status()["drafts"] == []
        text = (mount / name).read_bytes()
        mount.sync()
    assert records_of(car)["org.example.draft/a"].split() == text.split()


def test_a_draft_over_a_record_hides_it_and_can_be_reverted(car: Path) -> None:
    with Mount(car) as mount:
        before = (mount / PROFILE).read_bytes()
        with pytest.raises(OSError, match="Invalid argument"):
            (mount / PROFILE).write_text("{")
        assert (mount / PROFILE).read_text() == "{"
        mount.kill()
        mount.start()
        assert (mount / PROFILE).read_text() == "{"
        assert mount.sync(code=1)["changed"] is False
        mount.mstfs("revert", mount / PROFILE)
        assert (mount / PROFILE).read_bytes() == before
        assert (mount / PROFILE).stat().st_size == len(before)
        assert mount.status()["drafts"] == []


KINDS: dict[str, tuple[str | bytes, str]] = {
    "float": ('{"$type": "org.example.x", "n": 1.5}', "line 1, column 33"),
    "infinity": ('{"$type": "org.example.x", "n": Infinity}', "line 1, column 33"),
    "not a map": ("[]", "line 1, column 1"),
    "cut": ('{"$type": "org.example.x",\n', "line 2"),
    "latin-1": (b'{"$type": "org.example.x", "s": "\xe9"}', "line 1"),
    "mark": (b'\xef\xbb\xbf{"$type": "org.example.x"}', "line 1"),
    "more behind": ('{"$type": "org.example.x"}\n{}', "line 2, column 1"),
    "bad link": ('{"$type": "org.example.x",\n"l": {"$link": "nonsense"}}', "line 2"),
    "control character": ('{"$type": "org.example.x",\n"l": "\x01"}', "line 2"),
    "big number": ('{"$type": "org.example.x", "n": 9223372036854775808}', "line 1, column 33"),
    "deep": ('{"$type": "org.example.x", "n": ' + "[" * 5000, "line 1"),
}


def test_everything_that_is_no_record_is_a_draft(car: Path) -> None:
    with Mount(car) as mount:
        (mount / "org.example.x").mkdir()
        for name, (text, place) in KINDS.items():
            path = mount / "org.example.x" / f"{name.replace(' ', '-')}.json"
            data = text if isinstance(text, bytes) else text.encode()
            with pytest.raises(OSError, match="Invalid argument"):
                path.write_bytes(data)
            error = mount.state(f"org.example.x/{path.name}")["error"]
            assert error.startswith(place), (name, error)
            assert "\n" not in error
            assert path.read_bytes() == data
        assert len(mount.status()["drafts"]) == len(KINDS)
        assert mount.staged() == []


def test_an_edit_that_was_fsynced_survives_sigkill(car: Path) -> None:
    with Mount(car) as mount:
        text = note_text("org.example.note")
        fd = os.open(mount / "org.example.note/kept.json", os.O_WRONLY | os.O_CREAT)
        os.write(fd, text)
        os.fsync(fd)
        assert mount.process is not None
        mount.process.kill()
        mount.process.wait()
        with pytest.raises(OSError, match="not connected"):
            os.close(fd)
        mount.mstfs("umount", mount.path)
        mount.start()
        assert (mount / "org.example.note/kept.json").read_bytes() == text
        assert mount.staged() == ["A org.example.note/kept"]


def test_closed_files_and_scratch_survive_sigkill(car: Path) -> None:
    with Mount(car) as mount:
        (mount / "folder").mkdir()
        (mount / "folder/scratch").write_bytes(b"s" * 100_000)
        write_record(mount / "org.example.note/a.json")
        (mount / PROFILE).unlink()
        unlinked = (mount / "folder/open").open("w+b", buffering=0)
        unlinked.write(b"x" * 1_000_000)
        os.fsync(unlinked.fileno())
        (mount / "folder/open").unlink()
        before = files_below(mount.path)
        mount.kill()
        mount.start()
        assert files_below(mount.path) == before
        assert mount.staged() == ["D app.bsky.actor.profile/self", "A org.example.note/a"]
        with pytest.raises(OSError, match="not connected"):
            unlinked.close()
        mount.unmount()
    with closing(sqlite3.connect(mount.source.with_name("repo.car.mstfs"))) as overlay:
        kept = overlay.execute("SELECT sum(length(data)) FROM chunks").fetchone()[0]
    assert kept == 100_000, "what was unlinked takes no room for ever"


def test_killed_while_publishing_it_is_one_head_or_the_other(car: Path) -> None:
    rng = random.Random(8)
    with Mount(car) as mount:
        (mount / "org.example.burst").mkdir()
        for round_ in range(6):
            for number in range(30):
                write_record(mount / f"org.example.burst/{number}.json", 100 * round_ + number)
            expected = files_below(mount.path)
            staged = mount.staged()
            before = (mount / ".mstfs/root").read_text()
            syncing = subprocess.Popen(["sync", str(mount.path)], stderr=subprocess.DEVNULL)
            assert mount.process is not None
            with suppress(subprocess.TimeoutExpired):
                syncing.wait(rng.random() * 0.05)
            mount.process.kill()
            mount.process.wait()
            acknowledged = syncing.wait(60) == 0
            mount.mstfs("umount", mount.path)
            mount.start()
            assert files_below(mount.path) == expected
            published = (mount / ".mstfs/root").read_text() != before
            assert mount.staged() == ([] if published else staged)
            assert published or not acknowledged
            with Archive.open(car) as archive:
                archive.workspace.history.check()


def test_a_dead_mount_is_reported_and_cleared(car: Path) -> None:
    point = car.parent / "mnt"
    point.mkdir()
    mstfs("mount", "--log-file", car.parent / "log", car, point, folder=car.parent)
    pid = Mount(car, point=point).status()["pid"]
    try:
        write_record(point / "org.example.note/kept.json")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: has_ended(pid), "the daemon to die")
        assert is_mounted(point)
        for command in (["sync", point], ["status", point], ["revert", point / "x"], ["mount", car, point]):
            done = mstfs(*command, folder=car.parent, code=3)
            assert "dead mount" in done.stderr, command
            assert f"mstfs umount {point}" in done.stderr
            assert len(done.stderr.splitlines()) == 1
        mstfs("umount", point, folder=car.parent)
        assert not is_mounted(point)
        assert os.listdir(point) == []
    finally:
        if is_mounted(point):
            run("fusermount3", "-u", "-z", point)
    with Mount(car) as mount:
        assert mount.staged() == ["A org.example.note/kept"]


def test_a_mount_can_follow_at_once(car: Path) -> None:
    point = car.parent / "mnt"
    point.mkdir()
    log = car.parent / "log"
    command = [sys.executable, "-P", "-m", "mstfs", "mount", "--log-file", str(log), str(car), str(point)]
    for number in range(3):
        done = subprocess.run(command, env=environment_of(car.parent), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        write_record(point / f"org.example.note/{number}.json")
        run("fusermount3", "-u", point)
    with Mount(car) as mount:
        assert len(list((mount / "org.example.note").glob("[012].json"))) == 3
        assert mount.staged() == []
        assert mount.status()["sequence"] == 4


def test_a_mount_that_hangs_is_ended_by_force(car: Path, tmp_path: Path) -> None:
    """Nobody waits for a daemon that stands still, and it loses nothing when it goes on."""
    point = tmp_path / "a mount"
    with Mount(car, point=point) as mount:
        write_record(mount / "org.example.note/new.json")
        assert mount.process is not None
        mount.process.send_signal(signal.SIGSTOP)
        try:
            reader = subprocess.Popen(["cat", mount / PROFILE], stderr=subprocess.PIPE, text=True)
            with pytest.raises(subprocess.TimeoutExpired):
                reader.wait(0.2)
            refused = mount.mstfs("umount", "--force", "--no-publish", point, code=None)
            assert refused.returncode
            assert "--no-publish" in refused.stderr
            assert is_mounted(point)
            mount.mstfs("umount", "--force", point)
            assert not is_mounted(point)
            _, said = reader.communicate(timeout=PATIENCE)
            assert reader.returncode == 1
            assert "cat: " in said
        finally:
            mount.process.send_signal(signal.SIGCONT)
        assert mount.ended() == 0
    assert "org.example.note/new" in records_of(car)
    done = mstfs("umount", "--force", point, folder=tmp_path, code=3)
    assert "is not a mount of mstfs" in done.stderr
