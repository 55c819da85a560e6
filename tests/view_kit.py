"""A view without a kernel, for tests: files by path, opened and closed as programs do."""

from collections.abc import Callable
from pathlib import Path

import pytest
from workspaces import writable

from mstfs.publish.plan import make_plan, record_plan
from mstfs.staging import files
from mstfs.staging import workspace as staging
from mstfs.staging.workspace import Workspace
from mstfs.view import changes, keeper, writer
from mstfs.view.buffers import Buffer
from mstfs.view.inodes import ROOT, Inode
from mstfs.view.keeper import Keeper
from mstfs.view.rename import Renamer
from mstfs.view.view import View
from mstfs.view.writer import Writer

ENTRIES = {b"a.b.c/x": 1, b"a.b.c/y": 2, b"a.b.d/self": 3}


def check_refused(code: int, action: Callable[..., object], *arguments: object) -> None:
    """The action raises OSError with this errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        action(*arguments)
    assert caught.value.errno == code


class Kit:
    """One view with its writer and renamer."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.view = View(workspace)
        self.writer = Writer(self.view)
        self.renamer = Renamer(self.writer)

    @classmethod
    def at(cls, folder: Path, entries: dict[bytes, int] | None = None, **options: str) -> "Kit":
        return cls(writable(folder, ENTRIES if entries is None else entries, **options))

    def find(self, path: bytes) -> Inode | None:
        inode: Inode | None = self.view.inodes.by_number[ROOT]
        for name in path.split(b"/") if path else ():
            assert inode is not None
            inode = self.view.lookup(inode, name)
            if inode is None:
                return None
        return inode

    def inode(self, path: bytes) -> Inode:
        inode = self.find(path)
        assert inode is not None, path
        return inode

    def split(self, path: bytes) -> tuple[Inode, bytes]:
        folder, _, name = path.rpartition(b"/")
        return self.inode(folder), name

    def open(self, path: bytes, *, write: bool = False, truncate: bool = False) -> Inode:
        inode = self.find(path)
        if inode is None:
            return self.create(path)
        self.writer.open(inode, write=write, truncate=truncate)
        return inode

    def close(self, inode: Inode, *, write: bool = True) -> None:
        try:
            if write:
                self.writer.flush(inode)
        finally:
            self.writer.release(inode, write=write)

    def put(self, path: bytes, data: bytes) -> None:
        inode = self.open(path, write=True, truncate=True)
        try:
            self.writer.write(inode, 0, data)
        finally:
            self.close(inode)

    def get(self, path: bytes) -> bytes:
        inode = self.inode(path)
        data = self.view.read(inode, 0, 1 << 23)
        assert self.view.attributes(inode).size == len(data)
        return data

    def names(self, path: bytes = b"") -> list[bytes]:
        return sorted(name for name, _ in self.view.children(path))

    def unlink(self, path: bytes) -> None:
        self.writer.unlink(*self.split(path))

    def mkdir(self, path: bytes) -> None:
        self.writer.mkdir(*self.split(path), 0o755)

    def create(self, path: bytes) -> Inode:
        return self.writer.create(*self.split(path), 0o644)

    def symlink(self, path: bytes) -> None:
        self.writer.symlink(*self.split(path), b"target")

    def write_to(self, path: bytes) -> None:
        """Open for writing, and nothing else."""
        self.open(path, write=True)

    def rename(self, source: bytes, target: bytes, *, replace: bool = True) -> None:
        self.renamer.rename(*self.split(source), *self.split(target), replace=replace)

    def publish(self) -> None:
        batch = self.workspace.edits.batch()
        plan = make_plan(self.workspace, batch, None)
        changes.pin_verbatim(self.view, (edit.key for edit in batch[0]))
        _, keys = record_plan(self.workspace, plan)
        changes.published(self.view, keys)

    def xattr(self, path: bytes, name: bytes) -> bytes | None:
        return self.view.xattrs(self.inode(path)).get(b"user.mstfs." + name)


def take_short_steps(patch: pytest.MonkeyPatch) -> None:
    """What is done in steps for large files is done in steps for small ones."""
    for module in (keeper, staging):
        patch.setattr(module, "STEP_BYTES", 1000)
    patch.setattr(keeper, "HELD_BYTES", 20_000)
    patch.setattr(files, "PART_CHUNKS", 1)
    patch.setattr(keeper, "SPILLED_CHUNKS", 1)
    patch.setattr(writer, "SPILL_BYTES", files.CHUNK_BYTES)


def inodes_that_spill(of: Keeper, patch: pytest.MonkeyPatch) -> list[Inode]:
    """The inodes of which something is stored while they are written, as a list that grows."""
    inodes: list[Inode] = []
    spill = of.spill

    def spilled(inode: Inode, buffer: Buffer) -> None:
        inodes.append(inode)
        spill(inode, buffer)

    patch.setattr(of, "spill", spilled)
    return inodes
