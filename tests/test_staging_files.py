"""Drafts and scratch: rows, chunks, and the mirror of the folders."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workspaces import check_mirrors, writable

from mstfs.errors import OverlayError
from mstfs.staging.files import CHUNK_BYTES, PART_CHUNKS, Files
from mstfs.staging.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return writable(tmp_path, {})


def add(workspace: Workspace, path: bytes, data: bytes = b"", kind: str = "file") -> None:
    files = workspace.files
    with workspace.transaction():
        file = files.add(path, kind, mode=0o644, mtime_ns=5)
        if data:
            chunks = {n: data[n * CHUNK_BYTES :][:CHUNK_BYTES] for n in range(len(data) // CHUNK_BYTES + 1)}
            files.write(file, chunks, len(data), 0)


def contents(workspace: Workspace, path: bytes) -> bytes:
    file = workspace.files.get(path)
    assert file is not None
    return workspace.files.contents(file)


def rows(workspace: Workspace, table: str) -> int:
    assert workspace.database is not None
    count: int = workspace.database.execute(f"SELECT count(*) FROM {table}")[0][0]
    return count


def test_files_folders_and_links(workspace: Workspace) -> None:
    files = workspace.files
    add(workspace, b"folder", kind="folder")
    add(workspace, b"folder/x", b"abc")
    with workspace.transaction():
        link = files.add(b"folder/link", "symlink", mode=0o777, mtime_ns=1, target=b"../x")
    assert link.size == 4
    assert contents(workspace, b"folder/x") == b"abc"
    assert files.names(b"") == {b"folder"}
    assert files.names(b"folder") == {b"x", b"link"}
    assert [file.path for file in files.below(b"")] == [b"folder", b"folder/link", b"folder/x"]
    assert files.names(b"elsewhere") == frozenset()
    check_mirrors(workspace)


def test_folders_on_the_way_need_not_be_stored(workspace: Workspace) -> None:
    files = workspace.files
    add(workspace, b"a/b/c")
    add(workspace, b"a/d")
    assert files.names(b"") == {b"a"}
    assert files.names(b"a") == {b"b", b"d"}
    assert [file.path for file in files.below(b"a")] == [b"a/d", b"a/b/c"]
    with workspace.transaction():
        files.remove(files.by_path[b"a/b/c"])
    assert files.names(b"a") == {b"d"}
    assert b"a/b" not in files.children
    with workspace.transaction():
        files.change(files.by_path[b"a/d"], path=b"e")
    assert files.children == {b"": {b"e"}}
    check_mirrors(workspace)


def test_a_path_is_taken_once(workspace: Workspace) -> None:
    add(workspace, b"x")
    with pytest.raises(OverlayError):
        add(workspace, b"x")
    check_mirrors(workspace)
    add(workspace, b"y", b"abc")
    with pytest.raises(OverlayError), workspace.transaction():
        workspace.files.change(workspace.files.by_path[b"y"], path=b"x")
    check_mirrors(workspace)
    assert contents(workspace, b"y") == b"abc"


def test_contents_live_on_until_they_are_forgotten(workspace: Workspace) -> None:
    files = workspace.files
    add(workspace, b"x", b"abc")
    kept = files.by_path[b"x"]
    with workspace.transaction():
        files.remove(kept, keep_contents=True)
    add(workspace, b"x", b"new")
    assert files.read_chunk(kept.ident, 0) == b"abc"
    assert contents(workspace, b"x") == b"new"
    with workspace.transaction():
        files.forget(kept.ident)
        files.forget(files.by_path[b"x"].ident)  # It has a path, so somebody still needs it.
    assert files.read_chunk(kept.ident, 0) == b""
    assert contents(workspace, b"x") == b"new"
    check_mirrors(workspace)


def test_a_large_file_is_forgotten_in_parts(workspace: Workspace) -> None:
    files = workspace.files
    some = PART_CHUNKS * CHUNK_BYTES + 1
    for path in (b"x", b"y"):
        add(workspace, path, bytes(some))
    gone, kept = files.by_path[b"x"], files.by_path[b"y"]
    with workspace.transaction():
        files.remove(gone, keep_contents=True)
    with workspace.transaction():
        assert not files.forget_part(gone.ident)
        assert rows(workspace, "chunks") == 1 + PART_CHUNKS + 1
        assert files.forget_part(gone.ident)
        assert (rows(workspace, "files"), rows(workspace, "chunks")) == (1, PART_CHUNKS + 1)
        assert files.forget_part(gone.ident)
        assert files.forget_part(kept.ident), "it has a path, so somebody still needs it"
    assert contents(workspace, b"y") == bytes(some)
    check_mirrors(workspace)


def test_what_was_unlinked_while_open_is_purged_on_opening(workspace: Workspace) -> None:
    files = workspace.files
    add(workspace, b"x", b"abc")
    add(workspace, b"y", b"def")
    with workspace.transaction():
        files.remove(files.by_path[b"x"], keep_contents=True)
    assert (rows(workspace, "files"), rows(workspace, "chunks")) == (2, 2)
    files.purge_orphans()
    assert (rows(workspace, "files"), rows(workspace, "chunks")) == (1, 1)
    assert contents(workspace, b"y") == b"def"


def test_drafts_are_the_files_with_an_error(workspace: Workspace) -> None:
    for path in (b"b", b"a", b"c"):
        add(workspace, path)
    with workspace.transaction():
        for path in (b"b", b"a"):
            workspace.files.change(workspace.files.by_path[path], error="no record")
    assert [file.path for file in workspace.files.drafts()] == [b"a", b"b"]
    check_mirrors(workspace)


def test_without_a_database_there_are_none() -> None:
    files = Files(None)
    assert files.get(b"x") is None
    assert files.below(b"") == []
    assert list(files.drafts()) == []


def test_a_transaction_that_fails_leaves_the_mirror_as_it_was(workspace: Workspace) -> None:
    add(workspace, b"a/x", b"abc")

    def fail() -> None:
        with workspace.transaction():
            workspace.files.remove(workspace.files.by_path[b"a/x"])
            workspace.files.add(b"b", "folder", mode=0o755, mtime_ns=1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert contents(workspace, b"a/x") == b"abc"
    assert workspace.files.children == {b"": {b"a"}, b"a": {b"x"}}
    check_mirrors(workspace)


PIECE = CHUNK_BYTES // 2


@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 3)), st.integers(0, 8 * PIECE), st.integers(0, 8 * PIECE)),
        max_size=5,
    )
)
@settings(max_examples=40)
def test_only_what_is_kept_stays_behind_a_cut(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[set[int], int, int]]
) -> None:
    """Whoever cuts a file inside a chunk hands that chunk in; the store drops the chunks behind."""
    workspace = writable(tmp_path_factory.mktemp("files"), {})
    add(workspace, b"x")
    model = bytearray()
    for turn, (numbers, kept, size) in enumerate(writes, 1):
        kept = min(kept, len(model), size)
        numbers = {number for number in numbers if number * CHUNK_BYTES < size}
        if kept % CHUNK_BYTES:
            numbers.add(kept // CHUNK_BYTES)
        model = model[:kept] + bytes(size - kept)
        chunks = {}
        for number in numbers:
            start = number * CHUNK_BYTES
            chunks[number] = bytes([turn]) * min(CHUNK_BYTES, size - start)
            model[start : start + CHUNK_BYTES] = chunks[number]
        with workspace.transaction():
            workspace.files.write(workspace.files.by_path[b"x"], chunks, size, kept)
        assert contents(workspace, b"x") == model
    assert workspace.database is not None
    workspace.database.close()
