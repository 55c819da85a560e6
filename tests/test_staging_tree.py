"""The staged tree against a dict: pages, searches and single keys, with edits on top."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from workspaces import cid, data_root, delete, put, staged, staged_tree, writable

from mstfs.staging.edits import Edits
from mstfs.staging.tree import StagedTree

key = st.one_of(
    st.binary(min_size=1, max_size=3),
    st.text("ab/", min_size=1, max_size=4).map(str.encode),
)
entries = st.dictionaries(key, st.integers(0, 3), max_size=40)
edits = st.dictionaries(key, st.one_of(st.none(), st.integers(0, 9)), max_size=20)


def both(base: dict[bytes, int], changes: dict[bytes, int | None]) -> tuple[StagedTree, dict[bytes, bytes]]:
    tree = staged_tree(base, {name: None if n is None else cid(n) for name, n in changes.items()})
    return tree, {name: cid(n) for name, n in sorted((base | changes).items()) if n is not None}


@given(entries, edits, st.binary(max_size=2), st.one_of(st.none(), st.binary(max_size=4)), st.integers(0, 50))
@settings(max_examples=250)
def test_pages(
    base: dict[bytes, int], changes: dict[bytes, int | None], prefix: bytes, after: bytes | None, limit: int
) -> None:
    tree, model = both(base, changes)
    wanted = [
        item for item in model.items() if item[0].startswith(prefix) and (after is None or item[0] > after)
    ]
    assert tree.page(prefix, after) == wanted
    assert tree.page(prefix, after, limit) == wanted[:limit]


@given(entries, edits, st.data())
@settings(max_examples=150)
def test_a_page_begins_behind_the_key_that_equals_its_prefix(
    base: dict[bytes, int], changes: dict[bytes, int | None], data: st.DataObject
) -> None:
    tree, model = both(base, changes)
    if model:
        prefix = data.draw(st.sampled_from(sorted(model)))
        wanted = [item for item in model.items() if item[0].startswith(prefix) and item[0] > prefix]
        # The very same object twice: what follows must not hang on identity.
        assert tree.page(prefix, prefix) == wanted


@given(entries, edits, key)
@settings(max_examples=150)
def test_searches(base: dict[bytes, int], changes: dict[bytes, int | None], wanted: bytes) -> None:
    tree, model = both(base, changes)
    assert tree.get(wanted) == model.get(wanted)
    for start in (wanted, b"", *list(model)[:3]):
        found = tree.seek(start)
        assert found == min(((name, n) for name, n in model.items() if name >= start), default=None)


@given(entries, edits, st.binary(max_size=2), st.integers(1, 7))
@settings(max_examples=100)
def test_pages_one_after_the_other_are_the_whole(
    base: dict[bytes, int], changes: dict[bytes, int | None], prefix: bytes, size: int
) -> None:
    tree, model = both(base, changes)
    found: list[tuple[bytes, bytes]] = []
    after = None
    while page := tree.page(prefix, after, size):
        found += page
        after = page[-1].key
    assert found == [item for item in model.items() if item[0].startswith(prefix)]


def test_long_stretches_without_edits() -> None:
    base = {b"k%05d" % n: n % 4 for n in range(6000)}
    changes: dict[bytes, int | None] = {b"k00003": None, b"k03000": 9, b"k05999": None, b"k1": 5}
    tree, model = both(base, changes)
    assert tree.page() == list(model.items())
    assert tree.page(b"k", b"k02998", 3) == [
        (name, model[name]) for name in (b"k02999", b"k03000", b"k03001")
    ]


def test_without_edits_it_is_the_tree_alone(tmp_path: Path) -> None:
    workspace = writable(tmp_path, {b"a.b.c/1": 1, b"a.b.c/2": 2})
    put(workspace, b"a.b.c/3", 3)
    delete(workspace, b"a.b.c/1")
    assert staged(workspace) == {b"a.b.c/2": cid(2), b"a.b.c/3": cid(3)}
    past = workspace.at(data_root({b"a.b.c/1": 1, b"a.b.c/2": 2}))
    assert dict(past.page()) == {b"a.b.c/1": cid(1), b"a.b.c/2": cid(2)}
    assert workspace.staged.published(b"a.b.c/1") == cid(1)
    assert workspace.staged.published(b"a.b.c/3") is None
    assert StagedTree(workspace.tree, workspace.head.data, Edits(None)).seek(b"a.b.c/15") == (
        b"a.b.c/2",
        cid(2),
    )
