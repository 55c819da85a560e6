"""What a disk may hold after the power went away, made from a record of writes and syncs.

Nothing is certain but what was synced: the bytes of a file by a sync of the file, its name by a sync of its
folder. Of all the rest any part may have reached the disk: no write, every one, or some, whole or torn
between two sectors. Names change in their order, as journals of file systems have it.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mount.faulty_io import Call

SECTOR = 512
VOLATILE = "-shm"
"""SQLite's shared index: it is made anew by whoever opens the database first."""


@dataclass
class File:
    """The bytes that are safe, and the changes since, oldest first."""

    safe: bytearray = field(default_factory=bytearray)
    pending: list[Call] = field(default_factory=list)
    begun: dict[int, int] = field(default_factory=dict)
    """For each thread that is in a sync: how many changes there were when it began."""

    def settle(self, thread: int) -> None:
        """A sync ended: what stood before its beginning is safe."""
        count = self.begun.pop(thread, 0)
        for call in self.pending[:count]:
            apply(self.safe, call)
        del self.pending[:count]
        self.begun = {other: max(0, before - count) for other, before in self.begun.items()}


def apply(data: bytearray, call: Call, start: int = 0, end: int | None = None) -> None:
    """Do one change, or of a write only the bytes from `start` to `end`."""
    if call.operation == "t":
        del data[call.offset :]
        data.extend(bytes(call.offset - len(data)))
        return
    part = call.data[start:end]
    at = call.offset + start
    data.extend(bytes(max(0, at + len(part) - len(data))))
    data[at : at + len(part)] = part


class Disk:
    """The files of one folder, as far as they are safe, and what is on the way to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.files: dict[int, File] = {}
        self.names: dict[str, File] = {}
        self.renaming: list[Call] = []
        self.nodes: dict[int, File] = {}
        self.begun = 0

    def see(self, call: Call) -> None:
        """One more call of the record."""
        match call.operation:
            case "c":
                self.files[call.inode] = self.nodes[id(call)] = File()
                self.renaming.append(call)
            case "u" | "r":
                self.renaming.append(call)
            case "w" | "t" if call.inode in self.files:
                self.files[call.inode].pending.append(call)
            case "b" if call.path == self.folder:
                self.begun = len(self.renaming)
            case "b" if call.inode in self.files:
                self.files[call.inode].begun[call.offset] = len(self.files[call.inode].pending)
            case "s" if call.path == self.folder:
                self.rename(self.names, self.renaming[: self.begun])
                del self.renaming[: self.begun]
                self.begun = 0
            case "s" if call.inode in self.files:
                self.files[call.inode].settle(call.offset)

    def rename(self, names: dict[str, File], calls: Iterable[Call]) -> None:
        """Create, remove and rename, in order."""
        for call in calls:
            if call.operation == "c":
                names[call.path] = self.nodes[id(call)]
            elif call.operation == "u":
                names.pop(call.path, None)
            elif call.path in names:
                names[call.data.decode()] = names.pop(call.path)

    def after_power_loss(self, target: Path, rng: random.Random) -> None:
        """Write what may be left into a folder."""
        names = dict(self.names)
        self.rename(names, self.renaming[: rng.randint(0, len(self.renaming))])
        for path, file in names.items():
            if not path.endswith(VOLATILE):
                (target / Path(path).name).write_bytes(remains(file, rng))


def remains(file: File, rng: random.Random) -> bytes:
    """What is safe of a file, and some of the rest."""
    data = bytearray(file.safe)
    chance = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    for call in file.pending:
        if rng.random() >= chance:
            continue
        start, end = 0, len(call.data)
        if rng.random() < 0.1 and chance < 1:
            # Torn: sectors of the disk reach it whole, and in no order.
            cut = rng.randrange(0, end + 1) // SECTOR * SECTOR
            start, end = rng.choice(((0, cut), (cut, end)))
        apply(data, call, start, end)
    return bytes(data)
