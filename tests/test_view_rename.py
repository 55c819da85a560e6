"""Rename: across records, drafts, scratch and folders, with and without users."""

import errno
from pathlib import Path

import pytest
from view_kit import Kit, check_refused
from workspaces import check_mirrors, cid, mirrors, odd_text, staged, swapped_text, text

from mstfs.errors import OverlayError
from mstfs.view.nodes import Folder

X, Y = b"a.b.c/x.json", b"a.b.c/y.json"
NEW = b"a.b.c/new.json"
BIG_DRAFT = b"{" * 70_000


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit.at(tmp_path)


def draft(kit: Kit, path: bytes, data: bytes = b"{") -> None:
    check_refused(errno.EINVAL, lambda: kit.put(path, data))


def test_scratch_becomes_a_record(kit: Kit) -> None:
    kit.put(b"a.b.c/x.json~", text(9))
    kit.rename(b"a.b.c/x.json~", X)
    assert kit.workspace.staged.get(b"a.b.c/x") == cid(9)
    assert kit.get(X) == text(9)
    assert kit.find(b"a.b.c/x.json~") is None
    assert not kit.workspace.files.by_path


def test_scratch_that_is_no_record_is_refused(kit: Kit) -> None:
    for data in (b"{", b"", b"x" * 3_000_000):
        kit.put(b"note~", data)
        before = mirrors(kit.workspace)
        code = errno.EFBIG if len(data) > 2_000_000 else errno.EINVAL
        check_refused(code, lambda: kit.rename(b"note~", X))
        assert mirrors(kit.workspace) == before
        assert kit.get(X) == text(1)
        assert kit.get(b"note~")[:9] == data[:9]


def test_a_reader_does_not_make_it_a_draft(kit: Kit) -> None:
    kit.put(b"note~", b"{")
    kit.open(b"note~")
    check_refused(errno.EINVAL, lambda: kit.rename(b"note~", X))
    assert kit.get(X) == text(1)


def test_what_is_still_being_written_may_move_as_a_draft_and_says_so_on_close(kit: Kit) -> None:
    inode = kit.open(b"note~")
    kit.writer.write(inode, 0, b"{")
    kit.rename(b"note~", X)
    assert kit.get(X) == b"{"
    assert kit.xattr(X, b"state") == b"draft"
    check_refused(errno.EINVAL, lambda: kit.writer.flush(inode))
    kit.writer.truncate(inode, 0)
    kit.writer.write(inode, 0, text(5))
    kit.close(inode)
    assert kit.workspace.staged.get(b"a.b.c/x") == cid(5)


def test_a_record_becomes_scratch_and_back(kit: Kit) -> None:
    kit.put(X, odd_text(8))
    kit.rename(X, b"a.b.c/x.json~")
    assert kit.get(b"a.b.c/x.json~") == odd_text(8)
    assert kit.workspace.staged.get(b"a.b.c/x") is None
    kit.rename(b"a.b.c/x.json~", NEW)
    assert kit.get(NEW) == odd_text(8)
    assert kit.workspace.staged.get(b"a.b.c/new") == cid(8)
    check_mirrors(kit.workspace)


def test_a_record_to_another_key(kit: Kit) -> None:
    before = kit.view.attributes(kit.inode(X))
    kit.rename(X, NEW)
    assert staged(kit.workspace) == {b"a.b.c/new": cid(1), b"a.b.c/y": cid(2), b"a.b.d/self": cid(3)}
    assert kit.view.attributes(kit.inode(NEW)) == before
    kit.rename(NEW, Y)
    assert kit.get(Y) == text(1)
    kit.rename(Y, X)
    assert {key: edit.cid for key, edit in kit.workspace.edits.by_key.items()} == {b"a.b.c/y": None}


def test_drafts_move_with_what_lies_below_them(kit: Kit) -> None:
    draft(kit, X)
    kit.rename(X, Y)
    assert kit.get(Y) == b"{"
    assert kit.find(X) is None
    assert kit.workspace.staged.get(b"a.b.c/x") is None
    assert kit.workspace.staged.get(b"a.b.c/y") == cid(2)
    kit.rename(Y, b"note~")
    assert kit.xattr(b"note~", b"state") == b"scratch"
    assert kit.xattr(b"note~", b"error") is None
    assert kit.workspace.staged.get(b"a.b.c/y") is None
    assert not list(kit.workspace.files.drafts())
    check_mirrors(kit.workspace)


@pytest.mark.parametrize("victim", ["record", "verbatim", "draft", "scratch", "pending"])
@pytest.mark.parametrize("written", [False, True])
def test_a_replaced_file_stays_readable(kit: Kit, victim: str, written: bool) -> None:
    target = b"note~" if victim == "scratch" else X
    data = {
        "record": text(1),
        "verbatim": odd_text(8) + b" " * 70_000,
        "draft": BIG_DRAFT,
        "scratch": b"s" * 70_000,
        "pending": b"",
    }[victim]
    if victim == "pending":
        target = NEW
        inode = kit.open(target)
    else:
        if victim == "draft":
            draft(kit, target, data)
        else:
            kit.put(target, data)
        inode = kit.open(target, write=written)
    if written:
        kit.writer.write(inode, 5, b"???")
        data = data[:5].ljust(5, b"\0") + b"???" + data[8:]
    kit.put(b"tmp~", text(9))
    kit.rename(b"tmp~", target)
    assert kit.get(target) == text(9)
    assert kit.view.read(inode, 0, 1 << 20) == data
    kit.close(inode, write=written or victim == "pending")
    assert kit.get(target) == text(9)
    database = kit.workspace.database
    assert database is not None
    assert database.execute("SELECT count(*) FROM files WHERE path IS NULL") == [(0,)]
    check_mirrors(kit.workspace)


@pytest.mark.parametrize("size", [0, 70_000])
def test_an_open_file_goes_along(kit: Kit, size: int) -> None:
    data = odd_text(7) + b" " * size
    inode = kit.open(b"tmp~")
    kit.writer.write(inode, 0, data)
    kit.writer.fsync(inode)
    kit.rename(b"tmp~", X)
    assert kit.inode(X) is inode
    assert kit.workspace.staged.get(b"a.b.c/x") == cid(7)
    assert kit.view.read(inode, 0, 1 << 20) == data
    kit.writer.write(inode, len(data), b" ")
    kit.close(inode)
    assert kit.get(X) == data + b" "
    inode = kit.open(X, write=True)
    kit.writer.write(inode, len(data) + 1, b" ")
    kit.rename(X, b"back~")
    kit.writer.write(inode, 0, b"?")
    kit.close(inode)
    assert kit.get(b"back~") == b"?" + data[1:] + b"  "
    assert kit.find(X) is None


def test_a_text_of_the_same_size_is_another_text(kit: Kit) -> None:
    inode = kit.open(b"tmp~")
    kit.writer.write(inode, 0, swapped_text(1))
    kit.rename(b"tmp~", X)
    kit.view.stale.take()
    assert kit.view.read(inode, 0, 1000) == swapped_text(1)
    kit.close(inode)
    assert inode.number in kit.view.stale.inodes
    assert kit.get(X) == text(1)


def test_open_scratch_that_says_what_is_published_already(kit: Kit) -> None:
    """The record is shown in its own form afterwards; who goes on writing has the text that was written."""
    inode = kit.open(b"tmp~")
    data = odd_text(1) + b" " * 70_000
    kit.writer.write(inode, 0, data)
    kit.rename(b"tmp~", X)
    assert not len(kit.workspace.edits)
    assert kit.view.read(inode, 0, 1 << 20) == data
    kit.writer.write(inode, len(data), b" ")
    assert kit.view.read(inode, 0, 1 << 20) == data + b" "
    kit.view.stale.take()
    kit.close(inode)
    assert inode.number in kit.view.stale.inodes
    assert kit.get(X) == text(1)


def test_refusals(kit: Kit) -> None:
    kit.mkdir(b"tmp")
    kit.writer.symlink(*kit.split(b"tmp/link"), b"target")
    before = mirrors(kit.workspace)
    for code, source, target in (
        (errno.ENOENT, NEW, X),
        (errno.EISDIR, X, b"a.b.d"),
        (errno.ENOTDIR, b"a.b.d", X),
        (errno.ENOTEMPTY, b"tmp", b"a.b.c"),
        (errno.EINVAL, b"a.b.c", b"a.b.c/in"),
        (errno.EINVAL, b"tmp", NEW),
        (errno.EPERM, b"tmp/link", NEW),
        (errno.EPERM, X, b".mstfs"),
        (errno.EPERM, b".mstfs", b"other"),
        (errno.ENAMETOOLONG, X, b"x" * 256),
    ):
        check_refused(code, kit.rename, source, target)
    check_refused(errno.EEXIST, lambda: kit.rename(X, Y, replace=False))
    kit.rename(X, X)
    assert mirrors(kit.workspace) == before
    check_mirrors(kit.workspace)


# --- folders ------------------------------------------------------------------------------------


def full(kit: Kit) -> None:
    kit.put(X, odd_text(8))
    draft(kit, b"a.b.c/draft.json")
    kit.put(b"a.b.c/note~", b"scratch")
    kit.mkdir(b"a.b.c/in")
    kit.put(b"a.b.c/in/deep", b"deep")
    kit.writer.symlink(*kit.split(b"a.b.c/link"), b"target")


def test_a_collection_moves_with_all_that_is_in_it(kit: Kit) -> None:
    full(kit)
    inode = kit.open(b"a.b.c/pending.json")
    kit.writer.write(inode, 0, text(6))
    kit.rename(b"a.b.c", b"a.b.e")
    assert kit.names() == [b"a.b.d", b"a.b.e"]
    assert kit.names(b"a.b.e") == [
        b"draft.json",
        b"in",
        b"link",
        b"note~",
        b"pending.json",
        b"x.json",
        b"y.json",
    ]
    assert staged(kit.workspace) == {
        b"a.b.d/self": cid(3),
        b"a.b.e/pending": cid(6),
        b"a.b.e/x": cid(8),
        b"a.b.e/y": cid(2),
    }
    assert kit.get(b"a.b.e/x.json") == odd_text(8)
    assert kit.get(b"a.b.e/draft.json") == b"{"
    assert kit.get(b"a.b.e/in/deep") == b"deep"
    kit.writer.write(inode, len(text(6)), b" ")
    kit.close(inode)
    assert kit.get(b"a.b.e/pending.json") == text(6) + b" "
    check_mirrors(kit.workspace)
    kit.publish()
    assert Kit(kit.workspace).names(b"a.b.e") == kit.names(b"a.b.e")


def test_a_collection_becomes_scratch_and_back(kit: Kit) -> None:
    kit.rename(b"a.b.c", b"backup")
    assert kit.get(b"backup/x.json") == text(1)
    assert staged(kit.workspace) == {b"a.b.d/self": cid(3)}
    kit.rename(b"backup", b"a.b.c")
    assert not len(kit.workspace.edits)
    assert not [file for file in kit.workspace.files.by_path.values() if file.kind == "file"]
    kit.rename(b"a.b.c", b"a.b.x")
    kit.rename(b"a.b.x", b"a.b.c")
    assert not len(kit.workspace.edits)
    assert Kit(kit.workspace).get(X) == text(1)


def test_a_folder_of_scratch_with_one_bad_record_stays_where_it_is(kit: Kit) -> None:
    kit.mkdir(b"tmp")
    kit.put(b"tmp/good.json", text(5))
    kit.put(b"tmp/zbad.json", b"{")
    before = mirrors(kit.workspace)
    check_refused(errno.EINVAL, lambda: kit.rename(b"tmp", b"a.b.e"))
    assert mirrors(kit.workspace) == before
    assert kit.names() == [b"a.b.c", b"a.b.d", b"tmp"]
    kit.put(b"tmp/zbad.json", text(6))
    kit.mkdir(b"a.b.e")
    kit.rename(b"tmp", b"a.b.e")
    assert kit.workspace.staged.get(b"a.b.e/zbad") == cid(6)
    check_mirrors(kit.workspace)


def test_an_open_file_in_a_folder_that_becomes_a_collection(kit: Kit) -> None:
    kit.mkdir(b"tmp")
    data = odd_text(5) + b" " * 70_000
    kit.put(b"tmp/x.json", data)
    reader, writer = kit.open(b"tmp/x.json"), kit.open(b"tmp/x.json", write=True)
    kit.writer.write(writer, len(data), b" ")
    kit.rename(b"tmp", b"a.b.e")
    assert kit.view.read(reader, 0, 1 << 20) == data + b" "
    kit.writer.write(writer, 65_536, b" ")
    kit.close(writer)
    kit.close(reader, write=False)
    assert kit.get(b"a.b.e/x.json") == data + b" "
    assert kit.workspace.staged.get(b"a.b.e/x") == cid(5)


def test_a_rename_that_fails_at_any_step_changes_nothing(kit: Kit) -> None:
    full(kit)
    database = kit.workspace.database
    assert database is not None
    before = mirrors(kit.workspace)
    listing = [kit.names(path) for path in (b"", b"a.b.c", b"a.b.c/in")]
    real = database.execute
    for when in range(1, 200):
        left = when

        def failing(sql: str, params: tuple[object, ...] = ()) -> object:
            nonlocal left
            if not sql.startswith("SELECT"):
                left -= 1
                if not left:
                    raise OverlayError("made to fail")
            return real(sql, params)

        database.execute = failing  # type: ignore[method-assign, assignment]
        try:
            kit.rename(b"a.b.c", b"a.b.e")
        except OverlayError:
            assert left == 0
        finally:
            database.execute = real  # type: ignore[method-assign]
        if left > 0:
            break
        assert mirrors(kit.workspace) == before
        check_mirrors(kit.workspace)
        assert [kit.names(path) for path in (b"", b"a.b.c", b"a.b.c/in")] == listing
        assert kit.get(X) == odd_text(8)
    else:
        pytest.fail("it never succeeded")
    assert when > 10
    assert isinstance(kit.view.resolve(b"a.b.e"), Folder)
    assert kit.get(b"a.b.e/x.json") == odd_text(8)
