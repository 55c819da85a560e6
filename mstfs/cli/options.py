"""What commands have in common: how they are declared, what they work on, how roots and keys are named."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mstfs.archive import Archive
    from mstfs.cli.target import Target
    from mstfs.repo.head import Head
    from mstfs.staging.tree import StagedTree

TARGET_HELP = "a mounted folder or a path inside of it, a CAR, or an overlay file"
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
    add_json(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Declare what a person may say about a tree that the file does not say."""
    parser.add_argument(
        "--tree",
        metavar="KIND",
        help="what kind of tree the root is, where that cannot be told: mst, hamt2, hamt3, hashmap, unixfs, "
        "sharded-zarr, filecoin,width=BITS,bucket=ENTRIES,hash=NAME",
    )
    parser.add_argument(
        "--values",
        choices=("auto", "raw", "cbor"),
        help="whether the values of a HAMT of py-hamt 3 are plain bytes or DAG-CBOR (default: find out)",
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
    tree = arguments.tree or own.get("tree")
    return (parse(tree) if tree is not None else None), ValueOptions(**chosen)


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
def opened(arguments: argparse.Namespace) -> Iterator["Target"]:
    """The target that the arguments name, opened for reading."""
    from mstfs.cli.target import open_target

    with open_target(arguments.target, car_only=arguments.car_only, overlay=arguments.overlay) as target:
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


def find_key(tree: "StagedTree", suffix: bytes, text: bytes, *, is_path: bool) -> tuple[bytes, bytes] | None:
    """The key that a person means, and its CID: a key, or its path in a mount. None if the tree has neither.

    A record key may end in `.json` by itself. Then `is_path` says what comes first: the path that a mount
    shows, or the key.
    """
    from mstfs.view.names import Names

    path = tuple(part for part in text.split(b"/") if part)
    by_path = Names(suffix).key_of(path)
    candidates = [by_path, text] if is_path else [text, by_path]
    candidates += [text.removesuffix(end) for end in (b".json", b".cbor") if text.endswith(end)]
    for key in candidates:
        if key:
            cid = tree.get(key)
            if cid is not None:
                return key, cid
    return None
