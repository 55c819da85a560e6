"""One task answers for as long as it can, and still everybody has a turn."""

import os
from time import perf_counter

import trio
import trio.testing

from mstfs.fuse.waiting import TURN_SECONDS, Lock, LowLevel, Trio


class Kernel:
    """Stands in for the fast path: a kernel that asks at once, or never."""

    def __init__(self, asks: bool) -> None:
        self.asks = asks

    def comes(self) -> bool:
        return self.asks


def test_others_have_a_turn_while_the_kernel_never_stops_asking() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        low = LowLevel(Kernel(True), lambda: False, lambda: None)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            end = perf_counter() + 10 * TURN_SECONDS
            asked = 0
            while perf_counter() < end:
                await low.wait_readable(0)
                asked += 1
            assert turns >= 3
            assert asked > 10 * turns, "each request was a turn of the event loop"
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_who_is_half_through_a_request_has_a_turn_at_once() -> None:
    async def main() -> None:
        asked = 0
        busy = True

        async def handler() -> None:
            nonlocal busy
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            busy = False

        low = LowLevel(Kernel(True), lambda: busy, lambda: None)  # type: ignore[arg-type]
        reading, writing = os.pipe()
        os.write(writing, b"x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handler)
            while busy:
                await low.wait_readable(reading)
                asked += 1
        assert asked <= 12
        os.close(reading)
        os.close(writing)

    trio.run(main)


def test_who_is_not_asked_waits_as_trio_does() -> None:
    async def main() -> None:
        low = LowLevel(Kernel(False), lambda: False, lambda: None)  # type: ignore[arg-type]
        reading, writing = os.pipe()
        with trio.move_on_after(0.05) as scope:
            await low.wait_readable(reading)
        assert scope.cancelled_caught
        os.write(writing, b"x")
        with trio.fail_after(5):
            await low.wait_readable(reading)
        os.close(reading)
        os.close(writing)

    trio.run(main)


def test_a_lock_is_held_by_one_and_everybody_gets_it() -> None:
    inside = 0
    had: list[int] = []

    async def work(lock: Lock, number: int) -> None:
        nonlocal inside
        for turn in range(20):
            async with lock:
                inside += 1
                assert inside == 1
                if turn % 3 == number % 3:
                    await trio.lowlevel.checkpoint()
                inside -= 1
                had.append(number)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        lock = Lock()
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(work, lock, number)

    trio.run(main)
    assert sorted(had) == sorted(list(range(5)) * 20)


def test_who_gives_up_waiting_for_a_lock_does_not_take_it_along() -> None:
    async def main() -> None:
        lock = Lock()
        got: list[str] = []

        async def take(name: str, scope: trio.CancelScope) -> None:
            with scope:
                async with lock:
                    got.append(name)

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                first, second = trio.CancelScope(), trio.CancelScope()
                async with lock:
                    nursery.start_soon(take, "first", first)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(take, "second", second)
                    await trio.testing.wait_all_tasks_blocked()
                # The first is told just now, and cancelled before it runs.
                first.cancel()
        assert got[-1] == "second"

    trio.run(main)


def test_it_is_trio_in_everything_else() -> None:
    ours = Trio(Kernel(False), lambda: False, lambda: None)  # type: ignore[arg-type]
    assert ours.open_nursery is trio.open_nursery
    assert ours.ClosedResourceError is trio.ClosedResourceError
    assert ours.lowlevel.current_task is trio.lowlevel.current_task
    assert ours.lowlevel.notify_closing is trio.lowlevel.notify_closing
