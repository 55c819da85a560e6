"""pyfuse3's handlers: what the kernel asks, answered by the view.

Source: Linux `fuse(4)` and libfuse's `fuse_lowlevel.h`. Each handler is atomic up to its first `await`: the
view is synchronous, and nothing else runs in between.
"""

import errno
import functools
import logging
import os
import stat
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import pyfuse3
import trio
from pyfuse3 import FileHandleT, FileInfo, FileNameT, FUSEError, InodeT

from mstfs.blocks.car import CarFile
from mstfs.errors import MstfsError
from mstfs.fuse import kernel_cache, pauses, turns
from mstfs.fuse.attributes import EntryMaker, file_system
from mstfs.fuse.commands import Commands
from mstfs.fuse.errnos import errno_of
from mstfs.fuse.fast_path import READER, FastPath
from mstfs.fuse.large_files import LargeFiles
from mstfs.fuse.listings import Listing, Listings
from mstfs.fuse.new_files import NewFiles
from mstfs.fuse.read_ahead import ReadAhead
from mstfs.limits import NAME_BYTES
from mstfs.logs import about
from mstfs.staging.workspace import STEP_BYTES
from mstfs.view.inodes import ROOT, Inode
from mstfs.view.names import in_control
from mstfs.view.nodes import Command, Control
from mstfs.view.rename import Renamer
from mstfs.view.view import View
from mstfs.view.writer import Writer

log = logging.getLogger("mstfs")

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])


def answered(handler: Handler) -> Handler:
    """Turn every exception into an errno: an error ends one request and never the mount."""

    name = handler.__name__

    @functools.wraps(handler)
    async def guarded(self: "Operations", *arguments: Any) -> Any:
        self.requests[name] += 1
        self.answering += 1
        try:
            self.new_files.take_over()
            return await handler(self, *arguments)
        except FUSEError:
            raise
        except OSError as error:
            raise FUSEError(errno_of(error)) from None
        except MstfsError as error:
            code = errno_of(error)
            self.failed(name, arguments, error, code)
            raise FUSEError(code) from None
        except Exception:
            self.errors += 1
            log.exception("unexpected error in %s%r", name, arguments[:2])
            raise FUSEError(errno.EIO) from None
        finally:
            self.answering -= 1

    return guarded  # type: ignore[return-value]


class Operations(pyfuse3.Operations):
    """The handlers of one mount."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, view: View, commands: Commands) -> None:
        super().__init__()
        self.view = view
        self.writer = Writer(view)
        self.renamer = Renamer(self.writer)
        self.commands = commands
        self.entries = EntryMaker(os.getuid(), os.getgid())
        self.handles: dict[int, Listing | bytes] = {}
        self.next_handle = 1
        self.handles_are_inodes = False
        self._use(FastPath(active=False), None)
        commands.before_change = self.changed
        self.errors = 0
        self.requests: Counter[str] = Counter()
        self.answering = 0
        self.for_root_alone = False
        self.pauses = pauses.wanted()

    def _use(self, fast: FastPath, car: CarFile | None) -> None:
        self.fast = fast
        self.large_files = LargeFiles(self.view, fast, car, self.read)
        self.ahead = ReadAhead(self.view, fast)
        self.new_files = NewFiles(self.writer, fast, self.entries, self.changed)
        self.listings = Listings(self.view, fast, self.entries)

    def go_fast(self, fast: FastPath, car: CarFile | None) -> None:
        """Let what `fast` can do be done without Python; call it between `pyfuse3.init` and `main`."""
        self._use(fast, car)
        if not fast.active:
            return
        self.view.pages.begin(fast)
        if self.view.workspace.read_only:
            # What is only read needs no OPEN and no RELEASE: nobody counts who has it open.
            self.handles_are_inodes = True
            self.view.unreadable_size = 1
            self.view.control.steady = True
        else:
            fast.open_here()

    # --- helpers ------------------------------------------------------------------------------

    def failed(self, name: str, arguments: tuple[Any, ...], error: Exception, code: int) -> None:
        """Count and log a request that failed for a reason of ours."""
        self.errors += 1
        inode = self.view.inodes.numbered(arguments[0]) if arguments else None
        path = inode.path if inode is not None else None
        level = logging.ERROR if code == errno.EIO else logging.INFO
        log.log(
            level, "%s of %s: %s", name, os.fsdecode(path or b"?"), error, extra=about(path=path, error=error)
        )

    def inode(self, number: int) -> Inode:
        inode = self.view.inodes.numbered(number)
        if inode is None:
            raise FUSEError(errno.ESTALE)
        return inode

    def entry(self, inode: Inode) -> pyfuse3.EntryAttributes:
        entry = self.entries.make(self.view.attributes(inode))
        if inode.path is None:
            entry.st_nlink = 0
        return entry

    def new_handle(self, item: Listing | bytes) -> FileHandleT:
        handle = self.next_handle
        self.next_handle += 1
        self.handles[handle] = item
        return FileHandleT(handle)

    def changed(self) -> None:
        """Something in the namespace is about to change."""
        self.listings.change()
        self.stand_down()

    def stand_down(self) -> None:
        """Before anything changes: nothing is answered without Python any more, and all opens are counted."""
        self.new_files.take_over()
        self.fast.idle_folder()
        self.listings.withdraw()
        self.ahead.begin_again()
        self.large_files.begin_again()
        if self.fast.idle:
            return
        for number, count in self.fast.stand_down():
            inode = self.view.inodes.numbered(number)
            if inode is not None:
                inode.opens += count

    def look_ahead(self) -> None:
        """While nobody asks for anything: what may be asked for next."""
        self.new_files.look_ahead()
        self.listings.look_ahead()
        self.ahead.look_ahead()

    # --- look-up and attributes ---------------------------------------------------------------

    @answered
    async def lookup(
        self, parent_inode: InodeT, name: FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = self.inode(parent_inode)
        if len(name) > NAME_BYTES:
            raise FUSEError(errno.ENAMETOOLONG)
        inode = self.view.lookup(parent, name)
        if inode is None:
            if parent.path is None or in_control(parent.path):
                raise FUSEError(errno.ENOENT)
            self.new_files.not_there(parent, name)
            return self.entries.absent
        return self.entry(inode)

    async def forget(self, inode_list: Any) -> None:
        for number, count in inode_list:
            self.view.inodes.forget(number, count)

    @answered
    async def getattr(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self.entry(self.inode(inode))

    @answered
    async def setattr(
        self,
        inode: InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        self.stand_down()
        target = self.inode(inode)
        node = self.view.node(target)
        if self.view.workspace.read_only and not isinstance(node, Command):
            raise FUSEError(errno.EROFS)
        if isinstance(node, Control):
            raise FUSEError(errno.EPERM)
        if fields.update_uid and attr.st_uid != self.entries.uid:
            raise FUSEError(errno.EPERM)
        if fields.update_gid and attr.st_gid not in (self.entries.gid, *os.getgroups()):
            raise FUSEError(errno.EPERM)
        if fields.update_size:
            try:
                self.writer.truncate(target, attr.st_size)
            except OSError:
                # A draft may have come of it, and the kernel takes nothing from an answer that is an error.
                self.view.stale.inodes.add(target.number)
                await kernel_cache.tell(self.view.stale)
                raise
        if fields.update_mode:
            self.writer.set_mode(target, stat.S_IMODE(attr.st_mode))
        if fields.update_mtime:
            self.writer.set_times(target, attr.st_mtime_ns)
        entry = self.entry(target)
        self.view.stale.inodes.discard(target.number)
        return entry

    @answered
    async def readlink(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> FileNameT:
        node = self.view.node(self.inode(inode))
        if node is None:
            raise FUSEError(errno.EINVAL)
        return FileNameT(self.view.contents(node))

    @answered
    async def access(self, inode: InodeT, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        if not self.for_root_alone:
            # The kernel checks permissions itself (default_permissions); this answer makes it stop asking.
            raise FUSEError(errno.ENOSYS)
        _, kind, bits, *_ = self.view.attributes(self.inode(inode))
        return kind == "folder" or not mode & os.X_OK or bool(bits & 0o111)

    @answered
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        database = self.view.workspace.database
        return file_system(os.statvfs(database.path.parent if database is not None else "/"))

    # --- extended attributes ------------------------------------------------------------------

    @answered
    async def getxattr(self, inode: InodeT, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        if not name.startswith(b"user.mstfs."):
            raise FUSEError(pyfuse3.ENOATTR)
        found = self.view.xattrs(self.inode(inode)).get(name)
        if found is None:
            raise FUSEError(pyfuse3.ENOATTR)
        return found

    @answered
    async def listxattr(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> list[bytes]:
        return sorted(self.view.xattrs(self.inode(inode)))

    # --- folders ------------------------------------------------------------------------------

    @answered
    async def opendir(self, inode: InodeT, ctx: pyfuse3.RequestContext) -> FileHandleT:
        if self.handles_are_inodes:
            raise FUSEError(errno.ENOSYS)
        await kernel_cache.told()
        return self.new_handle(self.listings.open(self.inode(inode)))

    @answered
    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self.handles[fh] if fh in self.handles else self.listings.of_unopened(self.inode(fh))
        assert isinstance(listing, Listing)
        self.listings.reply(token, listing, start_id)

    @answered
    async def releasedir(self, fh: FileHandleT) -> None:
        listing = self.handles.pop(fh, None)
        if not isinstance(listing, Listing):
            return
        self.listings.close(listing)
        if listing.path in self.view.incomplete:
            # A part could not be read. The next reader asks again: it may have been trouble that passes.
            self.view.incomplete.discard(listing.path)
            self.view.pages.forget_incomplete(listing.path)
            self.listings.withdraw()
            self.view.stale.inodes.add(listing.inode.number)
            await kernel_cache.tell(self.view.stale)

    @answered
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        if self.view.workspace.read_only:
            return
        listing = self.handles[fh]
        assert isinstance(listing, Listing)
        if listing.inode.number != ROOT:
            await trio.to_thread.run_sync(self.view.workspace.sync)
            return
        result = await self.commands.publish()
        if result["drafts"]:
            raise FUSEError(errno.EINVAL)

    @answered
    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        self.changed()
        return self.entry(self.writer.mkdir(self.inode(parent_inode), name, mode & ~ctx.umask))

    @answered
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: pyfuse3.RequestContext) -> None:
        self.changed()
        self.writer.rmdir(self.inode(parent_inode), name)

    @answered
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: pyfuse3.RequestContext) -> None:
        self.changed()
        self.writer.unlink(self.inode(parent_inode), name)
        await self._tidy()

    @answered
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        self.changed()
        return self.entry(self.writer.symlink(self.inode(parent_inode), name, target))

    @answered
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise FUSEError(errno.EPERM)

    @answered
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if not stat.S_ISREG(mode):
            raise FUSEError(errno.EPERM)
        self.changed()
        inode = self.writer.create(self.inode(parent_inode), name, mode & ~ctx.umask)
        self.writer.release(inode)
        return self.entry(inode)

    @answered
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        if flags & ~int(pyfuse3.RENAME_NOREPLACE):
            raise FUSEError(errno.EINVAL)
        self.changed()
        self.renamer.rename(
            self.inode(parent_inode_old),
            name_old,
            self.inode(parent_inode_new),
            name_new,
            replace=not flags,
        )
        await kernel_cache.tell(self.view.stale)
        await self._tidy()

    # --- files --------------------------------------------------------------------------------

    @answered
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[FileInfo, pyfuse3.EntryAttributes]:
        self.changed()
        inode = self.writer.create(self.inode(parent_inode), name, mode & ~ctx.umask)
        # Who only writes needs no cache; without it the kernel writes at once (`fast_new.c`).
        inode.past_cache = flags & os.O_ACCMODE == os.O_WRONLY or isinstance(inode.node, Command)
        info = FileInfo(fh=FileHandleT(inode.number), direct_io=inode.past_cache, keep_cache=True)
        return info, self.entry(inode)

    @answered
    async def open(self, inode: InodeT, flags: int, ctx: pyfuse3.RequestContext) -> FileInfo:
        if self.handles_are_inodes:
            raise FUSEError(errno.ENOSYS)
        target = self.inode(inode)
        write = flags & os.O_ACCMODE != os.O_RDONLY
        if write or flags & os.O_TRUNC:
            self.stand_down()
        self.writer.open(target, write=write, truncate=bool(flags & os.O_TRUNC))
        node = target.node
        if isinstance(node, Control) and not node.fixed:
            # It says something else every time: each open gets a snapshot, past the kernel's cache.
            target.opens -= 1
            handle = self.new_handle(self.view.contents(node))
            return FileInfo(fh=handle, direct_io=True, keep_cache=False)
        if isinstance(node, Command):
            return FileInfo(fh=FileHandleT(inode), direct_io=True, keep_cache=False)
        if not write:
            self.ahead.missed(target)
        # The cache is not told of what is written past it.
        handle = FileHandleT(inode if write else inode | READER)
        return FileInfo(fh=handle, direct_io=target.past_cache, keep_cache=True)

    @answered
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        snapshot = self.handles.get(fh)
        if snapshot is not None:
            assert isinstance(snapshot, bytes)
            return snapshot[off : off + size]
        inode = self.inode(fh & ~READER)
        if self.handles_are_inodes and off == 0:
            self.ahead.missed(inode)
        return self.large_files.read(inode, off, size) or self.view.read(inode, off, size)

    @answered
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        self.stand_down()
        written = self.writer.write(self.inode(fh), off, buf)
        await turns.for_the_disk(self.view.workspace)
        return written

    @answered
    async def flush(self, fh: FileHandleT) -> None:
        if self.handles_are_inodes:
            raise FUSEError(errno.ENOSYS)  # Nothing is written: the kernel need not tell of a close.
        if fh & READER or fh in self.handles:
            return  # Who only reads must not be told of what another one is half through writing.
        inode = self.inode(fh)
        if isinstance(inode.node, Command):
            await self._execute(inode)
            return
        if inode.buffer is not None:
            await self._prepare(inode)
            self.changed()
            self.writer.flush(inode)
            await kernel_cache.tell(self.view.stale)
            await turns.for_the_disk(self.view.workspace)
            self.new_files.stored(inode)

    async def _prepare(self, inode: Inode) -> None:
        """Before what was written is stored: what takes long, with turns for others."""
        if inode.buffer is not None and inode.buffer.size > STEP_BYTES:
            with suppress(MstfsError):  # What is wrong will be told when it is stored.
                await turns.take(self.writer.keeper.prepare(inode), self.view.workspace)

    async def _tidy(self) -> None:
        """After something large lost its name or its last user."""
        try:
            await turns.take(self.writer.keeper.forgetting(), self.view.workspace)
        except MstfsError as error:
            log.warning("what nobody can read any more stays until the next mount: %s", error)

    async def _execute(self, inode: Inode) -> None:
        """A command file was closed: answer what it asks, once."""
        buffer = inode.buffer
        if buffer is None or not buffer.dirty or not buffer.size or inode.reply is not None:
            return
        buffer.dirty = False
        self.changed()
        inode.reply = await self.commands.execute(buffer.read(0, buffer.size))

    @answered
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        if fh not in self.handles:
            await self._prepare(self.inode(fh & ~READER))
            self.changed()
            self.writer.settle(self.inode(fh & ~READER))
            # A disk takes its time, and others need not wait for it.
            await trio.to_thread.run_sync(self.view.workspace.sync)
            await kernel_cache.tell(self.view.stale)

    @answered
    async def release(self, fh: FileHandleT) -> None:
        if self.handles.pop(fh, None) is not None:
            return
        inode = self.inode(fh & ~READER)
        if inode.buffer is not None:
            await self._prepare(inode)
            self.changed()
        try:
            self.writer.release(inode, write=not fh & READER)
        finally:
            # Also where it could not be stored: then the kernel has what nobody keeps.
            await kernel_cache.tell(self.view.stale)
        if inode.path is not None and not fh & READER:
            self.new_files.more_in(inode.path.rpartition(b"/")[0])
        await self._tidy()
