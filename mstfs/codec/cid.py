"""CIDs as plain bytes: taking them apart, text forms, hashing (multiformats: CID, multihash).

Everything here takes and gives the binary form. A function that is handed a CID which was never
checked raises CidError when it stumbles; `check` is the only full check of the form.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import libipld
from blake3 import blake3

from mstfs.codec import varint
from mstfs.codec.varint import Buffer
from mstfs.errors import CidError, VarintError
from mstfs.limits import CID_BYTES

SHA1 = 0x11
SHA2_256 = 0x12
SHA2_512 = 0x13
BLAKE3 = 0x1E
BLAKE2B_256 = 0xB220
IDENTITY = 0x00

RAW = 0x55
DAG_PB = 0x70
DAG_CBOR = 0x71

DIGEST_BYTES_MIN = 16
"""A shorter digest is no proof of content: 64 bits can be collided on one machine."""

COMMON = frozenset(bytes((1, codec, SHA2_256, 32)) for codec in (RAW, DAG_PB, DAG_CBOR))
"""The first four bytes of nearly every CID; 32 bytes of digest follow."""
_BLAKE3 = frozenset(bytes((1, codec, BLAKE3, 32)) for codec in (RAW, DAG_PB, DAG_CBOR))
USUAL = COMMON | _BLAKE3
"""The same, and those of HAMTs."""
_PREFIXES = {(prefix[2], prefix[1]): prefix for prefix in USUAL}
_V0 = b"\x12\x20"
_sha256 = hashlib.sha256


@dataclass(frozen=True, slots=True)
class Link:
    """A link inside decoded data. It always holds a well-formed binary CID (else CidError)."""

    cid: bytes

    def __post_init__(self) -> None:
        check(self.cid)

    def __bytes__(self) -> bytes:
        return self.cid

    def __repr__(self) -> str:
        return f"Link({to_text(self.cid)})"


# --- the binary form --------------------------------------------------------------------------


def split(data: Buffer, offset: int) -> int:
    """The offset just after the binary CID (version 0 or 1) that starts at `offset`.

    CidError if it is malformed, cut off, or longer than `limits.CID_BYTES`.
    """
    head = bytes(data[offset : offset + 4])
    if head in USUAL and offset + 36 <= len(data):
        return offset + 36
    if head[:2] == _V0:
        end = offset + 34
    else:
        try:
            version, position = varint.decode(data, offset)
            if version != 1:
                raise CidError(f"CID at offset {offset} has the unknown version {version}")
            _, position = varint.decode(data, position)
            _, position = varint.decode(data, position)
            length, position = varint.decode(data, position)
        except VarintError as error:
            raise CidError(f"CID at offset {offset} is malformed: {error}") from None
        end = position + length
    if end - offset > CID_BYTES:
        raise CidError(f"CID at offset {offset} is longer than {CID_BYTES} bytes")
    if end > len(data):
        raise CidError(f"CID at offset {offset} is cut off")
    return end


def check(cid: bytes) -> None:
    """CidError unless the bytes are exactly one well-formed CID."""
    if len(cid) == 36 and cid[:4] in USUAL:
        return
    if split(cid, 0) != len(cid):
        raise CidError("a CID is followed by other bytes")


def codec_of(cid: bytes) -> int:
    """The multicodec of the content: DAG_CBOR, RAW, DAG_PB, ..."""
    return _parts(cid)[0]


def multihash_of(cid: bytes) -> bytes:
    """Hash code, digest length and digest: what blocks are matched by."""
    if len(cid) == 36 and cid[:4] in USUAL:
        return cid[2:]
    return cid[_parts(cid)[1] :]


def hash_of(cid: bytes) -> tuple[int, bytes]:
    """The code of the hash function, and the digest."""
    if len(cid) == 36 and cid[:4] in USUAL:
        return cid[2], cid[4:]
    _, position = _parts(cid)
    try:
        code, position = varint.decode(cid, position)
        _, position = varint.decode(cid, position)
    except VarintError as error:
        raise CidError(f"malformed CID: {error}") from None
    return code, cid[position:]


def _parts(cid: bytes) -> tuple[int, int]:
    # The codec, and the offset of the multihash.
    try:
        if cid[0] == 1:
            if cid[1] < 0x80:
                return cid[1], 2
            return varint.decode(cid, 1)
    except (IndexError, VarintError) as error:
        raise CidError(f"malformed CID: {error}") from None
    if len(cid) == 34 and cid[:2] == _V0:
        return DAG_PB, 0
    raise CidError("malformed CID: unknown version")


def identity_data(cid: bytes) -> bytes | None:
    """The content that an identity CID carries in itself, or None for every other CID."""
    if len(cid) == 36 and cid[:4] in USUAL:
        return None
    code, digest = hash_of(cid)
    return digest if code == IDENTITY else None


# --- text -------------------------------------------------------------------------------------


def parse(text: str) -> bytes:
    """The binary CID of a person's text: any multibase for version 1, base58btc `Qm...` for version 0.

    CidError if it is not a CID.
    """
    from multiformats import multibase

    if len(text) > 8 * CID_BYTES + 1:  # base2 is the longest spelling
        raise CidError(f"a text of {len(text)} characters is not a CID")
    version_0 = len(text) == 46 and text.startswith("Qm")
    try:
        cid: bytes = multibase.decode("z" + text if version_0 else text)
    except Exception as error:
        # The classes that the decoders of the various bases raise have no common parent.
        raise CidError(f"{text!r} is not a CID: {error}") from None
    if cid[:1] == b"\x12" and not version_0:
        raise CidError(f"{text!r} is not a CID: version 0 takes no multibase prefix")
    try:
        check(cid)
    except CidError as error:
        raise CidError(f"{text!r} is not a CID: {error}") from None
    return cid


def from_base32(text: str) -> bytes:
    """The binary CID of the canonical text of a version 1 CID (`b...`): what programs write.

    Much faster than `parse`, and strict: no other base, no upper case, no padding. CidError otherwise.
    """
    if text[:1] != "b" or len(text) > 2 * CID_BYTES:
        raise CidError(f"{text[:100]!r} is not the base32 text of a CID")
    try:
        cid: bytes = libipld.decode_multibase(text)[1]
    except ValueError:
        raise CidError(f"{text!r} is not the base32 text of a CID") from None
    if cid[:1] != b"\x01" or libipld.encode_multibase("b", cid) != text:
        raise CidError(f"{text!r} is not the base32 text of a CID")
    check(cid)
    return cid


def to_text(cid: bytes) -> str:
    """The text that people and programs exchange: base32 `b...`, or base58btc `Qm...` for version 0."""
    version_0 = len(cid) == 34 and cid[:2] == _V0
    text: str = libipld.encode_multibase("z" if version_0 else "b", cid)
    return text[1:] if version_0 else text


# --- hashing ----------------------------------------------------------------------------------


def for_block(data: bytes, codec: int = DAG_CBOR, hash_code: int = SHA2_256) -> bytes:
    """The version 1 CID of a block. CidError if the hash function is not supported."""
    prefix = _PREFIXES.get((hash_code, codec))
    if prefix is not None:
        return prefix + (_sha256(data).digest() if hash_code == SHA2_256 else blake3(data).digest())
    digest = data if hash_code == IDENTITY else _digest(hash_code, data)
    parts = (1, codec, hash_code, len(digest))
    cid = b"".join([varint.encode(part) for part in parts]) + digest
    if len(cid) > CID_BYTES:
        raise CidError(f"an identity CID of {len(cid)} bytes is longer than {CID_BYTES}")
    return cid


def matches(cid: bytes, data: bytes) -> bool:
    """Whether `data` is the content that `cid` names.

    A truncated digest is compared by its length. CidError if the CID proves nothing: an unknown
    or broken hash function (sha1), or a digest of the wrong length.
    """
    if len(cid) == 36:
        head = cid[:4]
        if head in COMMON:
            return _sha256(data).digest() == cid[4:]
        if head in _BLAKE3:
            return bool(blake3(data).digest() == cid[4:])
    code, digest = hash_of(cid)
    if code == IDENTITY:
        return digest == data
    if len(digest) < DIGEST_BYTES_MIN:
        raise CidError(f"a digest of {len(digest)} bytes is too short to prove its content")
    full = _digest(code, data)
    if len(digest) > len(full):
        raise CidError(f"a digest of {len(digest)} bytes is too long for hash function {code:#x}")
    return full[: len(digest)] == digest


_HASHES: dict[int, Callable[[bytes], bytes]] = {
    SHA2_256: lambda data: _sha256(data).digest(),
    SHA2_512: lambda data: hashlib.sha512(data).digest(),
    BLAKE3: lambda data: bytes(blake3(data).digest()),
    BLAKE2B_256: lambda data: hashlib.blake2b(data, digest_size=32).digest(),
}


def _digest(code: int, data: bytes) -> bytes:
    function = _HASHES.get(code)
    if function is None:
        reason = "sha1 can be forged" if code == SHA1 else "it is unknown"
        raise CidError(f"hash function {code:#x} is not supported: {reason}")
    return function(data)
