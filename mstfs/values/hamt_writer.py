"""How what a HAMT stores under a key becomes blocks: one block, a UnixFS file, or nothing but a CID."""

from mstfs.codec import byte_string
from mstfs.codec import cid as cids
from mstfs.errors import LimitExceeded, Refused
from mstfs.limits import BLOCK_BYTES
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import IDENTITY_DATA_BYTES, inline_cid
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.unixfs.builder import CHUNK_BYTES, build_file
from mstfs.values.interface import Making, ReadRange, ValueOptions
from mstfs.values.sources import RangeStream, whole

CHUNK_BYTES_3 = 1 << 20
"""The chunks that py-hamt 3 asks Kubo for."""

_LINK_HEAD = b"\xd8\x2a"


class HamtWriter:
    """Makes blocks for values of one layout; `hash_code` is the hash function of their CIDs.

    What is larger than the chunks of the layout's own writer becomes a UnixFS file as Kubo makes it, or with
    `large` "raw" one block as long as blocks may be. Pointers that lack a codec name single blocks only.
    """

    def __init__(self, layout: Layout, options: ValueOptions, hash_code: int | None = None) -> None:
        usual = CHUNK_BYTES if isinstance(layout, PyHamt2) else CHUNK_BYTES_3
        self.chunk_bytes = usual if options.chunk_bytes is None else options.chunk_bytes
        if not 0 < self.chunk_bytes <= BLOCK_BYTES:
            raise Refused(f"chunks have from 1 to {BLOCK_BYTES} bytes, not {self.chunk_bytes}")
        self.hash_code = layout.node_hash if hash_code is None else hash_code
        self._layout = layout
        self._bare = isinstance(layout, PyHamt2 | PyHamt3) and layout.bare
        self._single = BLOCK_BYTES if self._bare or options.large == "raw" else self.chunk_bytes

    def stored(self, head: bytes, read: ReadRange, size: int) -> Making:
        """The CID for the bytes `head` and a file of `size` bytes, whatever they mean."""
        total = len(head) + size
        if total <= self._single:
            data = whole(head, read, size)
            cid = self._layout.spelled(cids.for_block(data, cids.RAW, self.hash_code))
            yield cid, data
            return cid
        if self._bare:
            raise LimitExceeded(
                f"a value of {total} bytes is over the limit of {BLOCK_BYTES} bytes, "
                "and pointers without a codec cannot name a UnixFS file"
            )
        built = yield from build_file(RangeStream(head, read, size), self.chunk_bytes, self.hash_code)
        return built.cid

    def typed_bytes(self, read: ReadRange, size: int) -> Making:
        """The value that is a byte string, where values stand in nodes or are linked: inside if it fits."""
        head = byte_string.head(size)
        if len(head) + size <= IDENTITY_DATA_BYTES:
            return inline_cid(whole(head, read, size))
        return (yield from self.stored(b"", read, size))

    def typed_record(self, block: bytes) -> Making:
        """The value with this DAG-CBOR form, where values stand in nodes or are linked: inside if it fits."""
        # A link in place of a value means what it links, so a value that is a link needs a block of its own.
        if len(block) <= IDENTITY_DATA_BYTES and not block.startswith(_LINK_HEAD):
            return inline_cid(block)
        cid = cids.for_block(block, cids.DAG_CBOR, self.hash_code)
        yield cid, block
        return cid
