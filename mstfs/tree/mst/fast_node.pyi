from typing import TypeVar

from mstfs.tree.mst.node import MstNode

_Node = TypeVar("_Node", bound=tuple[object, ...])

def decode(type: type[_Node], data: bytes, /) -> _Node | None: ...
def encode(
    keys: tuple[bytes, ...], values: tuple[bytes, ...], links: tuple[bytes | None, ...], /
) -> bytes | None: ...
def weigh(node: MstNode | bytes, /) -> int: ...
