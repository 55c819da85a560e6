"""Changes that do not come through the kernel: publish, checkout, revert. They say what is stale."""

from collections.abc import Iterable

from mstfs.tree.interface import Change
from mstfs.view.inodes import ROOT, Inode
from mstfs.view.nodes import Folder, Record
from mstfs.view.view import View


def pin_verbatim(view: View, keys: Iterable[bytes]) -> None:
    """Before a publication: whoever has a staged text open goes on seeing it as it was written."""
    for key in keys:
        edit = view.workspace.edits.get(key)
        if edit is not None and edit.verbatim:
            inode = view.inodes.get(b"/".join(view.names.path_of(key)))
            if inode is not None and inode.opens:
                view.pin(inode)


def published(view: View, keys: Iterable[bytes]) -> None:
    """After a publication: files of these keys are shown in canonical form, with the times of the tree."""
    view.switched()
    for key in keys:
        inode = view.inodes.get(b"/".join(view.names.path_of(key)))
        if inode is not None:
            inode.node = None
            view.stale.inodes.add(inode.number)
    _times_moved(view)


def _times_moved(view: View) -> None:
    """What has no time of its own shows the time of the head: that is another one now."""
    for inode in list(view.inodes.by_number.values()):
        if inode.number == ROOT or isinstance(inode.node, Folder):
            view.stale.inodes.add(inode.number)
        elif isinstance(inode.node, Record) and not inode.node.fixed and inode.node.mtime_ns is None:
            name = inode.node.key.rpartition(b"/")[2]
            if len(name) != 13:
                view.stale.inodes.add(inode.number)


def before_switch(view: View, changes: Iterable[Change]) -> None:
    """Before another root is shown: whoever has a file open goes on seeing what it says now."""
    for change in changes:
        inode = view.inodes.get(b"/".join(view.names.path_of(change.key)))
        if inode is not None and inode.opens:
            view.pin(inode)


def switched(view: View, changes: Iterable[Change]) -> None:
    """After another root was checked out, or edits were dropped: these keys mean something else now."""
    view.switched()
    for change in changes:
        changed_path(view, view.names.path_of(change.key))
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
            inode.node = None
            view.stale.inodes.add(inode.number)
        parent = inode
