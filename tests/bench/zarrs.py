"""Zarr stores over a HAMT: about 100 MB in chunks of 256 KiB and 1 MiB, uncompressed, in wall milliseconds.

`xarray.open_zarr(...).load()` of the same data as plain files, through a read-only mount of a CAR, with
HamtStore over that CAR, and with py-hamt's ZarrHAMTStore over its InMemoryCAS; and what else reads files:
find and cat. The first load is of a fresh process (and a fresh mount), the second one is of the same process.
The CAR and the plain files are in the page cache.
"""

import argparse
import asyncio
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from bench.mounts import Peer, clocked, reading
from bench.table import Times, show

PLAIN = "plain files"


def dataset(megabytes: int) -> Any:
    """Two variables of random numbers, and how they are cut into chunks."""
    import numpy as np
    import xarray as xr

    chosen = np.random.default_rng(7)
    steps = max(1, round(megabytes / 2 / (512 * 1024 * 4 / 1e6)))
    shape = (steps, 512, 1024)
    names = ("time", "y", "x")
    data = {name: (names, chosen.random(shape, dtype=np.float32)) for name in ("small", "large")}
    encoding = {
        "small": {"chunks": (1, 256, 256), "compressors": None},
        "large": {"chunks": (1, 512, 512), "compressors": None},
    }
    return xr.Dataset(data), encoding


def make(folder: Path, megabytes: int, with_peer: bool) -> None:
    """The same data as plain files, as a CAR, and as what py-hamt would hold in memory."""
    from mstfs.zarr import HamtStore

    data, encoding = dataset(megabytes)
    data.to_zarr(folder / "plain", zarr_format=3, encoding=encoding, consolidated=False)
    with HamtStore(folder / "making.car", mode="w-") as store:
        data.to_zarr(store, zarr_format=3, encoding=encoding, consolidated=False)
        store.publish()
        store.archive.export(folder / "data.car")
    if not with_peer:
        return
    from py_hamt import HAMT, InMemoryCAS, ZarrHAMTStore
    from zarr.core.sync import sync

    cas = InMemoryCAS()
    hamt = sync(HAMT.build(cas=cas, values_are_bytes=True))
    data.to_zarr(ZarrHAMTStore(hamt), zarr_format=3, encoding=encoding, consolidated=False)
    sync(hamt.make_read_only())
    (folder / "py-hamt.pickle").write_bytes(pickle.dumps((hamt.root_node_id, cas.store)))


@contextmanager
def opened(what: str, place: str) -> Iterator[Any]:
    """What `xarray.open_zarr` is to open."""
    if what == "HamtStore":
        from mstfs.zarr import HamtStore

        with HamtStore(place) as store:
            yield store
    elif what == "py-hamt":
        from py_hamt import HAMT, InMemoryCAS, ZarrHAMTStore

        cas = InMemoryCAS()
        root, cas.store = pickle.loads(Path(place).read_bytes())
        hamt = asyncio.run(HAMT.build(cas=cas, root_node_id=root, read_only=True, values_are_bytes=True))
        yield ZarrHAMTStore(hamt, read_only=True)
    else:
        yield place


def load(what: str, place: str) -> dict[str, float]:
    """Wall milliseconds of two loads, what they import left out."""
    import numpy as np
    import xarray as xr
    import zarr  # noqa: F401

    found: dict[str, float] = {}
    with opened(what, place) as store:
        for name in ("first", "second"):
            start = time.monotonic()
            data = xr.open_zarr(store, consolidated=False, chunks=None).load()
            found[f"open_zarr().load(), {name}"] = (time.monotonic() - start) * 1000
    assert all(np.isfinite(data[name].values[-1]).all() for name in ("small", "large"))
    return found


def compare(folder: Path, megabytes: int, rounds: int, with_peer: bool, target: Path | None) -> None:
    """Interleaved rounds over every store, then the table."""
    made = [sys.executable, "-m", "bench.zarrs", "make", str(folder), str(megabytes), str(int(with_peer))]
    subprocess.run(made, check=True)
    mountpoint = folder / "mnt"
    mountpoint.mkdir()
    car = folder / "data.car"
    mount = Peer("mount", [sys.executable, "-m", "mstfs", "mount", "-f", "--read-only", str(car), "{mnt}"])
    places = {"mount": mountpoint, "HamtStore": car, PLAIN: folder / "plain"}
    if with_peer:
        places["py-hamt"] = folder / "py-hamt.pickle"
    times: Times = {what: {} for what in places}
    for number in range(rounds):
        for what in list(places) if number % 2 else list(places)[::-1]:
            row, place = times[what], places[what]
            with mount.mounted(mountpoint) if what == "mount" else nullcontext():
                command = [sys.executable, "-m", "bench.zarrs", "load", what, str(place)]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                for name, value in json.loads(out).items():
                    row.setdefault(name, []).append(value)
            if what not in ("mount", PLAIN):
                continue
            for work in ("find", "cat"):
                with mount.mounted(mountpoint) if what == "mount" else nullcontext():
                    for phase in ("cold", "warm"):
                        row.setdefault(f"{work}, {phase}", []).append(clocked(reading(place)[work]))
        print(f"Zarr, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    show(times, PLAIN, "wall ms", target)


def main() -> None:
    """One step, in a process of its own."""
    parser = argparse.ArgumentParser(prog="bench.zarrs")
    parser.add_argument("step", choices=("make", "load"))
    parser.add_argument("words", nargs="*")
    arguments = parser.parse_args()
    words = arguments.words
    if arguments.step == "make":
        make(Path(words[0]), int(words[1]), bool(int(words[2])))
    else:
        print(json.dumps(load(words[0], words[1])))


if __name__ == "__main__":
    main()
