"""Telling the kernel that something changed behind its back.

The kernel is allowed to keep everything (`attributes.FOREVER`), so each such change must reach it. A
notification waits while the kernel uses the inode or the folder, and the kernel may be waiting for
our answer: so they are sent from a worker thread, and only by the handler that caused the change.
"""

import logging

import pyfuse3
import trio

from mstfs.view.view import Stale

log = logging.getLogger("mstfs")


async def tell(stale: Stale) -> None:
    """Send what is stale. Returns once the kernel has dropped it."""
    if not stale:
        return
    inodes, entries = stale.take()
    # The kernel keeps listings too.
    inodes |= {parent for parent, _ in entries}
    await trio.to_thread.run_sync(_send, inodes, entries)


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
