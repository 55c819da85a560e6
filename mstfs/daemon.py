"""The daemon: opens an archive, mounts it, serves it, publishes and unmounts.

Tricky bits
    The process that mounts in the background is a fork of the command; it is made before anything is
    opened. What goes wrong before the mount answers is told through a pipe, with its exit code.
    DESTROY arrives after the last close, when nothing can be answered any more: what is published then is
    published by the daemon before it exits.
"""

import ctypes
import errno
import gc
import json
import logging
import os
import re
import signal
import socket
import stat
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from mstfs import __version__
from mstfs.archive import Archive
from mstfs.codec.cid import to_text
from mstfs.config import Settings
from mstfs.errors import MountError, MstfsError, OverlayBusy
from mstfs.logs import about, log_to
from mstfs.repo.signing import SigningKey, load_signing_key, mode_is_private
from mstfs.values.cipher import Cipher, load_key
from mstfs.view.page_store import PageStore, place_of
from mstfs.view.view import View

log = logging.getLogger("mstfs")

Ready = Callable[[list[str]], None]

TERMINATE_SECONDS = 0.05
"""How often a mount that is to end is told so."""

SWITCH_SECONDS = 0.0005
"""How long a thread that plans a publication goes on, in Python, while somebody waits for an answer."""

BUSY_SECONDS = 10.0
"""How long a mount waits for the daemon before it to let go of the overlay."""

# What mallopt sets: the size from which memory is mapped on its own, and that which is kept when it is free.
_M_MMAP_THRESHOLD = -3
_M_TRIM_THRESHOLD = -1


def notify(state: str) -> None:
    """Tell the service manager. Source: sd_notify(3); does nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        try:
            manager.sendto(state.encode(), address)
        except OSError as error:
            log.warning("the service manager cannot be told %r: %s", state, error)


def check_mountpoint(path: Path, *, nonempty: bool = False) -> None:
    """Raise MountError, in one sentence, unless something can be mounted on this folder."""
    try:
        os.statvfs(path)  # Of a dead mount the kernel may still answer a stat by itself.
        found = path.stat()
    except FileNotFoundError:
        raise MountError(f"mount point {path} does not exist") from None
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise MountError(f"{path} is a dead mount: clear it with `mstfs umount {path}`") from None
        raise MountError(f"mount point {path} cannot be used: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise MountError(f"mount point {path} is not a folder")
    if os.path.ismount(path):
        raise MountError(f"mount point {path} is busy: something is mounted there already")
    try:
        if not nonempty and any(path.iterdir()):
            raise MountError(f"mount point {path} is not empty (-o nonempty mounts over what is there)")
    except PermissionError:
        raise MountError(f"mount point {path} cannot be read: permission denied") from None
    if not os.path.exists("/dev/fuse"):
        raise MountError("/dev/fuse is missing: load the kernel's fuse module, or give it to this container")
    if os.geteuid() == 0:
        try:
            os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            raise MountError(f"/dev/fuse cannot be opened: {error.strerror}") from None
    elif not os.access(path, os.W_OK):
        raise MountError(f"mount point {path} is not yours to write to")


def check_packages() -> None:
    """Raise MountError where the packages that mounting needs are not installed."""
    from mstfs.fuse import fast_path

    fast_path.load()
    try:
        import pyfuse3  # noqa: F401
        import trio  # noqa: F401
    except ImportError as error:
        raise MountError(f"mounting needs the packages of `pip install mstfs[mount]`: {error}") from None


def _open_archive(settings: Settings) -> Archive:
    """Open for writing, waiting for a daemon that is just letting go."""
    cipher = _cipher(settings)
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return Archive.open(
                settings.source,
                mode="read" if settings.read_only else "write",
                root=settings.root,
                overlay=settings.overlay,
                verify="always" if settings.verify == "always" else "once",
                tree=settings.tree,
                options=settings.values,
                cipher=cipher,
                plain=settings.plain,
            )
        except OverlayBusy:
            if time.monotonic() > deadline or _is_mounted_for_writing(settings.source):
                raise
            time.sleep(0.05)


def _is_mounted_for_writing(source: Path) -> bool:
    """True if a daemon serves the archive, and so is not about to let go of it."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        name, _, kind, options = line.split(" ")[:4]
        # Blanks and backslashes are written in octal there.
        plain = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), name)
        if kind == "fuse.mstfs" and plain == str(source) and "ro" not in options.split(","):
            return True
    return False


def _signer(settings: Settings) -> SigningKey | None:
    if settings.signing_key is None:
        return None
    if not mode_is_private(settings.signing_key):
        log.warning("signing key %s can be read by others: chmod 600 it", settings.signing_key)
    return load_signing_key(settings.signing_key)


def _cipher(settings: Settings) -> Cipher | None:
    if settings.encryption_key is None:
        return None
    if not mode_is_private(settings.encryption_key):
        log.warning("encryption key %s can be read by others: chmod 600 it", settings.encryption_key)
    return Cipher(load_key(settings.encryption_key), settings.key_header)


def _mount_options(settings: Settings, archive: Archive) -> set[str]:
    source = str(settings.source.absolute()).replace("\\", "\\\\").replace(",", "\\,")
    options = {f"fsname={source}", "subtype=mstfs", "nosuid", "nodev"}
    options |= {option for option in settings.options if option != "nonempty"}
    if archive.workspace.read_only:
        options.add("ro")
    if settings.allow_other:
        options.add("allow_other")
    if os.geteuid() != 0 or options & {"ro", "allow_other", "allow_root"}:
        # To check permissions, the kernel asks for the attributes of a folder again before each change in
        # it. Where root is alone they keep nobody from anything.
        options.add("default_permissions")
    return options


def serve(settings: Settings, ready: Ready) -> None:
    """Mount, call `ready` with what the user should know, serve until the end, publish, let go.

    Raises MountError, OverlayError, CarError and their kin where it cannot begin; PublishError and
    StorageFull where the last publication failed (edits stay staged).
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # Until there is something to tell; it must not end us.
    check_packages()
    import pyfuse3
    import trio

    from mstfs.fuse.commands import Commands
    from mstfs.fuse.fast_path import FastPath
    from mstfs.fuse.operations import Operations
    from mstfs.fuse.waiting import wait_awake

    check_mountpoint(settings.mountpoint, nonempty="nonempty" in settings.options)
    signer = _signer(settings)
    with _open_archive(settings) as archive:
        umask = os.umask(0)
        os.umask(umask)
        view = View(archive.workspace, umask=umask)
        commands = Commands(view, signer, archive.clock_id)
        operations = Operations(view, commands)
        options = _mount_options(settings, archive)
        operations.for_root_alone = "default_permissions" not in options
        view.control.extra = lambda: _about(settings, archive, operations, commands)
        try:
            pyfuse3.init(operations, str(settings.mountpoint.absolute()), options)
        except RuntimeError as error:
            raise MountError(
                f"{settings.mountpoint} cannot be mounted: {error}; the reason stands above if fusermount3 "
                "gave one (allow_other needs user_allow_other in /etc/fuse.conf, unless you are root)"
            ) from None
        operations.go_fast(FastPath(), archive.car)
        wait_awake(operations.fast, lambda: operations.answering > 0, operations.look_ahead)
        if archive.car is not None and not archive.encrypted:
            # Another version may show the same block in another way, and a listing says how long that is.
            how = f"{__version__} {archive.kind.spelled} {archive.encoding} {settings.values.form}"
            view.pages.let_go = partial(_let_go, archive)
            view.pages.store = PageStore(place_of(archive.car.path, archive.car.fingerprint), how)
        gc.freeze()  # What lives now lives to the end.
        sys.setswitchinterval(SWITCH_SECONDS)
        _keep_freed_memory()
        try:
            announce = partial(_announce, settings, lambda: ready(_warnings(archive)))
            instruments = [operations.pauses] if operations.pauses is not None else []
            trio.run(_run, settings, operations, commands, announce, instruments=instruments)
        finally:
            notify("STOPPING=1")
            operations.large_files.end()
            pyfuse3.close(unmount=True)
            _settle(operations)
            wanted = settings.publish_on_unmount and not commands.held
            if wanted and not archive.workspace.read_only and archive.workspace.edits:
                from mstfs.publish.plan import publish

                event = publish(archive.workspace, signer, clock_id=archive.clock_id)
                if event is not None:
                    log.info("published event %d on unmounting", event.sequence)


def _settle(operations: Any) -> None:
    """Whatever is still in a buffer becomes an edit or a draft: nobody can close it any more."""
    operations.new_files.take_over()
    for inode in list(operations.view.inodes.by_number.values()):
        if inode.buffer is not None and inode.buffer.dirty and inode.path is not None:
            try:
                operations.writer.commit(inode, final=True)
            except (OSError, MstfsError) as error:
                log.error("open, and could not be kept: %s", error, extra=about(path=inode.path, error=error))


async def _run(
    settings: Settings, operations: Any, commands: Any, announce: Callable[[], Awaitable[None]]
) -> None:
    import pyfuse3
    import trio

    from mstfs.fuse.dump import dump_on_signal

    async def on_signals() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("ending on %s", signal.Signals(number).name)
                break
        while True:
            # Told once, pyfuse3 may go on waiting for a request; this ends when its loop does.
            pyfuse3.terminate()
            await trio.sleep(TERMINATE_SECONDS)

    async def publish_now_and_then() -> None:
        while True:
            await trio.sleep(settings.publish_every)
            if len(operations.view.workspace.edits):
                try:
                    await commands.publish()
                except MstfsError as error:
                    log.error(
                        "publishing failed, and is tried again in %g s: %s", settings.publish_every, error
                    )

    async def feed_watchdog(seconds: float) -> None:
        while True:
            notify("WATCHDOG=1")
            await trio.sleep(seconds)

    dump_on_signal(lambda: operations.view.control.extra())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(on_signals)
        if settings.publish_every > 0 and not operations.view.workspace.read_only:
            nursery.start_soon(publish_now_and_then)
        watchdog = os.environ.get("WATCHDOG_USEC", "")
        if watchdog.isdigit() and int(watchdog) > 0:
            nursery.start_soon(feed_watchdog, int(watchdog) / 2e6)
        nursery.start_soon(announce)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


def _keep_freed_memory() -> None:
    """What is freed stays with the process, up to some MiB, until `_let_go`.

    Each part of a large file takes memory and frees it again, and to be given new pages takes a third of the
    time that it takes to hash what they hold. Source: mallopt(3).
    """
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 4 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 16 << 20)


def _let_go(archive: Archive, everything: bool) -> None:
    """Much was looked at once: what is not needed soon need not stay in memory."""
    if archive.car is not None:
        archive.car.let_go()
    if not everything:
        return
    archive.workspace.values.let_go()
    with suppress(AttributeError, OSError):
        # Of the C library, if it is glibc: what was freed goes back to the system.
        ctypes.CDLL(None).malloc_trim(0)


async def _announce(settings: Settings, announce: Callable[[], None]) -> None:
    """Say that the mount answers, once it does: the first stat waits for the kernel's handshake."""
    import trio

    from mstfs.fuse.kernel_cache import read_further_ahead

    found = await trio.to_thread.run_sync(os.stat, settings.mountpoint, abandon_on_cancel=True)
    read_further_ahead(found.st_dev)
    notify(f"READY=1\nSTATUS={settings.source} on {settings.mountpoint}")
    announce()


def _about(settings: Settings, archive: Archive, operations: Any, commands: Any) -> dict[str, Any]:
    """What the daemon adds to the status."""
    asked, cache = operations.requests, operations.view.values.cache
    return {
        "source": str(archive.car.path if archive.car is not None else settings.source),
        "overlay": str(archive.overlay_path) if archive.overlay_path is not None else None,
        "mountpoint": str(settings.mountpoint.absolute()),
        "pid": os.getpid(),
        "format": settings.values.form,
        "tree": archive.kind.spelled,
        "values": archive.encoding,
        "encrypted": settings.encryption_key is not None,
        "open_requests": not operations.handles_are_inodes,
        "signing": commands.signer.did_key if commands.signer is not None else None,
        "torn": archive.car.torn if archive.car is not None else None,
        "answered_without_python": operations.fast.answered,
        "pushed": operations.fast.pushed,
        "errors": operations.errors,
        "requests": {
            "total": sum(asked.values()),
            **{name: asked[name] for name in sorted(asked) if asked[name]},
        },
        "cache": {"hits": cache.hits, "misses": cache.misses, "bytes": cache.held} if cache else None,
        "last_publish": _last_publish(archive),
        "last_publish_error": commands.last_error,
        **({"pauses_ms": operations.pauses.longest} if operations.pauses is not None else {}),
    }


def _last_publish(archive: Archive) -> dict[str, Any] | None:
    """The newest event, whoever made it."""
    event = archive.workspace.history.head()
    if event is None:
        return None
    moment = datetime.fromtimestamp(event.time_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    return {"sequence": event.sequence, "root": to_text(event.root), "kind": event.kind, "time": moment}


def _warnings(archive: Archive) -> list[str]:
    """What is wrong with an archive that can be mounted all the same."""
    found = []
    if archive.car is not None and archive.car.torn:
        found.append(f"{archive.car.path}: {archive.car.torn}; what lies behind is missing (EIO)")
    if archive.workspace.why_read_only is not None:
        found.append(archive.workspace.why_read_only)
    for warning in found:
        log.warning("%s", warning)
    return found


def run_in_background(
    settings: Settings, log_file: Path | None, exit_code_of: Callable[[BaseException], int]
) -> tuple[int, list[str]]:
    """Fork a daemon and wait until its mount answers. Returns an exit code and what the user should know."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        code = 70
        try:
            os.setsid()
            code = _child(settings, log_file, write_end, exit_code_of)
        finally:
            os._exit(code)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        answer = pipe.read()
    if answer:
        told = json.loads(answer)
        if told["ok"]:
            return 0, told["warnings"]
        os.waitpid(pid, 0)
        return told["code"], [told["error"]]
    _, status = os.waitpid(pid, 0)
    return 70, [f"the daemon ended before its mount answered (wait status {status})"]


def _child(
    settings: Settings, log_file: Path | None, pipe: int, exit_code_of: Callable[[BaseException], int]
) -> int:
    told = False

    def tell(answer: dict[str, Any]) -> None:
        nonlocal told
        if not told:
            told = True
            os.write(pipe, json.dumps(answer).encode())
            os.close(pipe)
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)

    def ready(warnings: list[str]) -> None:
        tell({"ok": True, "warnings": warnings})

    try:
        log_to(log_file, settings.log_level)
        os.chdir("/")
        serve(settings, ready)
    except BaseException as error:
        said = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.filename:
            said = f"{error.filename}: {error.strerror}"
        if not isinstance(error, MstfsError | OSError):
            log.exception("the daemon ends on an unexpected error")
        elif log.handlers:
            log.error("%s", said)
        code = exit_code_of(error)
        tell({"ok": False, "error": said, "code": code})
        return code
    return 0
