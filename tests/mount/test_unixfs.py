"""UnixFS, mounted: folders, shards, files of every layout, links, modes and times, and what is missing."""

import errno
import json
import os
import random
import re
import shutil
import stat
from hashlib import sha256
from pathlib import Path

import pytest
from workspaces import write_blocks

from mount.mounting import Mount, files_below, mstfs, refused, run
from mstfs.archive import Archive
from mstfs.codec import cid as cids

CONFORMANCE = "gateway-conformance__"


def mounted(shared_fixtures: Path, name: str, folder: Path) -> Mount:
    """A mount of a copy of a fixture."""
    car = Path(shutil.copy(shared_fixtures / "unixfs" / f"{name}.car", folder / f"{name}.car"))
    car.chmod(0o644)
    return Mount(car)


def imported(source: Path, *options: str) -> Path:
    """A CAR of a folder, beside it."""
    car = source.with_suffix(".car")
    mstfs("import", source, car, "--to", "unixfs", *options, folder=source.parent)
    return car


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files with modes, times, links, empty folders, and names that are text, and some that are not."""
    top = tmp_path / "files"
    rng = random.Random(9)
    sizes = {"empty": 0, "one": 1, "sub/chunk": 262_144, "sub/chunk and 1": 262_145, "sub/big": 3_000_000}
    for name, size in sizes.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(rng.randbytes(size))
    (top / "sub/ünïcode 🦋\n'\"").write_bytes(b"name")
    (top / "program").write_bytes(b"#!/bin/sh\necho it runs\n")
    (top / "program").chmod(0o755)
    (top / "nothing/in/here").mkdir(parents=True)
    (top / "link").symlink_to("sub/big")
    (top / "sub/up").symlink_to("../one")
    (top / "dangling").symlink_to("/nowhere/at all")
    (top / "sub").chmod(0o750)
    for number, path in enumerate(sorted(top.rglob("*"), key=lambda path: -len(path.parts))):
        os.utime(path, ns=(0, 1_000_000_000_123_456_789 + number * 10**12), follow_symlinks=False)
    return top


def test_a_mounted_folder_is_the_folder(folder: Path) -> None:
    with Mount(imported(folder, "--preserve")) as mount:
        assert files_below(mount.path) == files_below(folder)
        run("diff", "-r", "--no-dereference", folder, mount.path)
        found = {path.relative_to(mount.path): path.lstat() for path in mount.path.rglob("*")}
        wanted = {path.relative_to(folder): path.lstat() for path in folder.rglob("*")}
        assert found.keys() == wanted.keys()
        for path, status in wanted.items():
            assert stat.S_IFMT(found[path].st_mode) == stat.S_IFMT(status.st_mode)
            if not stat.S_ISLNK(status.st_mode):
                assert found[path].st_mode == status.st_mode, path
                assert found[path].st_mtime_ns == status.st_mtime_ns, path
            if not stat.S_ISDIR(status.st_mode):
                assert found[path].st_size == status.st_size
        assert run(mount / "program").stdout == "it runs\n"
        assert os.readlink(mount / "dangling") == "/nowhere/at all"
        assert (mount / "link").read_bytes() == (folder / "sub/big").read_bytes()


def test_programs_copy_it_out(folder: Path, tmp_path: Path) -> None:
    with Mount(imported(folder, "--preserve")) as mount:
        for number, words in enumerate((("cp", "-a"), ("rsync", "-a"))):
            copy = tmp_path / f"copy{number}"
            run(*words, f"{mount.path}/.", copy)
            run("diff", "-r", "--no-dereference", folder, copy)
            assert (copy / "one").stat().st_mtime_ns == (folder / "one").stat().st_mtime_ns
        run("tar", "-C", mount.path, "-cf", tmp_path / "out.tar", ".")
        roots = []
        for source in (folder, tmp_path / "out.tar"):
            out = tmp_path / "again.car"
            made = mstfs("import", source, out, "--to", "unixfs", "--json", "--force", folder=tmp_path)
            roots.append(json.loads(made.stdout)["root"])
        assert roots[0] == roots[1]


def test_parts_of_a_large_file(folder: Path) -> None:
    data = (folder / "sub/big").read_bytes()
    rng = random.Random(1)
    with Mount(imported(folder)) as mount, (mount / "sub/big").open("rb", buffering=0) as file:
        for _ in range(200):
            start, size = rng.randrange(len(data) + 1000), rng.randrange(300_000)
            assert os.pread(file.fileno(), size, start) == data[start : start + size]


def test_nothing_can_be_changed(folder: Path) -> None:
    with Mount(imported(folder)) as mount:
        before = files_below(mount.path)
        for code, attempt in (
            (errno.EROFS, lambda: (mount / "one").write_bytes(b"x")),
            (errno.EROFS, lambda: (mount / "new").touch()),
            (errno.EROFS, lambda: (mount / "one").unlink()),
            (errno.EROFS, lambda: (mount / "one").rename(mount / "two")),
            (errno.EROFS, lambda: (mount / "folder").mkdir()),
            (errno.EROFS, lambda: (mount / "nothing/in/here").rmdir()),
            (errno.EROFS, lambda: (mount / "symlink").symlink_to("one")),
            (errno.EROFS, lambda: (mount / "one").chmod(0o600)),
        ):
            with refused(code):
                attempt()
        assert files_below(mount.path) == before
        status = mount.status()
        assert (status["tree"], status["read_only"]) == ("unixfs", True)
        assert "it can be read, not changed" in mount.log()


def test_a_sharded_folder(tmp_path: Path) -> None:
    """So many names that their links fill more than one block, as Kubo decides it."""
    source = tmp_path / "many"
    source.mkdir()
    names = [f"a rather long name of a file, number {number:05}.txt" for number in range(5000)]
    for name in names:
        (source / name).write_text(name)
    with Mount(imported(source)) as mount:
        assert sorted(os.listdir(mount.path)) == names
        assert files_below(mount.path) == {name: name.encode() for name in names}
        for absent in ("a rather long name", "nothing", names[0] + "x"):
            assert not (mount / absent).exists()


def test_what_another_importer_wrote(shared_fixtures: Path, tmp_path: Path) -> None:
    manifest = json.loads((shared_fixtures / "unixfs/unixfs_flat_tree.json").read_text("utf-8"))
    with mounted(shared_fixtures, "unixfs_flat_tree", tmp_path) as mount:
        found = {name: sha256(data).hexdigest() for name, data in files_below(mount.path).items()}
        assert found == manifest["sha256"]
        assert mount.status()["root"] == manifest["root"]


def test_a_shard_of_files_with_many_blocks(shared_fixtures: Path, tmp_path: Path) -> None:
    name = f"{CONFORMANCE}single-layer-hamt-with-multi-block-files"
    with mounted(shared_fixtures, name, tmp_path) as mount:
        files = files_below(mount.path)
        assert files.keys() == {f"{number}.txt" for number in range(1, 1001)}
        assert {len(data) for data in files.values()} == {1026}
        assert len(set(files.values())) == 1
        assert all((mount / name).stat().st_size == 1026 for name in files)


def test_links(shared_fixtures: Path, tmp_path: Path) -> None:
    with mounted(shared_fixtures, f"{CONFORMANCE}symlink", tmp_path) as mount:
        assert os.readlink(mount / "bar") == "foo"
        assert (mount / "bar").lstat().st_size == 3
        assert (mount / "bar").read_bytes() == (mount / "foo").read_bytes() == b"content\n"


def test_a_root_that_is_a_file(shared_fixtures: Path, tmp_path: Path) -> None:
    """One of its blocks is missing."""
    with mounted(shared_fixtures, f"{CONFORMANCE}file-3k-and-3-blocks-missing-block", tmp_path) as mount:
        (path,) = mount.path.iterdir()
        assert path.name == mount.status()["root"]
        assert path.stat().st_size == 3072
        with refused(errno.EIO):
            path.read_bytes()
        assert re.search(rf"read of {path.name}: block \w+: missing", mount.log())


def test_what_is_there_of_a_file_reads(folder: Path, tmp_path: Path) -> None:
    """What is not there is an error each time, and no zeros; the mount goes on."""
    data = (folder / "sub/big").read_bytes()
    chunks = [data[start : start + 262_144] for start in range(0, len(data), 262_144)]
    with Archive.open(imported(folder)) as archive:
        blocks, root = archive.workspace.blocks, archive.head.data
        found = {cid: blocks.get(cid) for cid in map(cids.parse, archive.ids())}
    kept = {cid: block for cid, block in found.items() if block != chunks[5]}
    assert len(kept) == len(found) - 1
    write_blocks(tmp_path / "torn.car", (root,), kept)
    with Mount(tmp_path / "torn.car") as mount, (mount / "sub/big").open("rb", buffering=0) as file:
        for number, chunk in enumerate(chunks):
            start = number * 262_144
            if number == 5:
                for _ in range(2):
                    with refused(errno.EIO):
                        os.pread(file.fileno(), 4096, start)
            else:
                assert os.pread(file.fileno(), len(chunk), start) == chunk
        assert (mount / "one").read_bytes() == (folder / "one").read_bytes()


def test_missing_blocks_take_nothing_else_with_them(shared_fixtures: Path, tmp_path: Path) -> None:
    with mounted(shared_fixtures, "go-car__simple-unixfs", tmp_path) as mount:
        whole = files_below(mount.path)
    with mounted(shared_fixtures, "go-car__simple-unixfs-missing-blocks", tmp_path) as mount:
        seen, broken = {}, {}
        for name in whole:
            try:
                seen[name] = (mount / name).read_bytes()
            except OSError as error:
                broken[name] = error.errno
        # A folder whose block is missing is shown as a file that cannot be read.
        assert set(broken.values()) == {errno.EIO, errno.ENOTDIR}
        assert seen == {name: data for name, data in whole.items() if name not in broken}
        assert seen
        for name in ("4", "6"):
            assert name in os.listdir(mount / "b")
            with refused(errno.EIO):
                (mount / "b" / name).read_bytes()
