"""Read-only mounts that are never asked to open a file, and those that go without."""

import errno
import os
from pathlib import Path

import pytest

from mount.mounting import Mount, files_below, records_of, run


def test_read_only_mounts_are_never_asked_to_open(car: Path) -> None:
    with Mount(car, "--read-only") as mount:
        assert mount.status()["open_requests"] is False
        first = files_below(mount.path)
        assert sorted(first.values()) == sorted(records_of(car).values())
        run("grep", "-rq", "app.bsky.feed.post", mount.path)
        assert files_below(mount.path) == first


def test_writable_mounts_are_asked(car: Path) -> None:
    with Mount(car) as mount:
        assert mount.status()["open_requests"] is True


def test_without_the_wrapper_everything_reads_the_same(car: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Mount(car, "--read-only") as mount:
        expected = files_below(mount.path)
    monkeypatch.setenv("MSTFS_FAST_PATH", "0")
    with Mount(car, "--read-only") as mount:
        assert mount.status()["open_requests"] is True
        assert files_below(mount.path) == expected


def test_what_cannot_be_read_is_an_error_and_not_an_empty_file(car: Path) -> None:
    data = bytearray(car.read_bytes())
    place = data.index(b"Nobody in Particular")
    data[place : place + 6] = b"NOBODY"
    car.write_bytes(data)
    with Mount(car, "--read-only") as mount:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            (mount / "app.bsky.actor.profile/self.json").read_bytes()
        good = [path for path in (mount / "app.bsky.feed.post").iterdir() if path.read_bytes()]
        assert len(good) == len(os.listdir(mount / "app.bsky.feed.post"))


def test_control_files_say_what_is_true_now(car: Path) -> None:
    with Mount(car, "--read-only") as mount:
        first, second = mount.status(), mount.status()
        # To ask is a request, too.
        assert second.pop("requests")["total"] > first.pop("requests")["total"]
        assert first == second
        assert (mount / ".mstfs/root").read_text().strip() == first["root"]
