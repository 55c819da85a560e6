"""The same random program on a mounted HAMT and on a plain folder: each step has the same outcome in both.

Any name may be that of a file and later that of a folder. Left out, for a tree of keys and bytes has no place
for them: symbolic and hard links, permissions. Left out too: times, and names that no key can have.
"""

import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mount.hamts import KINDS, Kind, check, make
from mount.mounting import Mount

STEPS = 600
PARTS = ("a", "b", "c.json", ".d e", "a!")
BIGGEST = 150_000


def attempt(work: Callable[[], Any]) -> tuple[str, Any]:
    """What came of it: an answer, or an errno."""
    try:
        return ("done", work())
    except OSError as error:
        return ("failed", error.errno)


def tree_of(folder: Path) -> dict[str, object]:
    """Every path below a folder; of a file its size and contents."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        found[name] = None if path.is_dir() else (path.stat().st_size, path.read_bytes())
    return found


def size_of(found: os.stat_result) -> int | None:
    """The size of a file; those of folders mean nothing."""
    return None if stat.S_ISDIR(found.st_mode) else found.st_size


class Twins:
    """Two folders in which everything is done alike; differences fail at once."""

    def __init__(self, here: Path, there: Path, rng: random.Random) -> None:
        self.roots = (here, there)
        self.rng = rng
        self.open: list[tuple[int, int]] = []
        self.log: list[str] = []

    def both(self, what: str, work: Callable[[Path], Any]) -> bool:
        """Do the same in both, with the same outcome; whether it was done."""
        here, there = (attempt(lambda root=root: work(root)) for root in self.roots)  # type: ignore[misc]
        self.log.append(f"{what}: {there[0] if there[0] == 'done' else os.strerror(there[1])}")
        history = "\n".join(self.log[-40:])
        assert here == there, f"{here!r:.200} on the mount, {there!r:.200} on the disk, after\n{history}"
        return here[0] == "done"

    def path(self) -> str:
        """Any path; sometimes one that is there."""
        if self.rng.random() < 0.3 and (there := sorted(self.roots[1].rglob("*"))):
            return str(self.rng.choice(there).relative_to(self.roots[1]))
        parts = PARTS[:3] if self.rng.random() < 0.8 else PARTS
        return "/".join(self.rng.choice(parts) for _ in range(self.rng.choice((1, 1, 2, 2, 3))))

    def data(self) -> bytes:
        size = self.rng.choice((0, 1, 30, 5000, self.rng.randrange(BIGGEST)))
        return self.rng.randbytes(size)

    # --- steps ----------------------------------------------------------------------------------

    def write(self) -> None:
        path, data = self.path(), self.data()
        self.both(f"write {len(data)} to {path}", lambda root: (root / path).write_bytes(data))

    def create(self) -> None:
        path, data = self.path(), self.data()

        def work(root: Path) -> None:
            with (root / path).open("xb") as file:
                file.write(data)

        self.both(f"create {path}", work)

    def append(self) -> None:
        path, data = self.path(), self.data()

        def work(root: Path) -> int:
            with (root / path).open("ab") as file:
                return file.write(data)

        self.both(f"append {len(data)} to {path}", work)

    def write_in_pieces(self) -> None:
        path = self.path()
        pieces = [(self.rng.randrange(BIGGEST), self.data()) for _ in range(3)]
        cut = self.rng.randrange(BIGGEST)

        def work(root: Path) -> None:
            with (root / path).open("r+b", buffering=0) as file:
                for offset, data in pieces:
                    os.pwrite(file.fileno(), data, offset)
                os.ftruncate(file.fileno(), cut)
                os.pwrite(file.fileno(), b"end", cut + 10)

        self.both(f"pieces of {path}", work)

    def truncate(self) -> None:
        path, size = self.path(), self.rng.choice((0, 10, self.rng.randrange(BIGGEST)))
        self.both(f"truncate {path} to {size}", lambda root: os.truncate(root / path, size))

    def move(self) -> None:
        source, target = self.path(), self.path()
        self.both(f"mv {source} {target}", lambda root: os.rename(root / source, root / target))

    def unlink(self) -> None:
        path = self.path()
        self.both(f"rm {path}", lambda root: (root / path).unlink())

    def make_folder(self) -> None:
        path = self.path()
        self.both(f"mkdir {path}", lambda root: (root / path).mkdir())

    def remove_folder(self) -> None:
        path = self.path()
        self.both(f"rmdir {path}", lambda root: (root / path).rmdir())

    def look(self) -> None:
        path = self.path()
        self.both(f"cat {path}", lambda root: (root / path).read_bytes())
        self.both(f"stat {path}", lambda root: size_of((root / path).stat()))
        self.both(f"ls {path}", lambda root: sorted(os.listdir(root / path)))

    def open_one(self) -> None:
        path = self.path()
        flags = self.rng.choice((os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_TRUNC))
        files: list[int] = []
        try:
            done = len(self.open) < 6 and self.both(
                f"open {path} {flags:#x}", lambda root: files.append(os.open(root / path, flags))
            )
        except BaseException:
            for fd in files:
                os.close(fd)
            raise
        if done:
            self.open.append((files[0], files[1]))

    def with_open(self, what: str, work: Callable[[int], Any]) -> None:
        if self.open:
            number = self.rng.randrange(len(self.open))
            pair = dict(zip(self.roots, self.open[number], strict=True))
            self.both(f"{what} (open {number})", lambda root: work(pair[root]))

    def read_open(self) -> None:
        start = self.rng.randrange(BIGGEST)
        self.with_open(f"pread at {start}", lambda fd: os.pread(fd, 50_000, start))
        self.with_open("fstat", lambda fd: size_of(os.fstat(fd)))

    def write_open(self) -> None:
        start, data = self.rng.randrange(BIGGEST), self.data()
        self.with_open(f"pwrite {len(data)} at {start}", lambda fd: os.pwrite(fd, data, start))

    def cut_open(self) -> None:
        size = self.rng.randrange(BIGGEST)
        self.with_open(f"ftruncate {size}", lambda fd: os.ftruncate(fd, size))

    def sync_open(self) -> None:
        self.with_open("fsync", os.fsync)

    def close_one(self) -> None:
        if self.open:
            number = self.rng.randrange(len(self.open))
            for fd in self.open.pop(number):
                os.close(fd)
            self.log.append(f"close (open {number})")

    def compare(self) -> None:
        here, there = map(tree_of, self.roots)
        history = "\n".join(self.log[-60:])
        assert here.keys() == there.keys(), f"after\n{history}"
        assert here == there, f"after\n{history}"


@contextmanager
def twins(mount: Mount, local: Path, seed: int) -> Iterator[Twins]:
    """Twins that close what they have open at the end."""
    local.mkdir(exist_ok=True)
    pair = Twins(mount.path, local, random.Random(seed))
    try:
        yield pair
    finally:
        while pair.open:
            pair.close_one()


def programs() -> Iterator[Any]:
    """The kinds with a program each; many more with --long."""
    for number, (name, kind) in enumerate(KINDS.items()):
        for seed in range(number, 100 + number, 10):
            long = seed >= 10 or name in ("hashmap", "hashmap-3")
            yield pytest.param(kind, seed, id=f"{name}-{seed}", marks=pytest.mark.long if long else [])


@pytest.mark.parametrize(("kind", "seed"), list(programs()))
def test_a_hamt_does_as_a_folder_does(kind: Kind, seed: int, tmp_path: Path) -> None:
    car = make(tmp_path, kind)
    with Mount(car, "--no-publish-on-unmount", "--values", kind.values) as mount:
        for part in range(3):
            with twins(mount, tmp_path / "local", 1000 * seed + part) as pair:
                steps = [
                    pair.write, pair.write, pair.create, pair.append, pair.write_in_pieces, pair.truncate,
                    pair.move, pair.move, pair.move, pair.unlink, pair.unlink, pair.make_folder,
                    pair.make_folder, pair.remove_folder, pair.look, pair.look, pair.open_one,
                    pair.open_one, pair.read_open, pair.write_open, pair.cut_open, pair.sync_open,
                    pair.close_one,
                ]  # fmt: skip
                for number in range(STEPS // 3):
                    pair.rng.choice(steps)()
                    if number % 50 == 49:
                        pair.compare()
            pair.compare()
            # What is shown again is staged at first, and then published in part.
            if part == 1:
                mount.sync()
                check(car)
            mount.remount()
            pair.compare()
        mount.sync()
        pair.compare()
        assert mount.status()["drafts"] == []
        assert mount.status()["scratch"]["files"] == 0
    check(car)
