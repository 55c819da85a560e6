"""A new tree out of an old one and a sorted batch of edits.

The edits go down the old tree together, level by level, each into the slot that its hash names, and change
buckets where they arrive. A bucket that becomes too full is emptied into a new node below it, by the same
means. Then the touched nodes are made anew from the bottom up, each once; in a canonical layout a subtree
whose entries fit into a bucket becomes one. Nodes that no real change reached stay as they are.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from operator import lt
from typing import TypeAlias

from mstfs.codec import cid as cids
from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, NodeError, Refused
from mstfs.limits import KEY_BYTES, NODE_BYTES
from mstfs.tree.hamt.draft import Draft
from mstfs.tree.hamt.hashes import KeyHash
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import Bucket, Fetch, HamtNode, Links, Load, all_common, inline_data
from mstfs.tree.interface import Applied, Edit

PROBED_NODES = 256
"""Nodes that are read to see whether a subtree is sparse."""

Step: TypeAlias = tuple[bytes, bytes, bytes | None]
"""An edit on its way down: the digest of its key, the key, and the CID to put or None."""

InlineOf: TypeAlias = Callable[[bytes], bytes | None]
"""From a CID that does not carry its value to the value, if it must go inside the node: no store holds it."""


def apply(
    fetch: Fetch,
    load: Load,
    root: bytes,
    layout: Layout,
    edits: Sequence[Edit],
    hash_code: int,
    inline_of: InlineOf = lambda cid: None,
) -> Applied:
    """The tree with the edits made, and the nodes that the old tree does not have.

    `layout` has the placement of the tree, `hash_code` names the hash function of new CIDs. Reads the nodes
    on the paths to the edited keys, and beside keys that go away those that tell whether a subtree became
    sparse. Raises MissingBlocks with all nodes of the paths that can be named as missing, Refused for edits
    out of order, keys that are no text where the layout needs it, and layouts that cannot be written,
    LimitExceeded for keys over `limits.KEY_BYTES` and for too many keys with one hash.
    """
    function = check(layout, edits)
    if not edits:
        return Applied(root, {})
    spelled = layout.spelled
    steps = [(function(key), key, None if cid is None else spelled(cid)) for key, cid in edits]
    return Batch(fetch, load, layout, function, hash_code, inline_of).run(root, steps)


def check(layout: Layout, edits: Sequence[tuple[bytes, bytes | None]]) -> KeyHash:
    """Raises what `apply` raises for a batch that makes no sense; the function that places the keys."""
    if not layout.writable:
        raise Refused(f"a {layout.name} can be read, but not edited")
    if not _is_plain(edits):
        _check_each(layout, edits)
    function = layout.hash
    if function is None:
        raise Refused("nobody here knows the function that places the keys of this tree")
    return function


def _is_plain(edits: Sequence[tuple[bytes, bytes | None]]) -> bool:
    # Whether nothing is wrong with a batch, if that can be told without a look at each edit.
    keys = [key for key, _ in edits]
    return (
        all(map(lt, keys, keys[1:]))
        and len(max(keys, key=len, default=b"")) <= KEY_BYTES
        and b"".join(keys).isascii()
        and all_common([cid for _, cid in edits if cid is not None])
    )


def _check_each(layout: Layout, edits: Sequence[tuple[bytes, bytes | None]]) -> None:
    previous: bytes | None = None
    for key, cid in edits:
        if previous is not None and key <= previous:
            raise Refused("edits must be in ascending key order")
        if len(key) > KEY_BYTES:
            raise LimitExceeded(f"a key of {len(key)} bytes is over the limit of {KEY_BYTES} bytes")
        if cid is not None:
            cids.check(cid)
        if layout.text_keys:
            try:
                key.decode("utf-8")
            except UnicodeDecodeError:
                raise Refused(f"the keys of a {layout.name} are text, and {key!r} is no UTF-8") from None
        previous = key


class _Work:
    """One touched node. `cid` is None for a node that the old tree does not have."""

    __slots__ = ("changed", "children", "cid", "draft", "level", "shrunk", "steps")

    def __init__(self, cid: bytes | None, level: int, steps: Sequence[Step]) -> None:
        self.cid = cid
        self.level = level
        self.steps = steps
        self.draft: Draft
        self.children: dict[int, _Work] = {}
        self.changed = cid is None
        self.shrunk = False  # an entry went away in it or below it


class Batch:
    """One run of `apply`."""

    def __init__(
        self,
        fetch: Fetch,
        load: Load,
        layout: Layout,
        function: KeyHash,
        hash_code: int,
        inline_of: InlineOf,
    ) -> None:
        self._inline_of = inline_of
        self._fetch = fetch
        self._load = load
        self._layout = layout
        self._function = function
        self._hash_code = hash_code
        self._works: list[_Work] = []
        self._opened: set[bytes] = set()
        self._made: dict[bytes, bytes] = {}
        self._inline: dict[bytes, bytes] = {}  # by key
        self._put: dict[bytes, bytes] = {}

    def run(self, root: bytes | None, steps: Sequence[Step]) -> Applied:
        """The outcome of the steps on a root; None stands for the tree without entries."""
        self._works.append(_Work(root, 0, steps))
        missing: dict[bytes, None] = {}
        for work in self._works:  # which grows
            try:
                self._descend(work)
            except MissingBlock as error:
                missing[error.cid] = None
        if missing:
            raise MissingBlocks(missing)
        self._settle_inline()
        for work in reversed(self._works):
            self._finish_children(work)
        top = self._works[0]
        if not top.changed and root is not None:
            return Applied(root, {})
        new = self._make(top)
        # A node that was read and made again is one of the old tree's own.
        return Applied(new, {cid: block for cid, block in self._made.items() if cid not in self._opened})

    # --- down -------------------------------------------------------------------------------------

    def _descend(self, work: _Work) -> None:
        # Let the steps of one node change its buckets, or go on to its children.
        layout, level = self._layout, work.level
        if level >= layout.levels:
            if work.cid is not None:
                raise NodeError(work.cid, "tree-height", "hangs deeper than the hash of a key reaches")
            raise LimitExceeded(
                f"more than {layout.bucket_size} keys have the hash of {work.steps[0][1][:100]!r}"
            )
        draft = work.draft = layout.draft(work.cid, level, self._fetch, self._load)
        if work.cid is not None:
            self._opened.add(work.cid)
            self._inline.update(draft.inline)
        into = self._into_bucket_in_turn
        if layout.canonical:
            into = self._into_bucket if work.cid is not None else self._into_new
        for slot, steps in self._by_slot(work).items():
            link = draft.link(slot)
            rest = into(work, slot, steps) if link is None else steps
            if rest:
                child = work.children[slot] = _Work(link, level + 1, rest)
                self._works.append(child)

    def _by_slot(self, work: _Work) -> dict[int, list[Step]]:
        layout, level = self._layout, work.level
        slots: defaultdict[int, list[Step]] = defaultdict(list)
        # A slot of eight bits, by far the most common one, is a byte of the digest.
        at = level + layout.skip if layout.width == 8 else None
        for step in work.steps:
            try:
                slots[step[0][at] if at is not None else layout.slot(step[0], level)].append(step)
            except IndexError:
                if step[2] is not None:
                    raise LimitExceeded(
                        f"the hash of {step[1][:100]!r} is too short to tell it from other keys"
                    ) from None
        return slots

    def _into_bucket(self, work: _Work, slot: int, steps: Sequence[Step]) -> Sequence[Step]:
        # All steps at once. What does not fit is returned for a new child.
        old = work.draft.bucket(slot)
        bucket = dict(old)
        for _, key, cid in steps:
            if cid is None:
                if bucket.pop(key, None) is not None:
                    work.shrunk = True
            elif bucket.get(key) != cid:
                bucket[key] = self._put[key] = cid
        if bucket == old:
            return ()
        work.changed = True
        if len(bucket) > self._layout.bucket_size:
            return self._steps(bucket, steps)
        work.draft.put(slot, bucket)
        return ()

    def _into_new(self, work: _Work, slot: int, steps: Sequence[Step]) -> Sequence[Step]:
        # The same where nothing was before, and all steps put different keys.
        bucket = {key: cid for _, key, cid in steps if cid is not None}
        if work.level == 0:
            self._put.update(bucket)
        if len(bucket) > self._layout.bucket_size:
            return steps
        work.draft.put(slot, bucket)
        return ()

    def _into_bucket_in_turn(self, work: _Work, slot: int, steps: Sequence[Step]) -> Sequence[Step]:
        # One step after the other, where the order of entries counts: the newest is the last one of its
        # bucket, but goes into a new child before those that it pushes out.
        old = work.draft.bucket(slot)
        bucket = dict(old)
        for turn, step in enumerate(steps):
            _, key, cid = step
            if cid is None:
                bucket.pop(key, None)
            elif key in bucket or len(bucket) < self._layout.bucket_size:
                bucket[key] = cid
            else:
                work.changed = True
                return [step, *self._steps(bucket, steps), *steps[turn + 1 :]]
        if list(bucket.items()) != list(old.items()):
            work.changed = True
            work.draft.put(slot, bucket)
        return ()

    def _steps(self, bucket: Bucket, steps: Sequence[Step]) -> list[Step]:
        # Of those keys that are new here, the digests are known.
        known = {key: digest for digest, key, _ in steps}
        return [(known.get(key) or self._function(key), key, cid) for key, cid in bucket.items()]

    def _settle_inline(self) -> None:
        # By now every touched node was read, and `inline_of` knows what stands inside of them.
        if not self._layout.holds_values:
            return
        for key, cid in self._put.items():
            data = inline_data(cid)
            if data is None:
                data = self._inline_of(cid)
            if data is None:
                self._inline.pop(key, None)
            else:
                self._inline[key] = data

    # --- up -----------------------------------------------------------------------------------------

    def _finish_children(self, work: _Work) -> None:
        # The children come behind their parents in the list, so they are finished.
        for slot, child in work.children.items():
            if not child.changed:
                continue
            work.changed = True
            work.shrunk = work.shrunk or child.shrunk
            entries = self._collapsed(child)
            work.draft.put(slot, self._make(child) if entries is None else entries)

    def _collapsed(self, work: _Work) -> Bucket | None:
        # The entries of a changed node that is not to stand on its own; None if it is.
        canonical = self._layout.canonical
        room = self._layout.bucket_size if canonical else 0
        entries = work.draft.few(room)
        if entries is None:
            return None
        links = work.draft.links
        # Only a tree that somebody else left sparse can have links and so few entries; as they have always
        # been there, this is looked into where something went away, and nowhere else.
        if links and not (canonical and work.shrunk and self._gather(links, work.level, entries, room)):
            return None
        return entries

    def _gather(self, links: Links, level: int, entries: Bucket, room: int) -> bool:
        # Add the entries below the links of a node; False once there are too many.
        if any(link in self._made for link in links.values()):
            return False  # a child that was made anew would have collapsed itself
        stack = [(link, level + 1) for link in links.values()]
        for _ in range(PROBED_NODES):
            if not stack:
                return True
            cid, level = stack.pop()
            if level >= self._layout.levels:
                return False
            try:
                node = self._load(cid, level)
            except MissingBlock as error:
                raise MissingBlocks([error.cid]) from None
            self._opened.add(cid)
            if len(entries) + len(node.entries) > room:
                return False
            entries.update(node.entries)
            self._inline.update(node.inline)
            stack += [(link, level + 1) for link in node.links.values()]
        return False

    def _make(self, work: _Work) -> bytes:
        block = work.draft.encode(self._inline, work.level)
        if len(block) > NODE_BYTES:
            raise LimitExceeded(f"a node of {len(block)} bytes is over the limit of {NODE_BYTES} bytes")
        cid = cids.for_block(block, cids.DAG_CBOR, self._hash_code)
        self._made[cid] = block
        return cid


def _no_block(cid: bytes) -> bytes:
    raise MissingBlock(cid)


def _no_node(cid: bytes, level: int) -> HamtNode:
    raise MissingBlock(cid)


def build(layout: Layout, entries: Sequence[tuple[bytes, bytes]], hash_code: int) -> Applied:
    """A new tree with these entries, in ascending key order, and all of its nodes."""
    function = check(layout, entries)
    spelled = layout.spelled
    steps: list[Step] = [(function(key), key, spelled(cid)) for key, cid in entries]
    return Batch(_no_block, _no_node, layout, function, hash_code, lambda cid: None).run(None, steps)
