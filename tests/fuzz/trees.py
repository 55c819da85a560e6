"""Targets: the nodes of trees. The block under test gets its right CID, so that no hash saves the reader."""

import json
from typing import Any

import dag_cbor as reference
from crooked import Repo
from naive_hamt import filecoin as naive_filecoin
from naive_hamt import hash_map, link, py_hamt_2, py_hamt_3, value

from fuzz.codecs import pb_blocks
from fuzz.target import attempt, target
from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.errors import MstfsError
from mstfs.tree import kinds
from mstfs.tree.hamt import sniff
from mstfs.tree.hamt import verify as hamt_verify
from mstfs.tree.hamt.filecoin import Filecoin
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.interface import Tree
from mstfs.tree.mst import node as mst_node
from mstfs.tree.mst import verify as mst_verify
from mstfs.tree.mst.tree import MstTree
from mstfs.tree.sharded import document, manifest, shard
from mstfs.tree.sharded import verify as sharded_verify
from mstfs.tree.sharded.tree import ShardedTree
from mstfs.tree.unixfs import node as unixfs_node
from mstfs.tree.unixfs import verify as unixfs_verify
from mstfs.tree.unixfs.tree import UnixfsTree


def held(data: bytes, codec: int, hash_code: int = cids.SHA2_256) -> tuple[bytes, MemoryBlocks]:
    """A store of this one block, and its CID."""
    blocks = MemoryBlocks()
    cid = cids.for_block(data, codec, hash_code)
    blocks.put(cid, data)
    return cid, blocks


def _tell(_: MstfsError) -> None:
    """Takes note of a hole, as a listing does."""


def walked(tree: Tree, root: bytes) -> None:
    """Everything that reads a tree, with what must hold between the answers."""
    listed = attempt(tree.page, root, b"", None, 50)
    attempt(lambda: list(tree.walk(root, b"k")))
    attempt(lambda: list(tree.nodes(root)))
    attempt(tree.seek, root, b"k")
    for key, cid in listed or ():
        # A hole on the way to a key is no answer; any answer must be the one that was listed.
        found = attempt(tree.get, root, key)
        assert found in (None, cid)


def mst_nodes() -> list[bytes]:
    """Nodes of a sound repository: the topmost one, one in the middle, one of the lowest, the empty one."""
    sections = Repo().build()[1]
    nodes = sorted((section.data for section in sections if section.data[:3] == b"\xa2\x61e"), key=len)
    return [nodes[0], nodes[len(nodes) // 2], nodes[-1], mst_node.EMPTY_BLOCK]


@target(mst_nodes)
def mst(data: bytes) -> None:
    """A node that is read is written the same; one that is refused is a defect of the tree."""
    cid, blocks = held(data, cids.DAG_CBOR)
    node = attempt(mst_node.decode, cid, data)
    loose = attempt(mst_node.decode, cid, data, False)
    defects = list(mst_verify.verify_tree(blocks, cid))
    if node is None:
        assert defects
        return
    assert loose == node
    assert mst_node.encode(node) == data
    assert list(node.keys) == sorted(set(node.keys))
    walked(MstTree(blocks), cid)


# --- HAMTs --------------------------------------------------------------------------------------

ENTRIES = {b"key %d" % number: value(number) for number in range(7)}
MANY = {b"key %d" % number: value(number) for number in range(400)}


def _blocks(*found: tuple[bytes, dict[bytes, bytes]]) -> list[bytes]:
    return [nodes[cid] for cid, nodes in found for cid in [cid, *list(nodes)[:1]]]


def hamt(layout: Layout, data: bytes, level: int = 0) -> None:
    """A node of any layout: read and written with the same content, and by every way of reading alike."""
    cid, blocks = held(data, cids.DAG_CBOR, layout.node_hash)
    node = attempt(layout.decode, cid, data, level)
    if node is not None:
        assert sum(node.sizes) == len(node.entries)
        assert not set(node.slots) & set(node.links)
        assert len(set(node.slots)) == len(node.slots)
        if layout.writable:
            again = layout.encode(node.buckets(), node.links, node.inline, level)
            other = layout.decode(cid, again, level)
            assert other.buckets() == node.buckets()
            assert (other.links, other.inline) == (node.links, node.inline)
    if level == 0:
        defects = attempt(lambda: list(hamt_verify.verify_tree(blocks, cid, layout)))
        assert node is not None or defects or defects is None
        walked(HamtTree(blocks, layout), cid)


def careful(layout: Any, data: bytes) -> None:
    """The fast readers of a layout and the careful one accept the same blocks, and read them alike."""
    cid = cids.for_block(data)
    fast = attempt(layout.decode, cid, data, 0)
    slow = attempt(lambda: layout._decode_careful(cid, dag_cbor.decode(data)))
    assert fast == slow


def _sniffed(data: bytes) -> Layout | None:
    found = sniff.sniff(data)
    kind = kinds.sniff(cids.for_block(data), data)
    assert found is None or kind is None or kind.layout == found
    return found


@target(lambda: _blocks(py_hamt_3(ENTRIES), py_hamt_3(MANY)), weight=3)
def hamt3(data: bytes) -> None:
    """py-hamt 3."""
    _sniffed(data)
    careful(PyHamt3(), data)
    for layout in (PyHamt3(), PyHamt3(bare=True)):
        hamt(layout, data)


@target(lambda: _blocks(py_hamt_2(ENTRIES), py_hamt_2(MANY), py_hamt_2(ENTRIES, bare=True)), weight=3)
def hamt2(data: bytes) -> None:
    """py-hamt 2."""
    _sniffed(data)
    careful(PyHamt2(), data)
    for layout in (PyHamt2(), PyHamt2(bare=True)):
        hamt(layout, data)


def hash_maps() -> list[bytes]:
    """Roots and other nodes of IPLD HashMaps, with links and with values inside."""
    inline = {b"k%d" % number: [number, {"x": b"y"}] for number in range(9)}
    linked = {key: link(cid) for key, cid in MANY.items()}
    few = dict(list(linked.items())[:9])
    return _blocks(hash_map(few), hash_map(linked), hash_map(inline, width=8), hash_map(few, old=True))


@target(hash_maps, weight=3)
def hashmap(data: bytes) -> None:
    """IPLD HashMap, and the one of py-hamt 1."""
    found = _sniffed(data)
    if isinstance(found, HashMap):
        hamt(found, data)
    hamt(HashMap(width=8, bucket_size=3, key_hash=cids.SHA2_256, declared=cids.SHA2_256), data, level=1)


def filecoin_blocks() -> list[bytes]:
    """Nodes of both forms of Filecoin's HAMT."""
    odd = [reference.encode([b"", []]), reference.encode([b"\x03", [{"1": [[b"a", 1]]}, {"1": [[b"b", 2]]}]])]
    small = {b"k%d" % number: number for number in range(9)}
    return [*_blocks(naive_filecoin(small), naive_filecoin(small, width=8, old=True)), *odd]


@target(filecoin_blocks, weight=3)
def filecoin(data: bytes) -> None:
    """Filecoin's HAMT in both forms."""
    _sniffed(data)
    for layout in (Filecoin(width=5, bucket_size=3), Filecoin(width=8, bucket_size=3, old=True)):
        hamt(layout, data)


# --- UnixFS and sharded Zarr ----------------------------------------------------------------------


@target(pb_blocks, weight=2)
def unixfs(data: bytes) -> None:
    """A node of UnixFS: a file, a directory, a shard or a symbolic link."""
    cid, blocks = held(data, cids.DAG_PB)
    node = attempt(unixfs_node.decode, cid, data)
    defects = attempt(lambda: list(unixfs_verify.verify_tree(blocks, cid)))
    assert node is not None or defects
    tree = UnixfsTree(blocks)
    attempt(tree.attributes, cid)
    attempt(tree.read, cid, 0, 100)
    attempt(tree.read, cid, 1 << 62, 1 << 40)
    attempt(tree.listing, cid, _tell)
    attempt(tree.target, cid)
    attempt(tree.lookup, cid, b"one")
    walked(tree, cid)


def manifests() -> list[bytes]:
    """A manifest of each version."""
    link = cids.Link(value(1))
    row = {
        "array_shape": [10, 3],
        "chunk_shape": [4, 3],
        "sharding_config": {"chunks_per_shard": 2, "order": "C"},
        "shard_cids": [link, None],
    }
    old = {
        "manifest_version": "sharded_zarr_v1",
        "metadata": {},
        "chunks": {**row, "primary_array_path": "a"},
    }
    new = {"manifest_version": "sharded_zarr_v2", "metadata": {"zarr.json": link}, "arrays": {"a/b": row}}
    return [dag_cbor.encode(old), dag_cbor.encode(new), manifest.encode_empty()]


@target(manifests, weight=2)
def zarr_manifest(data: bytes) -> None:
    """A manifest of a sharded Zarr store."""
    cid, blocks = held(data, cids.DAG_CBOR)
    found = attempt(manifest.decode, cid, data)
    defects = attempt(lambda: list(sharded_verify.verify_tree(blocks, cid)))
    assert found is not None or defects
    walked(ShardedTree(blocks, UnixfsTree(blocks)), cid)


@target(lambda: [shard.encode([value(1), None, value(2)]), shard.encode([None] * 300), shard.encode([])])
def zarr_shard(data: bytes) -> None:
    """A shard of a sharded Zarr store: read and written the same."""
    found = attempt(shard.decode, cids.for_block(data), data)
    if found is not None:
        assert len(found.places) <= found.length
        assert dag_cbor.encode(dag_cbor.decode(data)) == data


def documents() -> list[bytes]:
    """The document of an array of Zarr version 3, and of one of version 2."""
    grid = {"name": "regular", "configuration": {"chunk_shape": [2]}}
    new: dict[str, Any] = {"zarr_format": 3, "node_type": "array", "shape": [9], "chunk_grid": grid}
    new["chunk_key_encoding"] = {"name": "default", "configuration": {"separator": "."}}
    old = {"zarr_format": 2, "shape": [9, 9], "chunks": [2, 3], "dimension_separator": "/"}
    return [json.dumps(new).encode(), json.dumps(old).encode()]


@target(documents)
def zarr_document(data: bytes) -> None:
    """The metadata document of an array."""
    document.decode(data)
