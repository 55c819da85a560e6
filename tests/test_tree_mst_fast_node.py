"""What C reads and writes of MST nodes is what Python does, block by block and byte by byte."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_mst import cid_of, value
from parts_in_c import changed_somewhere, keeps_nothing

from mstfs.blocks.interface import read_nothing
from mstfs.blocks.memory import MemoryBlocks
from mstfs.errors import LimitExceeded, NodeError
from mstfs.limits import KEY_BYTES, TREE_HEIGHT
from mstfs.tree.interface import Edit
from mstfs.tree.mst import fast_node, search
from mstfs.tree.mst import node as nodes
from mstfs.tree.mst.node import MstNode
from mstfs.tree.mst.tree import MstTree
from mstfs.tree.node_cache import NodeCache

LINKS = [None, value(1), value(2)]
RAW = b"\x01\x55\x12\x20" + bytes(32)

keys = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=30),
        st.builds(lambda size, end: b"prefix" * size + end, st.integers(0, 100), st.binary(min_size=1)),
    ),
    unique=True,
    max_size=30,
).map(sorted)


@st.composite
def made(draw: st.DrawFn) -> MstNode:
    chosen = draw(keys)
    links = draw(st.lists(st.sampled_from(LINKS), min_size=len(chosen) + 1, max_size=len(chosen) + 1))
    return MstNode(tuple(chosen), tuple(value(at) for at in range(len(chosen))), tuple(links))


def in_python(block: bytes) -> MstNode | None:
    """The node by the rules alone, None if they refuse it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "fast_node", None)
        try:
            return nodes.decode(cid_of(block), block)
        except (NodeError, LimitExceeded):
            return None


def encoded_in_python(node: MstNode) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "fast_node", None)
        return nodes.encode(node)


@given(made())
def test_blocks_are_the_same(node: MstNode) -> None:
    block = fast_node.encode(*node)
    assert block is not None
    assert block == encoded_in_python(node)
    if len(block) <= 8192:
        read = fast_node.decode(MstNode, block)
        assert type(read) is MstNode
        assert read == node == in_python(block)


@settings(max_examples=300)
@given(made(), st.data())
def test_what_is_changed_anywhere_is_refused_or_read_alike(node: MstNode, data: st.DataObject) -> None:
    block = changed_somewhere(encoded_in_python(node)[:8192], data)
    read = fast_node.decode(MstNode, block)
    wanted = in_python(block)
    if read is not None:
        assert read == wanted
    if wanted is not None and all(cid[:4] == nodes.LINK_PREFIX for cid in wanted.values):
        assert read == wanted


def test_every_byte_of_a_block_matters() -> None:
    node = MstNode((b"com.example/a", b"com.example/b"), (value(3), value(4)), (None, value(1), None))
    block = encoded_in_python(node)
    for at in range(len(block)):
        for other in {0, 0xFF, block[at] ^ 1, block[at] ^ 0x20, block[at] + 1 & 0xFF} - {block[at]}:
            changed = block[:at] + bytes([other]) + block[at + 1 :]
            read = fast_node.decode(MstNode, changed)
            assert read != node
            assert read is None or read == in_python(changed)


@given(made(), st.binary(min_size=1, max_size=3))
def test_nothing_may_stand_behind_a_node(node: MstNode, more: bytes) -> None:
    assert fast_node.decode(MstNode, encoded_in_python(node) + more) is None


@pytest.mark.parametrize("count", [23, 24, 100, 145])
def test_wide_nodes(count: int) -> None:
    node = MstNode(
        tuple(bytes([at]) for at in range(count)), tuple(map(value, range(count))), (None,) * (count + 1)
    )
    block = encoded_in_python(node)
    assert len(block) <= 8192
    assert fast_node.decode(MstNode, block) == node


def test_no_block_that_is_read_can_spell_a_key_over_the_limit() -> None:
    block = encoded_in_python(MstNode((b"a" * 8070,), (value(1),), (None, None)))
    assert fast_node.decode(MstNode, block) is not None
    larger = encoded_in_python(MstNode((b"a" * 8192,), (value(1),), (None, None)))
    assert fast_node.decode(MstNode, larger) is None
    assert KEY_BYTES >= 8192, "fast_node.c reads blocks of up to 8,192 bytes"


def test_uncommon_shapes_are_left_to_python() -> None:
    for node in (
        MstNode((b"a",), (RAW + b"long",), (None, None)),
        MstNode((b"a" * 9000,), (value(1),), (None, None)),
    ):
        assert fast_node.encode(*node) is None
    raw = encoded_in_python(MstNode((b"a",), (RAW,), (None, None)))
    assert fast_node.decode(MstNode, raw) is None
    assert in_python(raw) is not None
    for block in (b"", b"\xa2", b"\xa2ae", b"\xa2ae\x9f", b"\xa2ae\x99\xff\xff", b"\xa2ae\x80al"):
        assert fast_node.decode(MstNode, block) is None


def test_wrong_arguments_are_type_errors() -> None:
    with pytest.raises(TypeError):
        fast_node.decode(MstNode, "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        fast_node.decode(int, b"")  # type: ignore[type-var]
    with pytest.raises(TypeError):
        fast_node.encode([], (), ())  # type: ignore[arg-type]
    assert fast_node.encode((b"a",), (), (None,)) is None
    assert fast_node.encode((b"a",), (value(1),), (None,)) is None
    assert fast_node.encode(("a",), (value(1),), (None, None)) is None  # type: ignore[arg-type]


def test_nothing_is_kept() -> None:
    whole = encoded_in_python(MstNode((b"a", b"b"), (value(1), value(2)), (None, value(3), None)))

    def work() -> None:
        for _ in range(2000):
            fast_node.decode(MstNode, whole)
            fast_node.decode(MstNode, whole[:-1])
            fast_node.encode((b"a",), (value(1),), (None, None))

    keeps_nothing(work, 1000)


# --- finding a key ----------------------------------------------------------------------------


def descend(held: Any, cid: Any, key: Any, levels: Any = 129, read: Any = read_nothing) -> Any:
    return fast_node.descend(MstNode, held, read, [], cid, key, levels)


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
    young: dict[bytes, MstNode] = {}
    old: dict[bytes, MstNode] = {}
    readable: dict[bytes, bytes] = {}
    for cid, node in every.items():
        in_young, in_old, is_readable = data.draw(st.tuples(*[st.booleans()] * 3))
        if in_young:
            young[cid] = node
        if in_old:
            old[cid] = node
        if is_readable:
            readable[cid] = encoded_in_python(node)
    for key in (*chosen, *others):
        expected = search.get(every.__getitem__, applied.root, key)
        assert (expected is not None) == (key in chosen)
        fresh: list[search.Fresh] = []
        found = search.get(every.__getitem__, applied.root, key, (young, old), readable.get, fresh)
        assert found == expected
        for cid, node, weight in fresh:
            assert cid not in young
            assert cid in old or cid in readable
            assert (node, weight) == (every[cid], nodes.weigh_in_python(every[cid]))
            assert type(node) is MstNode
        assert descend((every, {}), applied.root, key) == expected


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
    assert fast_node.descend(MstNode, ({}, {}), blocks.get, fresh, root, b"key", 129) is None
    assert [cid for cid, *_ in fresh] == [value(at) for at in range(5)]
    assert [node for _, node, _ in fresh] == [every[value(at)] for at in range(5)]
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

    assert fast_node.descend(MstNode, (young, every), fail, fresh, root, b"key", 129) is None
    assert [cid for cid, *_ in fresh] == [value(1), value(2)]
    cache = NodeCache(1 << 20, nodes.weigh)
    cache.put_all(fresh)
    assert cache.generations == ({value(1): every[value(1)], value(2): every[value(2)]}, {})


def test_finding_keeps_nothing() -> None:
    root, every = chain(5)
    blocks = {cid: encoded_in_python(node) for cid, node in every.items()}
    half = {cid: every[cid] for cid in list(every)[::2]}

    def work() -> None:
        for _ in range(1000):
            descend(({}, half), root, b"key", read=blocks.get)
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


@given(made())
def test_nodes_weigh_the_same(node: MstNode) -> None:
    assert fast_node.weigh(node) == nodes.weigh_in_python(node)


def test_what_is_no_node() -> None:
    link = value(1)
    wrongs: list[Any] = [
        None,
        (),
        ((), ()),
        ([], [], []),
        ((b"k",), (), (None,)),
        ((b"k",), (link,), (None,)),
    ]
    for wrong in wrongs:
        with pytest.raises(TypeError):
            descend(({link: wrong}, {}), link, b"key")
        with pytest.raises(TypeError):
            descend(({}, {link: wrong}), link, b"key")
        with pytest.raises(TypeError):
            fast_node.weigh(wrong)
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
        fast_node.descend(int, ({}, {}), read_nothing, [], link, b"", 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        fast_node.descend(MstNode, ({}, {}), read_nothing, None, link, b"", 1)  # type: ignore[arg-type]
