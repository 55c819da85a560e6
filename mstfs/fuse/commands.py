"""Commands that reach the daemon through the mount: publish, revert, checkout.

A command is a JSON object with `command` and its arguments, written to a file in `.mstfs/commands`; the
answer is a JSON object with `ok`, and either the result or `error`. One command runs at a time.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import trio

from mstfs.codec import cid as cids
from mstfs.errors import MstfsError, Refused
from mstfs.fault_points import reached
from mstfs.fuse import kernel_cache
from mstfs.publish.plan import Plan, checkout, make_plan, record_plan
from mstfs.repo.commit import Signer
from mstfs.staging.status import status
from mstfs.tree.interface import Edit
from mstfs.view import changes
from mstfs.view.revert import revert
from mstfs.view.view import View

log = logging.getLogger("mstfs")


BLOCKS_AT_ONCE = 256
"""Blocks that are stored while others wait."""

PATHS_AT_ONCE = 2048
"""Keys whose paths are found while others wait."""


def _nothing() -> None:
    """What there is to do before a change where nobody else answers the kernel."""


class Commands:
    """Runs commands against one view. `signer` None publishes unsigned commits."""

    def __init__(self, view: View, signer: Signer | None, clock_id: int) -> None:
        self.view = view
        self.workspace = view.workspace
        self.signer = signer
        self.clock_id = clock_id
        self.lock = trio.Lock()
        self.last_error: str | None = None
        self.held = False
        self.before_change: Callable[[], None] = _nothing
        self.by_name: dict[str, Callable[..., Any]] = {
            "publish": self.publish,
            "revert": self.revert,
            "checkout": self.checkout,
            "hold": self.hold,
        }

    async def execute(self, request: bytes) -> bytes:
        """Answer one request; what goes wrong is in the answer."""
        try:
            asked = json.loads(request)
            name = asked.pop("command")
            if name not in self.by_name:
                raise Refused(f"no such command: {name}")
            answer = {"ok": True, **(await self.by_name[name](**asked))}
        except MstfsError as error:
            answer = {"ok": False, "error": str(error), "kind": type(error).__name__}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            answer = {"ok": False, "error": f"malformed command: {error}", "kind": "Refused"}
        return json.dumps(answer).encode()

    async def publish(self, message: str = "") -> dict[str, Any]:
        """Make a new root of everything staged, and say what it is and which drafts stayed behind."""
        async with self.lock:
            try:
                answer = await self._publish(message)
            except MstfsError as error:
                self.last_error = str(error)
                log.error("publishing failed: %s", error)
                raise
            self.last_error = None
        # Not under our lock: an fsync of the root folder holds the kernel's lock of it and may wait for ours.
        await kernel_cache.tell(self.view.stale)
        reached("publish-told")
        return answer

    async def _publish(self, message: str) -> dict[str, Any]:
        workspace = self.workspace
        previous = workspace.head
        reached("publish-asked")
        try:
            edits, plan = await self._planned()
            # Atomic from here to `published`: no await, so that no request sees half of it.
            self.before_change()
            changes.pin_verbatim(self.view, (edit.key for edit in edits))
            event, keys = record_plan(workspace, plan, message=message)
            changes.published(self.view, keys)
        finally:
            self.view.prepared.clear()
        reached("publish-shown")
        if event is not None:
            log.info("published %s as event %d", cids.to_text(workspace.head.root), event.sequence)
        return {
            "changed": event is not None,
            "previous": cids.to_text(previous.root),
            "root": cids.to_text(workspace.head.root),
            "kind": workspace.head.kind,
            "rev": workspace.head.rev,
            "created": plan.counts[0],
            "updated": plan.counts[1],
            "deleted": plan.counts[2],
            "drafts": status(workspace)["drafts"],
        }

    async def _planned(self) -> tuple[list[Edit], Plan]:
        """What is staged now, and the plan of its publication, with all done that can be done before."""
        workspace = self.workspace
        frozen = workspace.edits.frozen()

        def plan_it() -> tuple[list[Edit], Plan]:
            batch = frozen()
            return batch[0], make_plan(workspace, batch, self.signer, clock_id=self.clock_id)

        # From here on what is edited stays staged, whatever it looks like beside the old head.
        workspace.planning = True
        try:
            edits, plan = await trio.to_thread.run_sync(plan_it)
            await self._prepare([edit.key for edit in edits])
            if len(plan.blocks) > BLOCKS_AT_ONCE:
                plan = await self._stored_ahead(plan)
            if workspace.stored_ahead:
                workspace.stored_ahead = False
                await trio.to_thread.run_sync(workspace.sync)
        finally:
            workspace.planning = False
        return edits, plan

    async def _prepare(self, keys: list[bytes]) -> None:
        """Before all of these change at once: find their paths, with turns for others."""
        prepared, path_of = self.view.prepared, self.view.names.path_of
        for first in range(0, len(keys), PATHS_AT_ONCE):
            prepared.update((key, path_of(key)) for key in keys[first : first + PATHS_AT_ONCE])
            await trio.lowlevel.checkpoint()

    async def _stored_ahead(self, plan: Plan) -> Plan:
        """Store the blocks of a large plan in parts, so that others are answered in between.

        Until an event names their root they are blocks like any others, and nothing is lost with them.
        """
        blocks = iter(plan.blocks.items())
        while part := list(islice(blocks, BLOCKS_AT_ONCE)):
            self.workspace.blocks.put_many(part)
            await trio.lowlevel.checkpoint()
        await trio.to_thread.run_sync(self.workspace.sync)
        return replace(plan, blocks={})

    async def hold(self, held: bool) -> dict[str, Any]:
        """Leave what is staged unpublished when the mount ends, whatever its settings say; or do not."""
        self.held = held
        return {"held": held}

    async def revert(self, paths: list[str]) -> dict[str, Any]:
        """Drop what is staged or drafted at and below these paths of the mount."""
        async with self.lock:
            self.before_change()
            reverted = revert(self.view, [path.encode("utf-8", "surrogateescape") for path in paths])
        await kernel_cache.tell(self.view.stale)
        return {"reverted": [path.decode("utf-8", "backslashreplace") for path in reverted]}

    async def checkout(self, root: str, force: bool = False) -> dict[str, Any]:
        """Show an older root and go on from there."""
        async with self.lock:
            workspace = self.workspace
            old = workspace.head
            wanted = cids.parse(root)
            before = workspace.history.find(wanted)
            target = before.data if before is not None else workspace.read_head(wanted).data
            found = await trio.to_thread.run_sync(workspace.tree.diff, old.data, target)
            if workspace.read_only:
                raise Refused("the mount is read only")
            try:
                await self._prepare([change.key for change in found.changes])
                self.before_change()
                changes.before_switch(self.view, found.changes)
                event = checkout(workspace, wanted, force=force)
                changes.switched(self.view, found.changes)
            finally:
                self.view.prepared.clear()
            answer = {
                "root": cids.to_text(workspace.head.root),
                "previous": cids.to_text(old.root),
                "sequence": event.sequence,
            }
        await kernel_cache.tell(self.view.stale)
        return answer
