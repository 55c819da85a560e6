"""Reading an MST against a plain sorted dictionary, with missing blocks, and under attack."""

import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_mst import build, depth, mined, value

from mstfs.blocks.memory import MemoryBlocks
from mstfs.errors import LimitExceeded, MissingBlock, MstfsError, NodeError
from mstfs.limits import TREE_HEIGHT
from mstfs.tree.interface import Entry
from mstfs.tree.mst.node import MstNode, cid_of, decode, encode, weigh
from mstfs.tree.mst.tree import MstTree
from mstfs.tree.node_cache import NodeCache

Plain = dict[bytes, bytes]

keys = st.one_of(
    st.integers(0, 400).map(lambda number: b"k/%03d" % number),
    st.binary(min_size=1, max_size=4),
    st.sampled_from([b"\xff", b"\xff\xff", b"k/", b"k0", b"k/\xff", b"k/\xff\xff"]),
)
plain_dicts = st.dictionaries(keys, st.integers(0, 5).map(value), max_size=60)


class Counting(MemoryBlocks):
    """Counts reads."""

    reads = 0

    def get(self, cid: bytes) -> bytes:
        self.reads += 1
        return super().get(cid)


def planted(plain: Plain) -> tuple[Counting, bytes]:
    root, nodes = build(plain)
    return Counting(nodes.items()), root


def sample(count: int) -> Plain:
    return {b"com.example.note/%05d" % number: value(number) for number in range(count)}


def entries(plain: Plain) -> list[Entry]:
    return [Entry(*pair) for pair in sorted(plain.items())]


def store(blocks: MemoryBlocks, *parts: MstNode) -> bytes:
    for node in parts:
        block = encode(node)
        cid = cid_of(block)
        blocks.put(cid, block)
    return cid


def leaf(*names: bytes) -> MstNode:
    return MstNode(names, (value(0),) * len(names), (None,) * (len(names) + 1))


# --- answers ----------------------------------------------------------------------------------


@settings(max_examples=80)
@given(plain_dicts, keys, st.binary(max_size=2), st.one_of(st.none(), keys), st.integers(0, 8))
def test_reading_agrees_with_a_sorted_dictionary(
    plain: Plain, key: bytes, prefix: bytes, after: bytes | None, limit: int
) -> None:
    blocks, root = planted(plain)
    tree = MstTree(blocks)
    everything = entries(plain)
    wanted = [entry for entry in everything if entry.key.startswith(prefix)]
    assert tree.page(root) == everything
    assert list(tree.walk(root)) == everything
    assert list(tree.walk(root, prefix)) == wanted
    assert tree.page(root, prefix) == wanted
    assert tree.columns(root, prefix) == ([key for key, _ in wanted], [cid for _, cid in wanted])
    rest = [entry for entry in wanted if after is None or entry.key > after]
    assert tree.page(root, prefix, after) == rest
    assert tree.page(root, prefix, after, limit) == rest[:limit]
    for probe in (key, key + b"\0", *plain):
        assert tree.get(root, probe) == plain.get(probe)
        assert tree.seek(root, probe) == next((entry for entry in everything if entry.key >= probe), None)
    assert all(type(entry) is Entry for entry in tree.page(root))


def test_pages_put_together_give_the_whole() -> None:
    plain = sample(500)
    blocks, root = planted(plain)
    tree = MstTree(blocks)
    found: list[Entry] = []
    while page := tree.page(root, b"com.", found[-1].key if found else None, 7):
        assert len(page) <= 7
        found += page
    assert found == entries(plain)


@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_nodes_come_in_pre_order_and_complete(count: int) -> None:
    plain = sample(count)
    root, nodes = build(plain)
    tree = MstTree(MemoryBlocks(nodes.items()))
    found = list(tree.nodes(root))
    assert found[0][0] == root
    assert dict(found) == nodes
    assert len(found) == len(nodes)
    expected: list[bytes] = []

    def visit(cid: bytes) -> None:
        node = decode(cid, nodes[cid])
        expected.append(cid)
        for link, record in zip(node.links, (*node.values, None), strict=True):
            if link is not None:
                visit(link)
            if record is not None:
                expected.append(record)

    visit(root)
    assert [cid for cid, _ in tree.stream(root)] == expected
    assert [pair for pair in tree.stream(root) if pair[1] is not None] == found


def test_a_single_key_high_up() -> None:
    (key,) = mined(5)
    blocks, root = planted({key: value(1)})
    tree = MstTree(blocks)
    assert len(blocks) == 1
    assert tree.get(root, key) == value(1)
    assert tree.seek(root, b"") == Entry(key, value(1))


def test_empty_nodes_in_between_are_passed() -> None:
    high, low = mined(5)[0], mined(0)[0]
    blocks, root = planted({high: value(1), low: value(2)})
    tree = MstTree(blocks)
    assert len(blocks) == 6
    assert tree.get(root, low) == value(2)
    assert tree.page(root) == entries({high: value(1), low: value(2)})


def test_a_page_reads_only_what_it_needs() -> None:
    blocks, root = planted(sample(5000))
    height = max(map(depth, sample(5000))) + 1
    MstTree(blocks).page(root, limit=1)
    assert blocks.reads <= height
    blocks.reads = 0
    MstTree(blocks).seek(root, b"com.example.note/02500")
    assert blocks.reads <= height
    blocks.reads = 0
    MstTree(blocks).page(root, b"com.example.note/0250")
    assert blocks.reads <= 2 * height + 10
    blocks.reads = 0
    next(MstTree(blocks).walk(root))
    assert blocks.reads <= height


# --- missing blocks ---------------------------------------------------------------------------


def test_a_missing_subtree_is_skipped_and_named_once() -> None:
    plain = sample(800)
    blocks, root = planted(plain)
    top = decode(root, blocks.get(root))
    assert top.keys
    gone = top.links[0]
    assert gone is not None
    blocks.delete(gone)
    tree = MstTree(blocks)
    errors: list[MstfsError] = []
    survivors = [entry for entry in entries(plain) if entry.key >= top.keys[0]]
    assert tree.page(root, on_missing=errors.append) == survivors
    assert list(tree.walk(root, on_missing=errors.append)) == survivors
    assert tree.seek(root, b"", on_missing=errors.append) == survivors[0]
    assert [getattr(error, "cid", None) for error in errors] == [gone] * 3
    readers: list[Callable[[], object]] = [
        lambda: tree.page(root),
        lambda: list(tree.walk(root)),
        lambda: tree.seek(root, b""),
        lambda: tree.get(root, b"com.example.note/00000"),
        lambda: list(tree.nodes(root)),
    ]
    for read in readers:
        with pytest.raises(MissingBlock) as caught:
            read()
        assert caught.value.cid == gone


def test_a_missing_root_is_an_empty_listing_that_says_so() -> None:
    errors: list[MstfsError] = []
    tree = MstTree(MemoryBlocks())
    assert tree.page(value(1), on_missing=errors.append) == []
    assert [getattr(error, "cid", None) for error in errors] == [value(1)]


# --- hostile trees ----------------------------------------------------------------------------


def read_all(tree: MstTree, root: bytes) -> None:
    # Each of these must come to an end, with or without an error of ours.
    for read in (
        lambda: tree.get(root, b"k"),
        lambda: tree.seek(root, b"k"),
        lambda: tree.page(root),
        lambda: list(tree.nodes(root)),
        lambda: tree.page(root, on_missing=lambda _error: None),
    ):
        try:
            read()
        except (NodeError, LimitExceeded, MissingBlock):
            continue


def test_a_long_chain_of_empty_nodes_is_refused() -> None:
    blocks = MemoryBlocks()
    cid = store(blocks, leaf(b"k"))
    for _ in range(TREE_HEIGHT + 1):
        cid = store(blocks, MstNode((), (), (cid,)))
    tree = MstTree(blocks)
    with pytest.raises(LimitExceeded):
        tree.get(cid, b"k")
    with pytest.raises(LimitExceeded):
        tree.seek(cid, b"k")
    with pytest.raises(NodeError) as caught:
        tree.page(cid)
    assert caught.value.rule == "node-layer"
    with pytest.raises(NodeError):
        list(tree.nodes(cid))


def test_a_tree_is_no_higher_than_its_topmost_key_allows() -> None:
    # Layer 0 has no layer below, whatever the nodes link.
    blocks = MemoryBlocks()
    low = mined(0, 2)
    below = store(blocks, leaf(min(low)))
    root = store(blocks, MstNode((max(low),), (value(0),), (below, None)))
    with pytest.raises(NodeError) as caught:
        MstTree(blocks).page(root)
    assert caught.value.rule == "node-layer"


def high_keys(count: int, layer: int) -> tuple[bytes, ...]:
    return tuple(sorted(mined(layer, count)))


def test_a_node_that_links_one_child_many_times_is_refused_at_once() -> None:
    # Twelve layers of this would be 5 ** 12 visits.
    blocks = Counting()
    names = high_keys(4, 3)
    cid = store(blocks, leaf(b"k"))
    for _ in range(12):
        cid = store(blocks, MstNode(names, (value(0),) * 4, (cid,) * 5))
    tree = MstTree(blocks, cache_bytes=0)
    with pytest.raises(NodeError) as caught:
        tree.page(cid)
    assert caught.value.rule in ("key-range", "node-layer")
    read_all(tree, cid)
    assert blocks.reads < 200


@pytest.mark.parametrize("end", ["empty", "missing"])
def test_empty_nodes_that_come_again_are_left_out(end: str) -> None:
    blocks = Counting()
    names = high_keys(6, 3)
    cid = store(blocks, MstNode((), (), (None,))) if end == "empty" else value(7)
    for _ in range(2):
        cid = store(blocks, MstNode((), (), (cid,)))
    root = store(blocks, MstNode(names, (value(0),) * 6, (cid,) * 7))
    tree = MstTree(blocks, cache_bytes=0)
    errors: list[MstfsError] = []
    assert [entry.key for entry in tree.page(root, on_missing=errors.append)] == list(names)
    rules = [error.rule for error in errors if isinstance(error, NodeError)]
    assert rules == (["empty-leaf", "repeated-node"] if end == "empty" else ["repeated-node"])
    with pytest.raises(NodeError if end == "empty" else MissingBlock):
        tree.page(root)
    read_all(tree, root)
    assert blocks.reads < 100


def test_a_missing_child_that_is_linked_often_is_named_once() -> None:
    blocks = Counting()
    names = high_keys(6, 3)
    root = store(blocks, MstNode(names, (value(0),) * 6, (value(7),) * 7))
    errors: list[MstfsError] = []
    assert len(MstTree(blocks).page(root, on_missing=errors.append)) == 6
    assert len(errors) == 1


@pytest.mark.parametrize("name", [b"a", b"z"])
def test_a_child_outside_of_its_gap_is_refused(name: bytes) -> None:
    blocks = MemoryBlocks()
    names = high_keys(2, 3)
    root = store(
        blocks, leaf(name), MstNode(names, (value(0),) * 2, (None, cid_of(encode(leaf(name))), None))
    )
    tree = MstTree(blocks)
    for read in (tree.page, lambda cid: list(tree.nodes(cid))):
        with pytest.raises(NodeError) as caught:
            read(root)
        assert caught.value.rule == "key-range"
    with pytest.raises(NodeError):
        tree.page(root, after=names[0])


def test_a_block_that_is_no_node() -> None:
    blocks = MemoryBlocks()
    block = b"\xa1\x61a\x01"
    blocks.put(cid_of(block), block)
    with pytest.raises(NodeError) as caught:
        MstTree(blocks).get(cid_of(block), b"k")
    assert caught.value.cid == cid_of(block)


# --- the cache --------------------------------------------------------------------------------


def test_nodes_are_read_once_while_they_fit() -> None:
    plain = sample(300)
    blocks, root = planted(plain)
    tree = MstTree(blocks)
    for _ in range(3):
        for key, cid in plain.items():
            assert tree.get(root, key) == cid
    assert blocks.reads == len(blocks)


def test_a_small_cache_drops_nodes_and_changes_no_answer() -> None:
    plain = sample(600)
    blocks, root = planted(plain)
    for cache_bytes in (0, 4096, 40_000):
        tree = MstTree(blocks, cache_bytes)
        blocks.reads = 0
        # Neighbours in this order are far apart in the tree.
        for key in sorted(plain, key=lambda key: key[::-1]):
            assert tree.get(root, key) == plain[key]
        assert blocks.reads > len(blocks)


def test_the_cache_keeps_what_is_used_and_its_limit() -> None:
    nodes = {value(number): leaf(b"%04d" % number) for number in range(1000)}
    cache = NodeCache(80_000, weigh)
    hot = value(0)
    for cid, node in nodes.items():
        cache.put(cid, node)
        assert cache.get(hot) is nodes[hot]
    held = sum(cache.get(cid) is not None for cid in nodes)
    # A node like these costs some 700 bytes.
    assert 40 < held < 130
    big = leaf(*(b"%06d" % number for number in range(1000)))
    cache.put(value(5000), big)
    assert cache.get(value(5000)) is None
    roomy = NodeCache(80_000, weigh, spare=True)
    roomy.put(value(5000), big)
    assert roomy.get(value(5000)) is big


def test_a_node_takes_the_place_of_its_block() -> None:
    node = leaf(b"key")
    block = encode(node)
    cache: NodeCache[MstNode | bytes] = NodeCache(8000, weigh)
    cache.put(value(1), leaf(b"other"))
    for _ in range(100):
        for held in (block, node):
            cache.put(value(0), held)
            assert cache.get(value(0)) is held
    # What was replaced takes no room: nothing had to become old.
    assert cache.generations == ({value(0): node, value(1): leaf(b"other")}, {})


def test_what_a_key_was_found_in_is_read_no_more() -> None:
    plain = sample(500)
    root, every = build(plain)

    class Small(Counting):
        def read_small(self, cid: bytes) -> bytes:
            return self.get(cid)

    blocks = Small(every.items())
    tree = MstTree(blocks)
    for key, cid in plain.items():
        assert tree.get(root, key) == cid
    assert blocks.reads == len(every)
    assert tree.page(root) == entries(plain)
    for cid, block in every.items():
        assert tree.node(cid) == decode(cid, block)
    assert blocks.reads == len(every)


def test_a_walk_through_a_big_tree_does_not_fill_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mstfs.tree.mst.tree._SCAN_NODES", 40)
    plain = sample(500)
    blocks, root = planted(plain)
    tree = MstTree(blocks)
    for read in (
        tree.page,
        lambda cid: list(tree.walk(cid)),
        lambda cid: entries(dict(zip(*tree.columns(cid), strict=True))),
    ):
        assert read(root) == entries(plain)
    # The first walk kept 40 nodes, and each later one as many of those that it had to read.
    assert blocks.reads == 3 * len(blocks) - 2 * 40


def test_two_threads_read_one_tree() -> None:
    plain = sample(400)
    blocks, root = planted(plain)
    tree = MstTree(blocks, 20_000)
    wrong: list[object] = []

    def read(step: int) -> None:
        names = list(plain)[::step]
        for name in names:
            if tree.get(root, name) != plain[name]:
                wrong.append(name)
        if tree.page(root) != entries(plain):
            wrong.append("page")

    threads = [threading.Thread(target=read, args=(step,)) for step in (1, -1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
