"""Names in mounted HAMTs that are no keys, and what a tree cannot hold."""

import errno
import os
import stat
from pathlib import Path

import pytest

from mount.hamts import CBOR, FILES, KINDS, RAW, check, make
from mount.mounting import Mount, files_below, refused, run
from mount.walking import opened
from mstfs.limits import KEY_BYTES


def test_temporaries_of_editors_are_scratch(tmp_path: Path) -> None:
    car = make(tmp_path, RAW, FILES)
    with Mount(car) as mount:
        for name in ("folder/.b.swp", ".#a", ".fuse_hidden0000002a", ".nfs01"):
            (mount / name).write_bytes(b"x")
            assert mount.state(name)["state"] == "scratch"
        (mount / "folder/.#b").symlink_to("somebody@somewhere")
        assert mount.staged() == []
        assert mount.sync()["changed"] is False
        mount.remount()
        assert (mount / "folder/.b.swp").read_bytes() == b"x"
        assert os.readlink(mount / "folder/.#b") == "somebody@somewhere"
        # Every other name is that of a key, also one that vim likes.
        for name in ("4913", "c/4913", ".hidden", ".swp", "x~", "#x#", ".b.swpx"):
            (mount / name).parent.mkdir(exist_ok=True)
            (mount / name).write_bytes(b"y")
            assert mount.state(name)["state"] == "staged"
        (mount / "folder/.b.swp").rename(mount / "folder/b")
        assert mount.state("folder/b")["state"] == "staged"
        (mount / "a").rename(mount / ".a.swp")
        assert mount.state(".a.swp")["state"] == "scratch"
        assert "D a" in mount.staged()
        (mount / ".a.swp").rename(mount / "a")
        assert not [line for line in mount.staged() if line.endswith(" a")]


def test_what_a_tree_cannot_hold_is_refused(tmp_path: Path) -> None:
    car = make(tmp_path, CBOR, FILES)
    with Mount(car) as mount:
        path = mount / "a"
        for target in (mount / "link", mount / "folder/link"):
            with refused(errno.EPERM):
                target.symlink_to("a")
        (mount / ".#lock").symlink_to("a")
        with refused(errno.EPERM):
            (mount / ".#lock").rename(mount / "lock")
        (mount / ".#lock").unlink()
        with refused(errno.EPERM):
            os.link(path, mount / "b")
        with refused(errno.EPERM):
            os.mkfifo(mount / "fifo")
        with refused(errno.EPERM):
            os.mknod(mount / "socket", stat.S_IFSOCK | 0o600)
        run("chmod", "600", path)
        run("touch", "-d", "2001-02-03T04:05:06Z", path)
        assert path.stat().st_mtime == 981173106
        assert mount.staged() == []
        assert files_below(mount.path) == FILES


@pytest.mark.parametrize("name", ["hamt3-cbor", "hashmap"])
def test_names_that_no_key_can_have_are_refused(name: str, tmp_path: Path) -> None:
    """Rather than kept as scratch: a copy of a folder must not leave some of it out without a word."""
    kind = KINDS[name]
    wrong = dict.fromkeys((b"%", b"%x", b"%=plain", b"%@", b"folder/.mstfs"), errno.EINVAL)
    not_text = b"\xff\xfe"
    if name == "hamt3-cbor":
        wrong.update({not_text: errno.EILSEQ, b"folder/" + not_text: errno.EILSEQ})
    car = make(tmp_path, kind, FILES)
    with Mount(car, "--values", kind.values) as mount:
        (mount / "spare").mkdir()
        for spelled, code in wrong.items():
            path = mount / os.fsdecode(spelled)
            for attempt in (path.touch, path.mkdir):
                with refused(code):
                    attempt()
            for source in ("a", "spare"):
                with refused(code):
                    (mount / source).rename(path)
        assert files_below(mount.path) == FILES
        assert mount.status()["scratch"]["files"] == 0
        assert mount.staged() == []
        if name == "hashmap":
            (mount / os.fsdecode(not_text)).write_bytes(b"any bytes are a key")
            assert mount.sync()["created"] == 1
        (mount / "%-..").mkdir()
        for path_of_key, key in {
            "%=%25x": "%x", "%=..": "..", "%-../up": "../up", "folder/%=.mstfs": "folder/.mstfs",
        }.items():  # fmt: skip
            (mount / path_of_key).write_bytes(b"x")
            assert mount.state(path_of_key)["key"] == key
        assert mount.sync()["created"] == 4
    check(car)


def test_keys_that_are_too_long_are_refused(tmp_path: Path) -> None:
    car = make(tmp_path, RAW)
    with Mount(car) as mount:
        parts = (b"d" * 200,) * 50
        with opened(mount.path, ()) as top:
            here = os.dup(top)
            length = 0
            for part in parts:
                length += len(part) + 1
                if length + 1 > KEY_BYTES:
                    with refused(errno.ENAMETOOLONG):
                        os.mkdir(part, dir_fd=here)
                    break
                os.mkdir(part, dir_fd=here)
                inner = os.open(part, os.O_RDONLY, dir_fd=here)
                os.close(here)
                here = inner
            room = KEY_BYTES - (length - len(part) - 1)
            assert 0 < room < 255
            with refused(errno.ENAMETOOLONG):
                os.open(b"f" * (room + 1), os.O_CREAT | os.O_WRONLY, dir_fd=here)
            os.close(os.open(b"f" * room, os.O_CREAT | os.O_WRONLY, dir_fd=here))
            os.close(here)
        assert mount.sync()["created"] == 1
    check(car)
