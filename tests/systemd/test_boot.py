"""mstfs under a real systemd: the units, `mount -t mstfs` and /etc/fstab in a booted container.

Hacking
    All tests share one boot, so each has its own archive and mount point. `scripts/test --systemd` runs them.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mstfs.repo.sample import make_sample
from systemd.nspawn import Machine, until, why_not

PROJECT = Path(__file__).resolve().parent.parent.parent
PROFILE = "app.bsky.actor.profile/self.json"
SECONDS = 30.0
ALICE = 4242

pytestmark = [
    pytest.mark.boot,
    pytest.mark.mount,
    pytest.mark.skipif(why_not() is not None, reason=f"{why_not()}"),
]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine(tmp_path_factory.mktemp("machine"), share=[PROJECT, Path(sys.prefix)]) as machine:
        command = machine.root / "usr/local/bin/mstfs"
        command.write_text(
            f"#!/bin/sh\nPYTHONPATH='{PROJECT}' exec '{sys.executable}' -P -m mstfs \"$@\"\n",
            encoding="utf-8",
        )
        command.chmod(0o755)
        machine.run(PROJECT / "systemd/install", "--mstfs", "/usr/local/bin/mstfs")
        machine.run("useradd", "--uid", str(ALICE), "--create-home", "alice")
        yield machine


class Site:
    """One archive, its mount point and its service. Paths are as the container sees them."""

    def __init__(self, machine: Machine, name: str, folder: str = "/srv") -> None:
        self.machine = machine
        self.name = name
        self.unit = f"mstfs@{name}.service"
        self.car = Path(folder) / f"{name} archive.car"
        self.mnt = Path(folder) / f"{name} mount"
        self.outside(self.mnt).mkdir(parents=True)
        make_sample(self.outside(self.car), 30, seed=1)

    def outside(self, path: Path) -> Path:
        return self.machine.root / path.relative_to("/")

    def configure(self, options: str = "", folder: str = "/etc/mstfs") -> None:
        path = self.outside(Path(folder)) / f"{self.name}.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'CAR="{self.car}"\nMNT="{self.mnt}"\nOPTIONS={options}\n')

    def drop_in(self, lines: str) -> None:
        path = self.machine.root / "etc/systemd/system" / f"{self.unit}.d" / "test.conf"
        path.parent.mkdir()
        path.write_text(f"[Service]\n{lines}")
        self.machine.run("systemctl", "daemon-reload")

    def start(self) -> None:
        done = self.machine.run("systemctl", "start", self.unit, check=False)
        assert done.returncode == 0, done.stderr + self.machine.journal(self.unit)
        assert self.machine.out("systemctl", "is-active", self.unit) == "active"

    def stop(self) -> None:
        self.machine.run("systemctl", "stop", self.unit)
        assert self.machine.property(self.unit, "Result") == "success", self.machine.journal(self.unit)
        assert not self.is_mounted()

    def pid(self) -> str:
        return self.machine.property(self.unit, "MainPID")

    def restarted(self, before: str) -> str | None:
        """The number of the service's new process, once it has one that answers."""
        active = self.machine.run("systemctl", "is-active", self.unit, check=False).stdout.strip()
        pid = self.pid()
        return pid if active == "active" and pid not in ("0", before) else None

    def is_mounted(self) -> bool:
        done = self.machine.run("findmnt", "--noheadings", "--output=FSTYPE", self.mnt, check=False)
        return done.stdout.strip() == "fuse.mstfs"

    def read(self, name: str = PROFILE) -> dict[str, object]:
        record = json.loads(self.machine.out("cat", self.mnt / name))
        assert isinstance(record, dict)
        return record

    def edit(self, text: str) -> None:
        """Give the profile another name, as an editor would: through a file of the mount."""
        record = self.read() | {"displayName": text}
        self.machine.run("tee", self.mnt / PROFILE, feed=json.dumps(record))

    def events(self, *prefix: str, target: Path | None = None) -> int:
        """How many events `mstfs log` lists for the archive, or for another target."""
        return len(json.loads(self.machine.out(*prefix, "mstfs", "log", "--json", target or self.car)))


def test_a_service_mounts_and_publishes_when_it_stops(machine: Machine) -> None:
    site = Site(machine, "sample")
    site.configure()
    original = site.outside(site.car).read_bytes()
    site.start()
    assert site.is_mounted()
    assert "sample archive.car" in machine.property(site.unit, "StatusText")
    assert site.read()["$type"] == "app.bsky.actor.profile"
    site.edit("edited")
    published = site.events()
    site.stop()
    assert site.events() == published + 1
    assert site.outside(site.car).read_bytes() == original
    site.start()
    assert site.read()["displayName"] == "edited"
    site.stop()


def test_reload_publishes_and_goes_on(machine: Machine) -> None:
    site = Site(machine, "reloaded")
    site.configure()
    site.start()
    pid = site.pid()
    published = site.events()
    site.edit("one")
    machine.run("systemctl", "reload", site.unit)
    assert site.events() == published + 1
    assert site.pid() == pid
    site.stop()


def test_a_killed_daemon_comes_back_with_what_was_staged(machine: Machine) -> None:
    site = Site(machine, "killed")
    site.configure("--no-publish-on-unmount")
    site.start()
    site.edit("before the kill")
    pid = site.pid()
    machine.run("kill", "-KILL", pid)
    until(lambda: site.restarted(pid), SECONDS, "a new daemon")
    assert site.read()["displayName"] == "before the kill"
    assert machine.property(site.unit, "NRestarts") == "1"
    site.stop()


def test_a_daemon_that_hangs_is_restarted_by_the_watchdog(machine: Machine) -> None:
    site = Site(machine, "hung")
    site.configure()
    site.drop_in("WatchdogSec=1\n")
    site.start()
    pid = site.pid()
    machine.run("kill", "-STOP", pid)
    until(lambda: site.restarted(pid), SECONDS, "a new daemon")
    assert "watchdog" in machine.journal(site.unit).lower()
    assert site.read()
    site.stop()


def test_an_idle_daemon_feeds_its_watchdog(machine: Machine) -> None:
    site = Site(machine, "idle")
    site.configure()
    site.drop_in("WatchdogSec=1\n")
    site.start()
    pid = site.pid()
    started = int(machine.property(site.unit, "ActiveEnterTimestampMonotonic"))

    def fed_for_long() -> bool:
        fed = int(machine.property(site.unit, "WatchdogTimestampMonotonic"))
        return fed - started > 2_500_000

    until(fed_for_long, SECONDS, "a watchdog that is fed for more than twice its time")
    assert site.pid() == pid
    site.stop()


def test_a_file_that_is_no_car_fails_once_and_says_why(machine: Machine) -> None:
    site = Site(machine, "broken")
    site.configure()
    site.outside(site.car).write_bytes(b"no archive at all")
    done = machine.run("systemctl", "start", site.unit, check=False)
    assert done.returncode != 0
    assert machine.property(site.unit, "ExecMainStatus") == "2"
    assert machine.property(site.unit, "ActiveState") == "failed"
    assert machine.property(site.unit, "NRestarts") == "0"
    assert "broken archive.car" in machine.journal(site.unit)
    assert not site.is_mounted()


def test_unmounting_by_hand_ends_the_service_and_publishes(machine: Machine) -> None:
    site = Site(machine, "by-hand")
    site.configure()
    site.start()
    site.edit("edited")
    published = site.events()
    machine.run("umount", site.mnt)
    until(lambda: machine.property(site.unit, "ActiveState") == "inactive", SECONDS, "the service to end")
    assert machine.property(site.unit, "Result") == "success"
    assert site.events() == published + 1


def test_a_service_runs_as_another_user_as_the_example_says(machine: Machine) -> None:
    site = Site(machine, "of-alice", "/home/alice/archives")
    machine.run("chown", "--recursive", "alice:", "/home/alice")
    site.configure()
    example = (PROJECT / "systemd/example.conf").read_text().splitlines()
    own = [line.strip("# ") for line in example if line.startswith(("#   User=", "#   Ambient"))]
    assert len(own) == 2
    site.drop_in("\n".join(own) + "\n")
    site.start()
    assert machine.out("stat", "--format=%U", f"/proc/{site.pid()}") == "alice"
    done = machine.run("runuser", "--user=alice", "--", "cat", site.mnt / PROFILE)
    assert json.loads(done.stdout)["$type"] == "app.bsky.actor.profile"
    site.stop()


def test_a_user_has_a_service_of_their_own(machine: Machine) -> None:
    site = Site(machine, "own", "/home/alice/own")
    site.configure(folder="/home/alice/.config/mstfs")
    machine.run("chown", "--recursive", "alice:", "/home/alice")
    machine.run("systemctl", "start", f"user@{ALICE}.service")
    as_alice = [
        "runuser",
        "--user=alice",
        "--",
        "env",
        f"XDG_RUNTIME_DIR=/run/user/{ALICE}",
        "HOME=/home/alice",
    ]
    done = machine.run(*as_alice, "systemctl", "--user", "start", site.unit, check=False)
    assert done.returncode == 0, done.stderr + machine.journal(f"user@{ALICE}.service")
    read = machine.out(*as_alice, "cat", site.mnt / PROFILE)
    changed = json.dumps(json.loads(read) | {"displayName": "mine"})
    machine.run(*as_alice, "tee", site.mnt / PROFILE, feed=changed)
    published = site.events(*as_alice)
    machine.run(*as_alice, "systemctl", "--user", "stop", site.unit)
    assert not site.is_mounted()
    assert site.events(*as_alice) == published + 1
    machine.run("systemctl", "stop", f"user@{ALICE}.service")


# --- mount(8) -------------------------------------------------------------------------------------


def test_mount_t_mstfs_takes_options(machine: Machine) -> None:
    site = Site(machine, "plain")
    machine.run("mount", "-t", "mstfs", site.car, site.mnt, "-o", "ro,noexec,allow_other,x-gvfs-hide")
    assert site.is_mounted()
    options = machine.out("findmnt", "--noheadings", "--output=OPTIONS", site.mnt).split(",")
    assert {"ro", "noexec", "allow_other"} <= set(options)
    assert site.read()
    done = machine.run("touch", site.mnt / PROFILE, check=False)
    assert "Read-only file system" in done.stderr
    machine.run("umount", site.mnt)
    assert not site.is_mounted()


def test_a_mount_that_cannot_be_made_says_why(machine: Machine) -> None:
    site = Site(machine, "absent")
    done = machine.run("mount", "-t", "mstfs", "/srv/nothing here.car", site.mnt, check=False)
    assert done.returncode != 0
    assert "/srv/nothing here.car" in done.stderr
    assert not site.is_mounted()


def add_to_fstab(site: Site, options: str) -> None:
    fields = (
        str(site.car).replace(" ", r"\040"),
        str(site.mnt).replace(" ", r"\040"),
        "mstfs",
        options,
        "0",
        "0",
    )
    with (site.machine.root / "etc/fstab").open("a") as table:
        table.write(" ".join(fields) + "\n")
    site.machine.run("systemctl", "daemon-reload")


def test_fstab_names_the_mount(machine: Machine) -> None:
    site = Site(machine, "listed")
    overlay = Path("/srv/other place.mstfs")
    add_to_fstab(site, r"rw,nofail,_netdev,overlay=/srv/other\040place.mstfs,setuid=root")
    machine.run("mount", site.mnt)
    assert site.is_mounted()
    # mount(8) sees by the source in its table that the line is mounted, and leaves it alone.
    assert machine.out("mount", "--all", "--types", "mstfs", "--verbose").endswith("already mounted")
    site.edit("through fstab")
    assert site.outside(overlay).is_file()
    published = site.events(target=overlay)
    machine.run("umount", site.mnt)
    # umount(8) does not wait for the daemon, which publishes when the mount is gone.
    until(lambda: site.events(target=overlay) == published + 1, SECONDS, "the daemon to publish")


def test_systemd_mounts_what_fstab_lists(machine: Machine) -> None:
    site = Site(machine, "by-systemd")
    add_to_fstab(site, "noauto,x-systemd.mount-timeout=20")
    unit = machine.out("systemd-escape", "--path", "--suffix=mount", site.mnt)
    machine.run("systemctl", "start", unit)
    assert site.is_mounted()
    site.edit("through systemd")
    machine.run("systemctl", "stop", unit)
    assert not site.is_mounted()
    machine.run("systemctl", "start", unit)
    assert site.read()["displayName"] == "through systemd"
    machine.run("systemctl", "stop", unit)


def test_a_user_may_mount_what_fstab_lets_users_mount(machine: Machine) -> None:
    site = Site(machine, "users", "/home/alice/users")
    machine.run("chown", "--recursive", "alice:", "/home/alice")
    add_to_fstab(site, "noauto,user,ro")
    machine.run("runuser", "--user=alice", "--", "mount", site.mnt)
    assert site.is_mounted()
    owner = machine.out("runuser", "--user=alice", "--", "stat", "--format=%U", site.mnt)
    assert owner == "alice"
    machine.run("runuser", "--user=alice", "--", "umount", site.mnt)
    assert not site.is_mounted()
