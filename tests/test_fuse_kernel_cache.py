"""Who opens something next waits until the kernel has dropped what it was told to drop."""

import threading

import pytest
import trio
import trio.testing

from mstfs.fuse import kernel_cache
from mstfs.view.view import Stale


def test_nobody_is_shown_what_is_being_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_is_busy = threading.Event()
    seen: list[str] = []

    def send(inodes: set[int], entries: set[tuple[int, bytes]]) -> None:
        assert kernel_is_busy.wait(30)
        seen.append("dropped")

    async def look() -> None:
        await kernel_cache.told()
        seen.append("shown")

    async def work() -> None:
        stale = Stale()
        stale.inodes.add(5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kernel_cache.tell, stale)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
            assert seen == []
            kernel_is_busy.set()
        await look()

    monkeypatch.setattr(kernel_cache, "_send", send)
    trio.run(work)
    assert seen == ["dropped", "shown", "shown"]
