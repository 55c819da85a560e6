"""Commands about a whole archive: info, export."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mstfs.cli import exits

if TYPE_CHECKING:
    from mstfs.blocks.car import CarFile
    from mstfs.cli.target import Target
    from mstfs.tree.interface import OnMissing


def add(commands: Any) -> None:
    """Declare the commands of this family."""
    from mstfs.cli.options import TARGET_HELP, add_opening, add_root, add_secret, add_target, declare

    info = declare(
        commands,
        "info",
        summary="what an archive is: roots, kind of tree, account, sizes, overlay",
        description="Tell what is in a CAR and in its overlay: roots, the head, the kind of its tree with "
        "its parameters and how its values are encoded; of a repository whether it is signed, account and "
        "revision; number of blocks, a torn end, staged edits and drafts. Signatures and hashes are checked "
        "by `mstfs verify`, not here.",
        examples="mstfs info repo.car\nmstfs info --count mnt\nmstfs info --json repo.car | jq -r .root",
        codes="0 done; 1 the CAR has no root that can be opened, or not all of its tree can be counted; "
        "2 no such target; 3 the system failed",
    )
    add_target(info)
    info.add_argument(
        "--count",
        action="store_true",
        help="count the values of each collection or topmost folder (walks the tree)",
    )
    add_secret(info)
    info.set_defaults(run=run_info)
    export = declare(
        commands,
        "export",
        summary="write a root as a new CAR",
        description="Write a CAR with the commit (of a repository), the nodes, and the records, blobs and "
        "files that a root reaches, in the order in which it can be streamed. The file appears whole or not "
        "at all. What is staged is not in it: publish it first.",
        examples="mstfs export mnt new.car\n"
        "mstfs export --root 3 repo.car third.car\n"
        "mstfs export --since 1 mnt changes.car\n"
        "mstfs export mnt - | ssh host 'cat > backup.car'",
    )
    export.usage = "mstfs export [options] [TARGET] OUT.car"
    export.add_argument(
        "words",
        nargs="+",
        metavar="[TARGET] OUT.car",
        help=f"{TARGET_HELP} (default: the mount where you stand); the file to write, or - for stdout",
    )
    add_opening(export)
    add_root(export, "what to write (default: the head)")
    export.add_argument(
        "--since",
        metavar="ROOT",
        help="leave out what this older root reaches already; the CAR is partial then",
    )
    export.add_argument("--force", action="store_true", help="overwrite OUT.car")
    export.set_defaults(run=run_export)


# --- info -----------------------------------------------------------------------------------------


def run_info(arguments: argparse.Namespace) -> int:
    """`mstfs info`."""
    from mstfs.cli.options import opened
    from mstfs.cli.output import print_json, warn
    from mstfs.errors import BlockError, FormatError, Refused

    trouble: dict[str, None] = {}
    try:
        with opened(arguments) as target:
            facts = _facts(target)
            if arguments.count:
                facts["collections"] = _collections(target, lambda error: trouble.update({str(error): None}))
                facts["records"] = sum(facts["collections"].values())
    except (BlockError, FormatError, Refused) as error:
        facts = _facts_of_car(arguments.target, error)
    if arguments.json:
        print_json(facts)
    else:
        for name, text in _info_lines(facts):
            print(f"{name:<11} {text}".rstrip())
    for message in list(trouble)[:10]:
        warn(f"a part of the tree cannot be counted: {message}")
    return exits.OK if facts["error"] is None and not trouble else exits.DEFECTS


def _facts_of_car(path: Path, error: Exception) -> dict[str, Any]:
    """What can be told of a CAR that has no root to mount; raises `error` if there is no CAR at all."""
    from mstfs.blocks.car import CarFile
    from mstfs.errors import CarError

    try:
        with CarFile.open(path) as car:
            return {**_car_facts(car), "error": str(error), **dict.fromkeys(_HEAD_FACTS)}
    except CarError:
        raise error from None


_HEAD_FACTS = (
    "mountpoint", "root", "kind", "tree", "title", "parameters", "values", "encrypted", "signed", "did",
    "rev", "rev_time", "data", "overlay", "events", "staged", "drafts", "scratch", "records", "collections",
)  # fmt: skip


def _facts(target: "Target") -> dict[str, Any]:
    from mstfs.cli.output import tid_ns, time_text
    from mstfs.codec.cid import to_text
    from mstfs.staging.status import status

    archive = target.archive
    now = status(archive.workspace)
    car = archive.car
    overlay = archive.overlay_path
    return {
        **(_car_facts(car) if car is not None else {}),
        "error": None,
        "mountpoint": str(target.mountpoint) if target.mountpoint is not None else None,
        "root": now["root"],
        "kind": now["kind"],
        "tree": now["tree"],
        "title": archive.kind.title,
        "parameters": _parameters(target),
        "values": archive.encoding,
        "encrypted": target.encrypted,
        "signed": now["kind"] == "signed",
        "did": now["did"],
        "rev": now["rev"],
        "rev_time": time_text(tid_ns(now["rev"])),
        "data": to_text(archive.head.data),
        "overlay": str(overlay) if overlay is not None else None,
        "events": now["sequence"],
        "staged": now["staged"],
        "drafts": len(now["drafts"]),
        "scratch": now["scratch"],
        "records": None,
        "collections": None,
    }


def _parameters(target: "Target") -> dict[str, Any] | None:
    """What tells a HAMT from others of its kind. `declared_hash` is what the root says places its keys."""
    from mstfs.errors import Refused
    from mstfs.tree.hamt.hashes import name_of
    from mstfs.tree.hamt.hashmap import HashMap
    from mstfs.tree.hamt.tree import HamtTree

    tree, layout = target.archive.workspace.tree, target.archive.kind.layout
    if layout is None or not isinstance(tree, HamtTree):
        return None
    declared = name_of(layout.declared) if isinstance(layout, HashMap) else name_of(layout.key_hash)
    try:
        layout = tree.layout(target.archive.head.data)
        placed: str | None = name_of(layout.key_hash)
    except Refused:
        placed = None
    return {
        "bit_width": layout.width,
        "bucket_size": layout.bucket_size,
        "hash": placed,
        "declared_hash": declared,
        "skipped_levels": layout.skip,
        "canonical": layout.canonical,
    }


def _car_facts(car: "CarFile") -> dict[str, Any]:
    from mstfs.codec.cid import to_text

    # Counting the blocks reads the file through where only the CARv2's own index was there so far.
    own_index = car.version == 2 and car.index_path is None
    blocks = car.block_count
    index = str(car.index_path) if car.index_path is not None else None
    return {
        "file": str(car.path),
        "version": car.version,
        "size": car.size,
        "roots": [to_text(root) for root in car.roots],
        "blocks": blocks,
        "torn": car.torn,
        "padding": car.padding,
        "problems": [{"offset": problem.offset, "reason": problem.reason} for problem in car.problems],
        "index": index,
        "own_index": own_index and index is not None,
    }


def _info_lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from mstfs.cli.output import counted, human_size, painted, printable

    if "file" in facts:
        yield "file", printable(facts["file"])
        size = facts["size"]
        sizes = f"{human_size(size)} ({size} bytes)" if size >= 1024 else human_size(size)
        yield "car", f"version {facts['version']}, {sizes}, {counted(facts['blocks'], 'block')}"
        if facts["torn"] is not None:
            yield "torn", painted(printable(facts["torn"]), "red")
        if facts["padding"]:
            yield "padding", f"{facts['padding']} NUL bytes at the end"
        for problem in facts["problems"]:
            yield "problem", f"at offset {problem['offset']}: {printable(problem['reason'])}"
        for number, root in enumerate(facts["roots"]):
            yield "" if number else "roots", root
        if not facts["roots"]:
            yield "roots", "none"
        yield "index", printable(facts["index"]) if facts["index"] else "in memory"
    if facts["error"] is not None:
        yield "head", painted(f"none: {printable(facts['error'])}", "red")
        return
    if facts["mountpoint"] is not None:
        yield "mounted on", printable(facts["mountpoint"])
    yield from _head_lines(facts)
    yield "overlay", printable(facts["overlay"]) if facts["overlay"] else "none"
    if facts["overlay"]:
        yield "events", str(facts["events"])
        staged = facts["staged"]
        yield "staged", f"{staged['put']} put, {staged['delete']} deleted"
        yield "drafts", str(facts["drafts"])
        scratch = facts["scratch"]
        yield "scratch", f"{counted(scratch['files'], 'file')}, {human_size(scratch['bytes'])}"
    if facts["collections"] is not None:
        yield "records" if facts["tree"] == "mst" else "values", str(facts["records"])
        for name, count in facts["collections"].items():
            yield "", f"{count:>9} {name}"


def _head_lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The head and its tree, as lines; of an account only where there is one."""
    from mstfs.cli.output import painted, printable

    kinds = {
        "signed": " (signed commit; `mstfs verify` checks the signature)",
        "unsigned": f" ({painted('UNSIGNED commit', 'yellow')})",
        "bare": " (bare tree, without a commit)" if facts["tree"] == "mst" else "",
    }
    yield "head", f"{facts['root']}{kinds[facts['kind']]}"
    # The parameters of a HAMT have a line of their own.
    yield "tree", f"{facts['title'].partition(',')[0]} ({facts['tree']})"
    if facts["did"] is not None:
        yield "did", printable(facts["did"])
        rev, when = facts["rev"], facts["rev_time"]
        yield "rev", "none" if rev is None else printable(rev) + (f" ({when})" if when else "")
    if facts["data"] != facts["root"] or facts["tree"] == "mst":
        yield "data", facts["data"]
    parameters = facts["parameters"]
    if parameters is not None:
        words = [f"bit width {parameters['bit_width']}", f"bucket size {parameters['bucket_size']}"]
        placed, declared = parameters["hash"], parameters["declared_hash"]
        words.append(f"keys placed by {placed}" if placed else "nobody here knows what places the keys")
        if placed != declared:
            words.append(painted(f"the root says {declared}", "yellow"))
        if parameters["skipped_levels"]:
            words.append(painted("one level off, as py-hamt 2.0.0 to 2.0.4 put them", "yellow"))
        yield "layout", ", ".join(words)
    if facts["values"] is not None:
        told = {"raw": "raw bytes", "cbor": "DAG-CBOR"}[facts["values"]]
        secret = {True: ", encrypted", False: "", None: ""}[facts["encrypted"]]
        yield "values", told + secret


def _collections(target: "Target", on_missing: "OnMissing") -> dict[str, int]:
    """Values of each topmost folder; keys without a slash are counted under the empty name."""
    from mstfs.cli.records import below
    from mstfs.staging.status import key_text

    counts: dict[bytes, int] = {}
    for _, key, _ in below(target, target.archive.workspace.staged, (), on_missing):
        collection, slash, _ = key.partition(b"/")
        name = collection if slash else b""
        counts[name] = counts.get(name, 0) + 1
    return {key_text(name): counts[name] for name in sorted(counts)}


# --- export ---------------------------------------------------------------------------------------


def run_export(arguments: argparse.Namespace) -> int:
    """`mstfs export`."""
    from mstfs.blocks.car_writer import replacing
    from mstfs.cli.options import check_out, head_of, opened, split_target
    from mstfs.cli.output import counted, human_size, print_json, printable, progress_bar, warn
    from mstfs.codec.cid import to_text
    from mstfs.errors import Refused
    from mstfs.publish.export import write_export

    arguments.target, words = split_target(arguments.words, 1, 1)
    if len(words) != 1:
        raise Refused("export writes one file: mstfs export [TARGET] OUT.car")
    arguments.out = words[0]
    to_stdout = arguments.out == "-"
    if to_stdout and (sys.stdout.isatty() or arguments.json):
        raise Refused("a CAR is binary: send standard output to a file or a pipe, and leave out --json")
    count = 0
    with opened(arguments) as target:
        archive = target.archive
        head = head_of(archive, arguments.root)
        since = head_of(archive, arguments.since) if arguments.since is not None else None
        if not to_stdout:
            check_out(archive, Path(arguments.out), force=arguments.force)
        staged = len(archive.workspace.edits)
        if staged and arguments.root is None:
            warn(f"{counted(staged, 'staged edit')} not exported: `mstfs sync` publishes what is staged")
        sys.stdout.flush()
        with (
            progress_bar("writing", "blocks") as update,
            nullcontext(sys.stdout.buffer) if to_stdout else replacing(Path(arguments.out)) as file,
        ):

            def told(done: int) -> None:
                nonlocal count
                count = done
                update(done, None)

            size = write_export(file, archive.workspace, head, since=since, progress=told)
    answer = {
        "file": None if to_stdout else arguments.out,
        "root": to_text(head.root),
        "kind": head.kind,
        "tree": head.tree.name,
        "since": to_text(since.root) if since is not None else None,
        "blocks": count,
        "bytes": size,
    }
    what = head.kind if head.tree.name == "mst" else head.tree.name
    line = f"{answer['root']}  ({what}; {counted(count, 'block')}, {human_size(size)})"
    if arguments.json:
        print_json(answer)
    elif to_stdout:
        print(line, file=sys.stderr)
    else:
        print(f"{line} -> {printable(arguments.out)}")
    return exits.OK
