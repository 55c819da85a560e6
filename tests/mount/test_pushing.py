"""Files that the kernel is given before it asks for them: on read-only mounts, to one reader at a time."""

import errno
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mount.mounting import (
    PATIENCE,
    PROJECT,
    Mount,
    environment_of,
    files_below,
    is_mounted,
    mstfs,
    records_of,
    refused,
    wait_for,
)
from mstfs.repo.sample import make_sample

COUNT = 2000

# Pushes the very file that is being read, whose page the kernel has locked until it has the answer.
COLLIDING = """
from mstfs.fuse import fast_path, read_ahead

missed, push = read_ahead.ReadAhead.missed, fast_path.FastPath.push


def missed_with_memory(self, inode):
    fast_path.being_read = self, inode
    missed(self, inode)


def push_of_what_is_read(self, numbers):
    ahead, inode = fast_path.being_read
    leaf = ahead.view.node(inode)
    self.offer([(inode.number, ahead.view.values.read(leaf.key, leaf.cid, 0, 1 << 20))])
    return push(self, [inode.number, *numbers][:64])


read_ahead.ReadAhead.missed = missed_with_memory
fast_path.FastPath.push = push_of_what_is_read
"""


@pytest.fixture(scope="module")
def large_car(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pushing") / "large.car"
    make_sample(path, COUNT, 7)
    # With the listings stored, the files are not rendered before they are read.
    folder = path.parent / "first"
    folder.mkdir()
    with Mount(path, "--read-only", point=folder):
        subprocess.run(["find", folder], check=True, stdout=subprocess.DEVNULL)
    return path


def expected(car: Path) -> list[bytes]:
    return sorted(records_of(car).values())


def in_order(folder: Path) -> list[bytes]:
    """The contents of all files, folder by folder, in the order of the listings."""
    return sorted(files_below(folder).values())


def test_a_reader_that_is_alone_hardly_asks(large_car: Path) -> None:
    for _ in range(5):
        with Mount(large_car, "--read-only") as mount:
            assert in_order(mount.path) == expected(large_car)
            status = mount.status()
            assert in_order(mount.path) == expected(large_car)
        if status["pushed"] > COUNT // 2:
            break  # On a busy machine one push may take too long, and then a second is quiet.
    assert status["pushed"] > COUNT // 2
    assert status["requests"]["read"] + status["answered_without_python"] < COUNT // 2


def test_nothing_is_pushed_that_may_change(large_car: Path, tmp_path: Path) -> None:
    with Mount(large_car, "--overlay", tmp_path / "x") as mount:
        assert in_order(mount.path) == expected(large_car)
        assert mount.status()["pushed"] == 0


def test_readers_beside_each_other(large_car: Path) -> None:
    with Mount(large_car, "--read-only") as mount, ThreadPoolExecutor(4) as pool:
        for found in pool.map(in_order, [mount.path] * 4):
            assert found == expected(large_car)


def test_the_file_that_is_being_read_is_pushed(large_car: Path, tmp_path: Path) -> None:
    """The thread that pushes has to wait for the kernel, and nobody else has to."""
    (tmp_path / "sitecustomize.py").write_text(COLLIDING)
    environment = {"PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    with Mount(large_car, "--read-only", environment=environment) as mount:
        assert in_order(mount.path) == expected(large_car)
        # Each time it takes too long, and then there is quiet for a while.
        assert mount.status()["pushed"] < COUNT // 2
        assert in_order(mount.path) == expected(large_car)


def test_a_killed_daemon_leaves_nothing_behind(large_car: Path) -> None:
    with Mount(large_car, "--read-only") as mount:
        names = sorted(mount.path.glob("app.bsky.feed.*/*.json"))
        for path in names[:200]:
            path.read_bytes()
        assert mount.status()["pushed"]
        mount.kill()
        mount.start()
        assert in_order(mount.path) == expected(large_car)


def states_of(pid: int) -> set[str]:
    """The states of the threads of a process, as in proc(5)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    return {task.read_text().rpartition(")")[2].split()[0] for task in tasks}


def test_the_worst_that_can_happen(large_car: Path, tmp_path: Path) -> None:
    """The daemon is killed while the kernel holds the thread that pushes: `umount --force` clears that."""
    answers_no_more = "fast_path.FastPath.end_push = lambda self: __import__('time').sleep(1000)\n"
    (tmp_path / "sitecustomize.py").write_text(COLLIDING + answers_no_more)
    point = tmp_path / "mnt"
    point.mkdir()
    environment = {**environment_of(tmp_path), "PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    command = [sys.executable, "-P", "-m", "mstfs", "mount", "-f", "--read-only", str(large_car), str(point)]
    with subprocess.Popen(command, env=environment) as daemon:
        wait_for(lambda: is_mounted(point), "a mount")
        with subprocess.Popen(["grep", "-rq", "no-such-string-zz", point]) as reader:
            wait_for(lambda: "D" in states_of(daemon.pid), "a thread that waits for the kernel")
            daemon.kill()
            with pytest.raises(subprocess.TimeoutExpired):
                reader.wait(1)
            mstfs("umount", "--force", point, folder=tmp_path)
            assert reader.wait(PATIENCE) == 2
        assert daemon.wait(PATIENCE) == -signal.SIGKILL
    assert not is_mounted(point)


@pytest.mark.long
@pytest.mark.parametrize("readers", [1, 3])
def test_killed_while_it_pushes(large_car: Path, readers: int) -> None:
    """Whenever it is killed the mount is dead, and not half alive: who reads gets an error."""
    chosen = random.Random(readers)
    for _ in range(150):
        with Mount(large_car, "--read-only") as mount:
            greps = [
                subprocess.Popen(["grep", "-rq", "no-such-string-zz", mount.path], stderr=subprocess.DEVNULL)
                for _ in range(readers)
            ]
            time.sleep(chosen.uniform(0, 0.08))
            assert mount.process is not None
            mount.process.kill()
            mount.process.wait(10)
            for grep in greps:
                grep.wait(10)
            with refused(errno.ENOTCONN):
                mount.status()
            mount.mstfs("umount", mount.path)
