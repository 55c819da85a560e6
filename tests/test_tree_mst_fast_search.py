"""What C finds in an MST is what Python finds, whatever is held and whatever the blocks are like."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mst_nodes import NO_NODES, encoded_in_python, in_python, made
from naive_mst import value
from parts_in_c import changed_somewhere, keeps_nothing

from mstfs.blocks.interface import read_nothing
from mstfs.blocks.memory import MemoryBlocks
from mstfs.errors import LimitExceeded
from mstfs.limits import TREE_HEIGHT
from mstfs.tree.interface import Edit
from mstfs.tree.mst import fast_search, search
from mstfs.tree.mst import node as nodes
from mstfs.tree.mst.node import MstNode
from mstfs.tree.mst.tree import MstTree
from mstfs.tree.node_cache import NodeCache


def descend(
    held: Any,
    cid: Any,
    key: Any,
    levels: Any = 129,
    read: Any = read_nothing,
    fresh: list[search.Fresh] | None = None,
) -> Any:
    return fast_search.descend(MstNode, held, read, [] if fresh is None else fresh, cid, key, levels)


@given(st.sets(st.binary(min_size=1, max_size=8), max_size=60), st.lists(st.binary(max_size=8)), st.data())
def test_keys_are_found_whatever_is_held(
    chosen: set[bytes], others: list[bytes], data: st.DataObject
) -> None:
    blocks = MemoryBlocks()
    tree = MstTree(blocks)
    empty, block = tree.empty()
    blocks.put(empty, block)
    applied = tree.apply(empty, [Edit(key, value(at)) for at, key in enumerate(sorted(chosen))])
    every = {cid: nodes.decode(cid, block) for cid, block in applied.nodes.items()}
    every.setdefault(empty, nodes.EMPTY)
    young: dict[bytes, search.Held] = {}
    old: dict[bytes, search.Held] = {}
    readable: dict[bytes, bytes] = {}
    for cid, node in every.items():
        block = encoded_in_python(node)
        for generation in (young, old):
            what = data.draw(st.sampled_from([None, node, block]))
            if what is not None:
                generation[cid] = what
        if data.draw(st.booleans()):
            readable[cid] = block
    for key in (*chosen, *others):
        expected = search.get(every.__getitem__, applied.root, key)
        assert (expected is not None) == (key in chosen)
        fresh: list[search.Fresh] = []
        found = search.get(every.__getitem__, applied.root, key, (young, old), readable.get, fresh)
        assert found == expected
        for cid, held, weight in fresh:
            before = young.get(cid, old.get(cid))
            assert before is not None or cid in readable
            # What was held becomes a node, and what was read is held as it is.
            assert held == (readable[cid] if before is None else every[cid])
            assert type(young.get(cid)) is not MstNode
            assert weight == nodes.weigh_in_python(held)
        assert descend((every, {}), applied.root, key) == expected


@given(made(), st.binary(min_size=1, max_size=30))
def test_a_block_is_searched_like_its_node(node: MstNode, other: bytes) -> None:
    block = encoded_in_python(node)
    for key in (other, *node.keys, *(key + b"\0" for key in node.keys), *(key[:-1] for key in node.keys)):
        fresh: list[search.Fresh] = []
        found = descend(({}, {}), b"cid", key, read={b"cid": block}.get, fresh=fresh)
        if len(block) > 8192:
            assert (found, fresh) == ((b"cid", 129), [])
            continue
        assert found == descend(({b"cid": node}, {}), b"cid", key)
        assert fresh == [(b"cid", block, nodes.weigh(block))]
        again: list[search.Fresh] = []
        assert descend(({b"cid": block}, {}), b"cid", key, fresh=again) == found
        assert again == [(b"cid", node, nodes.weigh(node))]


@settings(max_examples=300)
@given(made(), st.data())
def test_what_is_changed_anywhere_is_left_alone_or_searched_alike(node: MstNode, data: st.DataObject) -> None:
    block = changed_somewhere(encoded_in_python(node)[:8192], data)
    read = in_python(block)
    for key in (b"key", *node.keys):
        fresh: list[search.Fresh] = []
        found = descend(({}, {}), b"cid", key, read={b"cid": block}.get, fresh=fresh)
        if found == (b"cid", 129):
            assert not fresh
            continue
        assert read is not None
        assert found == descend(({b"cid": read}, {}), b"cid", key)


def chain(length: int) -> tuple[bytes, dict[bytes, MstNode]]:
    """Nodes without keys, each but the last with a link to the next."""
    held = {value(at): MstNode((), (), (value(at + 1),)) for at in range(length - 1)}
    held[value(length - 1)] = nodes.EMPTY
    return value(0), held


def test_what_is_not_held_is_named() -> None:
    root, every = chain(5)
    for at in range(5):
        held = {cid: node for cid, node in every.items() if cid != value(at)}
        assert descend((held, {}), root, b"key") == (value(at), 129 - at)


def test_blocks_that_are_read() -> None:
    root, every = chain(5)
    blocks = {cid: encoded_in_python(node) for cid, node in every.items()}
    fresh: list[search.Fresh] = []
    assert descend(({}, {}), root, b"key", read=blocks.get, fresh=fresh) is None
    assert [cid for cid, *_ in fresh] == [value(at) for at in range(5)]
    assert [block for _, block, _ in fresh] == [blocks[value(at)] for at in range(5)]
    again: list[search.Fresh] = []
    assert descend(({}, blocks), root, b"key", fresh=again) is None
    assert [node for _, node, _ in again] == [every[value(at)] for at in range(5)]
    # What is no node of the common shape is left to who can say what is wrong with it.
    for block in (b"", b"no node", blocks[value(2)] + b"\0", "text"):
        wrong: Any = {**blocks, value(2): block}
        assert descend(({}, {}), root, b"key", read=wrong.get) == (value(2), 127)

    def fail(cid: bytes) -> bytes:
        raise OSError(cid)

    with pytest.raises(OSError, match="x01"):
        descend(({}, {}), root, b"key", read=fail)


def test_the_older_generation_is_asked_first() -> None:
    root, every = chain(3)
    young = {root: every[root]}
    fresh: list[search.Fresh] = []

    def fail(cid: bytes) -> bytes:
        raise AssertionError(cid)

    assert descend((young, every), root, b"key", read=fail, fresh=fresh) is None
    assert [cid for cid, *_ in fresh] == [value(1), value(2)]
    cache = NodeCache(1 << 20, nodes.weigh)
    cache.put_all(fresh)
    assert cache.generations == ({value(1): every[value(1)], value(2): every[value(2)]}, {})


def test_finding_keeps_nothing() -> None:
    root, every = chain(5)
    blocks = {cid: encoded_in_python(node) for cid, node in every.items()}
    half = {cid: every[cid] for cid in list(every)[::2]}
    wrong: Any = {**blocks, value(2): (1,)}

    def work() -> None:
        for _ in range(1000):
            descend(({}, half), root, b"key", read=blocks.get)
            descend((blocks, {}), root, b"key")
            with pytest.raises(TypeError):
                descend((wrong, {}), root, b"key")
            descend(({}, {}), root, b"key", 3, read=blocks.get)
            descend(({}, {}), root, b"key", read={}.get)

    keeps_nothing(work, 500)


@pytest.mark.parametrize("some", [0, 1, 64, 129, 200])
def test_trees_that_are_too_high(some: int) -> None:
    """As many levels as there may be, whether the first of them are held or not."""
    for length, fits in ((TREE_HEIGHT + 1, True), (TREE_HEIGHT + 2, False)):
        root, every = chain(length)
        held = {value(at): every[value(at)] for at in range(min(some, length))}
        if fits:
            assert search.get(every.__getitem__, root, b"key", (held, {})) is None
        else:
            with pytest.raises(LimitExceeded):
                search.get(every.__getitem__, root, b"key", (held, {}))


def test_what_is_no_node() -> None:
    link = value(1)
    for wrong in NO_NODES:
        with pytest.raises(TypeError):
            descend(({link: wrong}, {}), link, b"key")
        with pytest.raises(TypeError):
            descend(({}, {link: wrong}), link, b"key")
    odd: Any = MstNode((1,), (link,), (None, None))  # type: ignore[arg-type]
    calls: list[Any] = [
        (({link: odd}, {}), link, b"key"),
        (None, link, b""),
        (({}, None), link, b""),
        (({},), link, b""),
        (({}, {}), "text", b""),
        (({}, {}), link, "text"),
        (({}, {}), link, b"", "1"),
        (({}, {}), link, b"", 1, None),
    ]
    for arguments in calls:
        with pytest.raises(TypeError):
            descend(*arguments)
    with pytest.raises(TypeError):
        fast_search.descend(int, ({}, {}), read_nothing, [], link, b"", 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        fast_search.descend(MstNode, ({}, {}), read_nothing, None, link, b"", 1)  # type: ignore[arg-type]
