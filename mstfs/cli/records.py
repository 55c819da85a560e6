"""Commands about records: ls, cat."""

import argparse
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from mstfs.cli import exits

if TYPE_CHECKING:
    from mstfs.archive import Archive
    from mstfs.cli.target import Target
    from mstfs.errors import MstfsError
    from mstfs.staging.tree import StagedTree
    from mstfs.tree.interface import OnMissing

CID_COLUMN = 59
"""Characters in nearly every CID."""

PAGE = 4096


def add(commands: Any) -> None:
    """Declare the commands of this family."""
    _add_ls(commands)
    _add_cat(commands)


def _add_ls(commands: Any) -> None:
    from mstfs.cli.options import add_root, add_target, declare

    parser = declare(
        commands,
        "ls",
        summary="list collections and records",
        description="List names as a mount shows them: collections (with a slash), or the records of one. "
        "PREFIX is a collection or the beginning of a name. Staged edits count; drafts and "
        "scratch files are not listed.",
        examples="mstfs ls repo.car\n"
        "mstfs ls --count repo.car\n"
        "mstfs ls -l repo.car app.bsky.feed.post\n"
        "mstfs ls repo.car app.bsky.feed.post/3jx\n"
        "mstfs ls -R --keys --root 1 mnt",
        codes="0 done; 1 a part of the tree is missing or damaged, the rest is listed; 2 no such "
        "target, root or prefix; 3 the system failed",
    )
    add_target(parser)
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX")
    parser.add_argument("-l", dest="long", action="store_true", help="also CID, bytes of the file, and time")
    parser.add_argument("-R", "--recursive", action="store_true", help="every record below, with its path")
    parser.add_argument("--keys", action="store_true", help="print keys in place of names")
    parser.add_argument("--count", action="store_true", help="print how many records each collection has")
    add_root(parser, "list an older root")
    parser.set_defaults(run=run_ls)


def _add_cat(commands: Any) -> None:
    from mstfs.cli.completion import complete_key
    from mstfs.cli.options import add_root, add_target, declare

    parser = declare(
        commands,
        "cat",
        summary="print records",
        description="Print records as a mount shows them. A KEY is `collection/rkey`, with or without the "
        "`.json` of the file. Within a mount the path of the file is enough.",
        examples="mstfs cat repo.car app.bsky.actor.profile/self\n"
        "mstfs cat mnt/app.bsky.actor.profile/self.json\n"
        "mstfs cat --cid repo.car app.bsky.actor.profile/self\n"
        "mstfs cat --cbor repo.car app.bsky.actor.profile/self > block",
        codes="0 done; 2 no such target, root or key, or a block is missing; 3 the system failed",
    )
    add_target(parser, optional=False)
    keys = parser.add_argument("keys", nargs="*", metavar="KEY")
    keys.completer = complete_key  # type: ignore[attr-defined]
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--cbor", action="store_true", help="the block as it is, DAG-CBOR")
    what.add_argument("--cid", action="store_true", help="the CIDs, one a line")
    add_root(parser, "read from an older root")
    parser.set_defaults(run=run_cat)


def entries(
    tree: "StagedTree", prefix: bytes, on_missing: "OnMissing | None" = None
) -> Iterator[tuple[bytes, bytes]]:
    """Keys and CIDs below a prefix, a page at a time."""
    after: bytes | None = None
    while page := tree.page(prefix, after, PAGE, on_missing):
        yield from page
        after = page[-1].key


# --- ls -------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """One line of a listing. Folders have neither key nor CID; `below` is the prefix of the keys in them."""

    name: str
    key: bytes | None
    cid: bytes | None
    below: bytes | None


def run_ls(arguments: argparse.Namespace) -> int:
    """`mstfs ls`."""
    from mstfs.cli.options import opened, tree_of
    from mstfs.cli.output import print_json, printable, warn
    from mstfs.errors import Refused

    trouble: list[str] = []
    shown: list[dict[str, Any]] = []

    def on_missing(error: "MstfsError") -> None:
        trouble.append(str(error))

    with opened(arguments) as target:
        archive = target.archive
        tree = tree_of(archive, arguments.root)
        where = "/".join(part for part in (target.inner, arguments.prefix) if part)
        found = False
        for row in _rows(target, tree, os.fsencode(where), arguments, on_missing):
            found = True
            entry = _described(archive, tree, row, arguments)
            if arguments.json:
                shown.append(entry)
            else:
                print(_ls_line(entry, arguments))
        if not found and where and not trouble:
            raise Refused(f"{printable(arguments.target)}: nothing begins with {printable(where)}")
    if arguments.json:
        print_json(shown)
    for message in trouble[:10]:
        warn(f"a part of the tree cannot be listed: {message}")
    return exits.DEFECTS if trouble else exits.OK


def _rows(
    target: "Target", tree: "StagedTree", where: bytes, arguments: argparse.Namespace, on_missing: "OnMissing"
) -> Iterator[_Row]:
    from mstfs.staging.status import key_text
    from mstfs.view.names import Names
    from mstfs.view.namespace import KeyNamespace

    names = Names(target.suffix)
    namespace = KeyNamespace(tree, names)
    folder = tuple(part for part in where.split(b"/") if part)
    start = b""
    if not where.endswith(b"/") and not namespace.folder_exists(folder):
        folder, start = folder[:-1], folder[-1]
    if arguments.recursive:
        for key, cid in entries(tree, names.prefix_of(folder), on_missing):
            path = names.path_of(key)
            if path[: len(folder)] == folder and path[len(folder)].startswith(start):
                yield _Row(key_text(key if arguments.keys else b"/".join(path)), key, cid, None)
        return
    for name, child_key, child_cid in namespace.children(folder, on_missing):
        if not name.startswith(start):
            continue
        if child_key is not None:
            yield _Row(key_text(child_key if arguments.keys else name), child_key, child_cid, None)
        else:
            below = names.prefix_of((*folder, name))
            yield _Row(key_text(below if arguments.keys else name + b"/"), None, None, below)


def _described(
    archive: "Archive", tree: "StagedTree", row: _Row, arguments: argparse.Namespace
) -> dict[str, Any]:
    from mstfs.codec.cid import to_text
    from mstfs.staging.status import key_text

    entry: dict[str, Any] = {
        "name": row.name,
        "kind": "folder" if row.below is not None else "record",
        "key": None if row.key is None else key_text(row.key),
        "cid": None if row.cid is None else to_text(row.cid),
        "state": None if row.key is None else "staged" if _is_staged(tree, row.key) else "published",
        "size": None,
        "time": None,
        "records": None,
    }
    if row.below is not None:
        if arguments.count:
            entry["records"] = sum(1 for _ in entries(tree, row.below))
    elif arguments.long and row.key is not None and row.cid is not None:
        entry["size"], entry["time"] = _size_and_time(archive, tree, row.key, row.cid)
    return entry


def _is_staged(tree: "StagedTree", key: bytes) -> bool:
    return tree.edits is not None and tree.edits.get(key) is not None


def _size_and_time(
    archive: "Archive", tree: "StagedTree", key: bytes, cid: bytes
) -> tuple[int | None, str | None]:
    """Bytes of the record's file (None if it cannot be shown); the time of the edit, record or commit."""
    from mstfs.cli.output import tid_ns, time_text
    from mstfs.errors import MstfsError

    try:
        size = len(_rendered(archive, tree, key, cid))
    except MstfsError:
        size = None
    edit = tree.edits.get(key) if tree.edits is not None else None
    if edit is not None:
        return size, time_text(edit.mtime_ns)
    own = tid_ns(key.rpartition(b"/")[2].decode("latin-1"))
    return size, time_text(own if own is not None else tid_ns(archive.head.rev))


def _rendered(archive: "Archive", tree: "StagedTree", key: bytes, cid: bytes) -> bytes:
    """The JSON of a record as a mount shows it: staged text as it was typed."""
    from mstfs.repo import record

    edit = tree.edits.get(key) if tree.edits is not None else None
    if tree.edits is not None and edit is not None and edit.verbatim:
        text = tree.edits.text(key)
        if text is not None:
            return text
    return record.render(archive.workspace.blocks.get(cid))


def _ls_line(entry: dict[str, Any], arguments: argparse.Namespace) -> str:
    name: str = entry["name"]
    if entry["records"] is not None:
        name = f"{name}  {entry['records']}" if not arguments.long else name
    if not arguments.long:
        return name
    size = entry["records"] if entry["kind"] == "folder" else entry["size"]
    number = "-" if size is None else str(size)
    return f"{entry['cid'] or '-':<{CID_COLUMN}} {number:>9} {entry['time'] or '-':<20} {name}"


# --- cat ------------------------------------------------------------------------------------------


def run_cat(arguments: argparse.Namespace) -> int:
    """`mstfs cat`."""
    from mstfs.cli.options import find_key, opened, tree_of
    from mstfs.cli.output import print_json, warn
    from mstfs.errors import MstfsError, Refused

    if arguments.cbor and sys.stdout.isatty() and not arguments.json:
        raise Refused("a block is binary: send the output to a file or a pipe")
    code = exits.OK
    listed = []
    with opened(arguments) as target:
        wanted = ["/".join(part for part in (target.inner, key) if part) for key in arguments.keys]
        if not wanted:
            if not target.inner:
                raise Refused("which record? Name a KEY, as `mstfs ls` shows them")
            wanted = [target.inner]
        tree = tree_of(target.archive, arguments.root)
        for text in wanted:
            try:
                found = find_key(
                    tree, target.suffix, os.fsencode(text), is_path=target.mountpoint is not None
                )
                if found is None:
                    raise Refused(_why_not(target, text, arguments))
                listed.append(_cat(target.archive, tree, found, arguments))
            except MstfsError as error:
                warn(exits.sentence(error))
                code = max(code, exits.code_of(error))
    if arguments.json:
        print_json(listed)
    return code


def _why_not(target: "Target", text: str, arguments: argparse.Namespace) -> str:
    """A sentence about a text that names no record."""
    from mstfs.cli.output import printable

    file = target.archive.workspace.files.get(os.fsencode(text))
    if file is not None and file.kind == "file" and arguments.root is None:
        if file.error is None:
            return f"{printable(text)} is a scratch file, no record"
        return f"{printable(text)} is a draft: {file.error}"
    where = target.mountpoint if target.mountpoint is not None else arguments.target
    return f"{printable(where)} has no record {printable(text)}"


def _cat(
    archive: "Archive", tree: "StagedTree", entry: tuple[bytes, bytes], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Print one record, or with --json give what is to be printed."""
    import base64
    import json

    from mstfs.cli.output import write_bytes, write_text
    from mstfs.codec.cid import to_text
    from mstfs.staging.status import key_text

    key, cid = entry
    shown: dict[str, Any] = {"key": key_text(key), "cid": to_text(cid)}
    if arguments.cid:
        if not arguments.json:
            print(shown["cid"])
    elif arguments.cbor:
        block = archive.workspace.blocks.get(cid)
        shown["block"] = base64.b64encode(block).decode("ascii")
        if not arguments.json:
            write_bytes(block)
    else:
        text = _rendered(archive, tree, key, cid)
        if arguments.json:
            shown["record"] = json.loads(text)
        else:
            write_text(text)
    return shown
