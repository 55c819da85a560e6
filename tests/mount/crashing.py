"""One archive, and daemon after daemon that is killed at work on it."""

import contextlib
import io
import json
import os
import random
from pathlib import Path
from threading import Timer
from typing import NamedTuple

from mount import faulty_io
from mount.crash_model import State, beginning, root_of, shown_by
from mount.crash_work import KEYS, Died, Worker
from mount.mounting import Mount, run
from mstfs import fault_points
from mstfs.cli import main
from mstfs.repo.sample import make_sample

RECORDS = 12
STEPS_MAX = 25
"""Steps of work after which a daemon that still lives is killed."""


class Doom(NamedTuple):
    """How a daemon is to die: at a fault point, at its n-th change of the overlay, or after some seconds."""

    step: str = ""
    change: int = 0
    seconds: float = 0.0


def random_doom(rng: random.Random) -> Doom:
    """Any of the three, with equal chances."""
    match rng.randrange(3):
        case 0:
            return Doom(step=rng.choice(fault_points.STEPS))
        case 1:
            return Doom(change=rng.randrange(1, 200))
        case _:
            return Doom(seconds=rng.uniform(0, 0.15))


def verify(target: Path) -> None:
    """`mstfs verify` of an overlay or a mount must find nothing, neither in the tree nor in the history."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main.run(["verify", "--allow-unsigned", "--json", str(target)])
    answer = json.loads(out.getvalue())
    assert code == 0, answer
    assert answer["sound"], answer


class Victims:
    """Mounts one archive again and again, and kills each daemon; `kills` counts them."""

    def __init__(self, folder: Path, shim: Path, rng: random.Random) -> None:
        self.folder = folder
        self.shim = shim
        self.rng = rng
        self.archive = folder / "archive"
        self.archive.mkdir()
        self.overlay = self.archive / "repo.car.mstfs"
        make_sample(self.archive / "repo.car", RECORDS, 20)
        self.mount = Mount(self.archive / "repo.car", "--no-publish-on-unmount", folder=folder)
        self.worker: Worker | None = None
        self.kills = 0
        self.killed_at: dict[str, int] = {}

    def begin(self, *, publishes_beside: bool = True) -> None:
        """The first life, which nothing disturbs: it says what the archive holds."""
        with self.mount as mount:
            self.worker = Worker(mount, beginning(mount), self.rng)
            self.worker.publishes_beside = publishes_beside
            self.worker.make_folders()
            self.worker.note_root()

    def life(self, doom: Doom) -> None:
        """Mount, look, work, die, look at what is left."""
        more = {"kill_at": doom.change} if doom.change else {}
        self.mount.environment = faulty_io.environment(self.shim, self.overlay, **more)
        if doom.step:
            self.mount.environment["MSTFS_FAULT_POINT"] = doom.step
        timer = Timer(doom.seconds, self.shoot)
        try:
            if self.mounts():
                self.check()
                if doom.seconds:
                    timer.start()
                with contextlib.suppress(Died):
                    self.work_to_the_end(doom)
        finally:
            timer.cancel()
            self.shoot()
            self.bury()
        assert not doom.step or self.last_code == -9
        self.kills += 1
        where = doom.step or ("a change of the overlay" if doom.change else "any moment")
        self.killed_at[where] = self.killed_at.get(where, 0) + 1
        verify(self.overlay)

    def mounts(self) -> bool:
        """Whether the daemon lived until its mount answered."""
        try:
            self.mount.start()
        except (AssertionError, OSError):
            assert self.mount.process is not None
            if self.mount.process.poll() != -9:
                raise
            return False
        return True

    def work_to_the_end(self, doom: Doom) -> None:
        worker = self.worker
        assert worker is not None
        # A publication that finds nothing to publish passes some of the steps as well, and proves little.
        worker.publishes = not doom.step
        for _ in range(self.rng.randrange(2, STEPS_MAX)):
            worker.work()
        if worker.beside is not None:
            worker.finish_beside()
        if doom.step:
            # It has to come to the step: there must be something to publish.
            key = KEYS[0]
            text = worker.text()
            step = worker.write()._replace(
                after=worker.state.write(key, text), do=lambda: worker.put(f"{key}.json", text)
            )
            worker.take(step)
            publish = worker.publish_now()
            worker.take(publish)
            raise AssertionError(f"the daemon never came to {doom.step}")

    def shoot(self) -> None:
        assert self.mount.process is not None
        self.mount.process.kill()

    def bury(self) -> None:
        """Take notice of the death, and clear the mount."""
        assert self.mount.process is not None
        self.last_code = self.mount.process.wait(30)
        if self.worker is not None and self.worker.beside is not None:
            self.worker.beside.join(30)
            assert not self.worker.beside.is_alive(), "a sync hangs although its daemon is dead"
            self.worker.beside = None
        with contextlib.suppress(AssertionError):
            run("fusermount3", "-u", "-z", self.mount.path)

    def check(self) -> State:
        """The mount shows one of the states that are possible, and the old roots are what they were."""
        worker, mount = self.worker, self.mount
        assert worker is not None
        shown = shown_by(mount)
        possible = worker.possible()
        found = [state for state in possible if state.shown() == shown]
        if not found:
            told = "\n--- or ---\n".join(state.shown().difference(shown) for state in possible)
            raise AssertionError(f"the mount shows what never was (expected here, shown there):\n{told}")
        worker.is_now(found[0])
        if not worker.publishes_beside:
            # What was published is cleared. (What is written beside a publication may be staged as it was.)
            staged = mount.status()["staged"]
            assert staged["put"] + staged["delete"] == len(shown.staged)
        worker.note_root()
        for sequence, (_, records) in sorted(worker.roots.items())[-3:]:
            assert root_of(mount, sequence) == {f"{key}.json": text for key, text in records.items()}
        return found[0]

    def finish(self) -> None:
        """A last life without a doom: everything is there, and all roots, and it can be published."""
        self.mount.environment = {}
        worker = self.worker
        assert worker is not None
        with self.mount as mount:
            self.check()
            verify(mount.path)
            for sequence, (_, records) in worker.roots.items():
                assert root_of(mount, sequence) == {f"{key}.json": text for key, text in records.items()}
            worker.take(worker.publish_now())
            assert shown_by(mount) == worker.state.shown()
            assert mount.status()["errors"] == 0
        verify(self.overlay)
        assert os.path.getsize(self.overlay) > 0
