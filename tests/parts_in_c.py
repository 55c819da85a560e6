"""The parts that are written in C: doing without them, and blocks that they must not take for sound."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
from hypothesis import strategies as st


@contextmanager
def part_in_c(where: str, user: ModuleType, name: str) -> Iterator[None]:
    """Within, a module uses its part in C, or "in Python" does without; fails if it was not built."""
    assert vars(user)[name] is not None, f"{name} was not built"
    with pytest.MonkeyPatch.context() as patch:
        if where == "in Python":
            patch.setattr(user, name, None)
        yield


def changed_somewhere(block: bytes, data: st.DataObject) -> bytes:
    """A block after one to three changes of a byte."""
    changed = bytearray(block)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        kind = data.draw(st.sampled_from(["change", "cut", "put in", "take out"]))
        if kind == "change":
            changed[at] = data.draw(st.integers(0, 255))
        elif kind == "cut" and at:
            del changed[at:]
        elif kind == "put in":
            # Heads of CBOR, which do the most harm, come often.
            telling = st.sampled_from([0, 0x58, 0xA4, 0xD8, 0xF6])
            changed.insert(at, data.draw(telling | st.integers(0, 255)))
        elif len(changed) > 1:
            del changed[at]
    return bytes(changed)


def keeps_nothing(work: Callable[[], None], most: int) -> None:
    """Fails if some work, done once more, leaves so many more blocks of memory in use."""
    work()
    gc.collect()
    before = sys.getallocatedblocks()
    work()
    gc.collect()
    assert sys.getallocatedblocks() - before < most
