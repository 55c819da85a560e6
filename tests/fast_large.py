"""The part of the fast path that reads large files, used without a mount."""

import ctypes
from pathlib import Path

from mstfs.fuse import large_files
from mstfs.fuse.fast_path import FastPath

PROJECT = Path(__file__).parents[1]


class Fast(FastPath):
    """The part of the fast path that reads large files, without a mount."""

    def __init__(self) -> None:
        super().__init__(active=False)
        self.active = True
        (built,) = (PROJECT / "mstfs/fuse").glob("fast_path_wrapper.*.so")
        self._declare_large(ctypes.CDLL(str(built)))


def leaf(start: int, offset: int, length: int, cid: bytes) -> bytes:
    """As `fast_large.c` wants it."""
    return large_files._START.pack(start) + large_files._BLOCK.pack(offset, length, cid[2], cid[4:])
