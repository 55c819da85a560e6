"""The strict fake: a block store in a dict, for tests and for work in memory."""

from collections.abc import Iterable, Iterator

from mstfs.blocks.interface import BlockStore, check_put, verified
from mstfs.codec import cid as cids
from mstfs.errors import MissingBlock


class MemoryBlocks(BlockStore):
    """Holds blocks in memory, and checks every digest when a block is put.

    Not locked: one thread at a time may change it.
    """

    def __init__(self, blocks: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._blocks: dict[bytes, tuple[bytes, bytes]] = {}
        self._planted: set[bytes] = set()
        self.put_many(blocks)

    def get(self, cid: bytes) -> bytes:
        multihash = cids.multihash_of(cid)
        held = self._blocks.get(multihash)
        if held is not None:
            return verified(cid, held[1]) if multihash in self._planted else held[1]
        data = cids.identity_data(cid)
        if data is None:
            raise MissingBlock(cid)
        return data

    def has(self, cid: bytes) -> bool:
        return cids.multihash_of(cid) in self._blocks or cids.identity_data(cid) is not None

    def length(self, cid: bytes) -> int:
        held = self._blocks.get(cids.multihash_of(cid))
        return len(self.get(cid) if held is None else held[1])

    def may_hold(self, cid: bytes) -> bool:
        return self.has(cid)

    def put(self, cid: bytes, data: bytes) -> None:
        self.put_many([(cid, data)])

    def put_many(self, blocks: Iterable[tuple[bytes, bytes]]) -> None:
        # Everything is checked before anything is kept, so that a refused pair leaves no trace.
        accepted: dict[bytes, tuple[bytes, bytes]] = {}
        for cid, data in blocks:
            check_put(self, cid, data)
            if cids.identity_data(cid) is None:
                accepted.setdefault(cids.multihash_of(cid), (cid, bytes(data)))
        for multihash, block in accepted.items():
            if multihash not in self._blocks or multihash in self._planted:
                self._blocks[multihash] = block
                self._planted.discard(multihash)

    def delete(self, cid: bytes) -> None:
        multihash = cids.multihash_of(cid)
        self._blocks.pop(multihash, None)
        self._planted.discard(multihash)

    def plant(self, cid: bytes, data: bytes) -> None:
        """Keep bytes under a CID unchecked, as a damaged disk would; a test then reads them."""
        multihash = cids.multihash_of(cid)
        self._blocks[multihash] = (cid, data)
        self._planted.add(multihash)

    def cids(self) -> Iterator[bytes]:
        """The CID under which each block was first put, in the order of putting."""
        return iter([cid for cid, _ in self._blocks.values()])

    def __len__(self) -> int:
        return len(self._blocks)
