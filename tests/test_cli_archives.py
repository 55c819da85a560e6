"""info and export, and how targets are told apart."""

from pathlib import Path

import pytest
from cli_archives import NOTE, RECORDS, SEED, answer, call, complaint, lines, published, sample, staged

from mstfs.archive import Archive
from mstfs.blocks.car_writer import write_car
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.repo.verify import verify_repository

Capture = pytest.CaptureFixture[str]


# --- info -----------------------------------------------------------------------------------------


def test_info_of_a_car(tmp_path: Path, capsys: Capture) -> None:
    path, made = sample(tmp_path)
    facts = answer(capsys, "info", "--count", path)
    assert (facts["file"], facts["version"], facts["size"]) == (str(path), 1, made.size)
    assert facts["roots"] == [facts["root"]] == [cids.to_text(made.root)]
    assert (facts["did"], facts["rev"], facts["kind"], facts["signed"]) == (
        made.did,
        made.rev,
        "signed",
        True,
    )
    assert facts["data"] == cids.to_text(made.data)
    assert facts["overlay"] is None
    assert facts["torn"] is None
    assert facts["records"] == RECORDS == sum(facts["collections"].values())
    text = lines(capsys, "info", path)
    assert f"did         {made.did}" in text
    assert "overlay     none" in text


def test_info_always_has_the_same_fields(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    bare = answer(capsys, "info", path)
    (tmp_path / "b").mkdir()
    with_overlay, _ = staged(tmp_path / "b")
    assert list(answer(capsys, "info", "--count", with_overlay)) == list(bare)


def test_info_shows_the_overlay_that_lies_beside(tmp_path: Path, capsys: Capture) -> None:
    path, made = staged(tmp_path)
    facts = answer(capsys, "info", path)
    assert facts["overlay"] == f"{path}.mstfs"
    assert facts["events"] == 2
    assert facts["staged"] == {"put": 1, "delete": 1}
    assert facts["root"] != cids.to_text(made.root)
    assert answer(capsys, "info", f"{path}.mstfs")["root"] == facts["root"]
    alone = answer(capsys, "info", "--car-only", path)
    assert (alone["overlay"], alone["root"]) == (None, cids.to_text(made.root))
    elsewhere = (tmp_path / "repo.car.mstfs").rename(tmp_path / "elsewhere.mstfs")
    assert answer(capsys, "info", path)["overlay"] is None
    assert answer(capsys, "info", "--overlay", elsewhere, path)["root"] == facts["root"]


def test_info_says_that_a_commit_is_unsigned(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    with Archive.open(path, mode="write") as archive:
        archive[NOTE] = {"$type": "org.example.note"}
        archive.publish()
    assert any("UNSIGNED" in line for line in lines(capsys, "info", path))
    assert answer(capsys, "info", path)["signed"] is False


def test_info_of_a_torn_file(tmp_path: Path, capsys: Capture) -> None:
    path, made = sample(tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    facts = answer(capsys, "info", path)
    assert facts["torn"]
    assert facts["size"] == made.size - 10
    assert any(line.startswith("torn ") for line in lines(capsys, "info", path))


def test_info_of_real_files(shared_fixtures: Path, tmp_path: Path, capsys: Capture) -> None:
    for number, original in enumerate(sorted((shared_fixtures / "atproto").glob("*.car"))):
        path = tmp_path / f"{number}.car"
        path.write_bytes(original.read_bytes())
        facts = answer(capsys, "info", "--count", path)
        assert facts["blocks"] > 0
        assert facts["did"].startswith("did:")


def test_info_of_a_car_without_a_tree(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "other.car"
    block = dag_cbor.encode({"just": "a map"})
    root = cids.for_block(block)
    with path.open("wb") as file:
        write_car(file, [root], [(root, block)])
    facts = answer(capsys, "info", path, code=1)
    assert (facts["roots"], facts["blocks"], facts["root"]) == ([cids.to_text(root)], 1, None)
    assert "no tree that is known" in facts["error"]
    text = lines(capsys, "info", path, code=1)
    assert text[-1].startswith("head        none: ")
    assert f"root {cids.to_text(root)}" in text[-1]
    whole, _ = sample(tmp_path)
    assert list(answer(capsys, "info", whole)) == list(facts)


@pytest.mark.parametrize("command", ["info", "ls", "log", "status", "diff", "verify"])
def test_what_is_no_target(command: str, tmp_path: Path, capsys: Capture) -> None:
    missing = tmp_path / "missing.car"
    assert str(missing) in complaint(capsys, command, missing)
    text = tmp_path / "text.car"
    text.write_text("not a CAR at all")
    assert str(text) in complaint(capsys, command, text)
    nothing = tmp_path / "empty.car"
    nothing.touch()
    assert "empty" in complaint(capsys, command, nothing)


def test_a_folder_that_is_no_mount(tmp_path: Path, capsys: Capture) -> None:
    assert "not inside a mount" in complaint(capsys, "info", tmp_path, code=3)


def test_the_overlay_of_another_car(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a").mkdir()
    path, _ = published(tmp_path / "a")
    other = tmp_path / "other.car"
    assert call("export", path, other) == 0
    capsys.readouterr()
    assert "another CAR" in complaint(capsys, "info", "--overlay", f"{path}.mstfs", other)


# --- export ---------------------------------------------------------------------------------------


def test_export_writes_the_head(tmp_path: Path, capsys: Capture) -> None:
    path, made = published(tmp_path)
    out = tmp_path / "out.car"
    told = answer(capsys, "export", path, out)
    assert told["bytes"] == out.stat().st_size
    assert (told["file"], told["kind"], told["since"]) == (str(out), "signed", None)
    with Archive.open(out, mode="car") as archive:
        assert archive.root == told["root"]
        assert archive.car is not None
        assert archive.car.block_count == told["blocks"]
        report = verify_repository(archive.car, key=made.did_key)
    assert report.sound
    assert report.signature == "valid"
    assert report.records == RECORDS + 1


def test_export_of_an_older_root_is_the_first_car(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    out = tmp_path / "out.car"
    [line] = lines(capsys, "export", "--root", "1", path, out)
    assert line.endswith(f"-> {out}")
    assert out.read_bytes() == path.read_bytes()


def test_export_since_a_root_holds_what_is_new(tmp_path: Path, capsys: Capture) -> None:
    path, made = published(tmp_path)
    out = tmp_path / "new.car"
    told = answer(capsys, "export", "--since", "1", path, out)
    assert told["since"] == cids.to_text(made.root)
    from mstfs.blocks.car import CarFile

    with CarFile.open(path) as old, CarFile.open(out) as new:
        added = [section.cid for section in new.sections()]
        assert not any(old.has(cid) for cid in added)
        assert len(added) == told["blocks"]
    full = answer(capsys, "export", path, tmp_path / "full.car")
    with CarFile.open(path) as old, CarFile.open(tmp_path / "full.car") as whole:
        fresh = {section.cid for section in whole.sections() if not old.has(section.cid)}
    assert fresh == set(added)
    assert full["blocks"] > told["blocks"]


def test_export_to_a_pipe(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    path, _ = sample(tmp_path)
    assert call("export", path, "-") == 0
    out, err = capsysbinary.readouterr()
    assert out == path.read_bytes()
    assert b"blocks" in err


def test_export_destroys_nothing(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    before = path.read_bytes()
    link = tmp_path / "link.car"
    link.symlink_to(path)
    for out in (path, link, Path(f"{path}.mstfs")):
        assert "what is being exported" in complaint(capsys, "export", "--force", path, out)
    assert path.read_bytes() == before
    out = tmp_path / "there.car"
    out.write_text("precious")
    assert "--force" in complaint(capsys, "export", path, out)
    assert out.read_text() == "precious"
    lines(capsys, "export", "--force", path, out)
    assert out.read_bytes() != b"precious"
    assert "is a folder" in complaint(capsys, "export", "--force", path, tmp_path)
    # A pipe is for programs: the answer in JSON has no place there.
    assert "binary" in complaint(capsys, "export", "--json", path, "-")


def test_export_says_that_staged_edits_stay_behind(tmp_path: Path, capsys: Capture) -> None:
    path, _ = staged(tmp_path)
    assert call("export", path, tmp_path / "out.car") == 0
    assert "2 staged edits not exported" in capsys.readouterr().err


def test_an_export_that_fails_leaves_no_file(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "missing" in complaint(capsys, "export", path, tmp_path / "out.car")
    assert not list(tmp_path.glob("*out.car*"))


def test_roots_that_are_none(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    out = tmp_path / "out.car"
    assert "no event 9" in complaint(capsys, "export", "--root", "9", path, out)
    assert "not a CID" in complaint(capsys, "export", "--root", "nonsense", path, out)
    stranger = cids.to_text(cids.for_block(b"unknown"))
    assert "missing" in complaint(capsys, "export", "--root", stranger, path, out)
    assert SEED
