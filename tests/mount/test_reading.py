"""Reading a mount with the programs that people read folders with."""

import errno
import filecmp
import hashlib
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mount.conftest import RECORDS
from mount.mounting import Mount, files_below, records_of, run, shell
from mstfs.archive import Archive
from mstfs.codec import cid as cids
from mstfs.repo import tid
from mstfs.repo.sample import ODD_RECORD_KEYS
from mstfs.view.names import Names


@pytest.fixture(scope="module", params=["read-write", "read-only"])
def mount(module_car: Path, request: pytest.FixtureRequest) -> Iterator[Mount]:
    with Archive.open(module_car, mode="write"):
        pass  # From now on there is an overlay, and in it a history to look at.
    with Mount(module_car, *(["--read-only"] if request.param == "read-only" else [])) as mounted:
        yield mounted


def modes(mount: Mount) -> tuple[str, str]:
    """How `ls` shows files and folders of a mount."""
    return ("-r--r--r--", "dr-xr-xr-x") if mount.status()["read_only"] else ("-rw-r--r--", "drwxr-xr-x")


@pytest.fixture(scope="module")
def expected(module_car: Path) -> dict[str, bytes]:
    """Path in the mount -> contents, taken from the archive without a mount."""
    names = Names(b".json")
    return {
        os.fsdecode(b"/".join(names.path_of(key.encode()))): text
        for key, text in records_of(module_car).items()
    }


def test_everything_reads_as_the_library_reads_it(mount: Mount, expected: dict[str, bytes]) -> None:
    assert len(expected) == RECORDS
    assert files_below(mount.path) == expected


def test_record_keys_that_are_odd_names_are_files(mount: Mount) -> None:
    keys = {name: mount.state(name)["key"] for name in files_below(mount.path) if "org.example.note" in name}
    plain = [key for key in ODD_RECORD_KEYS if f"org.example.note/{key}" in keys.values()]
    assert len(plain) >= 5
    for key in plain:
        if len(key) <= 250:
            assert keys[f"org.example.note/{key}.json"] == f"org.example.note/{key}"
    assert all(len(part.encode()) <= 255 for name in keys for part in name.split("/"))


def test_ls_and_find_show_every_name_once(mount: Mount, expected: dict[str, bytes]) -> None:
    found = run("find", ".", "-type", "f", "-printf", "%P\n", cwd=mount.path).stdout.splitlines()
    assert sorted(found) == sorted(expected)
    folders = sorted({name.split("/")[0] for name in expected})
    assert sorted(run("ls", "-1A", mount.path).stdout.splitlines()) == folders
    posts = sorted(name.split("/")[1] for name in expected if name.startswith("app.bsky.feed.post/"))
    assert sorted(run("ls", "-1", "--", mount / "app.bsky.feed.post").stdout.splitlines()) == posts
    lines = run("ls", "-la", mount / "app.bsky.feed.post").stdout.splitlines()[1:]
    sizes = {line.split()[-1]: int(line.split()[4]) for line in lines if line.startswith("-")}
    assert sizes == {name: len(expected[f"app.bsky.feed.post/{name}"]) for name in posts}
    file, folder = modes(mount)
    assert {line[:10] for line in lines if line.endswith(".json")} == {file}
    assert [line[:10] for line in lines if line.startswith("d")] == [folder] * 2


def test_sizes_are_exact(mount: Mount, expected: dict[str, bytes]) -> None:
    for name, text in expected.items():
        found = (mount / name).stat()
        assert found.st_size == len(text) == len((mount / name).read_bytes())
        assert stat.filemode(found.st_mode) == modes(mount)[0]
        assert (found.st_uid, found.st_nlink) == (os.getuid(), 1)


def test_programs_read_the_same_bytes(mount: Mount, expected: dict[str, bytes], tmp_path: Path) -> None:
    name = "app.bsky.actor.profile/self.json"
    assert run("cat", mount / name).stdout.encode() == expected[name]
    assert run("jq", "-r", ".displayName", mount / name).stdout == "Nobody in Particular\n"
    hits = run("grep", "-rl", "createdAt", ".", cwd=mount.path).stdout.splitlines()
    assert sorted(hit[2:] for hit in hits) == sorted(
        path for path, text in expected.items() if b"createdAt" in text
    )
    run("cp", "-r", mount.path, tmp_path / "cp")
    run("rsync", "-a", f"{mount.path}/", tmp_path / "rsync")
    shell(f"tar c -C '{mount.path}' . > out.tar", cwd=tmp_path)
    for copy in ("cp", "rsync"):
        assert files_below(tmp_path / copy) == expected
    with tarfile.open(tmp_path / "out.tar") as archive:
        packed = {
            member.name[2:]: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.isfile()
        }
    assert packed == expected
    again = run("rsync", "-ain", f"{mount.path}/", tmp_path / "rsync").stdout
    assert again == "", "times and sizes are what rsync keeps them to be"


def test_parts_of_files_read(mount: Mount, expected: dict[str, bytes]) -> None:
    name, text = max(expected.items(), key=lambda item: len(item[1]))
    with (mount / name).open("rb", buffering=0) as file:
        for offset, length in ((0, 1), (7, 100), (len(text) - 3, 100), (len(text), 10), (1 << 40, 10)):
            assert os.pread(file.fileno(), length, offset) == text[offset : offset + length]


def test_times_are_those_of_the_records(mount: Mount, expected: dict[str, bytes]) -> None:
    with Archive.open(mount.source) as archive:
        rev = archive.head.rev
    assert rev is not None
    for name in expected:
        key = mount.state(name)["key"].rpartition("/")[2]
        us, _ = tid.decode(key if tid.is_valid(key) else rev)
        assert (mount / name).stat().st_mtime_ns == us * 1000
    newest = run("ls", "-1t", mount / "app.bsky.feed.post").stdout.splitlines()
    assert newest == sorted(newest, reverse=True)


def test_extended_attributes(mount: Mount, expected: dict[str, bytes]) -> None:
    with Archive.open(mount.source) as archive:
        for name in expected:
            found = mount.state(name)
            cid = cids.for_block(archive.block(found.get("key", "")))
            assert found == {"cid": cids.to_text(cid), "key": found["key"], "state": "published"}
        root = archive.root
    assert mount.state("") == {"cid": root, "state": "signed"}
    shown = run("getfattr", "--absolute-names", "-d", mount / "app.bsky.actor.profile/self.json").stdout
    assert 'user.mstfs.key="app.bsky.actor.profile/self"' in shown
    with pytest.raises(OSError, match=r"Read-only|not supported"):
        os.setxattr(mount / "app.bsky.actor.profile/self.json", "user.mstfs.state", b"draft")
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        os.getxattr(mount / "app.bsky.actor.profile/self.json", "user.mstfs.error")


def test_the_control_folder_is_reachable_and_not_listed(mount: Mount) -> None:
    assert ".mstfs" not in os.listdir(mount.path)
    assert run("ls", "-1", mount / ".mstfs").stdout.split() == [
        "blocks", "commands", "diff", "history", "root", "status",
    ]  # fmt: skip
    with Archive.open(mount.source) as archive:
        root, did, block = archive.root, archive.head.commit, archive.block("app.bsky.actor.profile/self")
    assert did is not None
    assert (mount / ".mstfs/root").read_text() == root + "\n"
    status = mount.status()
    assert (status["root"], status["did"], status["kind"]) == (root, did.did, "signed")
    assert (status["source"], status["mountpoint"]) == (str(mount.source), str(mount.path))
    assert status["staged"] == {"put": 0, "delete": 0}
    assert (mount / ".mstfs/diff").read_bytes() == b""
    cid = mount.state("app.bsky.actor.profile/self.json")["cid"]
    held = (mount / ".mstfs/blocks" / cid).read_bytes()
    assert held == block
    assert cids.to_text(b"\x01\x71\x12\x20" + hashlib.sha256(held).digest()) == cid
    assert os.listdir(mount / ".mstfs/blocks") == []
    for absent in (".mstfs/blocks/nonsense", ".mstfs/blocks/" + root[:-1], ".mstfs/other", ".mstfs/root/x"):
        assert not (mount / absent).exists()


def test_the_history_shows_every_root(mount: Mount, expected: dict[str, bytes]) -> None:
    assert os.listdir(mount / ".mstfs/history") == ["1"]
    assert files_below(mount / ".mstfs/history/1") == expected
    same = filecmp.dircmp(mount.path, mount / ".mstfs/history/1")
    assert same.left_only == same.right_only == []
    for absent in ("0", "2", "01", "-1", "x", "1" * 30):
        assert not (mount / ".mstfs/history" / absent).exists()


def test_nothing_can_be_put_into_the_control_folder(mount: Mount) -> None:
    profile = mount / "app.bsky.actor.profile/self.json"
    changes: list[Callable[[], object]] = [
        *[
            partial((mount / ".mstfs" / name).write_text, "x")
            for name in ("root", "status", "new", "blocks/x")
        ],
        *[partial((mount / ".mstfs" / name).mkdir) for name in ("x", "history/x")],
        partial((mount / ".mstfs/root").unlink),
        partial((mount / ".mstfs").rename, mount / "mine"),
        partial(profile.rename, mount / ".mstfs/blocks/mine"),
        partial((mount / ".mstfs/history/1/app.bsky.actor.profile/self.json").write_text, "{}"),
        partial((mount / ".mstfs/history/1/app.bsky.actor.profile/self.json").unlink),
    ]
    for change in changes:
        with pytest.raises(OSError, match=r"Read-only|not permitted|denied"):
            change()
    assert profile.exists()


def test_commands_that_make_no_sense_are_refused(mount: Mount) -> None:
    if mount.status()["read_only"]:
        with pytest.raises(OSError, match="Read-only"):
            (mount / ".mstfs/commands/one").write_text("{}")
        return
    for word in ("x", "[]", "null", '{"command": "fly"}', '{"command": "publish", "wings": 2}', "{}"):
        path = mount / ".mstfs/commands/one"
        path.write_text(word)
        answer = json.loads(path.read_text())
        assert answer["ok"] is False
        assert answer["error"]
        path.unlink()


def test_absent_names_are_absent(mount: Mount) -> None:
    for name in ("nothing", "app.bsky.feed.post/nothing.json", "app.bsky.feed.post/nothing", "a/b/c"):
        run("ls", mount / name, code=2)
        run("cat", mount / name, code=1)
    run("cat", mount / "app.bsky.feed.post", code=1)
    assert not (mount / "app.bsky.actor.profile/self").exists()
    assert not (mount / "app.bsky.actor.profile/self.json/x").exists()
    with pytest.raises(OSError, match=os.strerror(errno.ENAMETOOLONG)):
        (mount / ("x" * 256)).stat()


def test_df_tells_of_the_disk_that_the_overlay_is_on(mount: Mount) -> None:
    here, there = os.statvfs(mount.path), os.statvfs(mount.source.parent)
    assert (here.f_namemax, here.f_frsize, here.f_blocks) == (255, there.f_frsize, there.f_blocks)
    source, kind = run("df", "--output=source,fstype", mount.path).stdout.splitlines()[1].split()
    assert (source, kind) == (str(mount.source), "fuse.mstfs")


def test_many_readers_at_once(mount: Mount, expected: dict[str, bytes]) -> None:
    programs = ["cat -- */*.json", "find . -type f", "tar c .", "grep -rc type .", "ls -lR"]
    shell(" & ".join(f"{program} > /dev/null" for program in programs) + " & wait", cwd=mount.path)
    done = run("xargs", "-0", "-P", "4", "-n", "7", "cat", cwd=mount.path, input="\0".join(sorted(expected)))
    assert sorted(done.stdout) == sorted(b"".join(expected.values()).decode())
