"""Archives of every make, and every way to ask for a mount of them."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from car_files import Block, car_v1, car_v2, multihash_index_sorted, offsets_of

from mount.mounting import (
    Mount,
    environment_of,
    files_below,
    has_ended,
    is_mounted,
    mstfs,
    records_of,
    run,
    trace_of,
    wait_for,
    write_record,
)
from mstfs.archive import Archive
from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.repo.sample import make_sample

PROFILE = "app.bsky.actor.profile/self.json"


def blocks_of(car: Path) -> tuple[list[Block], tuple[bytes, ...]]:
    """The blocks of a CAR in file order, and its roots."""
    with CarFile.open(car, use_sidecar=False) as file:
        return [(s.cid, file.read_raw(s.data_offset, s.length)) for s in file.sections()], file.roots


def shuffled(blocks: list[Block], roots: tuple[bytes, ...]) -> bytes:
    return car_v1(random.Random(1).sample(blocks, len(blocks)), roots)


def with_duplicates(blocks: list[Block], roots: tuple[bytes, ...]) -> bytes:
    return car_v1([*blocks[::-1], *blocks], roots)


def with_strangers(blocks: list[Block], roots: tuple[bytes, ...]) -> bytes:
    data = b"nobody links to this"
    return car_v1([(cids.for_block(data, cids.RAW), data), *blocks], roots)


def with_more_roots(blocks: list[Block], roots: tuple[bytes, ...]) -> bytes:
    return car_v1(blocks, (cids.for_block(b"a root that is not there", cids.RAW), *roots))


def version_2(blocks: list[Block], roots: tuple[bytes, ...]) -> bytes:
    return car_v2(car_v1(blocks, roots), gap=13)


def version_2_with_index(blocks: list[Block], roots: tuple[bytes, ...]) -> bytes:
    return car_v2(car_v1(blocks, roots), multihash_index_sorted(offsets_of(blocks, roots)))


def with_padding(blocks: list[Block], roots: tuple[bytes, ...]) -> bytes:
    return car_v1(blocks, roots) + bytes(100)


MAKES = [
    shuffled, with_duplicates, with_strangers, with_more_roots, version_2, version_2_with_index, with_padding,
]  # fmt: skip


@pytest.mark.parametrize("make", MAKES, ids=lambda make: make.__name__)
def test_every_make_of_car_shows_the_same(
    make: Callable[[list[Block], tuple[bytes, ...]], bytes], sample: Path, tmp_path: Path
) -> None:
    car = tmp_path / "made.car"
    car.write_bytes(make(*blocks_of(sample)))
    expected = records_of(sample)
    with Mount(car) as mount:
        shown = files_below(mount.path)
        assert len(shown) == len(expected)
        assert sorted(shown.values()) == sorted(expected.values())
        assert (mount / PROFILE).read_bytes() == expected[PROFILE.removesuffix(".json")]


def test_a_bare_tree_by_its_root_can_be_edited_and_published(sample: Path, tmp_path: Path) -> None:
    blocks, _ = blocks_of(sample)
    car = tmp_path / "rootless.car"
    car.write_bytes(car_v1(blocks, ()))
    with Archive.open(sample) as archive:
        data = cids.to_text(archive.head.data)
    refused = mstfs("mount", car, tmp_path, folder=tmp_path, code=None)
    assert refused.returncode in (2, 3)
    with Mount(car, "--root", data) as mount:
        assert mount.status()["kind"] == "bare"
        assert mount.state("") == {"cid": data, "state": "bare"}
        write_record(mount / "org.example.note/fresh.json")
        answer = mount.sync()
        assert (answer["kind"], answer["created"], answer["previous"]) == ("bare", 1, data)
        assert mount.state("")["cid"] == answer["root"] != data
    with Mount(car) as mount:
        assert (mount / ".mstfs/root").read_text().strip() == answer["root"]


def test_an_older_root_is_shown_as_it_was(car: Path) -> None:
    with Mount(car) as mount:
        before = (mount / ".mstfs/root").read_text().strip()
        shown = files_below(mount.path)
        (mount / PROFILE).unlink()
        after = mount.sync()["root"]
        write_record(mount / "org.example.note/staged.json")
        mount.mstfs("umount", "--no-publish", mount.path)
        mount.ended()
    with Mount(car, "--root", before) as mount:
        assert files_below(mount.path) == shown
        assert (mount / ".mstfs/root").read_text().strip() == before
        with pytest.raises(OSError, match="Read-only file system"):
            (mount / PROFILE).unlink()
    with Mount(car, "--root", after) as mount:
        assert not (mount / PROFILE).exists()
        assert mount.staged() == ["A org.example.note/staged"]


@pytest.mark.parametrize("options", [("--read-only",), ("-o", "ro"), ("-o", "noatime,ro,nodev")])
def test_a_read_only_mount_refuses_every_change(car: Path, options: tuple[str, ...]) -> None:
    with Mount(car, *options) as mount:
        collection = mount / "app.bsky.feed.post"
        refused: list[Callable[[], object]] = [
            lambda: (mount / PROFILE).write_text("{}"),
            lambda: (mount / PROFILE).unlink(),
            lambda: (mount / "x").touch(),
            lambda: (mount / "x").mkdir(),
            lambda: (mount / "x").symlink_to("y"),
            lambda: collection.rename(mount / "other"),
            lambda: os.truncate(mount / PROFILE, 0),
            lambda: os.utime(mount / PROFILE, (1, 1)),
            lambda: (mount / PROFILE).chmod(0o600),
        ]
        for change in refused:
            with pytest.raises(OSError, match="Read-only file system"):
                change()
        assert mount.status()["read_only"] is True
        assert "read" in mount.mstfs("sync", mount.path, code=2).stderr
        assert "read" in mount.mstfs("revert", mount / PROFILE, code=2).stderr
        assert (mount / PROFILE).stat().st_mode & 0o222 == 0
        with Mount(car, "--read-only", point=car.parent / "second") as second:
            assert files_below(second.path) == files_below(mount.path)
    # What saves time later may stand beside the CAR, but no overlay.
    beside = {path.name for path in car.parent.glob("*.mstfs*")}
    assert beside <= {"repo.car.mstfs-index", "repo.car.mstfs-listings"}


def test_read_only_beside_a_writer_shows_what_is_staged(car: Path) -> None:
    with Mount(car) as writer:
        text = write_record(writer / "org.example.note/staged.json")
        with Mount(car, "--read-only", point=car.parent / "reader") as reader:
            assert (reader / "org.example.note/staged.json").read_bytes() == text
            assert reader.staged() == ["A org.example.note/staged"]


def test_records_as_cbor(car: Path) -> None:
    with Archive.open(car) as archive:
        blocks = {f"{key}.cbor": archive.block(key) for key in archive.under("app.bsky")}
    with Mount(car, "--format", "cbor") as mount:
        assert files_below(mount / "app.bsky.feed.post") == {
            name.rpartition("/")[2]: block
            for name, block in blocks.items()
            if name.startswith("app.bsky.feed.post/")
        }
        name, block = next(iter(blocks.items()))
        collection = name.split("/")[0]
        shutil.copy(mount / name, mount / collection / "copy.cbor")
        with pytest.raises(OSError, match="Invalid argument"):
            (mount / collection / "bad.cbor").write_bytes(block + b"\0")
        assert mount.staged() == [f"A {collection}/copy"]
        assert mount.state(f"{collection}/bad.cbor")["state"] == "draft"
        mount.sync(code=1)
        assert (mount / collection / "copy.cbor").read_bytes() == block
    with Archive.open(car) as archive:
        assert archive.block(f"{collection}/copy") == block


def test_an_overlay_can_be_named_in_place_of_its_car(car: Path) -> None:
    overlay = car.with_name("edits.db")
    with Mount(car, "--overlay", overlay) as mount:
        write_record(mount / "org.example.note/mine.json")
        assert mount.overlay() == overlay
    assert not car.with_name("repo.car.mstfs").exists()
    with Mount(overlay) as mount:
        assert mount.status()["source"] == str(car)
        assert (mount / "org.example.note/mine.json").exists()
        assert overlay.stat().st_mode & 0o777 == 0o600
    with Mount(car) as mount:
        assert not (mount / "org.example.note/mine.json").exists()


def test_options_can_be_given_as_mount_does(car: Path) -> None:
    overlay = car.with_name("other.mstfs")
    with Mount(car, "-o", f"rw,overlay={overlay},format=cbor,noatime") as mount:
        assert mount.overlay() == overlay
        assert (mount / PROFILE).with_suffix(".cbor").exists()
    for words in (["-o", "format=xml"], ["-o", "publish_every=soon"], ["--root", "b1"]):
        done = mstfs("mount", *words, car, mount.path, folder=car.parent, code=2)
        assert len(done.stderr.splitlines()) == 1
    unknown = mstfs("mount", "-o", "no_such_option", car, mount.path, folder=car.parent, code=3)
    assert str(mount.path) in unknown.stderr
    assert not is_mounted(mount.path)


def test_names_that_need_care(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a folder, with\\odd=names"
    folder.mkdir()
    car = Path(shutil.copy2(sample, folder / "my repo,ro=1.car"))
    point = folder / "a mount, point"
    with Mount(car, point=point) as mount:
        write_record(mount / "org.example.note/x.json")
        answer = mount.sync()
        assert mount.status()["source"] == str(car)
        assert run("df", "--output=source", point).stdout.splitlines()[1] == str(car)
    with Archive.open(car) as archive:
        assert archive.root == answer["root"]


def test_inode_numbers_are_stable_across_remounts(car: Path) -> None:
    def numbers(mount: Mount) -> dict[str, int]:
        lines = run("find", ".", "-printf", "%i %p\n", cwd=mount.path).stdout.splitlines()
        return {line.partition(" ")[2]: int(line.partition(" ")[0]) for line in lines}

    with Mount(car) as mount:
        first = numbers(mount)
        assert len(set(first.values())) == len(first)
        write_record(mount / "org.example.note/fresh.json")
        (mount / PROFILE).write_bytes((mount / PROFILE).read_bytes().replace(b"Nobody", b"Somebody"))
        run("sed", "-i", "s/Somebody/Anybody/", mount / PROFILE)
        mount.remount()
        second = numbers(mount)
        assert second.pop("./org.example.note/fresh.json") not in first.values()
        assert second == first


def test_an_empty_repository(tmp_path: Path) -> None:
    car = tmp_path / "empty.car"
    make_sample(car, 0, 1)
    with Mount(car) as mount:
        assert os.listdir(mount.path) == []
        (mount / "org.example.note").mkdir()
        text = write_record(mount / "org.example.note/first.json")
        assert mount.sync()["created"] == 1
        assert files_below(mount.path) == {"org.example.note/first.json": text}
        (mount / "org.example.note/first.json").unlink()
        (mount / "org.example.note").rmdir()
        empty = mount.sync()
        assert (empty["deleted"], os.listdir(mount.path)) == (1, [])
        assert empty["root"] != mount.status()["data"]
    with Archive.open(car) as archive:
        assert list(archive) == []


def test_a_mount_in_the_background(car: Path) -> None:
    point = car.parent / "mnt"
    point.mkdir()
    before = trace_of(car)
    log = car.parent / "daemon.log"
    mstfs("mount", "--log-file", log, car, point, folder=car.parent)
    try:
        mount = Mount(car, point=point)
        pid = mount.status()["pid"]
        assert is_mounted(point)
        assert os.getsid(pid) == os.getpgid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}
        write_record(point / "org.example.note/x.json")
        done = mstfs("umount", point, folder=car.parent)
        assert "(unsigned)" in done.stdout
        assert has_ended(pid)
    finally:
        if is_mounted(point):
            run("fusermount3", "-u", "-z", point)
    assert "Traceback" not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    assert trace_of(car) == before


def test_the_log_of_a_mount_in_the_background_has_a_place(car: Path) -> None:
    point = car.parent / "mnt"
    point.mkdir()
    mstfs("mount", car, point, folder=car.parent)
    mstfs("umount", point, folder=car.parent)
    assert [path.name.endswith("mnt.log") for path in car.parent.rglob("*.log")] == [True]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_mount_in_the_foreground_ends_on_signals(car: Path, number: signal.Signals) -> None:
    with Mount(car) as mount:
        write_record(mount / "org.example.note/x.json")
        assert mount.process is not None
        mount.process.send_signal(number)
        assert mount.ended() == 0
        assert "published event 2 on unmounting" in mount.log()


def test_service_managers_are_told(car: Path) -> None:
    import socket

    point = car.parent / "mnt"
    point.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(car.parent / "notify"))
        manager.settimeout(30)
        environment = environment_of(car.parent) | {"NOTIFY_SOCKET": str(car.parent / "notify")}
        command = [sys.executable, "-P", "-m", "mstfs", "mount", "-f", str(car), str(point)]
        daemon = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            assert manager.recv(4096).startswith(b"READY=1\n")
            assert (point / PROFILE).exists()
            run("fusermount3", "-u", point)
            assert manager.recv(4096) == b"STOPPING=1"
            assert wait_for(lambda: daemon.poll() is not None, "the end of the daemon")
            assert daemon.returncode == 0
        finally:
            daemon.kill()
            daemon.wait()
            if is_mounted(point):
                run("fusermount3", "-u", "-z", point)
