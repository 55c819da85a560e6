"""Reading files: ranges against plain bytes, what a read touches, missing blocks, and sizes that lie."""

import io
import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree_unixfs_node import Store

from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.codec.dag_pb import KIND_DIRECTORY, KIND_FILE, KIND_RAW, KIND_SYMLINK, Mtime, PBLink, UnixfsData
from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, NodeError, Refused
from mstfs.limits import FILE_DEPTH
from mstfs.tree.unixfs.builder import build_file, gather
from mstfs.tree.unixfs.tree import UnixfsTree


@st.composite
def file_trees(draw: st.DrawFn) -> tuple[Store, bytes, bytes]:
    """A file of any shape: the blocks, the top, and its content."""
    store = Store()

    def leaf() -> tuple[bytes, bytes]:
        data = draw(st.binary(max_size=6))
        form = draw(st.integers(0, 2))
        if form == 0:
            return store.raw(data), data
        return store.node(UnixfsData((KIND_RAW, KIND_FILE)[form - 1], data, len(data))), data

    level = [leaf() for _ in range(draw(st.integers(1, 8)))]
    for _ in range(draw(st.integers(0, 3))):
        own = draw(st.binary(max_size=3))
        size = draw(st.integers(1, len(level)))
        children, level = level[:size], level[size:]
        top = store.parts(own, *[(cid, len(data)) for cid, data in children])
        joined = (top, own + b"".join(data for _, data in children))
        level = draw(st.sampled_from([[joined, *level], [*level, joined]]))
    own = draw(st.binary(max_size=3))
    top = store.parts(own, *[(cid, len(data)) for cid, data in level])
    return store, top, own + b"".join(data for _, data in level)


@given(file_trees(), st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=200)
def test_ranges_of_any_shape(tree: tuple[Store, bytes, bytes], offset: int, length: int) -> None:
    store, top, data = tree
    reader = UnixfsTree(store)
    assert reader.size(top) == len(data)
    assert reader.read(top, offset, length) == data[offset : offset + length]
    assert b"".join(reader.pieces(top, offset)) == data[offset:]


@given(
    st.binary(max_size=300),
    st.integers(1, 20),
    st.integers(2, 5),
    st.integers(0, 320),
    st.integers(0, 320),
    st.sampled_from([cids.SHA2_256, cids.BLAKE3]),
)
@settings(max_examples=200)
def test_what_was_built_is_read(
    data: bytes, chunk: int, links: int, offset: int, length: int, hash_code: int
) -> None:
    store = Store()
    built = gather(build_file(io.BytesIO(data), chunk, hash_code, links), store.put)
    reader = UnixfsTree(store)
    assert built.size == reader.size(built.cid) == len(data)
    assert reader.read(built.cid, offset, length) == data[offset : offset + length]


def chunked() -> tuple[Store, bytes, bytes]:
    """1,000 bytes in chunks of 10, four links a node."""
    store = Store()
    data = bytes(number % 251 for number in range(1000))
    return store, gather(build_file(io.BytesIO(data), 10, links_per_node=4), store.put).cid, data


def test_a_read_touches_only_what_it_needs() -> None:
    store, top, data = chunked()
    assert UnixfsTree(store).read(top, 503, 4) == data[503:507]
    # 100 chunks in nodes of four: 25, 7, 2 and 1 of them, so a chunk and four nodes on the way to it.
    assert len(store.reads) == 5


def test_nodes_are_held_and_chunks_are_not() -> None:
    store, top, data = chunked()
    reader = UnixfsTree(store)
    for _ in range(3):
        store.reads.clear()
        assert reader.read(top, 503, 4) == data[503:507]
    assert [cids.codec_of(cid) for cid in store.reads] == [cids.RAW]


def test_a_range_reads_although_others_are_missing() -> None:
    store, top, data = chunked()
    chunk = cids.for_block(data[500:510], cids.RAW)
    store.delete(chunk)
    reader = UnixfsTree(store)
    assert reader.read(top, 0, 500) == data[:500]
    assert reader.read(top, 510, 1000) == data[510:]
    with pytest.raises(MissingBlocks) as error:
        reader.read(top, 509, 2)
    assert error.value.cids == (chunk,)


def test_all_that_is_missing_in_a_range_is_named() -> None:
    store, top, data = chunked()
    gone = [cids.for_block(data[start : start + 10], cids.RAW) for start in (100, 130, 480)]
    for chunk in gone:
        store.delete(chunk)
    nodes = UnixfsTree(store)
    inner = nodes.node(nodes.node(top).links[1]).links[-1]
    store.delete(inner)
    reader = UnixfsTree(store)
    pieces: list[bytes] = []
    with pytest.raises(MissingBlocks) as error:
        pieces.extend(reader.pieces(top))
    assert error.value.cids == (*gone, inner)
    assert b"".join(pieces) == data[:100]
    with pytest.raises(MissingBlocks) as error:
        reader.read(top, 100, 40)
    assert error.value.cids == tuple(gone[:2])


def test_a_missing_top_is_missing() -> None:
    store, top, _ = chunked()
    store.delete(top)
    with pytest.raises(MissingBlock):
        UnixfsTree(store).read(top, 0, 1)


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1)])
def test_negative_ranges_are_refused(offset: int, length: int) -> None:
    store, top, _ = chunked()
    with pytest.raises(Refused):
        UnixfsTree(store).read(top, offset, length)


def test_sizes_that_lie_are_refused_where_they_are_read() -> None:
    store = Store()
    leaf = store.raw(b"abc")
    for lie in (2, 4, 1 << 62):
        top = store.parts(b"own", (leaf, 3), (leaf, lie))
        reader = UnixfsTree(store)
        assert reader.read(top, 0, 6) == b"ownabc"
        with pytest.raises(NodeError) as error:
            reader.read(top, 0, 7)
        assert error.value.rule == "child-size"
        assert error.value.cid == top


def test_parts_of_nothing_are_not_read() -> None:
    store = Store()
    leaf = store.raw(b"abc")
    absent = cids.for_block(b"nowhere", cids.RAW)
    top = store.parts(b"", (absent, 0), (leaf, 3), (absent, 0), (absent, 0), (leaf, 3), (absent, 0))
    assert UnixfsTree(store).read(top, 0, 10) == b"abcabc"


def test_a_part_must_be_a_file() -> None:
    store = Store()
    link = store.node(UnixfsData(KIND_SYMLINK, b"abc"))
    top = store.parts(b"", (link, 3))
    with pytest.raises(NodeError) as error:
        UnixfsTree(store).read(top, 0, 1)
    assert error.value.rule == "file-child"


def test_a_chain_ends() -> None:
    store = Store()
    top = store.raw(b"abc")
    for _ in range(FILE_DEPTH):
        top = store.parts(b"", (top, 3))
    assert UnixfsTree(store).read(top, 0, 3) == b"abc"
    for _ in range(2):
        top = store.parts(b"", (top, 3))
    with pytest.raises(LimitExceeded):
        UnixfsTree(store).read(top, 0, 3)


def test_a_small_archive_may_hold_a_huge_file() -> None:
    store = Store()
    top, size = store.raw(b"\0" * 64), 64
    for _ in range(54):
        top, size = store.parts(b"", (top, size), (top, size)), 2 * size
    reader = UnixfsTree(store)
    assert reader.size(top) == 1 << 60
    assert reader.read(top, (1 << 59) - 5, 10) == bytes(10)
    assert reader.read(top, size - 5, 1 << 62) == bytes(5)


def test_a_huge_file_with_a_hole_is_not_searched_for_ever() -> None:
    store = Store()
    leaf = store.raw(b"\0" * 64)
    top, size = leaf, 64
    for _ in range(54):
        top, size = store.parts(b"", (top, size), (top, size)), 2 * size
    store.delete(leaf)
    with pytest.raises(MissingBlocks) as error:
        list(UnixfsTree(store).pieces(top))
    assert error.value.cids == (leaf,)


def test_a_read_of_few_bytes_in_many_blocks_ends() -> None:
    store = Store()
    top, size = store.raw(b"a"), 1
    for _ in range(100):
        top = store.parts(b"", (top, size))
    wide = store.parts(b"", *[(top, 1)] * 100)
    wider = store.parts(b"", *[(wide, 100)] * 1000)
    with pytest.raises(LimitExceeded):
        UnixfsTree(store).read(wider, 0, 100_000)


def test_a_read_through_wide_nodes_ends() -> None:
    store = Store()
    nothing = store.raw(b"")
    leaf = store.raw(b"a")
    wide = store.parts(b"", *[(nothing, 0)] * 40_000, (leaf, 1))
    wider = store.parts(b"", *[(wide, 1)] * 100)
    reader = UnixfsTree(store)
    assert reader.read(wider, 50, 10) == b"a" * 10
    with pytest.raises(LimitExceeded):
        reader.read(wider, 0, 100)


def test_attributes() -> None:
    store = Store()
    reader = UnixfsTree(store)
    when = Mtime(-5, 7)
    file = store.node(UnixfsData(KIND_FILE, b"abc", 3, mode=0o104755, mtime=when))
    assert reader.attributes(file) == ("file", 3, 0o4755, when)
    assert reader.attributes(store.raw(b"abc")) == ("file", 3, None, None)
    assert reader.attributes(store.folder((b"a", file))) == ("directory", 0, None, None)
    assert reader.attributes(store.shard((b"00a", file))) == ("directory", 0, None, None)
    link = store.node(UnixfsData(KIND_SYMLINK, b"../x", mode=0))
    assert reader.attributes(link) == ("symlink", 4, 0, None)
    assert reader.target(link) == b"../x"
    no_time = store.node(UnixfsData(KIND_DIRECTORY, mtime=Mtime(1, 1_000_000_000)))
    assert reader.attributes(no_time).mtime is None


def test_kinds_are_not_mixed_up() -> None:
    store = Store()
    reader = UnixfsTree(store)
    folder, file = store.folder(), store.raw(b"abc")
    with pytest.raises(NodeError, match="no file"):
        reader.read(folder, 0, 1)
    with pytest.raises(NodeError, match="no file"):
        reader.size(folder)
    with pytest.raises(NodeError, match="no symbolic link"):
        reader.target(file)
    with pytest.raises(NodeError, match="no directory"):
        list(reader.entries(file))


def test_a_real_tree_reads_as_it_was_written(shared_fixtures: Path, tmp_path: Path) -> None:
    folder = shared_fixtures / "unixfs"
    told = json.loads((folder / "unixfs_flat_tree.json").read_text())
    with CarFile.open(folder / "unixfs_flat_tree.car", index=tmp_path / "index") as car:
        reader = UnixfsTree(car)
        root = cids.parse(told["root"])
        found = {}
        for key, cid in reader.walk(root):
            data = reader.read(cid, 0, reader.size(cid))
            found[key.decode()] = sha256(data).hexdigest()
            assert reader.read(cid, len(data) // 3, 5000) == data[len(data) // 3 :][:5000]
            # The same content, built here, has the same root.
            assert gather(build_file(io.BytesIO(data), told["chunk"]), lambda cid, block: None).cid == cid
    assert len(found) == told["count"]
    assert found == {key.removeprefix("/"): digest for key, digest in told["sha256"].items()}


def test_a_real_file_with_a_hole(shared_fixtures: Path, tmp_path: Path) -> None:
    path = shared_fixtures / "unixfs" / "gateway-conformance__file-3k-and-3-blocks-missing-block.car"
    with CarFile.open(path, index=tmp_path / "index") as car:
        reader = UnixfsTree(car)
        (root,) = car.roots
        assert reader.size(root) == 3072
        first, last = reader.read(root, 0, 1024), reader.read(root, 2048, 5000)
        assert (len(first), len(last)) == (1024, 1024)
        with pytest.raises(MissingBlocks) as error:
            reader.read(root, 1023, 1026)
        (missing,) = error.value.cids
        assert missing.hex() == "12203bdd471519f63e19cd053adc7bc89175e6d86d9e24df7dc2af050ec1e66f2185"


def test_links_have_no_names_and_one_may_be_a_blake3_block() -> None:
    store = Store()
    data = b"abc"
    leaf = cids.for_block(data, cids.RAW, cids.BLAKE3)
    store.put(leaf, data)
    message = UnixfsData(KIND_FILE, filesize=3, blocksizes=(3,))
    assert UnixfsTree(store).read(store.node(message, PBLink(leaf)), 0, 3) == data
