"""Commands that make, change and end mounts: mount, umount, sync, status, revert, checkout."""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mstfs.cli import exits

Commands = Any

UNMOUNT_SECONDS = 60.0


def add(commands: Commands) -> None:
    """Declare the commands of this family."""
    _add_mount(commands)
    umount = commands.add_parser(
        "umount",
        help="publish what is staged and unmount",
        description="Publish what is staged, unmount, and wait until the daemon has let go of its files. "
        "Also clears the dead mount that a killed daemon leaves behind.",
    )
    umount.add_argument("mountpoint", type=Path, metavar="MNT")
    umount.add_argument("--no-publish", action="store_true", help="leave edits staged in the overlay")
    how = umount.add_mutually_exclusive_group()
    how.add_argument("--lazy", action="store_true", help="detach now, even if files are open")
    how.add_argument(
        "--force",
        action="store_true",
        help="for a mount that hangs: ask nothing of its daemon, and give an error to all who wait for it; a "
        "daemon that goes on publishes what is staged as it ends",
    )
    umount.set_defaults(run=run_umount)
    sync = commands.add_parser(
        "sync",
        help="publish what is staged as a new root",
        description="Make a new root of every staged edit and print it. Drafts stay behind and are listed; "
        "then the exit code is 1. `sync MNT` does the same without the words.",
    )
    sync.add_argument(
        "mountpoint",
        type=Path,
        metavar="MNT",
        nargs="?",
        default=Path(),
        help="a mount, or a path inside of one (default: where you stand)",
    )
    sync.add_argument("-m", "--message", default="", help="kept in the history")
    sync.add_argument("--json", action="store_true", help="print the answer as JSON")
    sync.set_defaults(run=run_sync)
    revert = commands.add_parser(
        "revert",
        help="drop staged edits and drafts",
        description="Drop what is staged or drafted at and below the given paths of a mount. Published "
        "records show again; scratch files are left alone.",
    )
    revert.add_argument("paths", type=Path, nargs="+", metavar="PATH")
    revert.add_argument("--json", action="store_true", help="print the answer as JSON")
    revert.set_defaults(run=run_revert)
    checkout = commands.add_parser(
        "checkout",
        help="show an older root and go on from it",
        description="Make an older root the head of a mount. History only grows: the checkout is an event of "
        "its own. To look without changing anything, read MNT/.mstfs/history/N/.",
    )
    checkout.usage = "mstfs checkout [options] [MNT] ROOT"
    checkout.add_argument(
        "words",
        nargs="+",
        metavar="[MNT] ROOT",
        help="a mount (default: the one where you stand); a CID, or the number of an event in `mstfs log`",
    )
    checkout.add_argument("--force", action="store_true", help="keep staged edits, on top of the older root")
    checkout.add_argument("--json", action="store_true", help="print the answer as JSON")
    checkout.set_defaults(run=run_checkout)


def _add_mount(commands: Commands) -> None:
    from mstfs.cli.options import add_reading, key_file

    mount = commands.add_parser(
        "mount",
        help="show a CAR as a folder",
        description="Mount the tree in a CAR on a folder. Returns when the mount answers. The CAR is never "
        "written to: edits go to the overlay, a single file beside it.",
        epilog="mount options (-o), besides those of fuse(8):\n"
        "  ro                 the same as --read-only\n"
        "  allow_other        let other users in; permissions are checked by the kernel\n"
        "  nonempty           mount over a folder that is not empty\n"
        "  overlay=FILE, signing_key=FILE, publish_every=SECONDS, root=CID, format=json|cbor,\n"
        "  tree=KIND (with colons for commas), values=raw|cbor, new_files=blob|record, large=unixfs|raw,\n"
        "  key_file=FILE, key_header=TEXT, plain=PATTERN[:PATTERN...]\n\n" + exits.MEANINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    mount.add_argument("source", type=Path, metavar="FILE", help="a CAR (version 1 or 2), or an overlay")
    mount.add_argument("mountpoint", type=Path, metavar="MNT", help="an empty folder")
    mount.add_argument(
        "-f", "--foreground", action="store_true", help="stay in the foreground, log to stderr"
    )
    mount.add_argument("-o", dest="options", action="append", default=[], metavar="OPT[,OPT...]")
    mount.add_argument(
        "--overlay",
        type=Path,
        metavar="FILE",
        help="where edits are kept (default: FILE.mstfs beside the CAR, else in the user's state folder)",
    )
    mount.add_argument("--root", metavar="CID", help="the root to show, where the CAR has several or none")
    mount.add_argument("--read-only", action="store_true", help="refuse every change; take no lock")
    mount.add_argument("--format", choices=("json", "cbor"), help="how records are shown (default: json)")
    add_reading(mount)
    mount.add_argument(
        "--new-files",
        choices=("blob", "record"),
        help="what a new file in a HAMT is: bytes as they are, or a record in DAG-JSON (default: blob)",
    )
    mount.add_argument(
        "--large",
        choices=("unixfs", "raw"),
        help="how a HAMT keeps a blob that is larger than a chunk: as a UnixFS file or one block "
        "(default: unixfs)",
    )
    mount.add_argument(
        "--signing-key",
        type=key_file,
        metavar="FILE",
        help="sign commits with this key (k256 or p256; PEM or multikey); without it they are unsigned",
    )
    mount.add_argument(
        "--key-file",
        type=key_file,
        metavar="FILE",
        help="the encryption key of a HAMT's values, as py-hamt has them: 32 bytes, or as hex or base64",
    )
    mount.add_argument(
        "--key-header", metavar="TEXT", help="the header that the values were encrypted with (default: none)"
    )
    mount.add_argument(
        "--plain",
        action="append",
        metavar="PATTERN",
        help="keys, or variables of a Zarr store, whose values are not encrypted; may be given again",
    )
    mount.add_argument(
        "--publish-every", type=float, metavar="SECONDS", help="publish by itself while something is staged"
    )
    mount.add_argument(
        "--no-publish-on-unmount", action="store_true", help="leave edits staged when the mount ends"
    )
    mount.add_argument(
        "--cache-mb", type=int, default=32, metavar="MB", help="memory for rendered records (default: 32)"
    )
    mount.add_argument(
        "--verify",
        choices=("once", "always"),
        default="once",
        help="check a block's hash at its first read, or at each; what was hashed once, by this mount or an "
        "earlier one, is known again by tags that only you can make (default: once)",
    )
    mount.add_argument(
        "--log-file",
        type=Path,
        metavar="FILE",
        help="log of a mount in the background (default: state folder)",
    )
    mount.add_argument(
        "--log-level",
        choices=("error", "warning", "info", "debug"),
        default="info",
        help="log what is at least as serious as this (default: info)",
    )
    mount.set_defaults(run=run_mount)


_OWN_OPTIONS = (
    *("overlay", "signing_key", "publish_every", "root", "format"),
    *("tree", "values", "new_files", "large", "key_file", "key_header", "plain"),
)


def run_mount(arguments: argparse.Namespace) -> int:
    """`mstfs mount`."""
    settings = settings_of(arguments)
    if not settings.source.exists():
        raise FileNotFoundError(2, "", str(arguments.source))
    from mstfs import daemon, logs

    daemon.check_packages()
    daemon.check_mountpoint(settings.mountpoint, nonempty="nonempty" in settings.options)
    if arguments.foreground:
        logs.log_to(arguments.log_file, settings.log_level)
        daemon.serve(settings, lambda warnings: None)
        return exits.OK
    code, notes = daemon.run_in_background(settings, _log_file(arguments, settings.mountpoint), exits.code_of)
    for note in notes:
        print(f"mstfs: {note}", file=sys.stderr)
    return code


def _log_file(arguments: argparse.Namespace, mountpoint: Path) -> Path:
    if arguments.log_file is not None:
        return Path(os.path.abspath(arguments.log_file))
    from platformdirs import user_log_path

    name = str(mountpoint).strip("/").replace("/", "-") or "root"
    return user_log_path("mstfs") / f"{name[-200:]}.log"


def settings_of(arguments: argparse.Namespace) -> Any:
    """The settings of a mount from its arguments; `-o` may say what options say, and options win."""
    from mstfs.cli.options import key_file, kind_and_values
    from mstfs.codec.cid import parse
    from mstfs.config import Settings
    from mstfs.errors import Refused

    words = [word for group in arguments.options for word in group.split(",") if word]
    own: dict[str, str] = {}
    others = []
    for word in words:
        name, _, value = word.partition("=")
        if name in _OWN_OPTIONS:
            own[name] = value
        elif name not in ("ro", "rw", "allow_other", "defaults", "auto", "noauto", "user", "users", "nofail"):
            others.append(word)
    overlay = arguments.overlay or (Path(own["overlay"]) if "overlay" in own else None)
    try:
        key = arguments.signing_key or (key_file(own["signing_key"]) if "signing_key" in own else None)
        secret = arguments.key_file or (key_file(own["key_file"]) if "key_file" in own else None)
    except argparse.ArgumentTypeError as error:
        raise Refused(f"an option for a key {error}") from None
    header = arguments.key_header if arguments.key_header is not None else own.get("key_header", "")
    root = arguments.root or own.get("root")
    every = arguments.publish_every
    try:
        every = float(own.get("publish_every", 0)) if every is None else every
    except ValueError:
        raise Refused(f"publish_every={own['publish_every']} is no number of seconds") from None
    tree, values = kind_and_values(arguments, own)
    return Settings(
        source=Path(os.path.abspath(arguments.source)),
        mountpoint=Path(os.path.abspath(arguments.mountpoint)),
        root=parse(root) if root is not None else None,
        overlay=Path(os.path.abspath(overlay)) if overlay is not None else None,
        read_only=arguments.read_only or "ro" in words,
        tree=tree,
        values=values,
        signing_key=Path(os.path.abspath(key)) if key is not None else None,
        encryption_key=Path(os.path.abspath(secret)) if secret is not None else None,
        key_header=os.fsencode(header),
        plain=tuple(arguments.plain or filter(None, own.get("plain", "").split(":"))),
        publish_every=every,
        publish_on_unmount=not arguments.no_publish_on_unmount,
        verify=arguments.verify,
        allow_other="allow_other" in words,
        log_level=arguments.log_level,
        options=tuple(others),
    )


# --- talking to a mount ---------------------------------------------------------------------------


def run_sync(arguments: argparse.Namespace) -> int:
    """`mstfs sync`."""
    from mstfs.cli.target import ask, inside_mount

    root, _ = inside_mount(arguments.mountpoint)
    answer = ask(root, {"command": "publish", "message": arguments.message})
    if arguments.json:
        print(json.dumps(answer, indent=2))
    else:
        if answer["changed"]:
            counts = ", ".join(f"{answer[word]} {word}" for word in ("created", "updated", "deleted"))
            print(f"{answer['root']}  ({answer['kind']}; {counts})")
        else:
            print(f"{answer['root']}  (nothing to publish)")
        for draft in answer["drafts"]:
            print(f"draft, not published: {draft['path']}: {draft['error']}", file=sys.stderr)
    return exits.DEFECTS if answer["drafts"] else exits.OK


def run_revert(arguments: argparse.Namespace) -> int:
    """`mstfs revert`."""
    from mstfs.cli.target import ask, inside_mount
    from mstfs.errors import Refused

    by_mount: dict[Path, list[str]] = {}
    for path in arguments.paths:
        root, inner = inside_mount(path)
        by_mount.setdefault(root, []).append(inner)
    reverted = []
    for root, inner_paths in by_mount.items():
        answer = ask(root, {"command": "revert", "paths": inner_paths})
        reverted += [str(root / path) for path in answer["reverted"]]
    if arguments.json:
        print(json.dumps({"reverted": reverted}, indent=2))
    else:
        for line in reverted:
            print(line)
    if not reverted:
        raise Refused("nothing was staged or drafted there")
    return exits.OK


def run_checkout(arguments: argparse.Namespace) -> int:
    """`mstfs checkout`."""
    from mstfs.cli.options import split_target
    from mstfs.cli.target import ask, inside_mount, open_target, root_argument
    from mstfs.errors import Refused

    place, words = split_target(arguments.words, 1, 1)
    if len(words) != 1:
        raise Refused("checkout takes one root: mstfs checkout [MNT] ROOT")
    root, _ = inside_mount(place)
    with open_target(root) as target:
        wanted = root_argument(target.archive, words[0])
    answer = ask(root, {"command": "checkout", "root": wanted, "force": arguments.force})
    if arguments.json:
        print(json.dumps(answer, indent=2))
    else:
        print(f"{answer['root']}  (event {answer['sequence']}; before: {answer['previous']})")
    return exits.OK


def run_umount(arguments: argparse.Namespace) -> int:
    """`mstfs umount`."""
    from mstfs.cli.target import ask, is_dead_mount, read_status
    from mstfs.errors import MountError, Refused

    mountpoint = Path(os.path.abspath(arguments.mountpoint))
    if arguments.force and arguments.no_publish:
        raise Refused("a daemon that is asked nothing cannot be told not to publish: --force or --no-publish")
    if arguments.force:
        _force(mountpoint)
        return exits.OK
    if is_dead_mount(mountpoint):
        _detach(mountpoint, lazy=True)
        return exits.OK
    status = read_status(mountpoint)
    hold = arguments.no_publish and not status["read_only"]
    if hold:
        ask(mountpoint, {"command": "hold", "held": True})
    elif sum(status["staged"].values()) and not status["read_only"]:
        answer = ask(mountpoint, {"command": "publish"})
        if answer["changed"]:
            print(f"{answer['root']}  ({answer['kind']})")
    try:
        _detach(mountpoint, lazy=arguments.lazy)
    except MountError:
        if hold:
            # It goes on, and so do its settings.
            ask(mountpoint, {"command": "hold", "held": False})
        raise
    # After a lazy one the daemon lives for as long as somebody has a file open.
    if not arguments.lazy and not _gone(status["pid"], UNMOUNT_SECONDS):
        raise MountError(f"{mountpoint} is unmounted, but its daemon (pid {status['pid']}) goes on")
    return exits.OK


def _force(mountpoint: Path) -> None:
    """End a mount without a word to its daemon: nothing here waits for an answer."""
    from mstfs.errors import MountError

    resolved = mountpoint.parent.resolve() / mountpoint.name
    # Spaces and the like are spelled in octal there (proc(5)).
    spelled = re.sub(r"[\\\s]", lambda found: f"\\{ord(found[0]):03o}", str(resolved))
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    devices = [words[2] for words in lines if words[4] == spelled and "fuse.mstfs" in words]
    if not devices:
        raise MountError(f"{mountpoint} is not a mount of mstfs")
    why = None
    try:
        Path(f"/sys/fs/fuse/connections/{devices[-1].partition(':')[2]}/abort").write_text("1")
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
    _detach(mountpoint, lazy=True, force=True)
    if why is not None and os.geteuid() != 0:  # For root, umount has told the kernel.
        raise MountError(f"{mountpoint} is detached, but who hangs in it still does: {why}; try it as root")


def _detach(mountpoint: Path, *, lazy: bool, force: bool = False) -> None:
    from mstfs.errors import MountError

    if os.geteuid() == 0:
        command = ["umount", *(["-l"] if lazy else []), *(["-f", "-c"] if force else []), str(mountpoint)]
    else:
        command = ["fusermount3", "-u", *(["-z"] if lazy else []), str(mountpoint)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise MountError(f"{command[0]} is not installed: unmount {mountpoint} by hand") from None
    if done.returncode:
        raise MountError(f"{mountpoint} cannot be unmounted: {done.stderr.strip()}")


def _gone(pid: int, seconds: float) -> bool:
    """Wait until a process that is not our child has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False
