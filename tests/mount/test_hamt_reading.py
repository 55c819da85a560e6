"""HAMTs that other implementations wrote, mounted: every file says what their makers say of its value."""

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import naive_hamt
import pytest
from naive_hamt import blake3_of, link
from workspaces import write_blocks

from mount.mounting import Mount, files_below, mstfs, refused, run
from mount.walking import Names, Seen, opened, walk
from mstfs.codec import byte_string, dag_cbor, dag_json
from mstfs.codec import cid as cids
from mstfs.errors import MstfsError
from mstfs.tree.hamt import hashes
from mstfs.view.names import Names as Spelling

RECORDS_ONLY = "ipld__hamt"
LINKED = "hamt_ipld_hashmap_bw8_bs3_sha256"
RAW = ("zarr_pyhamt3", "hamt_pyhamt3_empty")
NAMES = (
    *("hamt_pyhamt2_2000", "hamt_pyhamt3_2000", "hamt_pyhamt3_empty", "hamt_pyhamt3_hostile_keys"),
    *("hamt_pyhamt3_one", "zarr_pyhamt3", LINKED, RECORDS_ONLY),
)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a fixture."""
    found: str = request.param
    return found


@pytest.fixture
def manifest(shared_fixtures: Path, name: str) -> dict[str, Any]:
    """What the maker of the fixture says of it."""
    found: dict[str, Any] = json.loads((shared_fixtures / "hamt" / f"{name}.json").read_text("utf-8"))
    return found


def copied(shared_fixtures: Path, name: str, folder: Path) -> Path:
    """A copy of a fixture that can be mounted."""
    car = Path(shutil.copy(shared_fixtures / "hamt" / f"{name}.car", folder / "tree.car"))
    car.chmod(0o644)
    return car


def look(mount: Mount) -> dict[bytes, Seen]:
    """Every file by its key; each is at its own path, of the size that `stat` says, and reads in parts."""
    names = Spelling(b"", nested=True)
    found: dict[bytes, Seen] = {}
    paths: dict[bytes, Names] = {}
    for path, seen in walk(mount.path):
        assert seen.found.st_size == len(seen.data)
        assert stat.S_ISREG(seen.found.st_mode)
        assert seen.found.st_nlink == 1
        assert seen.state["state"] == b"published"
        key = seen.state["key"]
        plain = path[:-1] if path[-1] == b"%@" else path
        assert names.key_of(plain) == key
        assert key not in found
        found[key], paths[key] = seen, path
    for key, path in paths.items():
        # The same file again, step by step; its folder must be there if its name is `%@`.
        with opened(mount.path, path) as fd:
            middle = len(found[key].data) // 2
            assert os.pread(fd, 1 << 20, middle) == found[key].data[middle:]
        if path[-1] == b"%@":
            assert len([other for other in paths.values() if other[: len(path) - 1] == path[:-1]]) > 1
    return found


def check(found: dict[bytes, Seen], manifest: dict[str, Any], name: str) -> None:
    """Every file is what the manifest says."""
    if name == RECORDS_ONLY:
        assert {key.decode(): json.loads(seen.data) for key, seen in found.items()} == manifest
        return
    assert {key.decode() for key in found} == set(manifest["sha256"])
    for key, seen in found.items():
        cid = cids.parse(seen.state["cid"].decode())
        if "cid" in manifest:
            assert cid == cids.parse(manifest["cid"][key.decode()])
        wanted = manifest["sha256"][key.decode()]
        as_blob = byte_string.head(len(seen.data)) + seen.data
        candidates = [seen.data] if name in RAW else [as_blob]
        if name not in RAW:
            with suppress(MstfsError):
                candidates.append(dag_json.parse(seen.data))
        if name == LINKED:
            # The maker of this file has hashed the links that stand in place of some of its values.
            candidates.append(dag_cbor.encode(cids.Link(cid)))
        assert wanted in [sha256(candidate).hexdigest() for candidate in candidates]


def test_every_file_of_every_fixture(
    shared_fixtures: Path, manifest: dict[str, Any], name: str, tmp_path: Path
) -> None:
    car = copied(shared_fixtures, name, tmp_path)
    with Mount(car) as mount:
        assert mount.status()["tree"] == {"hamt_pyhamt2_2000": "hamt2", LINKED: "hashmap"}.get(
            name, "hashmap" if name == RECORDS_ONLY else "hamt3"
        )
        first = look(mount)
        check(first, manifest, name)
        past = dict(walk(mount / ".mstfs/history/1"))
        assert sorted(seen.data for seen in past.values()) == sorted(seen.data for seen in first.values())
        assert mount.status()["staged"] == {"put": 0, "delete": 0}
        assert mount.sync()["changed"] is False
        overlay = mount.overlay()
    overlay.unlink()
    with Mount(car, "--read-only") as mount:
        again = look(mount)
        assert not overlay.exists()
        assert {key: seen.data for key, seen in again.items()} == {
            key: seen.data for key, seen in first.items()
        }
        assert {key: seen.found.st_ino for key, seen in again.items()} == {
            key: seen.found.st_ino for key, seen in first.items()
        }
        assert {stat.filemode(seen.found.st_mode) for seen in again.values()} <= {"-r--r--r--"}
        with refused(errno.EROFS):
            (mount / "new").write_bytes(b"x")


# --- names ------------------------------------------------------------------------------------


def test_names_that_could_lead_out_or_hide_something(shared_fixtures: Path, tmp_path: Path) -> None:
    car = copied(shared_fixtures, "hamt_pyhamt3_hostile_keys", tmp_path)
    with Mount(car) as mount:
        paths = {b"/".join(path): seen.state["key"] for path, seen in walk(mount.path)}
        for path, key in {
            b"%=": b"", b"%=.": b".", b"%=..": b"..", b"%-../up": b"../up", b"%=.mstfs": b".mstfs",
            b"%-/%=": b"/", b"%-/lead": b"/lead", b"a/%@": b"a", b"a/%-/b": b"a//b", b"a/b": b"a/b",
            b"x/%-../y": b"x/../y", b"x/%-./y": b"x/./y", b"trail/%=": b"trail/", b"-rf": b"-rf",
            b"%=nul%00byte": b"nul\0byte", b"%=%25": b"%", b"%=%252F": b"%2F", b" ": b" ", b"\x7f": b"\x7f",
        }.items():  # fmt: skip
            assert paths[path] == key
        assert max(map(len, paths)) > 4096
        assert (mount / ".mstfs/root").read_text() == (mount.state("")["cid"]) + "\n"
        assert sorted(os.listdir(mount / "a")) == ["%-", "%@", "b"]
        for absent in ("..%", "%", "%=a", "%@", "b/%@", "a/b/%@", "%=x", "%-/../lead", "trail/", "NNN"):
            assert not (mount / absent).is_file(), absent
        with refused(errno.ENOTDIR):
            (mount / "a/b/c").read_bytes()


def test_programs_copy_all_of_it(shared_fixtures: Path, tmp_path: Path) -> None:
    car = copied(shared_fixtures, "hamt_pyhamt3_2000", tmp_path)
    with Mount(car, "--read-only") as mount:
        expected = files_below(mount.path)
        assert len(expected) == 2000
        found = run("find", ".", "-type", "f", "-printf", "%P\\0", cwd=mount.path).stdout.split("\0")
        assert sorted(found[:-1]) == sorted(expected)
        run("cp", "-r", mount.path, tmp_path / "cp")
        run("rsync", "-a", f"{mount.path}/", tmp_path / "rsync")
        run("tar", "cf", tmp_path / "all.tar", "-C", mount.path, ".")
        (tmp_path / "tar").mkdir()
        run("tar", "xf", tmp_path / "all.tar", "-C", tmp_path / "tar")
        for copy in ("cp", "rsync", "tar"):
            assert files_below(tmp_path / copy) == expected
        assert run("rsync", "-ain", f"{mount.path}/", tmp_path / "rsync").stdout == ""
        first = run("head", "-c", "1000", mount / "README.md").stdout
        assert expected["README.md"].startswith(first.encode())


# --- what a person says -----------------------------------------------------------------------


def test_values_as_they_are_stored(shared_fixtures: Path, tmp_path: Path) -> None:
    car = copied(shared_fixtures, "hamt_pyhamt3_2000", tmp_path)
    manifest = json.loads((shared_fixtures / "hamt/hamt_pyhamt3_2000.json").read_text("utf-8"))["sha256"]
    with Mount(car, "--values", "raw") as mount:
        stored = {key.decode(): sha256(seen.data).hexdigest() for key, seen in look(mount).items()}
        assert stored == manifest
    # It is remembered along with the edits, which were written so.
    with Mount(car) as mount:
        assert sha256((mount / "README.md").read_bytes()).hexdigest() == manifest["README.md"]
    with Mount(car, "-o", "values=cbor", "--read-only") as mount:
        text = (mount / "README.md").read_bytes()
        assert sha256(dag_json.parse(text)).hexdigest() == manifest["README.md"]


def test_values_that_are_not_what_a_person_says(shared_fixtures: Path, tmp_path: Path) -> None:
    car = copied(shared_fixtures, "zarr_pyhamt3", tmp_path)
    for option, code in (("--read-only", errno.EIO), ("--no-publish-on-unmount", errno.EIO)):
        with Mount(car, "--values", "cbor", option) as mount:
            with refused(code):
                (mount / "zarr.json").read_bytes()
            assert "are the values raw bytes" in mount.state("zarr.json")["error"]
            assert "zarr.json" in os.listdir(mount.path)


def test_records_as_they_are_stored(shared_fixtures: Path, tmp_path: Path) -> None:
    car = copied(shared_fixtures, "hamt_pyhamt2_2000", tmp_path)
    manifest = json.loads((shared_fixtures / "hamt/hamt_pyhamt2_2000.json").read_text("utf-8"))["sha256"]
    with Mount(car, "--format", "cbor", "--read-only") as mount:
        records = 0
        for key, seen in look(mount).items():
            as_blob = byte_string.head(len(seen.data)) + seen.data
            is_record = sha256(seen.data).hexdigest() == manifest[key.decode()]
            assert is_record or sha256(as_blob).hexdigest() == manifest[key.decode()]
            records += is_record
        assert 0 < records < 2000


def test_another_kind_of_tree_than_a_person_says(shared_fixtures: Path, tmp_path: Path) -> None:
    car = copied(shared_fixtures, "hamt_pyhamt3_one", tmp_path)
    (tmp_path / "mnt").mkdir()
    for kind in ("hamt2", "hashmap", "mst", "unixfs", "nonsense"):
        done = mstfs("mount", "--tree", kind, car, tmp_path / "mnt", folder=tmp_path, code=2)
        assert kind in done.stderr or "not a" in done.stderr
        assert done.stderr.count("\n") == 1
    with Mount(car, "--tree", "hamt3") as mount:
        assert os.listdir(mount.path) == ["only"]


# --- other trees ------------------------------------------------------------------------------

PLAIN = {b"dir%d/k/%03d" % (number % 3, number): b"file %d" % number for number in range(150)}


def value_of(data: bytes) -> bytes:
    return b"\x01\x55\x1e\x20" + blake3_of(data)


def plain_of(mount: Mount) -> dict[bytes, bytes]:
    return {key: seen.data for key, seen in look(mount).items()}


ODD_ONES: dict[str, tuple[Callable[[dict[bytes, bytes]], naive_hamt.Found], bool]] = {
    "py-hamt 2.0.4": (lambda cids: naive_hamt.py_hamt_2(cids, skip=1), True),
    "murmur3": (
        lambda cids: linked(cids, 5, 3, hashes.murmur3_x64_64, hashes.MURMUR3_X64_64),
        True,
    ),
    "a HashMap that lies": (
        lambda cids: linked(cids, 4, 2, naive_hamt.sha256_of, hashes.MURMUR3_X64_64),
        True,
    ),
    "a HashMap of who knows what": (
        lambda cids: linked(cids, 8, 5, lambda key: blake3_of(key)[9:], 0x99),
        False,
    ),
    "py-hamt 1.0": (lambda cids: linked(cids, 8, 5, hashes.murmur3_x64_128, 0x23, old=True), True),
    "py-hamt 3 of who knows what": (
        lambda cids: naive_hamt.py_hamt_3(cids, function=lambda key: blake3_of(key)[5:]),
        False,
    ),
}


def linked(plain: dict[bytes, bytes], *arguments: Any, **named: Any) -> naive_hamt.Found:
    return naive_hamt.hash_map({key: link(cid) for key, cid in plain.items()}, *arguments, **named)


@pytest.mark.parametrize("odd", ODD_ONES)
def test_odd_trees_read_and_say_whether_they_can_be_changed(odd: str, tmp_path: Path) -> None:
    build, writable = ODD_ONES[odd]
    if odd.startswith("py-hamt 2"):
        plain = {key: byte_string.head(len(data)) + data for key, data in PLAIN.items()}
    else:
        plain = PLAIN
    found = build({key: value_of(data) for key, data in plain.items()})
    car = tmp_path / "tree.car"
    write_blocks(car, (found[0],), {**found[1], **{value_of(data): data for data in plain.values()}})
    with Mount(car) as mount:
        assert plain_of(mount) == PLAIN
        assert not (mount / "dir1/k/nothing").exists()
        assert mount.status()["read_only"] is not writable
        if writable:
            (mount / "new").write_bytes(b"x")
            assert mount.staged() == ["A new"]
            return
        assert "it can be read, not changed" in mount.log()
        with refused(errno.EROFS):
            (mount / "new").write_bytes(b"x")
        assert mount.status()["overlay"] is None


@pytest.mark.parametrize("old", [False, True])
def test_filecoin(tmp_path: Path, old: bool) -> None:
    entries = {b"actor-%d" % number: {"n": number} for number in range(100)}
    root, nodes = naive_hamt.filecoin(entries, old=old)
    car = tmp_path / "tree.car"
    write_blocks(car, (root,), nodes)
    (tmp_path / "mnt").mkdir()
    done = mstfs("mount", car, tmp_path / "mnt", folder=tmp_path, code=2)
    assert "--tree filecoin" in done.stderr
    assert done.stderr.count("\n") == 1
    with Mount(car, "--tree", "filecoin,width=5,bucket=3,hash=sha2-256") as mount:
        found = {key: json.loads(seen.data) for key, seen in look(mount).items()}
        assert found == entries
        assert "can be read, not changed" in mount.log()
        with refused(errno.EROFS):
            (mount / "actor-1").write_bytes(b"{}")


# --- damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["--read-only", "--no-publish-on-unmount"])
def test_what_is_missing_is_an_error_and_all_else_goes_on(tmp_path: Path, mode: str) -> None:
    plain = {b"dir%d/%03d" % (number % 3, number): b"file number %04d" % number for number in range(800)}
    wanted = {key: value_of(data) for key, data in plain.items()}
    root, nodes = naive_hamt.py_hamt_3(wanted)
    node = min(nodes.keys() - {root})
    lost = [key for key, cid in wanted.items() if cid in nodes[node]]
    gone, rotten = [key for key in sorted(wanted) if key not in lost][:2]
    blocks = {**nodes, **{value_of(data): data for data in plain.values()}}
    del blocks[node], blocks[wanted[gone]]
    car = tmp_path / "tree.car"
    write_blocks(car, (root,), blocks)
    data = car.read_bytes()
    assert data.count(plain[rotten]) == 1
    car.write_bytes(data.replace(plain[rotten], plain[rotten][::-1]))
    with Mount(car, mode, "--values", "raw") as mount:
        found = run("find", ".", "-type", "f", "-printf", "%P\n", cwd=mount.path).stdout
        listed = set(map(os.fsencode, found.splitlines()))
        assert listed == wanted.keys() - set(lost)
        for key in wanted:
            path = mount / os.fsdecode(key)
            if key in (*lost, gone, rotten):
                with refused(errno.EIO):
                    path.read_bytes()
            else:
                assert path.read_bytes() == plain[key]
        assert cids.to_text(wanted[gone]) in mount.state(os.fsdecode(gone))["error"]
        for cid in (node, wanted[rotten]):
            assert cids.to_text(cid) in mount.log()
        assert not (mount / "nothing").exists()
        if mode != "--read-only":
            (mount / "dir0/new").write_bytes(b"new")
            (mount / os.fsdecode(gone)).write_bytes(b"again")
            assert mount.staged() == [f"M {os.fsdecode(gone)}", "A dir0/new"]
            assert mount.sync()["changed"] is True
            assert (mount / os.fsdecode(gone)).read_bytes() == b"again"
            assert (mount / "dir0/new").read_bytes() == b"new"
