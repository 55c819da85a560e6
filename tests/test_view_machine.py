"""Random programs on a view, without the kernel, against a plain model (view_model).

Tricky bits
    The kernel looks names up before it uses them and forgets them when it likes, but never a folder before
    what is in it; here it forgets everything as long as nothing is open. A crash closes the database and
    opens it again under a new view: only what was closed or synced may be relied on. What takes several steps
    for large files takes them for small ones here, and anything may happen between two steps.
"""

import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from view_kernel import Kernel
from view_kit import inodes_that_spill, take_short_steps
from view_model import ITSELF, Model, Open, Refusal
from view_worlds import BIG, World, blob_world, record_world, repository_world
from workspaces import check_mirrors, over

from mstfs.blocks.memory import MemoryBlocks
from mstfs.blocks.sqlite import Database
from mstfs.errors import MstfsError
from mstfs.opening import SCHEMA
from mstfs.publish.plan import checkout, make_plan, record_plan
from mstfs.staging.status import status
from mstfs.view import changes
from mstfs.view.inodes import ROOT, Inode
from mstfs.view.keeper import UNFINISHED
from mstfs.view.nodes import Stored
from mstfs.view.rename import Renamer
from mstfs.view.revert import revert
from mstfs.view.view import View
from mstfs.view.writer import Writer


def drawn(field: str) -> st.SearchStrategy[bytes]:
    """One of the names or texts of the world that the machine works on."""
    return st.runner().flatmap(lambda machine: st.sampled_from(getattr(machine.world, field)))


paths = drawn("paths")
texts = drawn("texts")
folders = drawn("folders")
steps_ahead = st.sampled_from([0, 1, 100])


class Handle:
    """One open file, in the view and in the model."""

    def __init__(self, inode: Inode, node: Open, write: bool) -> None:
        self.inode = inode
        self.node = node
        self.write = write


class Programs(RuleBasedStateMachine):
    """What programs, the kernel and the command line do to a mount."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        world = self.world
        self.folder = tempfile.TemporaryDirectory()
        self.root, blocks = world.make(world.first)
        self.car = MemoryBlocks(blocks.items())
        path_of = world.rules.names.path_of
        self.model = Model({b"/".join(path_of(key)): data for key, data in world.first.items()}, world.rules)
        self.heads = [(self.root, dict(self.model.head))]
        self.handles: list[Handle] = []
        self.preparing: Iterator[None] = iter(())
        self.patch = pytest.MonkeyPatch()
        take_short_steps(self.patch)
        self.path = Path(self.folder.name) / "x.mstfs"
        self.start()

    def start(self) -> None:
        self.database = Database.open(self.path, schema=SCHEMA)
        root = self.heads[-1][0]
        self.workspace = over(self.database, self.car, root, self.world.options)
        newest = self.workspace.history.head()
        assert newest is not None
        assert newest.root == root
        self.workspace.files.purge_orphans()
        self.view = View(self.workspace)
        self.writer = Writer(self.view)
        self.spilled = inodes_that_spill(self.writer.keeper, self.patch)
        self.renamer = Renamer(self.writer)
        self.kernel = Kernel(self.view)

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()
        self.patch.undo()

    # --- the kernel -------------------------------------------------------------------------------

    def parent(self, path: bytes) -> Inode:
        folder = self.kernel.lookup(path.rpartition(b"/")[0])
        assert folder is not None
        return folder

    def can_hold(self, path: bytes) -> bool:
        folder = path.rpartition(b"/")[0]
        return not folder or folder in self.model.all_folders()

    def both(self, action: object, modelled: object) -> bool:
        """Do it in the view and in the model: both succeed, or both are refused with the same errno."""
        wanted: int | None = None
        got: int | None = None
        try:
            modelled()  # type: ignore[operator]
        except Refusal as refusal:
            wanted = refusal.code
        try:
            action()  # type: ignore[operator]
        except OSError as error:
            got = error.errno
        assert got == wanted
        return wanted is None

    @precondition(lambda self: not self.handles)
    @rule()
    def forget(self) -> None:
        self.kernel.forget()
        assert set(self.view.inodes.by_number) == {ROOT}

    # --- files ------------------------------------------------------------------------------------

    @rule(path=paths, write=st.booleans(), truncate=st.booleans())
    def open(self, path: bytes, write: bool, truncate: bool) -> None:
        is_link = self.model.plain(path) in self.model.links
        if not self.can_hold(path) or is_link or path in self.model.all_folders():
            return
        inode = self.kernel.lookup(path)
        assert (inode is not None) == self.model.exists(path)
        if inode is None:
            self.create(path)
            return
        truncate = write and truncate
        self.writer.open(inode, write=write, truncate=truncate)
        node = self.model.open(path, write=write, truncate=truncate)
        if truncate:
            self.kernel.wrote(inode)
        self.handles.append(Handle(inode, node, write))

    @rule(path=paths)
    def create(self, path: bytes) -> None:
        if not self.can_hold(path):
            return
        made: list[Inode] = []
        nodes: list[Open] = []
        name = path.rpartition(b"/")[2]
        if self.both(
            lambda: made.append(self.writer.create(self.parent(path), name, 0o644)),
            lambda: nodes.append(self.model.create(path)),
        ):
            self.kernel.refer(made[0])
            self.kernel.linked(self.parent(path), name, made[0])
            self.handles.append(Handle(made[0], nodes[0], True))
        assert not self.view.stale

    def pick(self, data: st.DataObject, *, write: bool = False) -> Handle | None:
        some = [handle for handle in self.handles if handle.write or not write]
        return data.draw(st.sampled_from(some)) if some else None

    @precondition(lambda self: self.handles)
    @rule(data=st.data(), new=texts, sync=st.booleans())
    def write_anew(self, data: st.DataObject, new: bytes, sync: bool) -> None:
        handle = self.pick(data, write=True)
        if handle is None:
            return
        self.writer.truncate(handle.inode, 0)
        self.kernel.wrote(handle.inode)
        self.model.change(handle.node, b"")
        if new:
            self.writer.write(handle.inode, 0, new)
            self.model.change(handle.node, new)
        if sync:
            self.sync(handle)

    @precondition(lambda self: self.handles)
    @rule(
        data=st.data(),
        offset=st.sampled_from([0, 1, 30, BIG, 65536, 140_000]),
        piece=st.sampled_from([b" ", b"ab"]),
    )
    def write_inside(self, data: st.DataObject, offset: int, piece: bytes) -> None:
        handle = self.pick(data, write=True)
        if handle is None:
            return
        before = self.model.seen(handle.node)
        self.writer.write(handle.inode, offset, piece)
        self.kernel.wrote(handle.inode)
        grown = before + bytes(max(0, offset - len(before)))
        self.model.change(handle.node, grown[:offset] + piece + grown[offset + len(piece) :])

    @precondition(lambda self: self.handles)
    @rule(data=st.data(), size=st.sampled_from([0, 1, 20, 65536, BIG, 200_000]))
    def truncate(self, data: st.DataObject, size: int) -> None:
        handle = self.pick(data, write=True)
        if handle is None:
            return
        before = self.model.seen(handle.node)
        self.writer.truncate(handle.inode, size)
        self.kernel.wrote(handle.inode)
        self.model.change(handle.node, before[:size] + bytes(max(0, size - len(before))))

    @precondition(lambda self: self.handles)
    @rule(data=st.data(), steps=st.sampled_from([1, 2, 100]), anew=st.booleans())
    def prepare(self, data: st.DataObject, steps: int, anew: bool) -> None:
        handle = self.pick(data, write=True) if anew else None
        if handle is not None:
            self.preparing = self.writer.keeper.prepare(handle.inode)
        with suppress(MstfsError):
            deque(islice(self.preparing, steps))

    @rule(steps=st.sampled_from([1, 100]))
    def forget_what_is_unwanted(self, steps: int) -> None:
        deque(islice(self.writer.keeper.forgetting(), steps))

    def flushed(self, handle: Handle, ahead: int) -> None:
        """A close, after some steps that are taken ahead of it."""
        with suppress(MstfsError):
            deque(islice(self.writer.keeper.prepare(handle.inode), ahead))
        self.both(lambda: self.writer.flush(handle.inode), lambda: self.model.flush(handle.node))

    def sync(self, handle: Handle) -> None:
        self.writer.fsync(handle.inode)
        if handle.node.buffered:
            self.model.commit(handle.node, final=True)

    @precondition(lambda self: self.handles)
    @rule(data=st.data(), ahead=steps_ahead)
    def flush(self, data: st.DataObject, ahead: int) -> None:
        handle = self.pick(data, write=True)
        if handle is not None:
            self.flushed(handle, ahead)

    @precondition(lambda self: self.handles)
    @rule(data=st.data())
    def fsync(self, data: st.DataObject) -> None:
        handle = self.pick(data, write=True)
        if handle is not None:
            self.sync(handle)

    @precondition(lambda self: self.handles)
    @rule(data=st.data(), ahead=steps_ahead)
    def close(self, data: st.DataObject, ahead: int) -> None:
        handle = self.pick(data)
        assert handle is not None
        if handle.write:
            self.flushed(handle, ahead)
        self.writer.release(handle.inode, write=handle.write)
        self.model.release(handle.node, write=handle.write)
        self.handles.remove(handle)

    @rule(path=paths, new=texts, ahead=steps_ahead)
    def store(self, path: bytes, new: bytes, ahead: int = 0) -> None:
        """Open, write, close: what most programs do."""
        before = len(self.handles)
        self.open(path, True, True)
        if len(self.handles) == before:
            return
        handle = self.handles.pop()
        if new:
            self.writer.write(handle.inode, 0, new)
            self.model.change(handle.node, new)
        self.flushed(handle, ahead)
        self.writer.release(handle.inode)
        self.model.release(handle.node, write=True)

    @rule(data=st.data(), size=st.sampled_from([0, 1, 20, 100]))
    def truncate_by_name(self, data: st.DataObject, size: int) -> None:
        files = sorted(map(self.model.place, self.model.files() - set(self.model.opened)))
        if not files:
            return
        path = data.draw(st.sampled_from(files))
        inode = self.kernel.lookup(path)
        assert inode is not None
        node = self.model.open(path, write=True, truncate=False)
        before = self.model.seen(node)
        self.model.change(node, before[:size] + bytes(max(0, size - len(before))))
        self.model.release(node, write=True)
        wanted = node.invalid
        self.kernel.wrote(inode)
        try:
            self.writer.truncate(inode, size)
        except OSError:
            assert wanted
        else:
            assert not wanted

    # --- names ------------------------------------------------------------------------------------

    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        files = sorted(self.model.placed())
        if files:
            path = data.draw(st.sampled_from(files))
            parent, name = self.parent(path), path.rpartition(b"/")[2]
            self.kernel.lookup(path)
            self.writer.unlink(parent, name)
            self.model.unlink(path)
            self.kernel.linked(parent, name, None)
            assert not self.view.stale

    @rule(path=st.one_of(folders, paths))
    def mkdir(self, path: bytes) -> None:
        if not self.can_hold(path) or self.model.exists(path) or self.model.is_reserved(path):
            return
        if path.endswith(ITSELF):
            return
        parent, name = self.parent(path), path.rpartition(b"/")[2]
        self.kernel.linked(parent, name, self.kernel.refer(self.writer.mkdir(parent, name, 0o755)))
        assert not self.view.stale
        self.model.mkdir(path)

    @rule(path=paths)
    def symlink(self, path: bytes) -> None:
        if not self.can_hold(path) or self.model.exists(path):
            return
        if self.model.is_record(self.model.plain(path)):
            return
        parent, name = self.parent(path), path.rpartition(b"/")[2]
        self.kernel.linked(parent, name, self.kernel.refer(self.writer.symlink(parent, name, b"target")))
        assert not self.view.stale
        self.model.symlink(path, b"target")

    @rule(data=st.data())
    def rmdir(self, data: st.DataObject) -> None:
        folders = sorted(self.model.all_folders())
        if folders:
            path = data.draw(st.sampled_from(folders))
            parent, name = self.parent(path), path.rpartition(b"/")[2]
            self.kernel.lookup(path)
            if self.both(lambda: self.writer.rmdir(parent, name), lambda: self.model.rmdir(path)):
                self.kernel.linked(parent, name, None)
            assert not self.view.stale

    @rule(data=st.data(), goal=st.one_of(paths, folders))
    def rename(self, data: st.DataObject, goal: bytes) -> None:
        sources = sorted(self.model.placed() | self.model.all_folders())
        if not sources or not self.can_hold(goal):
            return
        source = data.draw(st.sampled_from(sources))
        # A folder that moves below itself, or over its own parent, is refused by the kernel. A file with the
        # name of a collection would hide the collection, should it come back.
        if goal.startswith(source + b"/") or source.startswith(goal + b"/"):
            return
        if source not in self.model.all_folders():
            if goal in self.world.folders and not self.world.rules.nested:
                return
        elif goal.endswith(ITSELF):
            return
        old, new = source.rpartition(b"/")[2], goal.rpartition(b"/")[2]
        moved, parent, new_parent = self.kernel.lookup(source), self.parent(source), self.parent(goal)
        self.kernel.lookup(goal)
        assert moved is not None
        if (
            self.both(
                lambda: self.renamer.rename(parent, old, new_parent, new),
                lambda: self.model.rename(source, goal),
            )
            and source != goal
        ):
            self.kernel.linked(parent, old, None)
            self.kernel.linked(new_parent, new, moved)

    # --- the command line ---------------------------------------------------------------------------

    @rule()
    def publish(self) -> None:
        batch = self.workspace.edits.batch()
        plan = make_plan(self.workspace, batch, None)
        changes.pin_verbatim(self.view, (edit.key for edit in batch[0]))
        _, keys = record_plan(self.workspace, plan)
        changes.published(self.view, keys)
        self.model.publish()
        wanted = self.world.entries(self.model.head)
        assert self.workspace.head.data == self.world.data_root(wanted)
        assert not len(self.workspace.edits)
        if self.workspace.head.root != self.heads[-1][0]:
            self.heads.append((self.workspace.head.root, dict(self.model.head)))

    @rule(data=st.data(), force=st.booleans())
    def checkout(self, data: st.DataObject, force: bool) -> None:
        root, head = data.draw(st.sampled_from(self.heads))
        event = self.workspace.history.find(root)
        assert event is not None
        found = self.workspace.tree.diff(self.workspace.head.data, event.data)
        if self.model.edits and not force:
            with pytest.raises(MstfsError, match="staged"):
                checkout(self.workspace, root)
            return
        changes.before_switch(self.view, found.changes)
        checkout(self.workspace, root, force=force)
        changes.switched(self.view, found.changes)
        self.model.checkout(dict(head), force=force)
        self.heads.append((root, dict(head)))

    @rule(path=st.one_of(paths, folders, st.just(b"")))
    def revert(self, path: bytes) -> None:
        revert(self.view, [path])
        self.model.revert(path)

    @rule()
    def crash(self) -> None:
        if any(inode.buffer is not None and inode.buffer.dirty for inode in self.spilled):
            return  # Some of what was written would be there, and some not.
        self.database.close()
        self.handles = []
        self.preparing = iter(())
        self.model.crash()
        self.start()

    # --- what must hold -----------------------------------------------------------------------------

    @initialize()
    def first_look(self) -> None:
        self.everything_is_there()

    @invariant()
    def everything_is_there(self) -> None:
        self.kernel.take_invalidations()
        self.kernel.check()
        todo = [b""]
        while todo:
            folder = todo.pop()
            prefix = folder + b"/" if folder else b""
            listed = [prefix + name for name, _ in self.view.children(folder)]
            assert len(set(listed)) == len(listed)
            assert set(listed) == self.model.listing(folder)
            for path in listed:
                if path in self.model.all_folders():
                    inode = self.kernel.lookup(path)
                    assert inode is not None
                    assert self.kernel.look(inode)[0].kind == "folder"
                    todo.append(path)
                else:
                    self.check_file(path)

    def check_file(self, path: bytes) -> None:
        inode = self.kernel.lookup(path)
        assert inode is not None
        attributes, data = self.kernel.look(inode)
        plain = self.model.plain(path)
        if plain in self.model.links:
            assert attributes.kind == "symlink"
            node = self.view.node(inode)
            assert isinstance(node, Stored)
            assert self.view.contents(node) == self.model.links[plain]
            return
        assert attributes.kind == "file"
        assert data == self.model.visible(plain)
        assert attributes.size == len(data)

    @invariant()
    def open_files_keep_what_they_saw(self) -> None:
        for handle in self.handles:
            attributes, data = self.kernel.look(handle.inode)
            assert data == self.model.seen(handle.node)
            assert attributes.size == len(data)

    @invariant()
    def the_tables_say_the_same(self) -> None:
        check_mirrors(self.workspace)
        assert dict(self.workspace.staged.page()) == self.world.entries(self.model.tree())
        assert {self.world.key(path) for path in self.model.edits} == set(self.workspace.edits.keys)
        drafts = [draft for draft in status(self.workspace)["drafts"] if draft["error"] != UNFINISHED]
        assert {draft["path"].encode() for draft in drafts} == set(map(self.model.place, self.model.errors))


class Repository(Programs):
    world = repository_world()


class Blobs(Programs):
    world = blob_world()


class Records(Programs):
    world = record_world()


TestRepository = Repository.TestCase
TestRepository.settings = settings(max_examples=100, stateful_step_count=30)
TestBlobs = Blobs.TestCase
TestBlobs.settings = settings(max_examples=60, stateful_step_count=30)
TestRecords = Records.TestCase
TestRecords.settings = settings(max_examples=60, stateful_step_count=30)
