"""HAMTs: mstfs against py-hamt 3 (PyPI), each piece of work in a fresh process; and Zarr stores over them.

Trees: the same keys, and values of 64 bytes, built from nothing, 1,000 more set and a new root made, all
values read in random order, all keys listed; in CPU milliseconds, with the bytes written and the peak memory.
"mstfs" is the tree over blocks in memory, "mstfs, CAR" an archive over a CAR and its overlay in SQLite,
py-hamt has its InMemoryCAS. mstfs checks every hash in both; py-hamt checks none.

Zarr: see `bench.zarrs`. What does not run here is left out, and why is said.
"""

import argparse
import asyncio
import gc
import hashlib
import json
import pickle
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memory import peak

from bench import zarrs
from bench.table import Times, show
from bench.trees import clock

COUNT = 1000
SEED = 7
WORKS = ("build", "set", "get", "iterate")


def items(count: int) -> list[tuple[str, bytes]]:
    """Keys as those of Zarr chunks, and their values."""
    return [
        (f"temperature/c/{number // 400}/{number % 400}", hashlib.sha512(b"%d" % number).digest())
        for number in range(count)
    ]


NEW = [(f"humidity/c/0/{number}", hashlib.sha512(b"new %d" % number).digest()) for number in range(COUNT)]


def shuffled(count: int) -> list[str]:
    """All keys, in an order that has nothing to do with that of the tree."""
    keys = [key for key, _ in items(count)]
    random.Random(SEED).shuffle(keys)
    return keys


def twice(name: str, action: Callable[[], Any]) -> dict[str, float]:
    """CPU milliseconds of an action that finds nothing in memory, and of the same again."""
    cold, _ = clock(action)
    warm, _ = clock(action)
    return {name: cold, f"{name}, again": warm}


# --- the sides ------------------------------------------------------------------------------------


def run_mstfs(work: str, count: int, folder: Path) -> dict[str, float]:
    """One piece of work with the tree over blocks in memory."""
    from mstfs.blocks.memory import MemoryBlocks
    from mstfs.codec import cid as cids
    from mstfs.tree.hamt.pyhamt3 import PyHamt3
    from mstfs.tree.hamt.tree import HamtTree
    from mstfs.tree.interface import Edit

    blocks = MemoryBlocks()
    written = 0

    def put(pairs: list[tuple[str, bytes]], root: bytes) -> bytes:
        nonlocal written
        values = [(cids.for_block(value, cids.RAW, cids.BLAKE3), value) for _, value in pairs]
        blocks.put_many(values)
        edits = [Edit(key.encode(), cid) for (key, _), (cid, _) in zip(pairs, values, strict=True)]
        applied = tree.apply(root, sorted(edits))
        blocks.put_many(applied.nodes.items())
        written = sum(map(len, applied.nodes.values())) + sum(len(value) for _, value in pairs)
        return applied.root

    def build() -> bytes:
        root, block = tree.empty()
        blocks.put(root, block)
        return put(items(count), root)

    tree = HamtTree(blocks, PyHamt3())
    saved = folder / f"mstfs-{count}.pickle"
    if work == "build":
        took, root = clock(build)
        most = peak() / 1e6
        saved.write_bytes(pickle.dumps((root, [(cid, blocks.get(cid)) for cid in blocks.cids()])))
        return {"build": took, "build, MB written": written / 1e6, "build, peak memory in MB": most}
    root, pairs = pickle.loads(saved.read_bytes())
    blocks.put_many(pairs)
    if work == "set":
        took, _ = clock(lambda: put(NEW, root))
        return {f"set {COUNT} + new root": took, f"set {COUNT}, MB written": written / 1e6}
    if work == "iterate":
        return twice("iterate keys", lambda: list(tree.walk(root)))
    keys = shuffled(count)

    def get() -> None:
        for key in keys:
            cid = tree.get(root, key.encode())
            assert cid is not None
            blocks.get(cid)

    return {**twice("get all", get), "get all, peak memory in MB": peak() / 1e6}


def run_archive(work: str, count: int, folder: Path) -> dict[str, float]:
    """The same piece of work with an archive on disk."""
    import mstfs

    car = folder / f"built-{count}.car"
    if work == "build":
        fresh = folder / "fresh.car"

        def build() -> mstfs.Archive:
            archive = mstfs.create(fresh, tree="hamt3", values="raw")
            archive.update(items(count))
            archive.publish()
            return archive

        took, archive = clock(build)
        most = peak() / 1e6
        overlay = archive.overlay_path
        if not car.exists():
            archive.export(car)
            mstfs.open(car, read_only=True).close()  # Makes the index.
        archive.close()
        written = overlay.stat().st_size / 1e6
        for path in folder.glob("fresh.car*"):
            path.unlink()
        return {"build": took, "build, MB written": written, "build, peak memory in MB": most}
    if work == "set":
        overlay = folder / "overlay"
        with mstfs.open(car, overlay=overlay) as archive:

            def change() -> None:
                archive.update(NEW)
                archive.publish()

            took, _ = clock(change)
        written = overlay.stat().st_size / 1e6
        overlay.unlink()
        return {f"set {COUNT} + new root": took, f"set {COUNT}, MB written": written}
    with mstfs.open(car, read_only=True) as archive:
        if work == "iterate":
            return twice("iterate keys", lambda: list(archive))
        keys = shuffled(count)

        def get() -> None:
            for key in keys:
                archive[key]

        return {**twice("get all", get), "get all, peak memory in MB": peak() / 1e6}


def run_py_hamt(work: str, count: int, folder: Path) -> dict[str, float]:
    """The same piece of work with py-hamt, in one run of an event loop each."""
    from py_hamt import HAMT, InMemoryCAS

    class Cas(InMemoryCAS):  # type: ignore[misc]
        written = 0

        async def save(self, data: bytes, codec: Any) -> bytes:
            self.written += len(data)
            saved: bytes = await super().save(data, codec)
            return saved

    cas = Cas()

    async def put(pairs: list[tuple[str, bytes]], root: bytes | None) -> bytes:
        hamt = await HAMT.build(cas=cas, root_node_id=root, values_are_bytes=True)
        for key, value in pairs:
            await hamt.set(key, value)
        await hamt.make_read_only()
        new: bytes = hamt.root_node_id
        return new

    saved = folder / f"py-hamt-{count}.pickle"
    if work == "build":
        took, root = clock(lambda: asyncio.run(put(items(count), None)))
        most = peak() / 1e6
        saved.write_bytes(pickle.dumps((root, cas.store)))
        return {"build": took, "build, MB written": cas.written / 1e6, "build, peak memory in MB": most}
    root, cas.store = pickle.loads(saved.read_bytes())
    if work == "set":
        took, _ = clock(lambda: asyncio.run(put(NEW, root)))
        return {f"set {COUNT} + new root": took, f"set {COUNT}, MB written": cas.written / 1e6}
    hamt = asyncio.run(HAMT.build(cas=cas, root_node_id=root, read_only=True, values_are_bytes=True))

    async def iterate() -> list[str]:
        return [key async for key in hamt.keys()]  # noqa: SIM118 -- no mapping

    if work == "iterate":
        return twice("iterate keys", lambda: asyncio.run(iterate()))
    keys = shuffled(count)

    async def get() -> None:
        for key in keys:
            await hamt.get(key)

    return {**twice("get all", lambda: asyncio.run(get())), "get all, peak memory in MB": peak() / 1e6}


PEER = "py-hamt"
SIDES = {"mstfs": run_mstfs, "mstfs, CAR": run_archive, PEER: run_py_hamt}


def why_no_peer() -> str | None:
    """Why py-hamt cannot be measured; None if it can be."""
    try:
        import py_hamt
    except ImportError as error:
        return f"it cannot be imported ({error}): scripts/setup --test installs it"
    return None if hasattr(py_hamt, "InMemoryCAS") else "it is another version than 3.6"


# --- the run --------------------------------------------------------------------------------------


def compare(count: int, sides: list[str], rounds: int, folder: Path) -> Times:
    """Interleaved rounds of every piece of work."""
    times: Times = {side: {} for side in sides}
    for number in range(rounds):
        for work in WORKS:
            for side in sides if number % 2 else sides[::-1]:
                command = [sys.executable, "-m", "bench.hamts", "--one", side, work, str(count), str(folder)]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                for name, value in json.loads(out).items():
                    times[side].setdefault(f"{count:,} keys: {name}", []).append(value)
        print(f"{count} keys, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return times


def main() -> None:
    """Every part that is asked for, each with its table."""
    parser = argparse.ArgumentParser(prog="scripts/bench hamts", description=__doc__)
    parser.add_argument("--keys", type=int, nargs="*", default=[20_000, 200_000], help="sizes of the trees")
    parser.add_argument("--megabytes", type=int, default=100, help="size of the Zarr store; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the medians here")
    parser.add_argument("--one", nargs=4, metavar=("SIDE", "WORK", "COUNT", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        side, work, count, place = arguments.one
        gc.collect()
        print(json.dumps(SIDES[side](work, int(count), Path(place))))
        return
    reason = why_no_peer()
    if reason is not None:
        print(f"{PEER} is left out: {reason}", file=sys.stderr)
    sides = [side for side in SIDES if side != PEER or reason is None]
    times: Times = {side: {} for side in sides}
    with tempfile.TemporaryDirectory(prefix="mstfs-bench-") as name:
        folder = Path(name)
        for count in arguments.keys:
            for side, row in compare(count, sides, arguments.rounds, folder).items():
                times[side].update(row)
        show(times, PEER, "CPU ms", arguments.json)
        if arguments.megabytes:
            print()
            target = arguments.json.with_suffix(".zarr.json") if arguments.json else None
            zarrs.compare(folder, arguments.megabytes, arguments.rounds, reason is None, target)


if __name__ == "__main__":
    main()
