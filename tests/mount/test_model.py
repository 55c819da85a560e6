"""Random programs on a real mount, against a plain model.

What files say, to those who open them now and to those who have them open; what a publication keeps; what is
there after a restart and after a kill. The mount is a HAMT, where every file is a key. A file of the model is
a cell: names come and go, and whoever has a cell open goes on reading it.
"""

import os
import random
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mount.deadlines import deadline
from mount.hamts import RAW, check, make
from mount.mounting import Mount, files_below

PATHS = ("a", "b", "d/a", "d/b", "e/deep/c")
FOLDERS = ("d", "e", "e/deep", "empty")
paths, folders = st.sampled_from(PATHS), st.sampled_from(FOLDERS)
texts = st.binary(max_size=60) | st.integers(1, 9).map(lambda size: bytes([size]) * size * 9000)
SECONDS = 60.0


class Cell:
    """What a file holds."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)


class Mounted(RuleBasedStateMachine):
    """What programs and the command line do to a mount."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="mstfs-model-"))
        self.cells: dict[str, Cell] = {"a": Cell(b"old a"), "d/a": Cell(b"old d/a")}
        self.published = [self.contents()]
        self.readers: list[tuple[int, Cell]] = []

    def contents(self) -> dict[str, bytes]:
        return {path: bytes(cell.data) for path, cell in self.cells.items()}

    @initialize()
    def begin(self) -> None:
        self.car = make(self.folder, RAW, self.contents())
        self.mount = Mount(self.car)
        self.mount.__enter__()

    def teardown(self) -> None:
        self.let_go()
        if hasattr(self, "mount"):
            self.mount.__exit__(None, None, None)
            check(self.car)
        shutil.rmtree(self.folder)

    def let_go(self) -> None:
        for fd, _ in self.readers:
            os.close(fd)
        self.readers.clear()

    def path(self, path: str) -> Path:
        """A path whose folder is there."""
        found: Path = self.mount / path
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    # --- files ----------------------------------------------------------------------------------

    @rule(path=paths, data=texts)
    def write(self, path: str, data: bytes) -> None:
        self.path(path).write_bytes(data)
        self.cells.setdefault(path, Cell()).data[:] = data

    @rule(path=paths, offset=st.integers(0, 70_000), data=texts, sync=st.booleans())
    def write_at(self, path: str, offset: int, data: bytes, sync: bool) -> None:
        fd = os.open(self.path(path), os.O_RDWR | os.O_CREAT, 0o644)
        os.pwrite(fd, data, offset)
        if sync:
            os.fsync(fd)
        os.close(fd)
        held = self.cells.setdefault(path, Cell()).data
        if data:
            held.extend(bytes(max(0, offset - len(held))))
            held[offset : offset + len(data)] = data

    @rule(path=paths, size=st.integers(0, 80_000))
    def truncate(self, path: str, size: int) -> None:
        if path in self.cells:
            os.truncate(self.mount / path, size)
            data = self.cells[path].data
            data[:] = data[:size] + bytes(max(0, size - len(data)))

    @rule(source=paths, name=paths)
    def rename(self, source: str, name: str) -> None:
        if source in self.cells:
            (self.mount / source).rename(self.path(name))
            self.cells[name] = self.cells[source]
            if source != name:
                del self.cells[source]

    @rule(path=paths)
    def unlink(self, path: str) -> None:
        if path in self.cells:
            (self.mount / path).unlink()
            del self.cells[path]

    @rule(folder=folders)
    def make_and_remove_folders(self, folder: str) -> None:
        path = self.mount / folder
        if any(name.startswith(f"{folder}/") for name in self.cells) or any(
            path.is_dir() and entry.is_dir() for entry in (path.iterdir() if path.is_dir() else ())
        ):
            assert path.is_dir()
            with pytest.raises(OSError, match="not empty"):
                path.rmdir()
        else:
            path.mkdir(parents=True, exist_ok=True)
            path.rmdir()
            assert not path.exists()

    @rule(path=paths)
    @precondition(lambda self: len(self.readers) < 4)
    def open_to_read(self, path: str) -> None:
        if path in self.cells:
            self.readers.append((os.open(self.mount / path, os.O_RDONLY), self.cells[path]))

    @rule()
    @precondition(lambda self: self.readers)
    def close_a_reader(self) -> None:
        os.close(self.readers.pop(0)[0])

    # --- commands -------------------------------------------------------------------------------

    @rule()
    def publish(self) -> None:
        answer = self.mount.sync()
        assert answer["changed"] is (self.contents() != self.published[-1])
        self.note_publication()

    def note_publication(self) -> None:
        if self.contents() != self.published[-1]:
            self.published.append(self.contents())

    @rule()
    def revert(self) -> None:
        last = self.published[-1]
        self.mount.mstfs("revert", self.mount.path, code=2 if self.contents() == last else 0)
        self.cells = {
            path: self.cells[path] if self.contents().get(path) == data else Cell(data)
            for path, data in last.items()
        }

    @rule(kill=st.booleans())
    def begin_again(self, kill: bool) -> None:
        self.let_go()
        if kill:
            self.mount.kill()
            self.mount.start()
        else:
            self.mount.remount()
            self.note_publication()

    # --- what must hold -------------------------------------------------------------------------

    @invariant()
    def files_are_those_of_the_model(self) -> None:
        if hasattr(self, "mount"):
            assert files_below(self.mount.path) == self.contents()
            for fd, cell in self.readers:
                assert os.pread(fd, 1 << 20, 0) == cell.data
                assert os.fstat(fd).st_size == len(cell.data)

    @invariant()
    def history_is_as_published(self) -> None:
        if hasattr(self, "mount") and len(self.published) > 1:
            number = len(self.published)
            assert files_below(self.mount / f".mstfs/history/{number}") == self.published[-1]


def test_random_programs(request: pytest.FixtureRequest) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    examples = 200 if request.config.getoption("--long") else 6
    with deadline(SECONDS * (1 + examples)):
        run_state_machine_as_test(
            Mounted,
            settings=settings(
                max_examples=examples, stateful_step_count=25, deadline=None, phases=(Phase.generate,)
            ),
        )


@pytest.mark.parametrize("seed", [1, 2])
def test_several_programs_at_once(seed: int, tmp_path: Path) -> None:
    """Each thread has names of its own and knows what they hold; others publish and list all the while."""
    car = make(tmp_path, RAW, {f"{number}/old": b"old" for number in range(4)})
    stop = threading.Event()
    failures: list[BaseException] = []
    models: list[dict[str, bytes]] = [{"old": b"old"} for _ in range(4)]

    def work(number: int, mount: Mount) -> None:
        rng, held = random.Random(seed * 100 + number), models[number]
        folder = mount / str(number)
        for step in range(120):
            name, data = f"n{rng.randrange(6)}", rng.randbytes(rng.choice((0, 5, 5000, 70_000)))
            if rng.random() < 0.6:
                (folder / name).write_bytes(data)
                held[name] = data
            elif rng.random() < 0.5 and held:
                old = rng.choice(sorted(held))
                (folder / old).rename(folder / name)
                held[name] = held.pop(old)
            elif held:
                old = rng.choice(sorted(held))
                (folder / old).unlink()
                del held[old]
            if step % 10 == 0:
                assert files_below(folder) == held
            for known in sorted(held)[:2]:
                assert (folder / known).read_bytes() == held[known]

    def guarded(number: int, mount: Mount) -> None:
        try:
            work(number, mount)
        except BaseException as error:
            failures.append(error)

    def look(mount: Mount) -> None:
        while not stop.is_set():
            for number in range(4):
                for entry in os.scandir(mount / str(number)):
                    try:
                        assert len(Path(entry.path).read_bytes()) in (0, 3, 5, 5000, 70_000)
                    except FileNotFoundError:
                        continue  # It has gone meanwhile.
                    except AssertionError as error:
                        failures.append(error)
                        return

    with deadline(SECONDS * 3), Mount(car) as mount:
        threads = [threading.Thread(target=guarded, args=(number, mount)) for number in range(4)]
        watcher = threading.Thread(target=look, args=(mount,))
        for thread in (*threads, watcher):
            thread.start()
        while any(thread.is_alive() for thread in threads):
            mount.sync()
        stop.set()
        for thread in (*threads, watcher):
            thread.join()
        assert not failures, failures[0]
        mount.sync()
        for number in range(4):
            assert files_below(mount / str(number)) == models[number]
        mount.remount()
        for number in range(4):
            assert files_below(mount / str(number)) == models[number]
    check(car)
