"""The tree over one block reader, with a cache of decoded nodes and of sorted directories."""

from collections.abc import Iterator, Sequence
from threading import Lock

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.codec import dag_pb
from mstfs.codec.dag_pb import KIND_DIRECTORY, PBNode, UnixfsData
from mstfs.errors import MstfsError, Refused
from mstfs.tree.interface import Applied, Edit, Entry, OnMissing, TreeDiff
from mstfs.tree.node_cache import NodeCache
from mstfs.tree.ordered import OrderedTree, behind
from mstfs.tree.unixfs import diff as diffs
from mstfs.tree.unixfs import directory, file, path
from mstfs.tree.unixfs.directory import Dirent, Listing
from mstfs.tree.unixfs.file import DIRECTORY, Attributes
from mstfs.tree.unixfs.node import FILES, UnixfsNode, decode
from mstfs.tree.unixfs.path import Place

EMPTY_BLOCK = dag_pb.encode(PBNode((), dag_pb.encode_data(UnixfsData(KIND_DIRECTORY))))
"""The block of a directory without dirents."""

EMPTY_CID = cids.for_block(EMPTY_BLOCK, cids.DAG_PB)
"""Its CID in version 1, with sha2-256."""

# What CPython takes for a node and for each link in it, beyond the bytes of names and data.
_NODE_COST = 700
_LINK_COST = 280

_LISTED = 1 << 17
"""Dirents in the sorted directories that are held."""


def cost_of(node: UnixfsNode) -> int:
    """About the bytes that a decoded node takes."""
    return _NODE_COST + len(node.data) + _LINK_COST * len(node.links) + sum(map(len, node.names))


class UnixfsTree(OrderedTree):
    """Every UnixFS tree whose blocks `blocks` can read. Errors and answers are those of `Tree`.

    Keys are paths, entries are files and symbolic links. `cache_bytes` bounds the memory for decoded nodes;
    content is never held. Safe to use from several threads if the block reader is.
    """

    def __init__(self, blocks: BlockReader, cache_bytes: int = 16 << 20) -> None:
        self.blocks = blocks
        # Without the spare place, each name that is looked up in a huge plain directory would decode it anew.
        self._cache = NodeCache(cache_bytes, cost_of, spare=True)
        self._lock = Lock()
        self._read_up_to = (b"", 0)
        self._listings: dict[bytes, Listing] = {}
        self._listed = 0

    def node(self, cid: bytes) -> UnixfsNode:
        """The decoded node with this CID, checked as a single node."""
        node = self._cache.get(cid)
        if node is None:
            node = decode(cid, self.blocks.get(cid))
            # Content is for the caches of those who read it; here it would push out what leads to it.
            if node.links or node.kind not in FILES or not node.data:
                self._cache.put(cid, node)
        return node

    # --- directories --------------------------------------------------------------------------

    def lookup(self, cid: bytes, name: bytes) -> bytes | None:
        """The CID under one name in the directory `cid`, or None; see `directory.lookup`."""
        return directory.lookup(self.node, cid, name)

    def entries(self, cid: bytes, on_missing: OnMissing | None = None) -> Iterator[Dirent]:
        """The dirents of the directory `cid` in the order of its blocks; see `directory.entries`."""
        return directory.entries(self.node, cid, on_missing)

    def listing(self, cid: bytes, on_missing: OnMissing | None = None) -> Listing:
        """The dirents of the directory `cid` by name; see `directory.listing`. Do not change the lists."""
        held = self._listings.get(cid)
        if held is not None:
            return held
        whole = True

        def tell(error: MstfsError) -> None:
            nonlocal whole
            whole = False
            if on_missing is not None:
                on_missing(error)

        found = directory.listing(self.node, cid, None if on_missing is None else tell)
        if whole and len(found.names) <= _LISTED:
            with self._lock:
                if self._listed + len(found.names) > _LISTED:
                    self._listings = {}
                    self._listed = 0
                if cid not in self._listings:
                    self._listings[cid] = found
                    self._listed += len(found.names) + 1
        return found

    # --- files and symbolic links -------------------------------------------------------------

    def attributes(self, cid: bytes) -> Attributes:
        """Kind, size, mode and mtime of what `cid` is; reads one block."""
        return file.attributes(self.node, cid)

    def size(self, cid: bytes) -> int:
        """The bytes that the file `cid` claims to have; reads one block."""
        return file.size(self.node, cid)

    def read(self, cid: bytes, offset: int, length: int) -> bytes:
        """A range of the file `cid`, reading only blocks that it needs; see `file.read`."""
        return file.read(self.node, cid, offset, length, self.expect_after(cid, offset, length))

    def expect_after(self, cid: bytes, offset: int, length: int) -> file.Expect | None:
        """What is to be told of the blocks behind a range, if this range follows the one before it."""
        goes_on = self._read_up_to == (cid, offset)
        self._read_up_to = cid, offset + length
        return self.blocks.expect if goes_on else None

    def pieces(self, cid: bytes, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """A range of the file `cid` block by block; see `file.pieces`."""
        return file.pieces(self.node, cid, offset, length)

    def target(self, cid: bytes) -> bytes:
        """What the symbolic link `cid` points to; any bytes."""
        return file.target(self.node, cid)

    # --- by path ------------------------------------------------------------------------------

    def resolve(self, root: bytes, key: bytes) -> bytes | None:
        """The CID of what stands at a path, directories too, or None; the empty path is the root."""
        return path.resolve(self.node, root, key)

    def places(
        self, root: bytes, prefix: bytes = b"", on_missing: OnMissing | None = None
    ) -> Iterator[Place]:
        """Everything below `root` in key order, directories too; see `path.places`."""
        return path.places(self.node, self.listing, root, prefix, behind(prefix), on_missing)

    def get(self, root: bytes, key: bytes) -> bytes | None:
        """The CID of the file or symbolic link at a path; None for a directory."""
        cid = path.resolve(self.node, root, key)
        return None if cid is None or path.kind_of(self.node, cid) == DIRECTORY else cid

    def between(
        self, root: bytes, start: bytes, end: bytes | None, on_missing: OnMissing | None
    ) -> Iterator[Entry]:
        for place in path.places(self.node, self.listing, root, start, end, on_missing):
            if place.kind != DIRECTORY:
                yield Entry(place.path, place.cid)

    def apply(self, root: bytes, edits: Sequence[Edit]) -> Applied:
        """Refused: UnixFS trees are read only so far."""
        raise Refused("UnixFS trees can be read, not changed")

    def diff(self, a: bytes, b: bytes) -> TreeDiff:
        """See `diff.diff` for what the sets of blocks mean here."""
        return diffs.diff(self.node, a, b)

    def empty(self) -> tuple[bytes, bytes]:
        return EMPTY_CID, EMPTY_BLOCK

    def nodes(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every DAG-PB and raw block below `root` in pre-order, each once, chunks of files too.

        A link to a block of another codec is not followed: what is behind it is no part of the file system.
        """
        seen: set[bytes] = set()
        stack = [root]
        while stack:
            cid = stack.pop()
            codec = cids.codec_of(cid)
            if cid in seen or codec not in (cids.DAG_PB, cids.RAW):
                continue
            seen.add(cid)
            block = self.blocks.get(cid)
            yield cid, block
            if codec == cids.DAG_PB:
                stack.extend(reversed(decode(cid, block).links))
