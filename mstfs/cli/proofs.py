"""Proofs: the command that makes one, prove, and what verify says of one."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mstfs.cli import exits

if TYPE_CHECKING:
    from mstfs.blocks.car import CarFile


def add_prove(commands: Any) -> None:
    """Declare prove."""
    from mstfs.cli.completion import complete_key
    from mstfs.cli.options import add_root, add_target, declare

    prove = declare(
        commands,
        "prove",
        summary="write a proof that a root has a key, or does not have it",
        description="Write a small CAR with the commit (of a repository), the nodes on the path to a key, "
        "and the block of its value if there is one. It proves to anybody who knows the root, or the "
        "account's signing key, what the root has under the key, or that it does not have it. Of a HAMT it "
        "shows what a look-up by hash finds; of a UnixFS tree the key is a path, also that of a directory, "
        "and a file of many blocks is named by its topmost one. What is staged is not part of any root: "
        "publish it first.",
        examples="mstfs prove mnt app.bsky.actor.profile/self -o proof.car\n"
        "mstfs prove repo.car app.bsky.feed.post/nothing-here > absent.car\n"
        "mstfs prove hamt.car temp/zarr.json -o proof.car\n"
        "mstfs verify --proof app.bsky.actor.profile/self proof.car",
    )
    add_target(prove, optional=False)
    key = prove.add_argument(
        "key",
        nargs="?",
        metavar="KEY",
        help="a key as `mstfs ls --keys` shows it, or the path of a file in a mount",
    )
    key.completer = complete_key  # type: ignore[attr-defined]
    prove.add_argument(
        "-o", "--out", type=Path, metavar="OUT.car", help="the file to write (default: stdout)"
    )
    prove.add_argument("--force", action="store_true", help="overwrite OUT.car")
    add_root(prove, "prove it of an older root")
    prove.set_defaults(run=run_prove)


def verify_proof(arguments: argparse.Namespace, car: "CarFile") -> int:
    """Say what a CAR proves about a key. A proof is judged by its own blocks and the root alone."""
    from mstfs.cli.options import reading_of
    from mstfs.cli.output import painted, print_json, printable
    from mstfs.codec import cid as cids
    from mstfs.errors import ProofError, Refused
    from mstfs.verification.proof import check_proof

    root = next(iter(car.roots), None) if arguments.root is None else cids.parse(arguments.root)
    if root is None:
        raise Refused(f"{arguments.target}: the CAR names no root: give one with --root CID")
    key = os.fsencode(arguments.proof)
    if cids.codec_of(root) in (cids.DAG_PB, cids.RAW):
        key = b"/".join(part for part in key.split(b"/") if part)
    answer: dict[str, Any] = {
        "file": str(arguments.target),
        "key": printable(arguments.proof),
        "root": cids.to_text(root),
        "tree": None,
        "sound": False,
        "error": None,
        **dict.fromkeys(("value", "record", "data", "did", "rev", "signature")),
    }
    try:
        kind, proven = check_proof(
            car,
            root,
            key,
            arguments.key,
            allow_unsigned=arguments.allow_unsigned,
            kind=reading_of(arguments).tree,
        )
    except ProofError as error:
        answer["error"] = str(error)
        line = f"{painted('does not hold', 'red')}: {printable(str(error))}"
    else:
        value = cids.to_text(proven.value) if proven.value is not None else None
        answer |= {
            "tree": kind.name,
            "sound": True,
            "value": value,
            "record": proven.has_record,
            "data": cids.to_text(proven.data),
            "did": proven.did,
            "rev": proven.rev,
            "signature": proven.signature,
        }
        noun = "record" if kind.name == "mst" else "value"
        held = "" if value is None or proven.has_record else f" (the {noun} itself is not in the file)"
        claim = "is absent" if value is None else f"is {value}{held}"
        line = f"{painted('holds', 'green')}: {answer['key']} {claim} under root {answer['root']}"
        if proven.did is not None:
            signed = "UNSIGNED" if proven.signature == "unsigned" else f"signature {proven.signature}"
            line += f" (did {printable(proven.did)}, rev {printable(proven.rev or 'missing')}, {signed})"
    if arguments.json:
        print_json(answer)
    else:
        print(f"{printable(arguments.target)}: {line}")
    return exits.OK if answer["sound"] else exits.DEFECTS


def run_prove(arguments: argparse.Namespace) -> int:
    """`mstfs prove`."""
    from mstfs.blocks.car_writer import replacing, write_car
    from mstfs.cli.options import check_out, find_key, head_of, key_named, opened
    from mstfs.cli.output import counted, human_size, print_json, printable, warn
    from mstfs.cli.records import NOUNS
    from mstfs.codec.cid import to_text
    from mstfs.errors import Refused
    from mstfs.staging.status import key_text
    from mstfs.verification.proof import make_proof

    out: Path | None = arguments.out
    if out is None and (sys.stdout.isatty() or arguments.json):
        raise Refused("a CAR is binary: name a file with -o, or send standard output to a file or a pipe")
    with opened(arguments) as target:
        text = "/".join(part for part in (target.inner, arguments.key or "") if part)
        if not text:
            noun = NOUNS.get(target.archive.kind.name, "key")
            raise Refused(f"which {noun}? Name a KEY, as `mstfs ls` shows them")
        workspace = target.archive.workspace
        head = head_of(target.archive, arguments.root)
        tree = workspace.at(head.data)
        found = find_key(target, tree, os.fsencode(text))
        key = found[0] if found is not None else key_named(target, tree, os.fsencode(text))
        if workspace.edits.get(key) is not None and arguments.root is None:
            warn(
                f"{key_text(key)} has a staged edit, which no root holds yet: this proves what was published"
            )
        value, blocks = make_proof(workspace.blocks, head, key)
        if out is None:
            sys.stdout.flush()
            size = write_car(sys.stdout.buffer, (head.root,), blocks)
        else:
            check_out(target.archive, out, force=arguments.force)
            with replacing(out) as file:
                size = write_car(file, (head.root,), blocks)
    held = to_text(value) if value is not None else None
    answer = {
        "file": str(out) if out is not None else None,
        "key": key_text(key),
        "value": held,
        "root": to_text(head.root),
        "kind": head.kind,
        "tree": head.tree.name,
        "blocks": len(blocks),
        "bytes": size,
    }
    claim = "is absent" if held is None else f"is {held}"
    what = head.kind if head.tree.name == "mst" else head.tree.name
    line = f"{answer['key']} {claim} under root {answer['root']}  ({what}; "
    line += f"{counted(len(blocks), 'block')}, {human_size(size)})"
    if arguments.json:
        print_json(answer)
    else:
        print(
            f"{line} -> {printable(out)}" if out is not None else line, file=sys.stdout if out else sys.stderr
        )
    return exits.OK
