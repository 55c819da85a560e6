"""Whole trees by path, against a plain dictionary: get, seek, page, walk, nodes, diff."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree_unixfs_node import Store

from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.codec.dag_pb import KIND_SYMLINK, UnixfsData
from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, MstfsError, NodeError, Refused
from mstfs.limits import NESTING
from mstfs.tree.interface import Change, Edit, Entry, TreeDiff
from mstfs.tree.unixfs.builder import build_sharded, gather
from mstfs.tree.unixfs.directory import Dirent
from mstfs.tree.unixfs.tree import EMPTY_CID, UnixfsTree

Plain = dict[bytes, bytes]


def planted(store: Store, plain: Plain, shard: bool = False) -> bytes:
    """Put a tree with these paths and contents; a content that begins with `->` is a symbolic link.

    A path that another one goes below is left out. With `shard` every directory is sharded.
    """
    folders: dict[bytes, dict[bytes, bytes]] = {b"": {}}
    for path in sorted(plain):
        if any(other.startswith(path + b"/") for other in plain):
            continue
        data = plain[path]
        if data.startswith(b"->"):
            cid = store.node(UnixfsData(KIND_SYMLINK, data[2:]))
        elif data.startswith(b"node"):
            cid = store.parts(data)
        else:
            cid = store.raw(data)
        folder, _, name = path.rpartition(b"/")
        folders.setdefault(folder, {})[name] = cid
    for path in list(folders):
        while path:
            path = path.rpartition(b"/")[0]
            folders.setdefault(path, {})
    for path in sorted(folders, key=lambda path: path.count(b"/") + bool(path), reverse=True):
        rows = folders[path]
        if shard:
            cid = gather(build_sharded([Dirent(*row, 1) for row in rows.items()]), store.put).cid
        else:
            cid = store.folder(*sorted(rows.items()))
        if not path:
            return cid
        above, _, name = path.rpartition(b"/")
        folders[above][name] = cid
    raise AssertionError


def expected(plain: Plain) -> list[bytes]:
    return sorted(path for path in plain if not any(other.startswith(path + b"/") for other in plain))


# Names around the slash in the order of bytes, and names that begin each other.
name = st.sampled_from([b"a", b"a.", b"a.b", b"a-", b"a0", b"ab", b"b", b"\xff", b"..", b"\0"])
paths = st.lists(name, min_size=1, max_size=3).map(b"/".join)
contents = st.sampled_from([b"1", b"2", b"node1", b"node2", b"->a"])
plains = st.dictionaries(paths, contents, max_size=25)
keys = st.one_of(paths, paths.map(lambda path: path + b"/"), st.just(b""), st.binary(max_size=3))


@given(plains, keys, st.none() | keys, st.none() | st.integers(0, 5), st.booleans())
@settings(max_examples=250)
def test_paths_against_a_dictionary(
    plain: Plain, prefix: bytes, after: bytes | None, limit: int | None, shard: bool
) -> None:
    store = Store()
    root = planted(store, plain, shard)
    tree = UnixfsTree(store)
    order = expected(plain)
    assert [entry.key for entry in tree.walk(root)] == order
    wanted = [key for key in order if key.startswith(prefix)]
    assert [entry.key for entry in tree.walk(root, prefix)] == wanted
    page = [key for key in wanted if after is None or key > after]
    assert [entry.key for entry in tree.page(root, prefix, after, limit)] == page[:limit]
    found = tree.seek(root, prefix)
    assert (found.key if found else None) == next((key for key in order if key >= prefix), None)
    for entry in tree.walk(root):
        assert tree.get(root, entry.key) == entry.cid == tree.resolve(root, entry.key)
    for key in (prefix, b"absent", b"a/absent"):
        if key not in order:
            assert tree.get(root, key) is None


@given(plains, plains, st.booleans(), st.booleans())
@settings(max_examples=150)
def test_diff_against_dictionaries(one: Plain, other: Plain, shard_one: bool, shard_other: bool) -> None:
    store = Store()
    a, b = planted(store, one, shard_one), planted(store, other, shard_other)
    tree = UnixfsTree(store)
    before, after = dict(tree.walk(a)), dict(tree.walk(b))
    found = tree.diff(a, b)
    assert list(found.changes) == [
        Change(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    # With what was created, the first tree can be made into the second one, and the other way round.
    nodes_a, nodes_b = {cid for cid, _ in tree.nodes(a)}, {cid for cid, _ in tree.nodes(b)}
    assert nodes_b - nodes_a <= found.created <= nodes_b
    assert nodes_a - nodes_b <= found.deleted <= nodes_a
    assert not found.created & found.deleted
    back = tree.diff(b, a)
    assert (back.created, back.deleted) == (found.deleted, found.created)


def many(count: int, salt: bytes = b"") -> Plain:
    return {
        b"d%02d/f%03d" % (number % 20, number): b"%d" % number + salt * (number == 77)
        for number in range(count)
    }


def test_a_diff_reads_only_what_differs() -> None:
    store = Store()
    a, b = planted(store, many(400)), planted(store, many(400, b"x"))
    store.reads.clear()
    found = UnixfsTree(store).diff(a, b)
    assert [change.key for change in found.changes] == [b"d17/f077"]
    assert len(found.created) == len(found.deleted) == 3
    assert len(store.reads) == 4
    assert UnixfsTree(store).diff(a, a) == TreeDiff((), frozenset(), frozenset())


def test_a_diff_of_shards_reads_only_what_differs() -> None:
    store = Store()
    rows = [Dirent(b"f%04d" % number, cids.for_block(b"%d" % number, cids.RAW), 1) for number in range(2000)]
    a = gather(build_sharded(rows), store.put).cid
    rows[55] = rows[55]._replace(cid=EMPTY_CID)
    store.put(*UnixfsTree(store).empty())
    b = gather(build_sharded(rows[:-1]), store.put).cid
    store.reads.clear()
    found = UnixfsTree(store).diff(a, b)
    # An empty directory in the place of a file: the file is gone, and no entry came.
    assert [change.key for change in found.changes] == [b"f0055", b"f1999"]
    assert EMPTY_CID in found.created
    assert len(store.reads) < 10


def test_the_first_of_equal_names_counts_in_a_diff() -> None:
    store = Store()
    one, other = store.raw(b"1"), store.raw(b"2")
    prefix = b"00"
    for twice, once in (
        (store.folder((b"a", one), (b"a", other)), store.folder((b"a", one))),
        (store.shard((prefix + b"a", one), (prefix + b"a", other)), store.shard((prefix + b"a", one))),
    ):
        assert UnixfsTree(store).diff(twice, once).changes == ()


def test_a_diff_names_all_that_is_missing() -> None:
    store = Store()
    a = planted(store, many(40))
    b = planted(store, many(40) | {b"d03/new": b"1", b"d05/new": b"1"})
    tree = UnixfsTree(store)
    gone = [tree.resolve(root, path) or b"" for root, path in ((b, b"d03"), (b, b"d05"), (a, b"d05"))]
    # What is equal on both sides is not missed.
    for cid in (*gone, tree.resolve(a, b"d07") or b""):
        store.delete(cid)
    with pytest.raises(MissingBlocks) as error:
        UnixfsTree(store).diff(a, b)
    assert sorted(error.value.cids) == sorted(gone)


def test_a_page_reads_only_the_directories_on_its_way() -> None:
    store = Store()
    # Names that begin the name of the directory are passed without a look: their keys come before.
    root = planted(store, many(400) | {b"d": b"node1", b"d0": b"node2"})
    store.reads.clear()
    page = UnixfsTree(store).page(root, b"d07/", b"d07/f100", 3)
    assert [entry.key for entry in page] == [b"d07/f107", b"d07/f127", b"d07/f147"]
    assert len(store.reads) == 2
    store.reads.clear()
    assert UnixfsTree(store).seek(root, b"d19/f400") is None
    assert len(store.reads) <= 2


def test_places_have_directories_too() -> None:
    store = Store()
    root = planted(store, {b"a/x": b"1", b"a.b": b"1", b"l": b"->x"}, True)
    found = [(path, kind) for path, _, kind in UnixfsTree(store).places(root)]
    assert found == [
        (b"", "directory"),
        (b"a.b", "file"),
        (b"a", "directory"),
        (b"a/x", "file"),
        (b"l", "symlink"),
    ]


def test_a_file_is_a_tree_of_one() -> None:
    store = Store()
    tree = UnixfsTree(store)
    for root in (store.raw(b"abc"), store.parts(b"abc")):
        assert tree.page(root) == [Entry(b"", root)]
        assert tree.get(root, b"") == root
        assert tree.get(root, b"a") is None
        assert tree.page(root, after=b"") == []
        assert tree.seek(root, b"a") is None


def test_the_empty_tree() -> None:
    store = Store()
    tree = UnixfsTree(store)
    store.put(*tree.empty())
    assert tree.page(EMPTY_CID) == []
    assert tree.get(EMPTY_CID, b"") is None
    assert cids.to_text(EMPTY_CID) == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


def test_trees_are_not_changed() -> None:
    store = Store()
    with pytest.raises(Refused):
        UnixfsTree(store).apply(EMPTY_CID, [Edit(b"a", None)])


def test_a_path_that_leads_through_a_file_or_a_link_is_absent() -> None:
    store = Store()
    root = planted(store, {b"f": b"1", b"l": b"->d", b"d/x": b"1"})
    tree = UnixfsTree(store)
    for key in (b"f/x", b"l/x", b"d", b"d/", b"/d/x", b"d//x", b"d/x/", b"d/../f", b"x" * 10000):
        assert tree.get(root, key) is None
    assert tree.resolve(root, b"") == root


def test_the_order_of_blocks() -> None:
    store = Store()
    root = planted(store, {b"a/x": b"1", b"b": b"1", b"c": b"node2"})
    file = store.parts(b"own", (store.raw(b"1"), 1))
    top = store.folder((b"r", root), (b"f", file))
    blocks = list(UnixfsTree(store).nodes(top))
    tree = UnixfsTree(store)
    assert [cid for cid, _ in blocks] == [
        top,
        root,
        tree.resolve(root, b"a"),
        tree.resolve(root, b"a/x"),
        tree.resolve(root, b"c"),
        file,
    ]
    assert all(cids.matches(cid, block) for cid, block in blocks)


def test_what_is_missing_is_told_and_the_rest_is_walked() -> None:
    store = Store()
    root = planted(store, {b"a/x": b"1", b"b/x": b"2", b"c": b"node1", b"d": b"3"})
    tree = UnixfsTree(store)
    gone = [tree.resolve(root, path) or b"" for path in (b"a", b"c", b"d")]
    for cid in gone:
        store.delete(cid)
    told: list[MstfsError] = []
    tree = UnixfsTree(store)
    # A raw block is a file whether it is there or not.
    assert [entry.key for entry in tree.walk(root, on_missing=told.append)] == [b"b/x", b"d"]
    assert [error.cid for error in told if isinstance(error, MissingBlock)] == gone[:2]
    assert [dirent.name for dirent in tree.entries(root)] == [b"a", b"b", b"c", b"d"]
    with pytest.raises(MissingBlock):
        tree.page(root)
    assert [entry.key for entry in tree.page(root, b"b")] == [b"b/x"]


def test_blocks_of_other_codecs_are_told() -> None:
    store = Store()
    foreign = cids.for_block(b"\xa0", cids.DAG_CBOR)
    root = store.folder((b"a", foreign), (b"b", store.raw(b"1")))
    store.put(foreign, b"\xa0")
    tree = UnixfsTree(store)
    told: list[MstfsError] = []
    assert [entry.key for entry in tree.page(root, on_missing=told.append)] == [b"b"]
    assert isinstance(told[0], NodeError)
    assert told[0].rule == "codec"
    assert tree.diff(root, store.folder((b"b", store.raw(b"1")))).changes == (Change(b"a", foreign, None),)
    assert foreign not in dict(tree.nodes(root))


def test_names_without_a_path_are_told() -> None:
    store = Store()
    root = store.folder((b"a/b", store.raw(b"1")), (b"b", store.raw(b"2")))
    tree = UnixfsTree(store)
    told: list[MstfsError] = []
    assert [entry.key for entry in tree.page(root, on_missing=told.append)] == [b"b"]
    assert len(told) == 1
    for broken in (lambda: list(tree.walk(root)), lambda: list(tree.diff(root, store.folder()).changes)):
        with pytest.raises(NodeError) as error:
            broken()
        assert error.value.rule == "entry-name"


def test_directories_that_are_nested_too_deep_are_left() -> None:
    store = Store()
    root = store.raw(b"1")
    for _ in range(NESTING + 2):
        root = store.folder((b"a", root), (b"b", store.raw(b"2")))
    tree = UnixfsTree(store)
    with pytest.raises(LimitExceeded):
        list(tree.walk(root))
    told: list[MstfsError] = []
    assert len(tree.page(root, on_missing=told.append)) == NESTING
    assert [type(error) for error in told] == [LimitExceeded]
    with pytest.raises(LimitExceeded):
        tree.diff(root, store.folder())


def test_a_small_archive_that_spells_a_huge_tree_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("path", "diff"):
        monkeypatch.setattr(f"mstfs.tree.unixfs.{module}.REPEATED", 1000)
    store = Store()
    root = store.raw(b"1")
    for _ in range(40):
        root = store.folder((b"a", root), (b"b", root))
    tree = UnixfsTree(store)
    with pytest.raises(LimitExceeded):
        list(tree.walk(root))
    told: list[MstfsError] = []
    assert len(tree.page(root, on_missing=told.append)) < 2000
    assert told
    with pytest.raises(LimitExceeded):
        tree.diff(root, store.folder())
    assert len(list(tree.nodes(root))) == 41
    # A page from its middle on does not have to come there through all that is before it.
    key = b"/".join([b"b"] * 40)
    assert tree.page(root, after=key[:-1] + b"a", limit=1) == [Entry(key, store.raw(b"1"))]


@pytest.mark.parametrize(
    "car_name", ["go-car__simple-unixfs", "gateway-conformance__symlink", "unixfs_flat_tree"]
)
def test_real_trees(car_name: str, shared_fixtures: Path, tmp_path: Path) -> None:
    with CarFile.open(shared_fixtures / "unixfs" / f"{car_name}.car", index=tmp_path / "index") as car:
        tree = UnixfsTree(car)
        (root,) = car.roots
        entries = tree.page(root)
        assert entries
        assert [entry.key for entry in entries] == sorted(entry.key for entry in entries)
        for entry in entries:
            assert tree.get(root, entry.key) == entry.cid
            attributes = tree.attributes(entry.cid)
            if attributes.kind == "symlink":
                assert (entry.key, tree.target(entry.cid)) == (b"bar", b"foo")
            else:
                assert len(tree.read(entry.cid, 0, 1 << 30)) == attributes.size
        assert {cid for cid, _ in tree.nodes(root)} == {section.cid for section in car.sections()}


def test_a_real_tree_with_missing_blocks_lists(shared_fixtures: Path, tmp_path: Path) -> None:
    folder = shared_fixtures / "unixfs"
    with (
        CarFile.open(folder / "go-car__simple-unixfs.car", index=tmp_path / "whole") as whole,
        CarFile.open(folder / "go-car__simple-unixfs-missing-blocks.car", index=tmp_path / "part") as part,
    ):
        (root,) = part.roots
        assert (root,) == whole.roots
        everything = UnixfsTree(whole).page(root)
        told: list[MstfsError] = []
        found = UnixfsTree(part).page(root, on_missing=told.append)
        assert set(found) < set(everything)
        missing = {error.cid for error in told if isinstance(error, MissingBlock)}
        assert len(missing) == len(told) == 3
        assert {cid for cid in missing if whole.has(cid)} == missing
