"""Nobody waits for long: what one step of the daemon holds up, while much is done at once."""

import os
from pathlib import Path

import pytest

from mount.mounting import Mount, note_text
from mstfs.archive import create_archive
from mstfs.repo.sample import make_sample

PAUSE_MS = 500
"""Far above what is measured on a quiet machine, and far below what a step takes that goes through all of a
repository."""

RECORDS = 40_000
NEW = 3000


LARGE = 128


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSTFS_MEASURE_PAUSES", "1")


def test_no_step_takes_long(tmp_path: Path) -> None:
    make_sample(tmp_path / "large.car", RECORDS, 8)
    with Mount(tmp_path / "large.car") as mount:
        files = list(mount.path.rglob("*.json"))
        for path in files[::20]:
            path.read_bytes()
        folder = mount / "org.example.pause"
        folder.mkdir()
        for number in range(NEW):
            (folder / f"r{number}.json").write_bytes(note_text(folder.name, number))
        assert len(os.listdir(folder)) == NEW
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        assert mount.sync()["created"] == NEW
        assert len(os.listdir(folder)) == NEW
        mount.mstfs("checkout", mount.path, "1")
        assert not os.listdir(folder)
        check_pauses(mount)


def test_no_step_of_a_large_file_takes_long(tmp_path: Path) -> None:
    create_archive(tmp_path / "map.car", "hamt3").close()
    with Mount(tmp_path / "map.car") as mount:
        for number in range(2):
            with (mount / "large").open("wb") as file:
                for part in range(LARGE):
                    file.write(bytes([number, part]) * (1 << 19))
        assert mount.staged() == ["A large"]
        assert mount.sync()["created"] == 1
        with (mount / "large").open("rb") as file:
            for part in range(LARGE):
                assert file.read(1 << 20) == bytes([1, part]) * (1 << 19)
        (mount / "large").unlink()
        check_pauses(mount)
        mount.mstfs("verify", mount.overlay())


def check_pauses(mount: Mount) -> None:
    pauses = mount.status()["pauses_ms"]
    assert pauses, "nothing was measured"
    assert pauses[0][0] < PAUSE_MS, f"others had to wait: {pauses}"
