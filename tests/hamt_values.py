"""HAMTs in memory with their values, for the tests of both."""

import io
from collections.abc import Generator
from typing import Any, Literal

from mstfs.blocks.interface import BlockReader
from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.interface import Edit
from mstfs.tree.unixfs.builder import build_file
from mstfs.values.cipher import Cipher
from mstfs.values.hamt import HamtValues
from mstfs.values.interface import Making, ReadRange, ValueOptions

KEY = bytes(range(32))
CIPHER = Cipher(KEY, b"header")
BLAKE3 = bytes((1, cids.RAW, cids.BLAKE3, 32))

Encoding = Literal["auto", "raw", "cbor"]


class Counted(BlockReader):
    """Says which blocks were asked for."""

    def __init__(self, blocks: BlockReader) -> None:
        self.blocks = blocks
        self.read: list[bytes] = []

    def get(self, cid: bytes) -> bytes:
        self.read.append(cid)
        return self.blocks.get(cid)

    def has(self, cid: bytes) -> bool:
        return self.blocks.has(cid)

    def length(self, cid: bytes) -> int:
        return self.blocks.length(cid)


def ranges(data: bytes) -> ReadRange:
    return lambda offset, length: data[offset : offset + length]


def made(making: Generator[tuple[bytes, bytes], None, Any], store: MemoryBlocks) -> Any:
    """What a making returns; its blocks go into the store."""
    while True:
        try:
            cid, block = next(making)
        except StopIteration as end:
            return end.value
        store.put(cid, block)


class Kit:
    """A store, a tree over it, and its values."""

    def __init__(self, layout: Layout, encoding: Encoding = "auto", **more: Any) -> None:
        given = {name: more.pop(name) for name in ("cipher", "plain", "hash_code") if name in more}
        self.store = MemoryBlocks()
        self.layout = layout
        self.tree = HamtTree(self.store, layout)
        self.values = HamtValues(self.tree, layout, ValueOptions(encoding=encoding, **more), **given)
        self.root, block = self.tree.empty()
        self.store.put(self.root, block)

    def blob(self, data: bytes, key: bytes = b"key") -> bytes:
        return self.made(self.values.make(key, "blob", ranges(data), len(data)))

    def record(self, text: bytes, key: bytes = b"key") -> bytes:
        return self.made(self.values.make(key, "record", ranges(text), len(text)))

    def made(self, making: Making) -> bytes:
        cid: bytes = made(making, self.store)
        return cid

    def put(self, *entries: tuple[bytes, bytes]) -> None:
        applied = self.tree.apply(self.root, sorted(Edit(key, cid) for key, cid in entries))
        for cid, block in applied.nodes.items():
            self.store.put(cid, block)
        self.root = applied.root

    def file(self, cid: bytes, key: bytes = b"key") -> bytes:
        return self.values.read(key, cid, 0, self.values.size(key, cid))


LAYOUTS: list[tuple[Layout, Encoding]] = [
    (PyHamt2(), "auto"),
    (PyHamt2(bare=True), "cbor"),
    (PyHamt3(), "raw"),
    (PyHamt3(), "cbor"),
    (PyHamt3(bare=True), "raw"),
    (PyHamt3(bare=True), "cbor"),
    (HashMap(), "auto"),
    (HashMap(width=5, bucket_size=2, old=True), "cbor"),
]


def as_kubo(data: bytes, chunk_bytes: int, store: MemoryBlocks) -> bytes:
    built = made(build_file(io.BytesIO(data), chunk_bytes, cids.BLAKE3), store)
    cid: bytes = built.cid
    return cid
