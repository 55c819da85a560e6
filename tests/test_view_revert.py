"""Revert: edits and drafts go, scratch stays, and whoever has a file open keeps it."""

import errno
from pathlib import Path

import pytest
from view_kit import Kit, check_refused
from workspaces import check_mirrors, cid, mirrors, odd_text, staged, text

from mstfs.errors import ReadOnly, Refused
from mstfs.publish.plan import checkout
from mstfs.tree.interface import Change
from mstfs.view.changes import before_switch, switched
from mstfs.view.revert import revert

X, Y = b"a.b.c/x.json", b"a.b.c/y.json"
NEW = b"a.b.c/new.json"


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    kit = Kit.at(tmp_path)
    kit.put(X, odd_text(9))
    kit.unlink(b"a.b.d/self.json")
    check_refused(errno.EINVAL, lambda: kit.put(Y, b"{"))
    kit.put(NEW, text(5))
    kit.put(b"a.b.c/note~", b"scratch")
    return kit


def test_everything(kit: Kit) -> None:
    assert sorted(revert(kit.view, [b""])) == [NEW, X, Y, b"a.b.d/self.json"]
    assert not len(kit.workspace.edits)
    assert [kit.get(path) for path in (X, Y, b"a.b.d/self.json")] == [text(1), text(2), text(3)]
    assert kit.names(b"a.b.c") == [b"note~", b"x.json", b"y.json"]
    assert revert(kit.view, [b""]) == []
    check_mirrors(kit.workspace)


def test_some_paths(kit: Kit) -> None:
    assert revert(kit.view, [b"a.b.d", b"/a.b.c/y.json/"]) == [Y, b"a.b.d/self.json"]
    assert kit.get(Y) == text(2)
    assert kit.get(X) == odd_text(9)
    assert revert(kit.view, [b"a.b", b"nothing", b"a.b.c/note~"]) == []
    assert staged(kit.workspace)[b"a.b.c/new"] == cid(5)


def test_outside_of_the_tree(kit: Kit) -> None:
    before = mirrors(kit.workspace)
    for path in (b".mstfs", b".mstfs/root", b"../x", b"a.b.c/../.."):
        with pytest.raises(Refused, match="not part of the tree"):
            revert(kit.view, [X, path])
    assert mirrors(kit.workspace) == before
    kit.workspace.read_only = True
    with pytest.raises(Refused, match="read only") as caught:
        revert(kit.view, [b""])
    assert not isinstance(caught.value, ReadOnly)


def test_a_draft_over_an_edit_goes_with_it(kit: Kit) -> None:
    check_refused(errno.EINVAL, lambda: kit.put(X, b"{"))
    assert revert(kit.view, [X]) == [X]
    assert kit.get(X) == text(1)


@pytest.mark.parametrize("path", [X, Y, NEW])
def test_readers_keep_what_they_saw(kit: Kit, path: bytes) -> None:
    if path == Y:
        check_refused(errno.EINVAL, lambda: kit.put(Y, b"{" * 70_000))
    inode = kit.open(path)
    seen = kit.view.read(inode, 0, 1 << 20)
    revert(kit.view, [b""])
    kit.put(path, text(7))
    assert kit.view.read(inode, 0, 1 << 20) == seen
    assert kit.get(path) == text(7)
    kit.close(inode, write=False)
    assert kit.get(path) == text(7)
    assert kit.workspace.database is not None
    assert kit.workspace.database.execute("SELECT count(*) FROM files WHERE path IS NULL") == [(0,)]


@pytest.mark.parametrize("path", [X, Y, NEW])
def test_who_could_write_and_did_not_does_not_undo_it(kit: Kit, path: bytes) -> None:
    inode = kit.open(path, write=True)
    seen = kit.view.read(inode, 0, 1000)
    revert(kit.view, [b""])
    assert kit.view.read(inode, 0, 1000) == seen
    kit.close(inode)
    assert not len(kit.workspace.edits)
    assert not list(kit.workspace.files.drafts())
    assert kit.find(path) is None if path == NEW else kit.get(path) == text(1 if path == X else 2)


@pytest.mark.parametrize("path", [X, Y, NEW])
@pytest.mark.parametrize("before", [False, True])
def test_who_is_writing_goes_on(kit: Kit, path: bytes, before: bool) -> None:
    inode = kit.open(path, write=True)
    if before:
        kit.writer.truncate(inode, 0)
    revert(kit.view, [b""])
    if before:
        # What is being written keeps its name, although nothing else has it.
        assert kit.inode(path) is inode
    kit.writer.truncate(inode, 0)
    kit.writer.write(inode, 0, text(7))
    kit.close(inode)
    assert kit.get(path) == text(7)
    check_mirrors(kit.workspace)


def test_a_new_file_under_a_reverted_name_is_another_file(kit: Kit) -> None:
    old = kit.open(NEW, write=True)
    revert(kit.view, [NEW])
    new = kit.open(NEW)
    assert new is not old
    kit.writer.write(new, 0, text(8))
    kit.writer.write(old, 0, b"?")
    kit.close(new)
    kit.close(old)
    assert kit.get(NEW) == text(8)


def test_the_kernel_is_told(kit: Kit) -> None:
    numbers = {path: kit.inode(path).number for path in (X, NEW, b"a.b.c")}
    kit.view.stale.take()
    revert(kit.view, [b""])
    inodes, entries = kit.view.stale.take()
    assert set(numbers.values()) <= inodes
    assert {(numbers[b"a.b.c"], name) for name in (b"x.json", b"y.json", b"new.json")} <= entries


def test_a_draft_is_the_same_file_whatever_is_checked_out_below_it(kit: Kit) -> None:
    inode = kit.open(Y)

    first = kit.workspace.head
    kit.unlink(X)
    kit.put(b"a.b.c/z.json", text(4))
    kit.publish()
    found = kit.workspace.tree.diff(kit.workspace.head.data, first.data).changes
    found = (*found, Change(b"a.b.c/y", cid(2), cid(9)))
    before_switch(kit.view, found)
    checkout(kit.workspace, first.root)
    switched(kit.view, found)
    assert kit.inode(Y) is inode
    assert inode.pinned is None
    assert kit.view.read(inode, 0, 10) == b"{"
    assert kit.get(X) == text(1)
