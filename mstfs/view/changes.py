"""Changes that do not come through the kernel: publish, checkout, revert. They say what is stale."""

from collections.abc import Iterable
from contextlib import suppress

from mstfs.errors import MstfsError
from mstfs.tree.interface import Change
from mstfs.view.inodes import ROOT, Inode
from mstfs.view.nodes import Folder, Leaf
from mstfs.view.view import View


def pin_verbatim(view: View, keys: Iterable[bytes]) -> None:
    """Before a publication: whoever has a staged text open goes on seeing it as it was written."""
    for key in keys:
        edit = view.workspace.edits.get(key)
        if edit is not None and edit.verbatim:
            for path in view.paths_of(key):
                hold(view, view.inodes.get(b"/".join(path)))


def hold(view: View, inode: Inode | None) -> None:
    """Before a name comes to say something else: whoever has it open goes on seeing what it says now.

    Those who only read keep an inode of their own. Those who may write keep the name, so that what they write
    is not lost, and until the last of them is gone the name says what they see.
    """
    if inode is None or not inode.opens:
        return
    if not inode.writers and inode.buffer is None:
        view.pin(inode)
        return
    inode.diverged = True
    # What cannot be read could not be seen before either.
    with suppress(MstfsError):
        view.take_in(inode)


def _part(view: View, inode: Inode) -> None:
    """The name says something else now: readers that were pinned keep the inode, the name gets a new one."""
    if inode.pinned is not None and inode.path is not None:
        inode.outdated = True
        view.inodes.detach(inode)
    else:
        inode.node = None


def published(view: View, keys: Iterable[bytes]) -> None:
    """After a publication: files of these keys are shown in canonical form, with the times of the tree."""
    view.switched()
    for path in (path for key in keys for path in view.paths_of(key)):
        inode = view.inodes.get(b"/".join(path))
        if inode is None:
            continue
        view.stale.inodes.add(inode.number)
        folder = view.inodes.get(b"/".join(path[:-1]))
        if inode.pinned is None or folder is None or folder.number == ROOT:
            # An fsync of the root folder waits for us: the kernel can forget no name in it meanwhile.
            inode.node = None
        else:
            view.stale.entries.add((folder.number, path[-1]))
            _part(view, inode)
    _times_moved(view)


def _times_moved(view: View) -> None:
    """What has no time of its own shows the time of the head: that is another one now."""
    for inode in list(view.inodes.by_number.values()):
        if inode.number == ROOT or isinstance(inode.node, Folder):
            view.stale.inodes.add(inode.number)
        elif isinstance(inode.node, Leaf) and not inode.node.fixed and inode.node.mtime_ns is None:
            name = inode.node.key.rpartition(b"/")[2]
            if view.names.nested or len(name) != 13:
                view.stale.inodes.add(inode.number)


def before_switch(view: View, changes: Iterable[Change]) -> None:
    """Before another root is shown: whoever has a file open goes on seeing what it says now."""
    for path in (b"/".join(path) for change in changes for path in view.paths_of(change.key)):
        if view.workspace.files.get(path) is None:  # A draft stays as it is, whatever lies below.
            hold(view, view.inodes.get(path))


def switched(view: View, changes: Iterable[Change]) -> None:
    """After another root was checked out, or edits were dropped: these keys mean something else now."""
    view.switched()
    for path in (path for change in changes for path in view.paths_of(change.key)):
        changed_path(view, path)
    _times_moved(view)


def changed_path(view: View, path: tuple[bytes, ...]) -> None:
    """A path, and with it the folders above, may have appeared, gone, or changed."""
    parent: Inode | None = view.inodes.by_number[ROOT]
    for depth in range(1, len(path) + 1):
        if parent is None:
            return
        view.stale.entries.add((parent.number, path[depth - 1]))
        inode = view.inodes.get(b"/".join(path[:depth]))
        if inode is not None:
            view.stale.inodes.add(inode.number)
            if inode.buffer is None or not inode.buffer.dirty:
                inode.mtime_ns = None
            _part(view, inode)
        parent = inode
    if parent is not None and parent.buffer is not None and parent.buffer.dirty and parent.path is not None:
        # What is being written keeps its name, even if nothing has the name any more.
        with suppress(MstfsError):
            if view.resolve(parent.path) is None:
                view.pending[parent.path] = parent
