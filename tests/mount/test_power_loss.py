"""What was acknowledged as durable is there after a power loss, whatever the disk made of the rest."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mount import faulty_io
from mount.crash_model import Shown, State, beginning
from mount.crash_work import Step, Worker
from mount.crashing import RECORDS, verify
from mount.deadlines import deadline
from mount.faulty_io import Call
from mount.mounting import Mount
from mount.power_loss import Disk
from mstfs.archive import Archive
from mstfs.repo.sample import make_sample
from mstfs.staging.status import change_lines, staged_changes
from mstfs.staging.tree import StagedTree
from mstfs.staging.workspace import Workspace

SCRATCH_BYTES = 6_000_000
"""Large enough for the log to be copied into the database several times in a record."""


class Record(NamedTuple):
    """What a daemon did to its files, with marks of the steps, and the states that these lead to."""

    car: Path
    calls: list[Call]
    states: list[State]


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """No daemon may hang a test."""
    with deadline(1200):
        yield


def record(folder: Path, library: Path, seed: int, steps: int) -> Record:
    """Random work in four lives of a daemon: two end in peace and publish, one is killed."""
    log, archive = folder / "calls", folder / "archive"
    archive.mkdir()
    car = archive / "repo.car"
    make_sample(car, RECORDS, 20)
    watched = faulty_io.environment(library, archive, log=log)
    mount = Mount(car, folder=folder, environment=watched)
    with mount:
        faulty_io.mark(log, "begin 0")
        worker = Worker(mount, beginning(mount), random.Random(seed), scratch_bytes=SCRATCH_BYTES)
        worker.publishes_beside = False
        worker.tell = lambda word, number: faulty_io.mark(log, f"{word} {number}")
        worker.note_root()
        for life in range(4):
            worker.make_folders()
            for _ in range(steps):
                worker.work()
            if life == 1:
                mount.kill()
            else:
                after = worker.state.publish()
                published = after.sequence > worker.state.sequence
                worker.take(Step("umount", after, mount.unmount, durable=published))
            mount.start()
    return Record(car, list(faulty_io.calls(log)), worker.states)


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.long)])
def recorded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, faulty_library: Path
) -> Record:
    """A record with its seed."""
    return record(tmp_path_factory.mktemp("record"), faulty_library, request.param, steps=60)


def texts_of(workspace: Workspace, tree: StagedTree) -> dict[str, bytes]:
    """Path -> contents of every record in a tree."""
    values = workspace.values
    return {
        f"{key.decode()}.json": values.read(key, cid, 0, values.size(key, cid)) for key, cid in tree.page()
    }


def shown_without_mount(car: Path) -> Shown:
    """What a mount of this CAR and its overlay would show."""
    with Archive.open(car, mode="write") as archive:
        workspace = archive.workspace
        stored = {
            file.path.decode(): workspace.files.contents(file)
            for file in workspace.files.by_path.values()
            if file.kind == "file"
        }
        event = workspace.history.head()
        assert event is not None
        workspace.history.check()
        changes = list(change_lines(staged_changes(workspace)))
        assert len(changes) == len(workspace.edits), "what was published is cleared"
        return Shown(
            texts_of(workspace, workspace.staged) | stored,
            changes,
            [file.path.decode() for file in workspace.files.drafts()],
            texts_of(workspace, workspace.at(workspace.head.data)),
            event.sequence,
        )


def check(car: Path, states: list[State], durable: int, begun: int) -> None:
    """The state of the archive is no older than the last durable one, and no younger than what was begun."""
    shown = shown_without_mount(car)
    possible = states[durable : begun + 1]
    if not any(state.shown() == shown for state in possible):
        older = [number for number, state in enumerate(states[:durable]) if state.shown() == shown]
        told = possible[0].shown().difference(shown)
        raise AssertionError(
            f"state {durable} was acknowledged as durable, state {begun} begun; "
            f"found is {f'state {older[-1]}' if older else 'none of all states'}:\n{told}"
        )
    verify(car.with_name("repo.car.mstfs"))


def cuts(calls: list[Call], rng: random.Random, count: int) -> list[int]:
    """Where to cut: around the syncs and the names that change, for there it matters, and anywhere."""
    critical = [at for at, call in enumerate(calls) if call.operation in "bscur"]
    near = [min(len(calls), max(1, rng.choice(critical) + rng.randint(-2, 2))) for _ in range(count // 2)]
    return sorted(near + [rng.randint(1, len(calls)) for _ in range(count - len(near))])


def look_at_cuts(recorded: Record, folder: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    disk = Disk(recorded.car.parent)
    seen = durable = begun = 0
    for at in cuts(recorded.calls, rng, count):
        for call in recorded.calls[seen:at]:
            if call.operation == "k":
                word, number = call.path.split()
                begun = max(begun, int(number))
                durable = int(number) if word == "durable" else durable
            else:
                disk.see(call)
        seen = at
        print(f"seed {seed}, cut at call {at} of {len(recorded.calls)}: states {durable} to {begun}")
        target = folder / f"cut-{at}"
        target.mkdir(exist_ok=True)
        car = Path(shutil.copy2(recorded.car, target))
        disk.after_power_loss(target, rng)
        check(car, recorded.states, durable, begun)
        shutil.rmtree(target)


def test_what_is_durable_survives_a_power_loss(recorded: Record, tmp_path: Path) -> None:
    assert any(call.operation == "w" and call.path.endswith(".mstfs") for call in recorded.calls)
    look_at_cuts(recorded, tmp_path, 60, seed=1)


@pytest.mark.long
def test_what_is_durable_survives_a_power_loss_anywhere(recorded: Record, tmp_path: Path) -> None:
    look_at_cuts(recorded, tmp_path, 1500, seed=2)
