"""Loading `inode_handles.c`, which makes mounts without OPEN requests possible.

It must be loaded before pyfuse3 is imported for the first time. Where it was not built, or where libfuse is
called in a way that it does not know, everything works all the same, with more requests.
"""

import ctypes
import logging
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

log = logging.getLogger("mstfs")

_loaded: ctypes.CDLL | None = None


def load() -> None:
    """Put the wrapper before libfuse. Does nothing where it was not built, or with MSTFS_INODE_HANDLES=0."""
    global _loaded
    if _loaded is not None or os.environ.get("MSTFS_INODE_HANDLES") == "0":
        return
    for suffix in EXTENSION_SUFFIXES:
        built = Path(__file__).with_name("inode_handles_wrapper" + suffix)
        if built.exists():
            try:
                _loaded = ctypes.CDLL(str(built), mode=ctypes.RTLD_GLOBAL)
            except OSError as error:
                log.warning("%s cannot be loaded: %s", built, error)
            return


def active() -> bool:
    """True if the session that pyfuse3 made gives inodes for handles; ask after `pyfuse3.init`."""
    return _loaded is not None and bool(ctypes.c_int.in_dll(_loaded, "mstfs_inode_handles").value)
