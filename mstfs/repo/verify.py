"""The strict verifier of a whole repository in one CAR file.

Source: atproto specifications "Repository" and "Data Model"; CARv1 specification. Three passes, none of
which holds a key or a block for longer than it looks at it: every block of the file is hashed and looked
at in file order (`mstfs.blocks.car_survey`), the tree is walked from its root, and what was never reached
is counted.

Rules of this module: `car-root-count`, `missing-block`, `block-hash`, `block-hash-unknown`, `root-kind`,
`key-syntax`. The others stand in `tree.car_check`, `tree.mst.verify`, `tree.mst.node_rules`, `verify_commit`,
`verify_record` and `codec.lenient`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mstfs.blocks.car import CarFile
from mstfs.blocks.car_survey import BAD, LINKED, PLAIN, TOLD, UNPROVEN
from mstfs.codec import cid as cids
from mstfs.errors import BlockError, CidError, Refused
from mstfs.repo import signing, syntax, verify_commit, verify_record
from mstfs.repo.verify_commit import SignatureState
from mstfs.tree.car_check import HASH_RULES, CarCheck, Progress
from mstfs.tree.defect import Defect, block_defect
from mstfs.tree.mst.verify import TreeVerification

DEFECTS_KEPT = 10_000
"""Defects that a report holds; the rest is only counted."""


@dataclass(frozen=True)
class Report:
    """What was found. `root` is the block that was asked for, `data` the root of the tree below it.

    `records` and `nodes` were reached from the root, `blocks_seen` stand in the file; `unlinked` of them
    nothing links to, `duplicates` are copies of others. `complete` says that no block of the repository is
    missing or unreadable. `defects` holds the first `DEFECTS_KEPT`, `defect_count` counts all.
    """

    root: bytes | None
    commit: bytes | None
    data: bytes | None
    did: str | None
    rev: str | None
    records: int
    nodes: int
    blocks_seen: int
    unlinked: int
    duplicates: int
    signature: SignatureState
    complete: bool
    defect_count: int
    defects: tuple[Defect, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing at all is wrong."""
        return self.complete and not self.defect_count


def verify_repository(
    car: CarFile,
    root: bytes | None = None,
    key: str | None = None,
    *,
    progress: Progress | None = None,
    allow_unsigned: bool = False,
) -> Report:
    """Verify, and collect the defects in the report. Arguments and errors as for `Verification`."""
    verification = Verification(car, root, key, progress=progress, allow_unsigned=allow_unsigned)
    kept: list[Defect] = []
    for defect in verification:
        if len(kept) < DEFECTS_KEPT:
            kept.append(defect)
    return verification.report(tuple(kept))


class Verification:
    """One verification. Iterate over it once for the defects as they are found, then ask for the `report`.

    `root` is the CID of a commit or of an MST node; by default it is the first root of the CAR. `key` is
    the account's signing key as `did:key:z...` or multikey `z...`; without one the signature is checked only
    for its form, unless the DID is itself a did:key. A missing signature is a defect, unless
    `allow_unsigned`. Raises SignatureError for a malformed `key`, CarError and OSError if the file cannot
    be read.
    """

    def __init__(
        self,
        car: CarFile,
        root: bytes | None = None,
        key: str | None = None,
        *,
        progress: Progress | None = None,
        allow_unsigned: bool = False,
    ) -> None:
        self._car = car
        self._root = root
        self._key = None if key is None else signing.parse_public_key(key)
        self._allow_unsigned = allow_unsigned
        self._check = CarCheck(car, progress)
        self._survey = self._check.survey
        self._tree: TreeVerification | None = None
        self._commit: verify_commit.Examined | None = None
        self._data: bytes | None = None
        self._records = 0
        self._complete = True
        self._count = 0
        self._ended = False

    def __iter__(self) -> Iterator[Defect]:
        for defect in self._run():
            self._count += 1
            yield self._check.located(defect)
        self._ended = True

    def report(self, defects: tuple[Defect, ...] = ()) -> Report:
        """What was found, with the defects that the caller kept. Refused before the iteration has ended."""
        if not self._ended:
            raise Refused("the verification has not ended yet")
        tree, commit = self._tree, self._commit
        return Report(
            root=self._root,
            commit=self._root if commit is not None else None,
            data=self._data,
            did=commit.did if commit is not None else None,
            rev=commit.rev if commit is not None else None,
            records=self._records,
            nodes=tree.nodes if tree is not None else 0,
            blocks_seen=len(self._survey),
            unlinked=self._check.unlinked,
            duplicates=self._check.duplicates,
            signature=commit.signature if commit is not None else "unsigned",
            complete=self._complete and tree is not None and tree.complete,
            defect_count=self._count,
            defects=defects,
        )

    # --- the passes ---------------------------------------------------------------------------

    def _run(self) -> Iterator[Defect]:
        roots = self._car.roots
        yield from self._check.header()
        if len(roots) != 1:
            yield Defect("car-root-count", f"the header names {len(roots)} roots, a repository has one")
        yield from self._check.scan(verify_record.is_plain)
        if self._root is None and roots:
            self._root = roots[0]
        if self._root is not None:
            yield from self._from_root(self._root)
        yield from self._check.leftovers()

    def _from_root(self, root: bytes) -> Iterator[Defect]:
        try:
            block = self._survey.get(root)
        except BlockError as error:
            self._complete = False
            yield block_defect(error)
            self._check.told(root)
            return
        except CidError as error:
            self._complete = False
            yield Defect("block-hash-unknown", str(error), root)
            return
        found = verify_commit.examine_root(root, block, self._key, allow_unsigned=self._allow_unsigned)
        self._commit, self._data = found.commit, found.data
        yield from found.defects
        if self._data is not None:
            yield from self._walk(self._data)

    def _walk(self, data: bytes) -> Iterator[Defect]:
        self._tree = TreeVerification(self._survey, data, self._check_entries)
        for defect in self._tree:
            if defect.cid is not None and defect.rule in HASH_RULES:
                self._check.told(defect.cid)
            yield defect

    def _check_entries(
        self, node: bytes, keys: Sequence[bytes | None], values: Sequence[bytes | None]
    ) -> list[Defect]:
        """Check the keys of one node and the records that they name."""
        defects: list[Defect] = []
        survey = self._survey
        find, flags = survey.find, survey.flags
        self._records += len(keys)
        for key, value in zip(keys, values, strict=True):
            if key is not None and not syntax.is_key(key):
                defects += verify_record.key_defects(node, key)
            if value is None:
                continue
            ordinal = find(value)
            if ordinal >= 0 and flags[ordinal] & PLAIN:
                flags[ordinal] |= LINKED
            else:
                defects += self._check_record(value, key)
        self._check.step(len(survey) + self._records)
        return defects

    def _check_record(self, cid: bytes, key: bytes | None) -> Iterator[Defect]:
        survey = self._survey
        try:
            ordinal = survey.match(cid)
        except CidError as error:
            yield Defect("value-link-kind", str(error), cid, key)
            return
        if ordinal < 0:
            if cids.identity_data(cid) is None:
                self._complete = False
                yield Defect("missing-block", "the record is missing", cid, key)
            return
        flags = survey.flags[ordinal]
        survey.flags[ordinal] = flags | LINKED | TOLD
        if flags & (BAD | UNPROVEN):
            self._complete = False
            rule = "block-hash" if flags & BAD else "block-hash-unknown"
            yield Defect(rule, survey.flaw(ordinal), cid, key)
        elif not flags & TOLD:
            # A block that many keys name is taken apart once.
            for defect in verify_record.defects(survey.data(ordinal)):
                yield defect._replace(cid=cid, key=key)
