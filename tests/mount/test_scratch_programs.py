"""Programs that need a whole file system, in folders where names are no keys: git, sqlite3, cp -a."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mount import hamts
from mount.mounting import Mount, files_below, run, shell

MODES = ("delete", "truncate", "persist", "memory", "wal")

ROWS = (
    "create table t (a, b); "
    "with recursive n (i) as (select 1 union all select i + 1 from n where i < 20000) "
    "insert into t select i, hex(i * 7919) from n; create index i on t (b); "
    "delete from t where a % 3 = 0; vacuum"
)
LOOK = "pragma integrity_check; select count(*), sum(a) from t"
LOOKED = "ok\n13334|133346667\n"


@pytest.fixture(scope="module")
def mount(module_car: Path) -> Iterator[Mount]:
    with Mount(module_car, "--no-publish-on-unmount") as mounted:
        yield mounted


def test_git(mount: Mount) -> None:
    """Clone, commit, pack, check and push: git locks, links, renames and maps what it needs."""
    git = "git -c user.name=a -c user.email=a@example.org -c init.defaultBranch=main"
    shell(
        f"""
        {git} init -q source; cd source
        for n in 1 2 3; do seq $n 3000 > f$n; ln -sf f$n l; {git} add .; {git} commit -qm c$n; done
        {git} clone -q --bare . ../bare.git
        """,
        cwd=mount.folder,
    )
    work = mount / "git-work"
    work.mkdir()
    shell(
        f"""
        {git} clone -q '{mount.folder}/bare.git' clone; cd clone
        test -z "$({git} status --porcelain)"
        echo more >> f1; mkdir d; echo new > d/n; chmod +x d/n; {git} add -A; {git} commit -qm new
        {git} gc -q; {git} checkout -q HEAD~2; {git} checkout -q main; {git} fsck --strict --full
        test -z "$({git} status --porcelain)"
        {git} push -q
        """,
        cwd=work,
    )
    shell(f"{git} clone -q bare.git again; diff -r --no-dereference --exclude .git again '{work}/clone'",
          cwd=mount.folder)  # fmt: skip
    assert run("git", "-C", mount.folder / "again", "ls-files", "-s", "d/n").stdout.startswith("100755")
    run("rm", "-r", work)
    assert mount.status()["scratch"]["files"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_sqlite_in_scratch(mount: Mount, mode: str) -> None:
    work = mount / f"sqlite-{mode}"
    work.mkdir()
    run("sqlite3", "x.db", f"pragma journal_mode = {mode}; {ROWS}", cwd=work)
    assert run("sqlite3", "x.db", LOOK, cwd=work).stdout == LOOKED
    run("rm", "-r", work)


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite_with_several_writers(mount: Mount, mode: str) -> None:
    work = mount / f"writers-{mode}"
    work.mkdir()
    run("sqlite3", "x.db", f"pragma journal_mode = {mode}; create table t (n)", cwd=work)
    add = 'sqlite3 -cmd ".timeout 20000" x.db "insert into t values ($n)"'
    shell(
        f"""
        for w in 1 2 3; do (for n in $(seq 10); do {add}; done) & all="${{all:-}} $!"; done
        for pid in $all; do wait $pid; done
        """,
        cwd=work,
    )
    look = "pragma integrity_check; select count(*), sum(n) from t"
    assert run("sqlite3", "x.db", look, cwd=work).stdout == "ok\n30|165\n"


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite_in_a_hamt_is_published_as_it_was_written(tmp_path: Path, mode: str) -> None:
    with Mount(hamts.make(tmp_path, hamts.RAW)) as mount:
        run("sqlite3", "x.db", f"pragma journal_mode = {mode}; {ROWS}", cwd=mount.path)
        assert run("sqlite3", "x.db", LOOK, cwd=mount.path).stdout == LOOKED
        mount.sync()
        assert run("sqlite3", "x.db", LOOK, cwd=mount.path).stdout == LOOKED
        mount.remount()
        assert run("sqlite3", "x.db", LOOK, cwd=mount.path).stdout == LOOKED
        run("sqlite3", "x.db", "delete from t where a < 100", cwd=mount.path)
        mount.sync()
        copy = tmp_path / "copy.db"
        copy.write_bytes((mount / "x.db").read_bytes())
        assert run("sqlite3", copy, LOOK).stdout.startswith("ok\n13268|")
    assert hamts.files_of(mount.source)["x.db"] == copy.read_bytes()


def test_sqlite_in_a_record_is_never_published(mount: Mount) -> None:
    """A database is no record: it is kept as a draft, and works as one."""
    folder = mount / "org.example.note"
    run("sqlite3", "db.json", ROWS, cwd=folder)
    assert run("sqlite3", "db.json", LOOK, cwd=folder).stdout == LOOKED
    assert mount.state("org.example.note/db.json")["state"] == "draft"
    answer = mount.sync(code=1)
    assert [draft["path"] for draft in answer["drafts"]] == ["org.example.note/db.json"]
    assert run("sqlite3", "db.json", LOOK, cwd=folder).stdout == LOOKED
    (folder / "db.json").unlink()


def test_copies_with_all_attributes(mount: Mount, tmp_path: Path) -> None:
    shell(
        """
        mkdir -p a/b/c a/empty; umask 0
        seq 1000 > a/f; chmod 640 a/f
        : > a/b/none; ln -s ../f a/b/link; ln -s nowhere a/dangling
        truncate -s 3M a/b/c/hole; printf x >> a/b/c/hole
        chmod 700 a/b; chmod 555 a/empty; find a | xargs touch -h -d '2002-01-01 01:02:03.4567'
        """,
        cwd=tmp_path,
    )
    # The size of a folder differs from one file system to the next.
    said = "find . -type d -printf '%p %m %T+\\n' -o -printf '%p %y %s %m %T+ %l\\n' | sort"
    expected = shell(said, cwd=tmp_path / "a").stdout
    (mount / "copies").mkdir()
    ways = (
        f"cp -a '{tmp_path}/a' way1",
        "cp -a way1 way2",
        f"mkdir way3; tar c --format=posix -C '{tmp_path}/a' . | tar xp -C way3",
        f"rsync -a '{tmp_path}/a/' way4",
        f"rsync -a --inplace '{tmp_path}/a/' way5",
        f"cp -a '{tmp_path}/a' moved; mv moved way6",
        f"cp -a '{tmp_path}/a' '{tmp_path}/b'; mv '{tmp_path}/b' way7",
    )
    for number, script in enumerate(ways, 1):
        shell(script, cwd=mount / "copies")
        way = mount / f"copies/way{number}"
        assert files_below(way) == files_below(tmp_path / "a"), script
        assert shell(said, cwd=way).stdout == expected, script
    assert run("rsync", "-ain", f"{tmp_path}/a/", mount / "copies/way4").stdout == ""
    run("rm", "-r", mount / "copies")
