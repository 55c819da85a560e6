"""Input that is no good: one sentence that names the file, the right exit code, and nothing is changed."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from car_files import car_v1, overwrite

from mount.mounting import (
    Mount,
    files_below,
    is_mounted,
    mstfs,
    note_text,
    records_of,
    run,
    trace_of,
    write_record,
)
from mstfs.archive import Archive
from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.repo.sample import make_sample

PROFILE = "app.bsky.actor.profile/self.json"


def refused(
    car: Path, code: int, *options: object, point: Path | None = None, names: Path | None = None
) -> str:
    """A mount that must fail with this exit code, in one sentence that names a file; returns the sentence."""
    if point is None:
        point = car.parent / "mnt"
        point.mkdir(exist_ok=True)
    kept = {path: trace_of(path) for path in car.parent.iterdir() if path.is_file() and path.suffix == ".car"}
    log = car.parent / "mount.log"
    for how in (["-f"], ["--log-file", log]):
        done = mstfs("mount", *how, *options, car, point, folder=car.parent, code=code)
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert str(names or car) in lines[0], lines[0]
        assert lines[0].startswith("mstfs: ")
        assert not is_mounted(point)
    assert not log.exists() or "Traceback" not in log.read_text()
    assert kept == {path: trace_of(path) for path in kept}
    return lines[0]


def test_files_that_are_no_archive(tmp_path: Path, car: Path) -> None:
    data = car.read_bytes()
    cases = {
        "text.car": b"This is no CAR.\n" * 100,
        "empty.car": b"",
        "short.car": data[:30],
        "header.car": data[:59],
        "zeros.car": bytes(5000),
        "huge-header.car": b"\xff\xff\xff\xff\x7f" + data,
    }
    for name, content in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        refused(path, 2)
        assert not (tmp_path / f"{name}.mstfs").exists(), "no overlay is left behind"
    refused(tmp_path / "absent.car", 2)
    refused(tmp_path, 2, point=tmp_path / "mnt")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", 2)


def test_a_torn_archive_shows_what_is_left(tmp_path: Path) -> None:
    whole = tmp_path / "whole.car"
    make_sample(whole, 120, 3)
    expected = records_of(whole)
    path = tmp_path / "torn.car"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with Mount(path) as mount:
        assert "torn" in mount.status()
        assert mount.status()["torn"]
        found, _ = try_to_read(mount)
        assert 0 < len(found) < len(expected)
        assert set(found.values()) <= set(expected.values())
        run("find", mount.path, "-type", "f", "-size", "+0", code=None)


def test_roots_that_are_not_there(tmp_path: Path, car: Path) -> None:
    absent = cids.to_text(cids.for_block(b"absent"))
    assert absent in refused(car, 2, "--root", absent)
    with CarFile.open(car, use_sidecar=False) as file:
        blocks = [(s.cid, file.read_raw(s.data_offset, s.length)) for s in file.sections()]
        root = file.roots[0]
    rootless = tmp_path / "rootless.car"
    rootless.write_bytes(car_v1([block for block in blocks if block[0] != root], [root]))
    assert cids.to_text(root) in refused(rootless, 2)
    none = tmp_path / "none.car"
    none.write_bytes(car_v1(blocks))
    assert "--root" in refused(none, 2)
    with Archive.open(car) as archive:
        record = archive.workspace.staged.get(b"app.bsky.actor.profile/self")
    assert record is not None
    refused(car, 2, "--root", cids.to_text(record))


def test_mount_points_that_are_none(tmp_path: Path, car: Path) -> None:
    absent, full, file = tmp_path / "absent", tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "something").write_text("precious")
    file.write_text("precious")
    for point in (absent, full, file):
        refused(car, 3, point=point, names=point)
    assert (full / "something").read_text() == file.read_text() == "precious"
    assert not list(tmp_path.glob("repo.car.mstfs")), "no overlay was made for nothing"
    with Mount(car, "-o", "nonempty", point=full) as mount:
        assert "something" not in os.listdir(full)
        done = mstfs("mount", car, full, folder=tmp_path, code=3)
        assert "busy" in done.stderr
        assert mount.staged() == []
    assert os.listdir(full) == ["something"]


def test_overlays_that_belong_elsewhere(tmp_path: Path, car: Path) -> None:
    other = tmp_path / "other.car"
    make_sample(other, 10, 99)
    with Mount(other) as mount:
        overlay = mount.overlay()
        write_record(mount / "org.example.note/x.json")
    assert str(other) in refused(car, 2, "--overlay", overlay, names=overlay)
    stranger = tmp_path / "stranger.db"
    with sqlite3.connect(stranger) as database:
        database.execute("CREATE TABLE precious (x)")
    database.close()
    before = trace_of(stranger)
    refused(car, 2, "--overlay", stranger, names=stranger)
    refused(stranger, 2)
    text = tmp_path / "text"
    text.write_text("not a database")
    refused(car, 2, "--overlay", text, names=text)
    link = tmp_path / "link"
    link.symlink_to(stranger)
    refused(car, 2, "--overlay", link, names=link)
    refused(car, 2, "--overlay", tmp_path, names=tmp_path)
    refused(car, 2, "--overlay", tmp_path / "no/such/folder", names=tmp_path / "no/such/folder")
    assert trace_of(stranger) == before
    assert text.read_text() == "not a database"
    other.rename(tmp_path / "gone.car")
    refused(overlay, 2)


def test_an_overlay_that_is_damaged(car: Path) -> None:
    with Mount(car) as mount:
        overlay = mount.overlay()
        for number in range(200):
            write_record(mount / f"org.example.note/{number}.json")
    size = overlay.stat().st_size
    overwrite(overlay, 4096, os.urandom(size // 2))
    refused(car, 2, names=overlay)
    with Mount(car, "--overlay", car.with_name("fresh.mstfs")) as mount:
        assert (mount / PROFILE).exists()


def test_a_second_daemon_on_one_overlay(car: Path) -> None:
    with Mount(car) as mount:
        second = car.parent / "second"
        second.mkdir()
        done = mstfs("mount", car, second, folder=car.parent, code=3)
        assert str(mount.overlay()) in done.stderr
        assert mount.process is not None
        assert str(mount.process.pid) in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not is_mounted(second)
        write_record(mount / "org.example.note/x.json")
        assert mount.sync()["created"] == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes file systems in memory, given options of mount(8); they are gone afterwards."""
    made: list[Path] = []

    def make(options: str) -> Path:
        path = tmp_path / f"disk{len(made)}"
        path.mkdir()
        run("mount", "-t", "tmpfs", "-o", options, "tmpfs", path)
        made.append(path)
        return path

    yield make
    for path in made:
        run("umount", path)


def fill(disk: Path) -> None:
    """Use up all the room that is left."""
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))


def write_many(collection: Path) -> None:
    """Write records that are too many for a small disk."""
    for number in range(500):
        write_record(collection / f"{number}.json", number, pad="x" * 300_000)


needs_root = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount a small disk"),
    pytest.mark.may_skip,
]


class TestDisks:
    """What other disks do to a mount."""

    pytestmark = needs_root

    def test_a_folder_that_cannot_be_written_to(
        self, car: Path, small_disk: Callable[[str], Path], tmp_path: Path
    ) -> None:
        disk = small_disk("size=4m")
        copy = Path(shutil.copy2(car, disk / "repo.car"))
        run("mount", "-o", "remount,ro", disk)
        with Mount(copy, folder=tmp_path) as mount:
            assert len(files_below(mount.path)) == len(records_of(car))
            write_record(mount / "org.example.note/x.json")
            assert mount.overlay().is_relative_to(tmp_path / "state")
            mount.sync()
        assert os.listdir(disk) == ["repo.car"]
        with Mount(copy, folder=tmp_path) as mount:
            assert (mount / "org.example.note/x.json").exists()
        overlay = disk / "repo.mstfs"
        done = mstfs("mount", "--overlay", overlay, copy, tmp_path / "mnt", folder=tmp_path, code=None)
        assert done.returncode in (2, 3)
        assert str(overlay) in done.stderr

    def test_a_full_disk(self, car: Path, small_disk: Callable[[str], Path]) -> None:
        disk = small_disk("size=8m")
        overlay = disk / "o.mstfs"
        with Mount(car, "--overlay", overlay) as mount:
            text = write_record(mount / "org.example.note/small.json")
            mount.sync()
            with pytest.raises(OSError, match="No space left"):
                (mount / "big").write_bytes(os.urandom(30 << 20))
            (mount / "big").unlink(missing_ok=True)
            fill(disk)
            with pytest.raises(OSError, match="No space left"):
                write_many(mount / "org.example.note")
            assert (mount / "org.example.note/small.json").read_bytes() == text
            kept = {name: data for name, data in files_below(mount / "org.example.note").items() if data}
            done = mount.mstfs("sync", mount.path, code=None)
            assert done.returncode in (0, 3)
            assert done.returncode == 0 or "full" in done.stderr
            (disk / "filler").unlink()
            after = write_record(mount / "org.example.note/after.json")
            mount.mstfs("sync", mount.path)
            assert (mount / "org.example.note/after.json").read_bytes() == after
            mount.remount()
            again = files_below(mount / "org.example.note")
            assert {name: again[name] for name in kept} == kept
            assert again["after.json"] == after

    def test_a_disk_that_is_full_from_the_start(self, car: Path, small_disk: Callable[[str], Path]) -> None:
        disk = small_disk("size=64k")
        fill(disk)
        overlay = disk / "o.mstfs"
        sentence = refused(car, 3, "--overlay", overlay, names=overlay)
        assert "full" in sentence


def try_to_read(mount: Mount) -> tuple[dict[str, bytes], list[str]]:
    """Contents of every file that can be read, and the names of those that are errors of their own."""
    found, failed = {}, []
    for folder, _, names in os.walk(mount.path):
        for name in names:
            file = Path(folder) / name
            try:
                found[str(file.relative_to(mount.path))] = file.read_bytes()
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                failed.append(str(file.relative_to(mount.path)))
    return found, failed


def damaged(car: Path, *keys: str) -> list[bytes]:
    """Change a byte in the blocks of these keys; their CIDs."""
    found = []
    with Archive.open(car) as archive:
        for key in keys:
            cid = archive.workspace.staged.get(key.encode())
            assert cid is not None
            found.append(cid)
    with CarFile.open(car, use_sidecar=False) as file:
        places = [(s.cid, s.data_offset + s.length // 2) for s in file.sections() if s.cid in found]
    for _, offset in places:
        byte = car.read_bytes()[offset]
        overwrite(car, offset, bytes([byte ^ 1]))
    return found


def test_a_corrupt_record_is_an_error_of_its_own(car: Path) -> None:
    expected = records_of(car)
    car.with_name("repo.car.mstfs-index").unlink(missing_ok=True)
    key = "app.bsky.actor.profile/self"
    cid = cids.to_text(damaged(car, key)[0])
    with Mount(car) as mount:
        for _ in range(2):
            done = run("cat", mount / PROFILE, code=1)
            assert done.stderr.endswith("Input/output error\n")
            assert done.stdout == ""
        assert (mount / PROFILE).parent.exists()
        assert os.listdir((mount / PROFILE).parent) == ["self.json"]
        assert cid in mount.log()
        assert cid in mount.state(PROFILE)["error"]
        with pytest.raises(OSError, match="Input/output"):
            (mount / ".mstfs/blocks" / cid).read_bytes()
        copied = run("cp", "-r", mount.path, car.parent / "copy", code=1)
        assert len(copied.stderr.splitlines()) == 1
        assert len(files_below(car.parent / "copy")) == len(expected) - 1
    with Mount(car, "--read-only") as mount:
        for _ in range(2):
            assert run("cat", mount / PROFILE, code=1).stderr.endswith("Input/output error\n")
        assert len(try_to_read(mount)[0]) == len(expected) - 1
    with Mount(car) as mount:
        run("mv", mount / PROFILE, mount / "app.bsky.actor.profile/other.json")
        run("mv", mount / "app.bsky.actor.profile/other.json", mount / PROFILE)
        with pytest.raises(OSError, match="Input/output"):
            (mount / PROFILE).rename(mount / "scratch")
        with pytest.raises(OSError, match="Input/output"), (mount / PROFILE).open("ab") as file:
            file.write(b" ")
        (mount / PROFILE).write_bytes(note_text("app.bsky.actor.profile"))
        assert mount.staged() == [f"M {key}"]
        mount.sync()
        assert (mount / PROFILE).read_bytes() == note_text("app.bsky.actor.profile")
        (mount / PROFILE).unlink()
        assert mount.sync()["deleted"] == 1


def test_missing_blocks(car: Path, tmp_path: Path) -> None:
    with Archive.open(car) as archive:
        expected = {key: archive.json(key).encode() for key in archive}
        lost = archive.workspace.staged.get(b"org.example.note/self")
        data = archive.head.data
        nodes = {cid for cid, _ in archive.workspace.tree.nodes(data)} - {data}
    with CarFile.open(car, use_sidecar=False) as file:
        blocks = [(s.cid, file.read_raw(s.data_offset, s.length)) for s in file.sections()]
        roots = file.roots
    node = max(nodes, key=lambda cid: next(len(block) for found, block in blocks if found == cid))
    partial = tmp_path / "partial.car"
    partial.write_bytes(car_v1([block for block in blocks if block[0] not in (lost, node)], roots))
    with Mount(partial) as mount:
        done = run("find", ".", "-type", "f", cwd=mount.path)
        assert 0 < len(done.stdout.splitlines()) < len(expected)
        with pytest.raises(OSError, match="Input/output"):
            (mount / "org.example.note/self.json").read_bytes()
        readable, failed = try_to_read(mount)
        assert failed == ["org.example.note/self.json"]
        assert len(readable) == len(done.stdout.splitlines()) - 1
        assert set(readable.values()) <= set(expected.values())
        assert cids.to_text(node) in mount.log()
        assert mount.mstfs("sync", mount.path).stdout.endswith("(nothing to publish)\n")
        write_record(mount / "org.example.note/zzz.json")
        done = mount.mstfs("sync", mount.path, code=None)
        assert done.returncode in (0, 2, 3)
        assert (mount / "org.example.note/zzz.json").exists()
        mount.mstfs("umount", "--no-publish", mount.path)
        assert mount.ended() == 0


def test_a_tree_that_lost_its_top_says_so(car: Path, tmp_path: Path) -> None:
    with Archive.open(car) as archive:
        data = archive.head.data
    with CarFile.open(car, use_sidecar=False) as file:
        blocks = [(s.cid, file.read_raw(s.data_offset, s.length)) for s in file.sections()]
        roots = file.roots
    topless = tmp_path / "topless.car"
    topless.write_bytes(car_v1([block for block in blocks if block[0] != data], roots))
    with Mount(topless) as mount:
        os.listdir(mount.path)
        assert cids.to_text(data) in mount.log()


def test_a_car_that_is_cut_while_it_is_mounted(car: Path) -> None:
    with Mount(car) as mount:
        mount.before = None
        os.truncate(car, 200)
        found, failed = try_to_read(mount)
        assert failed or not found, "nothing was read before, so nothing can be shown"
        assert mount.status()["root"]
