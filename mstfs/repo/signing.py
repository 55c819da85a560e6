"""Signing keys and signatures on the two curves of atproto: secp256k1 ("k256") and NIST P-256 ("p256").

Source: atproto specification "Cryptography". ECDSA over the sha2-256 of the message; a signature is
64 bytes, r then s, big-endian, and s is at most half the order of the group. A public key is a
compressed point behind its multicodec, in base58btc: a multikey `z...`, or `did:key:z...`.

No message, repr or exception cause of this module holds the secret part of a key.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from mstfs.errors import SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

Curve = Literal["k256", "p256"]

SIGNATURE_BYTES = 64
_POINT_BYTES = 33
_SECRET_BYTES = 32
_FILE_BYTES = 64 << 10
_DID_KEY = "did:key:"


class _Facts(NamedTuple):
    order: int
    public_prefix: bytes  # varint of the multicodec secp256k1-pub (0xe7) or p256-pub (0x1200)
    private_prefix: bytes  # varint of secp256k1-priv (0x1301) or p256-priv (0x1306)


# Orders of the groups: SEC 2, version 2, sections 2.4.1 and 2.4.2.
_CURVES: dict[Curve, _Facts] = {
    "k256": _Facts(
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141, b"\xe7\x01", b"\x81\x26"
    ),
    "p256": _Facts(
        0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551, b"\x80\x24", b"\x86\x26"
    ),
}


@dataclass(frozen=True)
class PublicKey:
    """A point on a curve, compressed to 33 bytes. Whether it lies on the curve shows when it is used."""

    curve: Curve
    point: bytes

    @property
    def multikey(self) -> str:
        """The text in a DID document's `publicKeyMultibase`: `z` and base58btc, with the multicodec."""
        return _base58(_CURVES[self.curve].public_prefix + self.point)

    @property
    def did_key(self) -> str:
        """The same as a `did:key:z...`."""
        return _DID_KEY + self.multikey


@dataclass(frozen=True, repr=False)
class SigningKey:
    """A private key. It signs, and tells its curve and its public half; nothing shows its secret."""

    curve: Curve
    public: PublicKey
    _private: "ec.EllipticCurvePrivateKey" = field(compare=False)

    def __repr__(self) -> str:
        return f"SigningKey({self.did_key})"

    def __reduce__(self) -> str:
        raise TypeError("a signing key is not pickled")

    @property
    def did_key(self) -> str:
        """The public half as `did:key:z...`."""
        return self.public.did_key

    def sign(self, message: bytes, /) -> bytes:
        """The signature of `message`: 64 bytes, low s; the same every time where the library has RFC 6979."""
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        r, s = decode_dss_signature(self._private.sign(message, _ecdsa(deterministic=True)))
        order = _CURVES[self.curve].order
        # s and order - s verify alike, and atproto allows only the smaller one.
        return r.to_bytes(32, "big") + min(s, order - s).to_bytes(32, "big")


# --- verifying --------------------------------------------------------------------------------


def verify(did_key: str, message: bytes, signature: bytes) -> None:
    """SignatureError unless `signature` is that of `message` by the key `did:key:z...` (or multikey `z...`).

    DER, other lengths than 64 bytes, and a high s are refused, as atproto asks.
    """
    verify_key(parse_public_key(did_key), message, signature)


def verify_key(key: PublicKey, message: bytes, signature: bytes) -> None:
    """Like `verify`, with a parsed key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    if len(signature) != SIGNATURE_BYTES:
        der = " (it looks like DER, which is not allowed)" if signature[:1] == b"\x30" else ""
        raise SignatureError(f"a signature has {SIGNATURE_BYTES} bytes, this one {len(signature)}{der}")
    order = _CURVES[key.curve].order
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (0 < r < order and 0 < s < order):
        raise SignatureError("the signature holds a number outside the group")
    if s > order // 2:
        raise SignatureError("the signature has a high s, which is not allowed")
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(_curve(key.curve), key.point)
    except ValueError:
        raise SignatureError(f"the public key is not a point on {key.curve}") from None
    try:
        public.verify(encode_dss_signature(r, s), message, _ecdsa(deterministic=False))
    except InvalidSignature:
        raise SignatureError(f"the signature does not match the key {key.did_key}") from None


def parse_public_key(text: str) -> PublicKey:
    """The public key in a `did:key:z...` or a multikey `z...`. SignatureError if it is neither."""
    data = _unbase58(text.removeprefix(_DID_KEY), "a did:key or multikey")
    for curve, facts in _CURVES.items():
        if data.startswith(facts.public_prefix):
            return _public_key(curve, data[len(facts.public_prefix) :])
    raise SignatureError("the public key is neither of secp256k1 nor of P-256")


def parse_bare_point(text: str, curve: Curve) -> PublicKey:
    """The public key in an old `publicKeyMultibase`: a point without multicodec, compressed or not.

    The curve comes from the verification method's type: EcdsaSecp256k1VerificationKey2019 or
    EcdsaSecp256r1VerificationKey2019. SignatureError if it is no point.
    """
    return _public_key(curve, _unbase58(text, "a publicKeyMultibase"))


def _public_key(curve: Curve, point: bytes) -> PublicKey:
    if len(point) == 65 and point[0] == 4:
        point = bytes((2 + (point[64] & 1),)) + point[1:33]
    if len(point) != _POINT_BYTES or point[0] not in (2, 3):
        raise SignatureError(f"a public key has {_POINT_BYTES} bytes, this one {len(point)}")
    return PublicKey(curve, point)


# --- signing keys -----------------------------------------------------------------------------


def load_signing_key(path: Path) -> SigningKey:
    """The signing key in a file, in any form that `parse_signing_key` reads.

    SignatureError, naming the file, if it holds no such key; OSError if it cannot be read.
    `mode_is_private` tells whether others may read it.
    """
    with path.open("rb") as file:
        data = file.read(_FILE_BYTES + 1)
    if len(data) > _FILE_BYTES:
        raise SignatureError(f"{path}: too large for a signing key")
    try:
        return parse_signing_key(data)
    except SignatureError as error:
        raise SignatureError(f"{path}: {error}") from None


def parse_signing_key(data: bytes) -> SigningKey:
    """A signing key from its text: PEM, a private multikey, or the secret number in hex digits.

    PEM is PKCS #8 or SEC 1, a multikey is `z...`, and 64 hex digits stand behind `k256:` or `p256:`.
    SignatureError if it is none of these, is encrypted, or lies on another curve.
    """
    if b"-----BEGIN" in data:
        return _from_pem(data)
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    for curve in _CURVES:
        if re.fullmatch(f"{curve}:[0-9a-fA-F]{{64}}", text):
            return signing_key(curve, bytes.fromhex(text[5:]))
    if re.fullmatch(r"z[1-9A-Za-z]{40,60}", text):
        return _from_multikey(text)
    raise SignatureError(
        "not a signing key: neither PEM, nor a private multikey, nor k256: or p256: with 64 hex digits"
    )


def signing_key(curve: Curve, secret: bytes) -> SigningKey:
    """The signing key of a 32-byte secret number. SignatureError if it is not in 1 ... order - 1."""
    from cryptography.hazmat.primitives.asymmetric import ec

    if len(secret) != _SECRET_BYTES or not 0 < int.from_bytes(secret, "big") < _CURVES[curve].order:
        raise SignatureError(f"not a signing key: the secret number is out of range for {curve}")
    return _signing_key(curve, ec.derive_private_key(int.from_bytes(secret, "big"), _curve(curve)))


def generate(curve: Curve = "k256") -> SigningKey:
    """A new random signing key."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return _signing_key(curve, ec.generate_private_key(_curve(curve)))


def to_multikey(key: SigningKey) -> str:
    """The private multikey of a signing key: a SECRET, for a file of mode 0600 and nothing else."""
    number = key._private.private_numbers().private_value
    return _base58(_CURVES[key.curve].private_prefix + number.to_bytes(_SECRET_BYTES, "big"))


def mode_is_private(path: Path) -> bool:
    """Whether only its owner may read or write the file. OSError if it cannot be looked at."""
    return stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0


def _from_pem(data: bytes) -> SigningKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(data, password=None)
    except TypeError:
        raise SignatureError("the PEM file is encrypted; mstfs reads only unencrypted keys") from None
    except (ValueError, UnsupportedAlgorithm):
        # The library's own message may quote what it could not parse.
        raise SignatureError("the PEM file holds no private key that can be read") from None
    if isinstance(private, ec.EllipticCurvePrivateKey):
        for curve in _CURVES:
            if private.curve.name == _curve(curve).name:
                return _signing_key(curve, private)
    raise SignatureError("the PEM file holds a key that is neither of secp256k1 nor of P-256")


def _from_multikey(text: str) -> SigningKey:
    data = _unbase58(text, "a private multikey")
    for curve, facts in _CURVES.items():
        if data.startswith(facts.private_prefix):
            return signing_key(curve, data[len(facts.private_prefix) :])
        if data.startswith(facts.public_prefix):
            raise SignatureError("this is a public key; a signing key is needed")
    raise SignatureError("the multikey is neither of secp256k1 nor of P-256")


def _signing_key(curve: Curve, private: "ec.EllipticCurvePrivateKey") -> SigningKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return SigningKey(curve, PublicKey(curve, point), private)


def _curve(curve: Curve) -> "ec.EllipticCurve":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.SECP256K1() if curve == "k256" else ec.SECP256R1()


def _ecdsa(*, deterministic: bool) -> "ec.ECDSA":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    if deterministic:
        try:
            return ec.ECDSA(SHA256(), deterministic_signing=True)
        except (TypeError, UnsupportedAlgorithm):
            # An older cryptography, or an OpenSSL before 3.2: random nonces are just as safe.
            pass
    return ec.ECDSA(SHA256())


def _base58(data: bytes) -> str:
    import libipld

    text: str = libipld.encode_multibase("z", data)
    return text


def _unbase58(text: str, what: str) -> bytes:
    import libipld

    # The text is not quoted: by mistake it may be a secret one.
    if text[:1] != "z" or len(text) > 200:
        raise SignatureError(f"not {what}: it does not start with 'z', or is too long")
    try:
        data: bytes = libipld.decode_multibase(text)[1]
    except ValueError:
        raise SignatureError(f"not {what}: it is not base58btc") from None
    return data
