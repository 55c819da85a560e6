"""Keys come in files: one that stands on the command line is refused, and no message repeats it."""

import base64
from pathlib import Path

import pytest

from mstfs.cli.main import run
from mstfs.repo.sample import make_sample, signing_key, signing_key_pem
from mstfs.repo.signing import to_multikey

SECRET = bytes(range(100, 132))
SIGNING = ("k256:" + SECRET.hex(), "p256:" + SECRET.hex(), SECRET.hex(), signing_key_pem(20).decode())
ENCRYPTING = (
    SECRET.hex(),
    SECRET.hex().upper(),
    base64.b64encode(SECRET).decode(),
    base64.urlsafe_b64encode(SECRET).decode().rstrip("="),
)


@pytest.fixture
def car(tmp_path: Path) -> Path:
    path = tmp_path / "repo.car"
    make_sample(path, 5, 20)
    (tmp_path / "mnt").mkdir()
    return path


def refused(capsys: pytest.CaptureFixture[str], secret: str, *words: object) -> None:
    """The command is refused for the key in it, with exit code 2, and keeps quiet about the key."""
    try:
        code = run([str(word) for word in words])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    said = "".join(capsys.readouterr())
    assert code == 2, said
    assert "a key itself" in said
    assert secret not in said
    assert secret.rpartition(":")[2][:16] not in said


@pytest.mark.parametrize("secret", SIGNING)
def test_a_signing_key_on_the_command_line(
    car: Path, capsys: pytest.CaptureFixture[str], secret: str
) -> None:
    point = car.parent / "mnt"
    refused(capsys, secret, "mount", "--signing-key", secret, car, point)
    refused(capsys, secret, "mount", f"--signing-key={secret}", car, point)
    refused(capsys, secret, "mount", "-o", f"signing_key={secret}", car, point)
    out = car.parent / "out.car"
    refused(
        capsys,
        secret,
        *("convert", car, out, "--to", "mst", "--did", "did:web:example.com", "--signing-key", secret),
    )
    assert sorted(path.name for path in car.parent.iterdir()) == ["mnt", "repo.car"]


def test_a_multikey_on_the_command_line(car: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = to_multikey(signing_key(20))
    refused(capsys, secret, "mount", "--signing-key", secret, car, car.parent / "mnt")


@pytest.mark.parametrize("secret", ENCRYPTING)
def test_an_encryption_key_on_the_command_line(
    car: Path, capsys: pytest.CaptureFixture[str], secret: str
) -> None:
    point, out = car.parent / "mnt", car.parent / "out.car"
    refused(capsys, secret, "mount", "--key-file", secret, car, point)
    refused(capsys, secret, "mount", "-o", f"key_file={secret}", car, point)
    refused(capsys, secret, "ls", "--key-file", secret, car)
    refused(capsys, secret, "convert", car, out, "--to", "hamt3", "--encrypt", secret)
    assert sorted(path.name for path in car.parent.iterdir()) == ["mnt", "repo.car"]


def test_a_file_that_is_not_there_is_named(car: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("key.pem", str(car.parent / "no such key"), "x" * 32):
        assert run(["mount", "--signing-key", name, str(car), str(car.parent / "mnt")]) == 2
        said = capsys.readouterr().err
        assert "No such file" in said
        assert name in said


def test_a_file_may_be_called_like_a_key(car: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(car.parent)
    name = SECRET.hex()
    Path(name).write_bytes(signing_key_pem(20))
    Path(name).chmod(0o600)
    words = ["convert", "repo.car", "out.car", "--to", "mst", "--did", signing_key(20).did_key]
    assert run([*words, "--signing-key", name]) == 0
