"""Telling the kernel that something changed behind its back.

The kernel is allowed to keep everything (`attributes.FOREVER`), so each such change must reach it. A
notification waits while the kernel uses the inode or the folder, and the kernel may be waiting for
our answer: so they are sent from a worker thread, and only by the handler that caused the change.
"""

import logging
import os
from pathlib import Path

import pyfuse3
import trio

from mstfs.view.view import Stale

log = logging.getLogger("mstfs")


READ_AHEAD_KB = 4096
"""How far the kernel reads ahead in a large file: four requests, so that two threads are not out of work."""


def read_further_ahead(device: int) -> None:
    """Let the kernel ask for more at a time in a mount's large files; only root may, and it works without."""
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    try:
        setting.write_text(f"{READ_AHEAD_KB}\n")
    except OSError as error:
        log.debug("%s stays as it is: %s", setting, error)


_telling: set[trio.Event] = set()
"""One for each call of `tell` that is under way."""


async def tell(stale: Stale) -> None:
    """Send what is stale. Returns once the kernel has dropped it."""
    if not stale:
        return
    inodes, entries = stale.take()
    # The kernel keeps listings too.
    inodes |= {parent for parent, _ in entries}
    done = trio.Event()
    _telling.add(done)
    try:
        await trio.to_thread.run_sync(_send, inodes, entries)
    finally:
        _telling.discard(done)
        done.set()


async def told() -> None:
    """Return once the kernel has dropped all that it is being told of.

    Nobody waits for the end of a close; who opens the same thing next must not be shown what is no longer so.
    """
    for done in list(_telling):
        await done.wait()


def _send(inodes: set[int], entries: set[tuple[int, bytes]]) -> None:
    for parent, name in entries:
        try:
            pyfuse3.invalidate_entry(pyfuse3.InodeT(parent), pyfuse3.FileNameT(name))
        except FileNotFoundError:
            continue  # The kernel does not know the name: nothing to forget.
        except OSError as error:
            log.warning("the kernel would not forget %r: %s", name, error)
    for number in inodes:
        try:
            pyfuse3.invalidate_inode(pyfuse3.InodeT(number), attr_only=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("the kernel would not forget inode %d: %s", number, error)
