"""Turns for others: while something large is done in steps, and while the disk is behind."""

from collections.abc import Iterable

import trio

from mstfs.staging.workspace import Workspace

_LOOK_SECONDS = 0.005


async def take(steps: Iterable[None], workspace: Workspace) -> None:
    """Take the steps of something large, with turns for others in between."""
    for _ in steps:
        await trio.lowlevel.checkpoint()
        await for_the_disk(workspace)


async def for_the_disk(workspace: Workspace) -> None:
    """Wait until the disk has taken most of what was written."""
    while workspace.crowded:
        await trio.sleep(_LOOK_SECONDS)
