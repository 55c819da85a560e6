"""The table of edits and its mirror: order, batches, what a publication clears."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workspaces import check_mirrors, cid, writable

from mstfs.staging.edits import Edits
from mstfs.staging.workspace import Workspace
from mstfs.tree.interface import Edit


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return writable(tmp_path, {})


def stage(workspace: Workspace, key: bytes, number: int | None, text: bytes | None = None) -> None:
    with workspace.transaction():
        workspace.edits.stage(key, None if number is None else cid(number), 7, text)


def test_an_edit_is_in_the_table_and_in_the_mirror(workspace: Workspace) -> None:
    stage(workspace, b"b", 1)
    stage(workspace, b"a", None)
    stage(workspace, b"b", 2, b"text")
    edits = workspace.edits
    assert edits.keys == [b"a", b"b"]
    assert len(edits) == 2
    edit = edits.get(b"b")
    assert edit is not None
    assert (edit.cid, edit.verbatim, edit.mtime_ns, edit.sequence) == (cid(2), True, 7, 3)
    assert edits.text(b"b") == b"text"
    assert edits.text(b"a") is None
    assert edits.text(b"nothing") is None
    check_mirrors(workspace)


def test_batch_clear_and_what_came_later(workspace: Workspace) -> None:
    for number, key in enumerate((b"c", b"a", b"b")):
        stage(workspace, key, number)
    batch, upto = workspace.edits.batch()
    assert batch == [Edit(b"a", cid(1)), Edit(b"b", cid(2)), Edit(b"c", cid(0))]
    stage(workspace, b"a", 5)
    stage(workspace, b"d", None)
    with workspace.transaction():
        workspace.edits.clear(upto)
    assert sorted(workspace.edits.cleared(upto)) == [b"b", b"c"]
    assert workspace.edits.keys == [b"a", b"d"]
    check_mirrors(workspace)
    frozen = workspace.edits.frozen()
    stage(workspace, b"e", 6)
    workspace.edits.reload()
    assert [edit.key for edit in frozen()[0]] == [b"a", b"d"]
    batch, upto = workspace.edits.batch()
    with workspace.transaction():
        workspace.edits.clear(upto)
    assert sorted(workspace.edits.cleared(upto)) == [b"a", b"d", b"e"]
    assert not workspace.edits.keys
    check_mirrors(workspace)


def test_the_sequence_never_goes_back(workspace: Workspace) -> None:
    # A batch that is being published must stay older than what is staged from then on.
    stage(workspace, b"a", 1)
    _, upto = workspace.edits.batch()
    with workspace.transaction():
        workspace.edits.discard(b"a")
    workspace.edits.reload()
    stage(workspace, b"a", 2)
    edit = workspace.edits.get(b"a")
    assert edit is not None
    assert edit.sequence > upto


def test_discarding_what_is_not_there(workspace: Workspace) -> None:
    with workspace.transaction():
        assert not workspace.edits.discard(b"a")
    stage(workspace, b"a", 1)
    with workspace.transaction():
        assert workspace.edits.discard(b"a")
    assert not len(workspace.edits)
    check_mirrors(workspace)


def test_without_a_database_there_are_none() -> None:
    edits = Edits(None)
    assert not len(edits)
    assert edits.batch() == ([], 0)
    assert not edits.any_within(b"")
    assert list(edits.after(b"", inclusive=True)) == []


@given(st.sets(st.binary(max_size=3), max_size=20), st.binary(max_size=2))
@settings(max_examples=100)
def test_ranges(keys: set[bytes], start: bytes) -> None:
    edits = Edits(None)
    edits.keys = sorted(keys)
    assert edits.any_within(start) == any(key.startswith(start) for key in keys)
    assert list(edits.after(start, inclusive=True)) == [key for key in edits.keys if key >= start]
    assert list(edits.after(start, inclusive=False)) == [key for key in edits.keys if key > start]
