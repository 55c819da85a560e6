"""Write a root as a CAR: what it reaches, and nothing else, in the order that can be streamed.

Source: atproto specification "Repository", "CAR File Serialization": the commit, then nodes and records in
pre-order. Other trees are written likewise: each node before its values and children.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from mstfs.blocks.car_writer import replacing, write_car
from mstfs.repo.head import Head
from mstfs.staging.workspace import Workspace
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.mst import node as nodes
from mstfs.tree.unixfs.tree import UnixfsTree

Progress = Callable[[int], None]
"""Called with the number of blocks written so far."""


def export_car(
    workspace: Workspace,
    head: Head,
    target: Path,
    *,
    since: Head | None = None,
    progress: Progress | None = None,
) -> int:
    """Write a CARv1 with one root and return its size in bytes.

    The target appears whole or not at all. With `since`, blocks that this older head reaches are left out.
    Raises BlockError where a block of the tree is missing or corrupt.
    """
    with replacing(target) as file:
        return write_export(file, workspace, head, since=since, progress=progress)


def write_export(
    file: BinaryIO,
    workspace: Workspace,
    head: Head,
    *,
    since: Head | None = None,
    progress: Progress | None = None,
) -> int:
    """Write the CAR of `export_car` to an open file, in one pass and without seeking; the bytes written."""
    return write_car(file, (head.root,), _counted(reachable(workspace, head, since), progress))


def _counted(
    blocks: Iterator[tuple[bytes, bytes]], progress: Progress | None
) -> Iterator[tuple[bytes, bytes]]:
    count = 0
    for block in blocks:
        yield block
        count += 1
        if progress is not None and not count % 1024:
            progress(count)
    if progress is not None:
        progress(count)


def reachable(workspace: Workspace, head: Head, since: Head | None = None) -> Iterator[tuple[bytes, bytes]]:
    """CID and bytes of every block that a head reaches, each once; memory grows with their number."""
    if head.tree.name == "mst":
        yield from _repository(workspace, head, since)
        return
    written: set[bytes] = set()
    wanted: frozenset[bytes] | None = None
    fresh: frozenset[bytes] | None = None
    if since is not None and head.tree.is_hamt:
        diff = workspace.tree.diff(since.data, head.data)
        wanted = diff.created
        fresh = frozenset(change.new for change in diff.changes if change.new is not None)
    elif since is not None:
        written.update(cid for cid, _ in reachable(workspace, since))
    for cid, block in _parts(workspace, head.data):
        if cid in written:
            continue
        if block is not None:
            if wanted is None or cid in wanted:
                written.add(cid)
                yield cid, block
        elif fresh is None or cid in fresh:
            for part, data in workspace.values.blocks(b"", cid):
                if part not in written:
                    written.add(part)
                    yield part, data


def _parts(workspace: Workspace, root: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """The nodes of a tree with their blocks, and its values with None."""
    tree = workspace.tree
    if isinstance(tree, HamtTree):
        yield from tree.stream(root)
        return
    yield from tree.nodes(root)
    if not isinstance(tree, UnixfsTree):
        for entry in tree.walk(root):
            yield entry.cid, None


def _repository(workspace: Workspace, head: Head, since: Head | None) -> Iterator[tuple[bytes, bytes]]:
    blocks = workspace.blocks
    wanted: frozenset[bytes] | None = None
    fresh: frozenset[bytes] | None = None
    if since is not None:
        diff = workspace.tree.diff(since.data, head.data)
        wanted = diff.created
        fresh = frozenset(change.new for change in diff.changes if change.new is not None)
    if head.commit is not None and (since is None or since.root != head.root):
        yield head.root, blocks.get(head.root)
    written: set[bytes] = set()
    walked: set[bytes] = (
        set()
    )  # A node may stand as a record elsewhere; it is written once, and walked all the same.
    stack: list[tuple[bytes, bool]] = [(head.data, True)]
    while stack:
        cid, is_node = stack.pop()
        if is_node:
            if cid in walked or (wanted is not None and cid not in wanted):
                continue
            walked.add(cid)
        elif cid in written:
            continue
        data = blocks.get(cid)
        if cid not in written:
            written.add(cid)
            yield cid, data
        if not is_node:
            continue
        node = nodes.decode(cid, data)
        for index in range(len(node.keys), -1, -1):
            link = node.links[index]
            if link is not None:
                stack.append((link, True))
            if index and (fresh is None or node.values[index - 1] in fresh):
                stack.append((node.values[index - 1], False))
