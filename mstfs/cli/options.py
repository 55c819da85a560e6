"""What commands have in common: how they are declared, what they work on, how roots and keys are named."""

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mstfs.archive import Archive
    from mstfs.cli.target import Reading, Target
    from mstfs.repo.head import Head
    from mstfs.staging.tree import StagedTree

TARGET_HELP = "a mounted folder or a path inside of it, a CAR, or an overlay file"
TREE_NAMES = ("mst", "hamt2", "hamt3", "hashmap", "filecoin", "unixfs", "sharded-zarr")
ROOT_HELP = "a CID, the number of an event in `mstfs log`, or `head`"


class Formatter(argparse.HelpFormatter):
    """Fills paragraphs of one line, and leaves texts of several lines as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "".join(indent + line for line in text.splitlines(keepends=True))


def declare(
    commands: Any,
    name: str,
    *,
    summary: str,
    description: str,
    examples: str,
    codes: str = "0 done; 2 no such target, root or key, or it cannot be read; 3 the system failed",
) -> argparse.ArgumentParser:
    """Declare a command: `examples` are lines of shell, `codes` say what its exit codes mean."""
    shown = "".join(f"  {line}\n" for line in examples.splitlines())
    told = "".join(f"  {code.strip()}\n" for code in codes.split(";"))
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{shown}\nexit codes:\n{told}",
        formatter_class=Formatter,
    )
    return parser


def add_target(parser: argparse.ArgumentParser, *, optional: bool = True) -> None:
    """Declare TARGET and how it is to be opened, and --json."""
    if optional:
        summary = f"{TARGET_HELP} (default: the mount where you stand)"
        parser.add_argument("target", type=Path, metavar="TARGET", nargs="?", default=Path(), help=summary)
    else:
        parser.add_argument("target", type=Path, metavar="TARGET", help=TARGET_HELP)
    add_opening(parser)


def add_opening(parser: argparse.ArgumentParser) -> None:
    """Declare how a target is to be opened, and --json."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--car-only", action="store_true", help="show the CAR alone, without its overlay")
    which.add_argument("--overlay", type=Path, metavar="FILE", help="show the CAR with this overlay")
    add_reading(parser)
    add_json(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Declare what a person may say about a tree that the file does not say."""
    action = parser.add_argument(
        "--tree",
        metavar="KIND",
        help="what kind of tree the root is, where that cannot be told: mst, hamt2, hamt3, hashmap, unixfs, "
        "sharded-zarr, filecoin,width=BITS,bucket=ENTRIES,hash=NAME",
    )
    action.completer = lambda **_: TREE_NAMES  # type: ignore[attr-defined]
    parser.add_argument(
        "--values",
        choices=("auto", "raw", "cbor"),
        help="whether the values of a HAMT of py-hamt 3 are plain bytes or DAG-CBOR (default: find out)",
    )


def key_file(text: str) -> Path:
    """The file that an option for a secret names, for argparse.

    A key that stands there itself is refused and not repeated: other users see the arguments of a process,
    and messages are logged.
    """
    path = Path(text)
    if not os.path.lexists(path) and _is_key(text):
        raise argparse.ArgumentTypeError(
            "takes the name of a file, and this is a key itself: put it into a file of mode 0600, "
            "and take a new one if others may have seen it"
        )
    return path


def _is_key(text: str) -> bool:
    from mstfs.errors import MstfsError
    from mstfs.repo.signing import parse_signing_key
    from mstfs.values.cipher import KEY_BYTES, parse_key

    if "PRIVATE KEY" in text or re.fullmatch(r"(\w+:)?[0-9a-fA-F]{32,}|z[1-9A-Za-z]{40,60}", text):
        return True
    if len(text) == KEY_BYTES or ("/" in text and Path(text).parent.is_dir()):
        return False  # Any name of this length could be one; and a place that is there was meant as one.
    for parse in (parse_signing_key, parse_key):
        with suppress(MstfsError):
            parse(os.fsencode(text))
            return True
    return False


def add_secret(parser: argparse.ArgumentParser) -> None:
    """Declare the key that values are encrypted with."""
    parser.add_argument(
        "--key-file",
        type=key_file,
        metavar="FILE",
        help="the encryption key of a HAMT's values: 32 bytes, or as hex or base64",
    )
    parser.add_argument(
        "--key-header", metavar="TEXT", help="the header that the values were encrypted with (default: none)"
    )
    parser.add_argument(
        "--plain",
        action="append",
        metavar="PATTERN",
        help="keys, or variables of a Zarr store, whose values are not encrypted; may be given again",
    )


def kind_and_values(arguments: argparse.Namespace, own: dict[str, str] | None = None) -> Any:
    """The kind of tree and the `ValueOptions` that the arguments name, else `own` options, else nobody.

    Raises Refused for words that mean nothing.
    """
    from mstfs.errors import Refused
    from mstfs.tree.kinds import parse
    from mstfs.values.interface import ValueOptions

    own = own or {}
    known = {
        "form": ("format", ("json", "cbor")),
        "encoding": ("values", ("auto", "raw", "cbor")),
        "new_files": ("new_files", ("blob", "record")),
        "large": ("large", ("unixfs", "raw")),
    }
    chosen: dict[str, Any] = {}
    for field, (name, words) in known.items():
        value = getattr(arguments, name, None) or own.get(name)
        if value is not None and value not in words:
            raise Refused(f"{name}={value}: {' and '.join(words)} are known")
        if value is not None:
            chosen[field] = value
    if getattr(arguments, "cache_mb", None) is not None:
        chosen["cache_bytes"] = max(arguments.cache_mb, 1) << 20
    tree = getattr(arguments, "tree", None) or own.get("tree")
    return (parse(tree) if tree is not None else None), ValueOptions(**chosen)


def reading_of(arguments: argparse.Namespace) -> "Reading":
    """What the arguments say about a tree and its values. Refused; DecryptionError for a bad key file."""
    from dataclasses import replace

    from mstfs.cli.target import Reading

    tree, options = kind_and_values(arguments)
    # A command that makes something new has a --values for that.
    if hasattr(arguments, "source_values"):
        options = replace(options, encoding=arguments.source_values or "auto")
    path: Path | None = getattr(arguments, "key_file", None)
    if path is None:
        return Reading(tree, options)
    from mstfs.cli.output import printable, warn
    from mstfs.repo.signing import mode_is_private
    from mstfs.values.cipher import Cipher, load_key

    if not mode_is_private(path):
        warn(f"{printable(path)} can be read by other users: chmod 600 it")
    cipher = Cipher(load_key(path), os.fsencode(arguments.key_header or ""))
    return Reading(tree, options, cipher, tuple(getattr(arguments, "plain", None) or ()))


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare --json."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def add_root(parser: argparse.ArgumentParser, summary: str) -> None:
    """Declare --root."""
    from mstfs.cli.completion import complete_root

    action = parser.add_argument("--root", metavar="ROOT", help=f"{summary}: {ROOT_HELP}")
    action.completer = complete_root  # type: ignore[attr-defined]


def split_target(words: list[str], fewest: int, most: int) -> tuple[Path, list[str]]:
    """TARGET, or the mount where one stands, and the words behind it: from `fewest` to `most` of them.

    A first word that must be a target is one; one that may be is one if there is such a file or folder.
    """
    from mstfs.cli.target import is_mounted

    may_be = len(words) > fewest and os.path.lexists(words[0])
    if len(words) > most or may_be or (len(words) > fewest and not is_mounted(Path())):
        return Path(words[0]), words[1:]
    return Path(), words


@contextmanager
def opened(arguments: argparse.Namespace, *, as_mounted: bool = False) -> Iterator["Target"]:
    """The target that the arguments name, opened for reading.

    Records are JSON, even if they are something else in a mount, unless `as_mounted`.
    """
    from mstfs.cli.target import open_target

    with open_target(
        arguments.target,
        car_only=arguments.car_only,
        overlay=arguments.overlay,
        reading=reading_of(arguments),
        as_mounted=as_mounted,
    ) as target:
        yield target


def check_out(archive: "Archive", out: Path, *, force: bool) -> None:
    """Refused where writing would destroy something."""
    from mstfs.cli.output import printable
    from mstfs.errors import Refused

    sources = [archive.car.path if archive.car is not None else None, archive.overlay_path]
    for source in sources:
        if source is not None and out.exists() and source.exists() and out.samefile(source):
            raise Refused(f"{printable(out)} is what is being exported: write to another file")
    if out.is_dir():
        raise Refused(f"{printable(out)} is a folder")
    if os.path.lexists(out) and not force:
        raise Refused(f"{printable(out)} is there already: --force overwrites it")


def head_of(archive: "Archive", root: str | None) -> "Head":
    """The root that a person named, or the head where they named none. Refused, CidError, BlockError."""
    from mstfs.cli.target import root_argument
    from mstfs.codec import cid as cids

    if root is None:
        return archive.head
    return archive.workspace.read_head(cids.parse(root_argument(archive, root)))


def tree_of(archive: "Archive", root: str | None) -> "StagedTree":
    """The tree of a root that a person named; by default what a mount shows, staged edits and all."""
    if root is None:
        return archive.workspace.staged
    return archive.workspace.at(head_of(archive, root).data)


def find_key(target: "Target", tree: "StagedTree", text: bytes) -> tuple[bytes, bytes] | None:
    """The key that a person means, and its CID: a key, or its path in a mount. None if the tree has neither.

    Where a text is both, of two keys, it is a path within a mount, and a key elsewhere.
    """
    is_record = target.archive.kind.name == "mst"

    def as_key() -> tuple[bytes, bytes] | None:
        cid = tree.get(text)
        return None if cid is None else (text, cid)

    def as_path() -> tuple[bytes, bytes] | None:
        namespace = target.namespace(tree)
        if is_record:
            key = namespace.key_of(_parts(text))
            cid = None if key is None else tree.get(key)
        else:
            child = namespace.find(_parts(text))
            key, cid = (None, None) if child is None else (child.key, child.cid)
        return None if key is None or cid is None else (key, cid)

    # Without a suffix, a path that escapes nothing is the key itself, which is quicker to look up.
    path_first = target.mountpoint is not None and (is_record or b"%" in text)
    found = (as_path() or as_key()) if path_first else (as_key() or as_path())
    if found is None and is_record:
        for end in (b".json", b".cbor"):
            cid = tree.get(text.removesuffix(end)) if text.endswith(end) else None
            if cid is not None:
                return text.removesuffix(end), cid
    return found


def key_named(target: "Target", tree: "StagedTree", text: bytes) -> bytes:
    """The key that a text stands for where the tree has none; of UnixFS also the path of a directory."""
    if target.archive.kind.name == "unixfs":
        return b"/".join(_parts(text))
    key = target.namespace(tree).key_of(_parts(text)) if target.mountpoint is not None else None
    return text if key is None else key


def _parts(text: bytes) -> tuple[bytes, ...]:
    return tuple(part for part in text.split(b"/") if part)
