"""Finds out where the keys of a tree are: the function and the level of its digest.

A few keys of one path are enough: each says as many bits as its path is long, and a wrong guess fits them
all only where these are very few. The layout's own guess comes first. A guess that fits most keys is right
too: then the others stand where they must not.
"""

from collections.abc import Iterable
from itertools import islice, repeat
from typing import NamedTuple

from mstfs.errors import BlockError
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.node import HamtNode, Load, flat
from mstfs.tree.interface import UNREADABLE

SAMPLE_KEYS = 12
SAMPLE_NODES = 12


class Placement(NamedTuple):
    """Where keys are.

    `layout` is None if no known placement fits. `exact` says that it fits every key that was looked at,
    `settled` is False if missing blocks could tell more.
    """

    layout: Layout | None
    exact: bool
    settled: bool


class Sample(NamedTuple):
    """A key, and the slots of its way from the root."""

    key: bytes
    slots: tuple[int, ...]


def find(load: Load, root: bytes, layout: Layout) -> Placement:
    """The layout with the placement that its tree has.

    Raises what `load` raises for the root; children that cannot be read are passed over.
    """
    samples: list[Sample] = []
    settled = True
    seen = {root}
    stack: list[tuple[bytes, tuple[int, ...]]] = [(root, ())]
    for _ in range(SAMPLE_NODES):
        if not stack or len(samples) >= SAMPLE_KEYS:
            break
        cid, path = stack.pop()
        try:
            node = load(cid, len(path))
        except UNREADABLE as error:
            if cid == root:
                raise
            settled = settled and not isinstance(error, BlockError)
            continue
        samples += _samples(node, path)
        for slot, link in list(node.links.items())[:SAMPLE_NODES]:
            if link not in seen:
                seen.add(link)
                stack.append((link, (*path, slot)))
    settled = settled or bool(samples)
    best: Layout | None = None
    most = -1
    for candidate in layout.placements():
        if candidate.hash is not None:
            count = hits(candidate, samples)
            if count > most:
                best, most = candidate, count
            if count == len(samples):
                return Placement(candidate, True, settled)
    return Placement(best if 4 * most >= 3 * len(samples) else None, False, settled)


def hits(layout: Layout, samples: Iterable[Sample]) -> int:
    """How many of these keys are where the layout would put them."""
    function = layout.hash
    assert function is not None
    count = 0
    for key, slots in samples:
        digest = function(key)
        try:
            count += all(layout.slot(digest, level) == slot for level, slot in enumerate(slots))
        except IndexError:
            continue
    return count


def _samples(node: HamtNode, path: tuple[int, ...]) -> list[Sample]:
    slots = flat(map(repeat, node.slots, node.sizes))
    pairs = zip(node.entries, slots, strict=True)
    return [Sample(key, (*path, slot)) for key, slot in islice(pairs, 2 * SAMPLE_KEYS)]
