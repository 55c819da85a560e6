"""Folders: the namespace shows what the paths of all keys spell, and reads no more than it must."""

from collections.abc import Mapping
from pathlib import Path

import naive_hamt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workspaces import cid, delete, put, staged_tree, tree_blocks, writable

from mstfs.blocks.interface import BlockReader
from mstfs.blocks.memory import MemoryBlocks
from mstfs.errors import BlockError, MissingBlock, MstfsError
from mstfs.staging.tree import StagedTree
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.mst.tree import MstTree
from mstfs.view.names import Names
from mstfs.view.names import Path as Names_Path
from mstfs.view.namespace import Child, KeyNamespace

NAMES = Names(b".json")

collections = st.sampled_from([b"app.bsky.feed.post", b"app.bsky.feed.like", b"app.bsky.feed", b"a.b.c"])
plain = st.builds(lambda a, b: a + b"/" + b, collections, st.from_regex(rb"[a-z0-9.]{1,4}", fullmatch=True))
odd_part = st.sampled_from(
    [
        b"",
        b"a",
        b"b",
        b"%",
        b"..",
        b".mstfs",
        b"a.json",
        b"%.json",
        b"x" * 260,
        b"x" * 300,
        b"x" * 250,
        b"\xff",
    ]
)
hostile = st.lists(odd_part, min_size=1, max_size=4).map(b"/".join).filter(bool)
any_key = st.one_of(plain, hostile)


class Counting(BlockReader):
    """A block reader that counts what is read."""

    def __init__(self, blocks: Mapping[bytes, bytes]) -> None:
        self.blocks = MemoryBlocks(blocks.items())
        self.reads: list[bytes] = []

    def get(self, cid: bytes) -> bytes:
        self.reads.append(cid)
        return self.blocks.get(cid)

    def has(self, cid: bytes) -> bool:
        return self.blocks.has(cid)

    def length(self, cid: bytes) -> int:
        return self.blocks.length(cid)


def namespace(
    entries: Mapping[bytes, int], edits: Mapping[bytes, bytes | None] | None = None
) -> KeyNamespace:
    return KeyNamespace(staged_tree(entries, edits or {}), NAMES)


def model(entries: Mapping[bytes, bytes]) -> dict[Names_Path, dict[bytes, tuple[bytes | None, bytes | None]]]:
    """Every folder, and in it every name with its key and CID."""
    folders: dict[Names_Path, dict[bytes, tuple[bytes | None, bytes | None]]] = {(): {}}
    for key, value in entries.items():
        path = NAMES.path_of(key)
        for depth in range(len(path)):
            folder = folders.setdefault(path[:depth], {})
            folder[path[depth]] = (key, value) if depth == len(path) - 1 else (None, None)
    return folders


@given(
    st.dictionaries(any_key, st.integers(0, 5), max_size=25),
    st.dictionaries(any_key, st.one_of(st.none(), st.integers(6, 9)), max_size=8),
    st.sets(st.integers(0, 24), max_size=3),
)
@settings(max_examples=120)
def test_folders_are_those_of_the_model(
    entries: dict[bytes, int], edits: dict[bytes, int | None], deleted: set[int]
) -> None:
    edits = edits | {key: None for number, key in enumerate(sorted(entries)) if number in deleted}
    found = namespace(entries, {key: None if n is None else cid(n) for key, n in edits.items()})
    merged = {key: cid(number) for key, number in (entries | edits).items() if number is not None}
    folders = model(merged)
    for folder, names in folders.items():
        listed = list(found.children(folder))
        assert len({child.name for child in listed}) == len(listed)
        assert {child.name: (child.key, child.cid) for child in listed} == names
        assert found.folder_exists(folder)
    below = list(found.keys_below(()))
    assert [(key, value) for _, key, value in below] == sorted(merged.items())
    assert all(path == NAMES.path_of(key) for path, key, _ in below)


@given(
    st.dictionaries(any_key, st.integers(0, 5), max_size=12),
    st.lists(
        st.sampled_from([b"a", b"a.b.c", b"app.bsky.feed", b"%-a", b"%-", b"x.json", b"%+a"]), max_size=3
    ),
)
@settings(max_examples=100)
def test_other_folders_do_not_exist(entries: dict[bytes, int], folder: list[bytes]) -> None:
    path = tuple(folder)
    exists = path in model({key: cid(number) for key, number in entries.items()})
    assert namespace(entries).folder_exists(path) == exists
    assert exists or list(namespace(entries).children(path)) == []


def test_a_collection_is_passed_over_with_one_search() -> None:
    many = {b"a%02d.b.c/%05d" % (n, m): 1 for n in range(20) for m in range(300)}
    root, blocks = tree_blocks(many)
    reader = Counting(blocks)
    tree = MstTree(reader, cache_bytes=0)
    staged = StagedTree(tree, root, None)
    tree.get(root, b"a00.b.c/00000")
    height = len(reader.reads)
    reader.reads.clear()
    found = list(KeyNamespace(staged, NAMES).children(()))
    assert [child.name for child in found] == sorted({key.split(b"/")[0] for key in many})
    # Each of the 20 searches reads one path, and perhaps the next node; all nodes are far more.
    assert len(reader.reads) <= 21 * (height + 8)
    assert len(reader.reads) < len(list(tree.nodes(root))) / 2


def test_folders_inside_a_collection_are_passed_over_too() -> None:
    many = {b"a/%03d/%05d" % (n, m): 1 for n in range(30) for m in range(60)}
    found = namespace(many)
    pages = 0
    page = found.tree.page

    def counted(*arguments: object) -> object:
        nonlocal pages
        pages += 1
        return page(*arguments)  # type: ignore[arg-type]

    found.tree.page = counted  # type: ignore[method-assign, assignment]
    assert [child.name for child in found.children((b"a",))] == [b"%%-%03d" % n for n in range(30)]
    assert pages <= 4


def damaged(entries: Mapping[bytes, int], victim: bytes) -> tuple[KeyNamespace, set[bytes]]:
    """A namespace without the lowest node that holds `victim`, and the keys that are left."""
    root, blocks = tree_blocks(entries)
    tree = MstTree(MemoryBlocks(blocks.items()))
    holder = next(node for node, _ in tree.nodes(root) if victim in tree.node(node).keys)
    assert holder != root
    lost = {key for key, _ in tree.page(holder)}
    left = MemoryBlocks((name, data) for name, data in blocks.items() if name != holder)
    return KeyNamespace(StagedTree(MstTree(left), root, None), NAMES), set(entries) - lost


def test_a_listing_goes_on_behind_a_damaged_subtree() -> None:
    entries = {b"a.b.%s/%03d" % (name, n): n for name in (b"c", b"d", b"e") for n in range(40)}
    for victim in (b"a.b.c/005", b"a.b.d/020", b"a.b.e/037"):
        found, left = damaged(entries, victim)
        assert left != set(entries)
        errors: list[MstfsError] = []
        collection = victim.split(b"/")[0]
        listed = {child.key for child in found.children((collection,), errors.append)}
        assert listed == {key for key in left if key.startswith(collection + b"/")}
        assert errors
        assert all(isinstance(error, MissingBlock) for error in errors)
        errors.clear()
        folders = {child.name for child in found.children((), errors.append)}
        assert folders == {b"a.b.c", b"a.b.d", b"a.b.e"}
        with pytest.raises(BlockError):
            list(found.children((collection,)))


def test_children_see_what_is_staged(tmp_path: Path) -> None:
    workspace = writable(tmp_path, {b"a.b.c/1": 1, b"a.b.c/2": 2, b"a.b.d/1": 3})
    put(workspace, b"a.b.c/15", 4)
    delete(workspace, b"a.b.d/1")
    found = KeyNamespace(workspace.staged, NAMES)
    assert list(found.children(())) == [Child(b"a.b.c", None, None)]
    assert [child.key for child in found.children((b"a.b.c",))] == [b"a.b.c/1", b"a.b.c/15", b"a.b.c/2"]
    assert not found.folder_exists((b"a.b.d",))


# --- keys without a form ----------------------------------------------------------------------

NESTED = Names(b"", nested=True)
formless_part = st.one_of(odd_part, st.sampled_from([b"a", b"b", b"%@", b"a!", b"a-"]))
formless = st.lists(formless_part, min_size=1, max_size=4).map(b"/".join).filter(bool)


def walked(namespace: KeyNamespace) -> dict[Names_Path, tuple[bytes, bytes]]:
    """Every file that can be reached from the root, by its path."""
    found: dict[Names_Path, tuple[bytes, bytes]] = {}
    folders: list[Names_Path] = [()]
    while folders:
        folder = folders.pop()
        for child in namespace.children(folder):
            path = (*folder, child.name)
            assert namespace.find(path) == child
            if child.key is None or child.cid is None:
                folders.append(path)
            else:
                assert path not in found
                found[path] = (child.key, child.cid)
    return found


@settings(max_examples=150)
@given(st.sets(formless, max_size=12))
def test_every_key_without_a_form_is_reached_once(keys: set[bytes]) -> None:
    entries = {key: number for number, key in enumerate(sorted(keys))}
    tree = KeyNamespace(staged_tree(entries, {}), NESTED)
    found = walked(tree)
    assert sorted(found.values()) == sorted((key, cid(number)) for key, number in entries.items())
    for path, (key, _) in found.items():
        assert tree.path_of(key) == path
        assert tree.key_of(path) == key
    for folder in {path[:depth] for path in found for depth in range(len(path))}:
        below = {(path, *entry) for path, entry in found.items() if path[: len(folder)] == folder}
        assert set(tree.keys_below(folder)) == below


def test_the_empty_key_and_empty_parts() -> None:
    entries = {key: naive_hamt.value(1) for key in (b"", b"/", b"//", b"a", b"a/")}
    root, nodes = naive_hamt.py_hamt_3(entries)
    tree = StagedTree(HamtTree(MemoryBlocks(nodes.items()), PyHamt3()), root, None)
    found = walked(KeyNamespace(tree, NESTED))
    assert {b"/".join(path): key for path, (key, _) in found.items()} == {
        b"%=": b"", b"%-/%=": b"/", b"%-/%-/%=": b"//", b"a/%@": b"a", b"a/%=": b"a/",
    }  # fmt: skip


def test_a_damaged_node_hides_no_other_file() -> None:
    """Whether a folder is there cannot be known where a node is missing; files are found by their hash."""
    entries = {b"%d/%d" % (number % 7, number): naive_hamt.value(number) for number in range(2000)}
    root, nodes = naive_hamt.py_hamt_3(entries)
    blocks = MemoryBlocks(nodes.items())
    tree = HamtTree(blocks, PyHamt3())
    blocks.delete(max(nodes.keys() - {root}))
    found = KeyNamespace(StagedTree(tree, root, None), NESTED)
    errors: list[MstfsError] = []
    listed = {child.key for folder in range(7) for child in found.children((b"%d" % folder,), errors.append)}
    assert errors
    lost = set()
    for key, value in entries.items():
        path = tuple(key.split(b"/"))
        try:
            assert found.find(path) == Child(path[-1], key, value)
        except BlockError:
            lost.add(key)
    assert lost
    assert listed == set(entries) - lost
    assert found.find((b"0",)) == Child(b"0", None, None)
    assert found.find((b"nothing",)) is None


def test_a_key_that_is_a_folder_too() -> None:
    tree = KeyNamespace(staged_tree({b"a": 1, b"a!": 2, b"a/b": 3, b"a/%@": 4}, {}), NESTED)
    assert [child.name for child in tree.children(())] == [b"a", b"a!"]
    assert tree.find((b"a",)) == Child(b"a", None, None)
    assert tree.find((b"a", b"%@")) == Child(b"%@", b"a", cid(1))
    assert tree.find((b"a!", b"%@")) is None
    assert {child.name for child in tree.children((b"a",))} == {b"%@", b"b", b"%=%25@"}


def test_a_folder_that_is_kept_stays_one() -> None:
    kept = KeyNamespace(staged_tree({b"a": 1}, {}), NESTED, lambda path: path == (b"a",))
    assert kept.find((b"a",)) == Child(b"a", None, None)
    assert kept.find((b"a", b"%@")) == Child(b"%@", b"a", cid(1))
    assert kept.path_of(b"a") == (b"a", b"%@")
    assert list(kept.children((b"a",))) == [Child(b"%@", b"a", cid(1))]
