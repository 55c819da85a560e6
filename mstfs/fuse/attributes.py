"""The view's attributes as pyfuse3's structures."""

import os
import stat

import pyfuse3

from mstfs.limits import NAME_BYTES
from mstfs.view.nodes import Attributes

FOREVER = 1 << 30
"""Seconds that the kernel may keep an answer: until it is told otherwise."""

KINDS = {"file": stat.S_IFREG, "folder": stat.S_IFDIR, "symlink": stat.S_IFLNK}

BLOCK = 512
PREFERRED = 128 << 10


class EntryMaker:
    """Makes `EntryAttributes`. `uid` and `gid` are those of the user who mounted."""

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid
        self.absent = pyfuse3.EntryAttributes()
        self.absent.st_ino = pyfuse3.InodeT(0)
        self.absent.entry_timeout = FOREVER

    def make(self, attributes: Attributes) -> pyfuse3.EntryAttributes:
        number, kind, mode, size, mtime_ns, lasting = attributes
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(number)
        entry.st_mode = pyfuse3.ModeT(KINDS[kind] | mode)
        entry.st_nlink = 1
        entry.st_uid = self.uid
        entry.st_gid = self.gid
        entry.st_size = size
        entry.st_blocks = (size + BLOCK - 1) // BLOCK
        entry.st_blksize = PREFERRED
        entry.st_mtime_ns = entry.st_atime_ns = entry.st_ctime_ns = mtime_ns
        entry.entry_timeout = entry.attr_timeout = FOREVER if lasting else 0
        return entry


def file_system(found: os.statvfs_result) -> pyfuse3.StatvfsData:
    """What `df` shows: the room where the overlay is."""
    data = pyfuse3.StatvfsData()
    names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail")
    for name in names:
        setattr(data, name, getattr(found, name))
    data.f_namemax = NAME_BYTES
    return data
