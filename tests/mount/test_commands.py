"""Commands on mounts of trees that are no repositories: they say what the mount shows."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cli_trees import FILECOIN, LONG, TREES, VALUES, Made, car, raw_cid, reading, write
from naive_hamt import py_hamt_3

from mount.mounting import Mount, files_below
from mstfs.codec import dag_cbor
from mstfs.values.cipher import Cipher


def told(mount: Mount, *words: object, code: int = 0) -> Any:
    """What a command prints with --json."""
    return json.loads(mount.mstfs(*words, "--json", code=code).stdout)


@pytest.mark.parametrize("name", sorted(TREES))
def test_commands_say_what_a_mount_shows(name: str, tmp_path: Path) -> None:
    path, made = car(tmp_path, name)
    with Mount(path, *reading(name)) as mount:
        listed = {entry["name"]: entry for entry in told(mount, "ls", "-lR", mount.path)}
        shown = {str(file.relative_to(mount.path)) for file in mount.path.rglob("*") if not file.is_dir()}
        assert listed.keys() == shown == {file.decode() for file in made.files}
        for file, entry in listed.items():
            found = os.lstat(mount / file)
            assert entry["size"] == found.st_size
            assert (entry["kind"] == "symlink") == (mount / file).is_symlink()
        assert {entry["time"] for entry in listed.values()} == {
            told(mount, "ls", "-l", mount / "empty")[0]["time"]
        }
        for file in ("zarr.json", "many/007"):
            assert mount.mstfs("cat", mount / file).stdout == (mount / file).read_text()
            assert mount.mstfs("cat", mount.path, file).stdout == (mount / file).read_text()
        facts = told(mount, "info", "--count", mount.path)
        assert (facts["tree"], facts["records"]) == (name.split()[0], len(made.files))
        assert told(mount, "verify", mount.path)["sound"]
        assert told(mount, "status", mount.path)["staged"] == {"put": 0, "delete": 0}
        assert mount.mstfs("diff", mount.path).stdout == ""
        proof = tmp_path / "proof.car"
        mount.mstfs("prove", mount / "many/007", "-o", proof)
        words = FILECOIN if name == "filecoin" else ()
        assert told(mount, "verify", *words, "--proof", "many/007", proof)["sound"]
        out = tmp_path / "out.car"
        assert told(mount, "export", mount.path, out)["blocks"] == len(made.blocks)


def test_what_is_staged_in_a_mount(tmp_path: Path) -> None:
    path, _ = car(tmp_path, "hamt3 cbor")
    with Mount(path) as mount:
        (mount / "many/007").write_bytes(b"other")
        (mount / "record").write_text('{"edited": true}')
        (mount / "temp/new").write_bytes(b"new")
        (mount / "temp/c/1").unlink()
        changes = ["M many/007", "M record", "D temp/c/1", "A temp/new"]
        assert sorted(mount.mstfs("diff", mount.path).stdout.splitlines()) == sorted(changes)
        assert mount.mstfs("diff", mount / "temp").stdout.splitlines() == changes[2:]
        assert mount.mstfs("cat", mount / "record").stdout == (mount / "record").read_text()
        [entry] = told(mount, "ls", "-l", mount / "many/007")
        assert (entry["state"], entry["size"], entry["kind"]) == ("staged", 5, "blob")
        text = mount.mstfs("status", mount.path).stdout
        assert "(hamt3, event 1)" in text
        assert "(writable, pid " in text
        mount.sync()
        assert told(mount, "verify", mount.path)["sound"]
        assert sorted(mount.mstfs("diff", mount.path, "1").stdout.splitlines()) == sorted(changes)
        patch = mount.mstfs("diff", "-p", mount / "record", "1").stdout
        assert '+  "edited": true' in patch or '+{"edited": true}' in patch


def test_an_encrypted_mount(tmp_path: Path) -> None:
    cipher = Cipher(bytes(32), b"head")
    made = Made(b"", {}, {})
    sealed = {key: cipher.encrypt(dag_cbor.encode(value)) for key, value in VALUES.items()}
    root, nodes = py_hamt_3({key: raw_cid(data, made.blocks) for key, data in sealed.items()})
    path = write(tmp_path / "tree.car", [Made(root, nodes | made.blocks, {})])
    key = tmp_path / "key"
    key.write_bytes(bytes(32))
    key.chmod(0o600)
    options = ("--key-file", key, "--key-header", "head")
    with Mount(path, *options) as mount:
        assert files_below(mount.path) == {file.decode(): data for file, data in VALUES.items()}
        # The commands do not have the key, so the mount itself is read.
        assert mount.mstfs("cat", mount / "many/007").stdout == "value 7"
        assert mount.mstfs("cat", mount / "temp/c/1").stdout == LONG.decode()
        [entry] = told(mount, "ls", "-l", mount / "temp/c/1")
        assert (entry["size"], entry["kind"]) == (len(LONG), None)
        assert told(mount, "info", mount.path)["encrypted"] is True
        assert "DAG-CBOR, encrypted" in mount.mstfs("info", mount.path).stdout
        (mount / "zarr.json").write_bytes(b"{}")
        done = mount.mstfs("diff", "-p", mount.path, code=2)
        assert "--key-file" in done.stderr
        assert "+{}" in mount.mstfs("diff", "-p", *options, mount.path).stdout
        assert "encrypted" in mount.mstfs("status", mount.path).stdout
        report = told(mount, "verify", mount.path)
        assert (report["sound"], report["values"]) == (True, "encrypted")
        report = told(mount, "verify", *options, mount.path)
        assert (report["sound"], report["values"]) == (True, "cbor")
        mount.sync()
        assert "--key-file" in mount.mstfs("cat", "--root", "1", mount / "zarr.json", code=2).stderr
        assert mount.mstfs("cat", "--root", "1", *options, mount / "zarr.json").stdout == '{"zarr_format": 3}'
    # The overlay remembers that there is a key.
    with Mount(path, "--read-only", *options) as mount:
        assert told(mount, "info", path)["encrypted"] is True
        assert told(mount, "verify", f"{path}.mstfs")["values"] == "encrypted"
        assert "is encrypted" in mount.mstfs("cat", path, "empty", code=2).stderr
        [entry] = told(mount, "ls", "-l", path, "empty")
        assert (entry["size"], entry["kind"]) == (None, None)
