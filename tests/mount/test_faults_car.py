"""A CAR that cannot be read, or changes while it is mounted: an error for what is lost, no wrong bytes."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mount.crashing import verify
from mount.deadlines import deadline
from mount.faulty_io import Rules
from mount.mounting import (
    Mount,
    files_below,
    is_mounted,
    mstfs,
    records_of,
    refused,
    sync_root,
    write_record,
)
from mstfs.repo.sample import make_sample

NOTES = "org.example.note"
PROFILE = "app.bsky.actor.profile/self.json"


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Nothing may hang."""
    with deadline(90):
        yield


def readable(mount: Mount, expected: dict[str, bytes]) -> list[str]:
    """The files that can be read: what they say is right, and the others fail with EIO."""
    found = []
    for path, text in expected.items():
        try:
            shown = (mount / path).read_bytes()
        except OSError as error:
            assert error.errno == errno.EIO, path  # noqa: PT017
            continue
        assert shown == text, path
        found.append(path)
    return found


# --- a CAR that cannot be read ------------------------------------------------------------------


def test_short_reads_of_the_car_are_no_errors(car: Path, faulty: Mount, rules: Rules) -> None:
    with rules("r .car 0"), faulty as mount:
        expected = records_of(car)
        shown = files_below(mount.path)
        assert {path.removesuffix(".json"): text for path, text in shown.items()} == expected
        assert mount.status()["errors"] == 0


def test_an_io_error_of_the_car_passes(car: Path, faulty: Mount, rules: Rules) -> None:
    expected = {f"{key}.json": text for key, text in records_of(car).items()}
    with faulty as mount:
        paths = sorted(path for path in expected if path.startswith("app.bsky.feed.post/"))
        with rules("r .car 5"):
            for path in paths:
                with refused(errno.EIO):
                    (mount / path).read_bytes()
            with suppress(OSError):
                files_below(mount.path)
            assert mount.status()["errors"] > 0
        assert files_below(mount.path) == expected
        assert "cannot be read at offset" in mount.log()
        assert {path: (mount / path).read_bytes() for path in paths} == {
            path: expected[path] for path in paths
        }
        assert {path: (mount / path).stat().st_size for path in paths} == {
            path: len(expected[path]) for path in paths
        }
        sync_root(mount)
        verify(mount.path)


def test_a_car_that_was_cut_serves_what_is_left(car: Path, faulty: Mount) -> None:
    whole = car.read_bytes()
    expected = {f"{key}.json": text for key, text in records_of(car).items()}
    with faulty as mount:
        note = write_record(mount / NOTES / "written.json")
        os.truncate(car, len(whole) // 2)
        mount.before = None
        served = readable(mount, expected)
        assert 0 < len(served) < len(expected)
        assert f"{car} do not match it; the file was changed after it was opened" in mount.log()
        with suppress(OSError):
            sync_root(mount)
        assert (mount / NOTES / "written.json").read_bytes() == note
        # It comes back, as from a backup.
        with car.open("r+b") as file:
            file.write(whole)
        assert {path: (mount / path).read_bytes() for path in expected} == expected
        sync_root(mount)
        verify(mount.path)
    assert records_of(car)[f"{NOTES}/written"] == note


def test_a_car_that_was_overwritten_is_never_served_for_another(car: Path, faulty: Mount) -> None:
    expected = {f"{key}.json": text for key, text in records_of(car).items()}
    with faulty as mount:
        for path in expected:
            assert (mount / path).stat().st_size == len(expected[path])
        other = bytearray(car.read_bytes())
        for at in range(4096, len(other)):
            other[at] ^= 1
        with car.open("r+b") as file:
            file.write(other)
        mount.before = None
        readable(mount, expected)
        mount.kill()
        done = mount.mstfs("mount", car, mount.path, code=None)
        assert done.returncode in (2, 3)
        assert "belongs to another CAR" in done.stderr
        assert not is_mounted(mount.path)
        mount.leaves_with = -9
    assert len(done.stderr.splitlines()) == 1


def test_a_car_that_was_replaced_is_served_as_it_was(car: Path, faulty: Mount, tmp_path: Path) -> None:
    expected = {f"{key}.json": text for key, text in records_of(car).items()}
    make_sample(tmp_path / "other.car", 30, 99)
    with faulty as mount:
        text = write_record(mount / NOTES / "written.json")
        (tmp_path / "other.car").rename(car)
        mount.before = None
        assert files_below(mount.path) == {**expected, f"{NOTES}/written.json": text}
        sync_root(mount)
    done = mstfs("mount", car, mount.path, folder=tmp_path, code=2)
    assert "belongs to another CAR" in done.stderr
