"""verify and prove."""

import sqlite3
from pathlib import Path

import pytest
from cli_archives import NOTE, PROFILE, RECORDS, answer, call, complaint, lines, published, sample, staged
from crooked import did_key
from defects import KINDS

from mstfs.archive import Archive
from mstfs.blocks.car import CarFile
from mstfs.blocks.car_writer import write_car
from mstfs.codec import cid as cids
from mstfs.repo.sample import signing_key

Capture = pytest.CaptureFixture[str]
ABSENT = "app.bsky.feed.post/not-there"


# --- verify ---------------------------------------------------------------------------------------


def test_a_sound_file(tmp_path: Path, capsys: Capture) -> None:
    path, made = sample(tmp_path)
    before = sorted(tmp_path.iterdir())
    report = answer(capsys, "verify", "--key", made.did_key, path)
    assert report["sound"] is True
    assert (report["signature"], report["complete"], report["records"]) == ("valid", True, RECORDS)
    assert (report["did"], report["rev"], report["root"]) == (made.did, made.rev, cids.to_text(made.root))
    assert report["defects"] == []
    [line] = lines(capsys, "verify", path)
    assert line.startswith(f"{path}: sound; root {report['root']}, did {made.did}, rev {made.rev} (")
    assert line.endswith(
        f"{RECORDS} records, {report['nodes']} nodes, signature unchecked (give --key), complete"
    )
    assert sorted(tmp_path.iterdir()) == before


def test_the_key_of_somebody_else(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    *defects, summary = lines(capsys, "verify", "--key", signing_key(99).did_key, path, code=1)
    assert len(defects) == 1
    assert defects[0].startswith("signature-mismatch: ")
    assert "1 defect; " in summary
    assert "signature invalid" in summary
    assert "mstfs: " in complaint(capsys, "verify", "--key", "nonsense", path)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_defects_are_told_with_rule_and_place(name: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "repo.car"
    path.write_bytes(KINDS[name].car())
    report = answer(capsys, "verify", "--key", did_key(), path, code=1)
    assert report["sound"] is False
    assert KINDS[name].rule in [defect["rule"] for defect in report["defects"]]
    *told, summary = lines(capsys, "verify", "--key", did_key(), path, code=1)
    assert len(told) == report["defect_count"] == len(report["defects"])
    for line, defect in zip(told, report["defects"], strict=True):
        assert line.startswith(f"{defect['rule']}: ")
        assert line.isprintable()
        assert defect["offset"] is None or f"offset {defect['offset']}" in line
        assert defect["cid"] is None or defect["cid"] in line
        assert defect["key"] is None or f"key {defect['key']}" in line
    assert f"{len(told)} defect" in summary


def test_only_so_many_defects_are_printed(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    with CarFile.open(path) as car, (tmp_path / "part.car").open("wb") as file:
        sections = list(car.sections())[:5]
        write_car(file, car.roots, [(found.cid, car.get(found.cid)) for found in sections])
    part = tmp_path / "part.car"
    count = answer(capsys, "verify", part, code=1)["defect_count"]
    assert count > 3
    told = lines(capsys, "verify", "--max", "2", part, code=1)
    assert told[2] == f"... and {count - 2} more (--max {count} prints all)"
    assert "INCOMPLETE" in told[3]
    assert len(answer(capsys, "verify", "--max", "2", part, code=1)["defects"]) == 2
    assert "negative" in complaint(capsys, "verify", "--max", "-1", part)


def test_unsigned_commits(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    with Archive.open(path, mode="write") as archive:
        archive[NOTE] = {"$type": "org.example.note"}
        archive.publish()
    out = tmp_path / "out.car"
    lines(capsys, "export", path, out)
    for target in (out, f"{path}.mstfs"):
        report = answer(capsys, "verify", target, code=1)
        assert [defect["rule"] for defect in report["defects"]] == ["commit-unsigned"]
        [line] = lines(capsys, "verify", "--allow-unsigned", target)
        assert "UNSIGNED" in line


def test_an_overlay_is_verified_from_its_head(tmp_path: Path, capsys: Capture) -> None:
    path, made = staged(tmp_path)
    overlay = f"{path}.mstfs"
    report = answer(capsys, "verify", "--key", made.did_key, overlay)
    assert (report["signature"], report["records"]) == ("valid", RECORDS + 1)
    assert report["root"] == answer(capsys, "log", path)[0]["root"]
    # The CAR itself is what it was.
    assert answer(capsys, "verify", path)["root"] == cids.to_text(made.root)
    with Archive.open(path, mode="write") as archive:
        cid = archive.workspace.tree.get(archive.head.data, NOTE.encode())
        assert cid is not None
        assert archive.workspace.blocks.upper is not None
        archive.workspace.blocks.upper.delete(cid)
    report = answer(capsys, "verify", overlay, code=1)
    assert report["complete"] is False
    assert [(defect["rule"], defect["key"]) for defect in report["defects"]] == [("missing-block", NOTE)]


def test_a_history_that_was_changed_is_a_defect(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    connection = sqlite3.connect(f"{path}.mstfs")
    connection.execute("UPDATE events SET message = 'other' WHERE sequence = 2")
    connection.commit()
    connection.close()
    *told, summary = lines(capsys, "verify", f"{path}.mstfs", code=1)
    assert len(told) == 1
    assert told[0].startswith("history-chain: history event 2")
    assert "1 defect; " in summary


def test_real_files_verify(shared_fixtures: Path, capsys: Capture) -> None:
    for path in sorted((shared_fixtures / "atproto").glob("*.car")):
        [line] = lines(capsys, "verify", path)
        assert ": sound; " in line


# --- proofs ---------------------------------------------------------------------------------------


def test_a_proof_that_a_record_is_there(tmp_path: Path, capsys: Capture) -> None:
    path, made = published(tmp_path)
    proof = tmp_path / "proof.car"
    told = answer(capsys, "prove", path, PROFILE, "-o", proof)
    assert told["bytes"] == proof.stat().st_size < path.stat().st_size
    checked = answer(capsys, "verify", "--proof", PROFILE, "--key", made.did_key, proof)
    assert checked["sound"] is True
    assert (checked["value"], checked["root"], checked["record"]) == (told["value"], told["root"], True)
    assert checked["signature"] == "valid"
    with CarFile.open(proof) as car:
        assert car.roots == (cids.parse(told["root"]),)
        assert car.block_count == told["blocks"]
        assert car.has(cids.parse(told["value"]))
    [line] = lines(capsys, "verify", "--proof", PROFILE, proof)
    assert f"holds: {PROFILE} is {told['value']} under root {told['root']}" in line


def test_a_proof_that_a_record_is_absent(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    proof = tmp_path / "proof.car"
    [line] = lines(capsys, "prove", path, ABSENT, "-o", proof)
    assert f"{ABSENT} is absent under root" in line
    checked = answer(capsys, "verify", "--proof", ABSENT, proof)
    assert (checked["sound"], checked["value"], checked["record"]) == (True, None, False)
    [line] = lines(capsys, "verify", "--proof", ABSENT, proof)
    assert f"holds: {ABSENT} is absent" in line


def test_a_proof_proves_nothing_else(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    proof = tmp_path / "proof.car"
    lines(capsys, "prove", path, PROFILE, "-o", proof)
    with Archive.open(path) as archive:
        other = next(iter(archive.under("app.bsky.graph.follow/")))
    [line] = lines(capsys, "verify", "--proof", other, proof, code=1)
    assert "does not hold" in line
    failed = answer(capsys, "verify", "--proof", other, proof, code=1)
    assert failed["sound"] is False
    assert failed["error"]
    assert list(failed) == list(answer(capsys, "verify", "--proof", PROFILE, proof))


def test_every_block_of_a_path_is_needed(tmp_path: Path, capsys: Capture) -> None:
    path, made = sample(tmp_path)
    proof = tmp_path / "proof.car"
    told = answer(capsys, "prove", path, PROFILE, "-o", proof)
    with CarFile.open(proof) as car:
        blocks = [(found.cid, car.get(found.cid)) for found in car.sections()]
    cut = tmp_path / "cut.car"
    for cid, _ in blocks:
        with cut.open("wb") as file:
            write_car(file, [made.root], [block for block in blocks if block[0] != cid])
        # The record itself may be left out: its CID is what is proven.
        if cids.to_text(cid) == told["value"]:
            [line] = lines(capsys, "verify", "--proof", PROFILE, cut)
            assert "not in the file" in line
        else:
            [line] = lines(capsys, "verify", "--proof", PROFILE, cut, code=1)
            assert "does not hold" in line
    for number, (_, data) in enumerate(blocks):
        bent = list(blocks)
        bent[number] = (blocks[number][0], data[:-1] + bytes((data[-1] ^ 1,)))
        with cut.open("wb") as file:
            write_car(file, [made.root], bent)
        assert "does not hold" in lines(capsys, "verify", "--proof", PROFILE, cut, code=1)[0]


def test_a_proof_under_the_wrong_key(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    proof = tmp_path / "proof.car"
    lines(capsys, "prove", path, PROFILE, "-o", proof)
    key = signing_key(99).did_key
    [line] = lines(capsys, "verify", "--proof", PROFILE, "--key", key, proof, code=1)
    assert "signature of the commit is invalid" in line


def test_a_key_vouches_for_nothing_unsigned(tmp_path: Path, capsys: Capture) -> None:
    path, made = sample(tmp_path)
    with Archive.open(path, mode="write") as archive:
        archive[NOTE] = {"$type": "org.example.note"}
        archive.publish()
    proof = tmp_path / "proof.car"
    lines(capsys, "prove", path, NOTE, "-o", proof)
    [line] = lines(capsys, "verify", "--proof", NOTE, proof)
    assert "UNSIGNED" in line
    words = ("verify", "--proof", NOTE, "--key", made.did_key, proof)
    assert "nothing is signed" in lines(capsys, *words, code=1)[0]
    lines(capsys, *words, "--allow-unsigned")


def test_what_is_staged_is_not_proven(tmp_path: Path, capsys: Capture) -> None:
    path, _ = staged(tmp_path)
    assert call("prove", path, PROFILE, "-o", tmp_path / "proof.car") == 0
    out, err = capsys.readouterr()
    assert "has a staged edit" in err
    assert f"{PROFILE} is bafyrei" in out


def test_proofs_of_older_roots_and_to_a_pipe(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    path, made = published(tmp_path)
    assert call("prove", "--root", "1", path, NOTE) == 0
    out, err = capsysbinary.readouterr()
    assert b"is absent" in err
    proof = tmp_path / "proof.car"
    proof.write_bytes(out)
    with CarFile.open(proof) as car:
        assert car.roots == (made.root,)
    assert call("verify", "--proof", NOTE, proof) == 0


def test_prove_asks_for_a_key_and_overwrites_nothing(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    assert "which record" in complaint(capsys, "prove", path)
    assert "what is being exported" in complaint(capsys, "prove", path, PROFILE, "--force", "-o", path)
    assert "binary" in complaint(capsys, "prove", "--json", path, PROFILE)
