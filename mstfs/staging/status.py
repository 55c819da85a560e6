"""What stands between the head and the next publication, in words and numbers."""

from collections.abc import Iterator
from typing import Any

from mstfs.codec.cid import to_text
from mstfs.staging.workspace import Workspace
from mstfs.tree.interface import Change


def staged_changes(workspace: Workspace) -> Iterator[Change]:
    """Every staged edit that changes something, in key order, with the published CID and the staged one."""
    staged = workspace.staged
    for key in workspace.edits.keys:
        edit = workspace.edits.by_key[key]
        old = staged.published(key)
        if old != edit.cid:
            yield Change(key, old, edit.cid)


def change_letter(change: Change) -> str:
    """`A` added, `M` modified, `D` deleted."""
    if change.old is None:
        return "A"
    return "D" if change.new is None else "M"


def change_lines(changes: Iterator[Change]) -> Iterator[str]:
    """One line a change, e.g. `M app.bsky.feed.post/3k...`; bytes that are no text are escaped."""
    for change in changes:
        yield f"{change_letter(change)} {key_text(change.key)}"


def key_text(key: bytes) -> str:
    """A key for people: its text, with what is no UTF-8 or no printable character escaped."""
    text = key.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def change_json(change: Change) -> dict[str, Any]:
    """A change for programs."""
    return {
        "change": change_letter(change),
        "key": key_text(change.key),
        "old": to_text(change.old) if change.old is not None else None,
        "new": to_text(change.new) if change.new is not None else None,
    }


def status(workspace: Workspace) -> dict[str, Any]:
    """The state of a workspace as JSON: head, history, staged edits, drafts and scratch."""
    head = workspace.head
    event = workspace.history.head()
    edits = workspace.edits.by_key.values()
    drafts = [
        {"path": file.path.decode("utf-8", "backslashreplace"), "error": file.error, "size": file.size}
        for file in workspace.files.drafts()
    ]
    files = [file for file in workspace.files.by_path.values() if file.kind == "file" and file.error is None]
    return {
        "root": to_text(head.root),
        "data": to_text(head.data),
        "kind": head.kind,
        "tree": head.tree.name,
        "did": head.commit.did if head.commit is not None else None,
        "rev": head.rev,
        "read_only": workspace.read_only,
        "sequence": event.sequence if event is not None else 0,
        "staged": {
            "put": sum(edit.cid is not None for edit in edits),
            "delete": sum(edit.cid is None for edit in edits),
        },
        "drafts": drafts,
        "scratch": {"files": len(files), "bytes": sum(file.size for file in files)},
    }
