"""What C reads and writes of MST nodes is what Python does, block by block and byte by byte."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mst_nodes import NO_NODES, encoded_in_python, in_python, made
from naive_mst import value
from parts_in_c import changed_somewhere, keeps_nothing

from mstfs.limits import KEY_BYTES
from mstfs.tree.mst import fast_node
from mstfs.tree.mst import node as nodes
from mstfs.tree.mst.node import MstNode

RAW = b"\x01\x55\x12\x20" + bytes(32)


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


@given(made())
def test_nodes_weigh_the_same(node: MstNode) -> None:
    for held in (node, encoded_in_python(node)):
        assert fast_node.weigh(held) == nodes.weigh_in_python(held)


@pytest.mark.parametrize("wrong", NO_NODES)
def test_what_is_no_node(wrong: Any) -> None:
    with pytest.raises(TypeError):
        fast_node.weigh(wrong)
