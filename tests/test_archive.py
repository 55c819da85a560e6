"""An archive from the outside: what is opened, with which root, and the mapping that it is."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import naive_mst
import pytest
from workspaces import block, check_mirrors, cid, data_root, repository, write_blocks, write_repository

import mstfs
from mstfs.archive import Archive, open_archive
from mstfs.codec import cid as cids
from mstfs.errors import (
    CarError,
    MissingBlock,
    MstfsError,
    OverlayBusy,
    OverlayDamaged,
    OverlayError,
    OverlayMismatch,
    ReadOnly,
    RecordError,
    Refused,
    SyntaxRuleError,
)
from mstfs.opening import is_overlay
from mstfs.repo.sample import make_sample, signing_key

ENTRIES = {b"a.b.c/%d" % number: number for number in range(9)}
NEW = {"$type": "org.example.note", "number": 77}


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def car(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / "repo.car"
    write_repository(path, ENTRIES)
    return path


@pytest.fixture
def archive(car: Path) -> Iterator[Archive]:
    with Archive.open(car, mode="write") as archive:
        yield archive


def overlay_of(car: Path) -> Path:
    return car.with_name(car.name + ".mstfs")


# --- the mapping --------------------------------------------------------------------------------


def test_an_archive_is_a_mapping(archive: Archive) -> None:
    assert len(archive) == 9
    assert list(archive) == sorted(key.decode() for key in ENTRIES)
    assert archive["a.b.c/3"] == {"$type": "org.example.note", "number": 3}
    assert archive.block("a.b.c/3") == block(3)
    assert '"number": 3' in archive.json("a.b.c/3")
    assert "a.b.c/3" in archive
    assert "a.b.c/x" not in archive
    assert not archive.__contains__(5)
    archive["a.b.c/new"] = NEW
    assert archive["a.b.c/new"] == NEW
    del archive["a.b.c/3"]
    assert "a.b.c/3" not in archive
    assert archive.get("a.b.c/3") is None
    assert archive.pop("a.b.c/4") == {"$type": "org.example.note", "number": 4}
    archive.update({"a.b.d/x": NEW})
    assert list(archive.under("a.b.d/")) == ["a.b.d/x"]
    assert dict(archive)["a.b.d/x"] == NEW
    assert len(archive) == 9
    for operation in (archive.__getitem__, archive.__delitem__, archive.block, archive.json):
        for key in ("a.b.c/3", "", "no key", "\ud800", "a.b.c/\udcff"):
            with pytest.raises(KeyError):
                operation(key)
    check_mirrors(archive.workspace)


def test_only_keys_and_records_are_taken(archive: Archive) -> None:
    for key in ("x", "", "a.b.c/", "a.b.c/..", "a.b.c/ä", "a.b.c/\ud800", "a/b"):
        with pytest.raises(SyntaxRuleError):
            archive[key] = NEW
    for value in ({"number": 1.5}, {"number": 1 << 64}, {"\ud800": 1}):
        with pytest.raises(MstfsError):
            archive["a.b.c/x"] = value
    assert "a.b.c/x" not in archive
    with pytest.raises(RecordError):
        archive["a.b.c/x"] = {"number": float("nan")}


def test_odd_keys_can_be_read_and_deleted(tmp_path: Path) -> None:
    odd = {b"": 0, b"x": 1, b"a/\xff": 2, b"a/b/c": 3, "ä/ö".encode(): 4}
    del odd[b""]
    write_repository(tmp_path / "odd.car", odd)
    with Archive.open(tmp_path / "odd.car", mode="write") as archive:
        assert [archive[key]["number"] for key in archive] == [odd[key] for key in sorted(odd)]
        assert all(key in archive for key in archive)
        for key in list(archive):
            del archive[key]
        assert len(archive) == 0
        archive.publish()
        assert archive.head.data == data_root({})


def test_changing_while_iterating(archive: Archive) -> None:
    for key in archive:
        del archive[key]
    assert list(archive) == []


def test_the_library_opens_for_writing(car: Path) -> None:
    with mstfs.open(car) as archive:
        archive["a.b.c/new"] = NEW
        event = archive.publish(signing_key(1), message="by hand")
        assert event is not None
        assert event.message == "by hand"
        assert archive.publish() is None
        assert [event.kind for event in archive.history()] == ["publish", "import"]
        assert archive.root == cids.to_text(archive.head.root)
        first = list(archive.history())[-1]
        diff = archive.diff(first.root, archive.head.data)
        assert [change.key for change in diff.changes] == [b"a.b.c/new"]
    with open_archive(car, read_only=True) as archive:
        assert archive["a.b.c/new"] == NEW
        assert archive.head.kind == "signed"
        with pytest.raises(ReadOnly):
            archive["a.b.c/x"] = NEW
    with open_archive(car, root=cids.to_text(first.root)) as archive:
        assert "a.b.c/new" not in archive


# --- what is opened -----------------------------------------------------------------------------


def test_reading_makes_no_overlay(car: Path) -> None:
    with Archive.open(car) as archive:
        assert archive.overlay_path is None
        assert len(archive) == 9
        assert archive.clock_id == 0
        with pytest.raises(ReadOnly):
            archive.publish()
    assert not overlay_of(car).exists()


def test_the_three_modes(car: Path) -> None:
    with Archive.open(car, mode="write") as archive:
        archive["a.b.c/new"] = NEW
        assert 0 <= archive.clock_id < 1024
        # Reading beside the writer sees what is staged; a second writer is refused.
        with Archive.open(car) as reader:
            assert reader["a.b.c/new"] == NEW
            assert reader.overlay_path == overlay_of(car)
        with Archive.open(car, mode="car") as bare:
            assert "a.b.c/new" not in bare
        with pytest.raises(OverlayBusy):
            Archive.open(car, mode="write")
    assert overlay_of(car).stat().st_mode & 0o777 == 0o600


def test_an_overlay_knows_its_car(car: Path) -> None:
    with Archive.open(car, mode="write") as archive:
        archive["a.b.c/new"] = NEW
        clock = archive.clock_id
    assert is_overlay(overlay_of(car))
    assert not is_overlay(car)
    assert not is_overlay(car / "nothing")
    with Archive.open(overlay_of(car), mode="write") as archive:
        assert archive["a.b.c/new"] == NEW
        assert archive.clock_id == clock


def test_car_and_overlay_move_together(car: Path, tmp_path: Path) -> None:
    with Archive.open(car, mode="write") as archive:
        archive["a.b.c/new"] = NEW
    there = tmp_path / "there"
    car.parent.rename(there)
    for path in (there / "repo.car", there / "repo.car.mstfs"):
        with Archive.open(path) as archive:
            assert archive["a.b.c/new"] == NEW
    with Archive.open(there / "repo.car", mode="write"):
        pass
    # From then on the overlay finds the CAR even without it beside.
    (there / "repo.car.mstfs").rename(tmp_path / "alone.mstfs")
    with Archive.open(tmp_path / "alone.mstfs") as archive:
        assert archive["a.b.c/new"] == NEW
    (there / "repo.car").unlink()
    with pytest.raises(OverlayError, match=r"repo\.car, which is not there any more"):
        Archive.open(tmp_path / "alone.mstfs")


def test_an_overlay_of_another_car(car: Path, tmp_path: Path) -> None:
    with Archive.open(car, mode="write") as archive:
        archive["a.b.c/new"] = NEW
    other = tmp_path / "other.car"
    write_repository(other, {b"a.b.c/1": 5})
    for mode in ("write", "read"):
        with pytest.raises(OverlayMismatch, match=r"made for .*repo\.car"):
            Archive.open(other, mode=mode, overlay=overlay_of(car))
    shutil.copy(other, car)
    with pytest.raises(OverlayMismatch):
        Archive.open(car)
    with Archive.open(car, mode="car") as archive:
        assert list(archive) == ["a.b.c/1"]
    # The refusals have not taken the overlay over.
    write_repository(car, ENTRIES)
    with Archive.open(car) as archive:
        assert archive["a.b.c/new"] == NEW


def test_an_overlay_elsewhere(car: Path, tmp_path: Path) -> None:
    place = tmp_path / "mine.mstfs"
    with Archive.open(car, mode="write", overlay=place) as archive:
        archive["a.b.c/new"] = NEW
    assert not overlay_of(car).exists()
    with Archive.open(car) as archive:
        assert "a.b.c/new" not in archive
    with Archive.open(car, overlay=place) as archive:
        assert archive["a.b.c/new"] == NEW
    with pytest.raises(MstfsError):
        Archive.open(car, overlay=tmp_path / "nothing.mstfs")
    assert not (tmp_path / "nothing.mstfs").exists()


def test_a_folder_that_takes_no_files(car: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != car.parent and real(path, mode))
    synced = set()

    def note_sync(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "fsync", note_sync)
    with Archive.open(car, mode="write") as archive:
        archive["a.b.c/new"] = NEW
        place = archive.overlay_path
    assert place is not None
    new_folders = (place.parent, place.parent.parent)
    assert {str(folder.parent) for folder in new_folders} <= synced, "the names of new folders must last"
    assert place.is_relative_to(os.environ["XDG_STATE_HOME"])
    assert place.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(place.parent.parent))
    for mode in ("read", "write"):
        with Archive.open(car, mode=mode) as archive:
            assert archive["a.b.c/new"] == NEW


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "text.car").write_bytes(b"hello")
    with pytest.raises(CarError):
        Archive.open(tmp_path / "text.car", mode="write")
    import sqlite3

    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE meta (name, value)")
    other.close()
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(OverlayDamaged):
        Archive.open(tmp_path / "other.db", mode="write")
    assert (tmp_path / "other.db").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if not path.is_dir()) == ["other.db", "text.car"]


# --- roots --------------------------------------------------------------------------------------


def test_a_car_that_cannot_be_opened_leaves_nothing_behind(tmp_path: Path) -> None:
    root, blocks = repository(ENTRIES)
    cases: list[tuple[tuple[bytes, ...], dict[bytes, bytes], type[Exception]]] = [
        ((), blocks, Refused),
        ((cid(99),), blocks, MissingBlock),
        ((cid(1),), blocks, Refused),
        ((root,), {name: data for name, data in blocks.items() if name != root}, MissingBlock),
    ]
    for number, (roots, held, error) in enumerate(cases):
        path = tmp_path / f"{number}.car"
        write_blocks(path, roots, held)
        for mode in ("write", "read", "car"):
            with pytest.raises(error):
                Archive.open(path, mode=mode)
        with pytest.raises(MissingBlock, match=r"the root is not in .*\.car"):
            Archive.open(path, mode="write", root=cid(4711))
    left = {path.suffix for path in tmp_path.iterdir() if path.is_file()}
    assert left <= {".car", ".mstfs-index"}


def test_a_car_without_roots_opens_with_a_given_one(tmp_path: Path) -> None:
    root, blocks = repository(ENTRIES)
    path = tmp_path / "x.car"
    write_blocks(path, (), blocks)
    with Archive.open(path, mode="write", root=root) as archive:
        assert len(archive) == 9
        archive["a.b.c/new"] = NEW
    # The overlay remembers it.
    with Archive.open(path, mode="write") as archive:
        assert archive.head.root == root
        assert archive["a.b.c/new"] == NEW


def test_the_first_root_that_can_be_mounted(tmp_path: Path) -> None:
    first, blocks = repository({b"a.b.c/1": 1})
    second, more = repository({b"a.b.c/1": 2}, rev="3jzfcijpj2z2b")
    path = tmp_path / "x.car"
    write_blocks(path, (cid(1), cid(4711), first, second), blocks | more)
    with Archive.open(path) as archive:
        assert archive.head.root == first
    with Archive.open(path, root=second) as archive:
        assert archive["a.b.c/1"]["number"] == 2
    with Archive.open(path, mode="write", root=second) as archive:
        archive["a.b.c/2"] = NEW
    with Archive.open(path, mode="write") as archive:
        assert archive.head.root == second
    with pytest.raises(OverlayMismatch, match="was begun at root"):
        Archive.open(path, mode="write", root=first)
    with Archive.open(path, root=first) as archive:
        assert list(archive) == ["a.b.c/1"]


def test_an_older_root_is_shown_as_it_was(archive: Archive, car: Path) -> None:
    first = archive.head
    archive["a.b.c/new"] = NEW
    archive.publish()
    newest = archive.head
    archive["a.b.c/staged"] = NEW
    archive.close()
    for root in (first.root, first.data):
        for mode in ("write", "read"):
            with Archive.open(car, mode=mode, root=root) as past:
                assert past.head == first
                assert set(past) == {key.decode() for key in ENTRIES}
                assert past.workspace.read_only
                with pytest.raises(ReadOnly):
                    past["a.b.c/x"] = NEW
    for root in (newest.root, newest.data):
        with Archive.open(car, mode="write", root=root) as now:
            assert now.head == newest
            assert "a.b.c/staged" in now
            now["a.b.c/more"] = NEW
            del now["a.b.c/more"]


# --- export -------------------------------------------------------------------------------------


def test_export_and_open_again(archive: Archive, car: Path, tmp_path: Path) -> None:
    before = car.read_bytes()
    archive["a.b.c/new"] = NEW
    del archive["a.b.c/1"]
    archive.publish()
    target = tmp_path / "new.car"
    assert archive.export(target) == target.stat().st_size
    with Archive.open(target) as again:
        assert again.head == archive.head
        assert dict(again) == dict(archive)
    first = list(archive.history())[-1]
    archive.export(tmp_path / "first.car", root=first.root)
    assert naive_mst.read_car((tmp_path / "first.car").read_bytes()) == naive_mst.read_car(before)
    archive.export(tmp_path / "delta.car", since=first.root)
    _, old = naive_mst.read_car(before)
    _, delta = naive_mst.read_car((tmp_path / "delta.car").read_bytes())
    _, whole = naive_mst.read_car(target.read_bytes())
    assert whole.items() <= (old | delta).items()
    assert car.read_bytes() == before


def test_an_archive_is_not_exported_onto_itself(archive: Archive, car: Path, tmp_path: Path) -> None:
    before = car.read_bytes()
    (tmp_path / "link.car").symlink_to(car)
    for target in (car, overlay_of(car), tmp_path / "link.car"):
        with pytest.raises(Refused, match="part of this archive"):
            archive.export(target)
    assert car.read_bytes() == before


def test_a_real_sample_through_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "sample.car"
    info = make_sample(path, 300, 5, order="pds")
    before = path.read_bytes()
    with Archive.open(path, mode="write") as archive:
        records = dict(archive)
        assert len(records) == info.records
        assert (archive.head.root, archive.head.data) == (info.root, info.data)
        for key in list(records)[::3]:
            del archive[key]
            del records[key]
        for number, key in enumerate(list(records)[::5]):
            archive[key] = records[key] = {**records[key], "edited": number}
        archive.publish(signing_key(5))
        archive.export(tmp_path / "new.car")
    with Archive.open(tmp_path / "new.car") as again:
        assert dict(again) == records
    assert path.read_bytes() == before
