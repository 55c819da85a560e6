"""Writing to mounted HAMTs: what each call does, what becomes of it in the tree, and what outlives a kill."""

import errno
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import naive_hamt
import pytest
from workspaces import write_blocks

from mount.hamts import CBOR, FILES, HASH_MAP, KINDS, RAW, Kind, check, files_of, make
from mount.mounting import Mount, files_below, refused, run, wait_for
from mount.walking import Names, opened, walk
from mstfs.codec import byte_string

BIG = 20 << 20


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of HAMT that can be changed."""
    return KINDS[request.param]


@pytest.fixture
def mount(kind: Kind, tmp_path: Path) -> Iterator[Mount]:
    """A mount of a HAMT with FILES. What it publishes in the end is sound, and all of it."""
    car = make(tmp_path, kind, FILES)
    with Mount(car, "--values", kind.values) as mounted:
        yield mounted
        mounted.sync()
        check(car)
        assert files_of(car) == files_below(mounted.path)


# --- files and folders ------------------------------------------------------------------------


def test_what_programs_do_to_files(mount: Mount) -> None:
    assert files_below(mount.path) == FILES
    (mount / "new").write_bytes(b"new")
    (mount / "a").write_bytes(b"overwritten")
    with (mount / "folder/b").open("ab") as file:
        file.write(b", and more")
    os.truncate(mount / "zarr.json", 1)
    (mount / "folder/empty").touch()
    (mount / "folder/inner/c").unlink()
    assert files_below(mount.path) == {
        "new": b"new", "a": b"overwritten", "folder/b": b"old b, and more", "folder/empty": b"",
        "zarr.json": b"{",
    }  # fmt: skip
    assert mount.staged() == [
        "M a", "M folder/b", "A folder/empty", "D folder/inner/c", "A new", "M zarr.json",
    ]  # fmt: skip
    for name, data in files_below(mount.path).items():
        assert (mount / name).stat().st_size == len(data)
        assert mount.state(name)["state"] == "staged"
        assert mount.state(name)["key"] == name
    answer = mount.sync()
    assert (answer["created"], answer["updated"], answer["deleted"]) == (2, 3, 1)
    assert mount.staged() == []
    assert mount.state("a")["state"] == "published"
    # What was there is no edit, however it was written.
    (mount / "a").write_bytes(b"else")
    (mount / "a").write_bytes(b"overwritten")
    (mount / "b").write_bytes(b"x")
    (mount / "b").unlink()
    assert mount.staged() == []
    assert mount.sync()["changed"] is False


def test_names_and_folders(mount: Mount) -> None:
    (mount / "folder").rename(mount / "other")
    (mount / "other/inner").rename(mount / "top")
    (mount / "a").rename(mount / "top/a")
    (mount / "x/y/z").mkdir(parents=True)
    (mount / "x/y/z/file").write_bytes(b"deep")
    (mount / "x/y").rename(mount / "x/w")
    with refused(errno.ENOTEMPTY):
        (mount / "x").rmdir()
    with refused(errno.EISDIR):
        (mount / "zarr.json").rename(mount / "x")
    with refused(errno.ENOTDIR):
        (mount / "x").rename(mount / "zarr.json")
    (mount / "zarr.json").rename(mount / "other/b")
    expected = {"other/b": b"{}", "top/a": b"old a", "top/c": b"", "x/w/z/file": b"deep"}
    assert files_below(mount.path) == expected
    assert sorted(os.listdir(mount / "x")) == ["w"]
    mount.remount()
    assert files_below(mount.path) == expected
    # A file where there was a folder, and the other way round.
    run("rm", "-r", mount / "x")
    (mount / "x").write_bytes(b"file")
    (mount / "top/a").unlink()
    (mount / "top/a").mkdir()
    (mount / "top/a/a").write_bytes(b"in a folder")
    expected = {"other/b": b"{}", "top/a/a": b"in a folder", "top/c": b"", "x": b"file"}
    assert files_below(mount.path) == expected
    mount.sync()
    assert files_below(mount.path) == expected
    assert mount.status()["scratch"]["files"] == 0


def test_many_files_at_once(mount: Mount) -> None:
    rng = random.Random(3)
    for number in range(300):
        path = mount / f"many/{number % 7}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.randrange(400)))
    assert mount.sync()["created"] == 300
    check(mount.source)
    run("rm", "-r", mount / "many/3", mount / "many/5")
    run("cp", "-r", mount / "many/1", mount / "many/2")
    run("mv", mount / "many/4", mount / "moved")
    expected = files_below(mount.path)
    assert mount.sync()["changed"] is True
    mount.remount()
    assert files_below(mount.path) == expected


# --- copies -----------------------------------------------------------------------------------


def plant(folder: int, path: Names, data: bytes) -> None:
    """Write a file below a folder, however long its path is."""
    for depth in range(1, len(path)):
        with opened(folder, path[: depth - 1]) as above:
            if path[depth - 1] not in map(os.fsencode, os.listdir(above)):
                os.mkdir(path[depth - 1], dir_fd=above)
    with opened(folder, path[:-1]) as above:
        fd = os.open(path[-1], os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=above)
        with os.fdopen(fd, "wb") as file:
            file.write(data)


@pytest.mark.parametrize(
    ("name", "kind", "new_files"),
    [("hamt_pyhamt3_hostile_keys", CBOR, "record"), ("zarr_pyhamt3", RAW, "blob")],
)
def test_a_copy_is_the_same_tree(
    name: str, kind: Kind, new_files: str, shared_fixtures: Path, tmp_path: Path
) -> None:
    """File by file into an empty mount, whatever the keys: the root is the one that py-hamt made."""
    source = Path(shutil.copy(shared_fixtures / "hamt" / f"{name}.car", tmp_path / "source.car"))
    source.chmod(0o644)
    target = make(tmp_path, kind)
    options = ("--values", kind.values, "--new-files", new_files)
    with Mount(source, "--read-only", point=tmp_path / "from") as origin, Mount(target, *options) as copy:
        wanted = dict(walk(origin.path))
        with opened(copy.path, ()) as top:
            for path, seen in wanted.items():
                plant(top, path, seen.data)
        copy.sync()
        assert {path: seen.data for path, seen in walk(copy.path)} == {
            path: seen.data for path, seen in wanted.items()
        }
        assert copy.status()["root"] == origin.status()["root"]
        copy.remount()
        assert {path: seen.state for path, seen in walk(copy.path)} == {
            path: seen.state for path, seen in wanted.items()
        }


def test_editing_a_tree_with_keys_one_level_off_puts_them_right(tmp_path: Path) -> None:
    plain = {f"dir{number % 3}/{number}": b"file %d" % number for number in range(300)}
    stored = {key: byte_string.head(len(data)) + data for key, data in plain.items()}
    cid_of = {key.encode(): b"\x01\x55\x1e\x20" + naive_hamt.blake3_of(data) for key, data in stored.items()}
    root, nodes = naive_hamt.py_hamt_2(cid_of, skip=1)
    car = tmp_path / "tree.car"
    write_blocks(car, (root,), {**nodes, **{cid_of[key.encode()]: data for key, data in stored.items()}})
    with Mount(car) as mount:
        assert files_below(mount.path) == plain
        (mount / "dir0/3").write_bytes(b"changed")
        expected = {**plain, "dir0/3": b"changed"}
        assert mount.sync()["updated"] == 1
        assert files_below(mount.path) == expected
        mount.remount()
        assert files_below(mount.path) == expected
    check(car)


# --- history ----------------------------------------------------------------------------------


def test_history_revert_and_checkout(mount: Mount) -> None:
    first = files_below(mount.path)
    first_root = mount.status()["root"]
    (mount / "a").write_bytes(b"second a")
    (mount / "new/file").parent.mkdir()
    (mount / "new/file").write_bytes(b"second")
    (mount / "folder/b").unlink()
    second = files_below(mount.path)
    mount.sync()
    assert sorted(os.listdir(mount / ".mstfs/history")) == ["1", "2"]
    assert files_below(mount / ".mstfs/history/1") == first
    assert files_below(mount / ".mstfs/history/2") == second
    with refused(errno.EPERM):
        (mount / ".mstfs/history/1/a").write_bytes(b"x")
    (mount / "a").write_bytes(b"third a")
    (mount / "new/more").write_bytes(b"third")
    (mount / "new/file").rename(mount / "moved")
    reverted = mount.mstfs("revert", mount / "new").stdout.split()
    assert sorted(reverted) == [str(mount / "new/file"), str(mount / "new/more")]
    assert files_below(mount.path) == {**second, "a": b"third a", "moved": b"second"}
    mount.mstfs("revert", mount.path)
    assert mount.staged() == []
    assert files_below(mount.path) == second
    (mount / "a").write_bytes(b"staged")
    mount.mstfs("checkout", mount.path, "1", code=2)
    mount.mstfs("checkout", "--force", mount.path, "1")
    assert mount.status()["root"] == first_root
    assert files_below(mount.path) == {**first, "a": b"staged"}
    assert mount.staged() == ["M a"]
    mount.mstfs("revert", mount / "a")
    assert files_below(mount.path) == first
    mount.mstfs("checkout", mount.path, "2")
    assert files_below(mount.path) == second


def test_a_file_whose_name_becomes_that_of_a_folder(tmp_path: Path) -> None:
    car = make(tmp_path, HASH_MAP, {"name": b"file", "other": b"x"})
    with Mount(car, "--values", "auto") as mount:
        number = (mount / "name").stat().st_ino
        (mount / "name").rename(mount / "aside")
        (mount / "name").mkdir()
        (mount / "aside").rename(mount / "name/%@")
        assert mount.staged() == []
        assert (mount / "name/%@").stat().st_ino == number
        (mount / "name/below").write_bytes(b"below")
        assert mount.state("name/%@")["key"] == "name"
        assert mount.sync()["created"] == 1
        both = {"name/%@": b"file", "name/below": b"below", "other": b"x"}
        assert files_below(mount.path) == both
        mount.remount()
        assert files_below(mount.path) == both
        with (mount / "name/%@").open("rb", buffering=0) as reader:
            mount.mstfs("checkout", mount.path, "1")
            assert files_below(mount.path) == {"name": b"file", "other": b"x"}
            assert sorted(os.listdir(mount.path)) == ["name", "other"]
            assert reader.read() == b"file"
        with (mount / "name").open("rb", buffering=0) as reader:
            mount.mstfs("checkout", mount.path, "2")
            assert files_below(mount.path) == both
            assert reader.read() == b"file"
        (mount / "name").rename(mount / "folder")
        assert files_below(mount.path) == {"folder/%@": b"file", "folder/below": b"below", "other": b"x"}
        assert mount.staged() == ["A folder", "A folder/below", "D name", "D name/below"]
        (mount / "folder/below").unlink()
        (mount / "folder/%@").rename(mount / "name")
        (mount / "folder").rmdir()
        assert mount.staged() == ["D name/below"]
        mount.sync()
        check(car)
    assert files_of(car) == {"name": b"file", "other": b"x"}


# --- survival ---------------------------------------------------------------------------------


def test_what_was_fsynced_or_closed_survives_sigkill(kind: Kind, tmp_path: Path) -> None:
    car = make(tmp_path, kind, FILES)
    with Mount(car, "--values", kind.values) as mount:
        (mount / "closed").write_bytes(b"closed")
        (mount / "folder").rename(mount / "renamed")
        fd = os.open(mount / "open", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"synced")
        os.fsync(fd)
        os.write(fd, b", and this may be lost")
        assert mount.process is not None
        mount.process.kill()
        mount.process.wait()
        with refused(errno.ENOTCONN):
            os.close(fd)
        mount.mstfs("umount", mount.path)
        mount.start()
        expected = {name.replace("folder/", "renamed/"): data for name, data in FILES.items()}
        assert files_below(mount.path) == {**expected, "closed": b"closed", "open": b"synced"}
        mount.sync()
    check(car)
    assert files_of(car) == {**expected, "closed": b"closed", "open": b"synced"}


def test_a_big_file_that_was_fsynced_survives_sigkill(tmp_path: Path) -> None:
    car = make(tmp_path, RAW)
    data = random.Random(7).randbytes(BIG)
    with Mount(car) as mount:
        fd = os.open(mount / "big", os.O_CREAT | os.O_WRONLY)
        os.write(fd, data)
        os.fsync(fd)
        assert mount.staged() == ["A big"]
        mount.kill()
        with refused(errno.ENOTCONN):
            os.close(fd)
        mount.start()
        assert (mount / "big").read_bytes() == data
        assert mount.staged() == ["A big"]
    assert files_of(car) == {"big": data}


def test_who_has_a_file_open_goes_on_with_it(tmp_path: Path) -> None:
    car = make(tmp_path, RAW, {"a": b"first", "big": bytes(3 << 20)})
    with Mount(car) as mount:
        with (
            (mount / "a").open("rb", buffering=0) as reader,
            (mount / "big").open("r+b", buffering=0) as writer,
        ):
            (mount / "a").write_bytes(b"second")
            mount.sync()
            assert (mount / "a").read_bytes() == b"second"
            assert reader.read() in (b"first", b"second")
            os.pwrite(writer.fileno(), b"one", 1 << 20)
            mount.sync()
            os.pwrite(writer.fileno(), b"two", 2 << 20)
            (mount / "big").unlink()
            assert os.pread(writer.fileno(), 3, 1 << 20) == b"one"
        wait_for(lambda: mount.staged() == ["D big"], "the file to be gone")
    assert files_of(car) == {"a": b"second"}
