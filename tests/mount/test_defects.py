"""Mounts of defective repositories: what is damaged is an error of its own, and all else goes on.

Every kind of `defects.py` is read through the library. On real mounts many kinds stand in one repository;
those that change the file, the commit or the form of the tree need one of their own, and some get it. With
`--long` each kind is mounted alone.
"""

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
from crooked import Node, Repo
from defects import KINDS

from mount.mounting import Mount, is_mounted, mstfs, write_record
from mstfs.archive import Archive
from mstfs.errors import MstfsError

DAMAGED = {errno.EIO, errno.EFBIG}
"""What a program may be told of a file that is damaged."""
LEAVES = 16
"""So many nodes of a repository can be bent, each in its own way."""


class Crowd(Repo):
    """A sound repository in which many kinds can be planted: each in a record, or in a node, of its own."""

    turn = 0

    def first_key(self) -> bytes:
        return b"com.example.note/n%03d" % self.turn

    def leaf(self) -> Node:
        found = [node for node in self.tree.everywhere() if node.layer == 0 and len(node.rows) > 2]
        return found[self.turn]


def crowd(names: Sequence[str]) -> bytes:
    """The CAR of a repository that is defective in all of these ways."""
    repo = Crowd()
    for repo.turn, name in enumerate(names):
        KINDS[name].plant(repo)
    return repo.car()


@cache
def where(name: str) -> Literal["record", "node", "repository"]:
    """What a kind changes: one record with its key, one node of the lowest layer, or more than that."""
    repo, sound = Repo(), Repo()
    before = {field: id(value) for field, value in vars(repo).items() if field != "_tree"}
    KINDS[name].plant(repo)
    changed = [field for field, known in before.items() if id(getattr(repo, field)) != known]
    if changed or repo.commit != sound.commit:
        return "repository"
    if repo._tree is None:
        return "record"
    return "node" if _shape(repo) == _shape(sound) else "repository"


def _shape(repo: Repo) -> list[tuple[int, list[bytes]]]:
    return [(node.layer, [row.key for row in node.rows]) for node in repo.tree.everywhere()]


def of(place: str) -> list[str]:
    """The kinds that change this."""
    return [name for name in KINDS if where(name) == place]


def bent() -> list[list[str]]:
    """The kinds that change a node, in groups that fit into one repository."""
    names = of("node")
    return [names[at : at + LEAVES] for at in range(0, len(names), LEAVES)]


# --- looking ------------------------------------------------------------------------------------


def told(error: OSError) -> None:
    """What a program is told of damage; anything else is an error of the test."""
    if error.errno not in DAMAGED:
        raise error


def read(path: Path) -> bytes | None:
    """What a file holds; None where it is damaged."""
    try:
        return path.read_bytes()
    except OSError as error:
        told(error)
        return None


def goes_on(mount: Mount) -> dict[str, bytes | None]:
    """A mount can be walked, asked, written to and taken down, whatever is damaged; what the walk found."""
    walk = [
        Path(at, name)
        for at, _, names in os.walk(mount.path, onerror=told)
        for name in names
        if ".mstfs" not in at.split("/")
    ]
    found = {str(path.relative_to(mount.path)): read(path) for path in walk}
    assert mount.status()["root"]
    new = mount / "org.example.hostile"
    new.mkdir(exist_ok=True)
    text = write_record(new / "new.json")
    assert read(new / "new.json") == text
    # The new root needs the nodes on the way, which may be damaged: then that is what it says.
    done = mount.mstfs("sync", mount.path, code=None)
    assert done.returncode in (0, 2, 3)
    assert read(new / "new.json") == text
    assert all(read(mount / path) == data for path, data in found.items())
    mount.mstfs("umount", "--no-publish", mount.path)
    assert mount.ended() == 0
    return found


def mountable(path: Path) -> bool:
    """Whether the library opens it; a file that it refuses is refused by the command, in one sentence."""
    try:
        with Archive.open(path):
            return True
    except MstfsError:
        return False


def alone(name: str, folder: Path) -> None:
    """Mount a repository that is defective in one way, or be told why that cannot be."""
    path = folder / "repo.car"
    path.write_bytes(KINDS[name].car())
    if mountable(path):
        with Mount(path) as mount:
            goes_on(mount)
        return
    (folder / "mnt").mkdir()
    done = mstfs("mount", "-f", path, folder / "mnt", folder=folder, code=2)
    assert len(done.stderr.splitlines()) == 1
    assert str(path) in done.stderr
    assert not is_mounted(folder / "mnt")


# --- the tests ----------------------------------------------------------------------------------


def test_the_kinds_are_told_apart() -> None:
    assert min(len(of("record")), len(of("node")), len(of("repository"))) > 40
    assert where("record-float") == where("key-with-two-slashes") == "record"
    assert where("prefix-negative") == where("node-missing") == "node"
    assert where("padded") == where("commit-version-4") == where("tower-of-pointers") == "repository"


@pytest.mark.parametrize("name", KINDS)
def test_the_library_reads_what_is_left(name: str, tmp_path: Path) -> None:
    path = tmp_path / "repo.car"
    path.write_bytes(KINDS[name].car())
    if not mountable(path):
        return
    with Archive.open(path) as archive:
        sound = 0
        with suppress(MstfsError):
            for key in archive:
                with suppress(MstfsError):
                    archive.json(key)
                    sound += 1
        # A node with a key that is too long for any, or empty, is refused as a whole.
        assert sound > 100 or where(name) != "record" or KINDS[name].rule == "key-length"


def test_a_mount_of_every_kind_of_bad_record(tmp_path: Path) -> None:
    path = tmp_path / "repo.car"
    path.write_bytes(crowd([name for name in of("record") if KINDS[name].rule != "key-length"]))
    with Mount(path) as mount:
        found = goes_on(mount)
    # The records that nobody touched are all there.
    posts = [data for file, data in found.items() if file.startswith("app.bsky.feed.post/")]
    assert len(posts) == 100
    assert all(posts)
    assert len([data for data in found.values() if data is None]) > 20


@pytest.mark.parametrize("group", range(4))
def test_a_mount_of_every_kind_of_bad_node(group: int, tmp_path: Path) -> None:
    groups = bent()
    assert len(groups) == 4
    path = tmp_path / "repo.car"
    path.write_bytes(crowd(groups[group]))
    with Mount(path) as mount:
        found = goes_on(mount)
    assert len(found) > 20
    assert any(found.values())


@pytest.mark.parametrize("name", of("repository")[::6])
def test_a_mount_of_a_repository_that_is_bad_as_a_whole(name: str, tmp_path: Path) -> None:
    alone(name, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_a_mount_of_each_kind(name: str, tmp_path: Path) -> None:
    alone(name, tmp_path)
