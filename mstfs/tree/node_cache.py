"""Decoded nodes, kept in memory by the bytes that they take. Every kind of tree has one of these."""

from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Generic, TypeAlias, TypeVar

Node = TypeVar("Node")

Generations: TypeAlias = tuple[Mapping[bytes, Node], Mapping[bytes, Node]]
"""Nodes that are held, by name: the younger ones, and the older ones. They are dictionaries."""


class NodeCache(Generic[Node]):
    """Nodes by name, at most about `limit` bytes of them; safe to use from several threads.

    `cost_of` estimates the bytes of a node. Two generations: once the young one holds half of the limit,
    it becomes the old one, and what was old is dropped. A node that is asked for while it is old is young
    again. So a hit in the young generation, by far the most common case, costs one look-up and changes
    nothing. With `spare`, the last node that was too big for that is held beside.
    """

    def __init__(self, limit: int, cost_of: Callable[[Node], int], *, spare: bool = False) -> None:
        self._half = limit // 2
        self._cost_of = cost_of
        self._lock = Lock()
        self._young: dict[bytes, Node] = {}
        self._old: dict[bytes, Node] = {}
        self._used = 0
        self._spare = spare
        self._big: tuple[bytes, Node] | None = None

    @property
    def generations(self) -> Generations[Node]:
        """What is held, for reading."""
        return self._young, self._old

    def get(self, name: bytes) -> Node | None:
        """The node, if it is held."""
        node = self._young.get(name)
        if node is None:
            node = self._old.get(name)
            if node is not None:
                self.put(name, node)
            elif (big := self._big) is not None and big[0] == name:
                return big[1]
        return node

    def put(self, name: bytes, node: Node) -> None:
        """Hold a node, unless it is too big to be worth it."""
        cost = self._cost_of(node)
        if cost > self._half >> 2:
            if self._spare:
                self._big = name, node
            return
        # The lock makes the generations and their size change together; readers do without it, since
        # they see each dictionary either before or after the change, and both are right.
        with self._lock:
            self._add(name, node, cost)

    def put_all(self, nodes: Iterable[tuple[bytes, Node, int]]) -> None:
        """Hold nodes whose cost is known."""
        most = self._half >> 2
        with self._lock:
            for name, node, cost in nodes:
                if cost <= most:
                    self._add(name, node, cost)

    def _add(self, name: bytes, node: Node, cost: int) -> None:
        known = self._young.get(name)
        if known is not None:
            self._used -= self._cost_of(known)
        if self._used + cost > self._half:
            self._old = self._young
            self._young = {}
            self._used = 0
        self._young[name] = node
        self._used += cost
