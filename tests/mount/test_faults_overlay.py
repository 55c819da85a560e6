"""An overlay that cannot be written, is full, deleted or in use: no acknowledged byte is lost."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mount.crashing import verify
from mount.deadlines import deadline
from mount.faulty_io import Rules
from mount.mounting import (
    Mount,
    files_below,
    is_mounted,
    mstfs,
    note_text,
    records_of,
    refused,
    sync_root,
    wait_for,
    write_fsynced,
    write_record,
)

NOTES = "org.example.note"
LOST = "moved, replaced or deleted while it is in use"


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Nothing may hang."""
    with deadline(90):
        yield


def overlay_of(mount: Mount) -> Path:
    return mount.source.with_name(mount.source.name + ".mstfs")


# --- errors of the disk -------------------------------------------------------------------------


def test_a_write_that_fails_is_told_and_changes_nothing(faulty: Mount, rules: Rules) -> None:
    with faulty as mount:
        kept = write_record(mount / NOTES / "kept.json")
        before = files_below(mount.path)
        for code in (errno.EIO, errno.ENOSPC):
            with rules(f"w -wal {code}"):
                for name in ("lost.json", "kept.json"):
                    with refused(code):
                        write_record(mount / NOTES / name, 2)
                with refused(code):
                    (mount / NOTES / "kept.json").rename(mount / NOTES / "moved.json")
                with refused(code):
                    (mount / NOTES / "kept.json").unlink()
                with refused(code):
                    sync_root(mount)
            assert files_below(mount.path) == before
            assert mount.staged() == [f"A {NOTES}/kept"]
        assert "publishing failed: " in mount.log()
        write_record(mount / NOTES / "lost.json")
        sync_root(mount)
        mount.kill()
        verify(overlay_of(mount))
        mount.start()
        assert (mount / NOTES / "kept.json").read_bytes() == kept
        assert (mount / NOTES / "lost.json").exists()


def test_a_sync_that_failed_is_never_taken_for_done(faulty: Mount, rules: Rules) -> None:
    text = note_text(NOTES)
    with faulty as mount:
        with rules("s -wal 5"), refused(errno.EIO):
            write_fsynced(mount / NOTES / "a.json", text)
        # The disk says yes again, and may have lost what it failed to write.
        with refused(errno.EIO):
            write_fsynced(mount / NOTES / "b.json", text)
        with refused(errno.EIO):
            sync_root(mount)
        assert "and opened again" in mount.log()
        assert mount.staged() == [f"A {NOTES}/a", f"A {NOTES}/b"]
        refusal = mount.mstfs("umount", mount.path, code=2)
        assert "unmounted without publishing" in refusal.stderr
        mount.mstfs("umount", "--no-publish", mount.path)
        assert mount.ended() == 0
        mount.start()
        assert mount.staged() == [f"A {NOTES}/a", f"A {NOTES}/b"]
        write_fsynced(mount / NOTES / "c.json", text)
        sync_root(mount)
        assert mount.staged() == []


def syncs(path: Path) -> bool:
    """Whether a file can be written durably; if not, it says EIO."""
    try:
        write_fsynced(path, note_text(NOTES))
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False
    return True


def test_a_log_that_may_not_have_been_copied_is_kept(faulty: Mount, rules: Rules) -> None:
    large = os.urandom(20 << 20)
    with faulty as mount:
        kept = write_record(mount / NOTES / "kept.json")
        with rules("s .mstfs 5"):
            (mount / "scratch.bin").write_bytes(large)
            wait_for(lambda: not syncs(mount / NOTES / "probe.json"), "the copy of the log")
        assert not syncs(mount / NOTES / "probe.json")
        assert (mount / "scratch.bin").read_bytes() == large
        mount.mstfs("umount", "--no-publish", mount.path)
        assert mount.ended() == 0
        log = Path(f"{overlay_of(mount)}-wal")
        assert log.stat().st_size > 8 << 20
        mount.start()
        assert (mount / NOTES / "kept.json").read_bytes() == kept
        assert (mount / "scratch.bin").read_bytes() == large
        write_fsynced(mount / NOTES / "more.json", note_text(NOTES))
        mount.mstfs("umount", mount.path)
        assert mount.ended() == 0
        assert not log.exists()
        verify(overlay_of(mount))
        mount.start()


def test_a_publication_whose_sync_fails_is_one_head_or_the_other(faulty: Mount, rules: Rules) -> None:
    with faulty as mount:
        write_record(mount / NOTES / "a.json")
        before = files_below(mount.path)
        with rules("s -wal 5"), refused(errno.EIO):
            sync_root(mount)
        assert files_below(mount.path) == before
        assert mount.status()["last_publish_error"]
        mount.kill()
        verify(overlay_of(mount))
        mount.start()
        assert files_below(mount.path) == before
        sync_root(mount)
        assert mount.staged() == []


def test_an_overlay_that_cannot_be_read_is_an_error_that_passes(faulty: Mount, rules: Rules) -> None:
    texts = {}
    with faulty as mount:
        for number in range(40):
            texts[f"{number}.json"] = write_record(mount / NOTES / f"{number}.json", number, s="x" * 9000)
        sync_root(mount)
        mount.remount()
        with rules("r .mstfs 5", "r -wal 5"):
            for name in texts:
                with suppress(OSError):
                    assert (mount / NOTES / name).read_bytes() == texts[name]
        assert {name: (mount / NOTES / name).read_bytes() for name in texts} == texts
        assert (mount / NOTES / "0.json").stat().st_size == len(texts["0.json"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    point = tmp_path / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(point)]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield point
    subprocess.run(["umount", str(point)], check=True, timeout=30)


def test_a_full_disk_loses_nothing_that_was_acknowledged(car: Path, small_disk: Path) -> None:
    options = ("--no-publish-on-unmount", "--overlay", small_disk / "overlay")
    with Mount(car, *options) as mount:
        kept: dict[str, bytes] = {}
        full = 0
        for number in range(400):
            path = mount / NOTES / f"n{number % 300}.json"
            text = note_text(NOTES, number, {"s": "x" * 20_000})
            try:
                write_fsynced(path, text)
                kept[path.name] = text
            except OSError as error:
                assert error.errno == errno.ENOSPC, number  # noqa: PT017
                full += 1
            if number % 20 == 19:
                with suppress(OSError):
                    sync_root(mount)
        assert full
        assert kept
        for _ in range(2):
            assert {name: (mount / NOTES / name).read_bytes() for name in kept} == kept
            mount.kill()
            verify(small_disk / "overlay")
            subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True, timeout=30)
            mount.start()
        write_record(mount / NOTES / "more.json")
        sync_root(mount)
        assert mount.staged() == []
        mount.unmount()
        mount.start()
        assert {name: (mount / NOTES / name).read_bytes() for name in kept} == kept


# --- files that go away -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_an_overlay_that_was_deleted_takes_nothing_more(car: Path, suffix: str) -> None:
    with Mount(car, "--no-publish-on-unmount") as mount:
        kept = write_record(mount / NOTES / "kept.json")
        write_fsynced(mount / NOTES / "kept.json", kept)
        Path(f"{overlay_of(mount)}{suffix}").unlink()
        with refused(errno.EIO):
            write_record(mount / NOTES / "lost.json")
        with refused(errno.EIO):
            write_fsynced(mount / NOTES / "kept.json", kept)
        with refused(errno.EIO):
            sync_root(mount)
        assert LOST in mount.log()
        # What was there can still be read, and copied away.
        assert (mount / NOTES / "kept.json").read_bytes() == kept
        told = mount.mstfs("sync", mount.path, code=None)
        assert told.returncode
        assert LOST in told.stderr


def test_an_overlay_that_was_deleted_cannot_harm_the_next(car: Path) -> None:
    with Mount(car) as old:
        write_record(old / NOTES / "old.json")
        overlay_of(old).unlink()
        point = car.parent / "mnt2"
        point.mkdir()
        refusal = mstfs("mount", "--overlay", overlay_of(old), car, point, folder=car.parent, code=2)
        assert "is the log of an overlay that is gone" in refusal.stderr
        assert not overlay_of(old).exists()
        Path(f"{overlay_of(old)}-wal").unlink()
        old.leaves_with = 2
        with Mount(car, "--no-publish-on-unmount", point=point) as new:
            text = write_record(new / NOTES / "new.json")
            old.process.terminate()  # type: ignore[union-attr]
            assert old.ended() == 2
            assert LOST in old.log()
            write_fsynced(new / NOTES / "newer.json", text)
            new.kill()
            new.start()
            assert new.staged() == [f"A {NOTES}/new", f"A {NOTES}/newer"]
            verify(new.path)


@pytest.mark.long
def test_two_daemons_cannot_have_one_overlay(car: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.car"
    copy.write_bytes(car.read_bytes())
    linked = tmp_path / "linked.mstfs"
    point = tmp_path / "second"
    point.mkdir()
    # Of a CAR that is not mounted it is hoped, for 10 s, that a daemon is just letting go of its overlay.
    with Mount(car, "--no-publish-on-unmount") as mount:
        write_record(mount / NOTES / "a.json")
        os.link(overlay_of(mount), linked)
        for overlay in (overlay_of(mount), linked):
            done = mstfs("mount", "--overlay", overlay, copy, point, folder=tmp_path, code=3)
            assert f"(pid {mount.status()['pid']})" in done.stderr
            assert len(done.stderr.splitlines()) == 1
            assert not is_mounted(point)
        linked.unlink()
        write_record(mount / NOTES / "b.json")
        sync_root(mount)
        verify(mount.path)
    assert f"{NOTES}/b" in records_of(car)
