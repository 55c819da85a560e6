"""Publishing: one root for the same edits, nothing lost whatever fails, revs that only grow."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workspaces import (
    DID,
    REV,
    check_mirrors,
    cid,
    crooked_commit,
    data_root,
    delete,
    mirrors,
    over,
    put,
    read_only,
    staged,
    tree_blocks,
    writable,
)

from mstfs.blocks.memory import MemoryBlocks
from mstfs.blocks.sqlite import Database
from mstfs.errors import BlockError, MstfsError, OverlayError, PublishError, ReadOnly, Refused
from mstfs.opening import SCHEMA
from mstfs.publish.plan import checkout, make_plan, publish, record_plan
from mstfs.repo import commit as commits
from mstfs.repo import signing, tid
from mstfs.repo.sample import signing_key
from mstfs.staging.workspace import Workspace

ENTRIES = {b"a.b.c/%02d" % number: number for number in range(12)}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return writable(tmp_path, ENTRIES)


def edit(workspace: Workspace) -> dict[bytes, int]:
    """Some edits, and what the tree holds once they are published."""
    put(workspace, b"a.b.c/05", 50)
    put(workspace, b"a.b.d/new", 51)
    delete(workspace, b"a.b.c/07")
    wanted = ENTRIES | {b"a.b.c/05": 50, b"a.b.d/new": 51}
    del wanted[b"a.b.c/07"]
    return wanted


def test_a_publication(workspace: Workspace) -> None:
    before = workspace.head
    wanted = edit(workspace)
    event = publish(workspace, message="hello")
    assert event is not None
    assert (event.created, event.updated, event.deleted, event.message) == (1, 1, 1, "hello")
    assert (event.root, event.data, event.rev) == (
        workspace.head.root,
        workspace.head.data,
        workspace.head.rev,
    )
    assert workspace.head.data == data_root(wanted)
    assert staged(workspace) == {key: cid(number) for key, number in wanted.items()}
    assert not len(workspace.edits)
    commit = workspace.head.commit
    assert commit is not None
    assert (commit.did, commit.version, commit.prev, commit.has_prev, commit.sig) == (
        DID,
        3,
        None,
        True,
        None,
    )
    assert commit.rev is not None
    assert before.rev is not None
    assert commit.rev > before.rev
    assert dict(workspace.at(before.data).page()) == {key: cid(number) for key, number in ENTRIES.items()}
    workspace.history.check()
    check_mirrors(workspace)


def test_a_signed_publication(workspace: Workspace) -> None:
    signer = signing_key(3)
    edit(workspace)
    publish(workspace, signer)
    commit = workspace.head.commit
    assert commit is not None
    assert commit.sig is not None
    assert workspace.head.kind == "signed"
    signing.verify(signer.did_key, commits.unsigned_bytes(commit), commit.sig)


def test_nothing_staged_is_nothing_published(workspace: Workspace) -> None:
    before = mirrors(workspace)
    assert publish(workspace) is None
    assert mirrors(workspace) == before
    event = workspace.history.head()
    assert event is not None
    assert event.sequence == 1


def test_where_nothing_is_published_scratch_is_made_durable(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    assert workspace.database is not None
    monkeypatch.setattr(workspace.database, "sync", lambda: calls.append("sync"))
    with workspace.transaction():
        workspace.files.add(b"notes.txt", "file", mode=0o644, mtime_ns=1)
    assert publish(workspace) is None
    assert calls == ["sync"]


def test_edits_that_change_nothing_are_cleared_without_an_event(workspace: Workspace) -> None:
    workspace.planning = True
    put(workspace, b"a.b.c/01", 1)
    delete(workspace, b"a.b.c/99")
    workspace.planning = False
    head = workspace.head
    assert publish(workspace) is None
    assert workspace.head == head
    assert not len(workspace.edits)
    check_mirrors(workspace)


def test_a_bare_tree_stays_bare(tmp_path: Path) -> None:
    workspace = writable(tmp_path, ENTRIES, kind="bare")
    wanted = edit(workspace)
    event = publish(workspace, signing_key(3))
    assert event is not None
    assert workspace.head.root == workspace.head.data == event.root == data_root(wanted)
    assert (workspace.head.commit, event.rev) == (None, None)


def test_an_old_commit_is_followed_by_one_of_version_3(tmp_path: Path) -> None:
    workspace = writable(tmp_path, ENTRIES, kind="old")
    edit(workspace)
    publish(workspace)
    commit = workspace.head.commit
    assert commit is not None
    assert commit.version == 3
    assert commit.rev is not None
    assert [defect.rule for defect in commit.defects()] == ["commit-unsigned"]


def test_everything_can_be_deleted(workspace: Workspace) -> None:
    for key in ENTRIES:
        delete(workspace, key)
    publish(workspace)
    assert workspace.head.data == data_root({})
    assert staged(workspace) == {}
    put(workspace, b"a.b.c/1", 1)
    publish(workspace)
    assert workspace.head.data == data_root({b"a.b.c/1": 1})


# --- order --------------------------------------------------------------------------------------

keys = st.sampled_from([b"a.b.c/%02d" % number for number in range(20)])
some_edits = st.dictionaries(keys, st.one_of(st.none(), st.integers(0, 30)), max_size=12)


@given(some_edits, st.integers(0, 1000))
@settings(max_examples=25)
def test_the_same_edits_give_the_same_root_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, edits: dict[bytes, int | None], seed: int
) -> None:
    wanted = {key: number for key, number in (ENTRIES | edits).items() if number is not None}
    shuffle = random.Random(seed)
    for kind in ("commit", "bare"):
        workspace = writable(tmp_path_factory.mktemp("order"), ENTRIES, kind=kind)
        for key, number in shuffle.sample(sorted(edits.items()), len(edits)):
            if shuffle.random() < 0.3:
                put(workspace, key, 99)
            if number is None:
                delete(workspace, key)
            else:
                put(workspace, key, number)
            if shuffle.random() < 0.2:
                publish(workspace)
        publish(workspace)
        assert workspace.head.data == data_root(wanted)
        workspace.history.check()
        assert workspace.database is not None
        workspace.database.close()


# --- edits while a publication is planned ---------------------------------------------------------


def test_edits_that_arrive_while_a_plan_is_made_stay_and_win(workspace: Workspace) -> None:
    put(workspace, b"a.b.c/new", 30)
    put(workspace, b"a.b.c/again", 31)
    put(workspace, b"a.b.c/01", 32)
    delete(workspace, b"a.b.c/02")
    delete(workspace, b"a.b.c/03")
    put(workspace, b"a.b.c/same", 33)
    batch = workspace.edits.batch()
    workspace.planning = True
    plan = make_plan(workspace, batch, None)
    delete(workspace, b"a.b.c/new")  # What the plan is just creating.
    put(workspace, b"a.b.c/again", 40)
    put(workspace, b"a.b.c/01", 1)  # Back to what was published before the plan.
    put(workspace, b"a.b.c/02", 2)
    put(workspace, b"a.b.c/late", 41)
    delete(workspace, b"a.b.c/04")
    put(workspace, b"a.b.c/same", 33)
    with pytest.raises(KeyError), workspace.transaction():
        raise KeyError  # Mirrors are read again, which must not make new edits older than the batch.
    put(workspace, b"a.b.c/late2", 42)
    workspace.planning = False
    wanted = staged(workspace)
    event, cleared = record_plan(workspace, plan)
    assert event is not None
    assert (event.created, event.updated, event.deleted) == (3, 1, 2)
    assert cleared == [b"a.b.c/03"]
    assert staged(workspace) == wanted
    check_mirrors(workspace)
    assert b"a.b.c/new" in dict(workspace.at(workspace.head.data).page())
    second = publish(workspace)
    assert second is not None
    assert (second.created, second.updated, second.deleted) == (3, 2, 2)
    assert staged(workspace) == wanted == dict(workspace.at(workspace.head.data).page())
    assert not len(workspace.edits)


def test_a_plan_for_a_head_that_moved_is_refused(workspace: Workspace) -> None:
    edit(workspace)
    plan = make_plan(workspace, workspace.edits.batch(), None)
    publish(workspace)
    put(workspace, b"a.b.c/x", 5)
    before = mirrors(workspace)
    with pytest.raises(PublishError, match="publish again"):
        record_plan(workspace, plan)
    assert mirrors(workspace) == before


# --- failures -----------------------------------------------------------------------------------


class Failing:
    """Makes the n-th statement of a database fail."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch, when: int) -> None:
        self.left = when
        self.failed = False
        for name in ("execute", "execute_many", "_run"):
            monkeypatch.setattr(database, name, self.wrapped(getattr(database, name)))

    def wrapped(self, inner: object) -> object:
        def run(*arguments: object) -> object:
            self.left -= 1
            if self.left == 0:
                self.failed = True
                raise OverlayError("made to fail")
            return inner(*arguments)  # type: ignore[operator]

        return run


def test_a_publication_that_fails_at_any_step_changes_nothing(workspace: Workspace) -> None:
    database = workspace.database
    assert database is not None
    wanted = edit(workspace)
    before = mirrors(workspace)
    blocks = set(database.execute("SELECT multihash FROM blocks"))
    plan = make_plan(workspace, workspace.edits.batch(), None)
    when = 0
    while True:
        when += 1
        with pytest.MonkeyPatch.context() as monkeypatch:
            failing = Failing(database, monkeypatch, when)
            try:
                record_plan(workspace, plan)
            except OverlayError:
                assert failing.failed
        if not failing.failed:
            break
        assert mirrors(workspace) == before
        check_mirrors(workspace)
        assert set(database.execute("SELECT multihash FROM blocks")) == blocks
        head = workspace.history.head()
        assert head is not None
        assert head.sequence == 1
    assert when > 6
    assert workspace.head.data == data_root(wanted)
    assert staged(workspace) == {key: cid(number) for key, number in wanted.items()}
    workspace.history.check()
    check_mirrors(workspace)


def test_a_checkout_that_fails_changes_nothing(workspace: Workspace) -> None:
    database = workspace.database
    assert database is not None
    first = workspace.head.root
    edit(workspace)
    publish(workspace)
    before = mirrors(workspace)
    for when in range(1, 20):
        with pytest.MonkeyPatch.context() as monkeypatch:
            failing = Failing(database, monkeypatch, when)
            try:
                checkout(workspace, first)
            except OverlayError:
                assert failing.failed
        if not failing.failed:
            break
        assert mirrors(workspace) == before
    assert workspace.head.root == first
    workspace.history.check()


def test_reading_only_cannot_publish() -> None:
    workspace = read_only(ENTRIES)
    assert make_plan(workspace, ([], 0), None).head is None
    with pytest.raises(ReadOnly):
        publish(workspace)


# --- revs ---------------------------------------------------------------------------------------


def test_revs_grow_though_the_clock_goes_back(workspace: Workspace) -> None:
    times = iter([2_000_000_000 * 10**9, 5, 1_000_000_000 * 10**9, 2_000_000_000 * 10**9, 0])
    revs = [workspace.head.rev]
    for number, now in enumerate(times):
        put(workspace, b"a.b.c/x", 100 + number)
        plan = make_plan(workspace, workspace.edits.batch(), None, now_ns=lambda now=now: now, clock_id=5)  # type: ignore[misc]
        record_plan(workspace, plan)
        revs.append(workspace.head.rev)
    assert all(rev is not None and tid.is_valid(rev) for rev in revs)
    assert revs == sorted(set(revs), key=lambda rev: rev or "")


def test_a_rev_is_greater_than_every_one_before_even_after_a_checkout(workspace: Workspace) -> None:
    first = workspace.head.root
    put(workspace, b"a.b.c/x", 100)
    record_plan(
        workspace,
        make_plan(workspace, workspace.edits.batch(), None, now_ns=lambda: 4_000_000_000 * 10**9),
    )
    newest = workspace.head.rev
    checkout(workspace, first)
    put(workspace, b"a.b.c/x", 101)
    publish(workspace)
    assert workspace.head.rev is not None
    assert newest is not None
    assert workspace.head.rev > newest


def at_crooked_head(folder: Path, **fields: object) -> Workspace:
    data, blocks = tree_blocks(ENTRIES)
    root, made = crooked_commit(data, **fields)
    database = Database.open(folder / "crooked.mstfs", schema=SCHEMA)
    return over(database, MemoryBlocks([*blocks.items(), (root, made)]), root)


@pytest.mark.parametrize(
    "fields",
    [
        {"rev": "later"},
        {"rev": ""},
        {"rev": "zzzzzzzzzzzzz"},
        {"rev": tid.encode(tid.MICROSECONDS_MAX, 1023)},
        {"rev": tid.encode(tid.MICROSECONDS_MAX, 0)},
        {"did": "nobody"},
        {"did": ""},
    ],
)
def test_a_head_that_no_commit_can_follow(tmp_path: Path, fields: dict[str, object]) -> None:
    workspace = at_crooked_head(tmp_path, **fields)
    put(workspace, b"a.b.c/x", 5)
    before = mirrors(workspace)
    with pytest.raises(PublishError, match="no commit can be made to follow b"):
        publish(workspace)
    assert mirrors(workspace) == before


def test_a_head_from_the_future_is_followed(tmp_path: Path) -> None:
    future = tid.encode(tid.MICROSECONDS_MAX - 1, 7)
    workspace = at_crooked_head(tmp_path, rev=future)
    put(workspace, b"a.b.c/x", 5)
    publish(workspace)
    assert workspace.head.rev == tid.encode(tid.MICROSECONDS_MAX, 0)


def test_fields_that_nobody_knows_are_not_carried_on(tmp_path: Path) -> None:
    workspace = at_crooked_head(tmp_path, extra="x")
    put(workspace, b"a.b.c/x", 5)
    publish(workspace)
    assert workspace.head.commit is not None
    assert not workspace.head.commit.extra


# --- checkout -----------------------------------------------------------------------------------


def test_a_checkout_is_a_new_event(workspace: Workspace) -> None:
    first = workspace.head
    edit(workspace)
    publish(workspace)
    second = workspace.head
    event = checkout(workspace, first.root)
    assert (event.sequence, event.kind, event.root, event.data, event.rev) == (
        3,
        "checkout",
        first.root,
        first.data,
        REV,
    )
    assert workspace.head == first
    assert set(staged(workspace)) == set(ENTRIES)
    # The tree of a commit stands for the commit.
    checkout(workspace, second.data)
    assert workspace.head == second
    workspace.history.check()


def test_a_checkout_with_edits_must_be_wanted(workspace: Workspace) -> None:
    first = workspace.head
    edit(workspace)
    publish(workspace)
    put(workspace, b"a.b.c/x", 5)
    before = mirrors(workspace)
    with pytest.raises(Refused, match="1 edits are staged"):
        checkout(workspace, first.root)
    assert mirrors(workspace) == before
    checkout(workspace, first.root, force=True)
    assert staged(workspace) == {key: cid(number) for key, number in (ENTRIES | {b"a.b.c/x": 5}).items()}


def test_a_checkout_of_what_is_no_root(workspace: Workspace) -> None:
    before = mirrors(workspace)
    with pytest.raises(Refused, match="no commit, and no tree that is known"):
        checkout(workspace, cid(1))
    with pytest.raises(BlockError):
        checkout(workspace, cid(4711))
    assert mirrors(workspace) == before


def test_a_tree_with_missing_nodes_fails_with_the_edits_kept(tmp_path: Path) -> None:
    _, blocks = tree_blocks(ENTRIES)
    root, made = crooked_commit(data_root({b"elsewhere": 1}))
    database = Database.open(tmp_path / "x.mstfs", schema=SCHEMA)
    workspace = over(database, MemoryBlocks([*blocks.items(), (root, made)]), root)
    workspace.planning = True
    put(workspace, b"a.b.c/x", 5)
    workspace.planning = False
    before = mirrors(workspace)
    with pytest.raises(MstfsError):
        publish(workspace)
    assert mirrors(workspace) == before
