"""Whole folders out of a stream of paths: the roots of another implementation, and what is refused."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree_unixfs_builder import content, drop
from test_tree_unixfs_node import Store

from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.codec.dag_pb import Mtime
from mstfs.errors import Refused
from mstfs.limits import KEY_BYTES, NESTING
from mstfs.tree.unixfs.builder import Built, build_directory, build_file, gather
from mstfs.tree.unixfs.directory import Dirent
from mstfs.tree.unixfs.file import DIRECTORY
from mstfs.tree.unixfs.folders import Folder, Parts, build_folders
from mstfs.tree.unixfs.tree import EMPTY_CID, UnixfsTree
from mstfs.tree.unixfs.verify import verify_tree

Row = tuple[Parts, Built | Folder | None]

TIME = Mtime(1700000000, 5)


def file(size: int, mode: int | None = None) -> Built:
    return gather(build_file(io.BytesIO(content(size)), mode=mode), drop)


def row(path: str, what: Built | Folder | None) -> Row:
    return tuple(path.encode().split(b"/")) if path else (), what


NESTED = [row(f"d{n % 3}/e{n % 5}/file-{n}.txt", file(n)) for n in range(60)]
NESTED += [row("d0/empty", None), row("top.txt", file(7)), row("d0.txt", file(8))]
MANY = [row(f"d{n % 3}/file-{n}.txt", file(n)) for n in range(60)] + [row("d0.txt", file(8))]
TOLD = [row("d", Folder(0o700, TIME)), row("d/f", file(3, 0o600)), row("e", Folder(0o711))]
TOLD_MANY = [row("d", Folder(0o700, TIME)), *[row(f"d/f{n}", file(3)) for n in range(40)]]

# Entries, bytes from which folders are sharded; root and Tsize, as ipfs-unixfs-importer 17.1.1 gives them.
TREES = [
    (NESTED, 262144, "bafybeico4vpxstj4zyrsxgk2n57b5rvptyjbqvgpjnu55jamfx3aum2s2y", 6151),
    (MANY, 300, "bafybeifzstetee2eh7kbpqzztzyitqbe2preoygh3peuwf7r44aaqaqtgu", 5587),
    (TOLD, 262144, "bafybeid2pivfw6ert3dqyd7nlc2d7oudrexqch2lea5lxofi5mlggyw6si", 180),
    (TOLD_MANY, 100, "bafybeienzsjp3free5ndgjurpoqlmr2nr6cci6sgurkycjhd3mafyfgqwi", 2355),
]


@pytest.mark.parametrize(("entries", "limit", "root", "tsize"), TREES)
def test_folders_have_the_roots_of_another_implementation(
    entries: list[Row], limit: int, root: str, tsize: int
) -> None:
    built = gather(build_folders(sorted(entries, key=by_tuple), directory_bytes=limit), drop)
    assert built == Built(cids.parse(root), 0, tsize)


def by_tuple(entry: Row) -> Parts:
    return entry[0]


def by_key(entry: Row) -> bytes:
    """The order of keys: a folder's ends in a slash."""
    return b"/".join(entry[0]) + b"/" * (not isinstance(entry[1], Built))


name = st.sampled_from([b"a", b"a.", b"a.b", b"a-", b"a0", b"ab", b"b", b"\xff"])
paths = st.lists(name, min_size=1, max_size=4).map(tuple)


@given(st.dictionaries(paths, st.integers(0, 9), max_size=20), st.sets(paths, max_size=6), st.booleans())
@settings(max_examples=150)
def test_what_was_built_is_read(plain: dict[Parts, int], folders: set[Parts], shard: bool) -> None:
    store = Store()
    above = {path[:depth] for path in (*plain, *folders) for depth in range(len(path))}
    files = {path: size for path, size in plain.items() if path not in above | folders}
    entries: list[Row] = [
        (path, gather(build_file(io.BytesIO(content(size))), store.put)) for path, size in files.items()
    ]
    entries += [(path, None if len(path) % 2 else Folder(0o700, TIME)) for path in folders]
    limit = 0 if shard else 1 << 18
    built = gather(build_folders(sorted(entries, key=by_tuple), directory_bytes=limit), store.put)
    # Contents before their folder, in the order of keys: the same root.
    for order in (sorted(entries, key=by_key), sorted(entries, key=by_tuple, reverse=True)):
        assert gather(build_folders(order, directory_bytes=limit), drop) == built
    tree = UnixfsTree(store)
    found = {place.path: place for place in tree.places(built.cid)}
    kinds = {path: place.kind == DIRECTORY for path, place in found.items()}
    inside = {path[:depth] for path in (*files, *folders) for depth in range(len(path))}
    assert kinds == {b"/".join(path): False for path in files} | {
        b"/".join(path): True for path in inside | folders | {()}
    }
    for path, size in files.items():
        assert tree.read(found[b"/".join(path)].cid, 0, 100) == content(size)
    for path in folders:
        expected = None if len(path) % 2 else 0o700
        assert tree.attributes(found[b"/".join(path)].cid).mode == expected
    defects = {defect.rule for defect in verify_tree(store, built.cid)}
    assert defects <= {"shared-shard"}  # equal folders share their shards


def test_a_folder_with_nothing_in_it() -> None:
    assert gather(build_folders([]), drop).cid == EMPTY_CID
    store = Store()
    built = gather(build_folders([row("", Folder(0o750)), row("a", None)]), store.put)
    assert UnixfsTree(store).attributes(built.cid).mode == 0o750
    assert UnixfsTree(store).lookup(built.cid, b"a") == EMPTY_CID


def test_a_folder_may_be_told_behind_what_is_in_it() -> None:
    front = [row("d", Folder(0o700)), row("d/e", Folder(0o710)), row("d/e/f", file(1))]
    behind = [front[2], front[1], front[0]]
    assert gather(build_folders(front), drop) == gather(build_folders(behind), drop)


def test_a_folder_is_built_once_it_is_left() -> None:
    taken = 0

    def entries() -> Iterator[Row]:
        nonlocal taken
        for taken in range(10_000):
            yield row(f"d{taken // 10:04}/f{taken}", file(0))

    blocks = build_folders(entries())
    next(blocks)
    assert taken == 10
    next(blocks)
    assert taken == 20


def test_other_hash_functions() -> None:
    store = Store()
    built = gather(build_folders([row("a/b", None)], cids.BLAKE3), store.put)
    assert {cids.hash_of(cid)[0] for cid in store.cids()} == {cids.BLAKE3}
    assert cids.hash_of(built.cid)[0] == cids.BLAKE3


ONE = file(1)
REFUSED = [
    ([("a", ONE), ("a", ONE)], "'a' comes twice"),
    ([("a", None), ("a", None)], "'a' comes twice"),
    ([("d/a", ONE), ("d/b", ONE), ("d/a", ONE)], "'d/a' comes twice"),
    ([("a", ONE), ("a", None)], "'a' is a file and a folder"),
    ([("a", ONE), ("a/b", ONE)], "'a' is a file and a folder"),
    ([("a/b", ONE), ("a", ONE)], "'a' is a file and a folder"),
    ([("a", None), ("a", ONE)], "'a' is a file and a folder"),
    ([("x/a", ONE), ("x/a/b/c", ONE)], "'x/a' is a file and a folder"),
    (
        [("a/b", ONE), ("b", ONE), ("a/c", ONE)],
        "what is in the folder 'a' does not come together",
    ),
    ([("a/b", ONE), ("b", ONE), ("a", None)], "what is in the folder 'a' does not come together"),
    ([("", ONE)], "the topmost"),
    ([("a//b", ONE)], "'a//b' has a part that no file can be called"),
    ([("../b", ONE)], "has a part"),
    ([("a/.", None)], "has a part"),
    ([("a\0", ONE)], "has a part"),
    ([("x" * KEY_BYTES, ONE)], "is longer than"),
    ([("x/" * (NESTING - 1) + "y", ONE)], "is longer than"),
]


@pytest.mark.parametrize(("entries", "reason"), REFUSED)
def test_what_is_refused(entries: list[tuple[str, Built | None]], reason: str) -> None:
    with pytest.raises(Refused) as caught:
        gather(build_folders([row(*entry) for entry in entries]), drop)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 400


def test_names_with_slashes_are_refused() -> None:
    with pytest.raises(Refused):
        gather(build_folders([((b"a/b",), ONE)]), drop)


def test_the_deepest_folder_that_is_built_is_read() -> None:
    store = Store()
    path = "x/" * (NESTING - 2) + "y"
    built = gather(build_folders([row(path, None)]), store.put)
    assert [place.path for place in UnixfsTree(store).places(built.cid)][-1] == path.encode()


def again(tree: UnixfsTree, root: bytes, chunk: int) -> Iterator[Row]:
    """The entries of a tree, built again."""
    for path, cid, kind in tree.places(root):
        told = tree.attributes(cid)
        if kind == DIRECTORY:
            yield row(path.decode(), Folder(told.mode, told.mtime))
        else:
            data = io.BytesIO(tree.read(cid, 0, told.size))
            yield row(path.decode(), gather(build_file(data, chunk), drop))


# Bytes in a chunk, bytes from which folders are sharded.
REAL = [
    ("unixfs_flat_tree", 262144, 262144),
    ("gateway-conformance__dir-with-files", 256, 262144),
    ("gateway-conformance__single-layer-hamt-with-multi-block-files", 256, 0),
]


@pytest.mark.parametrize(("name", "chunk", "limit"), REAL)
def test_real_trees_are_built_again(shared_fixtures: Path, name: str, chunk: int, limit: int) -> None:
    with CarFile.open(shared_fixtures / "unixfs" / f"{name}.car", use_sidecar=False) as car:
        entries = again(UnixfsTree(car), car.roots[0], chunk)
        assert gather(build_folders(entries, directory_bytes=limit), drop).cid == car.roots[0]


def test_one_folder_is_a_directory() -> None:
    dirents = [Dirent(b"%03d" % number, ONE.cid, ONE.tsize) for number in range(100)]
    entries = [((dirent.name,), ONE) for dirent in dirents]
    assert gather(build_folders(entries), drop) == gather(build_directory(dirents), drop)
