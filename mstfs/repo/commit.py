"""Commits: the signed object that names an account and the root of its tree.

Source: atproto specification "Repository", section "Commit Objects". Version 3 is written; version 2
(older files: no `rev`, `prev` a link, null or absent) is read. The signature covers the DAG-CBOR of the
map without `sig`; the CID covers the signed map.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.codec.cid import Link
from mstfs.errors import CborError, CidError, CommitError
from mstfs.repo import syntax, tid
from mstfs.tree.defect import Defect

VERSION = 3
SIGNATURE_BYTES = 64
_FIELDS = frozenset(("did", "version", "data", "rev", "prev", "sig"))
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Signer(Protocol):
    """What makes signatures; `mstfs.repo.signing.SigningKey` is one."""

    def sign(self, message: bytes, /) -> bytes:
        """64 bytes, r then s."""


@dataclass(frozen=True)
class Commit:
    """One commit. `data` and `prev` are binary CIDs; `rev` and `sig` are None where the field is absent.

    `prev` is None where it is null or absent, and `has_prev` tells which. `extra` holds the fields
    that the specification does not know, as `dag_cbor.decode` gives them.
    """

    did: str
    version: int
    data: bytes
    rev: str | None
    prev: bytes | None = None
    sig: bytes | None = None
    has_prev: bool = True
    extra: Mapping[str, Any] = field(default_factory=lambda: _NOTHING, hash=False)

    @property
    def is_signed(self) -> bool:
        """Whether the commit carries a signature (which may still be wrong)."""
        return self.sig is not None

    def defects(self) -> Iterator[Defect]:
        """The rules that this commit breaks without being unreadable. A version 2 commit may lack `rev`."""
        if not syntax.is_did(self.did):
            yield Defect("commit-did", f"the field did is not a DID: {self.did[:80]!a}")
        if self.rev is None:
            if self.version == VERSION:
                yield Defect("commit-rev-missing", "the field rev is missing")
        elif not tid.is_valid(self.rev):
            yield Defect("commit-rev", f"the field rev is not a TID: {self.rev[:80]!a}")
        if self.version == VERSION and not self.has_prev:
            yield Defect("commit-prev-missing", "the field prev is missing; it must be there, null or a link")
        yield from _cid_defects("data", self.data)
        if self.prev is not None:
            yield from _cid_defects("prev", self.prev)
        if self.sig is None:
            yield Defect("commit-unsigned", "the commit is not signed")
        elif len(self.sig) != SIGNATURE_BYTES:
            size = len(self.sig)
            yield Defect("commit-sig", f"the field sig has {size} bytes, a signature has {SIGNATURE_BYTES}")
        for name in self.extra:
            yield Defect("commit-extra-field", f"the field {name[:80]!a} is unknown")


def decode(block: bytes) -> Commit:
    """The commit in a block. CommitError, naming the field, if it cannot be read as one.

    The block must be canonical DAG-CBOR, a map, of version 2 or 3, with `did` (string) and `data`
    (link); `rev`, `prev` and `sig` must have their type where they are present. What is readable but
    wrong is left to `Commit.defects`.
    """
    try:
        value = dag_cbor.decode(block)
    except CborError as error:
        raise CommitError(f"the commit is not canonical DAG-CBOR: {error}") from None
    if not isinstance(value, dict):
        raise CommitError("the commit is not a map")
    version = value.get("version")
    if version not in (2, VERSION) or type(version) is not int:
        raise CommitError(_wrong(value, "version", "2 or 3"))
    did = value.get("did")
    if not isinstance(did, str):
        raise CommitError(_wrong(value, "did", "a string"))
    data = value.get("data")
    if not isinstance(data, Link):
        raise CommitError(_wrong(value, "data", "a link"))
    rev = value.get("rev")
    if rev is not None and not isinstance(rev, str):
        raise CommitError(_wrong(value, "rev", "a string"))
    prev = value.get("prev")
    if prev is not None and not isinstance(prev, Link):
        raise CommitError(_wrong(value, "prev", "a link or null"))
    sig = value.get("sig")
    if sig is not None and not isinstance(sig, bytes):
        raise CommitError(_wrong(value, "sig", "bytes"))
    for name, item in (("rev", rev), ("sig", sig)):
        if item is None and name in value:
            raise CommitError(f"the field {name} of the commit is null")
    extra = {name: item for name, item in value.items() if name not in _FIELDS}
    return Commit(
        did=did,
        version=version,
        data=data.cid,
        rev=rev,
        prev=prev.cid if prev is not None else None,
        sig=sig,
        has_prev="prev" in value,
        extra=MappingProxyType(extra) if extra else _NOTHING,
    )


def encode(commit: Commit) -> bytes:
    """The block of a commit, with its signature if it has one. `encode(decode(block)) == block`.

    CommitError if a field cannot be written (a malformed CID, a value that DAG-CBOR has no form for).
    """
    fields = _unsigned(commit)
    if commit.sig is not None:
        fields["sig"] = commit.sig
    return _emit(fields)


def unsigned_bytes(commit: Commit) -> bytes:
    """The bytes that the signature covers: the block of the commit without `sig`."""
    return _emit(_unsigned(commit))


def make(did: str, data: bytes, rev: str, signer: Signer | None) -> tuple[bytes, bytes]:
    """A new version 3 commit (`prev` null): its CID and its block.

    Without a signer the field `sig` is left out, so that nobody takes the commit for a signed one.
    SyntaxRuleError if `did` or `rev` breaks its syntax, CommitError if `data` is no CID.
    """
    syntax.check_did(did)
    tid.decode(rev)
    commit = Commit(did=did, version=VERSION, data=data, rev=rev)
    if signer is not None:
        signature = signer.sign(unsigned_bytes(commit))
        commit = Commit(did=did, version=VERSION, data=data, rev=rev, sig=signature)
    block = encode(commit)
    return cids.for_block(block), block


def _unsigned(commit: Commit) -> dict[str, Any]:
    fields: dict[str, Any] = dict(commit.extra)
    fields["did"] = commit.did
    fields["version"] = commit.version
    try:
        fields["data"] = Link(commit.data)
        if commit.rev is not None:
            fields["rev"] = commit.rev
        if commit.prev is not None:
            fields["prev"] = Link(commit.prev)
        elif commit.has_prev:
            fields["prev"] = None
    except CidError as error:
        raise CommitError(f"the commit holds a malformed CID: {error}") from None
    return fields


def _emit(fields: dict[str, Any]) -> bytes:
    try:
        return dag_cbor.encode(fields)
    except CborError as error:
        raise CommitError(f"the commit cannot be written: {error}") from None


def _cid_defects(name: str, cid: bytes) -> Iterator[Defect]:
    code, digest = cids.hash_of(cid)
    if cids.codec_of(cid) != cids.DAG_CBOR or code != cids.SHA2_256 or len(digest) != 32:
        yield Defect(
            f"commit-{name}", f"the field {name} is not a dag-cbor sha2-256 link: {cids.to_text(cid)}"
        )


def _wrong(value: Mapping[str, Any], name: str, wanted: str) -> str:
    if name not in value:
        return f"the commit has no field {name}"
    return f"the field {name} of the commit is not {wanted}"
