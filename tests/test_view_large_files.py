"""Large files: what is done before a close and after a removal, in steps; anything may happen in between."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from view_kit import Kit, take_short_steps

from mstfs.archive import Archive, create_archive
from mstfs.blocks.sqlite_blocks import SqliteBlocks
from mstfs.staging.status import status
from mstfs.values.cipher import Cipher
from mstfs.view.inodes import Inode
from mstfs.view.keeper import UNFINISHED


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Kit]:
    """A map whose values are blobs, in which a file of 3 MiB is being written."""
    car = tmp_path / "map.car"
    create_archive(car, "hamt3").close()
    with Archive.open(car, mode="write") as archive:
        kit = Kit(archive.workspace)
        inode = kit.create(b"key")
        for number, part in enumerate(LARGE):
            kit.writer.write(inode, number << 20, part)
        yield kit


LARGE = [bytes([number]) * (1 << 20) for number in range(5)]


def made_ahead(kit: Kit, path: bytes = b"key") -> int:
    """Do all that can be done before the close, and count the steps."""
    return sum(1 for _ in kit.writer.keeper.prepare(kit.inode(path)))


def stored_by(kit: Kit, action: Callable[[], None]) -> int:
    """How many blocks an action stores."""
    upper = kit.workspace.blocks.upper
    assert isinstance(upper, SqliteBlocks)
    before = upper.count()
    action()
    return upper.count() - before


def test_a_large_file_is_made_before_its_close(large: Kit) -> None:
    inode = large.inode(b"key")
    assert made_ahead(large) > 1
    assert not len(large.workspace.edits)
    assert stored_by(large, lambda: large.writer.flush(inode)) == 0
    large.writer.release(inode)
    assert large.get(b"key") == b"".join(LARGE)


def test_what_is_written_meanwhile_counts(large: Kit) -> None:
    inode = large.inode(b"key")
    steps = large.writer.keeper.prepare(inode)
    next(steps)
    large.writer.write(inode, 0, b"new")
    assert list(steps) == []
    assert inode.buffer is not None
    assert inode.buffer.made(b"key") is None
    large.close(inode)
    assert large.get(b"key") == b"new" + b"".join(LARGE)[3:]


@pytest.mark.parametrize("change", ["write", "truncate"])
def test_what_is_written_afterwards_counts(large: Kit, change: str) -> None:
    inode = large.inode(b"key")
    made_ahead(large)
    whole = b"".join(LARGE)
    if change == "write":
        large.writer.write(inode, 5, b"new")
        whole = whole[:5] + b"new" + whole[8:]
    else:
        large.writer.truncate(inode, 4 << 20)
        whole = whole[: 4 << 20]
    large.close(inode)
    assert large.get(b"key") == whole


def test_a_value_is_made_for_its_key_alone(tmp_path: Path) -> None:
    """A file moves from a name whose value is not encrypted to one whose value is."""
    car = tmp_path / "map.car"
    create_archive(car, "hamt3").close()
    key = Cipher(bytes(32), b"")
    with Archive.open(car, mode="write", cipher=key, plain=("open/*",)) as archive:
        kit = Kit(archive.workspace)
        kit.mkdir(b"open")
        inode = kit.create(b"open/key")
        whole = b"".join(LARGE)
        kit.writer.write(inode, 0, whole)
        made_ahead(kit, b"open/key")
        assert inode.buffer is not None
        assert inode.buffer.made(b"open/key") is not None
        kit.rename(b"open/key", b"sealed")
        kit.close(inode)
        assert kit.get(b"sealed") == whole
        sealed = kit.workspace.edits.get(b"sealed")
        assert sealed is not None
        assert sealed.cid is not None
        assert whole not in kit.workspace.blocks.get(sealed.cid)


def test_a_name_that_goes_meanwhile_takes_the_value_along(large: Kit) -> None:
    steps = large.writer.keeper.prepare(large.inode(b"key"))
    next(steps)
    inode = large.inode(b"key")
    large.unlink(b"key")
    list(steps)
    large.close(inode)
    assert large.find(b"key") is None
    assert not len(large.workspace.edits)


def test_what_is_written_back_is_compared_in_steps(large: Kit) -> None:
    large.close(large.inode(b"key"))
    before = large.workspace.edits.get(b"key")
    assert before is not None
    inode = large.open(b"key", write=True, truncate=True)
    large.writer.write(inode, 0, b"".join(LARGE))

    def rest() -> None:
        assert made_ahead(large) == len(LARGE) - 1
        large.close(inode)

    assert stored_by(large, rest) == 0
    after = large.workspace.edits.get(b"key")
    assert after is not None
    assert after.cid == before.cid


def test_a_large_file_is_dropped_in_parts(large: Kit) -> None:
    inode = large.inode(b"key")
    keeper = large.writer.keeper
    spill_all(large, inode)
    assert chunks(large) == 80
    large.close(inode)
    assert chunks(large) == 80
    assert next(keeper.forgetting(), "done") is None
    assert 0 < chunks(large) < 80
    assert list(keeper.forgetting()) == [None]
    assert chunks(large) == 0
    assert list(keeper.forgetting()) == []
    assert large.get(b"key") == b"".join(LARGE)


def spill_all(kit: Kit, inode: Inode) -> None:
    assert inode.buffer is not None
    while inode.buffer.chunks:
        kit.writer.keeper.spill(inode, inode.buffer)


def test_what_was_stored_while_it_was_written_is_the_beginning(large: Kit) -> None:
    """Should the daemon end before the close, the draft has no holes where more was written."""
    inode = large.inode(b"key")
    assert inode.buffer is not None
    for parts in (1, 2):
        large.writer.keeper.spill(inode, inode.buffer)
        large.writer.keeper.spill(inode, inode.buffer)
        assert len(inode.buffer.chunks) == 80 - 32 * parts
        assert large.get(b"key") == b"".join(LARGE)
        after = Kit(large.workspace)
        assert after.get(b"key") == b"".join(LARGE)[: parts << 21]
        assert [draft["error"] for draft in status(large.workspace)["drafts"]] == [UNFINISHED]
    large.close(inode)
    assert large.get(b"key") == b"".join(LARGE)
    assert not status(large.workspace)["drafts"]


def test_what_lies_over_something_else_begins_as_a_copy_of_it(large: Kit) -> None:
    whole = bytearray(b"".join(LARGE))
    large.close(large.inode(b"key"))
    inode = large.open(b"key", write=True)
    large.writer.write(inode, 100, b"new")
    large.writer.write(inode, 2 << 20, b"new")
    whole[100:103] = whole[2 << 20 : (2 << 20) + 3] = b"new"
    assert inode.buffer is not None
    large.writer.keeper.spill(inode, inode.buffer)
    assert not inode.buffer.chunks
    assert Kit(large.workspace).get(b"key") == whole
    large.writer.write(inode, 200, b"newer")
    whole[200:205] = b"newer"
    large.close(inode)
    assert large.get(b"key") == whole


WRITE = st.tuples(st.just("write"), st.integers(0, 300_000), st.integers(1, 150_000))
CUT = st.tuples(st.just("cut"), st.integers(0, 400_000), st.just(0))
STEPS = st.lists(st.one_of(WRITE, CUT, st.just(("spill", 0, 0)), st.just(("fsync", 0, 0))), max_size=12)


@pytest.mark.parametrize("path", [b"other", b"other~"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_order_of_writes_cuts_and_spills(
    large: Kit, path: bytes, steps: list[tuple[str, int, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        take_short_steps(patch)
        inode = large.open(path, write=True, truncate=True) if large.find(path) else large.create(path)
        model = bytearray()
        for number, (step, offset, length) in enumerate(steps):
            piece = bytes([number + 1]) * length
            if step == "write":
                large.writer.write(inode, offset, piece)
                model.extend(bytes(max(0, offset - len(model))))
                model[offset : offset + length] = piece
            elif step == "cut":
                large.writer.truncate(inode, offset)
                del model[offset:]
                model.extend(bytes(offset - len(model)))
            elif step == "fsync":
                large.writer.fsync(inode)
            elif inode.buffer is not None and inode.buffer.chunks:
                large.writer.keeper.spill(inode, inode.buffer)
            assert large.view.read(inode, 0, 1 << 20) == model
            assert large.view.attributes(inode).size == len(model)
        large.close(inode)
        assert large.get(path) == model
        assert Kit(large.workspace).get(path) == model


def chunks(kit: Kit) -> int:
    """How many rows the contents of drafts and scratch take."""
    assert kit.workspace.database is not None
    found: int = kit.workspace.database.execute("SELECT count(*) FROM chunks")[0][0]
    return found
