"""Mounts: mstfs against libfuse's passthrough_ll and squashfuse_ll over the same files, in wall milliseconds.

Reading: find, cat of everything, grep -r, tar; each after a fresh mount (cold) and again (warm). Writing:
`cp -r` of 5,000 records in, with the publication for mstfs. A peer that is not installed is left out, and why
is said.
"""

import argparse
import os
import random
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.table import Times, show

EXAMPLES = Path("/usr/share/doc/libfuse3-dev/examples")
MOUNT_SECONDS = 60.0
NEW_RECORDS = 5000


def run(*command: object, check: bool = True) -> None:
    """Run a program, its output thrown away."""
    words = [str(word) for word in command]
    subprocess.run(words, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def passthrough(scratch: Path) -> Path | str:
    """Compile passthrough_ll, or say why it cannot be."""
    source = EXAMPLES / "passthrough_ll.c"
    program = scratch / "passthrough_ll"
    if not source.exists():
        return f"{source} is missing: install libfuse3-dev with its documentation"
    if shutil.which("gcc") is None:
        return "gcc is not installed"
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "fuse3"], text=True).split()
    run("gcc", "-O2", "-w", "-I", EXAMPLES, "-o", program, source, *flags)
    return program


class Peer:
    """A file system under test: how to mount it on a folder, and how to take it down."""

    def __init__(self, name: str, command: list[str], after_copy: list[str] | None = None) -> None:
        self.name = name
        self.command = command
        self.after_copy = after_copy

    @contextmanager
    def mounted(self, mountpoint: Path) -> Iterator[Path]:
        """A fresh mount."""
        words = [word.replace("{mnt}", str(mountpoint)) for word in self.command]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + MOUNT_SECONDS
        try:
            while not os.path.ismount(mountpoint):
                if time.monotonic() > deadline:
                    raise SystemExit(f"{self.name} did not mount")
                time.sleep(0.01)
            os.stat(mountpoint)
            yield mountpoint
        finally:
            while os.path.ismount(mountpoint) and time.monotonic() < deadline + MOUNT_SECONDS:
                run("umount", mountpoint, check=False)
            process.wait(MOUNT_SECONDS)


def reading(folder: Path) -> dict[str, list[str]]:
    """Commands that read a whole tree."""
    root = shlex.quote(str(folder))
    return {
        "find": ["find", str(folder), "-type", "f"],
        "cat": ["sh", "-c", f"find {root} -type f -print0 | xargs -0 cat"],
        "grep -r": ["grep", "-rq", "no-such-string-zz", str(folder)],
        "tar": ["sh", "-c", f"tar cf - {root} 2>/dev/null | cat"],
    }


def clocked(command: list[str], expected: int = 0) -> float:
    """Wall milliseconds of a program, which must end with the expected code."""
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, check=False)
    took = (time.monotonic() - start) * 1000
    if done.returncode != expected:
        raise SystemExit(f"{shlex.join(command)[:200]} failed: {done.stderr.decode()[-300:]}")
    return took


def make_records(folder: Path, count: int) -> None:
    """Record files of 300 to 800 bytes, all in one collection."""
    collection = folder / "com.example.bench"
    collection.mkdir(parents=True)
    chosen = random.Random(3)
    for number in range(count):
        words = " ".join(
            chosen.choices(["merkle", "tree", "folder", "overlay", "root"], k=chosen.randint(30, 90))
        )
        text = f'{{\n  "text": "{words}",\n  "$type": "com.example.bench"\n}}\n'
        (collection / f"r{number:05d}.json").write_text(text)


def main() -> None:
    """Interleaved rounds over every peer, then the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench mounts", description=__doc__)
    parser.add_argument("--records", type=int, default=14_000, help="records in the sample")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the medians here")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("scripts/bench mounts needs root, to mount the peers")
    # passthrough_ll holds a descriptor for every file that the kernel knows.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < arguments.records + NEW_RECORDS + 100:
        raise SystemExit(f"at most {most} open files are allowed: passthrough_ll needs one for each record")
    with tempfile.TemporaryDirectory(prefix="mstfs-bench-") as name:
        compare(Path(name), arguments)


def compare(scratch: Path, arguments: argparse.Namespace) -> None:
    """Make the files, mount every peer over them in turn, print the medians."""
    from mstfs.repo.sample import make_sample

    car, mountpoint, tree, new = (scratch / part for part in ("repo.car", "mnt", "tree", "new"))
    make_sample(car, arguments.records, 1)
    mountpoint.mkdir()
    make_records(new, NEW_RECORDS)
    own = [sys.executable, "-m", "mstfs", "mount", "-f"]
    publish = [sys.executable, "-m", "mstfs", "sync", str(mountpoint)]
    peers = [
        Peer("mstfs", [*own, "--overlay", str(scratch / "overlay"), str(car), "{mnt}"], publish),
        Peer("mstfs read-only", [*own, "--read-only", str(car), "{mnt}"]),
    ]
    with peers[0].mounted(mountpoint) as mounted:
        shutil.copytree(mounted, tree, symlinks=True)
    program = passthrough(scratch)
    if isinstance(program, str):
        print(f"passthrough_ll is left out: {program}", file=sys.stderr)
    else:
        options = f"source={tree},cache=always,timeout=86400"
        peers.append(Peer("passthrough_ll", [str(program), "-f", "-o", options, "{mnt}"]))
    if shutil.which("squashfuse_ll") and shutil.which("mksquashfs"):
        run("mksquashfs", tree, scratch / "tree.sqfs", "-quiet", "-no-progress")
        peers.append(Peer("squashfuse_ll", ["squashfuse_ll", "-f", str(scratch / "tree.sqfs"), "{mnt}"]))
    else:
        print("squashfuse_ll is left out: squashfuse and squashfs-tools are not installed", file=sys.stderr)
    times: Times = {peer.name: {} for peer in peers}
    for number in range(arguments.rounds):
        for peer in peers if number % 2 else peers[::-1]:
            measure(peer, mountpoint, new, times[peer.name])
            (scratch / "overlay").unlink(missing_ok=True)
            shutil.rmtree(tree / "copied", ignore_errors=True)
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
    show(times, "passthrough_ll", "wall ms", arguments.json)


def measure(peer: Peer, mountpoint: Path, new: Path, row: dict[str, list[float]]) -> None:
    """One round of one peer."""
    for work, command in reading(mountpoint).items():
        with peer.mounted(mountpoint):
            for phase in ("cold", "warm"):
                row.setdefault(f"{work}, {phase}", []).append(clocked(command, work.startswith("grep")))
    if peer.name in ("mstfs", "passthrough_ll"):
        with peer.mounted(mountpoint):
            target = mountpoint if peer.after_copy else mountpoint / "copied"
            took = clocked(
                ["cp", "-r", *map(str, new.iterdir()), f"{target}/"]
                if peer.after_copy
                else ["cp", "-r", str(new), str(target)]
            )
            row.setdefault(f"cp -r of {NEW_RECORDS} records in", []).append(took)
            published = clocked(peer.after_copy) if peer.after_copy else 0.0
            row.setdefault("the same, and publish", []).append(took + published)


if __name__ == "__main__":
    main()
