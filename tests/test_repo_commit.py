"""Commits: both versions, byte-exact round trips, the defects, and what is signed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, varint
from mstfs.codec.cid import Link
from mstfs.errors import CommitError, SignatureError, SyntaxRuleError
from mstfs.repo import commit, signing

DID = "did:plc:z72i7hdynmk6r22z27h6tvur"
REV = "3juflvfc2uo2y"
DATA = cids.for_block(b"the root of a tree")
SIG = bytes(range(64))
V3: dict[str, Any] = {"did": DID, "version": 3, "data": Link(DATA), "rev": REV, "prev": None, "sig": SIG}


def block_of(**changes: object) -> bytes:
    """The block of a sound commit with other fields; the value `...` leaves a field out."""
    fields = {name: value for name, value in {**V3, **changes}.items() if value is not ...}
    return dag_cbor.encode(fields)


def rules(block: bytes) -> set[str]:
    return {defect.rule for defect in commit.decode(block).defects()}


def car_blocks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    data = path.read_bytes()
    length, position = varint.decode(data, 0)
    position += length
    while position < len(data):
        length, position = varint.decode(data, position)
        start = cids.split(data, position)
        yield data[position:start], data[start : position + length]
        position += length


@pytest.mark.parametrize(
    ("name", "did", "rev"),
    [
        ("arroba__snarfed2", "did:plc:5zspv27pk4iqtrl2ql2nykjh", "3lh6cdwqxx42x"),
        ("indigo__greenground.repo", "did:plc:kzcqyc3unb33eh5sxzsfs25z", "3k67up3j7hf2x"),
        ("repo-stream__empty", "did:plc:mhkgaud2jb4rypzt4ph2a3co", "3m5fo6xa2js2x"),
        ("repo-stream__tiny", "did:plc:7hptvnhdyeu53xp6rz7e42iy", "3lscuqc52or2x"),
    ],
)
def test_real_commits(shared_fixtures: Path, name: str, did: str, rev: str) -> None:
    found = 0
    for cid, block in car_blocks(shared_fixtures / "atproto" / f"{name}.car"):
        value = dag_cbor.decode(block)
        if not (isinstance(value, dict) and "sig" in value):
            continue
        found += 1
        read = commit.decode(block)
        assert (read.did, read.rev, read.version) == (did, rev, 3)
        assert list(read.defects()) == []
        assert commit.encode(read) == block
        assert cids.for_block(commit.encode(read)) == cid
    assert found == 1


def test_fields() -> None:
    read = commit.decode(block_of(prev=Link(DATA)))
    assert read == commit.Commit(DID, 3, DATA, REV, prev=DATA, sig=SIG)
    assert read.is_signed
    assert not commit.decode(block_of(sig=...)).is_signed
    assert hash(read) == hash(commit.decode(block_of(prev=Link(DATA))))


optional = st.sampled_from(["absent", "null", "link"])


@given(
    version=st.sampled_from([2, 3]),
    rev=st.none() | st.text(max_size=15),
    prev=optional,
    sig=st.none() | st.binary(max_size=70),
    extra=st.dictionaries(st.text(max_size=8), st.integers(0, 9) | st.none() | st.binary(), max_size=3),
)
def test_encode_gives_the_block_again(
    version: int, rev: str | None, prev: str, sig: bytes | None, extra: dict[str, Any]
) -> None:
    fields = {**extra, "did": DID, "version": version, "data": Link(DATA)}
    for name in ("rev", "prev", "sig"):
        fields.pop(name, None)
    if rev is not None:
        fields["rev"] = rev
    if prev != "absent":
        fields["prev"] = Link(DATA) if prev == "link" else None
    unsigned = dag_cbor.encode(fields)
    if sig is not None:
        fields["sig"] = sig
    block = dag_cbor.encode(fields)
    read = commit.decode(block)
    assert commit.encode(read) == block
    assert commit.unsigned_bytes(read) == unsigned


@pytest.mark.parametrize("prev", [None, Link(DATA), ...])
def test_version_2_needs_no_rev(prev: object) -> None:
    block = block_of(version=2, rev=..., prev=prev)
    read = commit.decode(block)
    assert read.rev is None
    assert list(read.defects()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": ...}, "no field version"),
        ({"version": 1}, "field version"),
        ({"version": 3.0}, "field version"),
        ({"version": True}, "field version"),
        ({"version": "3"}, "field version"),
        ({"did": ...}, "no field did"),
        ({"did": b"did:web:a"}, "field did"),
        ({"data": ...}, "no field data"),
        ({"data": None}, "field data"),
        ({"data": DATA}, "field data"),
        ({"rev": None}, "field rev"),
        ({"rev": 7}, "field rev"),
        ({"prev": "x"}, "field prev"),
        ({"prev": DATA}, "field prev"),
        ({"sig": None}, "field sig"),
        ({"sig": "x"}, "field sig"),
    ],
)
def test_unreadable(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(CommitError, match=reason):
        commit.decode(block_of(**changes))


@pytest.mark.parametrize("block", [b"", b"\xff", b"\xa0\x00", dag_cbor.encode([1]), b"\xa1\x63did\x18\x01"])
def test_what_is_no_map(block: bytes) -> None:
    with pytest.raises(CommitError):
        commit.decode(block)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"did": "did:PLC:x"}, "commit-did"),
        ({"rev": ...}, "commit-rev-missing"),
        ({"rev": "2023-01-01"}, "commit-rev"),
        ({"prev": ...}, "commit-prev-missing"),
        ({"prev": Link(cids.for_block(b"", cids.RAW))}, "commit-prev"),
        ({"data": Link(cids.for_block(b"", cids.RAW))}, "commit-data"),
        ({"data": Link(cids.for_block(b"", hash_code=cids.BLAKE3))}, "commit-data"),
        ({"sig": ...}, "commit-unsigned"),
        ({"sig": bytes(63)}, "commit-sig"),
        ({"sig": b""}, "commit-sig"),
        ({"note": 1}, "commit-extra-field"),
    ],
)
def test_defects(changes: dict[str, object], rule: str) -> None:
    assert rules(block_of()) == set()
    assert rules(block_of(**changes)) == {rule}


def test_a_defect_of_a_hostile_field_is_printable() -> None:
    block = block_of(did="\x1b[2J" * 1000, rev="\n" * 1000, **{"\x07" * 1000: 1})
    messages = [defect.message for defect in commit.decode(block).defects()]
    assert len(messages) == 3
    assert all(message.isprintable() and len(message) < 500 for message in messages)


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_make_signs(curve: signing.Curve) -> None:
    key = signing.signing_key(curve, b"\x01" * 32)
    cid, block = commit.make(DID, DATA, REV, key)
    read = commit.decode(block)
    assert cid == cids.for_block(block)
    assert read.sig is not None
    assert read == commit.Commit(DID, 3, DATA, REV, sig=read.sig)
    assert list(read.defects()) == []
    signing.verify(key.did_key, commit.unsigned_bytes(read), read.sig)
    with pytest.raises(SignatureError):
        signing.verify(key.did_key, block, read.sig)


def test_make_unsigned_leaves_the_field_out() -> None:
    cid, block = commit.make(DID, DATA, REV, None)
    assert cid == cids.for_block(block)
    assert block == block_of(sig=...)
    assert rules(block) == {"commit-unsigned"}


def test_make_refuses_bad_fields() -> None:
    with pytest.raises(SyntaxRuleError):
        commit.make("plc:x", DATA, REV, None)
    with pytest.raises(SyntaxRuleError):
        commit.make(DID, DATA, "now", None)
    with pytest.raises(CommitError):
        commit.make(DID, b"no cid", REV, None)
