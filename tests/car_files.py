"""CAR files made byte by byte, for tests: sound ones, and ones that no writer would make."""

import os
from collections.abc import Iterable
from pathlib import Path

from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, varint
from mstfs.codec.cid import Link

Block = tuple[bytes, bytes]


def block(text: str, codec: int = cids.RAW, hash_code: int = cids.SHA2_256) -> Block:
    """A block with this text, and its CID."""
    data = text.encode()
    return cids.for_block(data, codec, hash_code), data


def header(roots: Iterable[bytes] = ()) -> bytes:
    """A CARv1 header with its length."""
    body = dag_cbor.encode({"roots": [Link(root) for root in roots], "version": 1})
    return varint.encode(len(body)) + body


def section(cid: bytes, data: bytes) -> bytes:
    """One section."""
    return varint.encode(len(cid) + len(data)) + cid + data


def car_v1(blocks: Iterable[Block], roots: Iterable[bytes] = ()) -> bytes:
    """A CARv1."""
    return header(roots) + b"".join(section(cid, data) for cid, data in blocks)


def car_v2(payload: bytes, index: bytes = b"", gap: int = 0) -> bytes:
    """A CARv2 around a payload, with `gap` bytes of padding before payload and index."""
    start = 51 + gap
    offsets = (start, len(payload), start + len(payload) + gap if index else 0)
    fields = b"".join(number.to_bytes(8, "little") for number in offsets)
    pragma = bytes.fromhex("0aa16776657273696f6e02") + bytes(16)
    return pragma + fields + bytes(gap) + payload + (bytes(gap) + index if index else b"")


def offsets_of(blocks: Iterable[Block], roots: Iterable[bytes] = ()) -> list[tuple[bytes, int]]:
    """Each block's CID and the offset of its section in `car_v1(blocks, roots)`."""
    offset = len(header(roots))
    found = []
    for cid, data in blocks:
        found.append((cid, offset))
        offset += len(section(cid, data))
    return found


def index_sorted(entries: Iterable[tuple[bytes, int]]) -> bytes:
    """An IndexSorted (0x0400) of sha2-256 CIDs and section offsets."""
    return varint.encode(0x0400) + _body(entries)


def multihash_index_sorted(entries: Iterable[tuple[bytes, int]]) -> bytes:
    """A MultihashIndexSorted (0x0401) of sha2-256 CIDs and section offsets."""
    return varint.encode(0x0401) + _number(1, 4) + _number(0x12, 8) + _body(entries)


def _body(entries: Iterable[tuple[bytes, int]]) -> bytes:
    rows = sorted(cids.hash_of(cid)[1] + _number(offset, 8) for cid, offset in entries)
    assert all(len(row) == 40 for row in rows)
    return _number(1, 4) + _number(40, 4) + _number(40 * len(rows), 8) + b"".join(rows)


def _number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Change bytes of a file in place; its times stay as they were."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def write(folder: Path, data: bytes, name: str = "a.car") -> Path:
    """A file with these bytes, always of the same time: an index of the same bytes still belongs to it."""
    path = folder / name
    path.unlink(missing_ok=True)  # some file systems wait for the disk when a file is cut and written again
    path.write_bytes(data)
    os.utime(path, ns=(10**18, 10**18))
    return path


def opened(folder: Path, data: bytes, use_sidecar: bool = False) -> CarFile:
    """A CAR with these bytes, open."""
    return CarFile.open(write(folder, data), use_sidecar=use_sidecar)


def holds(car: CarFile, blocks: Iterable[Block]) -> bool:
    """Whether all of these blocks can be read."""
    return all(car.has(cid) and car.get(cid) == data for cid, data in blocks)


BLOCKS = [
    block("one"),
    block("two", cids.DAG_CBOR),
    block("three", cids.RAW, cids.BLAKE3),
    block("four", cids.DAG_CBOR, cids.BLAKE2B_256),
    block("five", cids.RAW, cids.SHA2_512),
    block("in the CID", cids.RAW, cids.IDENTITY),
    block("six " * 100),
    block("seven " * 5000),
    block(""),
]
BLOCKS.append((cids.multihash_of(block("eight")[0]), b"eight"))
ABSENT = block("absent")[0]
