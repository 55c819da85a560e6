"""Rendered records, kept by CID in a cache that is sized in bytes."""

from collections import OrderedDict

from mstfs.blocks.interface import BlockReader
from mstfs.view.forms import Form


class Renderings:
    """Record files by CID. A rendering never goes stale: it depends on the block alone."""

    def __init__(self, blocks: BlockReader, form: Form, cache_bytes: int) -> None:
        self.blocks = blocks
        self.form = form
        self.cache_bytes = cache_bytes
        self.held = 0
        self.by_cid: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, cid: bytes) -> bytes:
        """The bytes of the record's file. Raises BlockError, or FormatError where the block is no record."""
        data = self.by_cid.get(cid)
        if data is not None:
            self.by_cid.move_to_end(cid)
            return data
        data = self.form.render(self.blocks.get(cid))
        self.by_cid[cid] = data
        self.held += len(data)
        while self.held > self.cache_bytes and len(self.by_cid) > 1:
            _, oldest = self.by_cid.popitem(last=False)
            self.held -= len(oldest)
        return data
