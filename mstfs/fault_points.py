"""Named steps at which a process ends itself, so that a test can see what it leaves behind.

    MSTFS_FAULT_POINT=publish-event mstfs mount -f repo.car mnt

kills the daemon (SIGKILL: nothing is flushed, closed or told) the first time that it comes to that step.
Without the variable a step costs one comparison. `tests/mount/test_crash.py` goes through all of them.
"""

import os
import signal

STEPS = (
    "publish-asked",
    "publish-planned",
    "publish-begun",
    "publish-blocks",
    "publish-event",
    "publish-cleared",
    "publish-committed",
    "publish-shown",
    "publish-told",
)
"""In their order: `-begun` to `-cleared` lie inside the transaction, `-committed` just behind it."""

_WANTED = os.environ.get("MSTFS_FAULT_POINT")


def reached(step: str) -> None:
    """Say that a step, one of `STEPS`, is done; the process dies here if the environment names it."""
    if step == _WANTED:
        os.kill(os.getpid(), signal.SIGKILL)
