"""py-hamt 3 itself, as the peer: it reads what mstfs exports, mstfs reads what it writes, both have one root.

The package asks for Python 3.12 and for one release of zarr, and works with others: `scripts/setup --test`
installs it without what it asks for.
"""

import random
from collections.abc import Coroutine, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import xarray as xr
from multiformats import CID
from zarr.core.sync import sync

import mstfs
from mstfs.archive import Archive
from mstfs.blocks.car import CarFile
from mstfs.blocks.car_writer import write_car
from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.tree.sharded.tree import ShardedTree
from mstfs.tree.sharded.verify import verify_tree
from mstfs.tree.unixfs.builder import build_file, gather
from mstfs.tree.unixfs.tree import UnixfsTree
from mstfs.values.blobs import BlobValues
from mstfs.values.interface import ValueOptions
from mstfs.zarr import HamtStore

py_hamt: Any = pytest.importorskip("py_hamt", reason="needs py-hamt (scripts/setup --test)")

Result = TypeVar("Result")

CHUNK_BYTES = 1 << 20
"""From which size on Kubo makes a file of a value that py-hamt hands to it."""


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """py-hamt on the loop on which zarr calls its stores: its locks belong to one."""
    return sync(work)


class Blocks(py_hamt.ContentAddressedStore):  # type: ignore[misc]
    """What Kubo is to py-hamt: blocks by CID, files where a payload is over the chunk size."""

    def __init__(self, blocks: Iterable[tuple[bytes, bytes]] = (), chunk_bytes: int = CHUNK_BYTES) -> None:
        self.blocks = MemoryBlocks(blocks)
        self.chunk_bytes = chunk_bytes

    @classmethod
    def of(cls, path: Path) -> "Blocks":
        """All blocks of a CAR."""
        with CarFile.open(path, use_sidecar=False) as car:
            return cls((section.cid, car.get(section.cid)) for section in car.sections())

    async def save(self, data: bytes, codec: Any) -> CID:
        if len(data) > self.chunk_bytes:
            built = gather(build_file(BytesIO(data), self.chunk_bytes, cids.BLAKE3), self.blocks.put)
            return CID.decode(built.cid)
        code = {"raw": cids.RAW, "dag-cbor": cids.DAG_CBOR}[codec]
        cid = cids.for_block(data, code, cids.BLAKE3)
        self.blocks.put(cid, data)
        return CID.decode(cid)

    async def load(
        self, id: Any, offset: int | None = None, length: int | None = None, suffix: int | None = None
    ) -> bytes:
        cid = bytes(CID.decode(id) if isinstance(id, str) else id)
        if cids.codec_of(cid) == cids.DAG_PB:
            files = UnixfsTree(self.blocks)
            data = files.read(cid, 0, files.size(cid))
        else:
            data = self.blocks.get(cid)
        if offset is not None:
            return data[offset:] if length is None else data[offset : offset + length]
        return data if suffix is None else data[max(len(data) - suffix, 0) :]

    def write(self, path: Path, root: Any) -> Path:
        """All blocks as a CAR with this root."""
        top = bytes(CID.decode(root) if isinstance(root, str) else root)
        with path.open("wb") as file:
            write_car(file, (top,), [(cid, self.blocks.get(cid)) for cid in self.blocks.cids()])
        return path


def opened(blocks: Blocks, root: str | None, *, raw: bool = True, read_only: bool = True) -> Any:
    """py-hamt's HAMT at a root, or a new one."""
    cid = None if root is None else CID.decode(root)
    return run(py_hamt.HAMT.build(blocks, root_node_id=cid, values_are_bytes=raw, read_only=read_only))


def everything(hamt: Any) -> dict[str, Any]:
    """Keys and values as py-hamt reads them."""

    async def gather() -> dict[str, Any]:
        return {key: await hamt.get(key) async for key in hamt.keys()}  # noqa: SIM118

    return run(gather())


def root_of(hamt: Any) -> str:
    run(hamt.make_read_only())
    return cids.to_text(bytes(hamt.root_node_id))


# --- maps -------------------------------------------------------------------------------------------

KEYS = [f"{first}/{second}" for first in ("a", "é", "", "zarr") for second in range(400)]


def value(rng: random.Random, raw: bool) -> Any:
    if raw or rng.random() < 0.3:
        return rng.randbytes(rng.choice([0, 1, 20, 300]))
    return rng.choice([None, True, 7, -1, "text", [1, {"b": b"x"}], {"k": [0.5]}, 1 << 60])


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "cbor"])
@pytest.mark.parametrize("seed", range(3))
def test_random_edits_give_the_same_root(tmp_path: Path, raw: bool, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "x.car"
    plain: dict[str, Any] = {}
    gone = 0
    blocks = Blocks()
    hamt = opened(blocks, None, raw=raw, read_only=False)
    with mstfs.create(path, values="raw" if raw else "cbor") as archive:
        for step in range(6):
            keys = rng.sample(KEYS, (700, 3, 40, 300, 500, 700)[step])
            for key in keys:
                if key in plain and rng.random() < (0.3 if step < 3 else 0.9):
                    del plain[key], archive[key]
                    gone += 1
                    run(hamt.delete(key))
                elif step < 4:
                    plain[key] = archive[key] = value(rng, raw)
                    run(hamt.set(key, plain[key]))
            archive.publish()
            assert archive.root == root_of(hamt)
            export = tmp_path / f"{step}.car"
            archive.export(export)
            # py-hamt reads the export and goes on with it; mstfs reads what py-hamt has kept.
            theirs = opened(Blocks.of(export), archive.root, raw=raw)
            assert everything(theirs) == plain
            with mstfs.open(blocks.write(tmp_path / "theirs.car", archive.root), read_only=True) as other:
                if plain:
                    assert other.encoding == ("raw" if raw else "cbor")
                    assert dict(other) == plain
            (tmp_path / "theirs.car").unlink()
            blocks, hamt = theirs.cas, theirs
            run(hamt.enable_write())
    assert gone > 100


def test_deleting_everything_leaves_the_empty_root(tmp_path: Path) -> None:
    with mstfs.create(tmp_path / "x.car", values="raw") as archive:
        empty = archive.root
        for number in range(600):
            archive[f"k{number}"] = b"%d" % number
        archive.publish()
        archive.export(tmp_path / "full.car")
        hamt = opened(Blocks.of(tmp_path / "full.car"), archive.root, read_only=False)
        for number in range(600):
            run(hamt.delete(f"k{number}"))
        assert root_of(hamt) == empty
        archive.clear()
        archive.publish()
        assert archive.root == empty


@pytest.mark.parametrize("size", [CHUNK_BYTES, CHUNK_BYTES + 1, 3_000_000])
def test_large_values(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    blocks = Blocks()
    hamt = opened(blocks, None, read_only=False)
    run(hamt.set("large", data))
    root = root_of(hamt)
    with mstfs.open(blocks.write(tmp_path / "theirs.car", root), read_only=True, values="raw") as archive:
        assert archive["large"] == data
        assert archive.read("large", size - 5) == data[-5:]
    with mstfs.create(tmp_path / "x.car", values="raw") as archive:
        archive["large"] = data
        archive.publish()
        # The file is the one that Kubo makes, down to its blocks.
        assert archive.root == root
        archive.export(tmp_path / "ours.car")
    assert everything(opened(Blocks.of(tmp_path / "ours.car"), root)) == {"large": data}


# --- Zarr --------------------------------------------------------------------------------------------


def dataset(times: int = 23) -> xr.Dataset:
    rng = np.random.default_rng(times)
    return xr.Dataset(
        {
            "temp": (("time", "lat", "lon"), rng.random((times, 7, 5)), {"units": "K"}),
            "rain": (("time", "lat"), rng.integers(0, 9, (times, 7))),
            "name": ((), 42),
        },
        coords={"time": np.arange(times), "lat": np.arange(7) / 2, "lon": np.arange(5.0)},
        attrs={"title": "weather"},
    )


ENCODING = {"temp": {"chunks": (2, 3, 5)}, "rain": {"chunks": (1, 7)}, "time": {"chunks": (4,)}}


def write(store: Any, data: xr.Dataset, **options: Any) -> None:
    options = {"mode": "w", "encoding": ENCODING, "consolidated": False, **options}
    data.to_zarr(store, zarr_format=3, **options)


def read(store: Any, **options: Any) -> xr.Dataset:
    data: xr.Dataset = xr.open_zarr(store, consolidated=False, **options).load()
    return data


def test_a_zarr_store_of_mstfs(tmp_path: Path) -> None:
    with HamtStore(tmp_path / "x.car", mode="a") as store:
        write(store, dataset())
        root = store.publish()
        store.archive.export(tmp_path / "export.car")
    hamt = opened(Blocks.of(tmp_path / "export.car"), root)
    xr.testing.assert_identical(read(py_hamt.ZarrHAMTStore(hamt, read_only=True)), dataset())


def test_a_zarr_store_of_py_hamt(tmp_path: Path) -> None:
    blocks = Blocks()
    hamt = opened(blocks, None, read_only=False)
    write(py_hamt.ZarrHAMTStore(hamt, read_only=False), dataset())
    root = root_of(hamt)
    path = blocks.write(tmp_path / "theirs.car", root)
    with HamtStore(path) as store:
        xr.testing.assert_identical(read(store), dataset())
    # Written on with mstfs, and on with py-hamt again: what the one does is what the other would have done.
    more = dataset(30).isel(time=slice(23, None))
    with HamtStore(path, mode="r+") as store:
        more.to_zarr(store, append_dim="time", consolidated=False)
        second = store.publish()
        store.archive.export(tmp_path / "more.car")
    run(hamt.enable_write())
    more.to_zarr(py_hamt.ZarrHAMTStore(hamt, read_only=False), append_dim="time", consolidated=False)
    assert root_of(hamt) == second
    hamt = opened(Blocks.of(tmp_path / "more.car"), second)
    both = xr.concat([dataset(), more], dim="time", data_vars="minimal")
    xr.testing.assert_identical(read(py_hamt.ZarrHAMTStore(hamt, read_only=True)), both)


def test_encrypted_stores(tmp_path: Path) -> None:
    key, header = random.Random(1).randbytes(32), b"weather"
    with HamtStore(tmp_path / "x.car", mode="a", key=key, key_header=header) as store:
        write(store, dataset())
        root = store.publish()
        store.archive.export(tmp_path / "export.car")
    hamt = opened(Blocks.of(tmp_path / "export.car"), root)
    theirs = py_hamt.SimpleEncryptedZarrHAMTStore(hamt, True, key, header)
    xr.testing.assert_identical(read(theirs), dataset())
    blocks = Blocks()
    hamt = opened(blocks, None, read_only=False)
    write(py_hamt.SimpleEncryptedZarrHAMTStore(hamt, False, key, header), dataset())
    path = blocks.write(tmp_path / "theirs.car", root_of(hamt))
    with HamtStore(path, key=key, key_header=header) as store:
        xr.testing.assert_identical(read(store), dataset())


# --- sharded Zarr ------------------------------------------------------------------------------------


async def their_keys(blocks: Blocks, root: str) -> dict[str, bytes]:
    """Keys and values of a sharded store as py-hamt reads them."""
    from zarr.core.buffer import default_buffer_prototype

    store = await py_hamt.ShardedZarrStore.open(blocks, True, root)
    prototype = default_buffer_prototype()
    found = {}
    async for key in store.list():
        value = await store.get(key, prototype)
        assert value is not None
        found[key] = value.to_bytes()
    return found


def compare(blocks: Blocks, root: str) -> None:
    """mstfs has the keys and values that py-hamt has, and finds nothing wrong."""
    top = cids.parse(root)
    tree = ShardedTree(blocks.blocks, UnixfsTree(blocks.blocks))
    values = BlobValues(tree, ValueOptions())
    found = {key.decode(): values.load(key, cid) for key, cid in tree.walk(top)}
    assert found == run(their_keys(blocks, root))
    assert all(tree.get(top, key.encode()) is not None for key in found)
    assert list(verify_tree(blocks.blocks, top, UnixfsTree(blocks.blocks))) == []


def read_car(path: Path, **options: Any) -> xr.Dataset:
    with HamtStore(path) as store:
        assert store.archive.kind.name == "sharded-zarr"
        return read(store, **options)


@pytest.mark.parametrize("per_shard", [1, 7, 1000])
def test_a_sharded_store_that_was_converted(tmp_path: Path, per_shard: int) -> None:
    # py-hamt's converter knows no arrays without dimensions.
    data = dataset().drop_vars("name")
    with HamtStore(tmp_path / "x.car", mode="a") as store:
        write(store, data)
        root = store.publish()
        store.archive.export(tmp_path / "export.car")
    blocks = Blocks.of(tmp_path / "export.car")
    sharded = run(py_hamt.convert_hamt_to_sharded(blocks, CID.decode(root), per_shard))
    compare(blocks, sharded)
    xr.testing.assert_identical(read_car(blocks.write(tmp_path / "sharded.car", sharded)), data)


async def sharded_store(blocks: Blocks, root: str | None = None, **options: Any) -> Any:
    return await py_hamt.ShardedZarrStore.open(blocks, False, root, **options)


def test_a_sharded_store_in_a_group(tmp_path: Path) -> None:
    blocks = Blocks()
    store = run(sharded_store(blocks, chunks_per_shard=5, manifest_version="sharded_zarr_v2"))
    write(store, dataset(), group="0")
    write(store, dataset(9), group="deep/1", mode="a")
    first = run(store.flush())
    compare(blocks, first)
    # Grown along the first dimension, cut, and grown again.
    dataset(30).isel(time=slice(23, None)).to_zarr(store, append_dim="time", consolidated=False, group="0")
    second = run(store.flush())
    compare(blocks, second)
    tree = ShardedTree(blocks.blocks)
    roots = cids.parse(first), cids.parse(second)
    before, after = (dict(tree.walk(root)) for root in roots)
    changes = {change.key: (change.old, change.new) for change in tree.diff(*roots).changes}
    assert changes == {
        key: (before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)
    }
    path = blocks.write(tmp_path / "sharded.car", second)
    xr.testing.assert_identical(read_car(path, group="deep/1"), dataset(9))
    assert read_car(path, group="0").sizes["time"] == 30


def test_a_sharded_store_with_shards_that_are_files(tmp_path: Path) -> None:
    """Shards and a manifest over Kubo's chunk size."""
    blocks = Blocks(chunk_bytes=500)
    store = run(sharded_store(blocks, chunks_per_shard=100, manifest_version="sharded_zarr_v2"))
    data = xr.Dataset({"v": (("x",), np.arange(250))})
    write(store, data, group="g", encoding={"v": {"chunks": (1,)}})
    root = run(store.flush())
    assert cids.codec_of(cids.parse(root)) == cids.DAG_PB
    tree = ShardedTree(blocks.blocks, UnixfsTree(blocks.blocks))
    shards = tree.store(cids.parse(root)).manifest.shards()
    assert [cids.codec_of(shard) for shard in shards] == [cids.DAG_PB] * 3
    compare(blocks, root)
    # Nothing shows that this file is a manifest.
    path = blocks.write(tmp_path / "x.car", root)
    with HamtStore(path, tree="sharded-zarr") as store:
        xr.testing.assert_identical(read(store, group="g"), data)
        store.archive.export(tmp_path / "export.car")
    with HamtStore(tmp_path / "export.car", tree="sharded-zarr") as store:
        xr.testing.assert_identical(read(store, group="g"), data)


@pytest.mark.filterwarnings("ignore:sharded_zarr_v1 is deprecated", "ignore:Object at c is not recognized")
@pytest.mark.parametrize("recorded", [True, False])
def test_a_sharded_store_of_version_1(tmp_path: Path, recorded: bool) -> None:
    import dag_cbor

    blocks = Blocks()
    store = run(sharded_store(blocks, array_shape=(23, 7, 5), chunk_shape=(2, 3, 5), chunks_per_shard=6))
    write(store, dataset())
    root = run(store.flush())
    if not recorded:
        # As older releases wrote it: whose chunks they are follows from the shapes.
        manifest: Any = dag_cbor.decode(blocks.blocks.get(cids.parse(root)))
        assert manifest["chunks"].pop("primary_array_path") == "temp"
        root = str(run(blocks.save(dag_cbor.encode(manifest), "dag-cbor")))
    compare(blocks, root)
    xr.testing.assert_identical(read_car(blocks.write(tmp_path / "x.car", root)), dataset())


def test_the_archive_reads_ids_as_py_hamt_would(tmp_path: Path) -> None:
    """Every block of an export is reachable, and the mapping over it is the same."""
    with mstfs.create(tmp_path / "x.car", values="raw") as archive:
        for number in range(50):
            archive[f"k/{number}"] = b"%d" % number
        archive.publish()
        archive.export(tmp_path / "export.car")
        ids = set(archive.ids())
    with Archive.open(tmp_path / "export.car") as archive:
        blocks = Blocks.of(tmp_path / "export.car")
        assert {cids.to_text(cid) for cid in blocks.blocks.cids()} == ids == set(archive.ids())
        assert everything(opened(blocks, archive.root)) == dict(archive)
