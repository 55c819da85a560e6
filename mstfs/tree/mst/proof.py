"""Proofs: the few nodes that show what a tree holds under a key, or how two roots are related.

The proof of one key is the path to it, or to the place where it would stand. The proof of changes is
what the atproto firehose carries with a commit ("inductive" or "covering" proof): with the nodes of the
new tree that it holds, the changes can be undone, and the outcome must be the root before.
Source: https://atproto.com/specs/sync, section "Commit Validation".
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from mstfs.blocks.interface import BlockReader
from mstfs.codec import cid as cids
from mstfs.errors import FormatError, MissingBlock, MissingBlocks, NodeError, ProofError
from mstfs.limits import TREE_HEIGHT
from mstfs.tree.interface import Change, Edit
from mstfs.tree.mst import edit, search
from mstfs.tree.mst.node import MstNode, decode, depth_of

Blocks = list[tuple[bytes, bytes]]
"""CIDs and blocks of nodes, the root first."""


def prove(blocks: BlockReader, root: bytes, key: bytes) -> Blocks:
    """The nodes that show what `root` has under `key`, or that it does not have the key.

    For an absent key the path goes down to its gap. `check` could do without the nodes below the
    layer of the key, other readers cannot.
    """
    recorder = _Recorder(blocks.get)
    search.get(recorder.node, root, key)
    return recorder.blocks()


def check(root: bytes, key: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The CID that the tree `root` has under `key`, None if it does not have the key.

    Trusts nothing but the root. Blocks that have nothing to do with it do no harm. Raises ProofError
    if the blocks do not suffice, or do not fit together.
    """
    held = dict(blocks)
    own = depth_of(key)
    low = b""
    high: bytes | None = None
    layer: int | None = None
    cid: bytes | None = root
    for level in range(TREE_HEIGHT + 1):
        if cid is None:
            return None
        keys, values, links = node = _checked(held, cid)
        if keys and (keys[0] <= low or (high is not None and keys[-1] >= high)):
            raise ProofError(f"node {cids.to_text(cid)} has keys outside of the gap in its parent")
        if layer is None and keys:
            layer = depth_of(keys[0])
        if any(depth_of(other) != layer for other in keys):
            raise ProofError(f"node {cids.to_text(cid)} has keys of another layer")
        if level and node.links == (None,):
            raise ProofError(f"node {cids.to_text(cid)} is empty without being a root")
        at = bisect_left(keys, key)
        if at < len(keys) and keys[at] == key:
            return values[at]
        if layer is not None and layer <= own:
            return None
        low = keys[at - 1] if at else low
        high = keys[at] if at < len(keys) else high
        layer = None if layer is None else layer - 1
        cid = links[at]
    if cid is None:
        return None
    raise ProofError(f"the path is longer than {TREE_HEIGHT} layers")


def prove_changes(blocks: BlockReader, root: bytes, keys: Iterable[bytes]) -> Blocks:
    """The nodes of `root` with which changes of `keys` can be undone, as a set in path order.

    For each key the path to it, and if the tree has it the spines of the two subtrees beside it, which
    merge when the key is taken out.
    """
    recorder = _Recorder(blocks.get)
    load = recorder.node
    for key in keys:
        cid: bytes | None = root
        for _ in range(TREE_HEIGHT + 1):
            if cid is None:
                break
            node = load(cid)
            at = bisect_left(node.keys, key)
            if at < len(node.keys) and node.keys[at] == key:
                _follow(recorder, node.links[at], -1)
                _follow(recorder, node.links[at + 1], 0)
                break
            cid = node.links[at]
    return recorder.blocks()


def check_changes(
    before: bytes, after: bytes, changes: Sequence[Change], blocks: Iterable[tuple[bytes, bytes]]
) -> None:
    """ProofError unless undoing `changes` (in any order) on the tree `after` gives the tree `before`.

    Reads only `blocks`, of which each must match its CID. Also checks that `after` has what the
    changes say: the new CIDs, and none of the deleted keys.
    """
    held = dict(blocks)
    recorder = _Recorder(lambda cid: _block(held, cid))
    undo = sorted(Edit(change.key, change.old) for change in changes)
    try:
        for change in changes:
            if search.get(recorder.node, after, change.key) != change.new:
                raise ProofError(f"the tree does not hold what the change of {change.key!r} says")
        root = edit.apply(recorder.node, after, undo).root
    except MissingBlocks as error:
        raise ProofError(f"the proof lacks node {cids.to_text(error.cids[0])}") from None
    except MissingBlock as error:
        raise ProofError(f"the proof lacks node {cids.to_text(error.cid)}") from None
    except ProofError:
        raise
    except FormatError as error:
        raise ProofError(f"the proof does not hold together: {error}") from None
    if root != before:
        raise ProofError(f"undoing the changes gives {cids.to_text(root)}, not {cids.to_text(before)}")


def _follow(recorder: "_Recorder", link: bytes | None, side: int) -> None:
    # The leftmost (0) or rightmost (-1) nodes of a subtree.
    for _ in range(TREE_HEIGHT + 1):
        if link is None:
            return
        link = recorder.node(link).links[side]


class _Recorder:
    """Loads nodes, and remembers each of them in the order of reading."""

    def __init__(self, read: Callable[[bytes], bytes]) -> None:
        self._read = read
        self._blocks: dict[bytes, bytes] = {}
        self._nodes: dict[bytes, MstNode] = {}

    def node(self, cid: bytes) -> MstNode:
        node = self._nodes.get(cid)
        if node is None:
            block = self._read(cid)
            node = self._nodes[cid] = decode(cid, block)
            self._blocks[cid] = block
        return node

    def blocks(self) -> Blocks:
        return list(self._blocks.items())


def _block(held: dict[bytes, bytes], cid: bytes) -> bytes:
    block = held.get(cid)
    if block is None:
        raise MissingBlock(cid)
    if not cids.matches(cid, block):
        raise ProofError(f"block {cids.to_text(cid)} does not match its CID")
    return block


def _checked(held: dict[bytes, bytes], cid: bytes) -> MstNode:
    try:
        return decode(cid, _block(held, cid))
    except MissingBlock:
        raise ProofError(f"the proof lacks node {cids.to_text(cid)}") from None
    except NodeError as error:
        raise ProofError(str(error)) from None
