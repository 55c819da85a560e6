"""Mounts: mstfs against libfuse's passthrough_ll and squashfuse_ll over the same files, in wall ms.

Reading: find, cat of everything, grep -r, tar, cp -r out; each after a fresh mount (cold) and again (warm),
with the index and the listings beside the CAR that an earlier mount has made; one process that opens, reads
and closes every file in a random order; a blob read as a whole, and 4,000 pages of it at random, also where
nobody has ever read them, so that mstfs knows no pages by their tags.
Writing: files created by one process, `cp -r` and `tar x` of records in, with the publication for mstfs.
Two are no peers, but bounds: passthrough_ll over tmpfs shows what the requests alone take, and the files
themselves, without FUSE, what is left of the work without any.
A peer that is not installed is left out, and why is said.

Tricky bits
    ext4 does not use an inode again for some minutes after its file was deleted, and looks at each of those
    first (`recently_deleted` in fs/ext4/ialloc.c): after 5,000 deletions 5,000 creations take five times as
    long. So what was written is put aside, and deleted in the end. A run that follows another one within
    minutes may still show it, in favour of mstfs, which makes no file for a record.
    Of memory that is free a virtual machine's host may take back what it likes, and whoever needs it next
    waits until it is there again: a file of 1 GiB takes up to four times as long. So it is taken once before.
"""

import argparse
import mmap
import os
import random
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from bench.table import Times, show
from mstfs.blocks.car_tags import SUFFIX

EXAMPLES = Path("/usr/share/doc/libfuse3-dev/examples")
MEMORY = Path("/dev/shm")
MOUNT_SECONDS = 60.0
NEW_RECORDS = 5000
COLLECTION = "com.example.bench"
BLOB = "blob"
PAGES = 4000


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


def is_mounted(folder: Path) -> bool:
    """Whether something is mounted on a folder, be it another folder of the same file system."""
    return any(line.split()[1] == str(folder) for line in Path("/proc/self/mounts").read_text().splitlines())


class Peer:
    """A file system under test: how to mount it on a folder, and how to take it down."""

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        after_copy: list[str] | None = None,
        reads: bool = True,
        writes: bool = False,
    ) -> None:
        self.name = name
        self.command = command
        self.after_copy = after_copy
        self.reads = reads
        self.writes = writes
        self.pid = 0

    @contextmanager
    def mounted(self, mountpoint: Path) -> Iterator[Path]:
        """A fresh mount."""
        words = [word.replace("{mnt}", str(mountpoint)) for word in self.command]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = process.pid
        deadline = time.monotonic() + MOUNT_SECONDS
        try:
            while not is_mounted(mountpoint):
                if time.monotonic() > deadline:
                    raise SystemExit(f"{self.name} did not mount")
                time.sleep(0.01)
            os.stat(mountpoint)
            yield mountpoint
        finally:
            while is_mounted(mountpoint) and time.monotonic() < deadline + MOUNT_SECONDS:
                run("umount", mountpoint, check=False)
            process.wait(MOUNT_SECONDS)


def reading(folder: Path) -> dict[str, list[str]]:
    """Commands that read a whole tree. What is copied out goes to memory: no disk is measured here."""
    root = shlex.quote(str(folder))
    return {
        "find": ["find", str(folder), "-type", "f"],
        "cat": ["sh", "-c", f"find {root} -type f -print0 | xargs -0 cat"],
        "grep -r": ["grep", "-rq", "no-such-string-zz", str(folder)],
        "tar": ["sh", "-c", f"tar cf - {root} 2>/dev/null | cat"],
        "cp -r out": ["cp", "-r", str(folder), str(copied_out())],
    }


def copied_out() -> Path:
    """Where what is copied out goes."""
    return Path(f"{MEMORY}/mstfs-bench-{os.getpid()}")


def in_any_order(folder: Path) -> None:
    """Open, read and close every file in a random order."""
    paths = [entry.path for entry in _files(folder)]
    random.Random(5).shuffle(paths)
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            file.read()


def _files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _files(entry.path)
        elif entry.name != BLOB:
            yield entry


def take_memory(size: int) -> None:
    """Have so many bytes of memory that the host need not find first."""
    with mmap.mmap(-1, size) as memory:
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1


def pages_at_random(blob: Path) -> None:
    """Read pages of 4 KiB, each somewhere else."""
    chosen = random.Random(6)
    fd = os.open(blob, os.O_RDONLY)
    pages = os.fstat(fd).st_size // 4096
    for _ in range(PAGES):
        os.pread(fd, 4096, chosen.randrange(pages) * 4096)
    os.close(fd)


def create(folder: Path) -> None:
    """Create, write and close the new records, one after the other."""
    folder.mkdir()
    for name, text in new_records():
        with (folder / name).open("xb", buffering=0) as file:
            file.write(text)


def timed(work: Callable[[], object]) -> float:
    """Wall milliseconds of some work of this process."""
    start = time.monotonic()
    work()
    return (time.monotonic() - start) * 1000


def clocked(command: list[str], expected: int = 0) -> float:
    """Wall milliseconds of a program, which must end with the expected code."""
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, check=False)
    took = (time.monotonic() - start) * 1000
    if done.returncode != expected:
        raise SystemExit(f"{shlex.join(command)[:200]} failed: {done.stderr.decode()[-300:]}")
    return took


def new_records() -> Iterator[tuple[str, bytes]]:
    """Names and texts of records of 300 to 800 bytes."""
    chosen = random.Random(3)
    for number in range(NEW_RECORDS):
        words = " ".join(
            chosen.choices(["merkle", "tree", "folder", "overlay", "root"], k=chosen.randint(30, 90))
        )
        text = f'{{\n  "text": "{words}",\n  "$type": "{COLLECTION}"\n}}\n'
        yield f"r{number:05d}.json", text.encode()


def make_records(folder: Path) -> None:
    """Files of new records, all in one collection, and a tar of them."""
    collection = folder / COLLECTION
    collection.mkdir(parents=True)
    for name, text in new_records():
        (collection / name).write_bytes(text)
    run("tar", "cf", f"{folder}.tar", "-C", folder, ".")


def main() -> None:
    """Interleaved rounds over every peer, then the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench mounts", description=__doc__)
    parser.add_argument("--records", type=int, default=14_000, help="records in the sample")
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the blob; 0 leaves it out")
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
    make_records(new)
    own = [sys.executable, "-m", "mstfs", "mount", "-f"]
    publish = [sys.executable, "-m", "mstfs", "sync", str(mountpoint)]
    peers = [
        Peer(
            "mstfs",
            [*own, "--overlay", str(scratch / "overlay"), str(car), "{mnt}"],
            after_copy=publish,
            writes=True,
        ),
        Peer("mstfs read-only", [*own, "--read-only", str(car), "{mnt}"]),
    ]
    with peers[0].mounted(mountpoint) as mounted:
        shutil.copytree(mounted, tree, symlinks=True)
    peers += others(scratch, tree, "tree.sqfs")
    in_memory = Path(f"{copied_out()}-source")
    if any(peer.name == "passthrough_ll" for peer in peers):
        command = through(scratch / "passthrough_ll", in_memory)
        peers.append(Peer("passthrough_ll on tmpfs", command, reads=False, writes=True))
    times: Times = {peer.name: {} for peer in peers}
    aside = scratch / "aside"
    aside.mkdir()

    def begin_again() -> None:
        (scratch / "overlay").unlink(missing_ok=True)
        if (tree / COLLECTION).exists():
            (tree / COLLECTION).rename(aside / str(len(os.listdir(aside))))
        shutil.rmtree(in_memory, ignore_errors=True)
        in_memory.mkdir()

    for number in range(arguments.rounds):
        for peer in peers if number % 2 else peers[::-1]:
            measure(peer, mountpoint, new, times[peer.name], begin_again)
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
    shutil.rmtree(in_memory, ignore_errors=True)
    if arguments.megabytes:
        measure_blob(scratch, mountpoint, arguments, times)
    show(times, "passthrough_ll", "wall ms", arguments.json)


def through(program: Path, tree: Path) -> list[str]:
    """passthrough_ll over a folder."""
    return [str(program), "-f", "-o", f"source={tree},cache=always,timeout=86400", "{mnt}"]


def others(scratch: Path, tree: Path, image: str) -> list[Peer]:
    """The peers over a folder, as far as they are installed."""
    found = []
    program = passthrough(scratch)
    if isinstance(program, str):
        print(f"passthrough_ll is left out: {program}", file=sys.stderr)
    else:
        found.append(Peer("passthrough_ll", through(program, tree), writes=True))
    found.append(Peer("the files themselves", ["mount", "--bind", str(tree), "{mnt}"], writes=True))
    if shutil.which("squashfuse_ll") and shutil.which("mksquashfs"):
        run("mksquashfs", tree, scratch / image, "-quiet", "-no-progress")
        found.append(Peer("squashfuse_ll", ["squashfuse_ll", "-f", str(scratch / image), "{mnt}"]))
    else:
        print("squashfuse_ll is left out: squashfuse and squashfs-tools are not installed", file=sys.stderr)
    if find_spec("ratarmount") is not None:
        archive = (scratch / image).with_suffix(".tar")
        run("tar", "cf", archive, "-C", tree, ".")
        found.append(Peer("ratarmount", [sys.executable, "-m", "ratarmount", "-f", str(archive), "{mnt}"]))
    else:
        print("ratarmount is left out: it is not installed", file=sys.stderr)
    return found


def measure_blob(scratch: Path, mountpoint: Path, arguments: argparse.Namespace, times: Times) -> None:
    """One large file as UnixFS, and as a file."""
    folder, car = scratch / "large", scratch / "large.car"
    folder.mkdir()
    with (folder / BLOB).open("wb") as file:
        for number in range(arguments.megabytes):
            file.write(random.Random(number).randbytes(1 << 20))
    run(sys.executable, "-m", "mstfs", "import", folder, car, "--to", "unixfs")
    command = [sys.executable, "-m", "mstfs", "mount", "-f", "--read-only", str(car), "{mnt}"]
    peers = [Peer("mstfs read-only", command), *others(scratch, folder, "large.sqfs")]
    for number in range(arguments.rounds):
        for peer in peers if number % 2 else peers[::-1]:
            measure_one_blob(peer, mountpoint, car.with_name(car.name + SUFFIX), times[peer.name])


def measure_one_blob(peer: Peer, mountpoint: Path, tags: Path, row: dict[str, list[float]]) -> None:
    """A large file of one peer; without `tags` mstfs reads each block of it for the first time ever."""
    blob = mountpoint / BLOB
    whole = ["dd", f"if={blob}", "of=/dev/null", "bs=1M", "status=none"]
    works: dict[str, Callable[[], float]] = {
        f"{PAGES} pages at random": lambda: timed(lambda: pages_at_random(blob)),
        "blob": lambda: clocked(whole),
    }
    for name, work in works.items():
        tags.unlink(missing_ok=True)
        with peer.mounted(mountpoint):
            take_memory(2 * blob.stat().st_size)
            row.setdefault(f"{name}, never read", []).append(work())
    for name, work in works.items():
        with peer.mounted(mountpoint):
            take_memory(2 * blob.stat().st_size)
            for phase in ("cold", "warm"):
                row.setdefault(f"{name}, {phase}", []).append(work())


def measure(
    peer: Peer, mountpoint: Path, new: Path, row: dict[str, list[float]], begin_again: Callable[[], None]
) -> None:
    """One round of one peer; `begin_again` takes away what was written to it, while it is not mounted."""
    if peer.reads:
        measure_reading(peer, mountpoint, row)
    if not peer.writes:
        return
    copy = ["cp", "-r", str(new / COLLECTION), str(mountpoint / COLLECTION)]
    unpack = ["tar", "xf", f"{new}.tar", "-C", str(mountpoint)]
    writing: dict[str, Callable[[], float]] = {
        f"create {NEW_RECORDS} records": lambda: timed(lambda: create(mountpoint / COLLECTION)),
        f"cp -r of {NEW_RECORDS} records in": lambda: clocked(copy),
        f"tar x of {NEW_RECORDS} records in": lambda: clocked(unpack),
    }
    for name, written in writing.items():
        begin_again()
        with peer.mounted(mountpoint):
            finish(peer, row, name, written())
    begin_again()


def measure_reading(peer: Peer, mountpoint: Path, row: dict[str, list[float]]) -> None:
    """What reads a whole tree, after a fresh mount and again."""
    for work, command in reading(mountpoint).items():
        with peer.mounted(mountpoint):
            for phase in ("cold", "warm"):
                row.setdefault(f"{work}, {phase}", []).append(clocked(command, work.startswith("grep")))
                shutil.rmtree(copied_out(), ignore_errors=True)
    with peer.mounted(mountpoint):
        for phase in ("cold", "warm"):
            took = timed(lambda: in_any_order(mountpoint))
            row.setdefault(f"open, read, close in any order, {phase}", []).append(took)


def finish(peer: Peer, row: dict[str, list[float]], work: str, took: float) -> None:
    """Publish, where there is something to publish, and keep both times."""
    row.setdefault(work, []).append(took)
    published = clocked(peer.after_copy) if peer.after_copy else 0.0
    row.setdefault(f"{work}, and publish", []).append(took + published)


if __name__ == "__main__":
    main()
