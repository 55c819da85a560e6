"""The command that checks archives, histories and proofs: verify."""

import argparse
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mstfs.cli import exits

if TYPE_CHECKING:
    from mstfs.blocks.car import CarFile
    from mstfs.cli.target import Reading, Target
    from mstfs.repo.verify import Report
    from mstfs.tree.defect import Defect
    from mstfs.tree.kinds import Kind
    from mstfs.verification.report import TreeReport
    from mstfs.verification.walk import Question

SHOWN = 100


def add(commands: Any) -> None:
    """Declare the commands of this family."""
    from mstfs.cli.proofs import add_prove

    _add_verify(commands)
    add_prove(commands)


def _add_verify(commands: Any) -> None:
    from mstfs.cli.options import add_json, add_reading, add_secret, declare

    verify = declare(
        commands,
        "verify",
        summary="check every rule of an archive, or a proof",
        description="Check a CAR strictly: frame, hashes, and every rule of its tree, whatever kind it is. "
        "Of a repository: nodes, keys, records, commit and signature; a missing signature is a defect, "
        "unless --allow-unsigned. Of a HAMT: nodes, where each key stands, canonical form, and every value: "
        "DAG-CBOR must be canonical, UnixFS files are walked; raw and encrypted values are only hashed. Of "
        "a UnixFS tree: directories, shards, sizes, every block. Prints a line for each defect and a line "
        "that sums up. Of a mount or an overlay, checks what the head reaches and the chain of the history.",
        examples="mstfs verify repo.car\n"
        "mstfs verify --key did:key:zQ3sh... repo.car\n"
        "mstfs verify --values cbor hamt.car\n"
        "mstfs verify --tree filecoin,width=5,bucket=3,hash=sha2-256 state.car\n"
        "mstfs verify mnt\n"
        "mstfs verify --proof app.bsky.actor.profile/self proof.car",
        codes="0 sound, or the proof holds; 1 defects, or the proof does not hold; 2 the file cannot "
        "be read as a CAR, or an argument is wrong; 3 the system failed",
    )
    verify.add_argument("target", type=Path, metavar="FILE", help="a CAR, an overlay, or a mounted folder")
    verify.add_argument(
        "--key", metavar="KEY", help="the account's signing key: did:key:z... or multikey z... (repositories)"
    )
    verify.add_argument(
        "--root", metavar="CID", help="check this root (default: the first of the CAR, or the head)"
    )
    verify.add_argument("--allow-unsigned", action="store_true", help="a missing signature is no defect")
    verify.add_argument(
        "--max", type=int, default=SHOWN, metavar="N", help=f"defects to print (default: {SHOWN})"
    )
    verify.add_argument(
        "--proof",
        metavar="KEY",
        help="the CAR is a proof: what does it prove about this key (collection/rkey, the key of a HAMT, a "
        "path)?",
    )
    add_reading(verify)
    add_secret(verify)
    add_json(verify)
    verify.set_defaults(run=run_verify)


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
            from mstfs.cli.proofs import verify_proof

            return verify_proof(arguments, car)
        return _verify_car(arguments, car)


def _verify_car(arguments: argparse.Namespace, car: "CarFile") -> int:
    from mstfs.cli.options import reading_of
    from mstfs.cli.output import progress_bar
    from mstfs.repo.verify import Verification
    from mstfs.verification.car import CarVerification
    from mstfs.verification.walk import Question

    reading = reading_of(arguments)
    root = _parsed(arguments.root) or next(iter(car.roots), None)
    kind = _kind_of(car, root, reading.tree)
    verification: Verification | CarVerification
    with progress_bar("verifying", "steps") as update:
        if kind is None or root is None:
            verification = Verification(
                car, root, arguments.key, progress=update, allow_unsigned=arguments.allow_unsigned
            )
        else:
            _check_no_key(arguments, kind)
            question = Question(kind, root, reading.options, reading.cipher, reading.plain)
            verification = CarVerification(car, question, progress=update)
        kept = _first(verification, arguments.max)
    return _tell(arguments, verification.report(tuple(kept)))


def _kind_of(car: "CarFile", root: bytes | None, told: "Kind | None") -> "Kind | None":
    """The kind of tree that a CAR holds; None for a repository, and where nothing is known."""
    from mstfs.errors import BlockError, CidError
    from mstfs.verification.roots import kind_of

    if root is None:
        return None
    try:
        block = car.get(root)
    except (BlockError, CidError):
        return kind_of(root, None, told)
    return kind_of(root, block, told)


def _check_no_key(arguments: argparse.Namespace, kind: "Kind") -> None:
    from mstfs.errors import Refused

    if arguments.key is not None:
        raise Refused(f"--key is for the signature of a commit, and here is a {kind.title}")


def _verify_head(arguments: argparse.Namespace) -> int:
    from mstfs.cli.options import head_of, reading_of
    from mstfs.cli.output import progress_bar
    from mstfs.cli.target import open_target
    from mstfs.repo import verify_head
    from mstfs.verification import head as heads

    reading = reading_of(arguments)
    verification: verify_head.HeadVerification | heads.HeadVerification
    with (
        open_target(arguments.target, reading=reading) as target,
        progress_bar("verifying", "blocks") as update,
    ):
        workspace = target.archive.workspace
        head = head_of(target.archive, arguments.root)
        if head.tree.name == "mst":
            verification = verify_head.HeadVerification(
                workspace.blocks,
                head.root,
                arguments.key,
                progress=lambda done: update(done, None),
                allow_unsigned=arguments.allow_unsigned,
            )
        else:
            _check_no_key(arguments, head.tree)
            question = _question(reading, target, head.tree, head.data)
            verification = heads.HeadVerification(
                workspace.blocks, question, progress=lambda done: update(done, None)
            )
        broken = _history_defects(workspace.history)
        kept = _first(verification, arguments.max - len(broken))
        report = verification.report(tuple(broken + kept))
    return _tell(arguments, report, len(broken))


def _question(reading: "Reading", target: "Target", kind: "Kind", root: bytes) -> "Question":
    """What is to be verified of an archive that was opened: how its values are encoded is known by now."""
    from dataclasses import replace

    from mstfs.verification.walk import Question

    options = reading.options
    if kind.name == "hamt3" and options.encoding == "auto":
        options = replace(options, encoding="cbor" if target.archive.encoding == "cbor" else "raw")
    return Question(kind, root, options, reading.cipher, reading.plain, bool(target.encrypted))


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


def _tell(arguments: argparse.Namespace, report: "Report | TreeReport", more: int = 0) -> int:
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


def _summary(report: "Report | TreeReport") -> Iterator[str]:
    from mstfs.cli.output import counted
    from mstfs.codec.cid import to_text
    from mstfs.repo.verify import Report

    yield f"root {to_text(report.root)}" if report.root is not None else "no root"
    if isinstance(report, Report):
        yield from _account(report)
        yield counted(report.records, "record")
        yield counted(report.nodes, "node")
    else:
        yield report.kind.title
        if report.kind.name == "unixfs":
            yield counted(report.entries, "dirent")
            yield counted(report.nodes, "block")
        else:
            told = {
                "raw": " (raw bytes)",
                "cbor": " (DAG-CBOR)",
                "encrypted": " (ENCRYPTED, only hashed)",
                None: "",
            }
            yield counted(report.entries, "value") + told[report.values]
            yield counted(report.nodes, "node")
    if report.unlinked:
        yield f"{counted(report.unlinked, 'block')} not linked"
    if report.duplicates:
        yield counted(report.duplicates, "duplicate")
    if isinstance(report, Report):
        yield from _signature(report)
    yield "complete" if report.complete else "INCOMPLETE"


def _account(report: "Report") -> Iterator[str]:
    from mstfs.cli.output import printable, tid_ns, time_text

    if report.commit is not None:
        yield f"did {printable(report.did or 'missing')}"
        when = time_text(tid_ns(report.rev))
        yield f"rev {printable(report.rev or 'missing')}" + (f" ({when})" if when else "")


def _signature(report: "Report") -> Iterator[str]:
    if report.commit is None:
        yield "no commit"
    elif report.signature == "unchecked":
        yield "signature unchecked (give --key)"
    elif report.signature == "unsigned":
        yield "UNSIGNED"
    else:
        yield f"signature {report.signature}"


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


def _report_json(
    arguments: argparse.Namespace, report: "Report | TreeReport", count: int, sound: bool
) -> dict[str, Any]:
    from mstfs.codec.cid import to_text
    from mstfs.repo.verify import Report
    from mstfs.staging.status import key_text

    def text(cid: bytes | None) -> str | None:
        return None if cid is None else to_text(cid)

    own: dict[str, Any]
    if isinstance(report, Report):
        own = {
            "tree": None if report.commit is None and report.data is None else "mst",
            "commit": text(report.commit),
            "data": text(report.data),
            "did": report.did,
            "rev": report.rev,
            "signature": report.signature,
            "records": report.records,
            "entries": report.records,
            "values": None,
        }
    else:
        own = dict.fromkeys(("tree", "commit", "data", "did", "rev", "signature", "records"))
        own |= {"tree": report.kind.name, "data": text(report.root)}
        own |= {"entries": report.entries, "values": report.values}
    return {
        "file": str(arguments.target),
        "sound": sound,
        "root": text(report.root),
        **own,
        "nodes": report.nodes,
        "blocks": report.blocks_seen,
        "unlinked": report.unlinked,
        "duplicates": report.duplicates,
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
