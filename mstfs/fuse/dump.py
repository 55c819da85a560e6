"""What the daemon is doing, in its log, when somebody asks for it with SIGUSR1.

Tricky bits
    The stacks of the threads are written by `faulthandler`, from the signal itself: also by a daemon that
    hangs in C. Tasks and counters follow as soon as Python comes to it. Both go past `logging`, which the
    signal may have interrupted.
"""

import faulthandler
import json
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import trio

from mstfs import logs


def dump_on_signal(counters: Callable[[], dict[str, Any]]) -> None:
    """Dump stacks of threads and tasks, and what `counters` says, to the log whenever SIGUSR1 arrives."""
    target = os.dup(logs.descriptor())

    def dump(number: int, frame: FrameType | None) -> None:
        lines = ["tasks:", *_tasks(), "counters: " + json.dumps(_counters(counters)), "end of the dump"]
        os.write(target, ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))

    signal.signal(signal.SIGUSR1, dump)
    faulthandler.register(signal.SIGUSR1, file=target, all_threads=True, chain=True)


def _counters(counters: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {**counters(), **_process()}
    except Exception as error:
        # It may have been interrupted in the middle of anything.
        return {"error": repr(error), **_process()}


def _process() -> dict[str, Any]:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        facts = dict(line.split(":", 1) for line in file if ":" in line)
    return {
        "memory_kib": int(facts["VmRSS"].split()[0]),
        "threads": int(facts["Threads"]),
        "open_files": len(os.listdir("/proc/self/fd")),
    }


def _tasks() -> Iterator[str]:
    """Each task by name, and where it waits."""
    try:
        todo = [trio.lowlevel.current_root_task()]
    except RuntimeError:
        return
    while todo:
        task = todo.pop()
        if task is None:
            continue
        yield f"  {task.name}"
        for line in traceback.StackSummary.extract(task.iter_await_frames()).format():
            yield "    " + line.strip().replace("\n", "\n    ")
        todo += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
