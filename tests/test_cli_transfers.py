"""convert and import as commands: what they print, what they refuse, and what they leave behind."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from cli_archives import RECORDS, SEED, answer, call, complaint, lines, sample, staged
from transfers import content, fill, member, tar_of

from mstfs.archive import Archive
from mstfs.blocks.car import CarFile
from mstfs.cli.main import build_parser
from mstfs.codec import cid as cids
from mstfs.errors import CopyDiffers
from mstfs.repo.sample import signing_key, signing_key_pem
from mstfs.repo.verify import verify_repository
from mstfs.transfer import copy as copying

Capture = pytest.CaptureFixture[str]

SECRET = b"nobody else reads this"
FILES = {
    "zarr.json": b"{}",
    "a/c/0/0": b"\0\1" * 500,
    "a/zarr.json": b'{"shape": [1]}',
    "b": b"",
    "secret": SECRET,
}


# --- convert ----------------------------------------------------------------------------------


def test_convert_says_what_it_made(tmp_path: Path, capsys: Capture) -> None:
    path, made = sample(tmp_path)
    out = tmp_path / "new.car"
    told = answer(capsys, "convert", path, out, "--to", "hamt3")
    with CarFile.open(out, use_sidecar=False) as car:
        assert [cids.to_text(root) for root in car.roots] == [told["root"]]
        assert (car.block_count, car.size) == (told["blocks"], told["bytes"])
    assert told == {
        "file": str(out), "root": told["root"], "data": told["root"], "kind": "hamt3", "commit": None,
        "keys": RECORDS, "folders": 0, "left_out": 0, "blocks": told["blocks"], "bytes": out.stat().st_size,
        "values": "cbor", "tell_values": None, "checked": True,
    }  # fmt: skip
    (line,) = lines(capsys, "convert", out, tmp_path / "back.car", "--to", "mst")
    assert line.startswith(f"{cids.to_text(made.data)}  (Merkle search tree; bare tree")
    assert line.endswith(f"60 keys; {(tmp_path / 'back.car').stat().st_size / 1024:.1f} KiB; "
                         f"read back and compared) -> {tmp_path / 'back.car'}")  # fmt: skip


def test_convert_makes_a_signed_repository(tmp_path: Path, capsys: Capture) -> None:
    path, made = sample(tmp_path)
    key = tmp_path / "key.pem"
    key.write_bytes(signing_key_pem(SEED))
    key.chmod(0o600)
    out = tmp_path / "new.car"
    options = ("--to", "mst", "--did", made.did, "--signing-key", key)
    told = answer(capsys, "convert", path, out, *options)
    assert (told["commit"], told["data"]) == ("signed", cids.to_text(made.data))
    with CarFile.open(out, use_sidecar=False) as car:
        assert verify_repository(car, cids.parse(told["root"]), signing_key(SEED).did_key).sound
    told = answer(capsys, "convert", path, out, "--to", "mst", "--did", made.did, "--force")
    assert told["commit"] == "unsigned"
    key.chmod(0o644)
    assert call("convert", path, out, *options, "--force") == 0
    assert "chmod 600" in capsys.readouterr().err


def test_convert_takes_what_a_mount_shows_or_an_older_root(tmp_path: Path, capsys: Capture) -> None:
    path, made = staged(tmp_path)
    out = tmp_path / "new.car"
    with Archive.open(path) as archive:
        now = dict(archive)
    answer(capsys, "convert", path, out, "--to", "hamt2")
    assert content(out) == now
    for options in (["--car-only"], ["--root", "1"]):
        told = answer(capsys, "convert", path, out, "--to", "mst", "--force", *options)
        assert told["root"] == cids.to_text(made.data)
    answer(capsys, "convert", f"{path}.mstfs", out, "--to", "hamt2", "--force")
    assert content(out) == now


def test_convert_leaves_what_is_there_alone(tmp_path: Path, capsys: Capture) -> None:
    path, _ = staged(tmp_path)
    before = path.read_bytes()
    assert "is what is being" in complaint(capsys, "convert", path, path, "--to", "hamt3", "--force")
    assert "is what is being" in complaint(
        capsys, "convert", path, f"{path}.mstfs", "--to", "hamt3", "--force"
    )
    (tmp_path / "other").mkdir()
    assert "is a folder" in complaint(capsys, "convert", path, tmp_path / "other", "--to", "hamt3", "--force")
    os.mkfifo(tmp_path / "pipe")
    assert "no file that" in complaint(capsys, "convert", path, tmp_path / "pipe", "--to", "hamt3", "--force")
    assert "no folder" in complaint(capsys, "convert", path, tmp_path / "no/n.car", "--to", "hamt3")
    out = tmp_path / "there.car"
    out.write_bytes(b"old")
    assert "--force overwrites" in complaint(capsys, "convert", path, out, "--to", "hamt3")
    assert (path.read_bytes(), out.read_bytes()) == (before, b"old")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--to", "tree"], "no kind of tree"),
        (["--to", "filecoin"], "can be read, not made"),
        (["--to", "sharded-zarr"], "can be read, not made"),
        (["--to", "hashmap,width=1"], "width"),
        (["--to", "hamt3", "--did", "did:plc:x"], "only --to mst has"),
        (["--to", "mst", "--signing-key", "k"], "--did"),
        (["--to", "hamt2", "--values", "raw"], "--values is for --to hamt3"),
        (["--to", "hamt3", "--values", "raw"], "leave out --values raw"),
        (["--to", "mst", "--chunk-bytes", "9"], "does not hold"),
        (["--to", "unixfs", "--chunk-bytes", "0"], "chunks of 0 bytes"),
        (["--to", "hamt3", "--preserve"], "--preserve is for --to unixfs"),
        (["--to", "unixfs", "--encrypt", "key"], "--encrypt is for"),
        (["--to", "hamt3", "--encrypt-not", "x"], "--encrypt names the key"),
        (["--to", "mst", "--did", "nobody"], "is not a DID"),
    ],
)
def test_convert_refuses_what_makes_no_sense(
    tmp_path: Path, capsys: Capture, options: list[str], reason: str
) -> None:
    path, _ = sample(tmp_path)
    before = set(os.listdir(tmp_path))
    assert reason in complaint(capsys, "convert", path, tmp_path / "new.car", *options)
    assert set(os.listdir(tmp_path)) - {"repo.car.mstfs-index"} == before - {"repo.car.mstfs-index"}


def test_a_copy_that_differs_is_a_finding(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(*_: Any) -> None:
        raise CopyDiffers("'k' has another content in the new file than in the source")

    path, _ = sample(tmp_path)
    monkeypatch.setattr(copying, "check", differs)
    out = tmp_path / "new.car"
    assert "'k' has another content" in complaint(capsys, "convert", path, out, "--to", "hamt3", code=1)
    assert not out.exists()
    (line,) = lines(capsys, "convert", path, out, "--to", "hamt3", "--no-check")
    assert "NOT CHECKED" in line
    assert out.exists()


def test_encrypted_and_back(tmp_path: Path, capsys: Capture) -> None:
    folder = fill(tmp_path / "in", FILES)
    key = tmp_path / "key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    plain, sealed, opened = (tmp_path / f"{name}.car" for name in ("plain", "sealed", "opened"))
    answer(capsys, "import", folder, plain, "--to", "hamt3")
    for to in ("hamt3", "hamt2"):
        options = ("--encrypt", key, "--encrypt-header", "head", "--encrypt-not", "a")
        answer(capsys, "convert", plain, sealed, "--to", to, "--force", *options)
        data = sealed.read_bytes()
        assert (SECRET in data, FILES["a/c/0/0"] in data) == (False, True)
        told = answer(
            capsys, "convert", sealed, opened, "--to", "hamt3", "--force",
            "--key-file", key, "--key-header", "head", "--plain", "a",
        )  # fmt: skip
        assert opened.read_bytes() == plain.read_bytes()
        assert told["keys"] == len(FILES)
        wrong = ("--key-file", key, "--plain", "a")
        error = complaint(capsys, "convert", sealed, tmp_path / "no.car", "--to", "hamt2", *wrong)
        assert "the encryption key or the header does not fit" in error


# --- import -----------------------------------------------------------------------------------


def test_import_of_a_folder_a_tar_and_a_pipe(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fill(tmp_path / "in", FILES)
    (folder / "void").mkdir()
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname="")
    out = tmp_path / "new.car"
    for to in ("hamt3", "unixfs"):
        told = answer(capsys, "import", folder, out, "--to", to, "--force")
        assert (told["keys"], told["checked"]) == (len(FILES), True)
        assert (told["folders"], told["left_out"]) == ((1, 0) if to == "unixfs" else (0, 1))
        assert told["values"] == ("raw" if to == "hamt3" else None)
        assert content(out) == FILES
        assert answer(capsys, "import", path, out, "--to", to, "--force")["root"] == told["root"]
        stdin = io.TextIOWrapper(io.BytesIO(path.read_bytes()))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert answer(capsys, "import", "-", out, "--to", to, "--force")["root"] == told["root"]
    assert call("import", folder, out, "--to", "hamt2", "--force") == 0
    assert "1 empty folder left out" in capsys.readouterr().err


def test_import_of_records(tmp_path: Path, capsys: Capture) -> None:
    path, made = sample(tmp_path)
    files, out = tmp_path / "files.car", tmp_path / "new.car"
    answer(capsys, "convert", path, files, "--to", "unixfs", "--escape")
    folder = fill(tmp_path / "in", content(files))
    assert answer(capsys, "import", folder, out, "--to", "mst")["data"] == cids.to_text(made.data)
    # As a mount would take them: DAG-JSON, which has other links than atproto.
    folder = fill(tmp_path / "json", {"x": b'{"/": {"bytes": "AA"}}', "y": b'{"n": 1.5}'})
    answer(capsys, "import", folder, out, "--to", "hamt3", "--new-files", "record", "--force")
    assert content(out) == {"x": b"\0", "y": {"n": 1.5}}
    bad = fill(tmp_path / "bad", {"deep/x": b'{"n": 1,}'})
    error = complaint(capsys, "import", bad, out, "--to", "hashmap", "--new-files", "record", "--force")
    assert "'deep/x': line 1, column" in error
    assert "--values cbor" in complaint(
        capsys, "import", bad, out, "--to", "hamt3", "--new-files", "record", "--values", "raw", "--force"
    )


def test_import_refuses_what_would_end_badly(tmp_path: Path, capsys: Capture) -> None:
    folder = fill(tmp_path / "in", FILES)
    (tmp_path / "alias").symlink_to("in")
    for out in (folder / "new.car", folder / "a/new.car", tmp_path / "alias/new.car"):
        assert "lies in the folder" in complaint(capsys, "import", folder, out, "--to", "hamt3")
    assert "is what is being read" in complaint(
        capsys, "import", _tar(tmp_path), tmp_path / "x.tar", "--to", "hamt3", "--force"
    )
    os.mkfifo(folder / "pipe")
    assert "'pipe' is a named pipe" in complaint(
        capsys, "import", folder, tmp_path / "n.car", "--to", "hamt3"
    )
    (tmp_path / "evil.tar").write_bytes(tar_of([member("../x", b"1")]))
    error = complaint(capsys, "import", tmp_path / "evil.tar", tmp_path / "n.car", "--to", "unixfs")
    assert "'../x' has '..' in its path" in error
    assert "No such file" in complaint(
        capsys, "import", tmp_path / "nowhere", tmp_path / "n.car", "--to", "mst"
    )
    (tmp_path / "text").write_text("nothing that could be unpacked")
    assert "damaged" in complaint(capsys, "import", tmp_path / "text", tmp_path / "n.car", "--to", "hamt3")
    path, _ = sample(tmp_path)
    assert "mstfs convert" in complaint(capsys, "import", path, tmp_path / "n.car", "--to", "hamt3")
    assert not [name for name in os.listdir(tmp_path) if "n.car" in name]


def _tar(folder: Path) -> Path:
    path = folder / "x.tar"
    path.write_bytes(tar_of([member("a", b"1")]))
    return path


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """A tar that never ends is being read when the signal comes."""
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "mstfs", "import", "-", str(out / "new.car"), "--to", "unixfs"]
    start = tar_of([member("a", b"x" * 3_000_000)])[: 512 + 2_000_000]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(start)
        process.stdin.flush()
        deadline = time.monotonic() + 30
        # It has written what it got, and now sleeps until there is more.
        state = Path(f"/proc/{process.pid}/stat")
        asleep = 0
        while asleep < 100:
            assert time.monotonic() < deadline
            assert process.poll() is None
            written = any(file.stat().st_size for file in out.iterdir())
            asleep = asleep + 1 if written and ") S " in state.read_text() else 0
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert os.listdir(out) == []


# --- around the commands ----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["convert", "import"])
def test_help_has_examples_and_exit_codes(capsys: Capture, command: str) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args([command, "--help"])
    text = capsys.readouterr().out
    for part in (
        "examples:",
        f"mstfs {command} ",
        "exit codes:",
        "1 what was written does not read back",
        "--to KIND",
    ):
        assert part in text


def test_the_json_has_the_same_fields_whatever_is_made(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    fields = {
        tuple(answer(capsys, "convert", path, tmp_path / "n.car", "--to", to, "--force", "--escape"))
        for to in ("mst", "hamt3", "hamt2", "hashmap", "unixfs")
    }
    assert len(fields) == 1
    assert json.dumps(sorted(fields.pop()))
