"""ls, cat, info, export, log, status, diff and completion of every kind of tree that is no repository."""

import base64
import io
import sys
from pathlib import Path

import pytest
from cli_archives import answer, call, complaint, lines
from cli_trees import LONG, OTHERS, RECORD, TREES, VALUES, Made, car, kind_name, reading, two_roots, write
from naive_hamt import mined
from test_cli_completion import parsed

from mstfs.archive import Archive
from mstfs.blocks.car import CarFile
from mstfs.cli import records
from mstfs.cli.completion import complete_key
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.tree.kinds import parse
from mstfs.values.interface import Values

Capture = pytest.CaptureFixture[str]
Binary = pytest.CaptureFixture[bytes]

every_tree = pytest.mark.parametrize("name", sorted(TREES))


def is_record(path: bytes, name: str) -> bool:
    return path.endswith(b"record") and name in ("hamt3 cbor", "hamt2", "hashmap", "filecoin")


# --- ls -------------------------------------------------------------------------------------------


@every_tree
def test_ls_lists_what_a_mount_shows(name: str, tmp_path: Path, capsys: Capture) -> None:
    path, made = car(tmp_path, name)
    everything = lines(capsys, "ls", "-R", *reading(name), path)
    assert sorted(everything) == sorted(file.decode() for file in made.files)
    top = {file.split(b"/")[0] + (b"/" if b"/" in file else b"") for file in made.files}
    assert sorted(lines(capsys, "ls", *reading(name), path)) == sorted(item.decode() for item in top)
    many = [f"{number:03}" for number in range(40)]
    assert sorted(lines(capsys, "ls", *reading(name), path, "many")) == many
    assert sorted(lines(capsys, "ls", *reading(name), path, "many/01")) == many[10:20]
    assert "nothing begins with no" in complaint(capsys, "ls", *reading(name), path, "no")


@every_tree
def test_ls_tells_kinds_and_sizes(name: str, tmp_path: Path, capsys: Capture) -> None:
    path, made = car(tmp_path, name)
    born = answer(capsys, "ls", "-l", *reading(name), path, "empty")[0]["time"]
    assert born is not None
    for entry in answer(capsys, "ls", "-lR", *reading(name), path):
        file = entry["key"].encode()
        kind = "symlink" if file == b"temp/link" else "record" if is_record(file, name) else "blob"
        assert (entry["kind"], entry["size"]) == (kind, len(made.files[file]))
        assert (entry["state"], entry["time"]) == ("published", born)
        assert entry["target"] == ("c/1" if kind == "symlink" else None)
    folders = {entry["name"]: entry for entry in answer(capsys, "ls", "--count", *reading(name), path)}
    assert folders["many/"]["kind"] == "folder"
    assert folders["many/"]["records"] == 40
    [line] = lines(capsys, "ls", "-l", *reading(name), path, "empty")
    assert line.split()[1:] == ["0", born, "blob", "empty"]


def test_ls_shows_where_links_point_and_when_a_file_was_written(
    shared_fixtures: Path, tmp_path: Path, capsys: Capture
) -> None:
    path, _ = car(tmp_path, "unixfs")
    [line] = lines(capsys, "ls", "-l", path, "temp/l")
    assert line.endswith(" symlink link -> c/1")
    [folder] = [entry for entry in answer(capsys, "ls", path) if entry["name"] == "temp/"]
    assert folder["cid"].startswith("bafybei")


def test_names_that_keys_need_are_those_of_a_mount(
    shared_fixtures: Path, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "hostile.car"
    path.write_bytes((shared_fixtures / "hamt/hamt_pyhamt3_hostile_keys.car").read_bytes())
    listed = answer(capsys, "ls", "-R", path)
    with Archive.open(path) as archive:
        assert len(listed) == len(archive)
        keys = {archive.workspace.staged.get(key.encode("utf-8", "surrogateescape")) for key in archive}
        assert {cids.parse(entry["cid"]) for entry in listed} == keys
    assert len({entry["name"] for entry in listed}) == len(listed)
    for entry in listed:
        if "\\" not in entry["name"]:
            assert lines(capsys, "cat", "--cid", "--", path, entry["name"]) == [entry["cid"]]


def test_a_key_that_is_a_folder_too(tmp_path: Path, capsys: Capture) -> None:
    values = {b"a": b"itself", b"a/b": b"below", b"a-c": b"beside"}
    path = write(tmp_path / "tree.car", [TREES["hamt3 raw"](values)])
    assert sorted(lines(capsys, "ls", path)) == ["a-c", "a/"]
    assert sorted(lines(capsys, "ls", path, "a")) == ["%@", "b"]
    assert sorted(lines(capsys, "ls", "-R", path)) == ["a-c", "a/%@", "a/b"]
    assert sorted(lines(capsys, "ls", "-R", "--keys", path)) == ["a", "a-c", "a/b"]
    [folder] = [entry for entry in answer(capsys, "ls", "--count", path) if entry["kind"] == "folder"]
    assert folder["records"] == 2
    for text in ("a", "a/%@"):
        assert call("cat", path, text) == 0
        assert capsys.readouterr().out == "itself"


@every_tree
def test_ls_goes_on_beside_missing_parts(name: str, tmp_path: Path, capsys: Capture) -> None:
    made = TREES[name]({**VALUES, **dict.fromkeys(mined(b"\x07", 6), b"below the root")})
    path = write(tmp_path / "tree.car", [made])
    with Archive.open(path, tree=parse(reading(name)[1]) if reading(name) else None) as archive:
        nodes = [cid for cid, _ in archive.workspace.tree.nodes(made.root) if cid != made.root]
    if name == "unixfs":
        nodes = [cids.parse(entry["cid"]) for entry in answer(capsys, "ls", path) if entry["name"] == "many/"]
    half = Made(made.root, {cid: block for cid, block in made.blocks.items() if cid != nodes[0]}, {})
    write(path, [half])
    Path(f"{path}.mstfs-index").unlink()
    code = call("ls", "-R", *reading(name), path)
    out, err = capsys.readouterr()
    assert 0 < len(out.splitlines()) < len(made.files)
    # A directory whose block is missing is listed as a file: nobody can know that it is none.
    assert (code, "cannot be listed" in err) == ((0, False) if name == "unixfs" else (1, True))
    assert call("info", "--count", *reading(name), path) == code
    out, err = capsys.readouterr()
    assert f"head        {cids.to_text(made.root)}" in out
    assert ("cannot be counted" in err) == bool(code)


# --- cat ------------------------------------------------------------------------------------------


@every_tree
def test_cat_gives_every_file(name: str, tmp_path: Path, capsysbinary: Binary) -> None:
    path, made = car(tmp_path, name)
    files = [file for file in sorted(made.files) if file != b"temp/link"]
    for file in files:
        assert call("cat", *reading(name), path, file.decode()) == 0
        assert capsysbinary.readouterr().out == made.files[file], file
    assert call("cat", *reading(name), path, *[file.decode() for file in files]) == 0
    assert capsysbinary.readouterr().out == b"".join(made.files[file] for file in files)


@pytest.mark.parametrize("name", ["hamt3 raw", "hamt3 cbor", "unixfs"])
def test_cat_holds_a_piece_at_a_time(
    name: str, tmp_path: Path, capsysbinary: Binary, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = car(tmp_path, name)
    asked: list[int] = []
    with Archive.open(path) as archive:
        kind: type[Values] = type(archive.workspace.values)
    read = kind.read

    def spy(self: Values, key: bytes, cid: bytes, offset: int, length: int) -> bytes:
        asked.append(length)
        return read(self, key, cid, offset, length)

    monkeypatch.setattr(kind, "read", spy)
    assert call("cat", path, "temp/c/1") == 0
    assert capsysbinary.readouterr().out == LONG
    assert max(asked) == records.PIECE < len(LONG)
    assert sum(asked) == len(LONG)


def test_cat_as_json_tells_the_kind(tmp_path: Path, capsys: Capture) -> None:
    path, _ = car(tmp_path, "hamt3 cbor")
    blob, record = answer(capsys, "cat", path, "temp/c/0", "record")
    assert (blob["kind"], base64.b64decode(blob["blob"])) == ("blob", VALUES[b"temp/c/0"])
    assert (record["kind"], record["record"]["name"]) == ("record", RECORD["name"])
    path, _ = car(tmp_path, "unixfs")
    [link] = answer(capsys, "cat", path, "temp/link")
    assert (link["kind"], link["target"]) == ("symlink", "c/1")


def test_cat_gives_the_block_as_it_is_stored(tmp_path: Path, capsysbinary: Binary) -> None:
    for name, key in (("hamt3 cbor", "record"), ("hashmap", "record")):
        path, _ = car(tmp_path, name)
        assert call("cat", "--cbor", path, key) == 0
        assert capsysbinary.readouterr().out == dag_cbor.encode(RECORD)
    path, made = car(tmp_path, "unixfs")
    with Archive.open(path) as archive:
        cid = archive.workspace.staged.get(b"temp/c/1")
    assert cid is not None
    assert call("cat", "--cbor", path, "temp/c/1") == 0
    assert capsysbinary.readouterr().out == made.blocks[cid]


def test_cat_says_what_is_no_file(tmp_path: Path, capsys: Capture) -> None:
    path, _ = car(tmp_path, "unixfs")
    assert "is a folder" in complaint(capsys, "cat", path, "temp")
    assert "is a symbolic link to c/1" in complaint(capsys, "cat", path, "temp/link")
    assert "has no file nope" in complaint(capsys, "cat", path, "nope")
    assert "which file" in complaint(capsys, "cat", path)
    path, _ = car(tmp_path, "hamt2")
    assert "has no key nope" in complaint(capsys, "cat", path, "nope")


def test_a_blob_cannot_harm_a_terminal(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The letter stands where one piece ends, and is the same as if it did not.
    values = {b"evil": b"\x1b[2J\xff" + b"x" * (records.PIECE - 6) + "é".encode()}
    path = write(tmp_path / "tree.car", [TREES["hamt3 raw"](values)])
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "utf-8", write_through=True))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert call("cat", path, "evil") == 0
    text = shown.getvalue().decode()
    assert text.startswith("\\x1b[2J\\xffxxx")
    assert text.endswith("xxé")


# --- info -----------------------------------------------------------------------------------------


@every_tree
def test_info_tells_the_kind(name: str, tmp_path: Path, capsys: Capture) -> None:
    path, made = car(tmp_path, name)
    facts = answer(capsys, "info", "--count", *reading(name), path)
    assert (facts["tree"], facts["root"]) == (kind_name(name), cids.to_text(made.root))
    assert (facts["did"], facts["rev"], facts["signed"]) == (None, None, False)
    assert facts["records"] == len(made.files)
    assert facts["collections"]["many"] == 40
    text = "\n".join(lines(capsys, "info", *reading(name), path))
    assert f"({kind_name(name)})" in text
    for word in ("did ", "rev ", "commit"):
        assert word not in text
    if kind_name(name) in ("hamt2", "hamt3", "hashmap", "filecoin"):
        parameters = facts["parameters"]
        width, bucket = (8, 4) if kind_name(name) in ("hamt2", "hamt3") else (5, 3)
        assert (parameters["bit_width"], parameters["bucket_size"]) == (width, bucket)
        assert f"bit width {width}, bucket size {bucket}, keys placed by" in text
        assert facts["values"] == ("raw" if name == "hamt3 raw" else "cbor")
    else:
        assert (facts["parameters"], facts["values"]) == (None, None)


def test_info_of_placements_that_are_not_the_declared_ones(tmp_path: Path, capsys: Capture) -> None:
    from naive_hamt import blake3_of, hash_map, py_hamt_2, value

    keys = [b"k/%03d" % number for number in range(100)]
    for root, nodes in (
        hash_map(dict.fromkeys(keys, 1), function=blake3_of),
        py_hamt_2({key: value(1) for key in keys}, skip=1),
    ):
        path = write(tmp_path / "tree.car", [Made(root, nodes, {})])
        parameters = answer(capsys, "info", path)["parameters"]
        text = "\n".join(lines(capsys, "info", path))
        assert parameters["hash"] == "blake3"
        if parameters["skipped_levels"]:
            assert "one level off" in text
        else:
            assert parameters["declared_hash"] == "sha2-256"
            assert "the root says sha2-256" in text
        Path(f"{path}.mstfs-index").unlink()


# --- what changed ---------------------------------------------------------------------------------


@every_tree
def test_diff_of_two_roots(name: str, tmp_path: Path, capsys: Capture) -> None:
    path, before, after = two_roots(tmp_path, name)
    roots = cids.to_text(before.root), cids.to_text(after.root)
    expected = ["A new/here", "M zarr.json"]
    if b"temp/c/0" in before.files:
        expected.insert(1, "D temp/c/0")
    assert sorted(lines(capsys, "diff", *reading(name), path, *roots)) == expected
    told = answer(capsys, "diff", *reading(name), path, *roots)
    assert (told["from"], told["to"]) == roots
    assert sum(told["counts"].values()) == len(expected) >= 2
    assert lines(capsys, "diff", *reading(name), path, roots[0], roots[0]) == []
    *_, total = lines(capsys, "diff", "--stat", *reading(name), path, *roots)
    assert total.startswith(f"{len(expected)} values: ")
    patch = lines(capsys, "diff", "-p", *reading(name), path, *roots)
    assert '-{"zarr_format": 3}' in patch
    assert "+{}" in patch
    assert "+++ b/new/here" in patch
    if b"temp/c/0" in before.files:
        assert "binary: 200 bytes, then 0 bytes" in patch


def test_diff_of_roots_of_different_kinds_is_refused(tmp_path: Path, capsys: Capture) -> None:
    old, new = TREES["hamt2"](VALUES), TREES["hamt3 cbor"](VALUES)
    path = write(tmp_path / "two.car", [old, new])
    words = (cids.to_text(old.root), cids.to_text(new.root))
    assert "py-hamt 3" in complaint(capsys, "diff", path, *words)


def test_staged_edits_of_a_hamt(tmp_path: Path, capsys: Capture) -> None:
    path, _ = car(tmp_path, "hamt3 raw")
    with Archive.open(path, mode="write") as archive:
        archive["new/here"] = b"new"
        archive["zarr.json"] = b"{}"
        del archive["temp/c/0"]
    changes = ["A new/here", "D temp/c/0", "M zarr.json"]
    assert sorted(lines(capsys, "diff", path)) == changes
    told = answer(capsys, "status", path)
    assert (told["tree"], told["staged"]) == ("hamt3", {"put": 2, "delete": 1})
    text = lines(capsys, "status", path)
    assert text[0].endswith(" (hamt3, event 1)")
    assert [line.strip() for line in text[2:]] == sorted(changes, key=lambda line: line[2:])
    [entry] = answer(capsys, "ls", "-l", path, "new/here")
    assert (entry["state"], entry["size"], entry["kind"]) == ("staged", 3, "blob")
    with Archive.open(path, mode="write") as archive:
        archive.publish()
    newest, oldest = answer(capsys, "log", path)
    assert (newest["created"], newest["updated"], newest["deleted"]) == (1, 1, 1)
    assert newest["rev"] is None
    assert sorted(lines(capsys, "diff", path, "1")) == changes
    assert oldest["root"] == lines(capsys, "info", "--car-only", path)[2].split()[1]


# --- export ---------------------------------------------------------------------------------------


@every_tree
def test_export_holds_what_a_root_reaches(name: str, tmp_path: Path, capsys: Capture) -> None:
    path, before, after = two_roots(tmp_path, name)
    out = tmp_path / "out.car"
    root = cids.to_text(before.root)
    told = answer(capsys, "export", "--root", root, *reading(name), path, out)
    assert (told["root"], told["tree"]) == (root, kind_name(name))
    with CarFile.open(out, use_sidecar=False) as exported:
        assert {section.cid for section in exported.sections()} == before.blocks.keys()
    lines(
        capsys,
        "export",
        "--force",
        "--root",
        cids.to_text(after.root),
        "--since",
        root,
        *reading(name),
        path,
        out,
    )
    with CarFile.open(out, use_sidecar=False) as exported:
        written = {section.cid for section in exported.sections()}
    assert written == after.blocks.keys() - before.blocks.keys()


# --- completion -----------------------------------------------------------------------------------


@every_tree
def test_folders_then_keys_are_offered(name: str, tmp_path: Path) -> None:
    path, made = car(tmp_path, name)
    arguments = parsed("cat", *reading(name), path)
    top = {file.split(b"/")[0] + (b"/" if b"/" in file else b"") for file in made.files}
    assert sorted(complete_key("", arguments)) == sorted(item.decode() for item in top)
    assert sorted(complete_key("many/00", arguments)) == [f"many/00{number}" for number in range(10)]
    assert complete_key("man", arguments) == ["many/"]
    assert complete_key("nope", arguments) == []


def test_others_than_these_were_added() -> None:
    assert OTHERS.keys() ^ VALUES.keys() == {b"new/here", b"temp/c/0"}
