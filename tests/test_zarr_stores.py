"""Opening, closing, sharing and pickling Zarr stores over archives."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from naive_sharded import Writer
from test_zarr import gathered, put

import mstfs
from mstfs.archive import Archive
from mstfs.blocks.car_writer import write_car
from mstfs.codec import cid as cids
from mstfs.errors import OverlayBusy, Refused
from mstfs.zarr import HamtStore


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with mstfs.create(tmp_path / "new.car", values="raw") as archive:
        yield archive


# --- opening and closing ------------------------------------------------------------------------------


def test_modes(tmp_path: Path) -> None:
    path = tmp_path / "x.car"
    for mode in ("r", "r+", None):
        with pytest.raises(FileNotFoundError):
            HamtStore(path, mode=mode)
    assert list(tmp_path.iterdir()) == []
    with HamtStore(path, mode="a") as store:
        put(store, "a")
        store.publish()
        put(store, "b")
        with pytest.raises(OverlayBusy):
            HamtStore(path, mode="r+")
        with HamtStore(path) as other:
            assert gathered(other.list()) == ["a", "b"]
            assert other.read_only
            with pytest.raises(ValueError, match="reading only"):
                other.with_read_only(False)
    with pytest.raises(FileExistsError):
        HamtStore(path, mode="w-")
    with pytest.raises(ValueError, match="no mode"):
        HamtStore(path, mode="x")  # type: ignore[arg-type]
    with HamtStore(path, mode="a") as store:
        assert gathered(store.list()) == ["a", "b"]
    with HamtStore(path, mode="a", read_only=True) as store:
        assert store.archive.workspace.read_only
    with HamtStore(path, mode="w", path="a") as store:
        assert list(store.archive) == ["a", "b"]
    with HamtStore(path, mode="w") as store:
        assert list(store.archive) == []
        assert next(store.archive.history()).kind


def test_an_open_archive_has_a_mode(archive: Archive) -> None:
    for options in ({"mode": "r"}, {"values": "raw"}):
        with pytest.raises(ValueError, match="already"):
            HamtStore(archive, **options)  # type: ignore[arg-type]
    store = HamtStore(archive)
    store.close()
    assert list(archive) == []


def test_a_closed_store(tmp_path: Path) -> None:
    store = HamtStore(tmp_path / "x.car", mode="a")
    reader = store.with_read_only(True)
    reader.close()
    put(store, "a")
    store.close()
    store.close()
    for one in (store, reader):
        with pytest.raises(ValueError, match="closed"):
            one.get_sync("a")
    with HamtStore(tmp_path / "x.car", mode="r+") as again:
        assert gathered(again.list()) == ["a"]


def test_stores_in_threads(archive: Archive) -> None:
    def work(number: int) -> bytes:
        store = HamtStore(archive, path=f"t{number % 3}")
        for step in range(30):
            put(store, f"{number}/{step}")
        found = store.get_sync(f"{number}/29")
        assert found is not None
        return found.to_bytes()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == [b"%d/29" % number for number in range(6)]
    assert len(archive) == 180


# --- pickles -------------------------------------------------------------------------------------------

CHILD = """
import pickle, sys
store = pickle.loads(bytes.fromhex(sys.argv[1]))
assert store.read_only
print(sorted(store.archive), store.get_sync(sys.argv[2]).to_bytes().decode())
store.close()
"""


def elsewhere(store: HamtStore, key: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", CHILD, pickle.dumps(store).hex(), key]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_pickle_shares_the_archive_here(archive: Archive) -> None:
    store = HamtStore(archive, path="in")
    again = pickle.loads(pickle.dumps(store))
    put(again, "a")
    assert again == store
    assert list(archive) == ["in/a"]


def test_a_pickle_reads_elsewhere(archive: Archive) -> None:
    store = HamtStore(archive, path="in")
    put(store, "a")
    store.publish()
    put(store, "b")
    done = elsewhere(store, "b")
    assert (done.stdout, done.returncode) == ("['in/a', 'in/b'] b\n", 0)


def test_a_pickle_of_what_has_no_overlay(archive: Archive, tmp_path: Path) -> None:
    put(HamtStore(archive), "a")
    first = archive.publish()
    put(HamtStore(archive), "b")
    archive.publish()
    archive.export(tmp_path / "two.car")
    with HamtStore(tmp_path / "two.car") as store:
        assert elsewhere(store, "b").stdout == "['a', 'b'] b\n"
    assert first is not None
    with HamtStore(archive.car.path, root=cids.to_text(first.root)) as store:
        assert elsewhere(store, "a").stdout == "['a'] a\n"


def test_keys_are_not_pickled(tmp_path: Path) -> None:
    key = os.urandom(32)
    with HamtStore(tmp_path / "x.car", mode="a", key=key, key_header=b"h") as store:
        put(store, "secret")
        assert key not in pickle.dumps(store)
        done = elsewhere(store, "secret")
        assert done.returncode == 1
        assert "Refused: the archive is encrypted" in done.stderr
    with HamtStore(tmp_path / "x.car", mode="r+", key=key, key_header=b"h") as store:
        found = store.get_sync("secret")
        assert found is not None
        assert found.to_bytes() == b"secret"


def test_trees_that_can_only_be_read(tmp_path: Path, archive: Archive) -> None:
    writer = Writer()
    root = writer.v2({}, {"a/b": writer.put(b"value")})
    path = tmp_path / "sharded.car"
    with path.open("wb") as file:
        write_car(file, (root,), [(root, writer.blocks.get(root)), (writer.put(b"value"), b"value")])
    with pytest.raises(Refused):
        HamtStore(path, mode="r+")
    with HamtStore(path) as store:
        assert gathered(store.list_dir("a")) == ["b"]
        found = store.get_sync("a/b")
        assert found is not None
        assert found.to_bytes() == b"value"
        assert elsewhere(store, "a/b").stdout == "['a/b'] value\n"
