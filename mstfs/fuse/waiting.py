"""A look at the kernel before the event loop goes to sleep: who asks once often asks again at once.

To be woken up takes longer than most answers, so a moment is spent on waiting awake.
"""

import trio

from mstfs.fuse.fast_path import FastPath


class Awake(trio.abc.Instrument):
    """Waits for a request, for a few dozen microseconds, whenever the loop has nothing else to do."""

    def __init__(self, fast: FastPath) -> None:
        self.fast = fast

    def before_io_wait(self, timeout: float) -> None:
        if timeout > 0:
            self.fast.await_next()
