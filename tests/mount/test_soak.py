"""A mount under mixed load for a long time: memory, open files and threads stay where they are.

Terminology
    A sample is what the kernel says of the daemon: memory in KiB, open files, threads.

Tricky bits
    Every worker has names of its own, a fixed set of them, so that what a mount has to know does not grow.
    What is compared is the middle of the run with its end: at its beginning caches fill.

Hacking
    The long run is `scripts/test --long tests/mount/test_soak.py`. A failure prints every sample.
"""

import errno
import mmap
import os
import random
import threading
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest
from memory import resident, status

from mount.mounting import Mount, note_text, run, write_record

WORKERS = 3
NAMES = 40
EXPECTED = (errno.EINVAL, errno.ENOENT, errno.EEXIST, errno.ESTALE, errno.ENOTEMPTY)
"""What may go wrong: drafts, and what another worker moved away."""


class Sample(NamedTuple):
    """The daemon at one moment."""

    memory: int
    files: int
    threads: int


def sample(pid: int) -> Sample:
    """What the kernel says of a process."""
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return Sample(resident(pid) >> 10, files, int(status(pid)["Threads"]))


class Worker(threading.Thread):
    """Does one thing after the other in a mount, in an order that its seed says, until it is told to end."""

    def __init__(self, mount: Mount, number: int, end: threading.Event) -> None:
        super().__init__(name=f"worker {number}")
        self.random = random.Random(number)
        self.root = mount.path
        self.end = end
        self.collection = mount / f"org.example.soak{number}"
        self.work = mount / f"work{number}"
        self.done = 0
        self.failed: list[Exception] = []
        for folder in (self.collection, self.work):
            folder.mkdir()

    def run(self) -> None:
        """Work, and keep what went wrong."""
        ways = [self.read, self.write, self.draft, self.remove, self.move, self.listed, self.scratch]
        ways += [self.mapped, self.folders, self.asked, self.kept_open]
        while not self.end.is_set():
            try:
                self.random.choice(ways)()
            except OSError as error:
                if error.errno not in EXPECTED:
                    self.failed.append(error)
                    return
            except Exception as error:
                self.failed.append(error)
                return
            self.done += 1

    def a_name(self) -> Path:
        return self.collection / f"{self.random.randrange(NAMES)}.json"

    def text(self) -> bytes:
        return note_text(self.collection.name, self.random.randrange(1000), {"t": "x" * 2000})

    def read(self) -> None:
        folder = self.random.choice(sorted(self.root.glob("app.bsky.*")))
        for path in sorted(folder.iterdir())[:30]:
            assert path.read_bytes().startswith(b"{")

    def write(self) -> None:
        path, text = self.a_name(), self.text()
        path.write_bytes(text)
        assert path.read_bytes() == text

    def draft(self) -> None:
        self.a_name().write_bytes(b"{")

    def remove(self) -> None:
        self.a_name().unlink()

    def move(self) -> None:
        self.a_name().rename(self.a_name())

    def listed(self) -> None:
        for entry in os.scandir(self.collection):
            entry.stat()
            os.listxattr(entry.path)

    def scratch(self) -> None:
        path = self.work / f"{self.random.randrange(4)}.bin"
        data = self.random.randbytes(self.random.randrange(1 << 20))
        path.write_bytes(data)
        assert path.read_bytes() == data
        os.truncate(path, len(data) // 2)

    def mapped(self) -> None:
        with (self.work / "mapped").open("wb+") as file:
            file.truncate(1 << 16)
            with mmap.mmap(file.fileno(), 0) as data:
                data[:5] = b"hello"

    def folders(self) -> None:
        path = self.work / "d" / "e"
        path.mkdir(parents=True)
        (path / "f").symlink_to("nowhere")
        (self.work / "d").rename(self.work / "g")
        run("rm", "-r", self.work / "g")

    def asked(self) -> None:
        for name in ("status", "diff", "root"):
            assert (self.root / ".mstfs" / name).read_bytes() or name == "diff"
        assert os.listdir(self.root / ".mstfs/history/1")

    def kept_open(self) -> None:
        path = self.work / "open"
        with path.open("wb") as file:
            path.unlink()
            file.write(b"x" * (1 << 18))


def check_flat(samples: list[Sample], slack_kib: int) -> None:
    """The end of a run is like its middle."""
    third = len(samples) // 3
    assert third >= 3
    middle, end = samples[third : 2 * third], samples[2 * third :]
    shown = "\n".join(map(str, samples))
    assert max(found.files for found in end) <= max(found.files for found in middle) + 8, shown
    assert max(found.threads for found in end) <= max(found.threads for found in middle) + 4, shown
    assert max(found.threads for found in end) <= 24, shown
    grown = median(found.memory for found in end) - median(found.memory for found in middle)
    assert grown <= slack_kib, f"{grown} KiB more\n{shown}"


def soak(car: Path, seconds: float, every: float, slack_kib: int) -> None:
    """Work on a mount for so long; sample and publish every so many seconds."""
    with Mount(car) as mount:
        assert mount.process is not None
        write_record(mount / "org.example.note/kept.json")
        end = threading.Event()
        workers = [Worker(mount, number, end) for number in range(WORKERS)]
        for worker in workers:
            worker.start()
        samples = []
        try:
            stop = time.monotonic() + seconds
            while time.monotonic() < stop and not any(worker.failed for worker in workers):
                # Nothing is waited for here but the time that the test is to take.
                end.wait(every)
                mount.mstfs("sync", mount.path, code=None)
                samples.append(sample(mount.process.pid))
        finally:
            end.set()
            for worker in workers:
                worker.join()
        assert [worker.failed for worker in workers] == [[]] * WORKERS
        assert min(worker.done for worker in workers) > 10
        status = mount.status()
        assert status["errors"] == 0, mount.log()
        assert status["last_publish"]["sequence"] > 3
        check_flat(samples, slack_kib)
        for path in [*mount.path.glob("org.example.soak*/*"), *mount.path.glob("work*/*")]:
            path.unlink()
        answer = mount.sync()
        assert answer["drafts"] == []
        assert mount.status()["scratch"]["files"] == 0


def test_a_short_load_leaves_nothing_behind(car: Path) -> None:
    soak(car, 15, 0.5, slack_kib=12 << 10)


@pytest.mark.long
def test_half_an_hour_of_load_is_flat(car: Path) -> None:
    soak(car, 1800, 5, slack_kib=4 << 10)
