"""The status in words and numbers, and the lines of a diff."""

import json
from pathlib import Path

import pytest
from workspaces import DID, REV, cid, delete, put, read_only, writable

from mstfs.codec import cid as cids
from mstfs.staging.status import change_json, change_lines, key_text, staged_changes, status
from mstfs.tree.interface import Change

ENTRIES = {b"a.b.c/1": 1, b"a.b.c/2": 2, b"a.b.c/3": 3}


def test_what_is_staged(tmp_path: Path) -> None:
    workspace = writable(tmp_path, ENTRIES)
    put(workspace, b"a.b.c/0", 9)
    put(workspace, b"a.b.c/2", 9)
    delete(workspace, b"a.b.c/3")
    changes = [
        Change(b"a.b.c/0", None, cid(9)),
        Change(b"a.b.c/2", cid(2), cid(9)),
        Change(b"a.b.c/3", cid(3), None),
    ]
    assert list(staged_changes(workspace)) == changes
    assert list(change_lines(iter(changes))) == ["A a.b.c/0", "M a.b.c/2", "D a.b.c/3"]
    assert change_json(changes[1]) == {
        "change": "M",
        "key": "a.b.c/2",
        "old": cids.to_text(cid(2)),
        "new": cids.to_text(cid(9)),
    }
    with workspace.transaction():
        row = workspace.files.add(b"a.b.c/x.json", "file", mode=0o644, mtime_ns=1, error="line 1: no")
        workspace.files.write(row, {0: b"{"}, 1, 0)
        workspace.files.write(
            workspace.files.add(b"note~", "file", mode=0o600, mtime_ns=1), {0: b"abc"}, 3, 0
        )
        workspace.files.add(b"folder", "folder", mode=0o755, mtime_ns=1)
    found = status(workspace)
    assert json.loads(json.dumps(found)) == found
    assert found["staged"] == {"put": 2, "delete": 1}
    assert found["drafts"] == [{"path": "a.b.c/x.json", "error": "line 1: no", "size": 1}]
    assert found["scratch"] == {"files": 1, "bytes": 3}
    assert (found["did"], found["rev"], found["kind"], found["sequence"]) == (DID, REV, "unsigned", 1)
    assert found["root"] == cids.to_text(workspace.head.root)
    assert not found["read_only"]


def test_an_edit_that_changes_nothing_is_no_change(tmp_path: Path) -> None:
    # Such edits are staged while a publication is planned.
    workspace = writable(tmp_path, ENTRIES)
    workspace.planning = True
    put(workspace, b"a.b.c/1", 1)
    delete(workspace, b"a.b.c/9")
    assert len(workspace.edits) == 2
    assert list(staged_changes(workspace)) == []


def test_of_an_archive_without_an_overlay() -> None:
    found = status(read_only(ENTRIES, kind="bare"))
    assert found["read_only"]
    assert (found["did"], found["rev"], found["kind"], found["sequence"]) == (None, None, "bare", 0)
    assert found["root"] == found["data"]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (b"a.b.c/x", "a.b.c/x"),
        (b"a/\n\x1b[31m", r"a/\n\x1b[31m"),
        (b"a/\xff", r"a/\xff"),
        ("a/ä".encode(), "a/ä"),
    ],
)
def test_keys_for_people(key: bytes, text: str) -> None:
    assert key_text(key) == text
