"""Inputs that are cheap to make and ask for very much.

Each function builds one, reads it in every way that a stranger can cause, and returns what it was told.

`python -m bombs NAME` runs one under limits of memory and time, and prints what it took.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from car_files import car_v1, car_v2
from crooked import Link, Raw, Repo, cid_of, emit, head, varint
from memory import peak

from mstfs.blocks.car import CarFile
from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, dag_json, dag_pb
from mstfs.errors import MstfsError
from mstfs.repo import record, verify_record
from mstfs.repo.head import read_head
from mstfs.repo.verify import verify_repository
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.interface import Tree
from mstfs.tree.mst.node import MstNode, encode
from mstfs.tree.mst.tree import MstTree
from mstfs.tree.unixfs.builder import build_sharded
from mstfs.tree.unixfs.directory import Dirent
from mstfs.tree.unixfs.tree import UnixfsTree

MEGABYTES = 900
"""Address space of a bomb: libraries take some 300 of it."""
SECONDS = 30
"""Processor time of a bomb."""
HUGE = 1 << 63

Bomb = Callable[[Path], list[str]]
BOMBS: dict[str, Bomb] = {}


def bomb(run: Bomb) -> Bomb:
    """Registers a bomb."""
    BOMBS[run.__name__.replace("_", "-")] = run
    return run


def told(call: Callable[..., Any], *words: object) -> str:
    """What a call says: the class of its error and the sentence, or `ok` and the size of its answer."""
    try:
        answer = call(*words)
        if isinstance(answer, Iterator):
            return f"ok {sum(1 for _ in answer)}"
    except MstfsError as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return f"ok {len(answer)}" if isinstance(answer, bytes | list | dict | tuple) else f"ok {answer}"


def file(folder: Path, data: bytes, size: int | None = None) -> Path:
    """A file, with a hole at its end if it is to be larger."""
    path = folder / "bomb.car"
    path.write_bytes(data)
    if size is not None:
        os.truncate(path, size)
    return path


def looked_at(path: Path) -> list[str]:
    """What is said of a CAR: by the reader of blocks, by the reader of roots, by the verifier."""
    try:
        car = CarFile.open(path, use_sidecar=False)
    except MstfsError as error:
        return [f"{type(error).__name__}: {error}"]
    with car:
        root = car.roots[0]
        answers = [f"torn: {car.torn}", told(car.sections), told(car.get, root), told(read_head, car, root)]
        report = verify_repository(car)
        return [*answers, *(f"{defect.rule}: {defect.message[:200]}" for defect in report.defects[:20])]


def repository(value: Any) -> bytes:
    """The CAR of a sound repository with this record in it."""
    repo = Repo()
    repo.records = {b"com.example.note/bomb": value}
    return repo.car()


def record_ways(block: bytes) -> list[str]:
    """All that is done with the block of a record."""
    ways: list[Callable[[bytes], Any]] = [dag_cbor.decode, record.render, record.is_faithful, dag_json.render]
    ways += [record.check_value, verify_record.defects, verify_record.is_plain, dag_cbor.decode_node]
    return [told(way, block) for way in ways]


# --- lengths --------------------------------------------------------------------------------------


@bomb
def lengths_in_a_car(folder: Path) -> list[str]:
    """Section, header, roots, and the offsets of a CARv2, each of 2^63 or just below."""
    sound = repository({"$type": "com.example.note"})
    most = varint(HUGE - 1)
    roots = b"\xa2eroots\x9b\x7f" + b"\xff" * 7 + b"gversion\x01"
    wrapped = car_v2(sound)
    found = looked_at(file(folder, sound + most + cid_of(b"x")))
    found += looked_at(file(folder, most + sound))
    found += looked_at(file(folder, varint(len(roots)) + roots))
    for at in (27, 35, 43):
        for number in (HUGE, HUGE - 1, 2 * HUGE - 1):
            found += looked_at(file(folder, wrapped[:at] + number.to_bytes(8, "little") + wrapped[at + 8 :]))
    width = (8 + 32).to_bytes(4, "little")
    for count in (b"\x01\0\0\0", b"\xff\xff\xff\x7f"):
        index = b"\x80\x08" + count + width + (HUGE - 8).to_bytes(8, "little") + bytes(80)
        found += looked_at(file(folder, car_v2(sound, index)))
    return found


@bomb
def lengths_in_blocks(folder: Path) -> list[str]:
    """Lists, maps, strings, links and block sizes that claim 2^63 and less."""
    found = []
    for major in (2, 3, 4, 5):
        for claim in (HUGE, HUGE - 1, 1 << 40, 1 << 31, 1 << 27):
            block = b"\xa1\x61x" + head(major, claim, 8) + bytes(1 << 16)
            found += record_ways(block)
            found.append(told(PyHamt3().decode, cid_of(block), block, 0))
    for tag in (0x0A, 0x12, 0x18, 0x20, 0x22, 0x2A):
        message = bytes((tag,)) + varint(HUGE) + bytes(100)
        found += [told(dag_pb.decode, message), told(dag_pb.decode_data, message)]
    return found


# --- nesting ----------------------------------------------------------------------------------------


@bomb
def a_million_nested_lists(folder: Path) -> list[str]:
    """In a record, a commit, the root of a tree, the header of a CAR, and in both kinds of text."""
    nested = b"\x81" * 10**6 + b"\x80"
    found = record_ways(b"\xa2\x61x" + nested + b"e$typeax")
    found += looked_at(file(folder, repository(Raw(b"\xa1\x61x" + nested))))
    found += looked_at(file(folder, car_v1([(cid_of(nested), nested)], [cid_of(nested)])))
    found += looked_at(file(folder, varint(len(nested)) + nested))
    for text in (b"[" * 10**6, b'{"a":' * 10**5, b"[" * 10**6 + b"]" * 10**6, b'{"x":' + b"[" * 10**6):
        found += [told(record.parse, text), told(dag_json.parse, text)]
    return found


# --- many of something ------------------------------------------------------------------------------


@bomb
def records_of_small_things(folder: Path) -> list[str]:
    """Two MiB of nothing but lists, maps, byte strings, links, numbers: what costs most for each byte."""
    found = []
    link = b"\xd8\x2a\x45\0\1\x55\0\0"
    for item in (b"\x80", b"\xa1\x61a\0", b"\x40", link):
        count = ((2 << 20) - 50) // len(item)
        block = b"\xa2\x61x" + head(4, count) + item * count + b"e$typeax"
        found += record_ways(block)
    return found


@bomb
def a_long_key_above_many_lists(folder: Path) -> list[str]:
    """A path to each of a hundred thousand items would have a megabyte."""
    value = {"$type": "a.b.c", "x" * (1 << 20): [[1.5]] * 100_000}
    return record_ways(emit(value)) + looked_at(file(folder, repository(value)))


@bomb
def a_node_with_a_million_entries(folder: Path) -> list[str]:
    """As an MST far over the size of a node, and half of it; as a HashMap with values inside."""
    found = []
    value = cid_of(b"value")
    keys = tuple([b"%07d" % n for n in range(50_000)])
    block = encode(MstNode(keys, (value,) * len(keys), (None,) * (len(keys) + 1)))
    found += tree_ways(MstTree(held(block)), cid_of(block))
    entry = emit({"k": b"0000000", "p": 0, "t": None, "v": Link(value)})
    block = b"\xa2\x61e" + head(4, 10**6) + entry * 10**6 + b"\x61l\xf6"
    found += tree_ways(MstTree(held(block)), cid_of(block))
    many = b"".join(b"\x82\x43" + n.to_bytes(3, "big") + b"\0" for n in range(10**6))
    node = [b"\1" + bytes(31), Raw(b"\x81" + head(4, 10**6) + many)]
    block = emit({"hashAlg": 18, "bucketSize": 1 << 20, "hamt": node})
    layout = HashMap(width=8, bucket_size=1 << 20, key_hash=18, declared=18)
    return found + tree_ways(HamtTree(held(block), layout), cid_of(block))


@bomb
def a_directory_with_many_names(folder: Path) -> list[str]:
    """In one block a million names are refused; over shards many are listed."""
    short = cids.for_block(b"", cids.RAW, cids.IDENTITY)
    block = dag_pb.encode(
        dag_pb.PBNode(
            tuple([dag_pb.PBLink(short, b"%x" % n, None) for n in range(10**6)]),
            dag_pb.encode_data(dag_pb.UnixfsData(dag_pb.KIND_DIRECTORY)),
        )
    )
    found = tree_ways(UnixfsTree(held(block, cids.DAG_PB)), cids.for_block(block, cids.DAG_PB))
    return found + sharded(30_000)


@bomb
def a_million_names(folder: Path) -> list[str]:
    """A directory of many shards."""
    return sharded(10**6)


def sharded(count: int) -> list[str]:
    """What is said of a sharded directory with so many names."""
    blocks = MemoryBlocks()
    leaf = cids.for_block(b"leaf", cids.RAW)
    blocks.put(leaf, b"leaf")
    root = b""
    for root, block in build_sharded([Dirent(b"%x" % n, leaf, 4) for n in range(count)]):
        blocks.put(root, block)
    tree = UnixfsTree(blocks)
    ways: list[Callable[[], Any]] = [lambda: tree.listing(root).names, lambda: tree.get(root, b"ff")]
    return [told(way) for way in [*ways, lambda: tree.page(root, b"", None, 10)]]


# --- files ------------------------------------------------------------------------------------------


@bomb
def a_record_of_a_gigabyte(folder: Path) -> list[str]:
    """Declared and not there, declared and a hole, and of the greatest size that a block may have."""
    cid = cid_of(b"a record")
    sound = repository({"$type": "com.example.note"})
    found = looked_at(file(folder, sound + varint(1 << 30) + cid))
    found += looked_at(file(folder, sound + varint(1 << 30) + cid, size=(1 << 30) + len(sound) + 5))
    found += looked_at(file(folder, sound + varint(36 + (64 << 20)) + cid, size=len(sound) + 40 + (64 << 20)))
    root = car_v1([], [cid])
    found += looked_at(file(folder, root + varint(36 + (64 << 20)) + cid, size=len(root) + 40 + (64 << 20)))
    big = b"\x9a\1\0\0\0" + b"\x62ab" * (1 << 24)
    return found + looked_at(file(folder, car_v1([(cid_of(big), big)], [cid_of(big)])))


@bomb
def a_file_of_one_leaf_many_times(folder: Path) -> list[str]:
    """Six nodes of a hundred links each to the next one spell 10^12 leaves."""
    blocks = MemoryBlocks()
    leaf = b"x" * 1024
    cid, size = cids.for_block(leaf, cids.RAW), len(leaf)
    blocks.put(cid, leaf)
    for _ in range(6):
        message = dag_pb.UnixfsData(dag_pb.KIND_FILE, None, 100 * size, (size,) * 100)
        links = (dag_pb.PBLink(cid, b"", size),) * 100
        block = dag_pb.encode(dag_pb.PBNode(links, dag_pb.encode_data(message)))
        cid, size = cids.for_block(block, cids.DAG_PB), 100 * size
        blocks.put(cid, block)
    tree = UnixfsTree(blocks)
    return [
        told(tree.size, cid),
        told(tree.read, cid, size // 2, 100_000),
        told(lambda: list(tree.nodes(cid))),
    ]


# --- trees ------------------------------------------------------------------------------------------


def held(block: bytes, codec: int = cids.DAG_CBOR) -> MemoryBlocks:
    """A store of one block."""
    blocks = MemoryBlocks()
    blocks.put(cids.for_block(block, codec), block)
    return blocks


def tree_ways(tree: Tree, root: bytes, key: bytes = b"0000007") -> list[str]:
    """All that reads a tree."""
    return [
        told(tree.get, root, key),
        told(tree.page, root, b"", None, 10),
        told(lambda: islice(tree.walk(root), 10**7)),
        told(tree.seek, root, b"1"),
        told(lambda: sum(1 for _ in tree.nodes(root))),
    ]


def _hamt(depth: int, key: bytes, all_slots: bool) -> tuple[MemoryBlocks, bytes]:
    # A key below `depth` nodes, on the way that its hash says, or on every way.
    from naive_hamt import blake3_of

    blocks = MemoryBlocks()
    digest = blake3_of(key) * 2
    value = cids.for_block(b"value", cids.RAW)
    item: Any = {key.decode(): Link(value)}
    cid = b""
    for level in reversed(range(depth)):
        slots: list[Any] = [item if all_slots or slot == digest[level] else {} for slot in range(256)]
        block = emit(slots)
        cid = cid_of(block)
        blocks.put(cid, block)
        item = [Link(cid)]
    return blocks, cid


@bomb
def a_hamt_of_depth_32(folder: Path) -> list[str]:
    """One key below 32 nodes is found; below 40 there is no hash left."""
    found = []
    for depth in (32, 40):
        blocks, root = _hamt(depth, b"key", all_slots=False)
        found += tree_ways(HamtTree(blocks, PyHamt3()), root, b"key")
    return found


@bomb
def a_hamt_that_is_the_same_everywhere(folder: Path) -> list[str]:
    """Thirty blocks that spell 256^30 entries."""
    blocks, root = _hamt(30, b"key", all_slots=True)
    return tree_ways(HamtTree(blocks, PyHamt3()), root, b"key")


@bomb
def an_mst_that_is_the_same_everywhere(folder: Path) -> list[str]:
    """A hundred nodes, each linked twice from the one above: 2^100 entries."""
    blocks = MemoryBlocks()
    value = Link(cid_of(b"value"))
    link: Any = None
    cid = b""
    for _ in range(100):
        block = emit({"e": [{"k": b"com.example.note/x", "p": 0, "t": link, "v": value}], "l": link})
        cid = cid_of(block)
        blocks.put(cid, block)
        link = Link(cid)
    return tree_ways(MstTree(blocks), cid)


def main(name: str) -> None:
    """Run one bomb under limits and print what it said, and what it took, as JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (MEGABYTES << 20, MEGABYTES << 20))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    with tempfile.TemporaryDirectory() as folder:
        answers = BOMBS[name](Path(folder))
    took = {"seconds": round(time.process_time(), 2), "megabytes": peak() >> 20}
    sys.stdout.write(json.dumps({"told": answers, **took}))


if __name__ == "__main__":
    main(sys.argv[1])
