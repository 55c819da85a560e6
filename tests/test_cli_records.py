"""ls and cat."""

import base64
from pathlib import Path

import pytest
from cli_archives import NOTE, PROFILE, RECORDS, answer, call, complaint, lines, published, sample, staged

from mstfs.archive import Archive
from mstfs.blocks.car_writer import write_car
from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.repo import record
from mstfs.repo.sample import ODD_RECORD_KEYS
from mstfs.tree.interface import Edit
from mstfs.tree.mst.tree import MstTree
from mstfs.view.names import Names

Capture = pytest.CaptureFixture[str]


def car_of(path: Path, keys: dict[bytes, dict[str, object]], *, without: bytes = b"") -> bytes:
    """A CAR of a bare tree with these records, but for the block of one; returns the root."""
    blocks = {key: dag_cbor.encode(value) for key, value in keys.items()}
    store = MemoryBlocks()
    tree = MstTree(store)
    empty, block = tree.empty()
    store.put(empty, block)
    nodes = {empty: block}
    applied = tree.apply(empty, [Edit(key, cids.for_block(blocks[key])) for key in sorted(blocks)])
    with path.open("wb") as file:
        kept = [(cids.for_block(data), data) for key, data in blocks.items() if key != without]
        write_car(file, [applied.root], [*(nodes | applied.nodes).items(), *kept])
    return applied.root


# --- ls -------------------------------------------------------------------------------------------


def test_ls_lists_collections(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    with Archive.open(path) as archive:
        collections = sorted({key.split("/")[0] for key in archive})
    assert lines(capsys, "ls", path) == [f"{name}/" for name in collections]


def test_ls_counts(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    listed = answer(capsys, "ls", "--count", path)
    assert sum(entry["records"] for entry in listed) == RECORDS
    assert {entry["kind"] for entry in listed} == {"folder"}
    assert f"app.bsky.actor.profile/  {listed[0]['records']}" in lines(capsys, "ls", "--count", path)


def test_ls_lists_records_under_the_names_of_a_mount(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    with Archive.open(path) as archive:
        keys = [key.encode() for key in archive.under("org.example.note/")]
    names = [Names(b".json").path_of(key)[1].decode() for key in keys]
    assert lines(capsys, "ls", path, "org.example.note") == names
    assert lines(capsys, "ls", path, "org.example.note/") == names
    assert lines(capsys, "ls", "--keys", path, "org.example.note") == [key.decode() for key in keys]


def test_ls_takes_the_beginning_of_a_name(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    assert lines(capsys, "ls", path, "app.bsky.act") == ["app.bsky.actor.profile/"]
    assert lines(capsys, "ls", path, "app.bsky.actor.profile/se") == ["self.json"]
    assert lines(capsys, "ls", "-R", path, PROFILE) == [f"{PROFILE}.json"]


def test_ls_long_tells_cid_size_and_time(tmp_path: Path, capsys: Capture) -> None:
    path, info = sample(tmp_path)
    [entry] = answer(capsys, "ls", "-l", path, PROFILE)
    with Archive.open(path) as archive:
        text = archive.json(PROFILE).encode()
        assert entry["cid"] == cids.to_text(archive.workspace.staged.get(PROFILE.encode()) or b"")
    assert entry["size"] == len(text)
    # A key that is no TID has the time of the commit.
    assert entry["time"] == answer(capsys, "info", path)["rev_time"]
    [line] = lines(capsys, "ls", "-l", path, PROFILE)
    assert line.split() == [entry["cid"], str(len(text)), entry["time"], "self.json"]
    assert info.records == RECORDS


def test_ls_of_the_whole_tree_is_every_key(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    with Archive.open(path) as archive:
        assert lines(capsys, "ls", "-R", "--keys", path) == list(archive)


def test_ls_shows_staged_edits_and_older_roots(tmp_path: Path, capsys: Capture) -> None:
    path, info = staged(tmp_path)
    now = answer(capsys, "ls", "-R", path)
    states = {entry["key"]: entry["state"] for entry in now}
    assert states[f"{NOTE}-2"] == "staged"
    assert states[NOTE] == "published"
    assert PROFILE not in states
    head = lines(capsys, "ls", "-R", "--keys", "--root", "head", path)
    assert PROFILE in head
    assert f"{NOTE}-2" not in head
    first = lines(capsys, "ls", "-R", "--keys", "--root", "1", path)
    assert first == lines(capsys, "ls", "-R", "--keys", "--root", cids.to_text(info.root), path)
    assert first == lines(capsys, "ls", "-R", "--keys", "--car-only", path)
    assert NOTE not in first


def test_ls_of_nothing_is_an_error_and_of_an_empty_tree_is_none(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    assert "nothing begins with no.such" in complaint(capsys, "ls", path, "no.such")
    empty = tmp_path / "empty.car"
    car_of(empty, {})
    assert lines(capsys, "ls", empty) == []


def test_ls_goes_on_beside_missing_parts(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "bare.car"
    keys: dict[bytes, dict[str, object]] = {b"a.b.c/%d" % number: {"n": number} for number in range(100)}
    root = car_of(path, keys, without=b"a.b.c/7")
    # The record alone is missing: it is listed, without a size.
    [entry] = answer(capsys, "ls", "-l", path, "a.b.c/7.json")
    assert entry["size"] is None
    with Archive.open(path) as archive:
        nodes = [(cid, data) for cid, data in archive.workspace.tree.nodes(root)]
    half = tmp_path / "half.car"
    with half.open("wb") as file:
        write_car(file, [root], nodes[:-1])
    assert call("ls", half, "a.b.c") == 1
    out, err = capsys.readouterr()
    assert 0 < len(out.splitlines()) < 100
    assert "a part of the tree cannot be listed" in err


def test_names_that_control_a_terminal_are_escaped(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "bare.car"
    car_of(path, {b"a.b.c/\x1b[2J": {}, b"a.b.c/\xff": {}})
    listed = lines(capsys, "ls", path, "a.b.c")
    assert listed == ["\\x1b[2J.json", "\\xff.json"]
    assert "\x1b" not in "".join(complaint(capsys, "ls", path, "\x1b[2J"))


# --- cat ------------------------------------------------------------------------------------------


def test_cat_prints_what_a_mount_shows(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    with Archive.open(path) as archive:
        text = archive.json(PROFILE)
    for name in (PROFILE, f"{PROFILE}.json"):
        assert call("cat", path, name) == 0
        assert capsys.readouterr().out == text


def test_cat_takes_every_name_that_ls_prints(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "odd.car"
    keys = [f"org.example.note/{name}".encode() for name in ODD_RECORD_KEYS]
    car_of(path, {key: {"key": key.decode()} for key in keys})
    for name in lines(capsys, "ls", "-R", path):
        [shown] = answer(capsys, "cat", path, name)
        names = Names(b".json").path_of(shown["record"]["key"].encode())
        # Only a key that itself ends in .json may be taken for the other key with that file name.
        assert b"/".join(names).decode() == name or name.endswith("note.json")


def test_cat_gives_blocks_and_cids(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    path, _ = sample(tmp_path)
    with Archive.open(path) as archive:
        block = archive.block(PROFILE)
    assert call("cat", "--cbor", path, PROFILE) == 0
    assert capsysbinary.readouterr().out == block
    assert call("cat", "--cid", path, PROFILE, PROFILE) == 0
    assert capsysbinary.readouterr().out.decode().split() == [cids.to_text(cids.for_block(block))] * 2


def test_cat_as_json(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    [shown] = answer(capsys, "cat", path, PROFILE)
    assert shown["key"] == PROFILE
    assert shown["record"]["$type"] == "app.bsky.actor.profile"
    [shown] = answer(capsys, "cat", "--cbor", path, PROFILE)
    assert cids.to_text(cids.for_block(base64.b64decode(shown["block"]))) == shown["cid"]


def test_cat_names_what_is_missing_and_prints_the_rest(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    assert call("cat", "--cid", path, "no.such.thing/x", PROFILE) == 2
    out, err = capsys.readouterr()
    assert len(out.split()) == 1
    assert err == f"mstfs: {path} has no record no.such.thing/x\n"
    assert "which record" in complaint(capsys, "cat", path)


def test_cat_tells_of_a_missing_block(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "bare.car"
    car_of(path, {b"a.b.c/1": {"n": 1}, b"a.b.c/2": {"n": 2}}, without=b"a.b.c/1")
    assert "missing" in complaint(capsys, "cat", path, "a.b.c/1")


def test_cat_prints_staged_text_as_it_was_typed(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    typed = b'{"$type":"org.example.note", "text":"typed"}'
    with Archive.open(path, mode="write") as archive:
        block = record.parse(typed)
        with archive.workspace.transaction():
            cid = cids.for_block(block)
            archive.workspace.stage_cid(NOTE.encode(), cid, block=block, text_of=lambda _: typed)
    assert call("cat", path, NOTE) == 0
    assert capsys.readouterr().out == typed.decode()


def test_cat_of_an_older_root(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    [new] = answer(capsys, "cat", path, PROFILE)
    [old] = answer(capsys, "cat", "--root", "1", path, PROFILE)
    assert (old["record"]["displayName"], new["record"]["displayName"]) == ("Nobody in Particular", "Renamed")
