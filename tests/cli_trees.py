"""Small archives of every kind of tree but a repository's, and what is in them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from naive_hamt import blake3_of, filecoin, hash_map, link, py_hamt_2, py_hamt_3
from naive_sharded import Array, Chunks, Writer

from mstfs.blocks.car_writer import write_car
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, dag_json, dag_pb
from mstfs.codec.dag_pb import KIND_DIRECTORY, KIND_FILE, KIND_SYMLINK, PBLink, PBNode, UnixfsData

Blocks = dict[bytes, bytes]

LONG = b"0123456789abcdef" * 70_000
"""More than what is held at a time."""

RECORD = {"name": "Zoë", "list": [1, 2.5, None], "bytes": b"\x00\x01"}
VALUES: dict[bytes, Any] = {
    b"zarr.json": b'{"zarr_format": 3}',
    b"temp/zarr.json": b'{"shape": [4]}',
    b"temp/c/0": bytes(range(200)),
    b"temp/c/1": LONG,
    b"empty": b"",
    **{b"many/%03d" % number: b"value %d" % number for number in range(40)},
}
OTHERS = {**VALUES, b"zarr.json": b"{}", b"new/here": b"new"}
"""What `VALUES` become: one is added, one is another, one is gone."""
del OTHERS[b"temp/c/0"]


class Made(NamedTuple):
    """A tree: its root, its blocks, and the files that a mount shows, by path."""

    root: bytes
    blocks: Blocks
    files: dict[bytes, bytes]


def _records(values: dict[bytes, Any]) -> dict[bytes, Any]:
    return {**values, b"record": RECORD, b"temp/record": [1, "two"]}


def _files(values: dict[bytes, Any]) -> dict[bytes, bytes]:
    return {
        key: value if isinstance(value, bytes) else dag_json.render(dag_cbor.encode(value))
        for key, value in values.items()
    }


def raw_cid(data: bytes, blocks: Blocks) -> bytes:
    """Keep a raw block, as py-hamt names it."""
    cid = b"\x01\x55\x1e\x20" + blake3_of(data)
    blocks[cid] = data
    return cid


def hamt3_raw(values: dict[bytes, Any]) -> Made:
    blocks: Blocks = {}
    root, nodes = py_hamt_3({key: raw_cid(value, blocks) for key, value in values.items()})
    return Made(root, nodes | blocks, _files(values))


def hamt3_cbor(values: dict[bytes, Any]) -> Made:
    blocks: Blocks = {}
    values = _records(values)
    root, nodes = py_hamt_3({key: raw_cid(dag_cbor.encode(item), blocks) for key, item in values.items()})
    return Made(root, nodes | blocks, _files(values))


def hamt2(values: dict[bytes, Any]) -> Made:
    blocks: Blocks = {}
    values = _records(values)
    root, nodes = py_hamt_2({key: raw_cid(dag_cbor.encode(item), blocks) for key, item in values.items()})
    return Made(root, nodes | blocks, _files(values))


def _entries(values: dict[bytes, Any], blocks: Blocks) -> dict[bytes, Any]:
    # Half of the values are linked, the others stand in nodes.
    entries: dict[bytes, Any] = {}
    for key, value in values.items():
        entries[key] = link(raw_cid(value, blocks)) if isinstance(value, bytes) and key[-1] % 2 else value
    return entries


def hashmap(values: dict[bytes, Any]) -> Made:
    blocks: Blocks = {}
    values = _records(values)
    root, nodes = hash_map(_entries(values, blocks))
    return Made(root, nodes | blocks, _files(values))


def of_filecoin(values: dict[bytes, Any]) -> Made:
    blocks: Blocks = {}
    values = _records(values)
    root, nodes = filecoin(_entries(values, blocks))
    return Made(root, nodes | blocks, _files(values))


def unixfs(values: dict[bytes, Any]) -> Made:
    tree = UnixfsBlocks()
    files = {**values, b"temp/link": b"c/1"}
    names: dict[bytes, Any] = {}
    for path, data in files.items():
        at = names
        *folders, name = path.split(b"/")
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = tree.symlink(data) if name == b"link" else tree.file(data)
    return Made(tree.folder(names), tree.blocks, files)


class UnixfsBlocks:
    """Makes files and directories, and remembers of each how many bytes all its blocks have."""

    def __init__(self) -> None:
        self.blocks: Blocks = {}
        self.sizes: dict[bytes, int] = {}

    def node(self, message: UnixfsData, links: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
        """A DAG-PB block; links are names and CIDs."""
        rows = [PBLink(cid, name, self.sizes[cid]) for name, cid in links]
        block = dag_pb.encode(PBNode(tuple(rows), dag_pb.encode_data(message)))
        return self.keep(block, cids.DAG_PB, sum(self.sizes[row.cid] for row in rows))

    def keep(self, block: bytes, codec: int, below: int = 0) -> bytes:
        """Any block."""
        cid = cids.for_block(block, codec)
        self.blocks[cid] = block
        self.sizes[cid] = len(block) + below
        return cid

    def file(self, data: bytes, chunk: int = 300_000) -> bytes:
        """A raw block, or a file of several."""
        if len(data) <= chunk:
            return self.keep(data, cids.RAW)
        parts = [data[at : at + chunk] for at in range(0, len(data), chunk)]
        message = UnixfsData(KIND_FILE, None, len(data), tuple(map(len, parts)))
        return self.node(message, [(b"", self.keep(part, cids.RAW)) for part in parts])

    def symlink(self, target: bytes) -> bytes:
        """A symbolic link."""
        return self.node(UnixfsData(KIND_SYMLINK, target))

    def folder(self, names: dict[bytes, Any]) -> bytes:
        """A directory of CIDs and of dicts, which are directories again."""
        rows = [
            (name, item if isinstance(item, bytes) else self.folder(item)) for name, item in names.items()
        ]
        return self.node(UnixfsData(KIND_DIRECTORY), sorted(rows))


def sharded(values: dict[bytes, Any]) -> Made:
    writer = Writer()
    values = {key: value for key, value in values.items() if not key.startswith(b"temp")}
    more = {key.decode(): writer.put(value) for key, value in values.items()}
    chunks: Chunks = {(number,): writer.put(b"chunk %d" % number) for number in range(0, 20, 3)}
    root = writer.v2({"t": Array((20,), (1,), chunks)}, more)
    files = dict(values)
    files |= {b"t/c/%d" % number: b"chunk %d" % number for number in range(0, 20, 3)}
    files[b"t/zarr.json"] = Array((20,), (1,)).document()
    return Made(root, {cid: writer.blocks.get(cid) for cid in writer.blocks.cids()}, files)


TREES: dict[str, Callable[[dict[bytes, Any]], Made]] = {
    "hamt3 raw": hamt3_raw,
    "hamt3 cbor": hamt3_cbor,
    "hamt2": hamt2,
    "hashmap": hashmap,
    "filecoin": of_filecoin,
    "unixfs": unixfs,
    "sharded-zarr": sharded,
}
FILECOIN = ("--tree", "filecoin,width=5,bucket=3,hash=sha2-256")


def reading(name: str) -> tuple[str, ...]:
    """What has to be said about a tree of this kind."""
    return FILECOIN if name == "filecoin" else ()


def kind_name(name: str) -> str:
    """The kind of tree."""
    return name.split()[0]


def write(path: Path, made: Iterable[Made]) -> Path:
    """Write a CAR with these trees."""
    trees = list(made)
    blocks = {cid: data for tree in trees for cid, data in tree.blocks.items()}
    with path.open("wb") as file:
        write_car(file, [tree.root for tree in trees], blocks.items())
    return path


def car(folder: Path, name: str) -> tuple[Path, Made]:
    """A CAR with one tree of this kind."""
    made = TREES[name](VALUES)
    return write(folder / "tree.car", [made]), made


def two_roots(folder: Path, name: str) -> tuple[Path, Made, Made]:
    """A CAR with two trees of this kind, of which the first became the second."""
    before, after = TREES[name](VALUES), TREES[name](OTHERS)
    return write(folder / "two.car", [after, before]), before, after
