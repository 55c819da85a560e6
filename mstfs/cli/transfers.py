"""Commands that make a new CAR of something else: convert, import."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mstfs.cli import exits

if TYPE_CHECKING:
    from mstfs.repo.commit import Signer
    from mstfs.transfer.copy import Copied, Plan
    from mstfs.transfer.items import Source
    from mstfs.transfer.targets import Target
    from mstfs.tree.kinds import Kind
    from mstfs.values.cipher import Cipher

_CODES = (
    "0 done, and read back; 1 what was written does not read back as the source, and was not kept; "
    "2 the source cannot be read or does not fit the kind of tree, or an argument is wrong; "
    "3 the system failed"
)
_NAMES = ("mst", "hamt3", "hamt2", "hashmap", "unixfs")
_KINDS = "mst, hamt3, hamt2, hashmap[,width=BITS][,bucket=ENTRIES][,hash=NAME], unixfs"


def add(commands: Any) -> None:
    """Declare the commands of this family."""
    from mstfs.cli.options import add_root, add_secret, declare

    convert = declare(
        commands,
        "convert",
        summary="write the tree of an archive as another kind of tree",
        description="Write a new CAR with what a mount of SOURCE shows, staged edits and all, as a tree of "
        "another kind. Records stay records and blobs stay blobs; in UnixFS both are files, records with "
        "the text that a mount shows. Blocks are written as they come, so memory grows with the number of "
        "keys only. The new file is read back and compared before it gets its name: it appears whole "
        "and checked, or not at all.",
        examples="mstfs convert repo.car repo-hamt.car --to hamt3\n"
        "mstfs convert old-zarr.car new-zarr.car --to hamt3\n"
        "mstfs convert zarr.car files.car --to unixfs\n"
        "mstfs convert repo.car map.car --to hashmap,width=5,bucket=3,hash=sha2-256\n"
        "mstfs convert hamt.car repo.car --to mst --did did:plc:... --signing-key key.pem",
        codes=_CODES,
    )
    convert.add_argument(
        "target", type=Path, metavar="SOURCE", help="a mounted folder, a CAR, or an overlay file"
    )
    _add_out(convert)
    which = convert.add_mutually_exclusive_group()
    which.add_argument("--car-only", action="store_true", help="read the CAR alone, without its overlay")
    which.add_argument("--overlay", type=Path, metavar="FILE", help="read the CAR with this overlay")
    add_root(convert, "convert this root, without what is staged (default: what a mount shows)")
    convert.add_argument(
        "--tree",
        metavar="KIND",
        help="what kind of tree SOURCE is, where that cannot be told, e.g. "
        "filecoin,width=5,bucket=3,hash=sha2-256",
    )
    convert.add_argument(
        "--source-values",
        choices=("auto", "raw", "cbor"),
        help="whether the values of SOURCE, a HAMT of py-hamt 3, are plain bytes or DAG-CBOR "
        "(default: find out)",
    )
    add_secret(convert)
    _add_making(convert)
    convert.add_argument(
        "--follow", action="store_true", help="let a symbolic link become a copy of what it points to"
    )
    convert.set_defaults(run=run_convert, new_files="blob")
    load = declare(
        commands,
        "import",
        summary="make a CAR of a folder, a tar or a zip",
        description="Write a new CAR with all files of a folder, a tar (compressed with gzip, bzip2, xz or "
        "zstd, or not) or a zip; with - of the tar that comes from standard input. In a HAMT a file's path "
        "is its key, and the file a blob. An MST takes records: files called COLLECTION/RKEY.json, as "
        "a mount shows them. UnixFS takes all files, symbolic links and empty folders, as `ipfs add "
        "--cid-version=1` would store them. What no tree can hold (sockets, devices, entries that "
        "leave the folder) is an error that names it. Of two entries of a tar with the same path the "
        "last one counts. The file appears whole and checked, or not at all.",
        examples="mstfs import photos photos.car --to unixfs\n"
        "mstfs import data.zarr data.car --to hamt3\n"
        "mstfs import repo/ repo.car --to mst --did did:plc:... --signing-key key.pem\n"
        "tar -c data | mstfs import - data.car --to hamt3",
        codes=_CODES,
    )
    load.add_argument(
        "source",
        metavar="FOLDER|TAR|ZIP|-",
        help="a folder, a tar, a zip, or - for a tar from standard input",
    )
    _add_out(load)
    _add_making(load)
    load.add_argument(
        "--new-files",
        choices=("blob", "record"),
        default="blob",
        help="what a file becomes in a HAMT: bytes as they are, or a record in DAG-JSON (default: blob)",
    )
    load.add_argument(
        "--follow", action="store_true", help="take what symbolic links point to instead of the links"
    )
    load.set_defaults(run=run_import)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT.car", help="the file to write")
    kind = parser.add_argument(
        "--to", required=True, metavar="KIND", help=f"the kind of the new tree: {_KINDS}"
    )
    kind.completer = lambda **_: _NAMES  # type: ignore[attr-defined]
    parser.add_argument("--force", action="store_true", help="overwrite OUT.car")


def _add_making(parser: argparse.ArgumentParser) -> None:
    from mstfs.cli.options import add_json, key_file

    parser.add_argument(
        "--values",
        choices=("raw", "cbor"),
        help="what --to hamt3 keeps: plain bytes, or DAG-CBOR, which records need "
        "(default: raw where there are no records)",
    )
    parser.add_argument(
        "--large",
        choices=("unixfs", "raw"),
        default="unixfs",
        help="how a HAMT keeps a blob that is larger than a chunk: as a UnixFS file or one block "
        "(default: unixfs)",
    )
    parser.add_argument(
        "--chunk-bytes",
        type=int,
        metavar="N",
        help="bytes in a chunk of a large file (default: 1048576 in hamt3 and hashmap, else 262144)",
    )
    parser.add_argument(
        "--encrypt",
        type=key_file,
        metavar="FILE",
        help="encrypt the values of --to hamt2 or hamt3 with the key in this file: 32 bytes, or as hex "
        "or base64",
    )
    parser.add_argument(
        "--encrypt-header", metavar="TEXT", help="the header to encrypt values with (default: none)"
    )
    parser.add_argument(
        "--encrypt-not",
        action="append",
        default=[],
        metavar="PATTERN",
        help="keys, or variables of a Zarr store, whose values are not to be encrypted; may be given again",
    )
    parser.add_argument("--did", help="make a repository with a commit of this account (--to mst)")
    parser.add_argument(
        "--signing-key", type=key_file, metavar="FILE", help="sign the commit (PEM, multikey or CURVE:HEX)"
    )
    parser.add_argument(
        "--escape",
        action="store_true",
        help="names of files are those that a mount shows, which spells every key as a path",
    )
    parser.add_argument(
        "--preserve",
        action="store_true",
        help="keep permissions and times of files and folders (--to unixfs)",
    )
    parser.add_argument("--no-check", action="store_true", help="do not read the new file back")
    add_json(parser)


# --- the commands ---------------------------------------------------------------------------------


def run_convert(arguments: argparse.Namespace) -> int:
    """`mstfs convert`."""
    from mstfs.cli.options import check_out, opened, tree_of
    from mstfs.cli.output import counted, warn
    from mstfs.errors import Refused
    from mstfs.transfer.archives import ArchiveSource

    kind = _kind(arguments)
    with opened(arguments) as target:
        archive = target.archive
        if target.inner:
            raise Refused(f"name the mount itself: {target.mountpoint}")
        check_out(archive, arguments.out, force=arguments.force)
        drafts = sum(1 for _ in archive.workspace.files.drafts())
        if drafts and arguments.root is None:
            warn(f"{counted(drafts, 'draft')} not converted: no tree holds what is no record")
        tree = tree_of(archive, arguments.root)
        source = ArchiveSource(archive.kind, tree, archive.workspace.values, folders=arguments.preserve)
        return _run(arguments, source, _target(arguments, kind, source))


def run_import(arguments: argparse.Namespace) -> int:
    """`mstfs import`."""
    from mstfs.errors import Refused
    from mstfs.transfer.sources import open_source, stream_source

    kind = _kind(arguments)
    if arguments.source == "-":
        if sys.stdin.isatty():
            raise Refused(
                "standard input is a terminal: pipe a tar into it, as in `tar -c FOLDER | mstfs import -`"
            )
        _check_new(arguments)
        source = stream_source(sys.stdin.buffer)
        return _run(arguments, source, _target(arguments, kind, source))
    path = Path(arguments.source)
    _check_new(arguments, path)
    with open_source(path, follow=arguments.follow, folders=arguments.preserve) as source:
        return _run(arguments, source, _target(arguments, kind, source))


def _check_new(arguments: argparse.Namespace, source: Path | None = None) -> None:
    """Refused where writing would destroy something, or where the new file would become a part of itself."""
    from mstfs.cli.output import printable
    from mstfs.errors import Refused

    out: Path = arguments.out
    if source is not None and out.exists() and source.exists() and out.samefile(source):
        raise Refused(f"{printable(out)} is what is being read: write to another file")
    if source is not None and source.is_dir():
        inside = Path(os.path.realpath(out.parent))
        if inside.is_relative_to(os.path.realpath(source)):
            raise Refused(f"{printable(out)} lies in the folder that is being read: write it elsewhere")
    if out.is_dir():
        raise Refused(f"{printable(out)} is a folder")
    if os.path.lexists(out) and not arguments.force:
        raise Refused(f"{printable(out)} is there already: --force overwrites it")


# --- what they have in common ---------------------------------------------------------------------


def _kind(arguments: argparse.Namespace) -> "Kind":
    """The kind of tree to make. Refused for one that nobody makes, and for options that it does not have."""
    from mstfs.errors import Refused
    from mstfs.tree.kinds import parse

    kind = parse(arguments.to)
    if not kind.writable and kind.name != "unixfs":
        raise Refused(f"a {kind.title} can be read, not made: --to takes {_KINDS}")
    if kind.name != "mst" and (arguments.did or arguments.signing_key):
        raise Refused("--did and --signing-key make a commit, which only --to mst has")
    if arguments.signing_key and not arguments.did:
        raise Refused("--signing-key signs a commit: say with --did whose it is")
    if arguments.values and kind.name != "hamt3":
        raise Refused("--values is for --to hamt3: the others say themselves what their values are")
    if arguments.encrypt and kind.name not in ("hamt2", "hamt3"):
        raise Refused("--encrypt is for --to hamt2 and hamt3: nobody would know how to read the others")
    if (arguments.encrypt_header or arguments.encrypt_not) and not arguments.encrypt:
        raise Refused("--encrypt-header and --encrypt-not say how to encrypt: --encrypt names the key")
    if arguments.new_files == "record" and not kind.is_hamt:
        raise Refused("--new-files is for HAMTs: an MST holds records, and UnixFS files, in any case")
    if arguments.new_files == "record" and arguments.values == "raw":
        raise Refused("records need --values cbor")
    if arguments.preserve and kind.name != "unixfs":
        raise Refused("--preserve is for --to unixfs: nothing else has permissions and times")
    if arguments.chunk_bytes is not None and kind.name == "mst":
        raise Refused("--chunk-bytes is for files, which an MST does not hold")
    return kind


def _target(arguments: argparse.Namespace, kind: "Kind", source: "Source") -> "Target":
    from mstfs.transfer.targets import HamtTarget, MstTarget, UnixfsTarget
    from mstfs.values.interface import ValueOptions

    if kind.name == "mst":
        return MstTarget(arguments.did, _signer(arguments))
    if kind.name == "unixfs":
        return UnixfsTarget(arguments.chunk_bytes, preserve=arguments.preserve)
    encoding: Literal["auto", "raw", "cbor"] = "auto"
    parse = arguments.new_files == "record"
    if kind.name == "hamt3":
        encoding = arguments.values or ("cbor" if parse or source.holds_records() else "raw")
    options = ValueOptions(encoding=encoding, large=arguments.large, chunk_bytes=arguments.chunk_bytes)
    return HamtTarget(kind, options, parse, _cipher(arguments), tuple(arguments.encrypt_not))


def _cipher(arguments: argparse.Namespace) -> "Cipher | None":
    from mstfs.cli.output import printable, warn
    from mstfs.repo.signing import mode_is_private
    from mstfs.values.cipher import Cipher, load_key

    path: Path | None = arguments.encrypt
    if path is None:
        return None
    if not mode_is_private(path):
        warn(f"{printable(path)} can be read by other users: chmod 600 it")
    return Cipher(load_key(path), os.fsencode(arguments.encrypt_header or ""))


def _signer(arguments: argparse.Namespace) -> "Signer | None":
    from mstfs.cli.output import printable, warn
    from mstfs.repo.signing import load_signing_key, mode_is_private

    path: Path | None = arguments.signing_key
    if path is None:
        return None
    signer = load_signing_key(path)
    if not mode_is_private(path):
        warn(f"{printable(path)} can be read by other users: chmod 600 it")
    return signer


def _run(arguments: argparse.Namespace, source: "Source", target: "Target") -> int:
    from mstfs.cli.output import printable
    from mstfs.errors import Refused
    from mstfs.transfer.copy import Copy

    out: Path = arguments.out
    if out.exists() and not out.is_file():
        raise Refused(f"{printable(out)} is no file that could be replaced")
    if not out.parent.is_dir():
        raise Refused(f"{printable(out.parent)} is no folder")

    copy = Copy(source, target, escape=arguments.escape, follow=arguments.follow)
    plan = copy.plan()
    with _progress(plan, look_back=not arguments.no_check) as progress:
        copied = copy.run(arguments.out, look_back=not arguments.no_check, progress=progress)
    _tell(arguments, target, copied)
    return exits.OK


@contextmanager
def _progress(plan: "Plan", *, look_back: bool) -> Iterator[Any]:
    """A bar for the whole: of bytes where the source says how many there are, else of items."""
    from mstfs.cli.output import progress_bar

    by_size = plan.size is not None or plan.items is None
    rounds = 2 if look_back else 1
    total = plan.size if by_size else plan.items
    unit = 1 << 20 if by_size else 1
    in_all = None if total is None else rounds * max(total // unit, 1)
    first = 0
    with progress_bar(
        "writing and reading back" if look_back else "writing", "MiB" if by_size else "keys"
    ) as update:

        def told(what: str, items: int, size: int) -> None:
            nonlocal first
            done = size if by_size else items
            if what == "writing":
                first = done
            else:
                done += first
            update(done // unit, in_all)

        yield told


def _tell(arguments: argparse.Namespace, target: "Target", copied: "Copied") -> None:
    from mstfs.cli.output import counted, human_size, print_json, printable, warn
    from mstfs.codec.cid import to_text

    signed = None
    if target.kind.name == "mst":
        signed = "bare" if arguments.did is None else "signed" if arguments.signing_key else "unsigned"
    if copied.left_out:
        warn(f"{counted(copied.left_out, 'empty folder')} left out: only --to unixfs has a place for them")
    if copied.encoding is not None:
        warn(
            f"the values in the file look like others than they are: mount it with --values {copied.encoding}"
        )
    if arguments.json:
        print_json(
            {
                "file": str(arguments.out),
                "root": to_text(copied.root),
                "data": to_text(copied.data),
                "kind": arguments.to,
                "commit": signed,
                "keys": copied.keys,
                "folders": copied.folders,
                "left_out": copied.left_out,
                "blocks": copied.blocks,
                "bytes": copied.size,
                "values": target.opening.options.encoding if target.kind.name == "hamt3" else None,
                "tell_values": copied.encoding,
                "checked": copied.checked,
            }
        )
        return
    checked = "read back and compared" if copied.checked else "NOT CHECKED"
    parts = [target.kind.title, counted(copied.keys, "key"), human_size(copied.size), checked]
    if signed is not None:
        parts.insert(1, "bare tree, without a commit" if signed == "bare" else f"{signed} commit")
    print(f"{to_text(copied.root)}  ({'; '.join(parts)}) -> {printable(arguments.out)}")
