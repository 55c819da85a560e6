"""Commands about values: ls, cat."""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mstfs.cli import exits

if TYPE_CHECKING:
    from mstfs.archive import Archive
    from mstfs.cli.target import Target
    from mstfs.errors import MstfsError
    from mstfs.staging.tree import StagedTree
    from mstfs.tree.interface import OnMissing
    from mstfs.values.interface import Values
    from mstfs.view.names import Path as Parts

CID_COLUMN = 59
"""Characters in nearly every CID."""

PAGE = 4096

PIECE = 1 << 20
"""Bytes of a blob that are held at a time."""

JSON_BYTES = 16 << 20
"""Bytes of a blob that are put into a JSON document."""

NOUNS = {"mst": "record", "unixfs": "file"}
"""What a person asks for by its name; in other trees it is a key."""


def add(commands: Any) -> None:
    """Declare the commands of this family."""
    _add_ls(commands)
    _add_cat(commands)


def _add_ls(commands: Any) -> None:
    from mstfs.cli.options import add_root, add_secret, add_target, declare

    parser = declare(
        commands,
        "ls",
        summary="list the names in a tree: folders, records, blobs",
        description="List names as a mount shows them: in a repository the collections (with a slash), or "
        "the records of one; in any other tree the folders that keys or directories make, and the values in "
        "them. PREFIX is a folder or the beginning of a name. Staged edits count; drafts and scratch files "
        "are not listed. With --json each name has its kind: record (structured data, shown as JSON), blob "
        "(bytes as they are), symlink or folder.",
        examples="mstfs ls repo.car\n"
        "mstfs ls --count repo.car\n"
        "mstfs ls -l repo.car app.bsky.feed.post\n"
        "mstfs ls repo.car app.bsky.feed.post/3jx\n"
        "mstfs ls -lR zarr-hamt.car temp/c\n"
        "mstfs ls -R --keys --root 1 mnt",
        codes="0 done; 1 a part of the tree is missing or damaged, the rest is listed; 2 no such "
        "target, root or prefix; 3 the system failed",
    )
    add_target(parser)
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX")
    parser.add_argument(
        "-l",
        dest="long",
        action="store_true",
        help="also CID, bytes of the file and time; where there are records and blobs, the kind; what "
        "symbolic links point to",
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="every value below, with its path")
    parser.add_argument("--keys", action="store_true", help="print keys in place of names")
    parser.add_argument("--count", action="store_true", help="print how many values are below each folder")
    add_secret(parser)
    add_root(parser, "list an older root")
    parser.set_defaults(run=run_ls)


def _add_cat(commands: Any) -> None:
    from mstfs.cli.completion import complete_key
    from mstfs.cli.options import add_root, add_secret, add_target, declare

    parser = declare(
        commands,
        "cat",
        summary="print records and blobs",
        description="Print values as a mount shows them: records as JSON, blobs byte by byte, however "
        "large. A KEY of a repository is `collection/rkey`, with or without the `.json` of the file; in "
        "other trees it is the key, or the path of the file in a mount. Within a mount the path of the file "
        "is enough.",
        examples="mstfs cat repo.car app.bsky.actor.profile/self\n"
        "mstfs cat mnt/app.bsky.actor.profile/self.json\n"
        "mstfs cat zarr-hamt.car temp/c/0/0 > chunk\n"
        "mstfs cat --cid repo.car app.bsky.actor.profile/self\n"
        "mstfs cat --cbor repo.car app.bsky.actor.profile/self > block",
        codes="0 done; 2 no such target, root or key, or a block is missing; 3 the system failed",
    )
    add_target(parser, optional=False)
    keys = parser.add_argument("keys", nargs="*", metavar="KEY")
    keys.completer = complete_key  # type: ignore[attr-defined]
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--cbor", action="store_true", help="the stored block as it is: DAG-CBOR, or whatever the CID names"
    )
    what.add_argument("--cid", action="store_true", help="the CIDs, one a line")
    add_secret(parser)
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


def below(
    target: "Target", tree: "StagedTree", folder: "Parts", on_missing: "OnMissing | None" = None
) -> Iterator[tuple["Parts", bytes, bytes]]:
    """Path, key and CID of every value below a folder, the paths as a mount spells them."""
    from mstfs.view.directories import DirectoryNamespace
    from mstfs.view.names import ITSELF

    namespace, names = target.namespace(tree), target.names
    if isinstance(namespace, DirectoryNamespace):
        yield from namespace.keys_below(folder, on_missing)
        return
    itself = names.key_of(folder) if names.nested and folder else None
    cid = None if itself is None else tree.get(itself)
    if itself is not None and cid is not None:
        yield (*folder, ITSELF), itself, cid

    def is_folder(path: "Parts", key: bytes) -> bool:
        if not names.nested or not names.can_hold_keys(path):
            return False
        return target.is_kept(path) or bool(tree.page(key + b"/", None, 1, lambda error: None))

    for key, value in entries(tree, names.prefix_of(folder), on_missing):
        path = names.path_of(key)
        if path[: len(folder)] == folder:
            yield (*path, ITSELF) if is_folder(path, key) else path, key, value


# --- ls -------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """One line of a listing. Folders have no key, and not all of them a CID."""

    name: str
    path: "Parts"
    key: bytes | None
    cid: bytes | None


def run_ls(arguments: argparse.Namespace) -> int:
    """`mstfs ls`."""
    from mstfs.cli.options import opened, tree_of
    from mstfs.cli.output import print_json, printable, warn
    from mstfs.errors import Refused

    trouble: dict[str, None] = {}
    shown: list[dict[str, Any]] = []

    def on_missing(error: "MstfsError") -> None:
        trouble[str(error)] = None

    with opened(arguments, as_mounted=True) as target:
        tree = tree_of(target.archive, arguments.root)
        listing = _Listing(target, tree, arguments, on_missing)
        where = "/".join(part for part in (target.inner, arguments.prefix) if part)
        found = False
        for row in listing.rows(os.fsencode(where)):
            found = True
            entry = listing.described(row)
            if arguments.json:
                shown.append(entry)
            else:
                print(_ls_line(entry, arguments, target.archive.kind.name))
        if not found and where and not trouble:
            raise Refused(f"{printable(arguments.target)}: nothing begins with {printable(where)}")
    if arguments.json:
        print_json(shown)
    for message in list(trouble)[:10]:
        warn(f"a part of the tree cannot be listed: {message}")
    return exits.DEFECTS if trouble else exits.OK


class _Listing:
    """What `ls` looks at: one tree, and what is to be told about it."""

    def __init__(
        self, target: "Target", tree: "StagedTree", arguments: argparse.Namespace, on_missing: "OnMissing"
    ) -> None:
        self.target = target
        self.tree = tree
        self.arguments = arguments
        self.on_missing = on_missing
        self.values = target.archive.workspace.values
        self.mount = target.hidden(arguments.root)
        self.head_ns = _head_ns(target.archive, arguments.root)

    def rows(self, where: bytes) -> Iterator[_Row]:
        from mstfs.staging.status import key_text

        namespace = self.target.namespace(self.tree)
        folder = tuple(part for part in where.split(b"/") if part)
        start = b""
        if not where.endswith(b"/"):
            found = namespace.find(folder)
            if found is None or found.key is not None:
                folder, start = folder[:-1], folder[-1]
        if self.arguments.recursive:
            for path, key, cid in below(self.target, self.tree, folder, self.on_missing):
                if path[len(folder)].startswith(start):
                    yield _Row(key_text(key if self.arguments.keys else b"/".join(path)), path, key, cid)
            return
        for child in namespace.children(folder, self.on_missing):
            if not child.name.startswith(start):
                continue
            path = (*folder, child.name)
            if child.key is None:
                name = self._prefix(path) if self.arguments.keys else child.name + b"/"
            else:
                name = child.key if self.arguments.keys else child.name
            yield _Row(key_text(name), path, child.key, child.cid)

    def _prefix(self, folder: "Parts") -> bytes:
        """What the keys below a folder begin with."""
        from mstfs.view.directories import DirectoryNamespace

        namespace = self.target.namespace(self.tree)
        if isinstance(namespace, DirectoryNamespace):
            return (namespace.key_of(folder) or b"/".join(folder)) + b"/"
        return self.target.names.prefix_of(folder)

    def described(self, row: _Row) -> dict[str, Any]:
        from mstfs.codec.cid import to_text
        from mstfs.staging.status import key_text

        entry: dict[str, Any] = {
            "name": row.name,
            "kind": "folder" if row.key is None else None,
            "key": None if row.key is None else key_text(row.key),
            "cid": None if row.cid is None else to_text(row.cid),
            "state": None if row.key is None else "staged" if self._is_staged(row.key) else "published",
            "size": None,
            "time": None,
            "target": None,
            "records": None,
        }
        if row.key is None:
            if self.arguments.count:
                found = below(self.target, self.tree, row.path, self.on_missing)
                entry["records"] = sum(1 for _ in found)
        elif row.cid is not None and (self.arguments.long or self.arguments.json):
            entry |= self._kind(row.key, row.cid)
            if self.arguments.long:
                entry |= self._size_and_time(row.path, row.key, row.cid)
        return entry

    def _is_staged(self, key: bytes) -> bool:
        return self.tree.edits is not None and self.tree.edits.get(key) is not None

    def _kind(self, key: bytes, cid: bytes) -> dict[str, Any]:
        """The kind of a value (None if it cannot be read), and what a symbolic link points to."""
        from mstfs.errors import MstfsError
        from mstfs.staging.status import key_text

        if self.target.is_sealed(key) and self.target.archive.encoding == "cbor":
            return {"kind": None}  # Only what was decrypted tells.
        try:
            kind = self.values.kind(key, cid)
            if kind != "symlink":
                return {"kind": kind}
            points_to = self.values.read(key, cid, 0, self.values.size(key, cid))
            return {"kind": kind, "target": key_text(points_to)}
        except MstfsError:
            return {"kind": None}

    def _size_and_time(self, path: "Parts", key: bytes, cid: bytes) -> dict[str, Any]:
        """The file's bytes (None if it cannot be shown); the time of edit, value, key or head."""
        from mstfs.cli.output import tid_ns, time_text
        from mstfs.errors import MstfsError

        if self.mount is not None:
            try:
                shown = os.lstat(self.mount / os.fsdecode(b"/".join(path)))
            except OSError:
                return {"size": None, "time": None}
            return {"size": shown.st_size, "time": time_text(shown.st_mtime_ns)}
        size = own_ns = None
        try:
            text = typed(self.tree, key)
            if not self.target.is_sealed(key):
                size = self.values.size(key, cid) if text is None else len(text)
            own_ns = self.values.attributes(key, cid).mtime_ns
        except MstfsError:
            pass  # The name is there all the same.
        edit = self.tree.edits.get(key) if self.tree.edits is not None else None
        if edit is not None:
            own_ns = edit.mtime_ns
        elif own_ns is None and self.target.archive.kind.name == "mst":
            own_ns = tid_ns(key.rpartition(b"/")[2].decode("latin-1"))
        return {"size": size, "time": time_text(self.head_ns if own_ns is None else own_ns)}


def _head_ns(archive: "Archive", root: str | None) -> int:
    """The time of what has none of its own: that of the root's revision, its publication, or its file."""
    from mstfs.cli.options import head_of
    from mstfs.cli.output import tid_ns

    head = head_of(archive, root)
    of_revision = tid_ns(head.rev)
    if of_revision is not None:
        return of_revision
    history = archive.workspace.history
    event = history.head() if root is None else history.find(head.root)
    return archive.workspace.born_ns if event is None else event.time_ns


def typed(tree: "StagedTree", key: bytes) -> bytes | None:
    """The text of a staged record as it was typed, where that is not what its block is shown as."""
    edit = tree.edits.get(key) if tree.edits is not None else None
    if tree.edits is None or edit is None or not edit.verbatim:
        return None
    return tree.edits.text(key)


def _ls_line(entry: dict[str, Any], arguments: argparse.Namespace, tree: str) -> str:
    name: str = entry["name"]
    if entry["records"] is not None:
        name = f"{name}  {entry['records']}" if not arguments.long else name
    if not arguments.long:
        return name
    size = entry["records"] if entry["kind"] == "folder" else entry["size"]
    number = "-" if size is None else str(size)
    # In a repository everything that is no folder is a record.
    kind = "" if tree == "mst" else f"{entry['kind'] or '-':<8}"
    points_to = f" -> {entry['target']}" if entry["target"] is not None else ""
    return (
        f"{entry['cid'] or '-':<{CID_COLUMN}} {number:>9} {entry['time'] or '-':<20} {kind}{name}{points_to}"
    )


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
                noun = NOUNS.get(target.archive.kind.name, "key")
                raise Refused(f"which {noun}? Name a KEY, as `mstfs ls` shows them")
            wanted = [target.inner]
        tree = tree_of(target.archive, arguments.root)
        for text in wanted:
            try:
                found = find_key(target, tree, os.fsencode(text))
                if found is None:
                    raise Refused(_why_not(target, tree, text, arguments))
                listed.append(_cat(target, tree, found, arguments))
            except MstfsError as error:
                warn(exits.sentence(error))
                code = max(code, exits.code_of(error))
    if arguments.json:
        print_json(listed)
    return code


def _why_not(target: "Target", tree: "StagedTree", text: str, arguments: argparse.Namespace) -> str:
    """A sentence about a text that names no value."""
    from mstfs.cli.output import printable

    noun = NOUNS.get(target.archive.kind.name, "key")
    file = target.archive.workspace.files.get(os.fsencode(text))
    if file is not None and file.kind == "file" and arguments.root is None:
        if file.error is None:
            return f"{printable(text)} is a scratch file, no {noun}"
        return f"{printable(text)} is a draft: {file.error}"
    parts = tuple(part for part in os.fsencode(text).split(b"/") if part)
    if target.namespace(tree).find(parts) is not None:
        return f"{printable(text)} is a folder"
    where = target.mountpoint if target.mountpoint is not None else arguments.target
    return f"{printable(where)} has no {noun} {printable(text)}"


def _cat(
    target: "Target", tree: "StagedTree", entry: tuple[bytes, bytes], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Print one value, or with --json give what is to be printed."""
    import base64

    from mstfs.cli.output import write_bytes
    from mstfs.codec.cid import to_text
    from mstfs.staging.status import key_text

    key, cid = entry
    shown: dict[str, Any] = {"key": key_text(key), "cid": to_text(cid)}
    if arguments.cid:
        if not arguments.json:
            print(shown["cid"])
    elif arguments.cbor:
        block = target.archive.workspace.values.stored(cid)
        shown["block"] = base64.b64encode(block).decode("ascii")
        if not arguments.json:
            write_bytes(block)
    else:
        shown |= _cat_file(target, tree, entry, arguments)
    return shown


def _cat_file(
    target: "Target", tree: "StagedTree", entry: tuple[bytes, bytes], arguments: argparse.Namespace
) -> dict[str, Any]:
    import base64
    import json

    from mstfs.cli.output import printable, write_stream
    from mstfs.errors import Refused

    key, cid = entry
    values = target.archive.workspace.values
    mount = target.hidden(arguments.root)
    if mount is not None:
        path = mount / os.fsdecode(b"/".join(target.namespace(tree).path_of(key)))
        kind, size, pieces = "blob", path.stat().st_size, _pieces_of_file(path)
    elif target.is_sealed(key):
        raise Refused(f"{printable(key)} is encrypted: give the key with --key-file")
    else:
        kind = values.kind(key, cid)
        text = typed(tree, key)
        size = values.size(key, cid) if text is None else len(text)
        pieces = _pieces(values, key, cid, size) if text is None else iter((text,))
    if kind == "symlink":
        points_to = printable(b"".join(pieces))
        if not arguments.json:
            raise Refused(f"{printable(key)} is a symbolic link to {points_to}")
        return {"kind": kind, "target": points_to}
    if not arguments.json:
        write_stream(pieces)
        return {}
    if kind == "record":
        return {"kind": kind, "record": json.loads(b"".join(pieces))}
    if size > JSON_BYTES:
        raise Refused(f"{printable(key)} has {size} bytes, too many for JSON: leave out --json")
    return {"kind": kind, "blob": base64.b64encode(b"".join(pieces)).decode("ascii")}


def _pieces(values: "Values", key: bytes, cid: bytes, size: int) -> Iterator[bytes]:
    for offset in range(0, size, PIECE):
        yield values.read(key, cid, offset, min(PIECE, size - offset))


def _pieces_of_file(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            yield piece
