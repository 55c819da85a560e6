"""Directories as folders: every dirent has one path, and hostile names and shards stay inside."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path as FilePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree_unixfs_node import Store

from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.codec.dag_pb import KIND_METADATA, KIND_SYMLINK, PBLink, UnixfsData
from mstfs.errors import LimitExceeded, MissingBlock, MissingBlocks, MstfsError, NodeError
from mstfs.limits import KEY_BYTES, NESTING
from mstfs.tree.unixfs.builder import build_sharded, gather
from mstfs.tree.unixfs.directory import Dirent
from mstfs.tree.unixfs.tree import EMPTY_CID, UnixfsTree
from mstfs.view.directories import DirectoryNamespace
from mstfs.view.names import CONTROL, Path
from mstfs.view.namespace import Child

Rows = list[tuple[bytes, "bytes | Rows"]]


def planted(store: Store, rows: Rows, shard: bool) -> bytes:
    """Put a directory: a name with bytes is a file, one with rows a directory."""
    held: list[tuple[bytes, bytes]] = []
    for name, below in rows:
        if not isinstance(below, bytes):
            cid = planted(store, below, shard)
        elif below.startswith(b"->"):
            cid = store.node(UnixfsData(KIND_SYMLINK, below[2:]))
        else:
            cid = store.parts(below) if below.startswith(b"node") else store.raw(below)
        held.append((name, cid))
    if not shard:
        return store.folder(*held)
    # No sharded directory can hold an empty name, or a name twice.
    first = {name: cid for name, cid in reversed(held) if name}
    return gather(build_sharded([Dirent(name, cid, 1) for name, cid in first.items()]), store.put).cid


def expected(tree: UnixfsTree, root: bytes) -> dict[tuple[bytes, ...], tuple[bytes, bool]]:
    """Every way through the tree by its names: the CID there, and whether it is a directory."""
    found: dict[tuple[bytes, ...], tuple[bytes, bool]] = {}
    stack: list[tuple[tuple[bytes, ...], bytes]] = [((), root)]
    while stack:
        names, cid = stack.pop()
        is_folder = tree.attributes(cid).kind == "directory"
        found[names] = cid, is_folder
        if is_folder:
            stack += [((*names, dirent.name), dirent.cid) for dirent in tree.entries(cid)]
    return found


def walked(namespace: DirectoryNamespace) -> Iterator[tuple[Path, Child]]:
    stack: list[Path] = [()]
    while stack:
        folder = stack.pop()
        names = set()
        for child in namespace.children(folder):
            assert child.name not in names
            names.add(child.name)
            path = (*folder, child.name)
            yield path, child
            if child.key is None:
                stack.append(path)


def check_names(path: Path) -> None:
    for name in path:
        assert 0 < len(name) <= 255
        assert name not in (b".", b"..")
        assert not {0, 0x2F} & set(name)
    assert path[0] != CONTROL


name = st.one_of(
    st.sampled_from([b"a", b"b", b"a.txt", b"%", b"%=a", b"%-a", b"%+a", b"%@", b"%2F", b"%25", b"%00"]),
    st.sampled_from([b"", b".", b"..", b"/", b"a/b", b"/..", b"../..", b"a/", b"\0", b"a\0b", CONTROL]),
    st.sampled_from(
        [b"x" * 255, b"x" * 256, b"x" * 600, b"x" * 600 + b"/", b"%" * 200, b"x" * 239 + b"/" * 9]
    ),
    st.binary(max_size=5),
)
contents = st.sampled_from([b"", b"1", b"2", b"node1", b"->a", b"->/etc/passwd"])
rows = st.recursive(
    st.lists(st.tuples(name, contents), max_size=6),
    lambda below: st.lists(st.tuples(name, st.one_of(contents, below)), max_size=6),
    max_leaves=6,
)


@given(rows, st.booleans())
@settings(max_examples=200)
def test_every_dirent_has_one_path(plain: Rows, shard: bool) -> None:
    store = Store()
    root = planted(store, plain, shard)
    tree = UnixfsTree(store)
    model = expected(tree, root)
    namespace = DirectoryNamespace(tree, root)
    assert namespace.find(()) == Child(b"", None, root)
    files: list[tuple[bytes, bool]] = []
    listed: list[tuple[Path, bytes, bytes]] = []
    for path, child in walked(namespace):
        check_names(path)
        assert namespace.find(path) == child
        assert namespace.folder_exists(path) == (child.key is None)
        if child.key is not None and child.cid is not None:
            files.append((child.cid, False))
            listed.append((path, child.key, child.cid))
            assert namespace.path_of(child.key) == path
            assert namespace.key_of(path) == child.key
        elif child.cid is not None:
            files.append((child.cid, True))
    assert sorted(files) == sorted(there for names, there in model.items() if names)
    assert len({key for _, key, _ in listed}) == len(listed)
    assert sorted(namespace.keys_below(())) == sorted(listed)
    # Where the tree has a path for an entry, that is the key.
    wanted = {
        (b"/".join(names), cid)
        for names, (cid, folder) in model.items()
        if names and not folder and all(names) and not any(b"/" in part for part in names)
    }
    assert {(key, cid) for _, key, cid in listed if not key.startswith(b"/")} == wanted


def simple(*entries: tuple[bytes, bytes]) -> tuple[Store, DirectoryNamespace]:
    store = Store()
    root = store.folder(*entries)
    return store, DirectoryNamespace(UnixfsTree(store), root)


@given(st.lists(name, min_size=1, max_size=4))
@settings(max_examples=300)
def test_keys_and_paths_are_a_bijection(parts: list[bytes]) -> None:
    _, namespace = simple()
    path = tuple(part for part in parts if part)
    key = namespace.key_of(path)
    if key is not None:
        check_names(path)
        assert namespace.path_of(key) == path
    joined = b"/".join(parts)
    spelled = namespace.path_of(joined)
    check_names(spelled)
    if all(joined.split(b"/")):
        assert namespace.key_of(spelled) == joined


def test_names_that_are_escaped_without_need_are_none() -> None:
    store = Store()
    inner = store.folder((CONTROL, store.raw(b"1")), (b"..", store.raw(b"2")))
    root = store.folder((b"a", store.raw(b"3")), (b"d", inner), (CONTROL, inner), (b".", store.raw(b"4")))
    namespace = DirectoryNamespace(UnixfsTree(store), root)
    assert {path for path, _ in walked(namespace)} == {
        (b"a",),
        (b"d",),
        (b"d", CONTROL),
        (b"d", b"%=.."),
        (b"%-.mstfs",),
        (b"%-.mstfs", CONTROL),
        (b"%-.mstfs", b"%=.."),
        (b"%=.",),
    }
    for path in [
        (b"%=a",),
        (b"%-d",),
        (CONTROL,),
        (b"%=.mstfs",),
        (b"d", b"%=.mstfs"),
        (b"d", b".."),
        (b"d", b"%-.."),
        (b"%-.",),
        (b".",),
        (b"%+a",),
        (b"%+", b"%=a"),
        (b"a", b"a"),
        (b"%=%2E",),
        (b"%@",),
        (b"d", b"absent"),
        (b"absent", b"a"),
    ]:
        assert namespace.find(path) is None
        assert list(namespace.children(path)) == []
        assert not namespace.folder_exists(path)
    assert namespace.key_of((b"d", b"new")) == b"d/new"
    assert namespace.key_of(()) is None


def test_the_first_of_equal_names_wins() -> None:
    store = Store()
    one, other = store.raw(b"1"), store.raw(b"2")
    root = store.folder((b"a", one), (b"a", other), (b"", other), (b"", one))
    namespace = DirectoryNamespace(UnixfsTree(store), root)
    assert list(namespace.children(())) == [Child(b"a", b"a", one), Child(b"%=", b"/%", other)]
    assert namespace.find((b"%=",)) == Child(b"%=", b"/%", other)


def test_listing_reads_no_raw_block_and_needs_no_child() -> None:
    store = Store()
    big, sub = store.parts(b"node", (store.raw(b"part"), 4)), store.folder()
    gone, cbor = store.node(UnixfsData(KIND_SYMLINK, b"x")), cids.for_block(b"\xf6")
    broken = store.node(None)
    described = store.node(UnixfsData(KIND_METADATA), PBLink(sub))
    namespace = DirectoryNamespace(
        UnixfsTree(store),
        store.folder(
            (b"raw", store.raw(b"1")), (b"big", big), (b"sub", sub), (b"gone", gone), (b"cbor", cbor),
            (b"broken", broken), (b"meta", described),
        ),
    )  # fmt: skip
    store.delete(gone)
    store.reads.clear()
    assert list(namespace.children(())) == [
        Child(b"raw", b"raw", store.raw(b"1")),
        Child(b"big", b"big", big),
        Child(b"sub", None, sub),
        Child(b"gone", b"gone", gone),
        Child(b"cbor", b"cbor", cbor),
        Child(b"broken", b"broken", broken),
        Child(b"meta", None, described),
    ]
    assert not [cid for cid in store.reads if cids.codec_of(cid) == cids.RAW]
    assert namespace.find((b"gone",)) == Child(b"gone", b"gone", gone)
    assert list(namespace.children((b"meta",))) == []
    # What cannot be read may be a folder: what is in it cannot be told.
    with pytest.raises(MissingBlock):
        namespace.find((b"gone", b"x"))
    with pytest.raises(NodeError):
        namespace.find((b"broken", b"x"))
    assert namespace.find((b"raw", b"x")) is None
    assert [key for _, key, _ in namespace.keys_below(())] == [b"raw", b"big", b"gone", b"cbor", b"broken"]


def sharded(count: int) -> tuple[Store, bytes, list[Dirent]]:
    store = Store()
    store.raw(b"x")
    dirents = [Dirent(b"f%05d" % number, store.raw(b"x"), 1) for number in range(count)]
    return store, gather(build_sharded(dirents), store.put).cid, dirents


def test_looking_up_reads_one_path_of_shards() -> None:
    store, root, dirents = sharded(5000)
    namespace = DirectoryNamespace(UnixfsTree(store), root)
    store.reads.clear()
    assert namespace.find((b"f00777",)) == Child(b"f00777", b"f00777", store.raw(b"x"))
    assert namespace.find((b"absent",)) is None
    assert len(store.reads) <= 5
    assert {child.name for child in namespace.children(())} == {dirent.name for dirent in dirents}


def test_a_listing_is_lazy() -> None:
    store, root, _ = sharded(5000)
    namespace = DirectoryNamespace(UnixfsTree(store), root)
    store.reads.clear()
    assert len(list(islice(namespace.children(()), 10))) == 10
    assert len(store.reads) < 5


def test_missing_shards_are_left_out_of_a_listing() -> None:
    store, root, dirents = sharded(2000)
    tree = UnixfsTree(store)
    top = tree.node(root)
    gone = top.links[next(at for at, name in enumerate(top.names) if len(name) == 2)]
    inside = {dirent.name for dirent in tree.entries(gone)}
    store.delete(gone)
    namespace = DirectoryNamespace(UnixfsTree(store), root)
    told: list[MstfsError] = []
    names = {child.name for child in namespace.children((), told.append)}
    assert names == {dirent.name for dirent in dirents} - inside
    assert [type(error) for error in told] == [MissingBlock]
    with pytest.raises(MissingBlocks):
        list(namespace.children(()))
    with pytest.raises(MissingBlock):
        namespace.find((min(inside),))
    assert namespace.find((min(names),)) is not None


def test_shards_that_lie_about_their_names_can_be_listed_and_read() -> None:
    store = Store()
    one, other = store.raw(b"1"), store.raw(b"2")
    for root in (
        store.shard((b"00a", one), (b"01b", other)),
        store.shard((b"00a", one), (b"01b", other), hash_type=0x12),
    ):
        namespace = DirectoryNamespace(UnixfsTree(store), root)
        listed = list(namespace.children(()))
        assert listed == [Child(b"a", b"a", one), Child(b"b", b"b", other)]
        assert [namespace.find((child.name,)) for child in listed] == listed


# --- roots that are no directories ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["raw", "file", "symlink"])
def test_a_root_that_is_a_file_is_the_only_entry(kind: str) -> None:
    store = Store()
    made = {
        "raw": lambda: store.raw(b"1"),
        "file": lambda: store.parts(b"node"),
        "symlink": lambda: store.node(UnixfsData(KIND_SYMLINK, b"target")),
    }
    root = made[kind]()
    namespace = DirectoryNamespace(UnixfsTree(store), root)
    text = cids.to_text(root).encode()
    assert namespace.find(()) == Child(b"", None, None)
    assert list(namespace.children(())) == [Child(text, b"", root)]
    assert namespace.find((text,)) == Child(text, b"", root)
    assert namespace.tree.get(root, b"") == root
    assert list(namespace.keys_below(())) == [((text,), b"", root)]
    assert namespace.path_of(b"") == (text,)
    assert namespace.key_of((text,)) == b""
    assert namespace.folder_exists(())
    for path in [(b"a",), (text, b"a"), (b"%=",)]:
        assert namespace.find(path) is None
        assert namespace.key_of(path) is None
        assert list(namespace.children(path)) == []


def test_a_root_that_is_missing_is_an_error() -> None:
    namespace = DirectoryNamespace(UnixfsTree(Store()), EMPTY_CID)
    with pytest.raises(MissingBlock):
        namespace.find(())
    with pytest.raises(MissingBlock):
        list(namespace.children(()))


# --- limits -----------------------------------------------------------------------------------


def test_long_names_are_cut_into_pieces_that_are_listed_once() -> None:
    store = Store()
    names = [b"x" * 300 + b"%d" % number for number in range(20)] + [b"y" * 700]
    _, namespace = simple(*[(name, store.raw(b"1")) for name in names])
    top = [child.name for child in namespace.children(())]
    assert top == [b"%+" + b"x" * 240, b"%+" + b"y" * 240]
    assert len(list(namespace.children((top[0],)))) == 20
    assert namespace.folder_exists((top[1], top[1]))
    assert not namespace.folder_exists((top[1], top[0]))
    assert not namespace.folder_exists((b"%+" + b"x" * 239,))
    assert {key for _, key, _ in namespace.keys_below((top[0],))} == set(names[:-1])


def test_a_name_that_goes_on_behind_a_missing_shard_is_an_error() -> None:
    store = Store()
    dirents = [Dirent(b"x" * 300 + b"%d" % number, store.raw(b"1"), 1) for number in range(2000)]
    root = gather(build_sharded(dirents), store.put).cid
    for cid in list(store.cids()):
        if cid != root and cids.codec_of(cid) == cids.DAG_PB:
            store.delete(cid)
    namespace = DirectoryNamespace(UnixfsTree(store), root)
    with pytest.raises(MissingBlock):
        namespace.find((b"%+" + b"x" * 240,))


def test_keys_over_the_limit_are_told_and_left_out() -> None:
    store = Store()
    names = [b"x" * KEY_BYTES, b"y" * (KEY_BYTES + 1), b"z"]
    _, namespace = simple(*[(name, store.raw(b"1")) for name in names])
    told: list[MstfsError] = []
    assert len(list(namespace.children((), told.append))) == 2
    assert [type(error) for error in told] == [LimitExceeded]
    with pytest.raises(LimitExceeded):
        list(namespace.children(()))
    assert namespace.find((b"z",)) is not None
    assert namespace.key_of(namespace.path_of(names[0])) == names[0]
    assert namespace.find(namespace.path_of(names[0])) is not None
    assert namespace.key_of(namespace.path_of(names[1])) is None
    assert namespace.find(namespace.path_of(names[1])) is None
    assert namespace.find((b"%+x",) * 5000) is None


def test_deep_trees_end_at_a_limit() -> None:
    store = Store()
    cid = store.folder((b"f", store.raw(b"1")))
    for _ in range(3 * NESTING):
        cid = store.folder((b"d", cid), (b"f", store.raw(b"1")))
    namespace = DirectoryNamespace(UnixfsTree(store), cid)
    deepest = (b"d",) * (NESTING - 1)
    assert [child.name for child in namespace.children(deepest)] == [b"d", b"f"]
    assert namespace.find((*deepest, b"d")) is not None
    with pytest.raises(LimitExceeded):
        list(namespace.children((*deepest, b"d")))
    with pytest.raises(LimitExceeded):
        namespace.find((b"d",) * 2 * NESTING)
    with pytest.raises(LimitExceeded):
        list(namespace.keys_below(()))
    told: list[MstfsError] = []
    assert len(list(namespace.keys_below((), told.append))) == NESTING
    assert [type(error) for error in told] == [LimitExceeded]


def test_directories_that_come_again_and_again_end(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    cid = store.folder((b"f", store.raw(b"1")))
    for _ in range(100):
        cid = store.folder((b"a", cid), (b"b", cid))
    monkeypatch.setattr("mstfs.view.directories.REPEATED", 1000)
    namespace = DirectoryNamespace(UnixfsTree(store), cid)
    assert [child.name for child in namespace.children(())] == [b"a", b"b"]
    with pytest.raises(LimitExceeded):
        list(namespace.keys_below(()))


# --- real files -------------------------------------------------------------------------------


def test_real_trees(shared_fixtures: FilePath) -> None:
    for path in sorted((shared_fixtures / "unixfs").glob("*.car")):
        with CarFile.open(path, use_sidecar=False) as car:
            tree = UnixfsTree(car)
            for root in car.roots:
                namespace = DirectoryNamespace(tree, root)
                told: list[MstfsError] = []
                held = {entry.key: entry.cid for entry in tree.walk(root, on_missing=told.append)}
                below = {key: cid for _, key, cid in namespace.keys_below(())}
                assert held.items() <= below.items()
                assert bool(told) == (len(below) > len(held))
                for key, cid in below.items():
                    found = namespace.find(namespace.path_of(key))
                    assert found is not None
                    assert found.cid == cid
