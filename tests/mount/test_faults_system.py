"""Clocks that go back, signals at work, mount points that vanish, readers that never close: all goes on."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from mount.crashing import verify
from mount.deadlines import deadline
from mount.mounting import (
    PROJECT,
    Mount,
    is_mounted,
    records_of,
    run,
    sync_root,
    wait_for,
    write_fsynced,
    write_record,
)
from mstfs.archive import Archive
from mstfs.repo import tid

NOTES = "org.example.note"

CLOCK = """
import os, time
real = time.time_ns
def time_ns():
    with open(os.environ["CLOCK_OFFSET"]) as file:
        return real() + int(file.read())
time.time_ns = time_ns
time.time = lambda: time_ns() / 1e9
"""
"""Goes before a daemon (`sitecustomize`): its clock is off by the nanoseconds in a file."""


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Nothing may hang."""
    with deadline(90):
        yield


def test_revs_grow_though_the_clock_goes_back(car: Path, tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock/sitecustomize.py").write_text(CLOCK)
    path = os.pathsep.join((str(tmp_path / "clock"), str(PROJECT)))
    offset.write_text("0")
    environment = {"PYTHONPATH": path, "CLOCK_OFFSET": str(offset)}
    revs: list[str] = []
    year = 365 * 86400 * 10**9
    with Mount(car, "--no-publish-on-unmount", environment=environment) as mount:
        roots = {mount.status()["root"]}
        for number, ahead in enumerate((0, year, -year, -20 * year, -60 * year, 0, -3 * year)):
            offset.write_text(str(ahead))
            if number == 3:
                mount.kill()
                mount.start()
            write_record(mount / NOTES / "a.json", number)
            sync_root(mount)
            status = mount.status()
            revs.append(status["rev"])
            roots.add(status["root"])
            if number == 4:
                # The head goes back to an older rev: the next one is greater than all there ever were.
                with Archive.open(car) as archive:
                    event = archive.workspace.history.read(2)
                assert event is not None
                mount.mstfs("checkout", mount.path, "2")
        assert all(tid.is_valid(rev) for rev in revs)
        assert revs == sorted(set(revs))
        assert len(roots) == len(revs) + 1
        verify(mount.path)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_sigterm_during_a_publication(car: Path, seed: int) -> None:
    rng = random.Random(seed)
    with Mount(car) as mount:
        (mount / "org.example.burst").mkdir()
        for round_ in range(3):
            for number in range(60):
                write_record(mount / f"org.example.burst/{number}.json", 1000 * round_ + number)
            expected = mount.staged()
            assert expected
            outcome: list[int] = []

            def sync(outcome: list[int] = outcome) -> None:
                try:
                    sync_root(mount)
                except OSError as error:
                    outcome.append(error.errno or -1)
                else:
                    outcome.append(0)

            before = mount.status()["sequence"]
            thread = Thread(target=sync, daemon=True)
            thread.start()
            thread.join(rng.random() * 0.03)
            assert mount.process is not None
            mount.process.send_signal(signal.SIGTERM)
            assert mount.ended() == 0, mount.log()
            thread.join(30)
            assert outcome, "the sync hangs although its daemon is gone"
            verify(car.with_name("repo.car.mstfs"))
            mount.start()
            assert mount.staged() == []
            assert mount.status()["sequence"] == before + 1


def test_a_reader_that_never_closes_holds_up_nobody(car: Path) -> None:
    with Mount(car) as mount:
        text = write_record(mount / NOTES / "a.json")
        reader = os.open(mount / NOTES / "a.json", os.O_RDONLY)
        writer = os.open(mount / NOTES / "b.json", os.O_WRONLY | os.O_CREAT)
        os.write(writer, text)
        folder = os.open(mount / NOTES, os.O_RDONLY)
        try:
            sync_root(mount)
            busy = mount.mstfs("umount", mount.path, code=3)
            assert "cannot be unmounted" in busy.stderr
            assert "busy" in busy.stderr
            assert len(busy.stderr.splitlines()) == 1
            assert os.pread(reader, 10_000, 0) == text
            assert mount.process is not None
            mount.process.send_signal(signal.SIGTERM)
            assert mount.ended() == 0
        finally:
            for fd in (reader, writer, folder):
                try:
                    os.close(fd)
                except OSError as error:
                    assert error.errno == errno.ENOTCONN  # noqa: PT017
        assert {f"{NOTES}/a", f"{NOTES}/b"} <= records_of(car).keys()
        mount.start()
        assert (mount / NOTES / "b.json").read_bytes() == text
        assert mount.staged() == []


@pytest.mark.parametrize("way", ["lazy", "removed"])
def test_a_mount_point_that_vanishes(car: Path, way: str) -> None:
    if way == "removed" and (os.geteuid() != 0 or shutil.which("unshare") is None):
        pytest.skip("needs root and unshare (util-linux) to remove a mount point")
    with Mount(car) as mount:
        text = write_record(mount / NOTES / "a.json")
        fd = os.open(mount / NOTES / "b.json", os.O_WRONLY | os.O_CREAT)
        os.write(fd, text)
        if way == "lazy":
            run("fusermount3", "-u", "-z", mount.path)
        else:
            # In another namespace nothing is mounted there, and a folder can be removed under the mount.
            script = 'mount --make-rprivate / && umount -l "$1" && rmdir "$1"'
            run("unshare", "-m", "sh", "-euc", script, "sh", mount.path)
            assert not mount.path.exists()
        assert not is_mounted(mount.path)
        os.fsync(fd)
        os.write(fd, b" " * 10)
        os.close(fd)
        assert mount.process is not None
        process = mount.process
        wait_for(lambda: process.poll() is not None, "the daemon to end with the last user of its mount")
        assert process.returncode == 0, mount.log()
        found = records_of(car)
        assert {f"{NOTES}/a", f"{NOTES}/b"} <= found.keys()
        mount.path.mkdir(exist_ok=True)
        mount.start()
        assert mount.staged() == []


def test_a_stopped_daemon_is_survived_by_those_who_ask(car: Path) -> None:
    """A program that waits for a daemon can be killed, and the daemon goes on when it can."""
    with Mount(car, "--no-publish-on-unmount") as mount:
        text = write_record(mount / NOTES / "a.json")
        write_fsynced(mount / NOTES / "a.json", text)
        assert mount.process is not None
        mount.process.send_signal(signal.SIGSTOP)
        try:
            asking = subprocess.Popen([sys.executable, "-c", f"open({str(mount.path / 'x.json')!r})"])
            asking.kill()
            assert asking.wait(30) == -9
        finally:
            mount.process.send_signal(signal.SIGCONT)
        assert (mount / NOTES / "a.json").read_bytes() == text
