"""A cache of byte strings that is sized in bytes: what was used last stays."""

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

Name = TypeVar("Name")

OVERHEAD = 256
"""Bytes that an entry takes beside its data: two objects, the name, and a place in the table."""


class ByteCache(Generic[Name]):
    """Byte strings by name. Takes at most about `limit` bytes, or holds one. Safe for several threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.hits = 0
        self.misses = 0
        self._lock = Lock()
        self._by_name: OrderedDict[Name, bytes] = OrderedDict()

    def get(self, name: Name) -> bytes | None:
        """The bytes of this name, or None where they are not held."""
        data = self._by_name.get(name)
        if data is None:
            self.misses += 1
        else:
            self.hits += 1
            try:
                self._by_name.move_to_end(name)
            except KeyError:
                return data  # Another thread has just let go of it.
        return data

    def clear(self) -> None:
        """Hold nothing."""
        with self._lock:
            self._by_name.clear()
            self.held = 0

    def put(self, name: Name, data: bytes) -> None:
        """Hold these bytes, and let go of those that were used longest ago."""
        with self._lock:
            before = self._by_name.pop(name, None)
            self.held += len(data) - len(before) if before is not None else len(data) + OVERHEAD
            self._by_name[name] = data
            while self.held > self.limit and len(self._by_name) > 1:
                _, oldest = self._by_name.popitem(last=False)
                self.held -= len(oldest) + OVERHEAD
