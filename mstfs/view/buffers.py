"""What was written to an open file and is not stored yet: changed chunks over a base."""

from collections.abc import Callable, Iterable

from mstfs.staging.files import CHUNK_BYTES


class Buffer:
    """A file's bytes while it is being written.

    `load(n)` gives chunk `n` of the base (at most 64 KiB; bytes that it lacks are zeros). Only
    changed chunks are held here. `dirty` is true from the first change until `clean`; `changes` counts
    them. A value that was `made` of the bytes before the close holds for its key, while nothing changes.
    """

    def __init__(self, size: int, load: Callable[[int], bytes]) -> None:
        self.size = size
        self.base_size = size
        self.load = load
        self.chunks: dict[int, bytearray] = {}
        self.dirty = False
        self.changes = 0
        self._made: tuple[bytes, int, bytes] | None = None

    def made(self, key: bytes) -> bytes | None:
        """The value of a key that was made of what is in the buffer now, if any was.

        The same bytes may be another value under another key: some are encrypted, and some are not.
        """
        made = self._made
        return made[2] if made is not None and made[:2] == (key, self.changes) else None

    def was_made(self, key: bytes, value: bytes, changes: int) -> None:
        """The value of a key was made of the bytes that were there after so many changes."""
        self._made = key, changes, value

    def _base(self, number: int) -> bytearray:
        start = number * CHUNK_BYTES
        if start >= self.base_size:
            return bytearray()
        return bytearray(self.load(number)[: self.base_size - start])

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`; shorter only at the end of the file."""
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        out = bytearray(end - offset)
        for number in range(offset // CHUNK_BYTES, (end - 1) // CHUNK_BYTES + 1):
            chunk = self.chunks.get(number)
            data = chunk if chunk is not None else self._base(number)
            start = number * CHUNK_BYTES
            first, last = max(offset - start, 0), min(end - start, len(data))
            if first < last:
                out[start + first - offset : start + last - offset] = data[first:last]
        return bytes(out)

    def write(self, offset: int, data: bytes) -> None:
        """Put `data` at `offset`; a gap behind the old end reads as zeros."""
        if not data:
            return  # Nothing written extends nothing.
        end = offset + len(data)
        position = offset
        while position < end:
            number, inside = divmod(position, CHUNK_BYTES)
            count = min(CHUNK_BYTES - inside, end - position)
            chunk = self.chunks.get(number)
            if chunk is None:
                chunk = self.chunks[number] = self._base(number)
            if len(chunk) < inside:
                chunk.extend(bytes(inside - len(chunk)))
            chunk[inside : inside + count] = data[position - offset : position - offset + count]
            position += count
        self.size = max(self.size, end)
        self.dirty = True
        self.changes += 1

    def truncate(self, size: int) -> None:
        """Cut the file, or extend it with zeros."""
        if size < self.size:
            last, inside = divmod(size, CHUNK_BYTES)
            for number in [
                number for number in self.chunks if number > last or (number == last and not inside)
            ]:
                del self.chunks[number]
            if inside:
                # The rest of the last chunk must read as zeros if the file grows again.
                chunk = self.chunks.get(last)
                if chunk is None:
                    chunk = self.chunks[last] = self._base(last)
                del chunk[inside:]
            self.base_size = min(self.base_size, size)
        self.size = size
        self.dirty = True
        self.changes += 1

    def changed_bytes(self) -> int:
        """Memory held by changed chunks, in bytes."""
        return len(self.chunks) * CHUNK_BYTES

    def clean(self, load: Callable[[int], bytes]) -> None:
        """The changes are stored: read them through `load` from now on."""
        self.load = load
        self.base_size = self.size
        self.chunks = {}
        self.dirty = False

    def stored(self, chunks: Iterable[int], size: int, load: Callable[[int], bytes]) -> None:
        """Some of the changes are stored: read these, up to `size`, through `load` from now on."""
        self.load = load
        self.base_size = size
        for number in list(chunks):
            del self.chunks[number]
