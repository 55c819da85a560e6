"""Single nodes, the hash of names, and the helpers that the tests of UnixFS share."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.codec import dag_pb
from mstfs.codec.dag_pb import (
    KIND_DIRECTORY,
    KIND_FILE,
    KIND_METADATA,
    KIND_RAW,
    KIND_SHARD,
    KIND_SYMLINK,
    Mtime,
    PBLink,
    PBNode,
    UnixfsData,
)
from mstfs.errors import LimitExceeded, NodeError
from mstfs.limits import NODE_BYTES
from mstfs.tree.unixfs.murmur3 import murmur3
from mstfs.tree.unixfs.node import MURMUR3, PREFIXES, UnixfsNode, content, decode, prefix_width, slot_prefix
from mstfs.tree.unixfs.tree import UnixfsTree


class Store(MemoryBlocks):
    """Blocks in memory that remembers what was read."""

    reads: list[bytes]

    def __init__(self) -> None:
        super().__init__()
        self.reads = []

    def get(self, cid: bytes) -> bytes:
        self.reads.append(cid)
        return super().get(cid)

    def raw(self, data: bytes) -> bytes:
        """Put a raw block."""
        cid = cids.for_block(data, cids.RAW)
        self.put(cid, data)
        return cid

    def node(self, message: UnixfsData | None, *links: PBLink) -> bytes:
        """Put a DAG-PB block with exactly these links."""
        data = None if message is None else dag_pb.encode_data(message)
        block = dag_pb.encode(PBNode(links, data))
        cid = cids.for_block(block, cids.DAG_PB)
        self.put(cid, block)
        return cid

    def folder(self, *rows: tuple[bytes, bytes]) -> bytes:
        """Put a plain directory with these names, in this order."""
        return self.node(UnixfsData(KIND_DIRECTORY), *[PBLink(cid, name, 1) for name, cid in rows])

    def shard(self, *rows: tuple[bytes, bytes], fanout: int = 256, hash_type: int = MURMUR3) -> bytes:
        """Put a shard with these links, digits included, and the bit field that fits them."""
        width = prefix_width(fanout)
        field = 0
        for name, _ in rows:
            field |= 1 << int(name[:width], 16)
        bits = field.to_bytes((field.bit_length() + 7) // 8, "big")
        message = UnixfsData(KIND_SHARD, bits, hash_type=hash_type, fanout=fanout)
        return self.node(message, *[PBLink(cid, name, 1) for name, cid in rows])

    def parts(self, own: bytes, *rows: tuple[bytes, int]) -> bytes:
        """Put a node of a file: its own content, then parts with their claimed sizes."""
        sizes = tuple(size for _, size in rows)
        message = UnixfsData(KIND_FILE, own or None, len(own) + sum(sizes), sizes)
        return self.node(message, *[PBLink(cid, b"", 1) for cid, _ in rows])


# Given by another implementation (the murmur3 package of multiformats for JavaScript, the first 8 bytes).
HASHES = {
    b"": 0,
    b"a": 0x85555565F6597889,
    b"hello": 0xCBD8A7B341BD9B02,
    b"12345678": 0x3B4A640638B1419C,
    b"123456789": 0x3C84645EDB66CCA4,
    b"0123456789abcdef": 0x4BE06D94CF4AD1A7,
    b"0123456789abcdefX": 0xCDEBD2ACB570D6F7,
    b"a name that is quite a bit longer than thirty-two bytes.txt": 0xD159A353FBD1F715,
}


@pytest.mark.parametrize("name", HASHES)
def test_murmur3(name: bytes) -> None:
    assert murmur3(name) == HASHES[name]


@given(st.binary(max_size=80))
def test_murmur3_gives_64_bits(name: bytes) -> None:
    assert 0 <= murmur3(name) < 1 << 64


def test_digits_of_slots() -> None:
    assert [slot_prefix(256, slot) for slot in (0, 10, 255)] == [b"00", b"0A", b"FF"]
    assert [slot_prefix(8, 7), slot_prefix(16, 15), slot_prefix(32, 31), slot_prefix(1024, 1023)] == [
        b"7",
        b"F",
        b"1F",
        b"3FF",
    ]
    for fanout, table in PREFIXES.items():
        assert list(table.values()) == list(range(fanout))
        assert {len(digits) for digits in table} == {prefix_width(fanout)}


def decoded(store: Store, cid: bytes) -> UnixfsNode:
    return decode(cid, store.get(cid))


def test_what_is_absent_is_not_zero() -> None:
    store = Store()
    plain = decoded(store, store.node(UnixfsData(KIND_DIRECTORY)))
    assert (plain.mode, plain.mtime) == (None, None)
    dated = decoded(store, store.node(UnixfsData(KIND_DIRECTORY, mode=0, mtime=Mtime(0))))
    assert (dated.mode, dated.mtime) == (0, Mtime(0, None))


def test_kinds() -> None:
    store = Store()
    leaf = store.raw(b"abc")
    assert decoded(store, leaf) == UnixfsNode(KIND_RAW, b"abc", size=3)
    file = decoded(store, store.parts(b"xy", (leaf, 3), (leaf, 3)))
    assert (file.kind, file.data, file.ends, file.size) == (KIND_FILE, b"xy", (5, 8), 8)
    without = decoded(store, store.node(UnixfsData(KIND_RAW, b"xy")))
    assert (without.kind, without.size) == (KIND_RAW, 2)
    link = decoded(store, store.node(UnixfsData(KIND_SYMLINK, b"../there")))
    assert (link.kind, link.data, link.size) == (KIND_SYMLINK, b"../there", 8)
    shard = decoded(store, store.shard((b"0Aname", leaf), (b"FF", leaf)))
    assert (shard.names, shard.fanout, shard.hash_type) == ((b"0Aname", b"FF"), 256, MURMUR3)


def test_metadata_stands_for_what_it_describes() -> None:
    store = Store()
    leaf = store.raw(b"abc")
    wrapped = store.node(UnixfsData(KIND_METADATA, b"\x0a\x01x"), PBLink(leaf))
    assert content(UnixfsTree(store).node, wrapped) == (leaf, UnixfsNode(KIND_RAW, b"abc", size=3))
    for broken in (
        store.node(UnixfsData(KIND_METADATA)),
        store.node(UnixfsData(KIND_METADATA), PBLink(wrapped)),
    ):
        with pytest.raises(NodeError) as error:
            content(UnixfsTree(store).node, broken)
        assert error.value.rule == "metadata"


LEAF = cids.for_block(b"abc", cids.RAW)


@pytest.mark.parametrize(
    ("rule", "message", "links"),
    [
        ("unixfs-data", None, ()),
        ("file-links", UnixfsData(KIND_FILE), (PBLink(LEAF),)),
        ("file-links", UnixfsData(KIND_FILE, blocksizes=(1, 2)), (PBLink(LEAF),)),
        ("file-size", UnixfsData(KIND_FILE, b"abc", 4), ()),
        ("file-size", UnixfsData(KIND_FILE, b"abc", (1 << 64) - 1), ()),
        ("file-size", UnixfsData(KIND_FILE, blocksizes=(1 << 63,)), (PBLink(LEAF),)),
        ("file-size", UnixfsData(KIND_FILE, None, 1, ((1 << 64) - 1, 2)), (PBLink(LEAF),) * 2),
        ("shard-fanout", UnixfsData(KIND_SHARD), ()),
        ("shard-fanout", UnixfsData(KIND_SHARD, fanout=4), ()),
        ("shard-fanout", UnixfsData(KIND_SHARD, fanout=100), ()),
        ("shard-fanout", UnixfsData(KIND_SHARD, fanout=2048), ()),
        ("shard-fanout", UnixfsData(KIND_SHARD, fanout=1 << 30), ()),
        ("shard-name", UnixfsData(KIND_SHARD, fanout=256), (PBLink(LEAF, b"0aname"),)),
        ("shard-name", UnixfsData(KIND_SHARD, fanout=256), (PBLink(LEAF, b"0"),)),
        ("shard-name", UnixfsData(KIND_SHARD, fanout=256), (PBLink(LEAF),)),
        ("shard-name", UnixfsData(KIND_SHARD, fanout=32), (PBLink(LEAF, b"20name"),)),
    ],
)
def test_nodes_that_are_refused(rule: str, message: UnixfsData | None, links: tuple[PBLink, ...]) -> None:
    store = Store()
    with pytest.raises(NodeError) as error:
        decoded(store, store.node(message, *links))
    assert error.value.rule == rule


@pytest.mark.parametrize(
    ("rule", "codec", "block"),
    [
        ("codec", cids.DAG_CBOR, b"\xa0"),
        ("dag-pb", cids.DAG_PB, b"\x00"),
        ("unixfs-data", cids.DAG_PB, b"\x0a\x00"),
    ],
)
def test_blocks_that_are_no_nodes(rule: str, codec: int, block: bytes) -> None:
    with pytest.raises(NodeError) as error:
        decode(cids.for_block(block, codec), block)
    assert error.value.rule == rule


def test_a_malformed_cid_is_refused() -> None:
    with pytest.raises(NodeError, match="CID"):
        decode(b"\x07", b"")


def test_a_node_that_is_too_large_is_named() -> None:
    cid = cids.for_block(b"", cids.DAG_PB)
    with pytest.raises(LimitExceeded, match=cids.to_text(cid)):
        decode(cid, bytes(NODE_BYTES + 1))


@given(st.binary(max_size=100), st.integers(0, 5))
@settings(max_examples=200)
def test_any_message_is_a_node_or_refused(tail: bytes, kind: int) -> None:
    block = dag_pb.encode(PBNode((), bytes((8, kind)) + tail))
    try:
        decode(cids.for_block(block, cids.DAG_PB), block)
    except NodeError:
        return
