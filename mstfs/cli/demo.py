"""The command that shows everything once, on a made-up repository in a temporary folder: demo.

Every line that is shown behind `$ ` is run by a shell as it stands, with real `ls`, `cat` and `sed` on a real
mount, and what comes out is compared with what should.
"""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from mstfs.cli import exits

RECORDS = 200
SEED = 2024
STEP_SECONDS = 60.0
SETTLE_SECONDS = 2.0
PROFILE = "app.bsky.actor.profile/self"
POST = "app.bsky.feed.post/3kdemodemo222"
TEXT = "Written with echo, published with mstfs sync."

Check = Callable[[str], bool]


class _WrongResult(Exception):
    """A step that did not give what it should; `code` is for the shell."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def add(commands: Any) -> None:
    """Declare the commands of this family."""
    from mstfs.cli.options import add_json, declare

    parser = declare(
        commands,
        "demo",
        summary="mount, edit, publish and verify a made-up repository",
        description="Make a small repository in a temporary folder, mount it, read and edit it with ls, cat "
        "and sed, publish a new root, export, verify and prove it, and clean up. Shows each "
        "command. Nothing else is touched.",
        examples="mstfs demo\nmstfs demo --keep /tmp/mstfs-demo",
        codes="0 every step gave what it should; 1 a step did not; 2 --keep names a folder that is not "
        "empty; 3 nothing can be mounted here",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="work in DIR (new or empty) and leave it there"
    )
    add_json(parser)
    parser.set_defaults(run=run_demo)


def run_demo(arguments: argparse.Namespace) -> int:
    """`mstfs demo`."""
    from mstfs.cli.output import print_json, printable, warn

    with _folder(arguments.keep) as folder, _ended_by_sigterm():
        demo = Demo(folder, quiet=arguments.json)
        error = None
        code = exits.OK
        try:
            demo.run()
        except _WrongResult as wrong:
            error, code = str(wrong), wrong.code
        finally:
            demo.clean_up()
        if arguments.json:
            print_json({"ok": error is None, "error": error, "folder": str(folder), **demo.results()})
        elif error is None:
            print(f"\nEvery step gave what it should ({time.monotonic() - demo.started:.1f} s).")
            if arguments.keep is not None:
                print(f"The files are in {printable(folder)}.")
        if error is not None:
            warn(f"demo: {error}")
    return code


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    from mstfs.cli.output import printable
    from mstfs.errors import Refused

    if keep is None:
        with tempfile.TemporaryDirectory(prefix="mstfs-demo-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise Refused(f"{printable(keep)} is not empty")
    yield keep.absolute()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Within, SIGTERM is like Ctrl-C, so that the mount is taken down in either case."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        yield  # Signals belong to the main thread, and this is another one.
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Demo:
    """One run in a folder of its own. Make it, `run` it, and `clean_up` whatever happened."""

    def __init__(self, folder: Path, *, quiet: bool) -> None:
        self.folder = folder
        self.mountpoint = folder / "mnt"
        self.quiet = quiet
        self.steps: list[dict[str, Any]] = []
        self.roots: list[str] = []
        self.did_key = ""
        self.mounting = False
        self.started = time.monotonic()
        self.environment = {
            **os.environ,
            "PATH": f"{folder / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            # Logs and the like go into the folder too.
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "LC_ALL": "C.UTF-8",
        }

    def results(self) -> dict[str, Any]:
        """What is told with --json."""
        old, new = (*self.roots, None, None)[:2]
        return {"did_key": self.did_key or None, "old_root": old, "new_root": new, "steps": self.steps}

    def run(self) -> None:
        """All steps in order. _WrongResult at the first that goes wrong."""
        self._prepare()
        self._mount_and_read()
        added, removed = self._edit()
        self._publish(added, removed)
        self._check_outcome(added)
        self._unmount()

    # --- steps --------------------------------------------------------------------------------

    def _prepare(self) -> None:
        from mstfs.repo.sample import make_sample, signing_key_pem

        (self.folder / "bin").mkdir()
        script = self.folder / "bin" / "mstfs"
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m mstfs "$@"\n')
        script.chmod(0o755)
        made = make_sample(self.folder / "sample.car", RECORDS, SEED)
        self.did_key = made.did_key
        key = os.open(self.folder / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(key, "wb") as file:
            file.write(signing_key_pem(SEED))
        self._say(f"A made-up account with {made.records} records, and its signing key, in {self.folder}")
        self.step("mstfs info sample.car", lambda out: made.did in out and "signed commit" in out)

    def _mount_and_read(self) -> None:
        self._say("Show the repository as a folder")
        self.step("mkdir mnt")
        self.mounting = True
        self.step("mstfs mount --signing-key key.pem sample.car mnt", code=None)
        self.step("ls mnt", lambda out: "app.bsky.feed.post" in out.split())
        self.step(f"cat mnt/{PROFILE}.json", lambda out: json.loads(out)["$type"] == "app.bsky.actor.profile")
        self.roots.append(self.step("cat mnt/.mstfs/root", lambda out: out.startswith("bafyrei")).strip())

    def _edit(self) -> tuple[str, str]:
        """Change, add and remove a record; returns the key that came and the key that went."""
        self._say("Edit it with the tools you have")
        names = sorted(path.stem for path in (self.mountpoint / "app.bsky.graph.follow").iterdir())
        removed = f"app.bsky.graph.follow/{names[0]}"
        post = {"$type": "app.bsky.feed.post", "text": TEXT, "createdAt": "2024-01-01T00:00:00Z"}
        self.step(f"sed -i 's/Nobody in Particular/Somebody Else/' mnt/{PROFILE}.json")
        self.step(f"echo {shlex.quote(json.dumps(post))} > mnt/{POST}.json")
        self.step(f"rm mnt/{removed}.json")
        self._say("What is staged now")
        changes = {f"M {PROFILE}", f"A {POST}", f"D {removed}"}
        self.step(
            "mstfs status mnt",
            lambda out: changes == {line.strip() for line in out.splitlines() if line.startswith("  ")},
        )
        self.step(
            "mstfs diff --patch mnt/app.bsky.actor.profile",
            lambda out: '\n+  "displayName": "Somebody Else"' in out,
        )
        return POST, removed

    def _publish(self, added: str, removed: str) -> None:
        self._say("Publish a new root, signed with the key")
        told = self.step(
            "mstfs sync -m 'a new name' mnt", lambda out: "(signed; 1 created, 1 updated, 1 deleted)" in out
        )
        self.roots.append(told.split()[0])
        self.step(
            "cat mnt/.mstfs/root", lambda out: out.strip() == self.roots[1] and self.roots[0] != self.roots[1]
        )
        self.step(
            "mstfs log mnt",
            lambda out: [line.split()[3] for line in out.splitlines()] == self.roots[::-1],
        )
        self.step(
            "mstfs diff mnt 1 2",
            lambda out: out.splitlines() == [f"M {PROFILE}", f"A {added}", f"D {removed}"],
        )

    def _check_outcome(self, added: str) -> None:
        self._say("Write it as a CAR, and let the strict verifier read that")
        sound = ("sound; ", self.roots[1], f" {RECORDS} records, ", "signature valid", "complete")
        self.step("mstfs export mnt new.car", lambda out: out.startswith(self.roots[1]))
        self.step(
            f"mstfs verify --key {self.did_key} new.car", lambda out: all(word in out for word in sound)
        )
        self._say("Prove one record to somebody who has nothing but the root and the key")
        self.step(f"mstfs prove -o proof.car mnt/{added}.json", lambda out: self.roots[1] in out)
        self.step(
            f"mstfs verify --proof {added} --key {self.did_key} proof.car",
            lambda out: f"holds: {added} is bafyrei" in out and "signature valid" in out,
        )

    def _unmount(self) -> None:
        before = hashlib.sha256((self.folder / "sample.car").read_bytes()).hexdigest()
        self.step("mstfs umount mnt", lambda out: not os.path.ismount(self.mountpoint))
        self.mounting = False
        self._say("The CAR that was mounted is what it was; edits are in sample.car.mstfs")
        from mstfs.repo.sample import make_sample

        again = self.folder / "again.car"
        make_sample(again, RECORDS, SEED)
        expected = hashlib.sha256(again.read_bytes()).hexdigest()
        again.unlink()
        self.step("sha256sum sample.car", lambda out: out.split()[0] == expected == before)

    # --- running and showing ------------------------------------------------------------------

    def _say(self, text: str) -> None:
        from mstfs.cli.output import painted

        if not self.quiet:
            print(painted(f"\n# {text}", "cyan"), flush=True)

    def step(self, command: str, check: Check | None = None, *, code: int | None = exits.DEFECTS) -> str:
        """Run a line of shell in the folder, show it, and return its output.

        If it fails or `check` does not like its output, _WrongResult is raised: with this exit code, or with
        the command's own where `code` is None.
        """
        from mstfs.cli.output import painted, without_controls

        if not self.quiet:
            print(painted(f"$ {command}", "bold"), flush=True)
        try:
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=STEP_SECONDS,
                text=True,
            )
        except subprocess.TimeoutExpired:
            raise _WrongResult(f"`{command}` did not end in {STEP_SECONDS:.0f} s", exits.FAILED) from None
        self.steps.append({"command": command, "exit_code": done.returncode, "output": done.stdout})
        if not self.quiet:
            print(without_controls(done.stdout), end="", flush=True)
        if done.returncode:
            raise _WrongResult(f"`{command}` ended with exit code {done.returncode}", code or done.returncode)
        if check is not None and not _holds(check, done.stdout):
            raise _WrongResult(f"`{command}` did not print what it should", exits.DEFECTS)
        return done.stdout

    def clean_up(self) -> None:
        """Take the mount down, if there is one; also one that is just coming up."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.mounting and not _is_mounted(self.mountpoint) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not _is_mounted(self.mountpoint):
            return
        for command in (["mstfs", "umount", "--no-publish"], ["fusermount3", "-u", "-z"], ["umount", "-l"]):
            with suppress(OSError, subprocess.SubprocessError):
                subprocess.run(
                    [
                        shutil.which(command[0], path=self.environment["PATH"]) or command[0],
                        *command[1:],
                        str(self.mountpoint),
                    ],
                    env=self.environment,
                    capture_output=True,
                    timeout=STEP_SECONDS,
                )
            if not _is_mounted(self.mountpoint):
                return


def _is_mounted(path: Path) -> bool:
    from mstfs.cli.target import is_dead_mount

    return os.path.ismount(path) or is_dead_mount(path)


def _holds(check: Check, output: str) -> bool:
    try:
        return check(output)
    except (ValueError, LookupError):
        return False  # Output of another shape is not what it should be either.
