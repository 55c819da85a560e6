"""Real files of other implementations, converted: to what their manifests say, and what those would write."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from naive_sharded import Array, Writer
from transfers import content, converted

from mstfs.archive import Archive
from mstfs.blocks.car import CarFile
from mstfs.blocks.car_writer import write_car
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.codec.cid import Link

HAMTS = (
    "hamt_pyhamt2_2000", "hamt_pyhamt3_2000", "hamt_pyhamt3_hostile_keys", "hamt_pyhamt3_one",
    "hamt_ipld_hashmap_bw8_bs3_sha256", "zarr_pyhamt3",
)  # fmt: skip
TARGETS = ("hamt3", "hamt2", "hashmap", "hashmap,width=5,bucket=3,hash=sha2-256", "unixfs")


def given(fixtures: Path, tmp_path: Path, name: str) -> tuple[Path, Any]:
    """A copy of a fixture, and its manifest."""
    path = tmp_path / "given.car"
    if not path.exists():
        shutil.copyfile(fixtures / f"{name}.car", path)
    return path, json.loads((fixtures / f"{name}.json").read_text())


def digest(value: Any, raw: bool) -> str:
    """sha256 of the block of a value as manifests have it: the bytes themselves, or the DAG-CBOR."""
    return hashlib.sha256(value if raw else dag_cbor.encode(value)).hexdigest()


def digests(path: Path, raw: bool) -> dict[str, str]:
    """The digest of every value in a CAR."""
    return {key: digest(value, raw) for key, value in content(path).items()}


@pytest.mark.parametrize("to", TARGETS[:-1])
@pytest.mark.parametrize("name", HAMTS)
def test_every_value_arrives(shared_fixtures: Path, tmp_path: Path, name: str, to: str) -> None:
    path, manifest = given(shared_fixtures / "hamt", tmp_path, name)
    raw = name.startswith("zarr")
    out = tmp_path / "new.car"
    done = converted(path, out, to, encoding="raw" if raw and to == "hamt3" else None)
    assert (done.keys, done.encoding) == (manifest["count"], None)
    found = digests(out, raw)
    if "hashmap" in name:
        # Where that links a value, its manifest has the digest of the link.
        for key, value in content(out).items():
            link = digest(Link(cids.for_block(dag_cbor.encode(value))), raw=False)
            if manifest["sha256"][key] == link:
                found[key] = link
    assert found == manifest["sha256"]


@pytest.mark.parametrize("name", HAMTS)
def test_trees_of_py_hamt_3_keep_their_root(shared_fixtures: Path, tmp_path: Path, name: str) -> None:
    path, manifest = given(shared_fixtures / "hamt", tmp_path, name)
    encoding = "raw" if name.startswith("zarr") else "cbor"
    for to in ("hamt3", "hamt2", "hashmap,width=4,bucket=2", "hamt3"):
        out = tmp_path / f"{to}.car"
        done = converted(path, out, to, encoding=encoding if to == "hamt3" else None)
        path = out
    expected = manifest["root"]
    if name == "hamt_pyhamt2_2000":
        # The same entries as those that py-hamt 3 wrote into the other file.
        expected = json.loads((shared_fixtures / "hamt/hamt_pyhamt3_2000.json").read_text())["root"]
    if name != "hamt_ipld_hashmap_bw8_bs3_sha256":
        assert cids.to_text(done.root) == expected


def test_a_zarr_store_as_files_and_back(shared_fixtures: Path, tmp_path: Path) -> None:
    path, manifest = given(shared_fixtures / "hamt", tmp_path, "zarr_pyhamt3")
    converted(path, tmp_path / "files.car", "unixfs")
    assert digests(tmp_path / "files.car", raw=True) == manifest["sha256"]
    done = converted(tmp_path / "files.car", tmp_path / "back.car", "hamt3", encoding="raw")
    assert cids.to_text(done.root) == manifest["root"]


def test_an_ipld_hashmap_as_another_writer_made_it(shared_fixtures: Path, tmp_path: Path) -> None:
    """Alice's words: values that are lists, in nodes, under a hash function that is not the usual one."""
    path = tmp_path / "given.car"
    shutil.copyfile(shared_fixtures / "hamt/ipld__hamt.car", path)
    words = json.loads((shared_fixtures / "hamt/ipld__hamt.json").read_text())
    assert content(path) == words
    for to in TARGETS[:-1]:
        converted(path, tmp_path / "new.car", to)
        assert content(tmp_path / "new.car") == words
    converted(path, tmp_path / "files.car", "unixfs")
    found = {key: json.loads(text) for key, text in content(tmp_path / "files.car").items()}
    assert found == words


@pytest.mark.parametrize(
    "name",
    ["gateway-conformance__dir-with-files", "gateway-conformance__symlink", "unixfs_flat_tree"],
)
def test_unixfs_files(shared_fixtures: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "given.car"
    shutil.copyfile(shared_fixtures / f"unixfs/{name}.car", path)
    with CarFile.open(path, use_sidecar=False) as car:
        root = car.roots[0]
    done = converted(path, tmp_path / "new.car", "unixfs")
    assert content(tmp_path / "new.car") == content(path)
    if name == "unixfs_flat_tree":
        assert done.root == root  # the others have CIDs of version 0, or other chunks
    if "symlink" in name:
        return
    root = done.root
    expected = content(path)
    for to in ("hamt3", "hamt2", "hashmap"):
        converted(path, tmp_path / f"{to}.car", to, encoding="raw" if to == "hamt3" else None)
        assert content(tmp_path / f"{to}.car") == expected
        again = converted(tmp_path / f"{to}.car", tmp_path / "again.car", "unixfs")
        assert again.root == root


def test_repositories_of_the_network(shared_fixtures: Path, tmp_path: Path) -> None:
    for path in sorted((shared_fixtures / "atproto").glob("*.car")):
        copy = tmp_path / path.name
        shutil.copyfile(path, copy)
        with Archive.open(copy) as archive:
            data = archive.head.data
        converted(copy, tmp_path / "map.car", "hamt3")
        assert converted(tmp_path / "map.car", tmp_path / "back.car", "mst").root == data


def test_a_sharded_zarr_store_becomes_one_that_is_not(tmp_path: Path) -> None:
    blobs = {(x, y): b"chunk %d %d" % (x, y) for x in range(5) for y in range(3) if (x + y) % 4}
    writer = Writer()
    chunks: dict[tuple[int, ...], bytes] = {at: writer.put(data) for at, data in blobs.items()}
    group = b'{"zarr_format": 3, "node_type": "group"}'
    array = Array((10, 6), (2, 2), chunks)
    root = writer.v2({"t": array}, {"zarr.json": writer.put(group)})
    path = tmp_path / "sharded.car"
    with path.open("wb") as file:
        write_car(file, [root], [(cid, writer.blocks.get(cid)) for cid in writer.blocks.cids()])
    expected = {f"t/c/{x}/{y}": data for (x, y), data in blobs.items()}
    expected |= {"zarr.json": group, "t/zarr.json": array.document()}
    for to in ("hamt3", "hamt2", "unixfs"):
        done = converted(path, tmp_path / f"{to}.car", to, encoding="raw" if to == "hamt3" else None)
        assert (done.keys, done.encoding) == (len(expected), None)
        assert content(tmp_path / f"{to}.car") == expected
