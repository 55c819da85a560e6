"""MST nodes of every shape, and how Python alone reads and writes them."""

from typing import Any

import pytest
from hypothesis import strategies as st
from naive_mst import cid_of, value

from mstfs.errors import LimitExceeded, NodeError
from mstfs.tree.mst import node as nodes
from mstfs.tree.mst.node import MstNode

LINKS = [None, value(1), value(2)]

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


NO_NODES: list[Any] = [
    None,
    (),
    ((), ()),
    ([], [], []),
    ((b"k",), (), (None,)),
    ((b"k",), (value(1),), (None,)),
]
"""What must not be taken for a node."""
