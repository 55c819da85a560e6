"""Random work on a mount whose daemon may die at any moment.

Each step is one change of the overlay. So after a crash the archive is what it was before the step that was
under way, or what it is to be after it: nothing between, and nothing older.
"""

import errno
import os
import random
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import NamedTuple

from mount.crash_model import State, Texts, as_files, root_of
from mount.mounting import Mount, note_text, wait_for
from mstfs.cli.target import ask
from mstfs.errors import MstfsError

COLLECTION = "org.example.one"
KEYS = tuple(f"{folder}/{name}" for folder in (COLLECTION, "org.example.two") for name in "abcd")
SCRATCH = ("plain/s1", "plain/s2", f"{COLLECTION}/.a.json.swp")
WRONG = b'{"$type": "org.example.one",\n "n": 1.5}'


class Died(Exception):
    """The daemon is gone."""


class Step(NamedTuple):
    """One thing to do: its name for people, the state that it leads to, and how it is done.

    `durable` says that its end is acknowledged as safe from a power loss, and all before it.
    """

    name: str
    after: State
    do: Callable[[], object]
    durable: bool = False


class Worker:
    """Does random steps, and knows what must be there: one of `possible()`.

    `tell` hears of each step: `begin`, `end` or `durable`, and the number of the state that it leads to.
    """

    def __init__(
        self, mount: Mount, state: State, rng: random.Random, *, scratch_bytes: int = 150_000
    ) -> None:
        self.mount = mount
        self.rng = rng
        self.scratch_bytes = scratch_bytes
        self.states = [state]
        self.under_way: State | None = None
        self.roots: dict[int, tuple[str, Texts]] = {}
        self.beside: Thread | None = None
        self.publishing: list[Texts] = []
        self.publishes = True
        self.publishes_beside = True
        self.tell: Callable[[str, int], None] = lambda word, number: None

    @property
    def state(self) -> State:
        return self.states[-1]

    def make_folders(self) -> None:
        """The folders in which all work is done; they are no part of the model."""
        for folder in {path.rpartition("/")[0] for path in (*KEYS, *SCRATCH)}:
            self.guarded(lambda folder=folder: os.makedirs(self.mount / folder, exist_ok=True))  # type: ignore[misc]

    def possible(self) -> list[State]:
        """The states of which the archive must be in one now, whether the daemon lives or not."""
        found = [self.state]
        if self.under_way is not None:
            found.append(self.under_way)
        published = [state.publish(records) for state in found for records in self.publishing]
        return found + [state for state in published if state not in found]

    def is_now(self, state: State) -> None:
        """One of the possible states was found to be the real one."""
        self.states.append(state)
        self.under_way = None
        self.publishing = []

    def guarded(self, do: Callable[[], object]) -> None:
        """Do something. Died if that fails because the daemon does."""
        try:
            do()
        except (OSError, MstfsError) as error:
            process = self.mount.process
            assert process is not None
            code = getattr(error, "errno", None)
            if code in (errno.ENOTCONN, errno.ECONNABORTED) or not isinstance(error, OSError):
                with suppress(AssertionError):
                    wait_for(lambda: process.poll() is not None, "the daemon to be gone", 5)
            if process.poll() is None:
                raise
            raise Died from error

    def take(self, step: Step) -> None:
        """Do one step."""
        number = len(self.states)
        self.under_way = step.after
        self.tell("begin", number)
        self.guarded(step.do)
        self.tell("durable" if step.durable else "end", number)
        self.states.append(step.after)
        self.under_way = None
        if self.beside is not None:
            self.publishing.append(step.after.records)

    def work(self) -> None:
        """One random step; now and then a publication is begun beside those that follow."""
        if self.beside is not None and (not self.beside.is_alive() or self.rng.random() < 0.3):
            self.finish_beside()
        kinds = [
            self.write, self.write, self.write_fsynced, self.write_fsynced, self.draft, self.scratch,
            self.scratch_fsynced, self.unlink, self.rename, self.rename, self.sync_folder,
        ]  # fmt: skip
        if self.beside is None:
            kinds += [self.revert, self.checkout]
            kinds += [self.publish, self.publish] if self.publishes else []
        step = self.rng.choice(kinds)()
        if step is not None:
            self.take(step)

    # --- publishing beside ------------------------------------------------------------------------

    def begin_beside(self) -> None:
        """Publish in a thread, while the work goes on."""
        self.publishing = [self.state.records]
        self.beside = Thread(target=self.quietly_sync_root, daemon=True)
        self.beside.start()

    def finish_beside(self) -> None:
        """Wait for the publication, and see what went into it."""
        assert self.beside is not None
        self.beside.join()
        self.beside = None
        shown: Texts = {}
        sequence = 0

        def look() -> None:
            nonlocal shown, sequence
            sequence = self.mount.status()["sequence"]
            shown = root_of(self.mount, sequence)

        self.guarded(look)
        found = [records for records in self.publishing if as_files(records) == shown]
        assert found, "the root that was published holds what was never staged"
        after = self.state.publish(found[0])
        assert after.sequence == sequence
        self.is_now(after)

    def quietly_sync_root(self) -> None:
        with suppress(OSError):
            self.sync_root()

    # --- steps --------------------------------------------------------------------------------------

    def text(self) -> bytes:
        filling = "x" * self.rng.choice((0, 10, 500, 20_000))
        return note_text(COLLECTION, self.rng.randrange(10**9), {"s": filling})

    def write(self) -> Step:
        key, text = self.rng.choice(KEYS), self.text()
        return Step(f"write {key}", self.state.write(key, text), lambda: self.put(f"{key}.json", text))

    def write_fsynced(self) -> Step:
        key, text = self.rng.choice(KEYS), self.text()
        name = f"write and fsync {key}"
        return Step(name, self.state.write(key, text), lambda: self.put(f"{key}.json", text, sync=True), True)

    def draft(self) -> Step:
        path = f"{self.rng.choice(KEYS)}.json"
        text = WRONG + b" " * self.rng.randrange(50)
        after = self.state.store(path, text)
        return Step(f"draft {path}", after, lambda: self.put(path, text, refused=errno.EINVAL))

    def scratch(self) -> Step:
        path, data = self.rng.choice(SCRATCH), self.rng.randbytes(self.rng.randrange(1, self.scratch_bytes))
        return Step(f"scratch {path}", self.state.store(path, data), lambda: self.put(path, data))

    def scratch_fsynced(self) -> Step:
        step = self.scratch()
        path = step.name.removeprefix("scratch ")
        data = step.after.stored[path]
        return Step(f"fsync {path}", step.after, lambda: self.put(path, data, sync=True), True)

    def unlink(self) -> Step | None:
        shown = sorted(self.state.shown().files)
        path = self.rng.choice(shown) if shown else ""
        return Step(f"rm {path}", self.state.remove(path), (self.mount / path).unlink) if path else None

    def rename(self) -> Step | None:
        """Between records and scratch; what goes onto the name of a record must be one."""
        files = self.state.shown().files
        drafts = self.state.drafts()
        movable = sorted(path for path in files if path not in drafts)
        if not movable:
            return None
        source = self.rng.choice(movable)
        is_record = files[source].startswith(b"{")
        target = self.rng.choice((*SCRATCH, *(f"{key}.json" for key in KEYS if is_record)))
        if source == target:
            return None
        after = self.state.remove(source).remove(target)
        if target.endswith(".json"):
            after = after.write(target.removesuffix(".json"), files[source])
        else:
            after = after.store(target, files[source])
        do = (self.mount / source).rename
        return Step(f"mv {source} {target}", after, lambda: do(self.mount / target))

    def sync_folder(self) -> Step:
        return Step("fsync of a folder", self.state, lambda: self.fsync(COLLECTION), True)

    def publish(self) -> Step | None:
        if self.publishes_beside and self.rng.random() < 0.3:
            self.begin_beside()
            return None
        return self.publish_now()

    def publish_now(self) -> Step:
        if self.rng.random() < 0.5:
            return Step("sync", self.state.publish(), self.sync_root, True)
        return Step(
            "publish", self.state.publish(), lambda: ask(self.mount.path, {"command": "publish"}), True
        )

    def revert(self) -> Step | None:
        if self.rng.random() < 0.5:
            return None
        request = {"command": "revert", "paths": [""]}
        return Step("revert", self.state.revert(), lambda: ask(self.mount.path, request))

    def checkout(self) -> Step | None:
        """Only where nothing is staged; of the roots those that were seen before."""
        if self.state.shown().staged:
            return None
        self.guarded(self.note_root)
        root, records = self.rng.choice(sorted(self.roots.items()))[1]
        request = {"command": "checkout", "root": root}
        return Step("checkout", self.state.checkout(records), lambda: ask(self.mount.path, request), True)

    # --- how ----------------------------------------------------------------------------------------

    def note_root(self) -> None:
        root = (self.mount / ".mstfs/root").read_text().strip()
        self.roots[self.state.sequence] = (root, self.state.published)

    def put(self, path: str, data: bytes, *, sync: bool = False, refused: int = 0) -> None:
        """Write a file, in several calls; the close may be refused with an errno."""
        fd = os.open(self.mount / path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        done = False
        try:
            for start in range(0, len(data), 50_000):
                os.write(fd, data[start : start + 50_000])
            if sync:
                os.fsync(fd)
            done = True
        finally:
            try:
                os.close(fd)
            except OSError as error:
                if done and error.errno != refused:
                    raise

    def fsync(self, folder: str) -> None:
        fd = os.open(self.mount / folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_root(self) -> None:
        """`sync MNT`: it publishes, and is refused afterwards where drafts stay behind."""
        try:
            self.fsync("")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
