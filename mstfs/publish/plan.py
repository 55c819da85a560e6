"""Plan a publication and record it: staged edits and a head in, one event and a new head out."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from mstfs.codec import cid as cids
from mstfs.errors import FormatError, PublishError, Refused
from mstfs.fault_points import reached
from mstfs.repo import commit as commits
from mstfs.repo import tid
from mstfs.repo.commit import Signer
from mstfs.repo.head import Head
from mstfs.repo.history import Event
from mstfs.staging.workspace import Workspace
from mstfs.tree.interface import Edit

Clock = Callable[[], int]


@dataclass(frozen=True)
class Plan:
    """What a publication writes. `upto` names the youngest edit that went in; `counts` are records created,
    updated and deleted. `head` is None where the edits change nothing, and then there is nothing to write
    but their removal.
    """

    base: Head
    head: Head | None
    blocks: dict[bytes, bytes]
    upto: int
    counts: tuple[int, int, int]


def make_plan(
    workspace: Workspace,
    batch: tuple[list[Edit], int],
    signer: Signer | None,
    *,
    now_ns: Clock = time.time_ns,
    clock_id: int = 0,
) -> Plan:
    """Apply a batch (from `Edits.batch`) to the head. Reads only; the same batch gives the same tree.

    Raises BlockError where a node on the way to an edited key cannot be read, PublishError where no commit
    can follow that of the head.
    """
    edits, upto = batch
    base = workspace.head
    applied = workspace.tree.apply(base.data, edits)
    if applied.root == base.data:
        return Plan(base, None, {}, upto, (0, 0, 0))
    created = updated = deleted = 0
    before = workspace.tree.get_many(base.data, [key for key, _ in edits])
    for (_, cid), old in zip(edits, before, strict=True):
        created += old is None and cid is not None
        updated += old is not None and cid is not None and old != cid
        deleted += old is not None and cid is None
    blocks = dict(applied.nodes)
    if base.commit is None:
        head = Head(applied.root, applied.root, None, base.tree)
    else:
        revs = [rev for rev in (base.rev, workspace.history.last_rev()) if rev is not None]
        try:
            rev = tid.next_after(max(revs, default=None), now_ns() // 1000, clock_id)
            cid, block = commits.make(base.commit.did, applied.root, rev, signer)
        except FormatError as error:
            # A hostile or hand-made head: a rev that nothing can follow, a name that is no DID.
            name = cids.to_text(base.root)
            raise PublishError(f"no commit can be made to follow {name}: {error}") from error
        blocks[cid] = block
        head = Head(cid, applied.root, commits.decode(block))
    reached("publish-planned")
    return Plan(base, head, blocks, upto, (created, updated, deleted))


def record_plan(
    workspace: Workspace, plan: Plan, *, message: str = "", now_ns: Clock = time.time_ns
) -> tuple[Event | None, list[bytes]]:
    """Store nodes and commit, append the event, clear the edits: one durable transaction.

    Killed at any instant, the overlay holds the old head with all edits, or the new head. Returns the
    event (None if nothing changed) and the keys whose edits are cleared. Raises PublishError if the head
    moved since the plan was made; StorageFull and OverlayError leave everything as it was.
    """
    if workspace.head != plan.base:
        raise PublishError("another root was checked out while this one was made: publish again")
    event: Event | None = None
    with workspace.transaction(durable=True):
        reached("publish-begun")
        if plan.head is not None:
            workspace.blocks.put_many(plan.blocks.items())
            reached("publish-blocks")
            event = workspace.history.append(
                "publish",
                plan.head.root,
                plan.head.data,
                rev=plan.head.rev,
                time_ns=now_ns(),
                counts=plan.counts,
                message=message,
            )
            reached("publish-event")
        workspace.edits.clear(plan.upto)
        reached("publish-cleared")
    reached("publish-committed")
    if event is None:
        # A transaction that wrote nothing syncs nothing; drafts and scratch must be safe all the same.
        workspace.sync()
    if plan.head is not None:
        workspace.head = plan.head
    return event, list(workspace.edits.cleared(plan.upto))


def publish(
    workspace: Workspace, signer: Signer | None = None, *, message: str = "", clock_id: int = 0
) -> Event | None:
    """Publish everything that is staged, in one go. None where nothing was staged that changes the tree."""
    plan = make_plan(workspace, workspace.edits.batch(), signer, clock_id=clock_id)
    event, _ = record_plan(workspace, plan, message=message)
    return event


def checkout(
    workspace: Workspace, root: bytes, *, force: bool = False, now_ns: Clock = time.time_ns
) -> Event:
    """Make an older root the head again, as a new event: history only grows.

    Raises Refused where edits are staged (unless `force`, which keeps them staged on the new head) or where
    the root is no root of this archive; BlockError where its blocks are missing.
    """
    if len(workspace.edits) and not force:
        raise Refused(f"{len(workspace.edits)} edits are staged: publish or revert them first")
    head = workspace.read_head(root)
    if workspace.head.commit is not None and head.commit is None:
        event = workspace.history.find(root)
        if event is not None:
            head = workspace.read_head(event.root)
    workspace.tree.seek(head.data, b"")
    with workspace.transaction(durable=True):
        event = workspace.history.append(
            "checkout", head.root, head.data, rev=head.rev, time_ns=now_ns(), message=""
        )
    workspace.head = head
    return event
