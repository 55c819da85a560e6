"""Revert: drop edits and drafts, so that what is published shows again. Scratch is left alone."""

from mstfs.errors import Refused
from mstfs.view.changes import before_moves, hold, moved
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
    chosen: dict[bytes, bytes] = {}
    for path in paths:
        clean = path.strip(b"/")
        if in_control(clean) or b".." in clean.split(b"/"):
            raise Refused(f"{path.decode('utf-8', 'backslashreplace')} is not part of the tree")
        chosen |= _below(view, clean)
    gone: dict[bytes, bytes] = {}
    keeper = Keeper(view)
    before_moves(view, chosen.values())
    for path in chosen:
        hold(view, view.inodes.get(path))
    with workspace.transaction():
        for path, key in sorted(chosen.items()):
            row = workspace.files.get(path)
            is_draft = row is not None and row.kind == "file"
            if is_draft:
                keeper.drop_row(path)
            if workspace.edits.discard(key) or is_draft:
                gone[path] = key
    moved(view, list(gone.values()))
    view.switched()
    return list(gone)


def _below(view: View, folder: bytes) -> dict[bytes, bytes]:
    """Paths at or below a path that carry an edit or a draft, and their keys."""
    namespace = view.namespace
    edits = {b"/".join(namespace.path_of(key)): key for key in view.workspace.edits.keys}
    drafts = {file.path: namespace.key_of(split_path(file.path)) for file in view.workspace.files.drafts()}
    return {
        path: key for path, key in {**drafts, **edits}.items() if key is not None and _inside(path, folder)
    }


def _inside(path: bytes, folder: bytes) -> bool:
    return not folder or path == folder or path.startswith(folder + b"/")
