"""Who gets in: nobody but the mounting user, unless that user says so; and what is the owner's alone then."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from mount.mounting import Mount, Result, is_mounted, mstfs, note_text, run, write_record

PROFILE = "app.bsky.actor.profile/self.json"
NOBODY = 65534
CONTROL = (".mstfs/root", ".mstfs/status", ".mstfs/diff", ".mstfs/history/1", ".mstfs/commands", ".mstfs")
Test = TypeVar("Test", bound=Callable[..., None])


def needs_root(test: Test) -> Test:
    """Skips a test for those who cannot become another user."""
    reason = "needs root, to become another user"
    for mark in (pytest.mark.may_skip, pytest.mark.skipif(os.geteuid() != 0, reason=reason)):
        test = mark(test)
    return test


def mount_options(point: Path) -> str:
    """What the kernel says of a mount."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return next(line for line in lines if line.split()[1] == str(point))


@pytest.fixture
def place(sample: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder that other users may stand in, with the archive in it, and a file that they may read."""
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o755)
    shutil.copy2(sample, place / "repo.car")
    (place / "open").write_bytes(b"for everybody")
    (place / "open").chmod(0o644)
    yield place
    assert not is_mounted(place / "mnt")


def as_nobody(*words: object, cwd: Path, code: int | None = 0) -> Result:
    """Run a program as nobody, standing in a folder: what lies above of it is not asked."""
    become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
    done = run(*become, *words, cwd=cwd, code=code)
    assert code is None or code == 0 or "Permission denied" in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("options", [(), ("--read-only",)])
@needs_root
def test_another_user_is_not_let_in(place: Path, options: tuple[str, ...]) -> None:
    with Mount(place / "repo.car", *options) as mount:
        assert as_nobody("cat", "open", cwd=place).stdout == "for everybody"
        (mount / PROFILE).read_bytes()  # What the kernel knows already is not given away either.
        for path in ("mnt", f"mnt/{PROFILE}", "mnt/.mstfs/status"):
            as_nobody("stat", path, cwd=place, code=1)
            as_nobody("cat", path, cwd=place, code=1)
        as_nobody("ls", "mnt", cwd=place, code=2)
        as_nobody("sh", "-c", "echo x > mnt/new", cwd=place, code=2)


@needs_root
def test_with_allow_other_the_kernel_checks_permissions(place: Path) -> None:
    with Mount(place / "repo.car", "-o", "allow_other") as mount:
        text = (mount / PROFILE).read_text()
        assert as_nobody("cat", f"mnt/{PROFILE}", cwd=place).stdout == text
        assert "app.bsky.feed.post" in as_nobody("ls", "mnt", cwd=place).stdout
        (mount / "private").mkdir(mode=0o700)
        (mount / "scratch").write_bytes(b"mine")
        (mount / "scratch").chmod(0o600)
        (mount / "org.example.note/new.json").write_bytes(note_text("org.example.note"))
        for script in (
            f"echo x > 'mnt/{PROFILE}'",
            f"echo x >> 'mnt/{PROFILE}'",
            "echo x > mnt/new",
            "echo x > mnt/org.example.note/other.json",
            "cat mnt/scratch",
            "echo x > mnt/scratch",
        ):
            assert as_nobody("sh", "-c", script, cwd=place, code=None).returncode != 0, script
        for words in (
            ("rm", "-f", f"mnt/{PROFILE}"),
            ("mv", f"mnt/{PROFILE}", "mnt/other"),
            ("mkdir", "mnt/org.example.other"),
            ("ln", "-s", "x", "mnt/link"),
            ("truncate", "-s", "0", f"mnt/{PROFILE}"),
        ):
            as_nobody(*words, cwd=place, code=1)
        for words in (("chmod", "777", "mnt/scratch"), ("touch", "-d", "2001-01-01", f"mnt/{PROFILE}")):
            done = as_nobody(*words, cwd=place, code=None)
            assert done.returncode == 1
            assert "not permitted" in done.stderr or "Permission denied" in done.stderr
        assert (mount / PROFILE).read_text() == text
        assert mount.staged() == ["A org.example.note/new"]


@pytest.mark.parametrize("options", [(), ("-o", "allow_other"), ("--read-only",)])
@needs_root
def test_access_is_the_same_whoever_checks_it(place: Path, options: tuple[str, ...]) -> None:
    """The kernel does, but where root alone is let in and may write."""
    with Mount(place / "repo.car", *options) as mount:
        named = "default_permissions" in mount_options(mount.path)
        assert named is bool(options)
        programs = []
        if "--read-only" not in options:
            (mount / "program").write_bytes(b"#!/bin/sh\n")
            (mount / "program").chmod(0o700)
            programs.append("program")
        for name in (*programs, PROFILE, ".mstfs/root"):
            assert os.access(mount / name, os.R_OK), name
            assert os.access(mount / name, os.X_OK) is (name in programs), name
        for name in ("", "app.bsky.feed.post", ".mstfs", *([".mstfs/history/1"] if programs else [])):
            assert os.access(mount / name, os.R_OK | os.X_OK), name
            assert run("sh", "-c", f'cd "mnt/{name}" && pwd', cwd=place).stdout.rstrip("/\n").endswith(name)
        assert os.access(mount / PROFILE, os.W_OK) is ("--read-only" not in options)
        assert run("find", mount / "app.bsky.feed.post", "-executable", "-type", "f", cwd=place).stdout == ""


@pytest.mark.parametrize("options", [(), ("--read-only",)])
@needs_root
def test_control_files_answer_the_owner_alone(place: Path, options: tuple[str, ...]) -> None:
    with Mount(place / "repo.car", *options, "-o", "allow_other") as mount:
        cid = mount.state(PROFILE)["cid"]
        asked = {name: (mount / name).stat() for name in CONTROL if (mount / name).exists()}
        assert len(asked) >= 5
        assert {found.st_mode & 0o077 for name, found in asked.items() if "history" not in name} == {0}
        for name in (*asked, f".mstfs/blocks/{cid}", f".mstfs/history/1/{PROFILE}", ".mstfs/nothing"):
            (mount / name).exists()
            as_nobody("stat", f"mnt/{name}", cwd=place, code=1 if name != ".mstfs" else 0)
            as_nobody("cat", f"mnt/{name}", cwd=place, code=1)
        as_nobody("ls", "mnt/.mstfs", cwd=place, code=2)
        as_nobody("ls", "mnt/.mstfs/history/1", cwd=place, code=2)
        request = json.dumps({"command": "publish"})
        as_nobody("sh", "-c", f"echo '{request}' > mnt/.mstfs/commands/x", cwd=place, code=2)


# --- our own files --------------------------------------------------------------------------------


def modes(*folders: Path) -> dict[str, int]:
    """The permission bits of every regular file below some folders."""
    return {
        path.name: path.stat().st_mode & 0o777
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_state_files_are_private_whatever_the_umask(car: Path, umask: int) -> None:
    folder, point = car.parent, car.parent / "mnt"
    point.mkdir()
    old = os.umask(umask)
    try:
        log = folder / "logs" / "a.log"
        log.parent.mkdir(0o700)
        log.parent.chmod(0o700)
        mstfs("mount", "--log-file", log, car, point, folder=folder)
    finally:
        os.umask(old)
    try:
        write_record(point / "org.example.note/new.json")
        with (point / "org.example.note/new.json").open("rb+") as file:
            os.fsync(file.fileno())
        found = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()}
        del found["repo.car"]
        assert {"repo.car.mstfs", "repo.car.mstfs-wal", "repo.car.mstfs-index"} <= set(found)
        assert set({**found, **modes(log.parent)}.values()) == {0o600}, found
    finally:
        mstfs("umount", point, folder=folder)


def test_a_log_that_others_could_read_is_made_private(car: Path) -> None:
    log, point = car.parent / "old.log", car.parent / "mnt"
    point.mkdir()
    log.write_text("before\n")
    log.chmod(0o666)
    mstfs("mount", "--log-file", log, car, point, folder=car.parent)
    mstfs("umount", point, folder=car.parent)
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.read_text().startswith("before\n")


def plant(kind: str, name: Path, victim: Path) -> None:
    """Put something there that is not ours."""
    if kind == "pipe":
        os.mkfifo(name)
    elif kind == "folder":
        name.mkdir()
    else:
        name.symlink_to(victim if kind == "symlink" else victim.with_name("nowhere"))


@pytest.mark.parametrize("kind", ["symlink", "dangling", "pipe", "folder"])
@pytest.mark.parametrize("name", ["log", "repo.car.mstfs", "repo.car.mstfs-wal", "repo.car.mstfs-shm"])
def test_what_was_planted_at_our_names_is_not_followed(car: Path, kind: str, name: str) -> None:
    folder = car.parent
    (folder / "mnt").mkdir()
    victim = folder / "victim"
    victim.write_bytes(b"precious")
    victim.chmod(0o644)
    plant(kind, folder / name, victim)
    done = mstfs("mount", "--log-file", folder / "log", car, folder / "mnt", folder=folder, code=None)
    assert done.returncode in (2, 3)
    assert len(done.stderr.splitlines()) == 1
    assert f"{folder / name}: " in done.stderr
    assert not is_mounted(folder / "mnt")
    assert victim.read_bytes() == b"precious"
    assert victim.stat().st_mode & 0o777 == 0o644
    assert not (folder / "nowhere").exists()


@pytest.mark.parametrize("kind", ["symlink", "dangling"])
def test_an_index_that_was_planted_is_not_written_through(car: Path, kind: str) -> None:
    victim = car.parent / "victim"
    victim.write_bytes(b"precious")
    plant(kind, car.with_name("repo.car.mstfs-index"), victim)
    with Mount(car) as mount:
        assert (mount / PROFILE).read_bytes()
    assert victim.read_bytes() == b"precious"
    assert not (car.parent / "nowhere").exists()
