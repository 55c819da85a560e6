"""Publishing: every way to ask for it, what comes of it, and what is kept when it goes wrong."""

import itertools
import json
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mount.mounting import (
    Mount,
    files_below,
    is_mounted,
    note_text,
    records_of,
    run,
    wait_for,
    write_record,
)
from mstfs.archive import Archive
from mstfs.blocks.car import CarFile
from mstfs.blocks.car_writer import write_car
from mstfs.codec import cid as cids
from mstfs.repo import commit as commits
from mstfs.repo import signing, tid
from mstfs.repo.head import read_head
from mstfs.repo.sample import signing_key_pem
from mstfs.repo.signing import Curve
from mstfs.repo.verify import verify_repository

PROFILE = "app.bsky.actor.profile/self.json"
KEY = "app.bsky.actor.profile/self"


def edit(mount: Mount) -> None:
    """One record new, one changed, one gone."""
    write_record(mount / "org.example.note/fresh.json")
    run("sed", "-i", "s/Nobody/Somebody/", mount / PROFILE)
    min((mount / "app.bsky.feed.post").iterdir()).unlink()


CHANGES = ["M app.bsky.actor.profile/self", "D app.bsky.feed.post/", "A org.example.note/fresh"]


def sync_with_mstfs(mount: Mount) -> None:
    done = mount.mstfs("sync", mount.path)
    root = (mount / ".mstfs/root").read_text().strip()
    assert done.stdout == f"{root}  (unsigned; 1 created, 1 updated, 1 deleted)\n"


def sync_with_coreutils(mount: Mount) -> None:
    run("sync", mount.path)
    assert mount.staged() == []


def umount_with_mstfs(mount: Mount) -> None:
    done = mount.mstfs("umount", mount.path)
    assert done.stdout.endswith("  (unsigned)\n")
    assert mount.ended() == 0


def umount_with_fusermount(mount: Mount) -> None:
    run("fusermount3", "-u", mount.path)
    assert mount.ended() == 0


def terminate(mount: Mount) -> None:
    assert mount.process is not None
    mount.process.send_signal(signal.SIGTERM)
    assert mount.ended() == 0


WAYS = [sync_with_mstfs, sync_with_coreutils, umount_with_mstfs, umount_with_fusermount, terminate]


@pytest.mark.parametrize("publish", WAYS, ids=lambda way: way.__name__)
def test_every_way_to_publish(car: Path, publish: Callable[[Mount], None]) -> None:
    before = records_of(car)
    with Mount(car) as mount:
        old = (mount / ".mstfs/root").read_text().strip()
        edit(mount)
        staged = mount.staged()
        assert [line[: len(wanted)] for line, wanted in zip(staged, CHANGES, strict=True)] == CHANGES
        publish(mount)
    after = records_of(car)
    gone = staged[1][2:]
    assert before.keys() - after.keys() == {gone}
    assert after.keys() - before.keys() == {"org.example.note/fresh"}
    assert {key for key in before.keys() & after.keys() if before[key] != after[key]} == {KEY}
    assert b"Somebody" in after[KEY]
    with Archive.open(car) as archive:
        newest, oldest = archive.history()
        assert (newest.kind, newest.created, newest.updated, newest.deleted) == ("publish", 1, 1, 1)
        assert (oldest.kind, cids.to_text(oldest.root)) == ("import", old)
        archive.workspace.history.check()
        head, first = archive.head, read_head(archive.workspace.blocks, oldest.root)
        assert head.commit is not None
        assert first.commit is not None
        assert (head.commit.did, head.commit.prev, head.kind) == (first.commit.did, None, "unsigned")
        assert head.commit.rev is not None
        assert first.commit.rev is not None
        assert head.commit.rev > first.commit.rev
        assert tid.is_valid(head.commit.rev)
        assert len(archive.workspace.edits) == 0


def test_publishing_now_and_then(car: Path) -> None:
    with Mount(car, "--publish-every", "0.05") as mount:
        for number in range(2):
            before = mount.status()["sequence"]
            write_record(mount / f"org.example.note/{number}.json")
            wait_for(lambda before=before: mount.status()["sequence"] > before, "a publication")  # type: ignore[misc]
            wait_for(lambda: mount.staged() == [], "the edits to be cleared")
        sequence = mount.status()["sequence"]
        assert sequence == 3
    assert "org.example.note/1" in records_of(car)


def test_nothing_staged_is_nothing_published(car: Path) -> None:
    with Mount(car) as mount:
        root = (mount / ".mstfs/root").read_text().strip()
        assert mount.mstfs("sync", mount.path).stdout == f"{root}  (nothing to publish)\n"
        run("sync", mount.path)
        write_record(mount / "org.example.note/fresh.json")
        (mount / "org.example.note/fresh.json").unlink()
        assert mount.sync()["changed"] is False
        assert mount.status()["sequence"] == 1
        mount.unmount()
    with Archive.open(car) as archive:
        assert len(list(archive.history())) == 1


def test_a_message_is_kept(car: Path) -> None:
    with Mount(car) as mount:
        edit(mount)
        mount.sync("-m", "wie schön ☕")
    with Archive.open(car) as archive:
        assert next(archive.history()).message == "wie schön ☕"


def test_edits_can_be_left_staged(car: Path) -> None:
    with Mount(car, "--no-publish-on-unmount") as mount:
        edit(mount)
        staged = mount.staged()
        terminate(mount)
    with Mount(car) as mount:
        assert mount.staged() == staged
        mount.mstfs("umount", "--no-publish", mount.path)
        assert mount.ended() == 0
    with Mount(car) as mount:
        assert mount.staged() == staged
        with (mount / PROFILE).open("rb"):
            done = mount.mstfs("umount", "--no-publish", mount.path, code=3)
            assert "busy" in done.stderr
        run("fusermount3", "-u", mount.path)
        assert mount.ended() == 0
    with Archive.open(car) as archive:
        assert len(list(archive.history())) == 2


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_a_signing_key_signs(car: Path, curve: Curve) -> None:
    key = signing.generate(curve)
    path = car.with_name("key")
    path.write_text(signing.to_multikey(key))
    path.chmod(0o600)
    with Mount(car, "--signing-key", path) as mount:
        assert mount.status()["signing"] == key.did_key
        edit(mount)
        answer = mount.sync()
        assert answer["kind"] == mount.status()["kind"] == mount.state("")["state"] == "signed"
        block = (mount / ".mstfs/blocks" / answer["root"]).read_bytes()
        assert signing.to_multikey(key) not in mount.log()
        assert mount.process is not None
        assert (
            signing.to_multikey(key).encode() not in Path(f"/proc/{mount.process.pid}/cmdline").read_bytes()
        )
    commit = commits.decode(block)
    assert commit.sig is not None
    signing.verify(key.did_key, commits.unsigned_bytes(commit), commit.sig)
    exported = car.with_name("exported.car")
    with Archive.open(car) as archive:
        archive.export(exported)
    with CarFile.open(exported) as file:
        assert verify_repository(file, file.roots[0], key.did_key).defects == ()


def test_signing_keys_that_are_no_good(car: Path) -> None:
    key = car.with_name("key.pem")
    key.write_bytes(signing_key_pem(1))
    key.chmod(0o644)
    with Mount(car, "--signing-key", key) as mount:
        assert "can be read by others" in mount.log()
        assert mount.status()["signing"].startswith("did:key:z")
    key.write_text("no key")
    for path in (key, car.with_name("absent")):
        done = mount.mstfs("mount", "--signing-key", path, car, mount.path, code=2)
        assert str(path) in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not is_mounted(mount.path)


def test_the_same_edits_in_any_order_give_the_same_tree(car: Path, tmp_path: Path) -> None:
    with Archive.open(car) as archive:
        keys = list(archive)
    rng = random.Random(4)
    changes: list[tuple[str, bytes | None]] = [(key, None) for key in rng.sample(keys, 20)]
    changes += [
        (f"org.example.order/{number}", note_text("org.example.order", number)) for number in range(40)
    ]
    roots = set()
    for number in range(3):
        rng.shuffle(changes)
        overlay = tmp_path / f"{number}.mstfs"
        with Mount(car, "--overlay", overlay) as mount:
            (mount / "org.example.order").mkdir()
            paths = {mount.state(path)["key"]: path for path in files_below(mount.path)}
            for part in (changes[:30], changes[30:]) if number == 2 else (changes,):
                for key, text in part:
                    if text is None:
                        (mount / paths[key]).unlink()
                    else:
                        (mount / f"{key}.json").write_bytes(text)
                mount.sync()
            roots.add(mount.status()["data"])
    assert len(roots) == 1


def test_history_revert_and_checkout(car: Path) -> None:
    with Mount(car) as mount:
        first = files_below(mount.path)
        edit(mount)
        mount.sync()
        second = files_below(mount.path)
        (mount / "org.example.two").mkdir()
        edit_two = write_record(mount / "org.example.two/a.json")
        mount.sync()
        assert os.listdir(mount / ".mstfs/history") == ["1", "2", "3"]
        assert files_below(mount / ".mstfs/history/1") == first
        assert files_below(mount / ".mstfs/history/2") == second
        assert (mount / ".mstfs/history/3/org.example.two/a.json").read_bytes() == edit_two

        run("sed", "-i", "s/Somebody/Anybody/", mount / PROFILE)
        (mount / "org.example.two/b.json").write_bytes(edit_two)
        done = mount.mstfs("checkout", mount.path, "1", code=2)
        assert "2 edits are staged" in done.stderr
        reverted = mount.mstfs("revert", mount / PROFILE, mount / "org.example.two").stdout.split()
        assert sorted(reverted) == sorted([str(mount / PROFILE), str(mount / "org.example.two/b.json")])
        assert mount.staged() == []
        assert b"Somebody" in (mount / PROFILE).read_bytes()
        assert not (mount / "org.example.two/b.json").exists()
        assert mount.mstfs("revert", mount.path, code=2).stderr.count("\n") == 1

        answer = json.loads(mount.mstfs("checkout", "--json", mount.path, "1").stdout)
        assert (answer["sequence"], answer["root"]) == (4, (mount / ".mstfs/root").read_text().strip())
        assert files_below(mount.path) == first
        # A folder that was made by hand is there until it is removed by hand.
        (mount / "org.example.two").rmdir()
        assert sorted(os.listdir(mount.path)) == sorted({path.split("/")[0] for path in first})
        assert mount.sync()["changed"] is False
        write_record(mount / "org.example.note/later.json")
        later = mount.sync()
        assert (later["created"], mount.status()["sequence"]) == (1, 5)
        revs = [read_rev(mount, number) for number in (2, 3, 5)]
        assert revs == sorted(set(revs)), "a rev never goes back, not even after a checkout"
        mount.remount()
        assert files_below(mount.path) == first | {
            "org.example.note/later.json": note_text("org.example.note")
        }
        for wrong in ("99", "bafyreihxbtss7zvgu7gzosdtozjfgcp3fjklj5lnyrptythlwizb2cumkm", "nonsense"):
            mount.mstfs("checkout", mount.path, wrong, code=2)


def read_rev(mount: Mount, number: int) -> str:
    with Archive.open(mount.source) as archive:
        event = archive.workspace.history.read(number)
        assert event is not None
        assert event.rev is not None
        return event.rev


def test_a_checkout_can_keep_edits(car: Path) -> None:
    with Mount(car) as mount:
        edit(mount)
        mount.sync()
        text = write_record(mount / "org.example.note/kept.json", 5)
        mount.mstfs("checkout", "--force", mount.path, "1")
        assert mount.staged() == ["A org.example.note/kept"]
        assert (mount / "org.example.note/kept.json").read_bytes() == text
        assert not (mount / "org.example.note/fresh.json").exists()
        assert b"Nobody" in (mount / PROFILE).read_bytes()


def test_edits_made_while_publishing_stay_staged(car: Path) -> None:
    with Mount(car) as mount:
        (mount / "org.example.busy").mkdir()
        stop = threading.Event()
        written: dict[str, bytes] = {}

        def write() -> None:
            for number in itertools.count():
                name = f"{number % 50}.json"
                written[name] = note_text("org.example.busy", number)
                (mount / "org.example.busy" / name).write_bytes(written[name])
                if number % 7 == 3:
                    victim = f"{(number * 3) % 50}.json"
                    (mount / "org.example.busy" / victim).unlink(missing_ok=True)
                    written.pop(victim, None)
                if stop.is_set():
                    return

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(6):
                mount.sync()
        finally:
            stop.set()
            writer.join()
        assert files_below(mount / "org.example.busy") == written
        mount.sync()
        assert files_below(mount / "org.example.busy") == written
        with Archive.open(car) as archive:
            archive.workspace.history.check()
            assert len(list(archive.history())) >= 3
    found = {key: text for key, text in records_of(car).items() if key.startswith("org.example.busy/")}
    assert found == {f"org.example.busy/{name[:-5]}": text for name, text in written.items()}


def test_drafts_do_not_block_other_edits(car: Path) -> None:
    with Mount(car) as mount:
        (mount / "org.example.draft").mkdir()
        with pytest.raises(OSError, match="Invalid argument"):
            (mount / "org.example.draft/a.json").write_text('{"$type": "org.example.draft",\n "n": oops}')
        write_record(mount / "org.example.draft/b.json")
        done = mount.mstfs("sync", mount.path, code=1)
        assert "1 created" in done.stdout
        assert "draft, not published: org.example.draft/a.json: line 2, column 7" in done.stderr
        assert run("sync", mount.path, code=1).stderr.endswith("Invalid argument\n")
        mount.unmount()
    assert "org.example.draft/b" in records_of(car)
    assert "org.example.draft/a" not in records_of(car)


def test_unmounting_while_files_are_open(car: Path) -> None:
    with Mount(car) as mount:
        text = write_record(mount / "org.example.note/fresh.json")
        with (mount / "org.example.note/open.json").open("wb", buffering=0) as file:
            file.write(text)
            done = mount.mstfs("umount", mount.path, code=3)
            assert "busy" in done.stderr
            assert len(done.stderr.splitlines()) == 1
            mount.mstfs("umount", "--lazy", mount.path)
            assert not is_mounted(mount.path)
        assert mount.ended() == 0
    assert records_of(car)["org.example.note/open"] == text


def test_what_is_open_when_the_daemon_is_told_to_end_is_kept(car: Path) -> None:
    text = note_text("org.example.note")
    with Mount(car) as mount:
        file = os.open(mount / "org.example.note/open.json", os.O_WRONLY | os.O_CREAT)
        os.write(file, text)
        terminate(mount)
        with pytest.raises(OSError, match="not connected"):
            os.write(file, b"x")
        with pytest.raises(OSError, match="not connected"):
            os.close(file)
        assert not is_mounted(mount.path)
    assert records_of(car)["org.example.note/open"] == text


def test_other_commands_on_what_is_no_mount(car: Path, tmp_path: Path) -> None:
    with Mount(car) as mount:
        for command in ("sync", "umount", "status"):
            done = mount.mstfs(command, tmp_path / "absent", code=None)
            assert done.returncode in (2, 3)
            done = mount.mstfs(command, tmp_path, code=3)
            assert str(tmp_path) in done.stderr
            assert len(done.stderr.splitlines()) == 1
        assert mount.mstfs("revert", mount / ".mstfs/root", code=2).stderr.count("\n") == 1


def test_two_that_publish_at_once(car: Path) -> None:
    with Mount(car) as mount:
        for round_ in range(3):
            write_record(mount / f"org.example.note/r{round_}.json")
            command = ["sync", str(mount.path)]
            others = [subprocess.Popen(command) for _ in range(3)]
            answer = mount.sync()
            assert [other.wait(60) for other in others] == [0, 0, 0]
            assert answer["root"] == (mount / ".mstfs/root").read_text().strip()
        assert mount.status()["sequence"] == 4


def test_a_checkout_of_a_root_that_the_history_does_not_know(car: Path, tmp_path: Path) -> None:
    newer, both = tmp_path / "newer.car", tmp_path / "both" / "both.car"
    both.parent.mkdir()
    with Archive.open(car, mode="write") as archive:
        archive["org.example.note/fresh"] = {"$type": "org.example.note", "text": "newer"}
        archive.publish()
        archive.export(newer)
    with CarFile.open(car) as first, CarFile.open(newer) as second, both.open("wb") as target:
        blocks = [
            (section.cid, file.read_raw(section.data_offset, section.length))
            for file in (first, second)
            for section in file.sections()
        ]
        write_car(target, (*first.roots, *second.roots), blocks)
        wanted = cids.to_text(second.roots[0])
    with Mount(both) as mount:
        assert not (mount / "org.example.note/fresh.json").exists()
        mount.mstfs("checkout", mount.path, wanted)
        assert mount.status()["root"] == wanted
        assert "newer" in (mount / "org.example.note/fresh.json").read_text()
