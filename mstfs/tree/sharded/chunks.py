"""The keys of one array's chunks, and their order.

A key spells the coordinates of a chunk in the grid as decimal numbers. What stands between the numbers sorts
before every digit, so keys are ordered by their first number as text, then by the second one, and so on: 0,
1, 10, 100, 101, 11, 2. A walk goes from each number to those that begin with it, ten at a time.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from mstfs.tree.sharded.document import Spelling

_DIGITS = 20
"""Decimal digits in a number of a grid, at most: dimensions are numbers of 64 bits."""


class Places(Protocol):
    """Which chunks of an array there are, by linear index."""

    def any(self, low: int, high: int) -> bool:
        """False only if there is surely none from `low` to before `high`."""
        ...

    def items(self, low: int, high: int) -> Iterator[tuple[int, bytes]]:
        """Those from `low` to before `high` in order, with their CIDs."""
        ...


class _Dimension(NamedTuple):
    """A dimension of more than one chunk: how many, linear indexes from one to the next, text in front."""

    size: int
    stride: int
    head: bytes


class ChunkKeys:
    """Both ways between linear indexes and keys, for an array with this path, spelling and grid."""

    def __init__(self, path: bytes, spelling: Spelling, grid: tuple[int, ...]) -> None:
        self.grid = grid
        self._prefix = path + b"/" if path else b""
        self._spelling = spelling
        parts = [b"c"] if spelling.word else []
        if not grid and not parts:
            parts = [b"0"]  # What the old spelling makes of an array without dimensions.
        head = self._prefix + spelling.separator.join(parts)
        dimensions: list[_Dimension] = []
        stride = 1
        strides: list[int] = []
        for size in reversed(grid):
            strides.append(stride)
            stride *= size
        for number, (size, step) in enumerate(zip(grid, reversed(strides), strict=True)):
            if number or parts:
                head += spelling.separator
            if size == 1:
                head += b"0"
            else:
                dimensions.append(_Dimension(size, step, head))
                head = b""
        self._dimensions = dimensions
        self._tail = head
        self.total = stride

    def key(self, index: int) -> bytes:
        """The key of the chunk with a linear index."""
        parts: list[bytes] = []
        for size, stride, head in self._dimensions:
            parts += head, b"%d" % (index // stride % size)
        return b"".join(parts) + self._tail

    def index(self, key: bytes) -> int | None:
        """The linear index of the chunk with a key; None for a key that no chunk of this array has."""
        if not key.startswith(self._prefix):
            return None
        rest = key[len(self._prefix) :]
        words = rest.split(self._spelling.separator) if rest else []
        if self._spelling.word:
            if not words or words.pop(0) != b"c":
                return None
        elif not self.grid:
            return 0 if words == [b"0"] else None
        if len(words) != len(self.grid):
            return None
        index = 0
        for word, size in zip(words, self.grid, strict=True):
            if not word.isdigit() or len(word) > _DIGITS or (word[0] == 0x30 and len(word) > 1):
                return None
            number = int(word)
            if number >= size:
                return None
            index = index * size + number
        return index

    # --- in key order -------------------------------------------------------------------------

    def walk(self, places: Places, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys and CIDs of the chunks that there are, in key order, none of them less than `start`."""
        if not self.total or not places.any(0, self.total):
            return
        if not self._dimensions:
            for _, cid in places.items(0, 1):
                if self._tail >= start:
                    yield self._tail, cid
            return
        if len(self._dimensions) == 1:
            yield from self._cells(places, b"", 0, start)
            return
        rows = [self._row(0, places, b"", 0, start)]
        while rows:
            above = next(rows[-1], None)
            if above is None:
                rows.pop()
            elif len(rows) == len(self._dimensions) - 1:
                yield from self._cells(places, *above, start)
            else:
                rows.append(self._row(len(rows), places, *above, start))

    def _row(
        self, level: int, places: Places, text: bytes, base: int, start: bytes
    ) -> Iterator[tuple[bytes, int]]:
        # The numbers of one dimension in text order: the text up to there, and the first linear index.
        size, stride, head = self._dimensions[level]
        text += head
        todo = list(range(min(size, 10) - 1, -1, -1))
        while todo:
            number = todo.pop()
            spelled = text + b"%d" % number
            if spelled < start[: len(spelled)]:
                continue
            if _any_longer(places, base, stride, number, size):
                todo += range(min(number * 10 + 10, size) - 1, number * 10 - 1, -1)
            low = base + number * stride
            inside = spelled + self._dimensions[level + 1].head
            if inside >= start[: len(inside)] and places.any(low, low + stride):
                yield spelled, low

    def _cells(self, places: Places, text: bytes, base: int, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        # The last dimension that counts; its stride is 1. Ten numbers at a time where all are of one length.
        size, _, head = self._dimensions[-1]
        text += head
        if size <= 10:
            yield from self._ten(places, text, base, 0, start)
            return
        todo = list(range(9, -1, -1))
        while todo:
            number = todo.pop()
            spelled = text + b"%d" % number
            if spelled < start[: len(spelled)]:
                continue
            key = spelled + self._tail
            if key >= start:
                for _, cid in places.items(base + number, base + number + 1):
                    yield key, cid
            if number and number * 10 < size <= number * 100:
                yield from self._ten(places, text, base, number * 10, start)
            elif _any_longer(places, base, 1, number, size):
                todo += range(min(number * 10 + 10, size) - 1, number * 10 - 1, -1)

    def _ten(
        self, places: Places, text: bytes, base: int, first: int, start: bytes
    ) -> Iterator[tuple[bytes, bytes]]:
        high = base + min(first + 10, self._dimensions[-1].size)
        for index, cid in places.items(base + first, high):
            key = b"%b%d%b" % (text, index - base, self._tail)
            if key >= start:
                yield key, cid


def _any_longer(places: Places, base: int, stride: int, number: int, size: int) -> bool:
    # Whether there may be chunks at a number of more digits that begins with this one.
    low, high = number * 10, number * 10 + 10
    while number and low < size:
        if places.any(base + low * stride, base + min(high, size) * stride):
            return True
        low, high = low * 10, high * 10
    return False
