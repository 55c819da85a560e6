"""Zarr stores in HAMTs: what xarray reads and writes in a mount, against the same in a plain folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from xarray.testing import assert_identical

from mount.hamts import KINDS, Kind, check, make
from mount.mounting import Mount, files_below, mstfs
from mstfs.archive import Archive

# zarr says the one of every store of format 3 in which metadata is consolidated, as xarray does by default,
# and the other of every text of a fixed length.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part:UserWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
]


def dataset(hours: int = 24, start: int = 0) -> xarray.Dataset:
    """Some weather, always the same."""
    rng = np.random.default_rng(7)
    shape = (hours, 10, 12)
    return xarray.Dataset(
        {
            "temp": (("time", "lat", "lon"), rng.normal(280, 10, shape).astype("float32") + start),
            "rain": (("time", "lat", "lon"), np.where(rng.random(shape) < 0.5, np.nan, rng.random(shape))),
            "station": (("lat",), np.array([f"näme {number}" for number in range(10)])),
        },
        coords={
            "time": np.datetime64("2024-01-01T00", "ns")
            + np.arange(start, start + hours) * np.timedelta64(1, "h"),
            "lat": np.linspace(-45, 45, 10),
            "lon": np.linspace(0, 350, 12),
        },
        attrs={"title": "weather", "numbers": [1, 2.5]},
    )


CHUNKS = {"temp": {"chunks": (6, 5, 4)}, "rain": {"chunks": (24, 10, 12)}}


def read(store: Path) -> xarray.Dataset:
    """All of a store, held in memory."""
    found: xarray.Dataset
    with xarray.open_zarr(store, chunks=None) as found:
        return found.load()


@pytest.fixture
def weather(shared_fixtures: Path, tmp_path: Path) -> Path:
    """A copy of a store that py-hamt 3 wrote."""
    car = Path(shutil.copy(shared_fixtures / "hamt/zarr_pyhamt3.car", tmp_path / "weather.car"))
    car.chmod(0o644)
    return car


@pytest.fixture
def plain(weather: Path, tmp_path: Path) -> Path:
    """The same store as a plain folder."""
    folder = tmp_path / "plain"
    with Archive.open(weather) as archive:
        for key in archive:
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(archive.read(key))
    return folder


def test_a_store_of_py_hamt(weather: Path, plain: Path) -> None:
    expected = read(plain)
    assert (expected.attrs["title"], dict(expected.sizes)) == (
        "mstfs fixture", {"time": 24, "lat": 20, "lon": 30},
    )  # fmt: skip
    for option in ("--read-only", "--no-publish-on-unmount"):
        with Mount(weather, option) as mount:
            assert_identical(read(mount.path), expected)
            with xarray.open_zarr(mount.path, chunks=None) as lazy:
                part = {"time": slice(5, 8), "lat": 3}
                assert_identical(lazy.temp.isel(part).load(), expected.temp.isel(part))
            group = zarr.open_group(mount.path, mode="r")
            assert sorted(group.array_keys()) == ["lat", "lon", "precip", "temp", "time"]


def test_appending_to_a_store_of_py_hamt(weather: Path, plain: Path) -> None:
    before = read(plain)
    later = before.assign_coords(time=before.time + np.timedelta64(1, "D"))
    with Mount(weather) as mount:
        for store in (mount.path, plain):
            later.to_zarr(store, append_dim="time")
        assert files_below(mount.path) == files_below(plain)
        after = read(mount.path)
        assert_identical(after, xarray.concat([before, later], dim="time"))
        mount.sync()
        assert_identical(read(mount.path), after)
        assert_identical(read(mount / ".mstfs/history/1"), before)
        mount.mstfs("checkout", mount.path, "1")
        assert_identical(read(mount.path), before)
    check(weather)


@pytest.mark.parametrize("name", ["hamt3-raw", "hamt3-cbor", "hamt2", "hashmap"])
def test_what_xarray_writes(name: str, tmp_path: Path) -> None:
    """Into a folder of a mount, and as it writes to a disk: exported, mounted, and read again."""
    kind = KINDS[name]
    car, exported, plain = make(tmp_path, kind), tmp_path / "exported.car", tmp_path / "plain"
    data = dataset()
    with Mount(car, "--values", kind.values) as mount:
        for store in (mount / "new.zarr", plain):
            data.to_zarr(store, encoding=CHUNKS)
        assert files_below(mount / "new.zarr") == files_below(plain)
        assert_identical(read(mount / "new.zarr"), data)
        assert mount.sync()["created"] == len(files_below(plain))
        assert mount.status()["scratch"]["files"] == 0
        assert mount.staged() == []
        mount.remount()
        assert_identical(read(mount / "new.zarr"), data)
    check(car)
    mstfs("export", car, exported, folder=tmp_path)
    with Mount(exported, "--read-only", "--values", kind.values, point=tmp_path / "again") as mount:
        assert_identical(read(mount / "new.zarr"), data)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Mount, Path]]:
    """A mount of an empty HAMT, and an empty folder."""
    car = make(tmp_path, Kind("hamt3", "raw"))
    (tmp_path / "plain").mkdir()
    with Mount(car) as mount:
        yield mount, tmp_path / "plain"
        assert files_below(mount.path) == files_below(tmp_path / "plain")
        mount.sync()
        assert mount.status()["scratch"]["files"] == 0
        mount.remount()
        assert files_below(mount.path) == files_below(tmp_path / "plain")
    check(car)


def test_regions_and_appending(stores: tuple[Mount, Path]) -> None:
    data, more = dataset(), dataset(hours=6, start=24)
    for store in (stores[0].path, stores[1]):
        data.to_zarr(store, encoding=CHUNKS)
        part = data[["temp", "rain"]].isel(time=slice(3, 15)) + 1
        part.drop_vars(["lat", "lon"]).to_zarr(store, region={"time": slice(3, 15)})
        more.drop_vars("station").to_zarr(store, append_dim="time")
    expected = xarray.concat(
        [data, more], dim="time", data_vars="minimal", coords="minimal", compat="override"
    )
    expected = expected.copy(deep=True)
    for name in ("temp", "rain"):
        expected[name][{"time": slice(3, 15)}] = (data[name] + 1)[{"time": slice(3, 15)}]
    assert_identical(read(stores[0].path), expected)


def test_writing_over_a_store(stores: tuple[Mount, Path]) -> None:
    for store in (stores[0].path, stores[1]):
        dataset().to_zarr(store / "a/b.zarr", encoding=CHUNKS)
        dataset(hours=3).to_zarr(store / "a/b.zarr", mode="w")
        dataset().to_zarr(store / "a/c.zarr", consolidated=False)
        zarr.consolidate_metadata(store / "a/c.zarr")
        dataset().attrs.clear()
        group = zarr.open_group(store / "a/c.zarr", mode="r+")
        group.attrs["more"] = {"nested": [1, 2]}
        del group["rain"]
    assert_identical(read(stores[0] / "a/b.zarr"), dataset(hours=3))
    found = zarr.open_group(stores[0] / "a/c.zarr", mode="r", use_consolidated=False)
    assert sorted(found.array_keys()) == ["lat", "lon", "station", "temp", "time"]
    assert found.attrs["more"] == {"nested": [1, 2]}


def test_format_2(stores: tuple[Mount, Path]) -> None:
    data = dataset().drop_vars("station")
    for store in (stores[0].path, stores[1]):
        data.to_zarr(store / "old.zarr", zarr_format=2, encoding=CHUNKS)
    assert (stores[0] / "old.zarr/.zmetadata").exists()
    assert_identical(read(stores[0] / "old.zarr"), data)


def test_chunks_larger_than_those_of_files(stores: tuple[Mount, Path]) -> None:
    """Each value over 1 MiB is a UnixFS file of its own."""
    numbers = np.random.default_rng(1).random((2, 600, 500))
    data = xarray.Dataset({"x": (("t", "a", "b"), numbers)})
    for store in (stores[0].path, stores[1]):
        data.to_zarr(store, encoding={"x": {"chunks": (1, 600, 500)}})
    assert (stores[0] / "x/c/0/0/0").stat().st_size > 2 << 20
    assert_identical(read(stores[0].path), data)
    with xarray.open_zarr(stores[0].path, chunks=None) as lazy:
        assert float(lazy.x[1, 599, 499]) == numbers[1, 599, 499]
