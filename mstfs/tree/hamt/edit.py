"""A new tree out of an old one and a sorted batch of edits.

The edits go down the old tree together, level by level, each into the slot that its hash names, and change
buckets where they arrive. A bucket that becomes too full is emptied into a new node below it, by the same
means. Then the touched nodes are made anew from the bottom up, each once; in a canonical layout a subtree
whose entries fit into a bucket becomes one. Nodes that no real change reached stay as they are.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from mstfs.codec import cid as cids
from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, NodeError, Refused
from mstfs.limits import KEY_BYTES, NODE_BYTES
from mstfs.tree.hamt.hashes import KeyHash
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import NO_INLINE, Bucket, HamtNode, Load, inline_data
from mstfs.tree.interface import Applied, Edit

PROBED_NODES = 256
"""Nodes that are read to see whether a subtree is sparse."""


class Step(NamedTuple):
    """An edit on its way down: the digest of its key, the key, and the CID to put or None."""

    digest: bytes
    key: bytes
    cid: bytes | None


InlineOf: TypeAlias = Callable[[bytes], bytes | None]
"""From a CID that does not carry its value to the value, if it must go inside the node: no store holds it."""


def apply(
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
    steps = [Step(function(key), key, None if cid is None else layout.spelled(cid)) for key, cid in edits]
    return Batch(load, layout, function, hash_code, inline_of).run(root, steps)


def check(layout: Layout, edits: Sequence[Edit]) -> KeyHash:
    """Raises what `apply` raises for a batch that makes no sense; the function that places the keys."""
    if not layout.writable:
        raise Refused(f"a {layout.name} can be read, but not edited")
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
    function = layout.hash
    if function is None:
        raise Refused("nobody here knows the function that places the keys of this tree")
    return function


class _Work:
    """One touched node. `cid` is None for a node that the old tree does not have."""

    __slots__ = ("buckets", "changed", "children", "cid", "level", "links", "shrunk", "steps")

    def __init__(self, cid: bytes | None, level: int, steps: Sequence[Step]) -> None:
        self.cid = cid
        self.level = level
        self.steps = steps
        self.buckets: dict[int, Bucket] = {}
        self.links: dict[int, bytes] = {}
        self.children: dict[int, _Work] = {}
        self.changed = cid is None
        self.shrunk = False  # an entry went away in it or below it


class Batch:
    """One run of `apply`."""

    def __init__(
        self, load: Load, layout: Layout, function: KeyHash, hash_code: int, inline_of: InlineOf
    ) -> None:
        self._inline_of = inline_of
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
        if work.level >= self._layout.levels:
            if work.cid is not None:
                raise NodeError(work.cid, "tree-height", "hangs deeper than the hash of a key reaches")
            raise LimitExceeded(
                f"more than {self._layout.bucket_size} keys have the hash of {work.steps[0].key[:100]!r}"
            )
        if work.cid is not None:
            node = self._load(work.cid, work.level)
            self._opened.add(work.cid)
            work.buckets = node.buckets()
            work.links = dict(node.links)
            if node.inline:
                self._inline.update(node.inline)
        slots: dict[int, list[Step]] = {}
        slot_of = self._layout.slot
        for step in work.steps:
            try:
                slots.setdefault(slot_of(step.digest, work.level), []).append(step)
            except IndexError:
                if step.cid is not None:
                    raise LimitExceeded(
                        f"the hash of {step.key[:100]!r} is too short to tell it from other keys"
                    ) from None
        into = self._into_bucket if self._layout.canonical else self._into_bucket_in_turn
        for slot, steps in slots.items():
            link = work.links.get(slot)
            rest = into(work, slot, steps) if link is None else steps
            if rest:
                child = work.children[slot] = _Work(link, work.level + 1, rest)
                self._works.append(child)

    def _into_bucket(self, work: _Work, slot: int, steps: Sequence[Step]) -> Sequence[Step]:
        # All steps at once. What does not fit is returned for a new child.
        old = work.buckets.get(slot, {})
        bucket = dict(old)
        for _, key, cid in steps:
            if cid is None:
                bucket.pop(key, None)
            elif bucket.get(key) != cid:
                bucket[key] = cid
                if work.level == 0 or work.cid is not None:  # else it was pushed down, and is not new
                    self._put[key] = cid
        if bucket == old:
            return ()
        work.changed = True
        work.shrunk = work.shrunk or not old.keys() <= bucket.keys()
        work.buckets.pop(slot, None)
        if len(bucket) > self._layout.bucket_size:
            return self._steps(bucket)
        if bucket:
            work.buckets[slot] = bucket
        return ()

    def _into_bucket_in_turn(self, work: _Work, slot: int, steps: Sequence[Step]) -> Sequence[Step]:
        # One step after the other, where the order of entries counts: the newest is the last one of its
        # bucket, but goes into a new child before those that it pushes out.
        old = work.buckets.get(slot, {})
        bucket = dict(old)
        for turn, step in enumerate(steps):
            _, key, cid = step
            if cid is None:
                bucket.pop(key, None)
            elif key in bucket or len(bucket) < self._layout.bucket_size:
                bucket[key] = cid
            else:
                work.changed = True
                work.buckets.pop(slot, None)
                return [step, *self._steps(bucket), *steps[turn + 1 :]]
        if list(bucket.items()) != list(old.items()):
            work.changed = True
            work.buckets.pop(slot, None)
            if bucket:
                work.buckets[slot] = bucket
        return ()

    def _steps(self, bucket: Bucket) -> list[Step]:
        return [Step(self._function(key), key, cid) for key, cid in bucket.items()]

    def _settle_inline(self) -> None:
        # By now every touched node was read, and `inline_of` knows what stands inside of them.
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
            work.links.pop(slot, None)
            entries = self._collapsed(child)
            if entries is None:
                work.links[slot] = self._make(child)
            elif entries:
                work.buckets[slot] = entries

    def _collapsed(self, work: _Work) -> Bucket | None:
        # The entries of a changed node that is not to stand on its own; None if it is.
        if not self._layout.canonical:
            return None if work.buckets or work.links else {}
        room = self._layout.bucket_size
        entries: Bucket = {}
        for bucket in work.buckets.values():
            if len(entries) + len(bucket) > room:
                return None
            entries.update(bucket)
        # Only a tree that somebody else left sparse can have links and so few entries; as they have always
        # been there, this is looked into where something went away, and nowhere else.
        if work.links and (not work.shrunk or not self._gather(work, entries, room)):
            return None
        return entries

    def _gather(self, work: _Work, entries: Bucket, room: int) -> bool:
        # Add the entries below the links of a node; False once there are too many.
        if any(link in self._made for link in work.links.values()):
            return False  # a child that was made anew would have collapsed itself
        stack = [(link, work.level + 1) for link in work.links.values()]
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
        inline = NO_INLINE
        if self._inline:
            keys = [key for bucket in work.buckets.values() for key in bucket]
            inline = {key: self._inline[key] for key in keys if key in self._inline}
        block = self._layout.encode(work.buckets, work.links, inline, work.level)
        if len(block) > NODE_BYTES:
            raise LimitExceeded(f"a node of {len(block)} bytes is over the limit of {NODE_BYTES} bytes")
        cid = cids.for_block(block, cids.DAG_CBOR, self._hash_code)
        self._made[cid] = block
        return cid


def _nothing(cid: bytes, level: int) -> HamtNode:
    raise MissingBlock(cid)


def build(layout: Layout, entries: Sequence[tuple[bytes, bytes]], hash_code: int) -> Applied:
    """A new tree with these entries, in ascending key order, and all of its nodes."""
    edits = [Edit(key, cid) for key, cid in entries]
    function = check(layout, edits)
    steps = [Step(function(key), key, layout.spelled(cid)) for key, cid in entries]
    return Batch(_nothing, layout, function, hash_code, lambda cid: None).run(None, steps)
