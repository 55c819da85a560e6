"""Trees: mstfs against atmst (PyPI), each piece of work in a fresh process, in CPU milliseconds.

Both sides check hashes. The work: open the CAR (cold: no index yet; warm: with it), list every key, 1,000
random look-ups (cold and again), 1,000 random puts and the new root, 1,000 appends, 1,000 deletes, a diff of
two trees 400 changes apart, 1,000 random puts published durably in SQLite, resident memory after opening.
"""

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memory import resident

from bench.table import Times, show

WORKS = ("open cold", "open warm", "list", "get", "put", "append", "delete", "diff", "publish", "memory")
COUNT = 1000
SEED = 7


def clock(action: Callable[[], Any]) -> tuple[float, Any]:
    """CPU milliseconds of an action, and what it returned."""
    start = time.process_time()
    result = action()
    return (time.process_time() - start) * 1000, result


def appended(count: int) -> list[str]:
    """Keys that sort behind those of any real collection."""
    return [f"zz.example.append/{number:013d}" for number in range(count)]


def edits_of(work: str, keys: list[str]) -> list[tuple[str, bool]]:
    """Keys to put (True) or to delete, sorted: the same for both sides."""
    chosen = random.Random(SEED)
    if work == "append":
        return [(key, True) for key in appended(COUNT)]
    if work == "delete":
        return [(key, False) for key in sorted(chosen.sample(keys, COUNT))]
    new = {f"{key}x" for key in chosen.sample(keys, COUNT if work != "diff" else 200)}
    old = chosen.sample(keys, 200 if work == "diff" else 0)
    return sorted([(key, True) for key in new] + [(key, False) for key in old])


def run_mstfs(work: str, car: Path) -> dict[str, float]:
    """One piece of work with mstfs. What an archive loads for its kind is loaded before, as for the peer."""
    import mstfs.tree.mst.tree
    import mstfs.values.records  # noqa: F401
    from mstfs.archive import Archive
    from mstfs.codec import cid as cids
    from mstfs.tree.interface import Edit

    value = cids.for_block(b"\xa0")
    index = car.with_name(car.name + ".mstfs-index")
    if work == "open cold":
        index.unlink(missing_ok=True)
    before = resident() / 1e6
    took, archive = clock(lambda: Archive.open(car, mode="car"))
    if work.startswith("open"):
        return {work: took}
    if work == "memory":
        return {"memory after open, MB": resident() / 1e6, "memory of the process before, MB": before}
    tree, root = archive.workspace.tree, archive.head.data
    if work == "list":
        took, entries = clock(lambda: tree.page(root))
        return {f"list {len(entries)} keys, cold": took}
    keys = [entry.key.decode() for entry in tree.page(root)]
    archive.close()
    archive = Archive.open(car, mode="car")
    tree = archive.workspace.tree
    if work == "get":
        wanted = [key.encode() for key in random.Random(SEED).sample(keys, COUNT)]
        cold, _ = clock(lambda: [tree.get(root, key) for key in wanted])
        warm, _ = clock(lambda: [tree.get(root, key) for key in wanted])
        return {"get 1000 random, cold": cold, "get 1000 random, warm": warm}
    edits = [Edit(key.encode(), value if put else None) for key, put in edits_of(work, keys)]
    if work == "publish":
        return {"put 1000 + new root, durable in SQLite": publishing(car, edits)}
    took, applied = clock(lambda: tree.apply(root, edits))
    if work != "diff":
        return {f"{work} 1000 + new root": took}
    from mstfs.blocks.memory import MemoryBlocks
    from mstfs.blocks.overlay import OverlayBlocks
    from mstfs.tree.mst.tree import MstTree

    both = MstTree(OverlayBlocks(MemoryBlocks(applied.nodes.items()), [archive.workspace.blocks]))
    took, found = clock(lambda: both.diff(root, applied.root))
    assert len(found.changes) == len(edits)
    return {"diff, 400 changes apart": took}


def publishing(car: Path, edits: list[Any]) -> float:
    """Publish edits that are staged already."""
    from mstfs.archive import Archive

    overlay = car.with_name("overlay")
    with Archive.open(car, mode="write", overlay=overlay) as archive:
        with archive.workspace.transaction():
            for key, cid in edits:
                archive.workspace.edits.stage(key, cid, 0)
        took, event = clock(archive.publish)
        assert event is not None
    overlay.unlink()
    return took


def run_atmst(work: str, car: Path) -> dict[str, float]:
    """The same piece of work with atmst."""
    from atmst.blockstore import MemoryBlockStore, OverlayBlockStore, SqliteBlockStore
    from atmst.blockstore.car_file import ReadOnlyCARBlockStore
    from atmst.mst.diff import mst_diff, record_diff
    from atmst.mst.node_store import NodeStore
    from atmst.mst.node_walker import NodeWalker
    from atmst.mst.node_wrangler import NodeWrangler
    from cbrrr import CID, decode_dag_cbor

    before = resident() / 1e6
    took, blocks = clock(lambda: ReadOnlyCARBlockStore(car.open("rb")))
    if work.startswith("open"):
        return {work: took}
    if work == "memory":
        return {"memory after open, MB": resident() / 1e6, "memory of the process before, MB": before}
    root: Any = decode_dag_cbor(blocks.get_block(bytes(blocks.car_root)))["data"]  # type: ignore[index,call-overload]
    store = NodeStore(OverlayBlockStore(MemoryBlockStore(), blocks))
    if work == "list":
        took, found = clock(lambda: list(NodeWalker(store, root).iter_kv()))
        return {f"list {len(found)} keys, cold": took}
    keys = [key for key, _ in NodeWalker(store, root).iter_kv()]
    store = NodeStore(OverlayBlockStore(MemoryBlockStore(), blocks))
    if work == "get":
        wanted = random.Random(SEED).sample(keys, COUNT)

        def get() -> list[Any]:
            return [NodeWalker(store, root).find_rpath(key) for key in wanted]

        cold, _ = clock(get)
        warm, _ = clock(get)
        return {"get 1000 random, cold": cold, "get 1000 random, warm": warm}
    value = CID.cidv1_dag_cbor_sha256_32_from(b"\xa0")
    database = sqlite3.connect(car.with_name("atmst.db"))
    if work == "publish":
        store = NodeStore(OverlayBlockStore(SqliteBlockStore(database), blocks))
    wrangler = NodeWrangler(store)

    def apply() -> Any:
        new = root
        for key, put in edits_of(work, keys):
            new = wrangler.put_record(new, key, value) if put else wrangler.del_record(new, key)
        return new

    took, new = clock(apply)
    if work == "publish":
        committed, _ = clock(database.commit)
        car.with_name("atmst.db").unlink()
        return {"put 1000 + new root, durable in SQLite": took + committed}
    if work != "diff":
        return {f"{work} 1000 + new root": took}
    took, changes = clock(lambda: list(record_diff(store, *mst_diff(store, root, new))))
    assert len(changes) == len(edits_of(work, keys))
    return {"diff, 400 changes apart": took}


SIDES = {"mstfs": run_mstfs, "atmst": run_atmst}


def main() -> None:
    """Run every piece of work for both sides, interleaved, and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench trees", description=__doc__)
    parser.add_argument("--car", type=Path, help="an atproto repository (default: a sample is made)")
    parser.add_argument("--records", type=int, default=100_000, help="records in the sample")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the medians here")
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "WORK", "CAR"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        side, work, car = arguments.one
        print(json.dumps(SIDES[side](work, Path(car))))
        return
    with tempfile.TemporaryDirectory(prefix="mstfs-bench-") as folder:
        car = Path(folder) / "repo.car"
        if arguments.car is None:
            from mstfs.repo.sample import make_sample

            make_sample(car, arguments.records, 1)
        else:
            car.write_bytes(arguments.car.read_bytes())
        times: Times = {side: {} for side in SIDES}
        for number in range(arguments.rounds):
            for work in WORKS:
                for side in list(SIDES) if number % 2 else list(SIDES)[::-1]:
                    command = [sys.executable, "-m", "bench.trees", "--one", side, work, str(car)]
                    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    for name, value in json.loads(out).items():
                        times[side].setdefault(name, []).append(value)
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
    show(times, "atmst", "CPU ms", arguments.json)


if __name__ == "__main__":
    main()
