"""Files: reading a range touches the blocks that hold it, and the nodes on the way to them.

A file is a tree of any shape (balanced, trickle, a chain): a node's own content comes first, then that of its
links in order. How many bytes hang below a link is what the node claims; each child that is read must have
exactly these, else NodeError is raised, so that no reader is ever given bytes at a wrong offset.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from mstfs.codec.dag_pb import KIND_SYMLINK, Mtime
from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, NodeError, Refused
from mstfs.limits import FILE_DEPTH, FILE_VISITS
from mstfs.tree.unixfs.directory import is_raw
from mstfs.tree.unixfs.node import DIRECTORIES, FILES, Load, UnixfsNode, content

NANOS = 1_000_000_000

Expect: TypeAlias = Callable[[Sequence[bytes]], None]
"""As `BlockReader.expect`."""

EXPECTED_BYTES = 2 << 20
"""How far ahead of a reader the blocks are expected: two requests of the kernel."""

EXPECTED_BLOCKS = 16
"""How many of them, at most."""

FILE = "file"
DIRECTORY = "directory"
SYMLINK = "symlink"


class Attributes(NamedTuple):
    """What a node says about itself.

    `kind` is FILE, DIRECTORY or SYMLINK. `size` is in bytes: of the content, of the target's name, 0 for a
    directory. `mode` holds the permission bits (at most 0o7777). `mode` and `mtime` are None if not given.
    """

    kind: str
    size: int
    mode: int | None
    mtime: Mtime | None


def attributes(load: Load, cid: bytes) -> Attributes:
    """Reads one block (two for a metadata node)."""
    node = content(load, cid)[1]
    mode = None if node.mode is None else node.mode & 0o7777
    mtime = node.mtime
    if mtime is not None and mtime.nanos is not None and mtime.nanos >= NANOS:
        mtime = None  # No time at all, as for every other reader; the verifier reports it.
    return Attributes(kind_name(node), node.size, mode, mtime)


def kind_name(node: UnixfsNode) -> str:
    """FILE, DIRECTORY or SYMLINK, for a node that is no metadata node."""
    if node.kind in FILES:
        return FILE
    return DIRECTORY if node.kind in DIRECTORIES else SYMLINK


def target(load: Load, cid: bytes) -> bytes:
    """What a symbolic link points to: any bytes. NodeError if it is none."""
    node = content(load, cid)[1]
    if node.kind != KIND_SYMLINK:
        raise NodeError(cid, "not-a-symlink", "is no symbolic link")
    return node.data


def _top(load: Load, cid: bytes) -> tuple[bytes, UnixfsNode]:
    cid, node = content(load, cid)
    if node.kind not in FILES:
        raise NodeError(cid, "not-a-file", "is no file")
    return cid, node


def size(load: Load, cid: bytes) -> int:
    """The bytes that the file `cid` claims to have. NodeError if it is no file."""
    return _top(load, cid)[1].size


def read(load: Load, cid: bytes, offset: int, length: int, expect: Expect | None = None) -> bytes:
    """The bytes from `offset` on, at most `length`, fewer only at the end of the file.

    `expect` is told of the blocks of the next `EXPECTED_BYTES`, for those who go on reading.
    Raises MissingBlocks with all blocks of the range that are missing, as far as the blocks that are there
    can name them; NodeError for a file whose sizes lie; LimitExceeded; Refused for negative numbers.
    """
    return b"".join(pieces(load, cid, offset, length, expect))


def pieces(
    load: Load, cid: bytes, offset: int = 0, length: int | None = None, expect: Expect | None = None
) -> Iterator[bytes]:
    """The content of `read` piece by piece, each of one block; to the end of the file without `length`.

    When a block is missing, MissingBlocks comes behind the pieces before it.
    """
    if offset < 0 or (length is not None and length < 0):
        raise Refused(f"a range cannot begin at {offset} and have {length} bytes")
    cid, top = _top(load, cid)
    stop = top.size if length is None else min(top.size, offset + length)
    if offset >= stop:
        return
    if offset < len(top.data):
        yield top.data[offset:stop]
    return (yield from _below(load, cid, top, offset, stop, expect))


class RawPart(NamedTuple):
    """A part of a file that should be a whole raw block: where it starts, and how many bytes it claims."""

    start: int
    length: int
    cid: bytes


def raw_parts(load: Load, cid: bytes, offset: int, most: int) -> list[RawPart]:
    """Parts of one node, one behind the other, at most `most`, and among them that which holds `offset`.

    None where what holds it is no raw block. Reads the nodes on the way and no leaf; nothing says yet that
    blocks have as many bytes as is claimed. Raises what `read` does.
    """
    cid, node = _top(load, cid)
    base = 0
    for _ in range(FILE_DEPTH):
        ends, links = node.ends, node.links
        at = bisect_right(ends, offset - base)
        if offset - base < len(node.data) or at == len(links):
            return []
        start = base + (ends[at - 1] if at else len(node.data))
        if is_raw(links[at]):
            return _raw_around(node, base, at, most)
        child = load(links[at])
        _check_child(cid, links[at], child, base + ends[at] - start)
        cid, node, base = links[at], child, start
    raise LimitExceeded(f"a file is a tree of more than {FILE_DEPTH} levels")


def _raw_around(node: UnixfsNode, base: int, at: int, most: int) -> list[RawPart]:
    # Of a node that starts at `base`: the raw links that the one at `at` is among, of each `most` links.
    first = at - at % most
    parts: list[RawPart] = []
    start = base + (node.ends[first - 1] if first else len(node.data))
    for index in range(first, min(first + most, len(node.links))):
        end = base + node.ends[index]
        if not is_raw(node.links[index]):
            if index > at:
                break
            parts.clear()
        elif end > start:
            parts.append(RawPart(start, end - start, node.links[index]))
        start = end
    return parts


class _Frame(NamedTuple):
    """A node on the way down: where it starts in the file, and the next of its links to look at."""

    cid: bytes
    node: UnixfsNode
    base: int
    at: int


def _below(
    load: Load, cid: bytes, top: UnixfsNode, offset: int, stop: int, expect: Expect | None
) -> Iterator[bytes]:
    # What the links of the topmost node hold of the range; the range is not empty and in the file.
    visits = FILE_VISITS + (stop - offset >> 2)
    missing: dict[bytes, None] = {}
    stack = [_Frame(cid, top, 0, bisect_right(top.ends, offset))]
    while stack:
        cid, node, base, at = stack.pop()
        ends, links = node.ends, node.links
        while at < len(links):
            start = base + (ends[at - 1] if at else len(node.data))
            if start >= stop:
                if expect is not None:
                    last = bisect_right(ends, stop - base + EXPECTED_BYTES, at)
                    expect(links[at : min(last + 1, at + EXPECTED_BLOCKS)])
                    expect = None
                break
            extent = base + ends[at] - start
            link = links[at]
            at += 1
            if extent == 0:
                # Nothing hangs there, so there is no need to look, here and at all the same behind it.
                at = bisect_right(ends, start - base, at)
                continue
            visits -= 1
            if visits < 0:
                break
            if link in missing:
                continue
            try:
                child = load(link)
            except MissingBlock:
                # From here on only names of missing blocks are collected, and not for ever.
                missing[link] = None
                visits = min(visits, FILE_VISITS)
                continue
            _check_child(cid, link, child, extent)
            low = max(offset - start, 0)
            if low < len(child.data) and not missing:
                yield child.data[low : stop - start] if low or stop - start < len(child.data) else child.data
            if child.links:
                visits -= len(child.links) >> 4
                if len(stack) >= FILE_DEPTH:
                    raise LimitExceeded(f"a file is a tree of more than {FILE_DEPTH} levels")
                stack.append(_Frame(cid, node, base, at))
                cid, node, base = link, child, start
                ends, links = child.ends, child.links
                at = bisect_right(ends, low)
        if visits < 0:
            break
    if missing:
        raise MissingBlocks(missing)
    if visits < 0:
        raise LimitExceeded(f"{stop - offset} bytes of a file are spread over too many blocks")


def _check_child(parent: bytes, cid: bytes, child: UnixfsNode, extent: int) -> None:
    if child.kind not in FILES:
        raise NodeError(cid, "file-child", "is linked as a part of a file, and is something else")
    if child.size != extent:
        reason = f"links a part of {extent} bytes that has {child.size} bytes"
        raise NodeError(parent, "child-size", reason)
