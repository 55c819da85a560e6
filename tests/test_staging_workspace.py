"""What is an edit, what is none, and what a failed transaction leaves behind."""

from pathlib import Path

import pytest
from workspaces import block, check_mirrors, cid, data_root, delete, put, read_only, staged, writable

from mstfs.errors import BlockError, ConflictingBlock, CorruptBlock, ReadOnly
from mstfs.staging.workspace import Workspace

ENTRIES = {b"a.b.c/1": 1, b"a.b.c/2": 2}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return writable(tmp_path, ENTRIES)


def test_a_put_of_what_is_published_is_no_edit(workspace: Workspace) -> None:
    put(workspace, b"a.b.c/1", 1)
    assert not len(workspace.edits)
    put(workspace, b"a.b.c/1", 5)
    put(workspace, b"a.b.c/1", 1)
    assert not len(workspace.edits)
    assert staged(workspace)[b"a.b.c/1"] == cid(1)
    check_mirrors(workspace)


def test_a_tombstone_of_what_was_never_published_is_no_edit(workspace: Workspace) -> None:
    delete(workspace, b"a.b.c/9")
    assert not len(workspace.edits)
    put(workspace, b"a.b.c/9", 9)
    delete(workspace, b"a.b.c/9")
    assert not len(workspace.edits)
    delete(workspace, b"a.b.c/1")
    assert staged(workspace) == {b"a.b.c/2": cid(2)}
    check_mirrors(workspace)


def test_while_a_publication_is_planned_everything_is_an_edit(workspace: Workspace) -> None:
    workspace.planning = True
    put(workspace, b"a.b.c/1", 1)
    delete(workspace, b"a.b.c/9")
    assert [(key, edit.cid) for key, edit in sorted(workspace.edits.by_key.items())] == [
        (b"a.b.c/1", cid(1)),
        (b"a.b.c/9", None),
    ]


def test_time_and_text_are_kept(workspace: Workspace) -> None:
    with workspace.transaction():
        workspace.stage_cid(b"a.b.c/3", cid(3), block=block(3), text_of=lambda _: b"{ }", mtime_ns=0)
    edit = workspace.edits.get(b"a.b.c/3")
    assert edit is not None
    assert (edit.mtime_ns, edit.verbatim) == (0, True)
    assert workspace.edits.text(b"a.b.c/3") == b"{ }"
    assert workspace.blocks.get(cid(3)) == block(3)


def test_a_failed_transaction_leaves_tables_and_mirrors_alone(workspace: Workspace) -> None:
    put(workspace, b"a.b.c/3", 3)

    def fail() -> None:
        with workspace.transaction():
            workspace.stage_cid(b"a.b.c/4", cid(4), block=block(4))
            workspace.stage_delete(b"a.b.c/1")
            workspace.stage_delete(b"a.b.c/3")
            workspace.files.add(b"x", "file", mode=0o644, mtime_ns=1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert staged(workspace) == {b"a.b.c/1": cid(1), b"a.b.c/2": cid(2), b"a.b.c/3": cid(3)}
    assert not workspace.files.by_path
    assert not workspace.blocks.has(cid(4))
    check_mirrors(workspace)


def test_an_inner_transaction_fails_alone(workspace: Workspace) -> None:
    def fail() -> None:
        with workspace.transaction():
            workspace.stage_delete(b"a.b.c/4")
            raise KeyError

    with workspace.transaction():
        workspace.stage_cid(b"a.b.c/4", cid(4), block=block(4))
        with pytest.raises(KeyError):
            fail()
        assert workspace.staged.get(b"a.b.c/4") == cid(4)
    assert workspace.staged.get(b"a.b.c/4") == cid(4)
    check_mirrors(workspace)


def test_a_block_that_does_not_match_is_refused(workspace: Workspace) -> None:
    for name, error in ((cid(7), CorruptBlock), (cid(1), ConflictingBlock)):
        with pytest.raises(error), workspace.transaction():
            workspace.stage_cid(b"a.b.c/7", name, block=b"\xa0")
    assert not len(workspace.edits)
    check_mirrors(workspace)


def test_reading_only() -> None:
    workspace = read_only(ENTRIES)
    workspace.sync()
    with pytest.raises(ReadOnly):
        put(workspace, b"a.b.c/3", 3)
    with pytest.raises(ReadOnly):
        delete(workspace, b"a.b.c/1")
    assert staged(workspace) == {key: cid(number) for key, number in ENTRIES.items()}


def test_a_past_workspace_shows_nothing_that_is_staged(workspace: Workspace) -> None:
    put(workspace, b"a.b.c/3", 3)
    past = Workspace(
        head=workspace.head,
        blocks=workspace.blocks,
        tree=workspace.tree,
        values=workspace.values,
        database=workspace.database,
        read_only=False,
        past=True,
    )
    assert past.read_only
    assert set(staged(past)) == set(ENTRIES)
    assert past.history.head() is not None
    with pytest.raises(ReadOnly):
        put(past, b"a.b.c/4", 4)


def test_a_missing_node_is_an_error_and_no_absent_key(workspace: Workspace) -> None:
    workspace.head = workspace.head.__class__(
        workspace.head.root, data_root({b"x": 9}), workspace.head.commit
    )
    with pytest.raises(BlockError):
        workspace.staged.get(b"a.b.c/1")
    with pytest.raises(BlockError):
        put(workspace, b"a.b.c/1", 1)
    check_mirrors(workspace)
