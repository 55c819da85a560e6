"""stress-ng, fio and dbench in a folder of a mount where names are no keys: for a second each, or longer."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mount.mounting import Mount, run

LEFT_OUT = {
    "bind-mount": "mounts",
    "binderfs": "mounts",
    "dup": "opens nothing in the folder",
    "eventfd": "opens nothing in the folder",
    "fpunch": "needs fallocate",
    "fsize": "needs fallocate",
    "link": "needs hard links",
    "procfs": "reads /proc",
    "xattr": "needs attributes of its own",
}
"""Of the file-system class of stress-ng, what cannot be tried here, and why."""

MANY = 8
"""How many stressors run at a time where all of them run for a second."""

FIO = {
    "any order": "--rw=randrw --ioengine=psync",
    "side by side": "--rw=randwrite --ioengine=libaio --iodepth=8",
    "mapped": "--rw=rw --ioengine=mmap",
    "synced": "--rw=randwrite --ioengine=sync --fsync=16",
    "past the cache": "--rw=randwrite --ioengine=psync --direct=1",
    "two at a time": "--rw=randrw --ioengine=psync --numjobs=2",
}


@pytest.fixture
def mount(car: Path) -> Iterator[Mount]:
    """A mount with a folder `work`, in which nothing is left over at the end, and nothing went wrong."""
    with Mount(car, "--no-publish-on-unmount") as mounted:
        before = mounted.status()
        (mounted / "work").mkdir()
        yield mounted
        shutil.rmtree(mounted / "work")
        after = mounted.status()
        for name in ("root", "staged", "scratch", "errors"):
            assert after[name] == before[name]


def stressors() -> list[str]:
    """The file-system class of the stress-ng that is installed, without what is left out."""
    told = run("stress-ng", "--class", "filesystem?", code=None)
    names = (told.stdout + told.stderr).partition("stressors:")[2].split()
    assert len(names) > 30, told
    return [name for name in names if name not in LEFT_OUT]


def stress(mount: Mount, names: list[str], seconds: int) -> None:
    """Run stressors side by side, with their own checks on."""
    words = [word for name in names for word in (f"--{name}", "1")]
    done = run(
        *("stress-ng", "--temp-path", mount / "work", "--timeout", seconds, "--verify", "--seed", "1"),
        *("--oom-avoid", "--metrics-brief", *words),
        code=None,
        timeout=seconds + 120,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{names}: {said}"
    assert "fail:" not in said, said
    assert mount.status()["errors"] == 0, mount.log()


def test_stress_ng(mount: Mount) -> None:
    names = stressors()
    for first in range(0, len(names), MANY):
        stress(mount, names[first : first + MANY], 1)


@pytest.mark.long
def test_stress_ng_one_by_one(mount: Mount) -> None:
    for name in stressors():
        stress(mount, [name], 10)


def fio(mount: Mount, options: str, size: str) -> None:
    """Write, and compare the crc32c of every block with what is read, while it goes on and at the end."""
    run(
        *("fio", "--name=job", f"--directory={mount / 'work'}", f"--size={size}", "--bsrange=1k-64k"),
        *("--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--verify_backlog=64"),
        *("--randseed=7", "--fallocate=none", *options.split()),
        cwd=mount.folder,
        timeout=600,
    )


@pytest.mark.parametrize("how", FIO)
def test_fio_finds_what_it_wrote(mount: Mount, how: str) -> None:
    options = FIO[how]
    # What goes past the cache is aligned.
    fio(mount, options + " --bsrange=4k-64k" if "direct" in options else options, "4m")


@pytest.mark.long
@pytest.mark.parametrize("how", FIO)
def test_fio_finds_all_of_what_it_wrote(mount: Mount, how: str) -> None:
    options = FIO[how]
    fio(mount, options + " --bsrange=4k-64k" if "direct" in options else options, "200m")


def dbench(mount: Mount, clients: int, seconds: int) -> None:
    """What a file server's clients do, for a while."""
    done = run("dbench", "-D", mount / "work", "-t", seconds, clients, timeout=seconds + 120)
    assert "Throughput" in done.stdout
    # Without the semaphore, which is the system's, its clients do not begin at the same moment.
    said = (done.stdout + done.stderr).replace("failed to create barrier semaphore", "")
    assert "failed" not in said


def test_dbench(mount: Mount) -> None:
    dbench(mount, 2, 2)


@pytest.mark.long
def test_dbench_for_longer(mount: Mount) -> None:
    dbench(mount, 8, 120)
