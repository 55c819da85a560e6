"""Revert: drop edits and drafts, so that what is published shows again. Scratch is left alone."""

from mstfs.errors import Refused
from mstfs.view.changes import changed_path, hold
from mstfs.view.keeper import Keeper
from mstfs.view.names import in_control
from mstfs.view.view import View, split_path


def revert(view: View, paths: list[bytes]) -> list[bytes]:
    """Revert files and whole folders, given relative to the mount; the empty path is everything.

    Returns the paths that changed, all in one transaction. Refused where a path is outside of the tree.
    """
    workspace = view.workspace
    if workspace.read_only:
        raise Refused("the mount is read only: nothing is staged")
    chosen: set[bytes] = set()
    for path in paths:
        clean = path.strip(b"/")
        if in_control(clean) or b".." in clean.split(b"/"):
            raise Refused(f"{path.decode('utf-8', 'backslashreplace')} is not part of the tree")
        chosen |= _below(view, clean)
    gone = []
    keeper = Keeper(view)
    for path in sorted(chosen):
        hold(view, view.inodes.get(path))
    with workspace.transaction():
        for path in sorted(chosen):
            key = view.namespace.key_of(split_path(path))
            row = workspace.files.get(path)
            if row is not None and key is not None and row.kind == "file":
                keeper.drop_row(path)
                gone.append(path)
            if key is not None and workspace.edits.discard(key) and path not in gone[-1:]:
                gone.append(path)
    for path in gone:
        changed_path(view, split_path(path))
    view.switched()
    return gone


def _below(view: View, folder: bytes) -> set[bytes]:
    """Paths at or below a path that carry an edit or a draft."""
    found = {file.path for file in view.workspace.files.drafts() if _inside(file.path, folder)}
    for key in view.workspace.edits.keys:
        path = b"/".join(view.namespace.path_of(key))
        if _inside(path, folder):
            found.add(path)
    return found


def _inside(path: bytes, folder: bytes) -> bool:
    return not folder or path == folder or path.startswith(folder + b"/")
