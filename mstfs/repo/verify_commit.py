"""What is wrong with a commit: its CBOR, its fields, its signature.

Source: atproto specifications "Repository" (section "Commit Objects") and "Cryptography". Version 2 commits
(no `rev`, `prev` optional) are read as well.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from mstfs.codec import dag_cbor, lenient
from mstfs.codec.cid import Link
from mstfs.codec.lenient import JUNK
from mstfs.errors import CborError, SignatureError
from mstfs.limits import RECORD_BYTES
from mstfs.repo import signing
from mstfs.repo.commit import SIGNATURE_BYTES, Commit
from mstfs.repo.signing import Curve, PublicKey
from mstfs.tree.defect import Defect

SignatureState = Literal["valid", "invalid", "unsigned", "unchecked"]

_ORDERS: dict[Curve, int] = {
    "k256": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
}
_FIELDS = frozenset(("did", "version", "data", "rev", "prev", "sig"))
_TELLING = frozenset(("did", "version", "data", "rev", "sig"))
_NO_CID = b"\x01\x71\x12\x20" + bytes(32)
_TYPES: dict[str, tuple[type, str]] = {
    "did": (str, "text"),
    "data": (Link, "a link"),
    "rev": (str, "text"),
    "prev": (Link, "a link or null"),
    "sig": (bytes, "bytes"),
}


class Examined(NamedTuple):
    """What is known about a commit; None where the block does not tell it. `data` is the root of the tree."""

    data: bytes | None
    did: str | None
    rev: str | None
    signature: SignatureState
    defects: list[Defect]


def examine(cid: bytes, value: dict[str, object], key: PublicKey | None) -> Examined:
    """Check the fields and the signature of a commit.

    `value` is what `lenient.read` understood of the block; its departures are for the caller to report.
    `key` is the account's signing key; without one the key in a did:key is taken.
    """
    defects: list[Defect] = []
    bad: set[str] = set()

    def note(field: str, rule: str, message: str) -> None:
        bad.add(field)
        defects.append(Defect(rule, message, cid))

    for name, (wanted, what) in _TYPES.items():
        item = value.get(name, JUNK)
        if item is JUNK:
            if name in ("did", "data") and name not in value:
                note(name, f"commit-{name}", f"the field {name} is missing")
        elif not isinstance(item, wanted) and (name, item) != ("prev", None):
            note(name, f"commit-{name}", f"the field {name} is not {what}")
    version = value.get("version")
    if type(version) is not int or version not in (2, 3):
        note("version", "commit-version", "the field version is missing or neither 2 nor 3")
    commit = _commit(value)
    for defect in commit.defects():
        field = "sig" if defect.rule == "commit-unsigned" else defect.rule.split("-")[1]
        # A wrong length of the signature is told together with the other rules of signatures.
        if field not in bad and defect.rule != "commit-sig":
            defects.append(defect._replace(cid=cid))
    signature: SignatureState = "unchecked"
    if "sig" in bad or value.get("sig") is JUNK:
        signature = "invalid"
    else:
        signature, flaws = _signature(commit, value, key)
        defects += [flaw._replace(cid=cid) for flaw in flaws]
    return Examined(
        commit.data if "data" not in bad else None,
        commit.did if "did" not in bad else None,
        commit.rev,
        signature,
        defects,
    )


def _commit(value: Mapping[str, object]) -> Commit:
    """The commit with the fields that have their type; the others are as if absent."""

    def typed(name: str) -> Any:
        item = value.get(name)
        return item if isinstance(item, _TYPES[name][0]) else None

    data, prev = typed("data"), typed("prev")
    version = value.get("version")
    return Commit(
        did=typed("did") or "",
        version=version if type(version) is int else 3,
        data=data.cid if data is not None else _NO_CID,
        rev=typed("rev"),
        prev=prev.cid if prev is not None else None,
        sig=typed("sig"),
        has_prev="prev" in value,
        extra={name: item for name, item in value.items() if name not in _FIELDS},
    )


def _signature(
    commit: Commit, value: Mapping[str, object], key: PublicKey | None
) -> tuple[SignatureState, list[Defect]]:
    """What is known about the signature, and why it is invalid."""
    signature = commit.sig
    if signature is None:
        return "unsigned", []
    if key is None and commit.did.startswith("did:key:"):
        try:
            key = signing.parse_public_key(commit.did)
        except SignatureError as error:
            return "unchecked", [Defect("commit-did", f"the field did holds no key: {error}")]
    flaw = _shape_flaw(signature, key)
    if flaw is not None:
        return "invalid", [flaw]
    if key is None:
        return "unchecked", []
    try:
        # The map as it was read, not as a sound commit would be: other defects have their own rules.
        message = dag_cbor.encode({name: item for name, item in value.items() if name != "sig"})
        signing.verify_key(key, message, signature)
    except (SignatureError, CborError) as error:
        return "invalid", [Defect("signature-mismatch", str(error))]
    return "valid", []


def _shape_flaw(signature: bytes, key: PublicKey | None) -> Defect | None:
    """What can be said without computing. Where the curve is unknown, only what is wrong on both."""
    if len(signature) != SIGNATURE_BYTES:
        if len(signature) > 8 and signature[0] == 0x30 and signature[1] == len(signature) - 2:
            return Defect("signature-der", "the signature is in DER, where the 64 bytes r and s must be")
        message = f"the signature has {len(signature)} bytes, not {SIGNATURE_BYTES}"
        return Defect("signature-length", message)
    order = max(_ORDERS.values()) if key is None else _ORDERS[key.curve]
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (0 < r < order and 0 < s < order):
        return Defect("signature-range", "the signature holds a number outside the group")
    if s > order // 2:
        return Defect("signature-high-s", "the signature has a high s, which is not allowed")
    return None


class Root(NamedTuple):
    """What a root block is: the tree below it, and the commit if it is one; `defects` are the root's own."""

    data: bytes | None
    commit: Examined | None
    defects: list[Defect]


def examine_root(cid: bytes, block: bytes, key: PublicKey | None, *, allow_unsigned: bool) -> Root:
    """Tell a commit from a node of an MST, and check the commit."""
    if len(block) > RECORD_BYTES:
        message = f"the root has {len(block)} bytes, too many for a commit or node"
        return Root(None, None, [Defect("root-kind", message, cid)])
    reading = lenient.read(block)
    fields = reading.value if isinstance(reading.value, dict) else {}
    if len(_TELLING.intersection(fields)) > 1 and "$type" not in fields:
        commit = examine(cid, fields, key)
        defects = [
            Defect(departure.rule, f"the commit is not canonical: {departure.message}", cid)
            for departure in reading.departures
        ]
        defects += [
            defect for defect in commit.defects if defect.rule != "commit-unsigned" or not allow_unsigned
        ]
        return Root(commit.data, commit, defects)
    if "e" in fields or "l" in fields:
        return Root(cid, None, [])
    message = "the root is neither a commit nor that of a tree that is known"
    return Root(None, None, [Defect("root-kind", message, cid)])
