"""Editors and copiers, run as people run them, up to what is published in the end."""

import os
import pty
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mount.mounting import (
    PATIENCE,
    Mount,
    files_below,
    note_text,
    records_of,
    run,
    shell,
    wait_for,
    write_record,
)

PROFILE = "app.bsky.actor.profile/self.json"
KEY = "app.bsky.actor.profile/self"


@pytest.fixture
def mount(car: Path) -> Iterator[Mount]:
    with Mount(car) as mounted:
        yield mounted


@pytest.fixture
def profile(mount: Mount) -> Iterator[Path]:
    """A record to edit. Whatever the test did with it, one new text is staged, and is published."""
    path = mount / PROFILE
    yield path
    after = path.read_bytes()
    assert b"Nobody" not in after
    assert mount.staged() == [f"M {KEY}"]
    assert os.listdir(path.parent) == ["self.json"]
    assert mount.status()["scratch"]["files"] == 0
    answer = mount.sync()
    assert (answer["created"], answer["updated"], answer["deleted"]) == (0, 1, 0)
    assert (mount / PROFILE).read_bytes() == after
    assert records_of(mount.source)[KEY] == after


def test_sed(profile: Path) -> None:
    run("sed", "-i", "s/Nobody/Somebody/", profile)
    assert b'"Somebody in Particular"' in profile.read_bytes()


def test_sed_with_a_backup(profile: Path) -> None:
    before = profile.read_bytes()
    run("sed", "-i.bak", "s/Nobody/Somebody/", profile)
    assert profile.with_suffix(".json.bak").read_bytes() == before
    profile.with_suffix(".json.bak").unlink()


def test_jq_and_mv(profile: Path) -> None:
    shell("jq '.displayName = \"J. Q.\"' self.json > new && mv new self.json", cwd=profile.parent)
    assert b'"J. Q."' in profile.read_bytes()


def test_tee_and_cat(profile: Path) -> None:
    shell(
        "sed s/Nobody/Tee/ self.json | tee copy > /dev/null; cat copy > self.json; rm copy",
        cwd=profile.parent,
    )
    assert b'"Tee in Particular"' in profile.read_bytes()


def vim(path: Path, *commands: str, **options: Any) -> None:
    """Edit a file with commands of ex."""
    words = [word for command in commands if command for word in ("-c", command)]
    run("vim", "-es", "-u", "NONE", "-i", "NONE", *words, path, **options)


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "set backup writebackup backupcopy=no",
        "set backupcopy=yes",
        "set nobackup nowritebackup",
        "set undofile swapfile",
        "set noswapfile fsync",
    ],
)
def test_vim(profile: Path, settings: str) -> None:
    vim(profile, settings, "%s/Nobody/Vim/", "w", "%s/Vim/Vim twice/", "wq")
    assert b'"Vim twice in Particular"' in profile.read_bytes()
    for left in profile.parent.iterdir():
        if left != profile:
            assert "backup" in settings or "undofile" in settings
            left.unlink()


def test_vim_says_that_it_could_not_write_what_is_no_record(mount: Mount, profile: Path) -> None:
    vim(profile, "%s/Nobody/Vim/", "$d", "redir! > said", "w", "redir END", "q!", code=None, cwd=mount.folder)
    assert "Close failed" in (mount.folder / "said").read_text()
    assert b'"Vim in Particular"' in profile.read_bytes()
    assert mount.state(PROFILE)["state"] == "draft"
    assert mount.state(PROFILE)["error"].startswith("line ")
    assert mount.staged() == []
    vim(profile, "$s/$/\\r}/", "wq")


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execvp(words[0], words)
        self.shown = b""

    def wait_to_see(self, text: bytes) -> None:
        """Read what the program shows until `text` is in it."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            ready, _, _ = select.select([self.terminal], [], [], max(deadline - time.monotonic(), 0))
            assert ready, self.shown
            self.shown += os.read(self.terminal, 65536)

    def press(self, keys: bytes) -> None:
        self.shown = b""
        os.write(self.terminal, keys)

    def ended(self) -> int:
        """The exit code, once the program has ended."""
        status = wait_for(self._status, "the program to end")
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(status[1])

    def _status(self) -> tuple[int, int] | None:
        ready, _, _ = select.select([self.terminal], [], [], 0)
        if ready:
            # Its end of the terminal may be closed already.
            with suppress(OSError):
                os.read(self.terminal, 65536)
        found = os.waitpid(self.pid, os.WNOHANG)
        return found if found[0] else None


@pytest.mark.parametrize("options", [[], ["-B"]])
def test_nano(profile: Path, options: list[str]) -> None:
    nano = Terminal("nano", "--ignorercfiles", *options, str(profile))
    try:
        nano.wait_to_see(b"displayName")
        # What is awaited is as short as can be: the screen is told only what is new on it.
        nano.press(b"\x1br")
        nano.wait_to_see(b"Search")
        nano.press(b"Nobody\r")
        nano.wait_to_see(b"with")
        nano.press(b"Nano\r")
        nano.wait_to_see(b"instance")
        nano.press(b"a")
        nano.wait_to_see(b"occurrence")
        nano.press(b"\x0f")
        nano.wait_to_see(b"Write")
        nano.press(b"\r")
        nano.wait_to_see(b"lines")
        nano.press(b"\x18")
        assert nano.ended() == 0
    except BaseException:
        os.kill(nano.pid, signal.SIGKILL)
        raise
    assert b'"Nano in Particular"' in profile.read_bytes()
    if options:
        profile.with_name("self.json~").unlink()


def test_copies_of_a_collection_from_another_mount(mount: Mount, sample: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.car"
    other.write_bytes(sample.read_bytes())
    run("rm", "-r", mount / "app.bsky.graph.follow")
    mount.sync()
    with Mount(other, point=tmp_path / "source") as source:
        expected = files_below(source / "app.bsky.graph.follow")
        run("cp", "-r", source / "app.bsky.graph.follow", mount.path)
    assert files_below(mount / "app.bsky.graph.follow") == expected
    assert mount.sync()["created"] == len(expected)
    data = mount.status()["data"]
    run("rm", "-r", mount / "app.bsky.graph.follow")
    mount.sync()
    local = tmp_path / "local"
    for name, text in expected.items():
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(text)
    shell(f"tar c -C '{local}' . | tar x -C '{mount / 'app.bsky.graph.follow'}'", cwd=tmp_path, code=2)
    (mount / "app.bsky.graph.follow").mkdir()
    shell(f"tar c -C '{local}' . | tar x -C '{mount / 'app.bsky.graph.follow'}'", cwd=tmp_path)
    assert files_below(mount / "app.bsky.graph.follow") == expected
    assert mount.sync()["created"] == len(expected)
    assert mount.status()["data"] == data, "the same records are the same tree"


@pytest.mark.parametrize("options", [["-a"], ["-a", "--inplace"], ["-a", "--delete", "--checksum"]])
def test_rsync(mount: Mount, tmp_path: Path, options: list[str]) -> None:
    name = "org.example.rsync"
    local = tmp_path / name
    local.mkdir()
    for number in range(20):
        write_record(local / f"{number}.json", number)
    run("rsync", *options, local, f"{mount.path}/")
    assert files_below(mount / name) == files_below(local)
    assert run("rsync", *options, "-in", local, f"{mount.path}/").stdout == ""
    assert mount.sync()["created"] == 20
    changed = write_record(local / "7.json", 70)
    os.utime(local / "7.json", ns=(10**18, 10**18))
    (local / "3.json").unlink()
    done = run("rsync", *options, "-i", local, f"{mount.path}/")
    assert " org.example.rsync/7.json" in done.stdout
    assert (mount / name / "7.json").read_bytes() == changed
    answer = mount.sync()
    assert (answer["created"], answer["updated"]) == (0, 1)
    assert answer["deleted"] == ("--delete" in options)
    assert run("rsync", *options, "-inc", "--no-times", local, f"{mount.path}/").stdout == ""
    run("rm", "-r", mount / name)
    assert mount.sync()["deleted"] == 20 - ("--delete" in options)


def test_rsync_of_what_is_no_record_says_so(mount: Mount, tmp_path: Path) -> None:
    local = tmp_path / "org.example.rsync"
    local.mkdir()
    write_record(local / "good.json")
    (local / "bad.json").write_text('{"$type": "org.example.rsync", "n": 1.5}')
    run("rsync", "-a", local, f"{mount.path}/", code=23)
    assert os.listdir(mount / "org.example.rsync") == ["good.json"]
    run("cp", local / "bad.json", mount / "org.example.rsync/bad.json", code=1)
    assert mount.state("org.example.rsync/bad.json")["error"].startswith("line 1, column ")
    run("rm", "-r", mount / "org.example.rsync")
    assert mount.staged() == []


def test_tar_and_unpacking_over_what_is_there(mount: Mount, tmp_path: Path) -> None:
    shell(f"tar cf all.tar -C '{mount.path}' .", cwd=tmp_path)
    shell(f"tar xf all.tar -C '{mount.path}'", cwd=tmp_path)
    shell(f"tar xf all.tar --overwrite -C '{mount.path}'", cwd=tmp_path)
    assert mount.staged() == []
    run("rm", "-r", mount / "app.bsky.feed.like")
    shell(f"tar xf all.tar -C '{mount.path}' ./app.bsky.feed.like", cwd=tmp_path)
    assert mount.staged() == []


def test_dd_and_install(mount: Mount, tmp_path: Path) -> None:
    (mount / "org.example.dd").mkdir()
    text = note_text("org.example.dd")
    (tmp_path / "text").write_bytes(text)
    run("dd", f"if={tmp_path / 'text'}", f"of={mount / 'org.example.dd/a.json'}", "bs=7", "conv=fsync")
    run("install", "-m", "600", tmp_path / "text", mount / "org.example.dd/b.json")
    run("cp", "--sparse=always", tmp_path / "text", mount / "org.example.dd/c.json")
    run("cp", "--reflink=auto", mount / "org.example.dd/c.json", mount / "org.example.dd/d.json")
    assert files_below(mount / "org.example.dd") == {f"{name}.json": text for name in "abcd"}
    run("rm", "-r", mount / "org.example.dd")
    assert mount.staged() == []


def test_a_database_as_scratch(mount: Mount) -> None:
    folder = mount / "work"
    folder.mkdir()
    script = (
        "import sqlite3, sys; c = sqlite3.connect('x.db'); c.execute('create table t (n)');"
        "c.executemany('insert into t values (?)', [(n,) for n in range(20000)]); c.commit();"
        "print(c.execute('select sum(n) from t').fetchone()[0])"
    )
    assert run("python3", "-c", script, cwd=folder).stdout == "199990000\n"
    assert run("python3", "-c", "import sqlite3; print(sqlite3.connect('x.db').execute("
               "'pragma integrity_check').fetchone()[0])", cwd=folder).stdout == "ok\n"  # fmt: skip
    run("rm", "-r", folder)
