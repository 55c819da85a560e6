"""A node while it is changed."""

from typing import TYPE_CHECKING, Protocol

from mstfs.tree.hamt.node import NO_INLINE, Bucket, HamtNode, Inline, Links

if TYPE_CHECKING:
    from mstfs.tree.hamt.layout import Layout


class Draft(Protocol):
    """One node of one layout, on its way from a block to another one.

    `inline` has the values that stood inside of the node, by key.
    """

    inline: Inline

    @property
    def links(self) -> Links:
        """CIDs of child nodes by slot. Not to be changed."""
        ...

    def link(self, slot: int) -> bytes | None:
        """The CID of the child in a slot."""
        ...

    def bucket(self, slot: int) -> Bucket:
        """The entries in a slot, as a map of its own; empty where there is none."""
        ...

    def few(self, most: int) -> Bucket | None:
        """All entries, or None if there are more than so many."""
        ...

    def put(self, slot: int, content: Bucket | bytes) -> None:
        """Make a slot hold these entries, or nothing where there are none, or the CID of a child."""
        ...

    def encode(self, inline: Inline, level: int) -> bytes:
        """The block; `inline` has values that are to stand inside of nodes, by key."""
        ...


class NodeDraft(Draft):
    """The draft of a node of any layout; without a `node` it begins empty."""

    def __init__(self, layout: "Layout", node: HamtNode | None) -> None:
        self.inline = NO_INLINE if node is None else node.inline
        self._layout = layout
        self._buckets = {} if node is None else node.buckets()
        self._links = {} if node is None else dict(node.links)

    @property
    def links(self) -> Links:
        return self._links

    def link(self, slot: int) -> bytes | None:
        return self._links.get(slot)

    def bucket(self, slot: int) -> Bucket:
        return dict(self._buckets.get(slot, {}))

    def few(self, most: int) -> Bucket | None:
        entries: Bucket = {}
        for bucket in self._buckets.values():
            if len(entries) + len(bucket) > most:
                return None
            entries.update(bucket)
        return entries

    def put(self, slot: int, content: Bucket | bytes) -> None:
        self._buckets.pop(slot, None)
        self._links.pop(slot, None)
        if isinstance(content, bytes):
            self._links[slot] = content
        elif content:
            self._buckets[slot] = content

    def encode(self, inline: Inline, level: int) -> bytes:
        if inline:
            keys = [key for bucket in self._buckets.values() for key in bucket]
            inline = {key: inline[key] for key in keys if key in inline}
        return self._layout.encode(self._buckets, self._links, inline, level)
