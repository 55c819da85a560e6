"""Commands that check: verify (archives, histories, proofs), prove."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mstfs.cli import exits

if TYPE_CHECKING:
    from mstfs.blocks.car import CarFile
    from mstfs.repo.verify import Report
    from mstfs.tree.defect import Defect

SHOWN = 100


def add(commands: Any) -> None:
    """Declare the commands of this family."""
    from mstfs.cli.completion import complete_key
    from mstfs.cli.options import add_json, add_root, add_target, declare

    verify = declare(
        commands,
        "verify",
        summary="check every rule of an archive, or a proof",
        description="Check a CAR strictly: frame, hashes, every node and key of the tree, records, commit "
        "and signature. Prints a line for each defect and a line that sums up. Of a mount or an "
        "overlay, checks what the head reaches and the chain of the history. A missing signature "
        "is a defect, unless --allow-unsigned.",
        examples="mstfs verify repo.car\n"
        "mstfs verify --key did:key:zQ3sh... repo.car\n"
        "mstfs verify mnt\n"
        "mstfs verify --proof app.bsky.actor.profile/self proof.car",
        codes="0 sound, or the proof holds; 1 defects, or the proof does not hold; 2 the file cannot "
        "be read as a CAR, or an argument is wrong; 3 the system failed",
    )
    verify.add_argument("target", type=Path, metavar="FILE", help="a CAR, an overlay, or a mounted folder")
    verify.add_argument(
        "--key", metavar="KEY", help="the account's signing key: did:key:z... or multikey z..."
    )
    verify.add_argument(
        "--root", metavar="CID", help="check this root (default: the first of the CAR, or the head)"
    )
    verify.add_argument("--allow-unsigned", action="store_true", help="a missing signature is no defect")
    verify.add_argument(
        "--max", type=int, default=SHOWN, metavar="N", help=f"defects to print (default: {SHOWN})"
    )
    verify.add_argument(
        "--proof", metavar="RECORD", help="the CAR is a proof: what does it prove about this collection/rkey?"
    )
    add_json(verify)
    verify.set_defaults(run=run_verify)
    prove = declare(
        commands,
        "prove",
        summary="write a proof that a root has a record, or does not have it",
        description="Write a small CAR with the commit, the nodes on the path to a key, and the record if "
        "there is one. It proves to anybody who knows the root, or the account's signing key, "
        "what the root has under the key, or that it does not have it. What is staged is not "
        "part of any root: publish it first.",
        examples="mstfs prove mnt app.bsky.actor.profile/self -o proof.car\n"
        "mstfs prove repo.car app.bsky.feed.post/nothing-here > absent.car\n"
        "mstfs verify --proof app.bsky.actor.profile/self proof.car",
    )
    add_target(prove, optional=False)
    key = prove.add_argument(
        "key", nargs="?", metavar="KEY", help="collection/rkey, or the path of a file in a mount"
    )
    key.completer = complete_key  # type: ignore[attr-defined]
    prove.add_argument(
        "-o", "--out", type=Path, metavar="OUT.car", help="the file to write (default: stdout)"
    )
    prove.add_argument("--force", action="store_true", help="overwrite OUT.car")
    add_root(prove, "prove it of an older root")
    prove.set_defaults(run=run_prove)


# --- verify ---------------------------------------------------------------------------------------


def run_verify(arguments: argparse.Namespace) -> int:
    """`mstfs verify`."""
    from mstfs.blocks.car import CarFile
    from mstfs.cli.target import is_dead_mount, is_mounted
    from mstfs.errors import Refused
    from mstfs.opening import is_overlay

    if arguments.max < 0:
        raise Refused("--max takes a number of defects, not a negative one")
    path: Path = arguments.target
    if arguments.proof is None and (is_overlay(path) or is_dead_mount(path) or is_mounted(path)):
        return _verify_head(arguments)
    if not os.path.lexists(path):
        raise FileNotFoundError(2, "", str(path))
    # An index beside the file may tell of an older state of it, and checking a file should leave no traces.
    with CarFile.open(path, use_sidecar=False) as car:
        if arguments.proof is not None:
            return _verify_proof(arguments, car)
        return _verify_car(arguments, car)


def _verify_car(arguments: argparse.Namespace, car: "CarFile") -> int:
    from mstfs.cli.output import progress_bar
    from mstfs.repo.verify import Verification

    with progress_bar("verifying", "steps") as update:
        verification = Verification(
            car,
            _parsed(arguments.root),
            arguments.key,
            progress=update,
            allow_unsigned=arguments.allow_unsigned,
        )
        kept = _first(verification, arguments.max)
    return _tell(arguments, verification.report(tuple(kept)))


def _verify_head(arguments: argparse.Namespace) -> int:
    from mstfs.cli.options import head_of
    from mstfs.cli.output import progress_bar
    from mstfs.cli.target import open_target
    from mstfs.repo.verify_head import HeadVerification

    with open_target(arguments.target) as target, progress_bar("verifying", "records") as update:
        workspace = target.archive.workspace
        verification = HeadVerification(
            workspace.blocks,
            head_of(target.archive, arguments.root).root,
            arguments.key,
            progress=lambda done: update(done, None),
            allow_unsigned=arguments.allow_unsigned,
        )
        broken = _history_defects(target.archive.workspace.history)
        kept = _first(verification, arguments.max - len(broken))
        report = verification.report(tuple(broken + kept))
    return _tell(arguments, report, len(broken))


def _history_defects(history: Any) -> "list[Defect]":
    from mstfs.errors import OverlayDamaged
    from mstfs.tree.defect import Defect

    try:
        history.check()
    except OverlayDamaged as error:
        return [Defect("history-chain", str(error))]
    return []


def _first(defects: "Iterable[Defect]", count: int) -> "list[Defect]":
    """The first `count` of all defects; the iteration goes on to its end."""
    kept: list[Defect] = []
    for defect in defects:
        if len(kept) < count:
            kept.append(defect)
    return kept


def _parsed(root: str | None) -> bytes | None:
    from mstfs.codec import cid as cids

    return None if root is None else cids.parse(root)


def _tell(arguments: argparse.Namespace, report: "Report", more: int = 0) -> int:
    """Print a report; `more` defects were found besides those that it counts."""
    from mstfs.cli.output import painted, print_json, printable

    count = report.defect_count + more
    sound = report.sound and not more
    if arguments.json:
        print_json(_report_json(arguments, report, count, sound))
    else:
        for defect in report.defects:
            print(_defect_line(defect))
        if count > len(report.defects):
            print(f"... and {count - len(report.defects)} more (--max {count} prints all)")
        verdict = painted("sound", "green") if sound else painted(_counted_defects(count), "red")
        print(f"{printable(arguments.target)}: {verdict}; " + ", ".join(_summary(report)))
    return exits.OK if sound else exits.DEFECTS


def _counted_defects(count: int) -> str:
    from mstfs.cli.output import counted

    return counted(count, "defect")


def _summary(report: "Report") -> Iterator[str]:
    from mstfs.cli.output import counted, printable, tid_ns, time_text
    from mstfs.codec.cid import to_text

    yield f"root {to_text(report.root)}" if report.root is not None else "no root"
    if report.commit is not None:
        yield f"did {printable(report.did or 'missing')}"
        when = time_text(tid_ns(report.rev))
        yield f"rev {printable(report.rev or 'missing')}" + (f" ({when})" if when else "")
    yield counted(report.records, "record")
    yield counted(report.nodes, "node")
    if report.unlinked:
        yield f"{counted(report.unlinked, 'block')} not linked"
    if report.duplicates:
        yield f"{report.duplicates} duplicates" if report.duplicates > 1 else "1 duplicate"
    if report.commit is None:
        yield "no commit"
    elif report.signature == "unchecked":
        yield "signature unchecked (give --key)"
    elif report.signature == "unsigned":
        yield "UNSIGNED"
    else:
        yield f"signature {report.signature}"
    yield "complete" if report.complete else "INCOMPLETE"


def _defect_line(defect: "Defect") -> str:
    from mstfs.cli.output import printable
    from mstfs.codec.cid import to_text
    from mstfs.staging.status import key_text

    where = []
    if defect.offset is not None:
        where.append(f"offset {defect.offset}")
    if defect.cid is not None:
        where.append(f"block {to_text(defect.cid)}")
    if defect.key is not None:
        where.append(f"key {key_text(defect.key)}")
    place = f" [{', '.join(where)}]" if where else ""
    return f"{defect.rule}: {printable(defect.message)}{place}"


def _report_json(arguments: argparse.Namespace, report: "Report", count: int, sound: bool) -> dict[str, Any]:
    from mstfs.codec.cid import to_text
    from mstfs.staging.status import key_text

    def text(cid: bytes | None) -> str | None:
        return None if cid is None else to_text(cid)

    return {
        "file": str(arguments.target),
        "sound": sound,
        "root": text(report.root),
        "commit": text(report.commit),
        "data": text(report.data),
        "did": report.did,
        "rev": report.rev,
        "records": report.records,
        "nodes": report.nodes,
        "blocks": report.blocks_seen,
        "unlinked": report.unlinked,
        "duplicates": report.duplicates,
        "signature": report.signature,
        "complete": report.complete,
        "defect_count": count,
        "defects": [
            {
                "rule": defect.rule,
                "message": defect.message,
                "cid": text(defect.cid),
                "key": None if defect.key is None else key_text(defect.key),
                "offset": defect.offset,
            }
            for defect in report.defects
        ],
    }


# --- proofs ---------------------------------------------------------------------------------------


def _verify_proof(arguments: argparse.Namespace, car: "CarFile") -> int:
    """Say what a CAR proves about a key. A proof is judged by its own blocks and the root alone."""
    from mstfs.cli.output import painted, print_json, printable
    from mstfs.codec.cid import to_text
    from mstfs.errors import ProofError, Refused
    from mstfs.repo.proof import check_proof

    root = _parsed(arguments.root) or next(iter(car.roots), None)
    if root is None:
        raise Refused(f"{arguments.target}: the CAR names no root: give one with --root CID")
    key = os.fsencode(arguments.proof)
    answer: dict[str, Any] = {
        "file": str(arguments.target),
        "key": printable(arguments.proof),
        "root": to_text(root),
        "sound": False,
        "error": None,
        **dict.fromkeys(("value", "record", "data", "did", "rev", "signature")),
    }
    try:
        proven = check_proof(car, root, key, arguments.key, allow_unsigned=arguments.allow_unsigned)
    except ProofError as error:
        answer["error"] = str(error)
        line = f"{painted('does not hold', 'red')}: {printable(str(error))}"
    else:
        value = to_text(proven.value) if proven.value is not None else None
        answer |= {
            "sound": True,
            "value": value,
            "record": proven.has_record,
            "data": to_text(proven.data),
            "did": proven.did,
            "rev": proven.rev,
            "signature": proven.signature,
        }
        held = "" if value is None or proven.has_record else " (the record itself is not in the file)"
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
    from mstfs.cli.options import check_out, find_key, head_of, opened
    from mstfs.cli.output import counted, human_size, print_json, printable, warn
    from mstfs.codec.cid import to_text
    from mstfs.errors import Refused
    from mstfs.repo.proof import make_proof
    from mstfs.staging.status import key_text

    out: Path | None = arguments.out
    if out is None and (sys.stdout.isatty() or arguments.json):
        raise Refused("a CAR is binary: name a file with -o, or send standard output to a file or a pipe")
    with opened(arguments) as target:
        text = "/".join(part for part in (target.inner, arguments.key or "") if part)
        if not text:
            raise Refused("which record? Name a KEY, as `mstfs ls` shows them")
        workspace = target.archive.workspace
        head = head_of(target.archive, arguments.root)
        found = find_key(
            workspace.at(head.data), target.suffix, os.fsencode(text), is_path=target.mountpoint is not None
        )
        key = (
            found[0] if found is not None else _absent_key(text, target.suffix, target.mountpoint is not None)
        )
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
        "blocks": len(blocks),
        "bytes": size,
    }
    claim = "is absent" if held is None else f"is {held}"
    line = f"{answer['key']} {claim} under root {answer['root']}  ({head.kind}; "
    line += f"{counted(len(blocks), 'block')}, {human_size(size)})"
    if arguments.json:
        print_json(answer)
    else:
        print(
            f"{line} -> {printable(out)}" if out is not None else line, file=sys.stdout if out else sys.stderr
        )
    return exits.OK


def _absent_key(text: str, suffix: bytes, is_path: bool) -> bytes:
    """The key that a text stands for where the tree has none."""
    from mstfs.view.names import Names

    raw = os.fsencode(text)
    if is_path:
        path = tuple(part for part in raw.split(b"/") if part)
        return Names(suffix).key_of(path) or raw
    return raw
