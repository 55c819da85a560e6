"""The Zarr store over an archive: zarr's own tests of a store, xarray, and what is particular to it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, cpu, default_buffer_prototype
from zarr.testing.store import StoreTests

import mstfs
from mstfs.archive import Archive
from mstfs.codec import cid as cids
from mstfs.tree.interface import Entry
from mstfs.zarr import HamtStore

PROTOTYPE = default_buffer_prototype()

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with mstfs.create(tmp_path / "new.car", values="raw") as archive:
        yield archive


def gathered(names: AsyncIterator[str]) -> list[str]:
    async def gather() -> list[str]:
        return [name async for name in names]

    return asyncio.run(gather())


def put(store: HamtStore, *keys: str) -> None:
    for key in keys:
        store.set_sync(key, cpu.Buffer.from_bytes(os.fsencode(key)))


# --- zarr's own tests ------------------------------------------------------------------------------


class TestHamtStore(StoreTests[HamtStore, cpu.Buffer]):
    """Every test that zarr has for its own stores; at the root of an archive and in a folder of one."""

    store_cls = HamtStore
    buffer_cls = cpu.Buffer

    @pytest.fixture(params=["", "deep/folder"])
    def store_kwargs(self, request: pytest.FixtureRequest, archive: Archive) -> dict[str, Any]:
        archive["deeper"] = archive["deep/folderless"] = archive["deep/folder-"] = b"of no store"
        if not request.param:
            archive.clear()
        return {"archive": archive, "path": request.param}

    # These are async in zarr's suite, where tests that are not could then not use them here.
    @pytest.fixture
    def store(self, open_kwargs: dict[str, Any]) -> HamtStore:
        return asyncio.run(HamtStore.open(**open_kwargs))

    @pytest.fixture
    def store_not_open(self, store_kwargs: dict[str, Any]) -> HamtStore:
        return HamtStore(**store_kwargs)

    async def set(self, store: HamtStore, key: str, value: Buffer) -> None:
        store.archive[store._folder + key] = value.to_bytes()

    async def get(self, store: HamtStore, key: str) -> Buffer:
        return self.buffer_cls.from_bytes(store.archive[store._folder + key])

    def test_store_repr(self, store: HamtStore) -> None:
        assert repr(store).startswith("HamtStore('mstfs:///")
        assert "new.car" in str(store)

    def test_store_supports_writes(self, store: HamtStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: HamtStore) -> None:
        assert store.supports_listing


# --- xarray ------------------------------------------------------------------------------------------


def dataset(times: int = 23, first: int = 0) -> xr.Dataset:
    rng = np.random.default_rng(first)
    return xr.Dataset(
        {
            "temp": (("time", "lat", "lon"), rng.random((times, 7, 5)), {"units": "K"}),
            "rain": (("time", "lat"), rng.integers(0, 9, (times, 7))),
            "name": ((), 42),
        },
        coords={"time": np.arange(first, first + times), "lat": np.arange(7) / 2, "lon": np.arange(5.0)},
        attrs={"title": "weather"},
    )


CHUNKS = {"temp": {"chunks": (2, 3, 5)}, "rain": {"chunks": (1, 7)}, "time": {"chunks": (4,)}}


def write(store: HamtStore, data: xr.Dataset, **options: Any) -> None:
    data.to_zarr(store, mode=options.pop("mode", "w"), zarr_format=3, **options)


def read(store: HamtStore, **options: Any) -> xr.Dataset:
    data: xr.Dataset = xr.open_zarr(store, **options).load()
    return data


@pytest.mark.parametrize("tree", ["hamt3", "hamt2", "hashmap", "hashmap,width=5,bucket=2,hash=sha2-256"])
def test_what_xarray_writes_is_what_it_reads(tmp_path: Path, tree: str) -> None:
    path = tmp_path / "data.car"
    with HamtStore(path, mode="w-", tree=tree) as store:
        write(store, dataset(), encoding=CHUNKS)
        xr.testing.assert_identical(read(store), dataset())
        root = store.publish()
        assert store.publish() == root
        store.archive.export(tmp_path / "export.car")
    for name in ("data.car", "export.car"):
        with HamtStore(tmp_path / name) as store:
            assert store.read_only
            assert store.archive.root == root
            assert store.archive.kind.name == tree.split(",")[0]
            xr.testing.assert_identical(read(store), dataset())
            xr.testing.assert_identical(read(store, consolidated=False), dataset())


def test_the_same_data_has_the_same_root(tmp_path: Path) -> None:
    roots = []
    for name in ("one.car", "two.car"):
        with HamtStore(tmp_path / name, mode="a") as store:
            if name == "two.car":
                write(store, dataset(40, 3))
                store.publish()
            write(store, dataset(), encoding=CHUNKS)
            roots.append(store.publish())
    assert roots[0] == roots[1]


def test_appending_and_regions(tmp_path: Path) -> None:
    path = tmp_path / "data.car"
    with HamtStore(path, mode="a") as store:
        write(store, dataset(10), encoding=CHUNKS)
        first = store.publish()
        dataset(7, 10).to_zarr(store, append_dim="time")
        expected = xr.concat([dataset(10), dataset(7, 10)], dim="time", data_vars="minimal")
        xr.testing.assert_identical(read(store), expected)
        store.publish()
    with HamtStore(path, mode="r+") as store:
        change = dataset(4, 99).drop_vars(["lat", "lon", "name"]).assign_coords(time=np.arange(4, 8))
        change.drop_vars("time").to_zarr(store, region={"time": slice(4, 8)})
        expected["temp"][4:8] = change["temp"]
        expected["rain"][4:8] = change["rain"]
        xr.testing.assert_identical(read(store), expected)
        second = store.publish()
    with HamtStore(path) as store:
        xr.testing.assert_identical(read(store), expected)
        diff = store.archive.diff(cids.parse(first), cids.parse(second))
        # Of what was there before, only what the region and the appended part touch is new.
        assert not {change.key for change in diff.changes if change.new} & {b"temp/c/0/0/0", b"lat/c/0"}
    with HamtStore(path, root=first) as store:
        xr.testing.assert_identical(read(store), dataset(10))


def test_two_stores_in_one_archive(archive: Archive) -> None:
    one, two = HamtStore(archive, path="one.zarr"), HamtStore(archive, path="/two.zarr/")
    write(one, dataset(5))
    write(two, dataset(6, 1))
    write(one, dataset(7, 2))
    xr.testing.assert_identical(read(one), dataset(7, 2))
    xr.testing.assert_identical(read(two), dataset(6, 1))
    assert gathered(HamtStore(archive).list_dir("")) == ["one.zarr", "two.zarr"]
    asyncio.run(two.clear())
    assert {key.split("/")[0] for key in archive} == {"one.zarr"}
    assert one != two
    assert one == HamtStore(archive, path="one.zarr", read_only=True)


def test_groups_arrays_and_consolidated_metadata(archive: Archive) -> None:
    store = HamtStore(archive)
    group = zarr.create_group(store)
    array = group.create_array("a/b", shape=(30, 4), chunks=(1, 2), dtype="i4", fill_value=7)
    array[3:5] = 1
    array[29, 3] = 2
    zarr.consolidate_metadata(store)
    again = zarr.open_group(store, mode="r")
    assert again.metadata.consolidated_metadata is not None
    found: Any = again["a/b"]
    np.testing.assert_array_equal(found[:], array[:])
    assert found.nchunks_initialized == 5
    assert found.nbytes_stored() == sum(archive.size(key) for key in archive if key.startswith("a/b/"))
    assert sorted(archive.keys("a/b/c/")) == [
        "a/b/c/29/1",
        *(f"a/b/c/{at}/{n}" for at in (3, 4) for n in (0, 1)),
    ]
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1
    del group["a"]
    assert list(archive) == ["zarr.json"]


def test_a_dataset_that_py_hamt_wrote(shared_fixtures: Path, tmp_path: Path) -> None:
    path = tmp_path / "zarr.car"
    path.write_bytes((shared_fixtures / "hamt" / "zarr_pyhamt3.car").read_bytes())
    digests = json.loads((shared_fixtures / "hamt" / "zarr_pyhamt3.json").read_text())["sha256"]
    with HamtStore(path) as store:
        assert gathered(store.list()) == sorted(digests)
        for key, digest in digests.items():
            found = store.get_sync(key)
            assert found is not None
            assert sha256(found.to_bytes()).hexdigest() == digest
        data = read(store)
        assert (data.attrs, dict(data.sizes)) == (
            {"title": "mstfs fixture"},
            {"time": 24, "lat": 20, "lon": 30},
        )
    with HamtStore(path, mode="r+") as store:
        write(store, data)
        xr.testing.assert_identical(read(store), data)
        assert store.archive.kind.name == "hamt3"


# --- reading ------------------------------------------------------------------------------------------

SMALL = bytes(range(100))
LARGE = np.random.default_rng(1).bytes(3_000_000)


@pytest.mark.parametrize("data", [SMALL, LARGE, b""], ids=["block", "file", "empty"])
@pytest.mark.parametrize("tree", ["hamt3", "hamt2"])
def test_ranges(tmp_path: Path, tree: str, data: bytes) -> None:
    with HamtStore(tmp_path / "x.car", mode="a", tree=tree) as store:
        store.set_sync("k", cpu.Buffer.from_bytes(data))
        asyncio.run(ranges(store, data))
        if data is LARGE:
            cid = store.archive.workspace.staged.get(b"k") or b""
            assert cids.codec_of(cid) == cids.DAG_PB


async def ranges(store: HamtStore, data: bytes) -> None:
    size = len(data)
    edges = [0, 1, 7, max(size - 3, 0), size, size + 5]
    requests: list[tuple[Any, bytes]] = [(None, data)]
    for start in edges:
        requests.append((OffsetByteRequest(start), data[start:]))
        requests.append((SuffixByteRequest(start), data[max(size - start, 0) :]))
        for end in edges:
            requests.append((RangeByteRequest(start, end), data[start:end]))
    for request, expected in requests:
        found = await store.get("k", PROTOTYPE, request)
        assert found is not None
        assert found.to_bytes() == expected, request
    several = await store.get_partial_values(
        PROTOTYPE, [*(("k", request) for request, _ in requests), ("x", None)]
    )
    assert [None if one is None else one.to_bytes() for one in several] == [
        *(data for _, data in requests),
        None,
    ]
    assert await store.getsize("k") == size
    with pytest.raises(FileNotFoundError):
        await store.getsize("x")
    with pytest.raises(ValueError, match="Unexpected byte_range"):
        await store.get("k", PROTOTYPE, (0, 1))  # type: ignore[arg-type]


# --- listing ------------------------------------------------------------------------------------------

KEYS = [
    "a",
    "a-b",
    "a/b",
    "a/c/0/0",
    "a/c/0/1",
    "a/c/10/0",
    "a/c0",
    "b/",
    "b//c",
    "c",
    "d/e/f",
    "\udcff/x",
    "é",
]


@pytest.mark.parametrize("published", [False, True])
def test_folders(tmp_path: Path, published: bool) -> None:
    # A HashMap takes keys that are no text, which Python spells with surrogates.
    with HamtStore(tmp_path / "x.car", mode="a", tree="hashmap") as store:
        put(store, *KEYS)
        if published:
            store.publish()
            put(store, "a/new", "z")
            asyncio.run(store.delete("c"))
        keys = [key for key in KEYS if not published or key != "c"] + (["a/new", "z"] if published else [])
        assert sorted(gathered(store.list())) == sorted(keys)
        for folder in ("", "a", "a/", "a/c", "a/c/0", "b", "b/", "c", "d", "d/e", "no", "\udcff"):
            below = folder.rstrip("/") + "/" if folder else ""
            names = {key[len(below) :].split("/")[0] for key in keys if key.startswith(below)} - {""}
            found = gathered(store.list_dir(folder))
            assert sorted(found) == sorted(names), folder
            assert sorted(gathered(store.list_prefix(folder))) == sorted(
                key for key in keys if key.startswith(folder)
            )


@pytest.mark.parametrize("published", [False, True])
def test_a_listing_passes_over_folders(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, published: bool
) -> None:
    store = HamtStore(archive)
    keys = [f"t/c/{at}/{number}" for at in range(40) for number in range(50)]
    with archive.workspace.transaction():
        put(store, *keys, "t/zarr.json", *(f"t/file{number}" for number in range(3000)))
    if published:
        store.publish()
        put(store, "t/last")
    taken = 0
    page = type(archive.workspace.tree).page

    def counting(*arguments: Any, **options: Any) -> list[Entry]:
        nonlocal taken
        entries = page(*arguments, **options)
        taken += len(entries)
        return entries

    monkeypatch.setattr(type(archive.workspace.tree), "page", counting)
    assert len(gathered(store.list_dir(""))) == 1
    assert gathered(store.list_dir("t/c/7")) == [str(number) for number in sorted(range(50), key=str)]
    assert gathered(store.list_dir("t/c")) == [str(number) for number in sorted(range(40), key=str)]
    assert taken < 2500
    assert len(gathered(store.list_dir("t"))) == 3002 + published
    # The files of the folder and some more, but not its 2000 chunks.
    assert taken < 2500 + 5000


def test_sizes_and_emptiness(archive: Archive) -> None:
    store = HamtStore(archive)
    put(store, "a/b", "a/cc", "aa")
    assert asyncio.run(store.getsize_prefix("a/")) == 3 + 4
    assert asyncio.run(store.getsize_prefix("")) == 3 + 4 + 2
    assert asyncio.run(store.getsize_prefix("x")) == 0
    assert not asyncio.run(store.is_empty("a"))
    assert asyncio.run(store.is_empty("aa"))


# --- writing ------------------------------------------------------------------------------------------


def test_many_values_or_none(archive: Archive) -> None:
    store = HamtStore(archive)
    put(store, "old")
    values: list[tuple[str, Any]] = [("one", cpu.Buffer.from_bytes(b"1")), ("old", b"no buffer")]
    with pytest.raises(TypeError):
        asyncio.run(store._set_many(values))
    assert list(archive) == ["old"]
    asyncio.run(store._set_many(values[:1]))
    assert archive["one"] == b"1"


def test_a_store_for_reading(archive: Archive) -> None:
    store = HamtStore(archive, read_only=True)
    value = cpu.Buffer.from_bytes(b"1")
    for call in (
        lambda: store.set_sync("a", value),
        lambda: store.delete_sync("a"),
        store.publish,
        lambda: asyncio.run(store.clear()),
        lambda: asyncio.run(store.delete_dir("a")),
        lambda: asyncio.run(store.set_if_not_exists("a", value)),
        lambda: asyncio.run(store._set_many([("a", value)])),
    ):
        with pytest.raises(ValueError, match="read-only"):
            call()
    with pytest.raises(NotImplementedError):
        asyncio.run(store.set_partial_values([]))
