"""Boots a throw-away copy of this machine in a container: its own systemd on an overlay of `/`.

Terminology
    The leader is the container's process 1, as the outside sees it.

Tricky bits
    systemd-nspawn wants a terminal, which `script` gives it. The overlay's upper folder lies on a tmpfs, so
    nothing that happens inside reaches the disk. The container has its own /tmp, /run, /dev, /proc and /sys.
    Its /dev/fuse is made as udev would make it, open to every user, whatever the machine's own allows.
    Whatever lies on another file system than `/` has to be handed in with `share`.

Hacking
    Commands are run with nsenter, not through a bus. Only processes that were started here are ended, by
    their number; a leader that is killed takes all others in the container with it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

BOOT_SECONDS = 60.0
STOP_SECONDS = 30.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

TARGET = """\
[Unit]
Description=what the tests need, and none of the services that this machine has
Requires=basic.target
After=basic.target
Wants=dbus.socket systemd-logind.service systemd-user-sessions.service
AllowIsolate=yes
"""


def why_not() -> str | None:
    """What this machine lacks for a boot, as a sentence, or None."""
    if os.geteuid() != 0:
        return "needs root"
    for command, package in (
        ("systemd-nspawn", "systemd-container"),
        ("script", "bsdutils"),
        ("nsenter", "util-linux"),
    ):
        if shutil.which(command) is None:
            return f"needs {command} (Debian package {package})"
    if not Path("/dev/fuse").exists():
        return "needs /dev/fuse"
    return None


def until(look: Callable[[], T | None], seconds: float, what: str) -> T:
    """Call `look` until it gives something; AssertionError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)


class Machine:
    """A booted copy of this machine; `with Machine(folder) as machine`.

    `folder` is an empty folder of one's own; `share` are folders that are seen inside, read-only, where they
    are outside. Files are put into it through `root` before and while it runs.
    """

    def __init__(self, folder: Path, share: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.console = folder / "console"
        self._share = share
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._mounted: list[Path] = []

    def __enter__(self) -> Self:
        try:
            self._lay_out()
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    # --- what tests use ---

    def run(
        self, *command: str | Path, check: bool = True, seconds: float = 30, feed: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root; AssertionError with its output if it fails and `check` is set."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._leader), "--all", "--", *map(str, command)],
            env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root", "SYSTEMD_PAGER": ""},
            input=feed,
            stdin=subprocess.DEVNULL if feed is None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{command} exited with {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def out(self, *command: str | Path, seconds: float = 30) -> str:
        """What a command inside that must succeed prints, without the newline at its end."""
        return self.run(*command, seconds=seconds).stdout.rstrip("\n")

    def property(self, unit: str, name: str) -> str:
        """One property of a unit, as `systemctl show` gives it."""
        return self.out("systemctl", "show", "--value", "--property", name, unit)

    def journal(self, unit: str) -> str:
        """What a unit logged."""
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit, check=False).stdout

    # --- start and end ---

    def _mount(self, kind: str, options: str, point: Path) -> None:
        point.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", kind, "-o", options, kind, str(point)], check=True, timeout=10)
        self._mounted.append(point)

    def _lay_out(self) -> None:
        layers = self.folder / "layers"
        self._mount("tmpfs", "mode=755,size=1g", layers)
        for name in ("upper", "work"):
            (layers / name).mkdir()
        options = f"lowerdir=/,upperdir={layers}/upper,workdir={layers}/work"
        self._mount("overlay", options, self.root)
        (self.root / "etc/systemd/system/under-test.target").write_text(TARGET)
        (self.root / "etc/fstab").write_text("")

    def _boot(self) -> None:
        command = ["systemd-nspawn", "--quiet", "--directory", str(self.root), "--boot", "--register=no"]
        command += ["--keep-unit", "--private-network"]
        command += [f"--bind-ro={str(folder).replace(':', chr(92) + ':')}" for folder in self._share]
        command += ["--", "--unit=under-test.target"]
        with self.console.open("wb") as console:
            self._process = subprocess.Popen(
                ["script", "--quiet", "--flush", "--return", "--command", _quoted(command), "/dev/null"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        try:
            self._leader = until(self._find_leader, BOOT_SECONDS, "the container's process 1")
            until(self._is_up, BOOT_SECONDS, "the boot to finish")
            self.run("mknod", "--mode=666", "/dev/fuse", "c", "10", "229")
        except AssertionError as error:
            error.add_note(self.console.read_text(errors="replace")[-3000:])
            raise

    def _find_leader(self) -> int | None:
        assert self._process is not None
        assert self._process.poll() is None, "systemd-nspawn ended before the boot"
        todo = [self._process.pid]
        while todo:
            pid = todo.pop()
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                inner = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
                if inner == "1" and status.startswith("Name:\tsystemd\n"):
                    return pid
                todo += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return None

    def _is_up(self) -> bool:
        done = self.run("systemctl", "is-active", "under-test.target", check=False)
        return done.stdout.strip() == "active"

    def _end(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            if self._leader:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.run("systemctl", "poweroff", check=False, seconds=10)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                if self._leader:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self._leader, signal.SIGKILL)
                # The group holds `script` and systemd-nspawn only: the container has its own session.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        while self._mounted:
            point = self._mounted.pop()
            done = subprocess.run(["umount", str(point)], timeout=10, check=False, capture_output=True)
            if done.returncode:
                subprocess.run(["umount", "--lazy", str(point)], timeout=10, check=False)


def _quoted(command: Sequence[str]) -> str:
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in command)
