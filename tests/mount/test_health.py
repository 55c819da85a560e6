"""What a daemon tells of itself: counters, a quiet log, and what it is doing when it is asked."""

import errno
import json
import os
import signal
from pathlib import Path

import pytest

from mount.mounting import Mount, files_below, is_mounted, mstfs, refused, run, wait_for, write_record
from mount.test_bad_input import damaged
from mstfs.codec import cid as cids

PROFILE = "app.bsky.actor.profile/self.json"


def test_the_status_counts(car: Path) -> None:
    with Mount(car) as mount:
        before = mount.status()
        assert before["errors"] == 0
        assert before["last_publish"]["kind"] == "import"
        write_record(mount / "org.example.note/new.json")
        for _ in range(3):
            run("sh", "-c", f"cat '{mount / PROFILE}' > /dev/null")
        now = mount.status()
        assert now["staged"] == {"put": 1, "delete": 0}
        asked, earlier = now["requests"], before["requests"]
        assert asked["total"] == sum(number for name, number in asked.items() if name != "total")
        assert asked["create"] == earlier.get("create", 0) + 1
        assert asked["write"] == earlier.get("write", 0) + 1
        assert asked["total"] > earlier["total"] + 3
        assert now["cache"]["misses"] > before["cache"]["misses"]
        root = mount.sync()["root"]
        last = mount.status()["last_publish"]
        assert (last["root"], last["kind"], last["sequence"]) == (root, "publish", before["sequence"] + 1)
        (mount / "app.bsky.feed.post").rename(mount / "org.example.moved")
        assert files_below(mount / "org.example.moved")
        assert mount.status()["cache"]["hits"] > now["cache"]["hits"]
        assert mount.status()["errors"] == 0


def test_the_log_is_quiet_while_all_goes_well(car: Path) -> None:
    with Mount(car) as mount:
        files_below(mount.path)
        write_record(mount / "org.example.note/new.json")
        (mount / "scratch").write_bytes(b"x")
        for code in ("none", "x" * 256):
            assert not os.access(mount / "org.example.note" / code, os.R_OK)
        (mount / "org.example.note/new.json").unlink()
        assert mount.log() == ""
        write_record(mount / "org.example.note/new.json")
        mount.sync()
        line = mount.log()
        assert line.count("\n") == 1
        assert " INFO published " in line


def test_the_log_names_the_cid_and_the_path_once(car: Path) -> None:
    car.with_name("repo.car.mstfs-index").unlink(missing_ok=True)
    cid = cids.to_text(damaged(car, "app.bsky.actor.profile/self")[0])
    with Mount(car) as mount:
        for _ in range(5):
            run("cat", mount / PROFILE, code=1)
        lines = [line for line in mount.log().splitlines() if " ERROR open of " in line]
        assert len(lines) == 1
        assert lines[0].endswith(f" path={PROFILE} cid={cid}")
        assert mount.status()["errors"] >= 5


def test_a_name_cannot_forge_a_line(car: Path) -> None:
    with Mount(car) as mount:
        (mount / "work").mkdir()
        (mount / "work/evil\n2001-01-01T00:00:00.000Z ERROR forged").write_bytes(b"{")
        with refused(22):
            (mount / "work/evil\n2001-01-01T00:00:00.000Z ERROR forged").rename(mount / PROFILE)
        assert "forged" in mount.log()
        assert not [line for line in mount.log().splitlines() if line.startswith("2001")]


def dump_of(mount: Mount) -> str:
    """What the daemon logs on SIGUSR1."""
    assert mount.process is not None
    before = len(mount.log())
    mount.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: "end of the dump" in mount.log()[before:], "a dump")
    return mount.log()[before:]


@pytest.mark.parametrize("options", [(), ("--read-only",)])
def test_sigusr1_says_what_the_daemon_is_doing(car: Path, options: tuple[str, ...]) -> None:
    with Mount(car, *options) as mount:
        (mount / PROFILE).read_bytes()
        dump_of(mount)
        dump = dump_of(mount)
        assert "Current thread 0x" in dump
        assert "mstfs/daemon.py" in dump
        assert "mstfs.daemon._run" in dump
        found = json.loads(dump.partition("counters: ")[2].splitlines()[0])
        status = mount.status()
        assert {name: found[name] for name in ("pid", "source", "errors", "last_publish")} == {
            name: status[name] for name in ("pid", "source", "errors", "last_publish")
        }
        assert found["requests"]["total"] > 0
        assert found["memory_kib"] > 1000
        assert found["threads"] >= 1
        assert found["open_files"] > 3
        assert (mount / PROFILE).read_bytes()


def test_sigusr1_reaches_a_daemon_in_the_background(car: Path) -> None:
    folder, point, log = car.parent, car.parent / "mnt", car.parent / "a.log"
    point.mkdir()
    mstfs("mount", "--log-file", log, car, point, folder=folder)
    try:
        pid = json.loads((point / ".mstfs/status").read_text())["pid"]
        os.kill(pid, signal.SIGUSR1)
        wait_for(lambda: "end of the dump" in log.read_text(), "a dump")
        assert is_mounted(point)
        assert log.stat().st_mode & 0o777 == 0o600
    finally:
        mstfs("umount", point, folder=folder)


@pytest.mark.parametrize(("level", "told"), [("error", False), ("info", True)])
def test_the_log_tells_as_much_as_is_wanted(car: Path, level: str, told: bool) -> None:
    with Mount(car, "--log-level", level) as mount:
        with refused(errno.EINVAL):
            (mount / "app.bsky.feed.post/bad.json").write_text("{")
        assert ("bad.json" in mount.log()) == told
        (mount / "app.bsky.feed.post/bad.json").unlink()
