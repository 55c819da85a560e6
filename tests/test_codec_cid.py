"""CIDs: against multiformats, and against everything that is not one."""

import hashlib
import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstfs.codec import cid as cids
from mstfs.errors import CidError
from mstfs.limits import CID_BYTES

DATA = b"some bytes"
V1 = cids.for_block(DATA)
V0 = cids.for_block(DATA, cids.DAG_PB)[2:]
BLAKE3 = cids.for_block(DATA, cids.RAW, cids.BLAKE3)
BLAKE2B = cids.for_block(DATA, cids.DAG_CBOR, cids.BLAKE2B_256)
SHA512 = cids.for_block(DATA, cids.RAW, cids.SHA2_512)
INLINE = cids.for_block(DATA, cids.RAW, cids.IDENTITY)
BIG_CODEC = b"\x01\x85\x01" + V1[2:]
ALL = [V1, V0, BLAKE3, BLAKE2B, SHA512, INLINE, BIG_CODEC]


def spelled(code: bytes, digest: bytes) -> bytes:
    return b"\x01\x55" + code + bytes((len(digest),)) + digest


@pytest.mark.parametrize("cid", ALL)
def test_split_finds_the_end(cid: bytes) -> None:
    data = b"xyz" + cid + b"tail"
    with mmap.mmap(-1, len(data)) as mapped:
        mapped.write(data)
        for buffer in (data, memoryview(data), mapped):
            assert cids.split(buffer, 3) == 3 + len(cid)


@pytest.mark.parametrize("cid", ALL)
def test_every_cut_is_refused(cid: bytes) -> None:
    cids.check(cid)
    for length in range(len(cid)):
        with pytest.raises(CidError):
            cids.check(cid[:length])
        with pytest.raises(CidError):
            cids.split(memoryview(cid)[:length], 0)
    with pytest.raises(CidError):
        cids.check(cid + b"\x00")


@given(st.binary(max_size=CID_BYTES + 8))
def test_any_bytes_are_a_cid_or_refused(data: bytes) -> None:
    for function in (cids.codec_of, cids.multihash_of, cids.hash_of, cids.identity_data, cids.check):
        try:
            function(data)
        except CidError:
            continue


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        b"\x00",
        b"\x02" + V1[1:],
        b"\x12\x21" + V0[2:],
        b"\x81\x00" + V1[1:],
        b"\x01\x71\x12" + b"\xff" * 9,
    ],
)
def test_malformed(malformed: bytes) -> None:
    with pytest.raises(CidError):
        cids.split(malformed, 0)


def test_length_limit() -> None:
    longest = spelled(b"\x00", bytes(CID_BYTES - 4))
    cids.check(longest)
    with pytest.raises(CidError, match="longer"):
        cids.check(spelled(b"\x00", bytes(CID_BYTES - 3)))
    with pytest.raises(CidError, match="longer"):
        cids.for_block(bytes(CID_BYTES), cids.RAW, cids.IDENTITY)


def test_parts() -> None:
    assert [cids.codec_of(cid) for cid in ALL] == [0x71, 0x70, 0x55, 0x71, 0x55, 0x55, 0x85]
    assert [cids.hash_of(cid)[0] for cid in ALL] == [0x12, 0x12, 0x1E, 0xB220, 0x13, 0x00, 0x12]
    digest = hashlib.sha256(DATA).digest()
    assert cids.hash_of(V1) == cids.hash_of(V0) == (cids.SHA2_256, digest)
    assert cids.multihash_of(V1) == cids.multihash_of(V0) == cids.multihash_of(BIG_CODEC) == V0
    assert cids.identity_data(INLINE) == DATA
    assert [cids.identity_data(cid) for cid in ALL if cid != INLINE] == [None] * 6


# --- text -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cid", ALL)
def test_text_round_trip(cid: bytes) -> None:
    text = cids.to_text(cid)
    assert cids.parse(text) == cid
    assert text.startswith("Qm" if cid == V0 else "b")
    if cid != V0:
        assert cids.from_base32(text) == cid


@given(st.binary(min_size=32, max_size=32), st.sampled_from([cids.RAW, cids.DAG_CBOR, cids.DAG_PB]))
def test_text_agrees_with_multiformats(digest: bytes, codec: int) -> None:
    from multiformats import CID

    cid = bytes((1, codec, 0x12, 0x20)) + digest
    assert str(CID.decode(cid).set(base="base32")) == cids.to_text(cid)
    assert str(CID("base58btc", 0, "dag-pb", cid[2:])) == cids.to_text(cid[2:])


@pytest.mark.parametrize("base", ["base16", "base32upper", "base36", "base58btc", "base64url", "base2"])
def test_every_multibase_is_read(base: str) -> None:
    from multiformats import multibase

    text = multibase.encode(V1, base)
    assert cids.parse(text) == V1
    with pytest.raises(CidError):
        cids.from_base32(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "Qm",
        "hello",
        "é",
        "\ud800",
        "Qm" + "0" * 44,
        cids.to_text(V1) + " ",
        " " + cids.to_text(V1),
        cids.to_text(V1)[:-1],
        cids.to_text(V1) + "a",
        "z" + cids.to_text(V0),
        "b" * 100_000,
        "f0155111400",
    ],
)
def test_text_that_is_no_cid(text: str) -> None:
    with pytest.raises(CidError):
        cids.parse(text)
    with pytest.raises(CidError):
        cids.from_base32(text)


def test_from_base32_takes_one_spelling() -> None:
    text = cids.to_text(V1)
    # The last character carries three bits that no byte needs: they must be zero.
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    other = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    for spelling in (text.upper(), text + "=", other):
        with pytest.raises(CidError):
            cids.from_base32(spelling)


# --- hashing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cid", ALL)
def test_matches(cid: bytes) -> None:
    assert cids.matches(cid, DATA)
    assert not cids.matches(cid, DATA + b"!")


def test_truncated_digests_are_compared_as_far_as_they_go() -> None:
    digest = hashlib.sha256(DATA).digest()
    assert cids.matches(spelled(b"\x12", digest[:20]), DATA)
    assert not cids.matches(spelled(b"\x12", digest[:19] + b"\x00"), DATA)


@pytest.mark.parametrize(
    "cid",
    [
        spelled(b"\x11", hashlib.sha1(DATA).digest()),
        spelled(b"\x12", hashlib.sha256(DATA).digest()[:15]),
        spelled(b"\x12", b""),
        spelled(b"\x12", hashlib.sha256(DATA).digest() + b"\x00"),
        spelled(b"\xb1\x20", hashlib.sha256(DATA).digest()),
    ],
)
def test_digests_that_prove_nothing(cid: bytes) -> None:
    cids.check(cid)
    with pytest.raises(CidError):
        cids.matches(cid, DATA)


def test_for_block_refuses_unknown_hashes() -> None:
    with pytest.raises(CidError):
        cids.for_block(DATA, cids.RAW, 0x1234)
    with pytest.raises(CidError, match="forged"):
        cids.for_block(DATA, cids.RAW, cids.SHA1)


# --- links ------------------------------------------------------------------------------------


def test_links_are_values() -> None:
    assert cids.Link(V1) == cids.Link(bytes(V1))
    assert cids.Link(V1) != cids.Link(V0)
    bare: object = V1
    assert cids.Link(V1) != bare
    assert len({cids.Link(V1), cids.Link(V1), cids.Link(V0)}) == 2
    assert repr(cids.Link(V1)) == f"Link({cids.to_text(V1)})"
    with pytest.raises(AttributeError):
        cids.Link(V1).cid = V0  # type: ignore[misc]
    with pytest.raises(CidError):
        cids.Link(b"junk")
