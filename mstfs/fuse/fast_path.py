"""What `fast_path.c` can do: answer the kernel without Python, and serve files that are never opened.

It must be loaded before pyfuse3 is imported for the first time. Where it was not built, or where libfuse is
called in a way that it does not know, everything works all the same, with more work for each request.
"""

import ctypes
import logging
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

log = logging.getLogger("mstfs")

_loaded: ctypes.CDLL | None = None

_MOST = 256
"""Open inodes that are told of at once."""


def load() -> None:
    """Put our functions before libfuse's. Nothing happens if they were not built, or MSTFS_FAST_PATH is 0."""
    global _loaded
    if _loaded is not None or os.environ.get("MSTFS_FAST_PATH") == "0":
        return
    for suffix in EXTENSION_SUFFIXES:
        built = Path(__file__).with_name("fast_path_wrapper" + suffix)
        if built.exists():
            try:
                _loaded = ctypes.CDLL(str(built), mode=ctypes.RTLD_GLOBAL)
            except OSError as error:
                log.warning("%s cannot be loaded: %s", built, error)
            return


class FastPath:
    """The files that are offered to the kernel without Python; ask for it after `pyfuse3.init`.

    `active` is False where there is no fast path: then nothing that is offered is taken.
    """

    def __init__(self, active: bool = True) -> None:
        self.active = (
            active and _loaded is not None and ctypes.c_int.in_dll(_loaded, "mstfs_fast_path").value == 1
        )
        self.idle = True
        if not self.active or _loaded is None:
            return
        self._offer = _loaded.mstfs_offer
        self._offer.argtypes = (ctypes.c_uint64, ctypes.c_char_p, ctypes.c_uint32)
        self._offer.restype = ctypes.c_size_t
        self._stand_down = _loaded.mstfs_stand_down
        self._inodes = (ctypes.c_uint64 * _MOST)()
        self._counts = (ctypes.c_uint32 * _MOST)()
        self._answered = ctypes.c_uint64.in_dll(_loaded, "mstfs_answered")

    @property
    def answered(self) -> int:
        """How many requests were answered without Python."""
        return int(self._answered.value) if self.active else 0

    def open_here(self) -> None:
        """Files are opened on this mount, and those that are offered may be opened without Python."""
        if self.active and _loaded is not None:
            _loaded.mstfs_open_here()

    def offer(self, number: int, data: bytes) -> int:
        """Offer the whole contents of a file, until it was read once; the bytes that are held, about."""
        self.idle = False
        held: int = self._offer(number, data, len(data))
        return held

    def stand_down(self) -> list[tuple[int, int]]:
        """Before anything changes: take back every offer. Gives inodes, and how often each was opened."""
        if self.idle:
            return []
        found: list[tuple[int, int]] = []
        while True:
            count = self._stand_down(self._inodes, self._counts, _MOST)
            found += zip(self._inodes[:count], self._counts[:count], strict=True)
            if count < _MOST:
                self.idle = True
                return found
