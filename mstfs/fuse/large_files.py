"""Large files: the fast path is told which blocks they consist of, and reads these itself (`fast_large.c`).

The first read of a part of a file comes here; then the blocks of the node that this part hangs in are told
of, as far as they are raw and stand in the CAR. So what a reader goes through or jumps about in is read
without Python, but for one request in each node. Whatever is wrong with a block is Python's to say.
"""

import errno
import logging
import os
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio
from pyfuse3 import FileHandleT, FUSEError

from mstfs.blocks.car import CarFile
from mstfs.blocks.car_tags import SECRET_BYTES
from mstfs.codec import cid as cids
from mstfs.errors import MstfsError
from mstfs.fuse.fast_path import FastPath
from mstfs.tree.unixfs.file import RawPart
from mstfs.view.inodes import Inode
from mstfs.view.nodes import Leaf
from mstfs.view.view import View

log = logging.getLogger("mstfs")

SMALLER_BYTES = 64 << 10
"""Files up to this size are read ahead as a whole (`read_ahead.py`)."""

FEW, MOST = 16, 1024
"""Blocks that are told of at once: soon after a change, which takes all back, and later."""

BLOCK_BYTES = 4 << 20
"""Larger blocks are read by Python; as in `fast_parts.h`."""

OTHERS = 1 << 12
"""Files that are remembered because they cannot be read here, and parts of others that were told of."""

PAGE_BYTES = 16 << 10
"""Blocks up to this size have no tags; as in `fast_parts.c`."""

_HEADS = {bytes((1, cids.RAW, code, 32)): code for code in (cids.SHA2_256, cids.BLAKE3)}
_BLOCK = struct.Struct("=QQQ32s")  # as in fast_parts.h
_START = struct.Struct("=Q")  # as in fast_large.c

Read = Callable[[FileHandleT, int, int], Awaitable[bytes]]


class LargeFiles:
    """What the fast path is told of large files. Without a CAR, or a fast path, nothing.

    `read` is the handler of READ, for what the fast path could not read after all.
    """

    def __init__(self, view: View, fast: FastPath, car: CarFile | None, read: Read) -> None:
        self.view = view
        self.fast = fast
        self.car = car if fast.active else None
        self.answer = read
        self.event = -1
        self.known: set[tuple[int, int, int]] = set()
        """What the fast path was told of: files, and where the first and the last part start."""
        self.others: set[int] = set()
        """Files that it cannot read."""
        self.most = MOST

    def begin_again(self) -> None:
        """Something is about to change: Python answers for every file."""
        self.others.clear()
        if self.known:
            self.known.clear()
            self.most = FEW
            self.fast.withdraw_large()

    def read(self, inode: Inode, offset: int, length: int) -> bytes | None:
        """Bytes of a large file, of which the fast path knows more from now on; None if it cannot read it."""
        car, number = self.car, inode.number
        if car is None or offset + length <= SMALLER_BYTES or number in self.others:
            return None
        node = self.view.node(inode)
        if not isinstance(node, Leaf) or node.verbatim or inode.buffer or inode.pinned:
            return None
        values, key, cid = self.view.values, node.key, node.cid
        try:
            size = values.size(key, cid)
            parts = values.raw_parts(key, cid, offset, self.most) if size > SMALLER_BYTES else []
            known = (number, parts[0].start, parts[-1].start) if parts else None
            leaves = self._located(car, parts) if known not in self.known else b""
        except MstfsError:
            known = None  # Who reads it is told.
        if known is None:
            self._leave(number)
        elif known not in self.known:
            if len(self.known) >= OTHERS:
                self.known.clear()
            self.known.add(known)
            if leaves and self._begun(car):
                if self.fast.tell_large(number, size, leaves):
                    self.known = {known}
                self.most = min(2 * self.most, MOST)
                return self._read(car, node, number, offset, length)
        return None

    def _located(self, car: CarFile, parts: list[RawPart]) -> bytes:
        """As the fast path wants them: those that stand in the CAR."""
        leaves = []
        for start, length, cid in parts:
            block = self._block(car, cid, length)
            if block is not None:
                leaves.append(_START.pack(start) + block)
        return b"".join(leaves)

    @staticmethod
    def _block(car: CarFile, cid: bytes, length: int) -> bytes | None:
        """A block of so many bytes as the fast path wants it; None if it cannot read it."""
        code = _HEADS.get(cid[:4])
        found = car.locate(cid) if code is not None else None
        if found is None or found[1] != length or length > BLOCK_BYTES:
            return None
        if code != cids.SHA2_256 and (length <= PAGE_BYTES or car.verify == "always"):
            return None
        return _BLOCK.pack(*found, code, cid[4:])

    def _read(self, car: CarFile, node: Leaf, number: int, offset: int, length: int) -> bytes | None:
        """What the fast path reads, once all has been hashed that it cannot hash; None if it cannot."""
        try:
            return self.fast.read_large(number, offset, length)
        except ValueError:
            pass
        except LookupError:
            with suppress(MstfsError, ValueError, LookupError):
                self._hash(car, node, offset, offset + length)
                return self.fast.read_large(number, offset, length)
        self._leave(number)
        return None

    def _hash(self, car: CarFile, node: Leaf, offset: int, end: int) -> None:
        """Have blocks tagged that the fast path cannot hash."""
        for start, length, cid in self.view.values.raw_parts(node.key, node.cid, offset, self.most):
            block = self._block(car, cid, length) if start < end and start + length > offset else None
            if block is not None and cid[2] != cids.SHA2_256:
                self.fast.tag_large(block, car.get(cid))

    def _leave(self, number: int) -> None:
        """Python answers for a file, as far as the fast path does not know it."""
        if len(self.others) >= OTHERS:
            self.others.clear()
        self.others.add(number)

    # --- what could not be read -----------------------------------------------------------------

    def _begun(self, car: CarFile) -> bool:
        """Open what it takes, when the first large file is read; whether that could be done."""
        if self.event < 0:
            try:
                tags, secret = car.tags() if car.verify == "once" else (-1, bytes(SECRET_BYTES))
                self.event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            except OSError as error:
                log.warning("large files are read by Python: %s", error)
                self.car = None
                return False
            if not self.fast.begin_large(car.fileno(), tags, secret, self.event):
                self.end()
                return False
            trio.lowlevel.spawn_system_task(self._answer_failed)
        return True

    async def _answer_failed(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.event)
            with suppress(BlockingIOError):
                os.eventfd_read(self.event)
            while (failed := self.fast.failed_large()) is not None:
                await self._answer(*failed)

    async def _answer(self, request: int, number: int, offset: int, length: int) -> None:
        """Answer a request that the fast path could not answer."""
        data, code = b"", 0
        try:
            inode = self.view.inodes.numbered(number)
            found = None
            if self.car is not None and inode is not None and isinstance(inode.node, Leaf):
                found = self._read(self.car, inode.node, number, offset, length)
            data = await self.answer(FileHandleT(number), offset, length) if found is None else found
        except FUSEError as error:
            code = error.errno
        except Exception:
            code = errno.EIO
            log.exception("unexpected error in reading a large file")
        self.fast.finish_large(request, code, data)

    def end(self) -> None:
        """Nothing is read here any more; call it before the session is closed."""
        if self.event >= 0:
            self.fast.end_large()
            os.close(self.event)
            self.event = -1
        self.car = None
