from collections.abc import Callable, Mapping

from mstfs.tree.mst.node import MstNode

def descend(
    type: type[MstNode],
    held: tuple[Mapping[bytes, MstNode | bytes], Mapping[bytes, MstNode | bytes]],
    read: Callable[[bytes], bytes | None],
    fresh: list[tuple[bytes, MstNode | bytes, int]],
    cid: bytes,
    key: bytes,
    levels: int,
    /,
) -> bytes | tuple[bytes, int] | None: ...
