"""The tree over one block reader, with caches of decoded nodes and of key tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import BlockError, CidError, MissingBlock, MissingBlocks, MstfsError, NodeError, Refused
from mstfs.tree.hamt import diff as diffs
from mstfs.tree.hamt import edit, placement, search
from mstfs.tree.hamt import table as tables
from mstfs.tree.hamt.filecoin import Filecoin
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import IDENTITY_DATA_BYTES, NO_INLINE, HamtNode, Load, inline_cid
from mstfs.tree.hamt.sniff import sniff
from mstfs.tree.hamt.table import KeyTable, TableCache
from mstfs.tree.interface import UNREADABLE, Applied, Edit, Entry, OnMissing, Tree, TreeDiff
from mstfs.tree.node_cache import NodeCache

# What CPython takes for a node, for each entry and link in it, and for each inline value, beyond the bytes of
# keys and values: headers of objects, slots of maps, the digests.
_NODE_COST = 700
_ENTRY_COST = 190
_LINK_COST = 140

_SCAN_NODES = 1024
"""Nodes that one walk over a whole tree may put into the cache."""

_ROOTS = 256
"""Roots of which the layout and the node are remembered."""

_FEW_ENTRIES = 4096
"""Entries of a tree that fits into the cache, whatever its cache is."""


def cost_of(node: HamtNode) -> int:
    """About the bytes that a decoded node takes."""
    cost = _NODE_COST + _LINK_COST * len(node.links)
    cost += _ENTRY_COST * len(node.entries) + sum(map(len, node.entries))
    if node.inline:
        cost += _ENTRY_COST * len(node.inline) + 2 * sum(map(len, node.inline.values()))
    return cost


class _Tally:
    """What look-ups cost: one for each, and the entries of each node that the cache did not have."""

    entries = 0


@dataclass
class _Root:
    """What is known of one root: how to read it, and how to find keys, if `layout` has the placement of all.

    Once what was `spent` on look-ups is more than `bearable`, a walk over the whole tree may be cheaper.
    """

    layout: Layout
    load: Load
    find: search.Find | None
    spent: _Tally
    bearable: int = _FEW_ENTRIES


class _Home(NamedTuple):
    """Where a value stands that is inside a node and does not fit into a CID."""

    node: bytes
    level: int
    key: bytes
    layout: Layout


class HamtTree(Tree):
    """Every HAMT whose nodes `blocks` can read. Errors and answers are those of `Tree`.

    Each root says itself what it is, so one object serves roots of several layouts; `layout` is that of
    `empty`, and with a `Filecoin` layout every root is of that layout. `cache_bytes` bounds the memory for
    decoded nodes, `table_bytes` that for key tables, of which the last one is kept in any case.
    `hash_code` is the hash function of `empty`; edited trees go on with that of their root.
    Safe to use from several threads if the block reader is.

    Two answers differ from the promise of `Tree.apply`: trees of py-hamt 2 depend on their history, and one
    whose keys stand one level off is written anew as a whole, so that py-hamt 2.4 finds them.
    """

    def __init__(
        self,
        blocks: BlockReader,
        layout: Layout,
        cache_bytes: int = 16 << 20,
        table_bytes: int = 64 << 20,
        hash_code: int | None = None,
    ) -> None:
        self.blocks = blocks
        self.values: BlockReader = _Values(self)
        self._own = layout
        self._hash_code = layout.node_hash if hash_code is None else hash_code
        self._cache_bytes = cache_bytes
        self._caches: dict[Layout, NodeCache[HamtNode]] = {}
        self._tables = TableCache(table_bytes)
        self._roots: dict[bytes, _Root] = {}
        self._homes: dict[bytes, _Home] = {}

    # --- roots and nodes ----------------------------------------------------------------------------

    def layout(self, root: bytes) -> Layout:
        """The layout of a root with the placement of its keys.

        Raises Refused where some keys are not where one known function puts them.
        """
        known = self._root(root)
        if known.find is None:
            raise Refused(f"keys of {cids.to_text(root)} are not where a known hash function puts them")
        return known.layout

    def _root(self, root: bytes) -> _Root:
        known = self._roots.get(root)
        if known is not None:
            return known
        layout: Layout | None = self._own
        if not isinstance(layout, Filecoin):
            layout = sniff(self.blocks.get(root))
            if layout is None or isinstance(layout, Filecoin):
                raise NodeError(root, "not-hamt", "is not the root of a HAMT that is known")
            if root == self.empty()[0]:
                layout = self._own  # a node without pointers cannot tell whether they would be bare
        spent = _Tally()
        load = self._loader(layout, spent=spent)
        found = placement.find(load, root, layout)
        layout = found.layout or layout
        known = _Root(layout, load, search.finder(load, root, layout) if found.exact else None, spent)
        if found.settled:
            if len(self._roots) >= _ROOTS:
                self._roots = {}
            self._roots[root] = known
        return known

    def _loader(self, layout: Layout, scan: bool = False, spent: _Tally | None = None) -> Load:
        # In a scan few nodes go into the cache: a walk over a big tree must not push everything else out, and
        # what is dropped at once is cheaper than what is kept.
        form = layout.form()
        cache = self._caches.get(form)
        if cache is None:
            cache = self._caches.setdefault(form, NodeCache(self._cache_bytes, cost_of))
        held, fetch, decode = cache.get, self._fetch, layout.decode
        room = _SCAN_NODES if scan else -1
        tally = _Tally() if spent is None else spent

        def load(cid: bytes, level: int) -> HamtNode:
            nonlocal room
            # A root may be spelled in another way than a child, so it has a name of its own.
            name = cid if level else b"\0" + cid
            node = held(name)
            if node is None:
                node = decode(cid, fetch(cid), level)
                tally.entries += len(node.entries)
                if node.inline:
                    self._note_inline(cid, level, layout, node)
                if room:
                    room -= 1
                    cache.put(name, node)
            return node

        return load

    def _fetch(self, cid: bytes) -> bytes:
        try:
            return self.blocks.get(cid)
        except CidError as error:
            raise NodeError(cid, "node-link", f"is linked in a way that proves nothing: {error}") from None

    # --- inline values ------------------------------------------------------------------------------

    def _note_inline(self, cid: bytes, level: int, layout: Layout, node: HamtNode) -> None:
        for key, data in node.inline.items():
            if len(data) > IDENTITY_DATA_BYTES:
                self._homes[inline_cid(data)] = _Home(cid, level, key, layout)

    def inline_value(self, cid: bytes) -> bytes | None:
        """The value with this CID, if it stands inside a node that was read and does not fit into its CID."""
        home = self._homes.get(cid)
        if home is None:
            return None
        return self._loader(home.layout)(home.node, home.level).inline[home.key]

    # --- reading --------------------------------------------------------------------------------------

    def get(self, root: bytes, key: bytes) -> bytes | None:
        table = self._tables.get(root)
        if table is not None:
            cid = table.get(key)
            if cid is not None or not table.holes:
                return cid
        known = self._roots.get(root) or self._root(root)
        find = known.find
        if find is not None:
            spent = known.spent
            spent.entries += 1
            if spent.entries > known.bearable:
                self._weigh(root, known)
            return find(key)
        table = self._table(root)
        cid = table.get(key)
        if cid is None:
            table.tell(None)
        return cid

    def get_many(self, root: bytes, keys: Sequence[bytes]) -> list[bytes | None]:
        known = self._roots.get(root) or self._root(root)
        find, digest_of = known.find, known.layout.hash
        if find is None or digest_of is None or self._tables.get(root) is not None:
            return super().get_many(root, keys)
        # In the order of the tree, so that no node is read twice, however little the cache holds. It costs
        # the less the more keys there are, and says nothing about single look-ups.
        spent = known.spent.entries
        found = {key: find(key) for key in sorted(keys, key=digest_of)}
        known.spent.entries = spent
        return [found[key] for key in keys]

    def _weigh(self, root: bytes, known: _Root) -> None:
        # Where many keys are asked for, and where the nodes do not fit into the cache and are read again and
        # again, a key table answers faster, and takes less room. It is made once look-ups have cost as much
        # as that does, if it may be held.
        entries = search.entries_about(known.load, root)
        known.bearable = max(known.bearable, entries)
        if known.spent.entries > known.bearable:
            known.spent.entries = 0
            if self._tables.takes(entries):
                self._table(root)

    def _table(self, root: bytes) -> KeyTable:
        table = self._tables.get(root)
        if table is not None and not any(map(self._is_mended, table.holes)):
            return table
        try:
            layout = self._root(root).layout
        except UNREADABLE as error:
            return KeyTable([], [], (error,))
        table = tables.read(self._loader(layout, scan=True), root)
        self._tables.put(root, table)
        return table

    def _is_mended(self, hole: MstfsError) -> bool:
        # Whether a subtree that could not be read may be readable by now. Only blocks come and go.
        if not isinstance(hole, BlockError):
            return False
        if isinstance(hole, MissingBlock):
            return self.blocks.has(hole.cid)
        try:
            self.blocks.get(hole.cid)
        except BlockError:
            return False
        return True

    def page(
        self,
        root: bytes,
        prefix: bytes = b"",
        after: bytes | None = None,
        limit: int | None = None,
        on_missing: OnMissing | None = None,
    ) -> list[Entry]:
        table = self._table(root)
        table.tell(on_missing)
        return table.page(prefix, after, limit)

    def walk(self, root: bytes, prefix: bytes = b"", on_missing: OnMissing | None = None) -> Iterator[Entry]:
        table = self._table(root)
        table.tell(on_missing)
        yield from table.walk(prefix)

    def columns(self, root: bytes, prefix: bytes = b"") -> tuple[list[bytes], list[bytes]]:
        """The keys and the CIDs of `page`, as two lists: the cheapest way to take in a whole tree."""
        table = self._table(root)
        table.tell(None)
        low, high = table.bounds(prefix)
        return table.keys[low:high], table.cids[low:high]

    def seek(self, root: bytes, key: bytes, on_missing: OnMissing | None = None) -> Entry | None:
        table = self._table(root)
        table.tell(on_missing)
        return table.seek(key)

    def missing(self, root: bytes) -> tuple[bytes, ...]:
        """The CIDs of all nodes that are missing and that others name: what a fetcher would ask for next."""
        holes = self._table(root).holes
        return tuple(dict.fromkeys(hole.cid for hole in holes if isinstance(hole, MissingBlock)))

    def sample(self, root: bytes, count: int) -> list[Entry]:
        """Some entries of a tree, at most `count` and always the same ones, read from a few of its nodes.

        What cannot be read is passed over, but for the root.
        """
        return search.sample(self._root(root).load, root, count)

    # --- editing and comparing ------------------------------------------------------------------------

    def apply(self, root: bytes, edits: Sequence[Edit]) -> Applied:
        layout = self.layout(root)
        code, _ = cids.hash_of(root)
        if code == cids.IDENTITY:
            code = layout.node_hash
        if layout.skip:
            return self._apply_anew(root, layout.placed(layout.key_hash), edits, code)
        return edit.apply(self._fetch, self._root(root).load, root, layout, edits, code, self._inline_of)

    def _inline_of(self, cid: bytes) -> bytes | None:
        # A value that stood inside a node and that no store has would be lost if the new node only linked it.
        return None if cid not in self._homes or self.blocks.has(cid) else self.inline_value(cid)

    def _apply_anew(self, root: bytes, layout: Layout, edits: Sequence[Edit], code: int) -> Applied:
        edit.check(layout, edits)
        entries = dict(self.page(root))
        before = dict(entries)
        for key, cid in edits:
            if cid is None:
                entries.pop(key, None)
            else:
                entries[key] = layout.spelled(cid)
        if entries == before:
            return Applied(root, {})
        return edit.build(layout, sorted(entries.items()), code)

    def diff(self, a: bytes, b: bytes) -> TreeDiff:
        if a == b:
            return TreeDiff((), frozenset(), frozenset())
        missing: list[bytes] = []
        loads: list[Load] = []
        for root in (a, b):
            try:
                loads.append(self._root(root).load)
            except MissingBlock as error:
                missing.append(error.cid)
        if missing:
            raise MissingBlocks(missing)
        return diffs.diff(loads[0], a, loads[1], b)

    def empty(self) -> tuple[bytes, bytes]:
        block = self._own.encode({}, {}, NO_INLINE, 0)
        return cids.for_block(block, cids.DAG_CBOR, self._hash_code), block

    def nodes(self, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        for cid, block in self.stream(root):
            if block is not None:
                yield cid, block

    def stream(self, root: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """CIDs in pre-order: nodes with their blocks, values with None but for those inside of nodes."""
        yield from search.stream(self.blocks.get, root, self._root(root).layout)


class _Values(BlockReader):
    """The blocks of a tree's reader, and the values that stand inside nodes which the tree has read."""

    def __init__(self, tree: HamtTree) -> None:
        self._tree = tree

    def get(self, cid: bytes) -> bytes:
        data = self._tree.inline_value(cid)
        return self._tree.blocks.get(cid) if data is None else data

    def has(self, cid: bytes) -> bool:
        return self._tree.inline_value(cid) is not None or self._tree.blocks.has(cid)

    def length(self, cid: bytes) -> int:
        data = self._tree.inline_value(cid)
        return self._tree.blocks.length(cid) if data is None else len(data)
