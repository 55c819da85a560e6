"""What `fast_path.c` can do: answer the kernel without Python, and serve files that are never opened.

It must be loaded before pyfuse3 is imported for the first time. Where it was not built, or where libfuse is
called in a way that it does not know, everything works all the same, with more work for each request.
"""

import ctypes
import logging
import os
from array import array
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from mstfs.view.pages import HEAD, Page
from mstfs.view.view import View

log = logging.getLogger("mstfs")

_loaded: ctypes.CDLL | None = None

READER = 1 << 63
"""Set in the handle of a file that was opened for reading only; as in `fast_files.h`."""

NEW_BYTES = 64 << 10
"""What a new file may hold before Python is asked; as in `fast_new.c`."""

LEAF_BYTES = 64
"""What is told of a block of a large file; as in `fast_large.c`."""

_ASKED = (1 << 32) - 1

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


class NewFile(ctypes.Structure):
    """What `fast_new.c` has done of which Python does not know; the fields are explained there."""

    _fields_ = (
        ("waiting", ctypes.c_uint64),
        ("closed", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("mtime_ns", ctypes.c_int64),
        ("write_only", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("data", ctypes.c_char * NEW_BYTES),
    )

    @property
    def contents(self) -> bytes:
        """What was written."""
        return ctypes.string_at(ctypes.addressof(self) + NewFile.data.offset, self.size)


class FastPath:
    """The files that are offered to the kernel without Python; ask for it after `pyfuse3.init`.

    `active` is False where there is no fast path: then nothing that is offered is taken.
    """

    def __init__(self, active: bool = True) -> None:
        self.active = (
            active and _loaded is not None and ctypes.c_int.in_dll(_loaded, "mstfs_fast_path").value == 1
        )
        self.idle = True
        self.busy = False
        self.new = NewFile()
        if not self.active or _loaded is None:
            return
        self._offer = _loaded.mstfs_offer
        self._offer.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
        self._forget = _loaded.mstfs_forget_offers
        self._held = ctypes.c_size_t.in_dll(_loaded, "mstfs_held")
        self._offered = ctypes.c_size_t.in_dll(_loaded, "mstfs_offered")
        self._stand_down = _loaded.mstfs_stand_down
        self._inodes = (ctypes.c_uint64 * _MOST)()
        self._counts = (ctypes.c_uint32 * _MOST)()
        self._answered = ctypes.c_uint64.in_dll(_loaded, "mstfs_answered")
        self._comes = _loaded.mstfs_comes
        self._asked = _loaded.mstfs_asked
        self._push = _loaded.mstfs_push
        self._push.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        self._push_end = _loaded.mstfs_push_end
        self._pushed = ctypes.c_size_t.in_dll(_loaded, "mstfs_pushed")
        self._reads_alone = _loaded.mstfs_reads_alone
        self._declare_listings(_loaded)
        self._declare_large(_loaded)
        self.new = NewFile.in_dll(_loaded, "mstfs_new")
        self._expect = _loaded.mstfs_new_expect
        self._expect.argtypes = (*(ctypes.c_uint64, ctypes.c_char_p, ctypes.c_uint64), *[ctypes.c_uint32] * 3)
        self._expect_close = _loaded.mstfs_new_close
        self._expect_close.argtypes = (ctypes.c_uint64,)
        self._take_new = _loaded.mstfs_new_take

    def _declare_listings(self, loaded: ctypes.CDLL) -> None:
        number, count, pointer, inode = ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint64
        self._new_folder = loaded.mstfs_folder_new
        self._add_page = loaded.mstfs_folder_add
        self._add_page.argtypes = (number, count, *[pointer] * 7)
        self._drop_folder = loaded.mstfs_folder_drop
        self._offer_folder = loaded.mstfs_folder_offer
        self._offer_folder.argtypes = (
            *(number, inode, inode, count, count, count, count, ctypes.c_int64, pointer, ctypes.c_size_t),
        )
        self._withdraw = loaded.mstfs_folders_withdraw
        self._handed = loaded.mstfs_handed
        self._handed.argtypes = (inode, pointer, pointer)
        self._take_back = loaded.mstfs_take_back
        self._take_back.argtypes = (inode, inode)
        self._take_back.restype = inode
        self._folder_busy = loaded.mstfs_folder_busy
        self._folder_busy.argtypes = (inode, count, count, count, ctypes.c_int64)
        self._folder, self._index = count(), count()
        self._folder_at = ctypes.addressof(self._folder)
        self._index_at = ctypes.addressof(self._index)

    def _declare_large(self, loaded: ctypes.CDLL) -> None:
        number, pointer, word = ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64
        self._begin_large = loaded.mstfs_large_begin
        self._begin_large.argtypes = (number, number, ctypes.c_char_p, number)
        self._tell_large = loaded.mstfs_large_tell
        self._tell_large.argtypes = (word, word, ctypes.c_char_p, ctypes.c_size_t)
        self._withdraw_large = loaded.mstfs_large_withdraw
        self._get_large = loaded.mstfs_large_get
        self._get_large.argtypes = (word, word, word, pointer)
        self._get_large.restype = ctypes.c_ssize_t
        self._failed_large = loaded.mstfs_large_failed
        self._failed_large.argtypes = (pointer,)
        self._failed_large.restype = pointer
        self._finish_large = loaded.mstfs_large_finish
        self._finish_large.argtypes = (pointer, number, ctypes.c_char_p, ctypes.c_size_t)
        self._tag_large = loaded.mstfs_large_tag
        self._tag_large.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        self._end_large = loaded.mstfs_large_end

    @property
    def answered(self) -> int:
        """How many requests were answered without Python."""
        return int(self._answered.value) if self.active else 0

    def open_here(self) -> None:
        """Files are opened on this mount, and those that are offered may be opened without Python."""
        if self.active and _loaded is not None:
            _loaded.mstfs_open_here()

    @property
    def held(self) -> int:
        """The bytes of contents that are offered."""
        return int(self._held.value) if self.active else 0

    @property
    def offered(self) -> int:
        """How many files are offered, or were, and are known for that."""
        return int(self._offered.value) if self.active else 0

    def offer(self, files: list[tuple[int, bytes]]) -> None:
        """Offer files, by number and with all that they say, until each was read once."""
        self.idle = False
        numbers = array("Q", [number for number, _ in files])
        sizes = array("I", [len(data) for _, data in files])
        data = b"".join([data for _, data in files])
        self._offer(numbers.buffer_info()[0], data, sizes.buffer_info()[0], len(files))

    def forget(self) -> None:
        """Take back what was offered and not asked for. What was opened stays so."""
        self._forget()

    @property
    def reads_alone(self) -> bool:
        """Whether what was read of late was all read by one thread."""
        return bool(self._reads_alone())

    def push(self, numbers: list[int]) -> bool:
        """Begin to give the kernel what is offered of up to 64 files, none of which is being read.

        False if those before take too long, as somebody else reads one of them. Call `end_push` in the end.
        """
        inodes = array("Q", numbers)
        return bool(self._push(*inodes.buffer_info()))

    def end_push(self) -> bool:
        """Wait until the kernel has all of them, for a moment; False if that is not enough."""
        return bool(self._push_end())

    @property
    def pushed(self) -> int:
        """How many files the kernel was given that it had not asked for."""
        return int(self._pushed.value) if self.active else 0

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

    def comes(self) -> bool:
        """Wait a moment, without the interpreter's lock, for the kernel's next request; whether it came."""
        return bool(self._comes())

    @property
    def asked(self) -> bool:
        """Whether a request of the kernel is there now."""
        return bool(self._asked())

    # --- listings -----------------------------------------------------------------------------

    def new_folder(self) -> int:
        """A number for the pages of a folder."""
        number: int = self._new_folder()
        if number < 0:
            raise MemoryError
        return number

    def add_page(self, folder: int, page: Page) -> bool:
        """Take a page; its memory stays where it is for good. False if it cannot be taken."""
        start = ctypes.cast(ctypes.c_char_p(page.blob), ctypes.c_void_p).value or 0
        count = page.count
        columns = [start + HEAD.size + width * count for width in (0, 8, 16, 24, 32)]
        handed, _ = page.handed.buffer_info()
        return bool(self._add_page(folder, count, *columns, start + page.names_at, handed))

    def drop_folder(self, folder: int) -> None:
        """Forget all pages of a folder, of which nothing is handed out any more."""
        self._drop_folder(folder)

    def offer_folder(self, folder: int, inode: int, parent: int, view: View, exceptions: list[int]) -> None:
        """Answer the kernel from the pages of a folder, but for the inodes that are exceptions, in order."""
        numbers = array("Q", exceptions)
        at, count = numbers.buffer_info()
        modes = (view.file_mode, view.folder_mode, os.getuid(), os.getgid())
        self._offer_folder(folder, inode, parent, *modes, view.rev_ns, at, count)

    def withdraw(self) -> None:
        """Before anything changes: Python answers for every folder."""
        self._withdraw()

    def busy_folder(self, number: int, mode: int, uid: int, gid: int, mtime_ns: int) -> None:
        """Answer for the attributes of one folder, until `idle_folder`; the type is in `mode`."""
        if self.active:
            self.busy = True
            self._folder_busy(number, mode, uid, gid, mtime_ns)

    def idle_folder(self) -> None:
        """Before anything changes: Python answers for that folder again."""
        if self.busy:
            self.busy = False
            self._folder_busy(0, 0, 0, 0, 0)

    def place_of(self, number: int) -> tuple[int, int] | None:
        """Folder and index of an inode that the kernel was given from a page; None for any other one."""
        if not self._handed(number, self._folder_at, self._index_at):
            return None
        return self._folder.value, self._index.value

    def take_back(self, number: int, count: int) -> int:
        """The kernel forgets an inode `count` times; how many of these were not counted here."""
        rest: int = self._take_back(number, count)
        return rest

    # --- new files ----------------------------------------------------------------------------

    def expect(self, parent: int, name: bytes, number: int, mode: int | None, uid: int, gid: int) -> None:
        """The next request may make this file: `mode` is what is shown, None for what is asked for."""
        self._expect(parent, name, number, _ASKED if mode is None else mode, uid, gid)

    def expect_close(self, number: int) -> None:
        """The next request may end the use of this file, which leaves nothing to do."""
        self._expect_close(number)

    def take_new(self) -> tuple[bool, int]:
        """Answer nothing about new files any more, until more is expected.

        Gives whether a file was made, of which `new` says more, and the number of one that was closed, or 0.
        """
        closed, self.new.closed = self.new.closed, 0
        return bool(self._take_new()), closed

    # --- large files --------------------------------------------------------------------------

    def begin_large(self, file: int, tags: int, secret: bytes, event: int) -> bool:
        """Read large files from now on: out of an open CAR, with its tags (-1: none).

        `event` is an eventfd that is written to when there is something for `failed_large`.
        """
        return bool(self._begin_large(file, tags, secret, event))

    def tell_large(self, number: int, size: int, leaves: bytes) -> bool:
        """Tell of blocks of a file, in order: `LEAF_BYTES` for each, as `fast_large.c` says.

        Whether all that it was told before had to be forgotten.
        """
        return bool(self._tell_large(number, size, leaves, len(leaves) // LEAF_BYTES))

    def withdraw_large(self) -> None:
        """Before anything changes: Python answers for every large file."""
        self._withdraw_large()

    def read_large(self, number: int, offset: int, length: int) -> bytes | None:
        """Bytes of a file that was told of; None if not all of these blocks were told of.

        ValueError if one of them is not what it should be, LookupError if one must be hashed here first.
        """
        buffer = ctypes.create_string_buffer(length)
        count = self._get_large(number, offset, length, buffer)
        if count == -2:
            raise ValueError("a block is not what it should be")
        if count == -3:
            raise LookupError("a block has no tags, and is hashed in another way")
        return ctypes.string_at(buffer, count) if count >= 0 else None

    def tag_large(self, block: bytes, data: bytes) -> None:
        """A block was hashed: `block` is what was told of it, without its place in the file."""
        self._tag_large(block, data)

    def failed_large(self) -> tuple[int, int, int, int] | None:
        """A request that must be answered here: its name, the file, the offset and the length."""
        asked = (ctypes.c_uint64 * 3)()
        request = self._failed_large(asked)
        return (request, *asked) if request else None

    def finish_large(self, request: int, error: int, data: bytes) -> None:
        """Answer such a request: with an error, or with data."""
        self._finish_large(request, error, data, len(data))

    def end_large(self) -> None:
        """Read nothing any more; what is left is answered with EIO."""
        self._end_large()
