"""Files of tags: where they may be, whose they are, and what is not believed to be one."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from car_files import block, car_v1

from mstfs.blocks import car_tags
from mstfs.blocks.car import CarFile
from mstfs.blocks.car_tags import SECRET_BYTES, Tags, open_tags

HEADER = b"mstfs tags 1\n".ljust(64, b"\0")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's state folder of mstfs, which is not there yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/mstfs"


@pytest.fixture
def tags_at() -> Iterator[Callable[..., Tags]]:
    """`open_tags`, whose files are closed in the end."""
    opened = []

    def tags(*places: Path) -> Tags:
        opened.append(open_tags(places))
        return opened[-1]

    yield tags
    for found in opened:
        os.close(found.fd)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def in_memory(tags: Tags) -> bool:
    return "memfd:" in os.readlink(f"/proc/self/fd/{tags.fd}")


def test_they_are_ours_alone(state: Path, tmp_path: Path, tags_at: Callable[..., Tags]) -> None:
    path = tmp_path / "tags"
    before = os.umask(0)
    try:
        tags = tags_at(path)
    finally:
        os.umask(before)
    assert (mode_of(path), mode_of(state / "tags.secret")) == (0o600, 0o600)
    assert os.pread(tags.fd, 100, 0) == HEADER
    assert (state / "tags.secret").read_bytes() == tags.secret
    os.pwrite(tags.fd, b"tag", 64)
    again = tags_at(path)
    assert again.secret == tags.secret
    assert os.pread(again.fd, 100, 0) == HEADER + b"tag"


def test_another_user_has_another_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tags_at: Callable[..., Tags]
) -> None:
    secrets = set()
    for home in ("one", "other"):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / home))
        secrets.add(tags_at(tmp_path / "tags").secret)
    assert len(secrets) == 2
    assert all(len(secret) == SECRET_BYTES for secret in secrets)


@pytest.mark.parametrize("kind", ["symlink", "hard link", "folder", "pipe", "of others", "other file", "old"])
def test_what_is_no_file_of_tags(
    state: Path, tmp_path: Path, tags_at: Callable[..., Tags], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target, second = tmp_path / "tags", tmp_path / "target", tmp_path / "second"
    target.write_bytes(HEADER if kind != "old" else HEADER.replace(b"1", b"0"))
    if kind == "symlink":
        path.symlink_to(target)
    elif kind == "hard link":
        path.hardlink_to(target)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "of others":
        path.write_bytes(HEADER)
        os.chown(path, 12345, 12345)
    elif kind == "other file":
        path.write_bytes(b"something that somebody needs")
    else:
        target.rename(path)
    before = path.read_bytes() if path.is_file() else b""
    tags = tags_at(path, second)
    assert os.path.samestat(os.fstat(tags.fd), second.stat())
    assert in_memory(tags_at(path))
    assert not path.is_file() or path.read_bytes() == before


@pytest.mark.parametrize("kind", ["read by others", "cut", "too long", "symlink", "folder"])
def test_a_secret_that_is_none(state: Path, tmp_path: Path, tags_at: Callable[..., Tags], kind: str) -> None:
    secret = state / "tags.secret"
    known = tags_at(tmp_path / "tags").secret
    if kind == "read by others":
        secret.chmod(0o640)
    elif kind == "cut":
        secret.write_bytes(known[:31])
    elif kind == "too long":
        secret.write_bytes(known + b"x")
    else:
        secret.rename(state / "elsewhere")
        if kind == "symlink":
            secret.symlink_to("elsewhere")
        else:
            secret.mkdir()
    tags = tags_at(tmp_path / "tags")
    assert in_memory(tags)
    assert tags.secret != known


def test_no_place_at_all(state: Path, tmp_path: Path, tags_at: Callable[..., Tags]) -> None:
    assert in_memory(tags_at())
    (tmp_path / "file").touch()
    assert in_memory(tags_at(tmp_path / "file/tags", tmp_path / ("n" * 300), tmp_path / "\0"))
    assert not in_memory(tags_at(tmp_path / "file/tags", tmp_path / "made/for it/tags"))


def test_no_place_for_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tags_at: Callable[..., Tags]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert in_memory(tags_at(tmp_path / "tags"))
    assert not (tmp_path / "tags").exists()


def test_those_of_a_car(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.car"
    path.write_bytes(car_v1([block("one")]))
    with CarFile.open(path) as car:
        assert not list(tmp_path.glob("*tags"))
        assert car.tags() is car.tags()
        assert (tmp_path / f"x.car{car_tags.SUFFIX}").read_bytes() == HEADER
        fd = car.tags().fd
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)
    with CarFile.open(path, index=tmp_path / "elsewhere") as car:
        car.tags()
        assert (tmp_path / f"elsewhere{car_tags.SUFFIX}").exists()
    with CarFile.open(path, use_sidecar=False) as car:
        assert in_memory(car.tags())
