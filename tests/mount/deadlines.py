"""Deadlines for tests whose calls may hang in the kernel, where no signal ends them."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

from mount.mounting import living


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer. What hangs is ended by the death of the daemons that it waits for."""
    late = False

    def fire() -> None:
        nonlocal late
        late = True
        for process in list(living):
            process.kill()

    timer = Timer(seconds, fire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        assert not late, f"not done after {seconds:g} s: the daemons were killed"
