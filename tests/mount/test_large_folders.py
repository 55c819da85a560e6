"""Large folders, whose listings come from pages: what they say is true, whatever was done meanwhile."""

import json
import os
import random
import time
from pathlib import Path

import pytest

import mstfs
from mount.mounting import Mount, files_below, note_text, wait_for
from mount.test_fast_path import some_names
from mstfs.archive import Archive
from mstfs.blocks.car_writer import replacing
from mstfs.repo.sample import make_sample
from mstfs.view.page_store import SUFFIX
from mstfs.view.pages import LARGE, PAGE

POSTS = "app.bsky.feed.post"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CAR with so many posts that their listing is worth keeping."""
    path = tmp_path_factory.mktemp("made") / "large.car"
    make_sample(path, 6500, 5)
    return path


@pytest.fixture
def large(made: Path, tmp_path: Path) -> Path:
    """A copy of it, without anything beside it."""
    path = tmp_path / "large.car"
    path.write_bytes(made.read_bytes())
    return path


def stats_of(folder: Path) -> dict[str, int]:
    """Name -> size of all files in a folder, as a listing fills the kernel's cache with them."""
    with os.scandir(folder) as entries:
        listed = [(entry.name, entry.stat(follow_symlinks=False).st_size) for entry in entries]
    assert len(dict(listed)) == len(listed), "a name was listed twice"
    return dict(listed)


def sizes_of(files: dict[str, bytes]) -> dict[str, int]:
    return {name: len(data) for name, data in files.items()}


def published(car: Path) -> dict[str, bytes]:
    """The posts of a CAR, without a mount."""
    with Archive.open(car, mode="read") as archive:
        return {
            f"{key.partition('/')[2]}.json": archive.read(key)
            for key in archive
            if key.startswith(f"{POSTS}/")
        }


def forget() -> None:
    """Make the kernel forget what it need not know."""
    Path("/proc/sys/vm/drop_caches").write_text("2\n")


def test_listings_are_kept_for_the_next_mount(large: Path) -> None:
    expected = sizes_of(published(large))
    assert len(expected) > LARGE
    kept = large.with_name(large.name + SUFFIX)
    with Mount(large, "--read-only") as mount:
        assert stats_of(mount / POSTS) == expected
        wait_for(lambda: kept.exists() and list(kept.glob("*.pages")), "the listing to be kept")
    assert kept.stat().st_mode & 0o777 == 0o700
    (file,) = kept.glob("*.pages")
    assert file.stat().st_mode & 0o777 == 0o600
    with Mount(large, "--read-only") as mount:
        before = mount.status()["answered_without_python"]
        assert stats_of(mount / POSTS) == expected
        assert mount.status()["answered_without_python"] > before
        assert files_below(mount / POSTS) == published(large)
    # Whatever is damaged is found out, and read anew.
    whole = file.read_bytes()
    rng = random.Random(1)
    for place in (3, 20, len(whole) // 2, len(whole) - 3, *(rng.randrange(len(whole)) for _ in range(4))):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with Mount(large, "--read-only") as mount:
            assert stats_of(mount / POSTS) == expected
    file.write_bytes(whole[: len(whole) // 3])
    with Mount(large, "--read-only") as mount:
        assert stats_of(mount / POSTS) == expected


def test_pages_are_made_while_the_reader_is_busy(large: Path) -> None:
    """A reader that takes its time is answered from what was made meanwhile, and that is not too much."""
    expected = set(published(large))
    pages = len(expected) // PAGE
    assert pages >= 4
    with Mount(large, "--read-only") as mount:
        number = os.open(mount / POSTS, os.O_RDONLY)
        seen = some_names(number, 8000)
        time.sleep(0.2)
        assert mount.status()["cache"]["misses"] < len(expected), "all of it was made before it was asked for"
        while some := some_names(number, 8000):
            seen += some
            time.sleep(0.02)
        os.close(number)
        assert set(seen) == expected
        assert len(seen) == len(expected)
        listed = mount.status()["requests"]["readdir"]
        assert listed < pages, f"{listed} requests for {pages} pages waited for Python"


def test_a_listing_of_another_car_is_not_believed(large: Path, tmp_path: Path) -> None:
    with Mount(large, "--read-only") as mount:
        stats_of(mount / POSTS)
        kept = large.with_name(large.name + SUFFIX)
        wait_for(lambda: list(kept.glob("*.pages")), "the listing to be kept")
    with replacing(large) as file:
        make_sample(file, 6600, 6)
    with Mount(large, "--read-only") as mount:
        assert stats_of(mount / POSTS) == sizes_of(published(large))


class Posts:
    """The posts of a mount and what they should be, by name."""

    def __init__(self, mount: Mount, files: dict[str, bytes], rng: random.Random) -> None:
        self.mount = mount
        self.folder = mount / POSTS
        self.files = dict(files)
        self.rng = rng
        self.made = 0

    def some(self) -> str:
        return self.rng.choice(sorted(self.files))

    def text(self) -> bytes:
        self.made += 1
        return note_text(POSTS, self.made, {"text": "x" * self.rng.randrange(300)})

    def edit(self) -> None:
        name, text = self.some(), self.text()
        (self.folder / name).write_bytes(text)
        self.files[name] = text

    def append(self) -> None:
        """What is open for writing shows its size at once, and in a listing too."""
        name, text = self.some(), self.text()
        with (self.folder / name).open("wb", buffering=0) as file:
            file.write(text[:40])
            assert stats_of(self.folder)[name] == 40
            file.write(text[40:])
        self.files[name] = text

    def create(self) -> None:
        name, text = f"new{self.rng.randrange(200)}.json", self.text()
        (self.folder / name).write_bytes(text)
        self.files[name] = text

    def unlink(self) -> None:
        name = self.some()
        (self.folder / name).unlink()
        del self.files[name]

    def rename(self) -> None:
        old, new = self.some(), self.rng.choice((self.some(), f"moved{self.made}.json"))
        (self.folder / old).rename(self.folder / new)
        if old != new:
            self.files[new] = self.files.pop(old)

    def replace(self) -> None:
        """As editors do it; the old name comes back with another file."""
        name, text = self.some(), self.text()
        (self.folder / f"{name}.tmp").write_bytes(text)
        (self.folder / f"{name}.tmp").rename(self.folder / name)
        self.files[name] = text

    def swap(self) -> None:
        one, two = self.some(), self.some()
        if one != two:
            aside = self.folder / "aside.tmp"
            (self.folder / one).rename(aside)
            (self.folder / two).rename(self.folder / one)
            aside.rename(self.folder / two)
            self.files[one], self.files[two] = self.files[two], self.files[one]

    def publish(self) -> None:
        self.mount.sync()

    def forget(self) -> None:
        forget()

    def check(self) -> None:
        assert stats_of(self.folder) == sizes_of(self.files)
        for name in [self.some() for _ in range(5)]:
            assert (self.folder / name).read_bytes() == self.files[name], name
            assert (self.folder / name).stat().st_size == len(self.files[name])


@pytest.mark.parametrize("seed", [1, 2])
def test_random_work_in_a_large_folder(seed: int, large: Path) -> None:
    rng = random.Random(seed)
    works = ("edit", "append", "create", "unlink", "rename", "replace", "swap")
    with Mount(large) as mount:
        posts = Posts(mount, published(large), rng)
        posts.check()
        for turn in range(12):
            if turn == 6:
                mount.remount()
            for _ in range(rng.randrange(1, 12)):
                getattr(posts, rng.choice(works))()
            if rng.random() < 0.4:
                posts.publish()
            if rng.random() < 0.4:
                posts.forget()
            posts.check()
        posts.publish()
        assert files_below(posts.folder) == posts.files
        mount.mstfs("checkout", mount.path, "1")
        assert stats_of(posts.folder) == sizes_of(published(large))
        mount.mstfs("checkout", mount.path, str(len(os.listdir(mount / ".mstfs/history")) - 1))
    with Mount(large, "--read-only") as mount:
        stats_of(mount / POSTS)


def test_so_much_changes_that_a_folder_is_read_anew(large: Path) -> None:
    with Mount(large) as mount:
        posts = Posts(mount, published(large), random.Random(3))
        posts.check()
        held = os.open(posts.folder / posts.some(), os.O_RDONLY)
        for _ in range(3):
            for name in sorted(posts.files)[::5]:
                text = posts.text()
                (posts.folder / name).write_bytes(text)
                posts.files[name] = text
            posts.publish()
            posts.check()
        forget()
        posts.check()
        os.close(held)
        mount.remount()
        posts.check()


def test_readers_in_the_middle(large: Path) -> None:
    """Two readers, each half through: they see what stays in the folder once, whatever is published."""
    with Mount(large) as mount:
        posts = Posts(mount, published(large), random.Random(4))
        before = set(posts.files)
        numbers = [os.open(posts.folder, os.O_RDONLY) for _ in range(2)]
        seen = [some_names(number, size) for number, size in zip(numbers, (3000, 30000), strict=True)]
        gone = set(sorted(before)[::9])
        for name in gone:
            (posts.folder / name).unlink()
            del posts.files[name]
        for _ in range(20):
            posts.create()
        posts.publish()
        for number, names in zip(numbers, seen, strict=True):
            while more := some_names(number, 5000):
                names += more
            assert len(names) == len(set(names)), "a name was listed twice"
            assert before - gone <= set(names)
            assert set(names) <= before | set(posts.files)
            os.close(number)
        posts.check()


@pytest.fixture
def hamt(tmp_path: Path) -> Path:
    """A HAMT with a large folder, in which there are folders and files."""
    car = tmp_path / "tree.car"
    with mstfs.create(tmp_path / "draft.car", "hamt3", values="raw") as archive:
        archive.update(
            {f"big/{number}": b"%d" % number for number in range(2 * PAGE + 9)}
            | {f"big/sub{number}/inner": b"inner" for number in range(PAGE)}
        )
        archive.publish()
        archive.export(car)
    return car


def test_folders_among_files(hamt: Path) -> None:
    with Mount(hamt) as mount:
        big = mount / "big"
        expected = files_below(big)
        assert len(os.listdir(big)) == 3 * PAGE + 9
        # A file becomes a folder, and a folder a file.
        (big / "7").unlink()
        (big / "7").mkdir()
        (big / "7/below").write_bytes(b"below")
        (big / "sub3/inner").unlink()
        (big / "sub3").rmdir()
        (big / "sub3").write_bytes(b"a file now")
        del expected["7"], expected["sub3/inner"]
        expected |= {"7/below": b"below", "sub3": b"a file now"}
        for _ in range(2):
            assert files_below(big) == expected
            with os.scandir(big) as entries:
                assert {entry.name for entry in entries if entry.is_dir()} == {
                    f"sub{number}" for number in range(PAGE) if number != 3
                } | {"7"}
            mount.sync()
            forget()
        # A folder that was never looked into moves with all that the kernel knows of it.
        held = os.open(big / "sub9/inner", os.O_RDONLY)
        big.rename(mount / "moved")
        assert files_below(mount / "moved") == expected
        assert os.read(held, 9) == b"inner"
        os.close(held)
        forget()
        mount.sync()
        assert files_below(mount / "moved") == expected
        assert json.loads((mount / ".mstfs/status").read_text())["errors"] == 0
