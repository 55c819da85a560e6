from collections.abc import Callable
from typing import TypeVar

from mstfs.tree.mst.node import MstNode

_Node = TypeVar("_Node", bound=tuple[object, ...])

def decode(type: type[_Node], data: bytes, /) -> _Node | None: ...
def encode(
    keys: tuple[bytes, ...], values: tuple[bytes, ...], links: tuple[bytes | None, ...], /
) -> bytes | None: ...
def descend(
    type: type[MstNode],
    held: tuple[dict[bytes, MstNode], dict[bytes, MstNode]],
    read: Callable[[bytes], bytes | None],
    fresh: list[tuple[bytes, MstNode, int]],
    cid: bytes,
    key: bytes,
    levels: int,
    /,
) -> bytes | tuple[bytes, int] | None: ...
def weigh(node: MstNode, /) -> int: ...
