"""log, status and diff."""

import sqlite3
from pathlib import Path

import pytest
from cli_archives import NOTE, PROFILE, answer, call, lines, published, sample, staged

from mstfs.archive import Archive
from mstfs.codec import cid as cids

Capture = pytest.CaptureFixture[str]


def test_log_shows_the_newest_first(tmp_path: Path, capsys: Capture) -> None:
    path, made = published(tmp_path)
    events = answer(capsys, "log", path)
    assert [event["sequence"] for event in events] == [2, 1]
    assert [event["kind"] for event in events] == ["publish", "import"]
    assert (events[0]["created"], events[0]["updated"], events[0]["deleted"]) == (1, 1, 0)
    assert events[0]["previous"] == events[1]["hash"]
    assert events[1]["root"] == cids.to_text(made.root)
    newest, oldest = lines(capsys, "log", path)
    assert newest.split()[:3] == ["2", events[0]["time"], "publish"]
    assert events[0]["root"] in newest
    assert "+1 ~1 -0" in newest
    assert newest.endswith(r"renamed\x1b[31m")
    assert "import" in oldest


def test_log_of_a_few(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    assert len(lines(capsys, "log", "-n", "1", path)) == 1
    assert lines(capsys, "log", "-n", "0", path) == []


def test_log_without_a_history(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    assert call("log", path) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "no history" in err


def test_log_finds_a_history_that_was_changed(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    connection = sqlite3.connect(f"{path}.mstfs")
    connection.execute("UPDATE events SET created = 7 WHERE sequence = 2")
    connection.commit()
    connection.close()
    assert call("log", path) == 1
    out, err = capsys.readouterr()
    assert "+7 ~1" in out
    assert "event 2 was changed" in err


def test_status_of_what_is_staged(tmp_path: Path, capsys: Capture) -> None:
    path, _ = staged(tmp_path)
    told = answer(capsys, "status", path)
    assert told["staged"] == {"put": 1, "delete": 1}
    assert [(change["change"], change["key"]) for change in told["changes"]] == [
        ("D", PROFILE),
        ("A", f"{NOTE}-2"),
    ]
    text = lines(capsys, "status", path)
    assert "staged: 1 put, 1 deleted" in text
    assert text[-2:] == [f"  D {PROFILE}", f"  A {NOTE}-2"]
    assert "event 2" in text[0]


def test_the_exit_code_of_status(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "clean").mkdir()
    clean, _ = published(tmp_path / "clean")
    busy, _ = staged(tmp_path)
    assert "nothing staged" in lines(capsys, "status", "--exit-code", clean)
    assert call("status", busy) == 0
    assert call("status", "--exit-code", busy) == 1


def test_status_gives_the_reason_of_a_draft(tmp_path: Path, capsys: Capture) -> None:
    path, _ = sample(tmp_path)
    with Archive.open(path, mode="write") as archive:
        workspace = archive.workspace
        with workspace.transaction():
            workspace.files.add(
                b"a.b.c/x.json", "file", mode=0o600, mtime_ns=0, error="line 3, column 1: oh\x07"
            )
            workspace.files.add(b"notes.txt", "file", mode=0o600, mtime_ns=0)
    text = lines(capsys, "status", "--exit-code", path, code=1)
    assert r"  a.b.c/x.json: line 3, column 1: oh\x07" in text
    assert "scratch, never published: 1 file, 0 bytes" in text
    assert call("cat", path, "a.b.c/x.json") == 2
    assert "is a draft: line 3" in capsys.readouterr().err


def test_diff_without_roots_is_what_is_staged(tmp_path: Path, capsys: Capture) -> None:
    path, _ = staged(tmp_path)
    assert lines(capsys, "diff", path) == [f"D {PROFILE}", f"A {NOTE}-2"]
    told = answer(capsys, "diff", path)
    assert (told["staged"], told["to"]) == (True, None)
    assert told["counts"] == {"added": 1, "modified": 0, "deleted": 1}


def test_diff_of_roots(tmp_path: Path, capsys: Capture) -> None:
    path, made = staged(tmp_path)
    forth = [f"M {PROFILE}", f"A {NOTE}"]
    assert lines(capsys, "diff", path, "1") == forth
    assert lines(capsys, "diff", path, "1", "2") == forth
    assert lines(capsys, "diff", path, cids.to_text(made.root), "head") == forth
    assert lines(capsys, "diff", path, "2", "1") == [f"M {PROFILE}", f"D {NOTE}"]
    assert lines(capsys, "diff", path, "2", "2") == []


def test_diff_as_a_patch(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    patch = lines(capsys, "diff", "--patch", path, "1")
    assert patch[:2] == [f"--- a/{PROFILE}.json", f"+++ b/{PROFILE}.json"]
    assert '-  "displayName": "Nobody in Particular"' in patch
    assert '+  "displayName": "Renamed"' in patch
    assert patch[patch.index(f"+++ b/{NOTE}.json") - 1] == "--- /dev/null"
    told = answer(capsys, "diff", "--patch", path, "1")
    assert "".join(change["patch"] for change in told["changes"]).splitlines() == patch


def test_diff_in_numbers(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    *groups, total = lines(capsys, "diff", "--stat", path, "1")
    assert [group.split() for group in groups] == [
        ["app.bsky.actor.profile", "+0", "~1", "-0"],
        ["org.example.note", "+1", "~0", "-0"],
    ]
    assert total == "2 records: 1 added, 1 modified, 0 deleted"


def test_the_exit_code_of_diff(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    assert call("diff", path, "1") == 0
    assert call("diff", "--exit-code", path, "1") == 1
    assert call("diff", "--exit-code", path) == 0


def test_a_patch_goes_on_where_a_record_is_missing(tmp_path: Path, capsys: Capture) -> None:
    path, _ = published(tmp_path)
    with Archive.open(path, mode="write") as archive:
        cid = archive.workspace.staged.get(NOTE.encode())
        upper = archive.workspace.blocks.upper
        assert cid is not None
        assert upper is not None
        upper.delete(cid)
    patch = lines(capsys, "diff", "--patch", path, "1")
    assert any(line.startswith("+(cannot be shown: ") for line in patch)
    assert '+  "displayName": "Renamed"' in patch
