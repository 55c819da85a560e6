"""Waiting awake for the next request: who asks once often asks again at once.

To be woken up takes longer than most answers, and so does a turn of the event loop. So pyfuse3 is given a
trio that looks at the kernel for a moment before it waits, and gives nobody else a turn where nothing has
to be waited for. It has a place for that: `pyfuse3.asyncio` puts its own trio there too.
"""

from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Any

import pyfuse3
import trio

from mstfs.fuse.fast_path import FastPath

TURN_SECONDS = 0.004
"""How long others may have to wait for us."""


def wait_awake(fast: FastPath, others: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
    """Let pyfuse3 wait like that from now on, if there is a fast path, and but for when there are `others`.

    These are handlers that are half through a request: for them, each turn of the event loop counts. What
    can be done while who asked is busy with the answer is done `meanwhile`, a little at a time.
    """
    pyfuse3.trio = Trio(fast, others, meanwhile) if fast.active else trio  # type: ignore[attr-defined]


class Lock:
    """A lock that is not handed on: who comes first has it, and those who wait are told that it was free.

    Of pyfuse3's tasks one answers and others wait for their turn. So the one goes on as long as it need not
    wait for anything itself; a `trio.Lock` would let them take turns at each request.
    """

    def __init__(self) -> None:
        self.taken = False
        self.told = False
        self.waiting = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        while self.taken:
            try:
                await self.waiting.park()
            finally:
                self.told = False
        self.taken = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.taken = False
        if self.waiting and not self.told:
            self.told = True
            self.waiting.unpark()


class LowLevel:
    """`trio.lowlevel`, with another way to wait."""

    def __init__(self, fast: FastPath, others: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
        self.fast = fast
        self.others = others
        self.meanwhile = meanwhile
        self.turn = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(trio.lowlevel, name)

    async def wait_readable(self, file: int) -> None:
        """Return once the kernel asks for something."""
        now = perf_counter()
        if now - self.turn > TURN_SECONDS:
            await trio.lowlevel.checkpoint()
            self.turn = perf_counter()
        if not self.others():
            self.meanwhile()
            if self.fast.comes():
                return
        await trio.lowlevel.wait_readable(file)
        self.turn = perf_counter()


class Trio:
    """The module trio, as pyfuse3 is to see it."""

    Lock = Lock

    def __init__(self, fast: FastPath, others: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
        self.lowlevel = LowLevel(fast, others, meanwhile)

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)
