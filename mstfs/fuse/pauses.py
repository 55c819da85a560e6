"""How long the event loop was held at a time: everyone else waits meanwhile.

    MSTFS_MEASURE_PAUSES=1 mstfs mount -f repo.car mnt

adds the longest pauses to `.mstfs/status`. It costs about a microsecond a request, so it is off otherwise.
"""

import os
from time import perf_counter

import trio

KEPT = 5
"""Pauses that are remembered."""


class Pauses(trio.abc.Instrument):
    """The longest steps of tasks: in ms, with the name of the task's function."""

    def __init__(self) -> None:
        self.longest: list[tuple[float, str]] = []
        self._begun = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._begun = perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took = (perf_counter() - self._begun) * 1000
        if len(self.longest) < KEPT or took > self.longest[-1][0]:
            self.longest = sorted([*self.longest, (took, task.name)], reverse=True)[:KEPT]


def wanted() -> Pauses | None:
    """What measures, if the environment asks for it."""
    return Pauses() if os.environ.get("MSTFS_MEASURE_PAUSES") == "1" else None
