"""Mounts for tests: made with the real command, looked at from outside, and always taken down again."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from mstfs.archive import Archive

PROJECT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
"""Seconds after which something that should happen has not."""

Result = subprocess.CompletedProcess[str]

living: set["subprocess.Popen[bytes]"] = set()
"""The daemons of mounts that were not left yet, dead or alive."""


def wait_for(happened: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Poll until `happened()` is true, and return what it gave; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = happened()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for: {what}"
        time.sleep(0.005)


def run(*words: object, code: int | None = 0, cwd: Path | None = None, **options: Any) -> Result:
    """Run a program. Fails, showing what it said, unless it ends with `code` (None: with any)."""
    command = [os.fspath(word) if isinstance(word, os.PathLike) else str(word) for word in words]
    options.setdefault("timeout", 2 * PATIENCE)
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, **options)
    assert code is None or done.returncode == code, (
        f"{command} ended with {done.returncode}, not {code}\n{done.stdout}{done.stderr}"
    )
    return done


def shell(script: str, *, cwd: Path, code: int | None = 0) -> Result:
    """Run a script in dash or whatever `sh` is, in a folder; it stops at the first command that fails."""
    return run("sh", "-euc", script, cwd=cwd, code=code)


def environment_of(folder: Path) -> dict[str, str]:
    """The environment of commands under test: their caches, logs and state are kept in `folder`."""
    home = {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CACHE", "STATE", "CONFIG", "DATA")}
    return {**os.environ, **home, "HOME": str(folder), "PYTHONPATH": str(PROJECT), "LC_ALL": "C.UTF-8"}


def mstfs(*words: object, folder: Path, code: int | None = 0) -> Result:
    """Run `mstfs` with these arguments. Whatever goes wrong is one sentence, never a traceback."""
    command = [sys.executable, "-P", "-m", "mstfs", *map(str, words)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment_of(folder), cwd=folder, timeout=2 * PATIENCE
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert code is None or done.returncode == code, (
        f"{command} ended with {done.returncode}, not {code}\n{done.stdout}{done.stderr}"
    )
    return done


def trace_of(path: Path) -> tuple[str, int, int]:
    """What must not change of a file: its hash, its size, its mtime."""
    found = path.stat()
    return hashlib.sha256(path.read_bytes()).hexdigest(), found.st_size, found.st_mtime_ns


def records_of(source: Path) -> dict[str, bytes]:
    """Key -> JSON of everything that an archive (a CAR, or an overlay) holds, read without a mount."""
    with Archive.open(source) as archive:
        return {key: archive.json(key).encode() for key in archive}


def files_below(folder: Path) -> dict[str, bytes]:
    """Path -> contents of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def is_mounted(point: Path) -> bool:
    """True while something is mounted there, dead or alive."""
    name = str(point).replace("\\", "\\134").replace(" ", "\\040")
    return any(line.split(" ")[1] == name for line in Path("/proc/self/mounts").read_text().splitlines())


def has_ended(pid: int) -> bool:
    """True once a process that is not our child has ended, whether or not its parent took notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Mount:
    """One `mstfs mount --foreground`, as a context manager.

    `source` is mounted on a new folder beside it (or on `point`); `options` go to the command. On leaving,
    the mount is ended if it still goes on; then its exit code must be `leaves_with`, its log must hold no
    traceback, and the CAR must be what it was. `environment` is what the daemon gets besides the usual.
    """

    def __init__(
        self,
        source: Path,
        *options: object,
        point: Path | None = None,
        folder: Path | None = None,
        leaves_with: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.source = source
        self.folder = folder or source.parent
        self.path = point or self.folder / "mnt"
        self.options = options
        self.leaves_with = leaves_with
        self.environment = dict(environment or {})
        self.log_path = self.folder / f"{self.path.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.path.mkdir(exist_ok=True)
        self.before = trace_of(self.source) if self.source.suffix == ".car" else None
        self.start()
        return self

    def start(self) -> None:
        """Mount, and wait until it answers."""
        command = [sys.executable, "-P", "-m", "mstfs", "mount", "-f", *map(str, self.options)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.source), str(self.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment_of(self.folder), **self.environment},
                cwd=self.folder,
            )
        living.add(self.process)
        wait_for(self._answers, f"a mount on {self.path}")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}: {self.log()}"
        return is_mounted(self.path) and (self.path / ".mstfs/root").exists()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process is not None
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                code = self.ended()
                assert kind is not None or code == self.leaves_with, self.log()
            if kind is None:
                self.check()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            living.discard(self.process)
            while is_mounted(self.path):
                run("fusermount3", "-u", "-z", self.path)

    def check(self) -> None:
        """What holds of every mount, however it ended."""
        log = self.log()
        assert "Traceback" not in log, log
        assert "unexpected error" not in log, log
        if self.before is not None:
            assert trace_of(self.source) == self.before, "the CAR was changed"

    # --- asking ---------------------------------------------------------------------------------

    def __truediv__(self, path: str) -> Path:
        return self.path / path

    def log(self) -> str:
        """All that the daemon wrote so far."""
        return self.log_path.read_text()

    def status(self) -> dict[str, Any]:
        """`.mstfs/status`."""
        found: dict[str, Any] = json.loads((self.path / ".mstfs/status").read_text())
        return found

    def staged(self) -> list[str]:
        """`.mstfs/diff`: what is staged, one line a key."""
        return (self.path / ".mstfs/diff").read_text().splitlines()

    def state(self, path: str) -> dict[str, str]:
        """The extended attributes of a file, without `user.mstfs.`."""
        file = self.path / path
        return {
            name.removeprefix("user.mstfs."): os.getxattr(file, name).decode() for name in os.listxattr(file)
        }

    def overlay(self) -> Path:
        """The overlay that the mount uses."""
        return Path(self.status()["overlay"])

    # --- changing -------------------------------------------------------------------------------

    def mstfs(self, *words: object, code: int | None = 0) -> Result:
        """Run `mstfs` in the environment of this mount."""
        return mstfs(*words, folder=self.folder, code=code)

    def sync(self, *words: object, code: int = 0) -> dict[str, Any]:
        """`mstfs sync --json` and what it prints."""
        answer: dict[str, Any] = json.loads(self.mstfs("sync", "--json", *words, self.path, code=code).stdout)
        return answer

    def kill(self) -> None:
        """End the daemon with SIGKILL and clear the dead mount."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.mstfs("umount", self.path)

    def ended(self) -> int:
        """Wait for the daemon to end; its exit code."""
        assert self.process is not None
        code = self.process.wait(PATIENCE)
        assert not is_mounted(self.path)
        return code

    def unmount(self) -> None:
        """`mstfs umount`, and the end of the daemon."""
        self.mstfs("umount", self.path)
        assert self.ended() == self.leaves_with, self.log()

    def remount(self) -> None:
        """Unmount and mount again with the same options."""
        self.unmount()
        self.start()


def sync_root(mount: Mount) -> None:
    """`sync MNT`."""
    fd = os.open(mount.path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_fsynced(path: Path, text: bytes) -> None:
    """Write a file and fsync it. OSError of whichever call fails."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(fd, text)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_record(path: Path, number: int = 1, **fields: object) -> bytes:
    """Write a small record whose `$type` is its collection, and return its text."""
    text = note_text(path.parent.name, number, fields)
    path.write_bytes(text)
    return text


def note_text(collection: str, number: int = 1, fields: Mapping[str, object] | None = None) -> bytes:
    """The text of a small record, as a mount shows it."""
    record = {"n": number, **(fields or {}), "$type": collection}
    ordered = dict(sorted(record.items(), key=lambda item: (len(item[0]), item[0])))
    return json.dumps(ordered, indent=2, ensure_ascii=False).encode() + b"\n"


@contextmanager
def refused(code: int) -> Iterator[None]:
    """The block fails with this errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        yield
    assert caught.value.errno == code, os.strerror(caught.value.errno or 0)
