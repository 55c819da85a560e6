"""Commands that tell what changed and what will: log, status, diff."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mstfs.cli import exits

if TYPE_CHECKING:
    from mstfs.cli.target import Target
    from mstfs.repo.history import Event
    from mstfs.tree.interface import Change

LETTERS = "AMD"

PATCH_BYTES = 4 << 20
"""Bytes of a file that a patch shows; greater ones are told in one line."""


def add(commands: Any) -> None:
    """Declare the commands of this family."""
    from mstfs.cli.options import add_target, declare

    log = declare(
        commands,
        "log",
        summary="the roots that were published, newest first",
        description="Show the history in the overlay, newest first: sequence, time, what happened, root, "
        "rev (of a repository's commit, else -), values +created ~updated -deleted, message. The chain of "
        "hashes is checked every time.",
        examples="mstfs log mnt\nmstfs log -n 5 repo.car\n"
        "mstfs log --json repo.car.mstfs | jq -r '.[0].root'",
        codes="0 done; 1 the history was changed after it was written; 2 no such target; 3 the system failed",
    )
    add_target(log)
    log.add_argument("-n", type=int, dest="count", metavar="COUNT", help="show the newest COUNT events")
    log.set_defaults(run=run_log)
    status = declare(
        commands,
        "status",
        summary="what is staged, drafted and kept as scratch",
        description="Show the head, the kind of tree that it is, and what the next publication will contain, "
        "and will not: drafts (text that is no valid record, with the reason) and scratch files (names that "
        "are no keys).",
        examples="mstfs status mnt\nmstfs status repo.car\nmstfs status --exit-code mnt || mstfs sync mnt",
        codes="0 done; 1 with --exit-code: something is staged or drafted; 2 no such target; 3 the "
        "system failed",
    )
    add_target(status)
    status.add_argument(
        "--exit-code", action="store_true", help="exit with 1 if something is staged or drafted"
    )
    status.set_defaults(run=run_status)
    _add_diff(commands)


def _add_diff(commands: Any) -> None:
    from mstfs.cli.completion import complete_root
    from mstfs.cli.options import ROOT_HELP, TARGET_HELP, add_opening, add_secret, declare

    parser = declare(
        commands,
        "diff",
        summary="which values differ between two roots",
        description="List what changed, a line a key, whether its value is a record, a blob or a symbolic "
        "link: A added, M modified, D deleted. Without roots: the staged edits against the head. With A: "
        "from A to the head. With A and B: from A to B; both must be trees of one kind. Where TARGET is a "
        "folder or a file inside of a mount, only what changed there.",
        examples="mstfs diff mnt\n"
        "mstfs diff --patch mnt/app.bsky.actor.profile\n"
        "mstfs diff repo.car 1\n"
        "mstfs diff --stat repo.car 1 3\n"
        "mstfs diff two-roots.car bafyr4i... bafyr4i...",
        codes="0 done; 1 with --exit-code: there are differences; 2 no such target or root; 3 the "
        "system failed",
    )
    parser.usage = "mstfs diff [options] [TARGET] [A [B]]"
    action = parser.add_argument(
        "words", nargs="*", metavar="[TARGET] [A [B]]", help=f"{TARGET_HELP}, then roots: {ROOT_HELP}"
    )
    action.completer = complete_root  # type: ignore[attr-defined]
    add_opening(parser)
    add_secret(parser)
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument(
        "-p",
        "--patch",
        action="store_true",
        help="show the lines that changed in each record, text or link; of other blobs, their sizes",
    )
    shape.add_argument(
        "--stat", action="store_true", help="count the changes of each collection or topmost folder"
    )
    parser.add_argument("--exit-code", action="store_true", help="exit with 1 if there are differences")
    parser.set_defaults(run=run_diff)


# --- log ------------------------------------------------------------------------------------------


def run_log(arguments: argparse.Namespace) -> int:
    """`mstfs log`."""
    from mstfs.cli.options import opened
    from mstfs.cli.output import print_json, warn
    from mstfs.errors import OverlayDamaged, Refused

    if arguments.count is not None and arguments.count < 0:
        raise Refused("-n takes a number of events, not a negative one")
    code = exits.OK
    with opened(arguments) as target:
        archive = target.archive
        shown: list[dict[str, Any]] = []
        for event in archive.history():
            if arguments.count is not None and len(shown) >= arguments.count:
                break
            shown.append(_event_json(event))
            if not arguments.json:
                print(_event_line(event))
        if not shown and arguments.count != 0:
            warn("no history: nothing was ever staged or published on this CAR")
        try:
            archive.workspace.history.check()
        except OverlayDamaged as error:
            warn(f"{archive.overlay_path}: {error}")
            code = exits.DEFECTS
    if arguments.json:
        print_json(shown)
    return code


def _event_json(event: "Event") -> dict[str, Any]:
    from mstfs.cli.output import time_text
    from mstfs.codec.cid import to_text

    return {
        "sequence": event.sequence,
        "time": time_text(event.time_ns),
        "kind": event.kind,
        "root": to_text(event.root),
        "data": to_text(event.data),
        "rev": event.rev,
        "created": event.created,
        "updated": event.updated,
        "deleted": event.deleted,
        "message": event.message,
        "hash": event.hash.hex(),
        "previous": event.previous.hex() if event.previous is not None else None,
    }


def _event_line(event: "Event") -> str:
    from mstfs.cli.output import painted, printable, time_text
    from mstfs.codec.cid import to_text

    words = (
        painted(f"{event.sequence:>4}", "bold"),
        time_text(event.time_ns) or "-",
        f"{printable(event.kind):<8}",
        to_text(event.root),
        printable(event.rev or "-"),
        f"+{event.created} ~{event.updated} -{event.deleted}",
        printable(event.message),
    )
    return "  ".join(words).rstrip()


# --- status ---------------------------------------------------------------------------------------


def run_status(arguments: argparse.Namespace) -> int:
    """`mstfs status`."""
    from mstfs.cli.options import opened
    from mstfs.cli.output import print_json
    from mstfs.staging.status import change_json, staged_changes, status

    with opened(arguments) as target:
        workspace = target.archive.workspace
        # The daemon knows more than the overlay does: what it could not do, and what is still in its memory.
        now = target.status if target.status is not None and not arguments.car_only else status(workspace)
        changes = list(staged_changes(workspace))
        event = workspace.history.find(workspace.head.root)
    if arguments.json:
        print_json({**now, "changes": [change_json(change) for change in changes]})
    else:
        for line in _status_lines(now, changes, event):
            print(line)
    busy = bool(sum(now["staged"].values()) or now["drafts"])
    return exits.DEFECTS if arguments.exit_code and busy else exits.OK


def _status_lines(now: dict[str, Any], changes: "list[Change]", published: "Event | None") -> Iterator[str]:
    from mstfs.cli.output import counted, human_size, painted, printable

    kind = now["kind"] if now["kind"] != "unsigned" else painted("UNSIGNED", "yellow")
    if now["tree"] != "mst":
        kind = now["tree"]
    rev = f", rev {printable(now['rev'])}" if now["rev"] else ""
    event = f", event {published.sequence}" if published is not None else ""
    yield f"head {now['root']} ({kind}{rev}{event})"
    if now.get("mountpoint"):
        mode = "commits not signed" if now["tree"] == "mst" else "writable"
        if now["read_only"]:
            mode = "read only"
        elif now["signing"] and now["tree"] == "mst":
            mode = f"commits signed by {now['signing']}"
        secret = ", encrypted" if now.get("encrypted") else ""
        yield f"mounted on {printable(now['mountpoint'])} ({mode}{secret}, pid {now['pid']})"
    staged = now["staged"]
    if sum(staged.values()):
        yield f"staged: {staged['put']} put, {staged['delete']} deleted"
        yield from (f"  {line}" for line in _change_lines(changes))
    else:
        yield "nothing staged"
    if now["drafts"]:
        yield f"{counted(len(now['drafts']), 'draft')}, not published before they are valid:"
        for draft in now["drafts"]:
            yield f"  {printable(draft['path'])}: {printable(draft['error'])}"
    scratch = now["scratch"]
    if scratch["files"]:
        yield f"scratch, never published: {counted(scratch['files'], 'file')}, {human_size(scratch['bytes'])}"
    if now.get("torn"):
        yield painted(f"the CAR is torn: {printable(now['torn'])}", "red")
    if now.get("errors"):
        yield painted(f"{counted(now['errors'], 'request')} failed since the mount: see its log", "red")
    if now.get("last_publish_error"):
        yield painted(f"the last publication failed: {printable(now['last_publish_error'])}", "red")


# --- diff -----------------------------------------------------------------------------------------


def run_diff(arguments: argparse.Namespace) -> int:
    """`mstfs diff`."""
    from mstfs.cli.options import head_of, opened, split_target
    from mstfs.cli.output import print_json
    from mstfs.codec.cid import to_text
    from mstfs.errors import Refused
    from mstfs.staging.status import change_json, staged_changes

    arguments.target, roots = split_target(arguments.words, 0, 2)
    if len(roots) > 2:
        raise Refused("diff compares two roots at the most")
    with opened(arguments) as target:
        archive = target.archive
        if arguments.patch and target.lacks_key:
            raise Refused("the values are encrypted: give the key with --key-file, or leave out --patch")
        before = head_of(archive, roots[0] if roots else None)
        after = head_of(archive, roots[1] if len(roots) > 1 else None) if roots else None
        found: Iterable[Change]
        if after is None:
            found = staged_changes(archive.workspace)
        else:
            found = archive.workspace.tree.diff(before.data, after.data).changes
        changes = [change for change in found if _is_within(target, change.key)]
        if arguments.json:
            listed = [change_json(change) for change in changes]
            if arguments.patch:
                for entry, change in zip(listed, changes, strict=True):
                    entry["patch"] = "".join(_patch(target, change))
            root_after = to_text(after.root) if after is not None else None
            print_json(
                {
                    "from": to_text(before.root),
                    "to": root_after,
                    "staged": after is None,
                    "counts": _counts(changes),
                    "changes": listed,
                }
            )
        elif arguments.stat:
            _print_stat(changes, target.noun)
        elif arguments.patch:
            for change in changes:
                _print_patch(_patch(target, change))
        else:
            for line in _change_lines(changes):
                print(line)
    return exits.DEFECTS if arguments.exit_code and changes else exits.OK


def _is_within(target: "Target", key: bytes) -> bool:
    """Whether a key lies at or below the path that the target names."""
    if not target.inner:
        return True
    inner = tuple(os.fsencode(target.inner).split(b"/"))
    namespace = target.namespace(target.archive.workspace.staged)
    return namespace.path_of(key)[: len(inner)] == inner


def _counts(changes: "Iterable[Change]") -> dict[str, int]:
    from mstfs.staging.status import change_letter

    letters = [change_letter(change) for change in changes]
    return dict(zip(("added", "modified", "deleted"), map(letters.count, LETTERS), strict=True))


def _change_lines(changes: "Iterable[Change]") -> Iterator[str]:
    from mstfs.cli.output import Colour, painted
    from mstfs.staging.status import change_lines

    colours: dict[str, Colour] = {"A": "green", "M": "yellow", "D": "red"}
    for line in change_lines(iter(changes)):
        yield painted(line, colours[line[0]])


def _print_stat(changes: "list[Change]", noun: str) -> None:
    from mstfs.cli.output import counted
    from mstfs.staging.status import key_text

    groups: dict[bytes, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.key.partition(b"/")[0], []).append(change)
    width = max((len(key_text(name)) for name in groups), default=0)
    for name, group in groups.items():
        counts = _counts(group)
        print(f"{key_text(name):<{width}}  +{counts['added']} ~{counts['modified']} -{counts['deleted']}")
    counts = _counts(changes)
    words = ", ".join(f"{number} {word}" for word, number in counts.items())
    print(f"{counted(len(changes), noun)}: {words}")


def _patch(target: "Target", change: "Change") -> Iterator[str]:
    """A unified diff of the two texts; each line ends in a newline. One line about what is no text."""
    from difflib import unified_diff

    from mstfs.staging.status import key_text

    name = key_text(change.key) + (".json" if target.archive.kind.name == "mst" else "")
    before = "/dev/null" if change.old is None else f"a/{name}"
    after = "/dev/null" if change.new is None else f"b/{name}"
    old, new = (_Side(target, change.key, cid) for cid in (change.old, change.new))
    if old.lines is None or new.lines is None:
        yield f"--- {before}\n"
        yield f"+++ {after}\n"
        yield f"binary: {old.size} bytes, then {new.size} bytes\n"
        return
    if old.lines == new.lines:
        # An empty file came or went, or what a value says beside its bytes is another.
        yield f"--- {before}\n"
        yield f"+++ {after}\n"
    yield from unified_diff(old.lines, new.lines, before, after)


class _Side:
    """One of the two files that a change is about; `lines` is None if it is no text that a patch can show."""

    def __init__(self, target: "Target", key: bytes, cid: bytes | None) -> None:
        from mstfs.errors import MstfsError

        self.size = 0
        self.lines: list[str] | None = []
        if cid is None:
            return
        values = target.archive.workspace.values
        try:
            self.size = values.size(key, cid)
            data = b"\0"
            if self.size <= PATCH_BYTES:
                data = values.read(key, cid, 0, self.size)
        except MstfsError as error:
            # The rest of the changes can still be shown.
            data = f"(cannot be shown: {error})\n".encode()
        self.lines = _lines(data)


def _lines(data: bytes) -> list[str] | None:
    if b"\0" in data:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return [line + "\n" for line in text.removesuffix("\n").split("\n")] if text else []


def _print_patch(lines: Iterable[str]) -> None:
    from mstfs.cli.output import Colour, painted, without_controls

    colours: dict[str, Colour] = {"+": "green", "-": "red", "@": "cyan"}
    on_terminal = sys.stdout.isatty()
    for number, line in enumerate(lines):
        shown = line.removesuffix("\n")
        if on_terminal:
            shown = without_controls(shown)
        colour = "bold" if number < 2 else colours.get(line[:1])
        print(painted(shown, colour) if colour else shown)
