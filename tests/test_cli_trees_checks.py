"""verify and prove of every kind of tree that is no repository."""

import sqlite3
from pathlib import Path

import pytest
from cli_archives import answer, call, complaint, lines, sample
from cli_trees import FILECOIN, OTHERS, TREES, VALUES, Made, car, kind_name, raw_cid, reading, write
from naive_hamt import py_hamt_2
from test_verification import PLANTED

from mstfs.archive import Archive
from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.values.cipher import Cipher

Capture = pytest.CaptureFixture[str]

every_tree = pytest.mark.parametrize("name", sorted(TREES))


# --- verify ---------------------------------------------------------------------------------------


@every_tree
def test_a_sound_file(name: str, tmp_path: Path, capsys: Capture) -> None:
    path, made = car(tmp_path, name)
    before = sorted(tmp_path.iterdir())
    report = answer(capsys, "verify", *reading(name), path)
    assert (report["sound"], report["complete"], report["defects"]) == (True, True, [])
    assert (report["tree"], report["root"]) == (kind_name(name), cids.to_text(made.root))
    assert (report["blocks"], report["unlinked"]) == (len(made.blocks), 0)
    assert (report["did"], report["commit"], report["signature"]) == (None, None, None)
    [line] = lines(capsys, "verify", *reading(name), path)
    assert line.startswith(f"{path}: sound; root {report['root']}, ")
    assert line.endswith(", complete")
    unit = "dirents" if name == "unixfs" else "values"
    assert f"{report['entries']} {unit}" in line
    for word in ("did ", "rev ", "commit", "signature", "UNSIGNED"):
        assert word not in line
    assert sorted(tmp_path.iterdir()) == before  # no index, no overlay


def test_reports_have_the_same_fields(tmp_path: Path, capsys: Capture) -> None:
    repo, _ = sample(tmp_path)
    path, _ = car(tmp_path, "hamt2")
    assert list(answer(capsys, "verify", repo)) == list(answer(capsys, "verify", path))


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_defects_are_told_with_rule_block_and_key(name: str, tmp_path: Path, capsys: Capture) -> None:
    planted = PLANTED[name]()
    path = write(tmp_path / "tree.car", [planted.made])
    words: list[str] = ["--tree", planted.told.name] if planted.told is not None else []
    if "options" in planted.asked:
        words += ["--values", planted.asked["options"].encoding]
    [defect] = answer(capsys, "verify", *words, path, code=1)["defects"]
    assert defect["rule"] == planted.rule
    assert defect["key"] == (planted.key.decode() if planted.key is not None else None)
    told, summary = lines(capsys, "verify", *words, path, code=1)
    assert told.startswith(f"{planted.rule}: ")
    assert f"block {defect['cid']}" in told
    assert planted.key is None or f"key {planted.key.decode()}]" in told
    assert "1 defect; " in summary


def test_real_files_verify(shared_fixtures: Path, capsys: Capture) -> None:
    for path in sorted((shared_fixtures / "hamt").glob("*.car")):
        lacking = "hashmap_bw8" in path.name  # leaves empty buckets behind
        report = answer(capsys, "verify", path, code=int(lacking))
        assert {defect["rule"] for defect in report["defects"]} == ({"node-form"} if lacking else set())


def test_what_a_file_does_not_say_must_be_told(tmp_path: Path, capsys: Capture) -> None:
    path, _ = car(tmp_path, "filecoin")
    assert "--tree filecoin" in complaint(capsys, "verify", path)
    # With other parameters than its own it is another tree, which this is not.
    words = ("--tree", FILECOIN[1].replace("width=5", "width=6"))
    assert answer(capsys, "verify", *words, path, code=1)["defect_count"] > 0
    path, _ = car(tmp_path, "unixfs")
    assert "is a UnixFS, not a" in complaint(capsys, "verify", "--tree", "hamt3", path)
    assert "no kind of tree" in complaint(capsys, "verify", "--tree", "nonsense", path)
    assert "--key is for" in complaint(capsys, "verify", "--key", "did:key:zQ3sh", path)


def test_how_values_are_looked_at(tmp_path: Path, capsys: Capture) -> None:
    path, _ = car(tmp_path, "hamt3 raw")
    assert answer(capsys, "verify", path)["values"] == "raw"
    assert "(raw bytes)" in lines(capsys, "verify", path)[0]
    strictly = answer(capsys, "verify", "--values", "cbor", path, code=1)
    assert "empty" in {defect["key"] for defect in strictly["defects"]}
    path, _ = car(tmp_path, "hamt2")
    assert "(DAG-CBOR)" in lines(capsys, "verify", path)[0]


def test_encrypted_values(tmp_path: Path, capsys: Capture) -> None:
    cipher = Cipher(bytes(range(32)), b"")
    made = Made(b"", {}, {})
    sealed = {key: cipher.encrypt(dag_cbor.encode(value)) for key, value in VALUES.items()}
    sealed[b"zarr.json"] = sealed[b"temp/zarr.json"] = dag_cbor.encode(b"{}")  # as py-hamt 2 has it
    root, nodes = py_hamt_2({key: raw_cid(data, made.blocks) for key, data in sealed.items()})
    path = write(tmp_path / "tree.car", [Made(root, nodes | made.blocks, {})])
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    [line] = lines(capsys, "verify", path)
    assert "ENCRYPTED" in line
    [line] = lines(capsys, "verify", "--key-file", key, path)
    assert "(DAG-CBOR)" in line
    found = answer(capsys, "verify", "--key-file", key, "--key-header", "other", path, code=1)["defects"]
    assert {defect["rule"] for defect in found} == {"value-sealed"}
    assert {defect["key"] for defect in found} == {key.decode() for key in VALUES} - {
        "zarr.json",
        "temp/zarr.json",
    }
    assert lines(capsys, "cat", "--key-file", key, path, "many/007") == ["value 7"]
    assert answer(capsys, "ls", "-l", "--key-file", key, path, "many/007")[0]["size"] == 7
    path.chmod(0o600)
    assert "neither" in complaint(capsys, "cat", "--key-file", path, path, "many/007")
    key.chmod(0o644)
    assert call("verify", "--key-file", key, path) == 0
    assert capsys.readouterr().err == f"mstfs: {key} can be read by other users: chmod 600 it\n"


def test_the_head_of_an_overlay(tmp_path: Path, capsys: Capture) -> None:
    path, made = car(tmp_path, "hamt3 raw")
    with Archive.open(path, mode="write") as archive:
        archive["new/here"] = OTHERS[b"new/here"]
        archive.publish()
        archive["staged"] = b"not part of it"
    overlay = f"{path}.mstfs"
    report = answer(capsys, "verify", overlay)
    assert (report["entries"], report["sound"]) == (len(made.files) + 1, True)
    assert report["root"] == answer(capsys, "log", path)[0]["root"] != cids.to_text(made.root)
    assert answer(capsys, "verify", "--root", "1", overlay)["root"] == cids.to_text(made.root)
    with Archive.open(path, mode="write") as archive:
        cid = archive.workspace.tree.get(archive.head.data, b"new/here")
        assert cid is not None
        assert archive.workspace.blocks.upper is not None
        archive.workspace.blocks.upper.delete(cid)
    connection = sqlite3.connect(overlay)
    connection.execute("UPDATE events SET message = 'other' WHERE sequence = 2")
    connection.commit()
    connection.close()
    report = answer(capsys, "verify", overlay, code=1)
    assert [(defect["rule"], defect["key"]) for defect in report["defects"]] == [
        ("history-chain", None),
        ("missing-block", "new/here"),
    ]
    assert not report["complete"]


def test_only_so_many_defects_are_printed(tmp_path: Path, capsys: Capture) -> None:
    made = TREES["hamt3 raw"](VALUES)
    path = write(tmp_path / "tree.car", [made._replace(blocks={made.root: made.blocks[made.root]})])
    told = lines(capsys, "verify", "--max", "2", path, code=1)
    assert len(told) == 4
    assert told[2] == f"... and {len(VALUES) - 2} more (--max {len(VALUES)} prints all)"
    assert "INCOMPLETE" in told[3]


# --- proofs ---------------------------------------------------------------------------------------


@every_tree
def test_proofs(name: str, tmp_path: Path, capsys: Capture) -> None:
    path, made = car(tmp_path, name)
    proof = tmp_path / "proof.car"
    for key in ("many/000", "empty"):
        told = answer(capsys, "prove", "--force", *reading(name), path, key, "-o", proof)
        assert (told["tree"], told["root"]) == (kind_name(name), cids.to_text(made.root))
        assert told["bytes"] == proof.stat().st_size < path.stat().st_size
        checked = answer(capsys, "verify", "--proof", key, *reading(name), proof)
        assert (checked["sound"], checked["value"], checked["record"]) == (True, told["value"], True)
        assert checked["tree"] == kind_name(name)
        with CarFile.open(proof, use_sidecar=False) as file:
            assert file.roots == (made.root,)
            assert file.block_count == told["blocks"]
    lines(capsys, "prove", "--force", *reading(name), path, "many/nope", "-o", proof)
    [line] = lines(capsys, "verify", "--proof", "many/nope", *reading(name), proof)
    assert "holds: many/nope is absent" in line
    # With an other root it proves nothing.
    other = cids.to_text(cids.for_block(b"other"))
    [line] = lines(capsys, "verify", "--proof", "empty", "--root", other, *reading(name), proof, code=1)
    assert "does not hold" in line


def test_a_proof_of_one_key_says_nothing_about_another(tmp_path: Path, capsys: Capture) -> None:
    made = TREES["hamt3 raw"]({b"k/%04d" % number: b"" for number in range(2000)})
    path = write(tmp_path / "tree.car", [made])
    proof = tmp_path / "proof.car"
    lines(capsys, "prove", path, "k/0001", "-o", proof)
    failed = answer(capsys, "verify", "--proof", "k/0002", proof, code=1)
    assert failed["sound"] is False
    assert "missing" in failed["error"]
    assert list(failed) == list(answer(capsys, "verify", "--proof", "k/0001", proof))
    assert (
        "does not hold"
        in lines(capsys, "verify", "--proof", "k/0001", "--key", "did:key:z", proof, code=1)[0]
    )


def test_paths_of_a_unixfs_tree(tmp_path: Path, capsys: Capture) -> None:
    path, _ = car(tmp_path, "unixfs")
    proof = tmp_path / "proof.car"
    for text in ("temp/c", "/temp/c/", "temp/link"):
        told = answer(capsys, "prove", "--force", path, text, "-o", proof)
        assert told["value"] is not None
        checked = answer(capsys, "verify", "--proof", text, proof)
        assert (checked["value"], checked["record"]) == (told["value"], True)
    told = answer(capsys, "prove", "--force", path, "temp/c/1", "-o", proof)
    [line] = lines(capsys, "verify", "--proof", "temp/c/1", proof)
    assert "(the value itself is not in the file)" in line
    assert told["bytes"] < 5000


def test_the_published_value_is_proven_not_the_staged_one(tmp_path: Path, capsys: Capture) -> None:
    path, _ = car(tmp_path, "hamt3 raw")
    with Archive.open(path, mode="write") as archive:
        archive["empty"] = b"full"
    proof = tmp_path / "proof.car"
    told = answer(capsys, "prove", path, "empty", "-o", proof)
    assert told["value"] == cids.to_text(raw_cid(b"", {}))
