"""Changes that do not come through the kernel: publish, checkout, revert. They say what is stale."""

from collections.abc import Iterable
from contextlib import suppress

from mstfs.errors import MstfsError
from mstfs.tree.interface import Change
from mstfs.view.inodes import ROOT, Inode
from mstfs.view.names import ITSELF, Path
from mstfs.view.nodes import Folder, Leaf
from mstfs.view.view import View


def pin_verbatim(view: View, keys: Iterable[bytes]) -> None:
    """Before a publication: whoever has a staged text open goes on seeing it as it was written."""
    if not _is_anything_open(view):
        return
    for key in keys:
        edit = view.workspace.edits.get(key)
        if edit is not None and edit.verbatim:
            for path in view.paths_of(key):
                hold(view, view.inodes.get(b"/".join(path)))


def _is_anything_open(view: View) -> bool:
    return any(inode.opens for inode in view.inodes.by_number.values())


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
    keys = list(keys)
    view.pages.drifted(keys)
    view.switched()
    for path in (path for key in keys for path in view.paths_of(key)):
        inode = view.inodes.get(b"/".join(path))
        if inode is None:
            continue
        view.stale.inodes.add(inode.number)
        folder = view.inodes.get(b"/".join(path[:-1])) if inode.pinned is not None else None
        if folder is None or folder.number == ROOT:
            # An fsync of the root folder waits for us: the kernel can forget no name in it meanwhile.
            inode.node = None
        else:
            view.stale.entries.add((folder.number, path[-1]))
            _part(view, inode)
    _times_moved(view)


def _times_moved(view: View) -> None:
    """What has no time of its own shows the time of the head: that is another one now."""
    view.stale.inodes.update(view.pages.untimed())
    for inode in list(view.inodes.by_number.values()):
        if inode.number == ROOT or isinstance(inode.node, Folder):
            view.stale.inodes.add(inode.number)
        elif isinstance(inode.node, Leaf) and not inode.node.fixed and inode.node.mtime_ns is None:
            name = inode.node.key.rpartition(b"/")[2]
            if view.names.nested or len(name) != 13:
                view.stale.inodes.add(inode.number)


def before_switch(view: View, changes: Iterable[Change]) -> None:
    """Before another root is shown: whoever has a file open goes on seeing what it says now."""
    before_moves(view, (change.key for change in changes))
    if not _is_anything_open(view):
        return
    for path in (b"/".join(path) for change in changes for path in view.paths_of(change.key)):
        if view.workspace.files.get(path) is None:  # A draft stays as it is, whatever lies below.
            hold(view, view.inodes.get(path))


def switched(view: View, changes: Iterable[Change]) -> None:
    """After another root was checked out, or edits were dropped: these keys mean something else now."""
    view.switched()
    view.pages.drifted(change.key for change in changes)
    moved(view, [change.key for change in changes])
    _times_moved(view)


def before_moves(view: View, keys: Iterable[bytes]) -> None:
    """Before these keys come and go: see which of the names on the way to them are those of folders."""
    for place in _places(view, keys):
        inode = view.inodes.get(b"/".join(place))
        if inode is not None:
            # What cannot be read is none.
            with suppress(MstfsError):
                view.node(inode)


def moved(view: View, keys: list[bytes]) -> None:
    """After these keys came and went: their paths mean something else, and so may the names on the way."""
    for place in _places(view, keys):
        _move(view, place)
    for key in keys:
        plain, *inner = view.paths_of(key)
        changed_path(view, plain)
        folder = view.inodes.get(b"/".join(plain))
        if inner and folder is not None and isinstance(view.node(folder), Folder):
            changed_path(view, *inner)


def _places(view: View, keys: Iterable[bytes]) -> list[Path]:
    """The paths of these keys and all on the way to them, where the name of a file may become a folder's."""
    if not view.names.nested:
        return []
    paths = map(view.names.path_of, keys)
    return sorted({path[:depth] for path in paths for depth in range(1, len(path) + 1)})


def _move(view: View, place: Path) -> None:
    """The file of a key moves into the folder that has its name now, or out of the one that had it."""
    plain, inner = b"/".join(place), b"/".join((*place, ITSELF))
    _give_way(view, place, plain)
    row = view.workspace.files.get(plain)
    inode = view.inodes.get(plain)
    was_folder = inode is not None and isinstance(inode.node, Folder)
    found = view.namespace.find(place)
    if found is None or found.key is not None:
        if found is not None and inode is not None and was_folder:
            # The kernel takes no inode for a folder once and for a file later.
            view.inodes.detach(inode)
        _carry(view, inner, plain)
        return
    if row is not None and row.kind != "folder":
        with view.workspace.transaction():
            view.workspace.files.change(row, path=inner)
    if inode is not None and not was_folder:
        _carry(view, plain, inner)


def _carry(view: View, source: bytes, target: bytes) -> None:
    inode = view.inodes.get(source)
    if inode is not None:
        view.stale.inodes.add(inode.number)
        view.inodes.move(source, target, folder=False)
    if source in view.pending:
        view.pending[target] = view.pending.pop(source)


def _give_way(view: View, place: Path, plain: bytes) -> None:
    """An empty folder that is only kept makes room for a file of the tree."""
    files = view.workspace.files
    row = files.get(plain)
    if plain not in view.kept and (row is None or row.kind != "folder"):
        return
    key = view.namespace.key_of(place)
    if key is None or view.workspace.staged.get(key) is None:
        return
    others = {*view.kept, *view.pending}
    if plain in files.children or any(path.startswith(plain + b"/") for path in others):
        return
    if any(child.name != ITSELF for child in view.namespace.children(place)):
        return
    view.kept.discard(plain)
    view.folder_times.pop(plain, None)
    if row is not None:
        with view.workspace.transaction():
            files.remove(row)


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
