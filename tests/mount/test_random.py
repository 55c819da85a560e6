"""The same random work on a mount and on a local folder: both must say the same at every step."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mount.mounting import Mount, note_text

STEPS = 400
FOLDERS = ("org.example.one", "org.example.two", "plain", "plain/inner", "other")
RECORDS = ("a.json", "b.json", "c.json")
SCRATCH = ("s1", "s2", ".c.json.swp")


def attempt(work: Callable[[], Any]) -> tuple[str, Any]:
    """What came of it: an answer, or an errno."""
    try:
        return ("done", work())
    except OSError as error:
        return ("failed", error.errno)


def tree_of(folder: Path) -> dict[str, object]:
    """Every path below a folder with what it is and holds."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = (path.stat().st_size, path.read_bytes())
    return found


class Twins:
    """Two folders in which everything is done alike; differences fail at once."""

    def __init__(self, here: Path, there: Path, rng: random.Random) -> None:
        self.roots = (here, there)
        self.rng = rng
        self.open: list[tuple[int, int]] = []
        self.writable: list[tuple[int, int]] = []

    def both(self, what: str, work: Callable[[Path], Any]) -> tuple[str, Any]:
        """Do the same in both; the outcome, which must be the same."""
        here, there = (attempt(lambda root=root: work(root)) for root in self.roots)  # type: ignore[misc]
        assert here == there, f"{what}: {here} on the mount, {there} on the disk"
        return here

    def path(self, *pools: tuple[str, ...]) -> str:
        names = [name for pool in pools for name in pool]
        return f"{self.rng.choice(FOLDERS)}/{self.rng.choice(names)}"

    def text(self, path: str) -> bytes:
        """Something to write there: a record where the name is one."""
        if path.endswith(".json"):
            return note_text(
                "org.example.one", self.rng.randrange(10**9), {"s": "x" * self.rng.randrange(90_000)}
            )
        return self.rng.randbytes(self.rng.randrange(200_000))

    def holds_record(self, path: str) -> bool:
        local = self.roots[1] / path
        if not local.is_file() or local.is_symlink():
            return False
        try:
            return isinstance(json.loads(local.read_bytes()), dict)
        except ValueError:
            return False

    # --- steps ----------------------------------------------------------------------------------

    def write(self) -> None:
        path = self.path(RECORDS, SCRATCH)
        text = self.text(path)
        self.both(f"write {path}", lambda root: (root / path).write_bytes(text))

    def write_in_pieces(self) -> None:
        path = self.path(SCRATCH)
        pieces = [
            (self.rng.randrange(150_000), self.rng.randbytes(self.rng.randrange(9000))) for _ in range(4)
        ]
        cut = self.rng.randrange(200_000)

        def work(root: Path) -> None:
            with (root / path).open("r+b", buffering=0) as file:
                for offset, data in pieces:
                    os.pwrite(file.fileno(), data, offset)
                os.ftruncate(file.fileno(), cut)
                os.pwrite(file.fileno(), b"end", cut + 10)

        self.both(f"pieces of {path}", work)

    def move(self) -> None:
        source, target = self.path(RECORDS, SCRATCH), self.path(RECORDS, SCRATCH)
        if not target.endswith(".json") or self.holds_record(source):
            self.both(f"mv {source} {target}", lambda root: os.rename(root / source, root / target))

    def move_folder(self) -> None:
        source, target = self.rng.choice(FOLDERS), self.rng.choice(FOLDERS)
        self.both(f"mv {source} {target}", lambda root: os.rename(root / source, root / target))

    def unlink(self) -> None:
        path = self.path(RECORDS, SCRATCH)
        self.both(f"rm {path}", lambda root: (root / path).unlink())

    def make_folder(self) -> None:
        path = self.rng.choice(FOLDERS)
        self.both(f"mkdir {path}", lambda root: (root / path).mkdir())

    def remove_folder(self) -> None:
        path = self.rng.choice(FOLDERS)
        self.both(f"rmdir {path}", lambda root: (root / path).rmdir())

    def link(self) -> None:
        path, target = self.path(SCRATCH), self.rng.choice(SCRATCH)
        self.both(f"ln -s {target} {path}", lambda root: (root / path).symlink_to(target))

    def truncate(self) -> None:
        path, size = self.path(SCRATCH), self.rng.randrange(100_000)
        if not any((root / path).is_symlink() for root in self.roots):
            self.both(f"truncate {path}", lambda root: os.truncate(root / path, size))

    def look(self) -> None:
        path = self.path(RECORDS, SCRATCH)
        self.both(f"read {path}", lambda root: (root / path).read_bytes())
        self.both(f"stat {path}", lambda root: (root / path).stat().st_size)
        folder = self.rng.choice(FOLDERS)
        self.both(f"ls {folder}", lambda root: sorted(os.listdir(root / folder)))

    def open_one(self) -> None:
        path = self.path(RECORDS, SCRATCH)
        flags = self.rng.choice((os.O_RDONLY, os.O_RDWR))
        if len(self.open) < 6 and (self.roots[1] / path).exists() and not (self.roots[1] / path).is_dir():
            here, there = (os.open(root / path, flags) for root in self.roots)
            self.open.append((here, there))
            if flags == os.O_RDWR:
                self.writable.append((here, there))

    def read_open(self) -> None:
        if self.open:
            pair = self.rng.choice(self.open)
            start = self.rng.randrange(100_000)
            here, there = (os.pread(fd, 50_000, start) for fd in pair)
            assert here == there, "an open file"
            assert os.fstat(pair[0]).st_size == os.fstat(pair[1]).st_size

    def write_open(self) -> None:
        if self.writable:
            text = self.text("any.json")
            for fd in self.rng.choice(self.writable):
                os.pwrite(fd, text, 0)
                os.ftruncate(fd, len(text))

    def sync_open(self) -> None:
        if self.open:
            for fd in self.rng.choice(self.open):
                os.fsync(fd)

    def close_one(self) -> None:
        if self.open:
            pair = self.open.pop(self.rng.randrange(len(self.open)))
            if pair in self.writable:
                self.writable.remove(pair)
            for fd in pair:
                os.close(fd)

    def compare(self) -> None:
        here, there = map(tree_of, self.roots)
        assert here.keys() == there.keys()
        assert here == there


@contextmanager
def twins(mount: Mount, local: Path, seed: int) -> Iterator[Twins]:
    """Twins that close what they have open at the end."""
    pair = Twins(mount.path, local, random.Random(seed))
    try:
        yield pair
    finally:
        while pair.open:
            pair.close_one()


@pytest.mark.parametrize("seed", range(4))
def test_a_mount_does_as_a_folder_does(car: Path, tmp_path: Path, seed: int) -> None:
    with Mount(car, "--no-publish-on-unmount") as mount:
        for name in os.listdir(mount.path):
            shutil.rmtree(mount / name)
        mount.sync()
        local = tmp_path / "local"
        local.mkdir()
        with twins(mount, local, seed) as pair:
            steps = [
                pair.write, pair.write, pair.write, pair.write_in_pieces, pair.move, pair.move,
                pair.move_folder, pair.unlink, pair.make_folder, pair.remove_folder, pair.link,
                pair.truncate, pair.look, pair.look, pair.open_one, pair.read_open, pair.read_open,
                pair.close_one, pair.write_open, pair.write_open, pair.sync_open,
            ]  # fmt: skip
            for number in range(STEPS):
                pair.rng.choice(steps)()
                if number % 40 == 39:
                    pair.compare()
                if number % 100 == 60:
                    mount.sync()
                    pair.compare()
        pair.compare()
        mount.kill()
        mount.start()
        pair.compare()
        mount.sync()
        mount.remount()
        pair.compare()
