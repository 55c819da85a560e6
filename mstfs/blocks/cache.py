"""Recently read blocks, kept in memory."""

import threading
from collections import OrderedDict

from mstfs.blocks.interface import BlockReader

ENTRY_BYTES = 200
"""What an entry costs beside its block: two bytes objects and a place in the dict."""


class BlockCache(BlockReader):
    """Keeps the blocks that were read last, up to `capacity` bytes in all, over another reader.

    Blocks never change, so a kept one is right for ever, even when the reader below has dropped it.
    One that would take more than an eighth of the room is not kept. Any number of threads may read.
    """

    def __init__(self, reader: BlockReader, capacity: int) -> None:
        self.reader = reader
        self.capacity = capacity
        self._blocks: OrderedDict[bytes, bytes] = OrderedDict()
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes taken at present."""
        return self._used

    def get(self, cid: bytes) -> bytes:
        data = self._blocks.get(cid)
        if data is None:
            data = self.reader.get(cid)
            self._keep(cid, data)
            return data
        # suppress() would cost more than all the rest of a hit.
        try:  # noqa: SIM105
            self._blocks.move_to_end(cid)
        except KeyError:
            # Another thread has pushed it out in between; the bytes are as good as before.
            pass
        return data

    def has(self, cid: bytes) -> bool:
        return cid in self._blocks or self.reader.has(cid)

    def clear(self) -> None:
        """Forget every block."""
        with self._lock:
            self._blocks.clear()
            self._used = 0

    def _keep(self, cid: bytes, data: bytes) -> None:
        cost = len(data) + ENTRY_BYTES
        if cost * 8 > self.capacity:
            return
        with self._lock:
            # Two threads may have read the same block side by side.
            if cid in self._blocks:
                return
            self._blocks[cid] = data
            self._used += cost
            while self._used > self.capacity:
                _, dropped = self._blocks.popitem(last=False)
                self._used -= len(dropped) + ENTRY_BYTES
