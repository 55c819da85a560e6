"""Writing: what a close makes of a file, what is refused, and what an open file goes on saying."""

import errno
from pathlib import Path

import pytest
from view_kit import Kit, check_refused
from workspaces import (
    block,
    check_mirrors,
    cid,
    odd_text,
    read_only,
    repository,
    swapped_text,
    text,
    writable,
)

from mstfs.archive import Archive, create_archive
from mstfs.blocks.memory import MemoryBlocks
from mstfs.errors import CorruptBlock, MissingBlock
from mstfs.limits import RECORD_BYTES, SCRATCH_BYTES
from mstfs.values.interface import ValueOptions
from mstfs.view.nodes import Leaf, Stored
from mstfs.view.view import View
from mstfs.view.writer import Writer

X = b"a.b.c/x.json"
NEW = b"a.b.c/new.json"


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit.at(tmp_path)


def test_a_record_is_staged_on_close(kit: Kit) -> None:
    kit.put(X, text(9))
    edit = kit.workspace.edits.get(b"a.b.c/x")
    assert edit is not None
    assert (edit.cid, edit.verbatim) == (cid(9), False)
    assert kit.get(X) == text(9)
    assert kit.workspace.blocks.get(cid(9)) == block(9)
    assert kit.xattr(X, b"state") == b"staged"
    kit.put(X, odd_text(9))
    assert kit.get(X) == odd_text(9)
    kit.put(X, text(1))
    assert not len(kit.workspace.edits)
    assert kit.xattr(X, b"state") == b"published"


@pytest.mark.parametrize("written", [text(9), odd_text(9)])
def test_an_edit_is_written_once(kit: Kit, written: bytes) -> None:
    assert kit.workspace.database is not None
    statements: list[str] = []
    kit.workspace.database._connection.set_trace_callback(statements.append)
    kit.put(X, written)
    assert [words.split()[4] for words in statements if words.startswith("INSERT OR")] == ["edits"]
    assert kit.get(X) == written


def test_the_text_of_a_value_in_dag_json_is_kept_where_it_is_another(tmp_path: Path) -> None:
    car = tmp_path / "map.car"
    create_archive(car, "hashmap").close()
    with Archive.open(car, mode="write", options=ValueOptions(new_files="record")) as archive:
        kit = Kit(archive.workspace)
        # Too long for a CID that is its own block.
        long = b'"a": "%s"' % (b"x" * 200)
        for written, kept in ((b"{\n  " + long + b"\n}\n", False), (b"{ " + long + b" }\n", True)):
            kit.put(b"key", written)
            edit = kit.workspace.edits.get(b"key")
            assert edit is not None
            assert edit.verbatim == kept
            assert kit.get(b"key") == written


@pytest.mark.parametrize("other", [odd_text(1), swapped_text(1)])
def test_writing_back_another_form_of_what_is_published_is_no_edit(kit: Kit, other: bytes) -> None:
    inode = kit.open(X, write=True, truncate=True)
    kit.writer.write(inode, 0, other)
    kit.writer.flush(inode)
    assert not len(kit.workspace.edits)
    assert kit.view.read(inode, 0, 1000) == other
    kit.view.stale.take()
    kit.writer.release(inode)
    # What the kernel has read so far is not what the file says now.
    assert inode.number in kit.view.stale.inodes
    assert kit.get(X) == text(1)


def test_a_draft_is_kept_and_told(kit: Kit) -> None:
    check_refused(errno.EINVAL, lambda: kit.put(X, b'{"n": 1.5}'))
    assert kit.get(X) == b'{"n": 1.5}'
    assert kit.xattr(X, b"state") == b"draft"
    assert b"1.5" in (kit.xattr(X, b"error") or b"")
    assert not len(kit.workspace.edits)
    fresh = Kit(kit.workspace)
    assert fresh.get(X) == b'{"n": 1.5}'
    fresh.put(X, text(5))
    assert not list(kit.workspace.files.drafts())
    assert kit.workspace.staged.get(b"a.b.c/x") == cid(5)
    check_mirrors(kit.workspace)


def test_an_empty_file_waits_for_its_last_close(kit: Kit) -> None:
    inode = kit.open(NEW)
    kit.writer.flush(inode)
    assert not list(kit.workspace.files.drafts())
    kit.writer.write(inode, 0, text(7))
    kit.close(inode)
    assert kit.workspace.staged.get(b"a.b.c/new") == cid(7)
    inode = kit.open(b"a.b.c/empty.json")
    kit.close(inode)
    assert [draft.path for draft in kit.workspace.files.drafts()] == [b"a.b.c/empty.json"]
    assert kit.get(b"a.b.c/empty.json") == b""


def test_fsync_makes_a_draft_of_what_is_half_written(kit: Kit) -> None:
    inode = kit.open(X, write=True, truncate=True)
    kit.writer.write(inode, 0, text(5)[:10])
    kit.writer.fsync(inode)
    assert Kit(kit.workspace).get(X) == text(5)[:10]
    kit.writer.write(inode, 10, text(5)[10:])
    kit.close(inode)
    assert kit.workspace.staged.get(b"a.b.c/x") == cid(5)


def test_truncate_of_a_closed_file(kit: Kit) -> None:
    kit.put(b"note~", b"abcdef")
    kit.writer.truncate(kit.inode(b"note~"), 3)
    assert kit.get(b"note~") == b"abc"
    kit.writer.truncate(kit.inode(b"note~"), 5)
    assert Kit(kit.workspace).get(b"note~") == b"abc\0\0"
    check_refused(errno.EINVAL, lambda: kit.writer.truncate(kit.inode(X), 5))
    assert kit.get(X) == text(1)[:5]
    assert kit.inode(X).buffer is None
    kit.writer.truncate(kit.inode(X), 0)
    assert kit.get(X) == b""
    kit.put(X, odd_text(5) + b"   ")
    kit.writer.truncate(kit.inode(X), len(odd_text(5)))
    assert kit.get(X) == odd_text(5)
    assert kit.workspace.staged.get(b"a.b.c/x") == cid(5)


def test_sizes(kit: Kit) -> None:
    inode = kit.open(X, write=True)
    for action in (
        lambda: kit.writer.write(inode, RECORD_BYTES, b"x"),
        lambda: kit.writer.truncate(inode, RECORD_BYTES + 1),
    ):
        check_refused(errno.EFBIG, action)
    kit.close(inode)
    assert kit.get(X) == text(1)
    scratch = kit.open(b"big~")
    check_refused(errno.EFBIG, lambda: kit.writer.write(scratch, SCRATCH_BYTES, b"x"))
    # Holes cost nothing, neither in memory nor in the overlay.
    kit.writer.truncate(scratch, SCRATCH_BYTES)
    kit.writer.write(scratch, SCRATCH_BYTES - 1, b"x")
    kit.close(scratch)
    database = kit.workspace.database
    assert database is not None
    assert database.execute("SELECT count(*) FROM chunks")[0][0] == 1
    inode = kit.inode(b"big~")
    assert kit.view.read(inode, SCRATCH_BYTES - 2, 10) == b"\0x"


def test_a_big_scratch_file_is_stored_as_it_grows(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mstfs.view.writer.SPILL_BYTES", 1 << 17)
    inode = kit.open(b"big~")
    model = bytearray()
    for number in range(40):
        piece = bytes([number]) * 10_000
        kit.writer.write(inode, number * 9_000, piece)
        model[number * 9_000 :] = piece
        assert inode.buffer is not None
        assert inode.buffer.changed_bytes() <= 1 << 18
    assert kit.view.read(inode, 0, 1 << 20) == model
    kit.close(inode)
    assert Kit(kit.workspace).get(b"big~") == model


def test_names_that_are_taken_or_not_allowed(kit: Kit) -> None:
    kit.mkdir(b"tmp")
    kit.writer.symlink(*kit.split(b"tmp/link"), b"target")
    for path in (X, b"a.b.c", b"tmp/link"):
        check_refused(errno.EEXIST, kit.create, path)
        check_refused(errno.EEXIST, kit.mkdir, path)
    for path in (NEW, b"a.b.e/x.json"):
        if path == b"a.b.e/x.json":
            kit.mkdir(b"a.b.e")
        check_refused(errno.EPERM, kit.mkdir, path)
        check_refused(errno.EPERM, kit.symlink, path)
    check_refused(errno.ENAMETOOLONG, lambda: kit.mkdir(b"x" * 256))
    for path in (b".mstfs/x", b".mstfs/history/x"):
        check_refused(errno.EPERM, kit.put, path, b"x")
    check_refused(errno.EPERM, lambda: kit.mkdir(b".mstfs"))
    check_refused(errno.EPERM, lambda: kit.unlink(b".mstfs/root"))
    check_refused(errno.ENOENT, lambda: kit.unlink(NEW))
    check_refused(errno.EISDIR, lambda: kit.unlink(b"a.b.c"))
    check_refused(errno.ENOTDIR, lambda: kit.writer.rmdir(*kit.split(X)))
    check_refused(errno.ENOTEMPTY, lambda: kit.writer.rmdir(*kit.split(b"a.b.c")))
    check_refused(errno.EISDIR, lambda: kit.open(b"a.b.c"))
    kit.put(b".mstfsx", b"an ordinary file")
    assert kit.names() == [b".mstfsx", b"a.b.c", b"a.b.d", b"a.b.e", b"tmp"]
    kit.rename(b".mstfsx", b".mstfs-too")
    check_mirrors(kit.workspace)


def test_folders_stay_until_they_are_removed(kit: Kit) -> None:
    kit.unlink(b"a.b.d/self.json")
    assert kit.names() == [b"a.b.c", b"a.b.d"]
    kit.publish()
    assert kit.names() == [b"a.b.c", b"a.b.d"]
    kit.writer.rmdir(*kit.split(b"a.b.d"))
    assert kit.names() == [b"a.b.c"]
    kit.mkdir(b"a.b.d")
    kit.publish()
    fresh = Kit(kit.workspace)
    assert fresh.names() == [b"a.b.c", b"a.b.d"]
    fresh.put(b"a.b.d/s.json", text(1))
    fresh.unlink(b"a.b.d/s.json")
    fresh.writer.rmdir(*fresh.split(b"a.b.d"))
    assert Kit(kit.workspace).names() == [b"a.b.c"]
    # A folder without keys that was emptied and not removed is gone with the mount.
    fresh.unlink(X)
    fresh.unlink(b"a.b.c/y.json")
    assert fresh.names() == [b"a.b.c"]
    assert Kit(kit.workspace).names() == []


def test_scratch_keeps_the_folders_that_it_is_in(tmp_path: Path) -> None:
    kit = Kit.at(tmp_path, {b"a/b/c": 1})
    kit.put(b"a/%-b/note", b"x")
    kit.unlink(b"a/%-b/c.json")
    kit.publish()
    fresh = Kit(kit.workspace)
    assert (fresh.names(), fresh.names(b"a"), fresh.names(b"a/%-b")) == ([b"a"], [b"%-b"], [b"note"])
    assert fresh.get(b"a/%-b/note") == b"x"


# --- open files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["record", "verbatim", "draft", "scratch"])
@pytest.mark.parametrize("written", [False, True])
def test_an_unlinked_file_stays_readable(kit: Kit, kind: str, written: bool) -> None:
    path = b"note~" if kind == "scratch" else X
    data = {
        "record": text(1),
        "verbatim": odd_text(8) + b" " * 70_000,
        "draft": b"{" * 70_000,
        "scratch": b"s" * 70_000,
    }[kind]
    if kind == "draft":
        check_refused(errno.EINVAL, lambda: kit.put(path, data))
    else:
        kit.put(path, data)
    inode = kit.open(path, write=written)
    if written:
        kit.writer.write(inode, 5, b"???")
        data = data[:5] + b"???" + data[8:]
    kit.unlink(path)
    assert kit.find(path) is None
    kit.put(path, text(4))
    assert kit.get(path) == text(4)
    assert kit.inode(path) is not inode
    assert kit.view.read(inode, 0, 1 << 20) == data
    # Writing to it changes nobody else's file.
    kit.writer.write(inode, 0, b"!")
    kit.writer.set_mode(inode, 0o600)
    kit.writer.set_times(inode, 5)
    kit.writer.fsync(inode)
    assert kit.view.read(inode, 0, 1 << 20) == b"!" + data[1:]
    kit.close(inode, write=written)
    assert kit.get(path) == text(4)
    database = kit.workspace.database
    assert database is not None
    assert database.execute("SELECT count(*) FROM files WHERE path IS NULL") == [(0,)]
    check_mirrors(kit.workspace)


def test_a_failed_unlink_keeps_everything(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.put(b"note~", b"abc")
    inode = kit.open(b"note~")

    def half(path: bytes) -> None:
        kit.writer.keeper.drop_row(path)
        raise KeyError(path)

    with monkeypatch.context() as patch:
        patch.setattr(kit.writer.keeper, "drop_path", half)
        with pytest.raises(KeyError):
            kit.unlink(b"note~")
    assert kit.view.read(inode, 0, 10) == b"abc"
    kit.close(inode, write=False)
    # The row that was nearly removed is still the file's.
    assert kit.get(b"note~") == b"abc"
    assert Kit(kit.workspace).get(b"note~") == b"abc"


def test_many_openers_share_what_is_written(kit: Kit) -> None:
    reader, writer = kit.open(X), kit.open(X, write=True)
    assert reader is writer
    kit.writer.write(writer, 0, b"?")
    assert kit.view.read(reader, 0, 1) == b"?"
    kit.writer.write(writer, 0, b"{")
    kit.close(writer)
    assert inode_is_clean(kit) is False
    kit.close(reader, write=False)
    assert inode_is_clean(kit)
    assert not len(kit.workspace.edits)


def inode_is_clean(kit: Kit) -> bool:
    inode = kit.inode(X)
    return inode.buffer is None and inode.opens == inode.writers == 0


# --- times and modes ----------------------------------------------------------------------------


@pytest.mark.parametrize("mtime_ns", [0, 1, -5, 10**18])
def test_times_set_by_hand(kit: Kit, mtime_ns: int) -> None:
    check_refused(errno.EINVAL, lambda: kit.put(b"a.b.c/draft.json", b"{"))
    kit.put(X, odd_text(9))
    kit.put(b"note~", b"x")
    kit.mkdir(b"tmp")
    for path in (X, b"a.b.c/draft.json", b"note~", b"tmp", b"a.b.c/y.json"):
        inode = kit.inode(path)
        kit.writer.set_times(inode, mtime_ns)
        assert kit.view.attributes(inode).mtime_ns == mtime_ns
    assert kit.get(X) == odd_text(9)
    fresh = Kit(kit.workspace)
    for path in (X, b"a.b.c/draft.json", b"note~"):
        assert fresh.view.attributes(fresh.inode(path)).mtime_ns == mtime_ns
    # `cp -p` sets the time while the file is still open.
    inode = kit.open(NEW)
    kit.writer.write(inode, 0, text(5))
    kit.writer.set_times(inode, mtime_ns)
    kit.close(inode)
    fresh = Kit(kit.workspace)
    assert fresh.view.attributes(fresh.inode(NEW)).mtime_ns == mtime_ns
    kit.put(X, text(7))
    assert kit.view.attributes(kit.inode(X)).mtime_ns > 10**18
    check_mirrors(kit.workspace)


def test_modes(kit: Kit) -> None:
    kit.put(b"note~", b"x")
    for path in (b"note~", X, b"a.b.c"):
        kit.writer.set_mode(kit.inode(path), 0o100640)
    fresh = Kit(kit.workspace)
    assert fresh.view.attributes(fresh.inode(b"note~")).mode == 0o640
    assert fresh.view.attributes(fresh.inode(X)).mode == 0o644
    kit.writer.mkdir(*kit.split(b"work"), 0o700)
    assert fresh.view.attributes(fresh.inode(b"a.b.c")).mode == 0o755
    fresh = Kit(kit.workspace)
    assert fresh.view.attributes(fresh.inode(b"work")).mode == 0o700
    fresh.writer.set_mode(fresh.inode(b"work"), 0o750)
    fresh.rename(b"work", b"more")
    assert fresh.view.attributes(fresh.inode(b"more")).mode == 0o750
    inode = kit.writer.create(*kit.split(b"secret~"), 0o600)
    assert kit.view.attributes(inode).mode == 0o600
    kit.close(inode)
    assert kit.view.attributes(inode).mode == 0o600


# --- odd keys, damage, reading only ---------------------------------------------------------------


def test_a_key_of_invalid_syntax_can_be_edited_where_it_exists(tmp_path: Path) -> None:
    kit = Kit.at(tmp_path, {b"odd/x": 1, b"a": 2})
    kit.put(b"odd/x.json", text(5))
    assert kit.workspace.staged.get(b"odd/x") == cid(5)
    kit.put(b"odd/new.json", text(6))
    assert kit.workspace.staged.get(b"odd/new") is None
    assert kit.xattr(b"odd/new.json", b"state") == b"scratch"
    # As editors do it: the old file is moved away, and a new one is written.
    kit.rename(b"odd/x.json", b"odd/x.json~")
    kit.put(b"odd/x.json", text(7))
    assert kit.workspace.staged.get(b"odd/x") == cid(7)
    assert kit.get(b"odd/x.json~") == text(5)
    kit.put(b"%=a.json", text(8))
    assert kit.workspace.staged.get(b"a") == cid(8)
    kit.unlink(b"odd/x.json")
    kit.publish()
    assert kit.xattr(b"odd/new.json", b"state") == b"scratch"
    assert kit.find(b"odd/x.json") is None
    check_mirrors(kit.workspace)


def damaged(tmp_path: Path) -> Kit:
    workspace = writable(tmp_path, {b"a.b.c/x": 1, b"a.b.c/y": 2})
    lower = workspace.blocks.lowers[0]
    assert isinstance(lower, MemoryBlocks)
    lower.delete(cid(1))
    lower.plant(cid(2), b"rotten")
    return Kit(workspace)


def test_records_that_cannot_be_read(tmp_path: Path) -> None:
    kit = damaged(tmp_path)
    y = b"a.b.c/y.json"
    for path, error in ((X, MissingBlock), (y, CorruptBlock)):
        inode = kit.inode(path)
        assert kit.view.attributes(inode).size == 0
        with pytest.raises(error):
            kit.view.read(inode, 0, 10)
        with pytest.raises(error):
            kit.open(path)
        with pytest.raises(error):
            kit.writer.truncate(inode, 5)
        assert inode.opens == 0
        assert b"block b" in (kit.xattr(path, b"error") or b"")
        check_refused(errno.EIO, kit.rename, path, b"scratch~")
        kit.rename(path, path + b".json")
        kit.rename(path + b".json", path)
    assert kit.names(b"a.b.c") == [b"x.json", b"y.json"]
    kit.put(X, text(5))
    assert kit.get(X) == text(5)
    kit.unlink(y)
    assert kit.names(b"a.b.c") == [b"x.json"]


def test_reading_only() -> None:
    kit = Kit.__new__(Kit)
    kit.workspace = read_only({b"a.b.c/x": 1})
    kit.view = View(kit.workspace)
    kit.writer = Writer(kit.view)
    for action in (
        lambda: kit.open(X, write=True),
        lambda: kit.open(X, truncate=True),
        lambda: kit.writer.create(*kit.split(NEW), 0o644),
        lambda: kit.mkdir(b"tmp"),
        lambda: kit.unlink(X),
    ):
        check_refused(errno.EROFS, action)
    inode = kit.open(X)
    assert kit.view.attributes(inode).mode == 0o444
    assert kit.get(X) == text(1)
    kit.writer.fsync(inode)
    kit.close(inode, write=False)
    assert isinstance(kit.view.resolve(X), Leaf)


def test_a_full_disk_loses_nothing_that_was_there(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.put(X, text(5))
    inode = kit.open(X, write=True, truncate=True)
    kit.writer.write(inode, 0, text(6))

    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(kit.workspace.edits, "stage", full)
        check_refused(errno.ENOSPC, lambda: kit.writer.flush(inode))
        assert kit.workspace.staged.get(b"a.b.c/x") == cid(5)
        check_mirrors(kit.workspace)
        assert kit.view.read(inode, 0, 1000) == text(6)
    kit.close(inode)
    assert kit.workspace.staged.get(b"a.b.c/x") == cid(6)


def test_a_repository_reads_as_its_records(tmp_path: Path) -> None:
    entries = {b"a.b.c/%03d" % number: number for number in range(40)}
    root, _ = repository(entries)
    kit = Kit.at(tmp_path, entries)
    assert kit.names(b"a.b.c") == [b"%03d.json" % number for number in range(40)]
    for number in range(40):
        assert kit.get(b"a.b.c/%03d.json" % number) == text(number)
    assert kit.xattr(b"", b"state") == b"unsigned"
    assert kit.workspace.head.root == root
    assert not any(isinstance(node, Stored) for _, node in kit.view.children(b"a.b.c"))
