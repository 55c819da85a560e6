"""Signing keys and signatures: interoperability fixtures, published vectors, all forms of a key, no leaks."""

import base64
import json
import os
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mstfs.errors import SignatureError
from mstfs.repo import signing
from mstfs.repo.signing import Curve

CURVES: tuple[Curve, ...] = ("k256", "p256")
SECRET = bytes.fromhex("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
ORDERS = {
    "k256": 2**256 - 0x14551231950B75FC4402DA1732FC9BEBF,
    "p256": 2**256 - 2**224 + 2**192 - 0x4319055258E8617B0C46353D039CDAAF,
}


def unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def private_of(curve: Curve, secret: bytes = SECRET) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(
        int.from_bytes(secret, "big"), ec.SECP256K1() if curve == "k256" else ec.SECP256R1()
    )


def test_interop_signatures(shared_fixtures: Path) -> None:
    path = shared_fixtures / "atproto/interop/crypto/signature-fixtures.json"
    cases: list[dict[str, Any]] = json.loads(path.read_text())
    assert len(cases) == 6
    curves: dict[str, Curve] = {"ES256": "p256", "ES256K": "k256"}
    reasons = {"high-s": "high s", "der-encoded": "DER"}
    for case in cases:
        key = signing.parse_public_key(case["publicKeyDid"])
        assert key.curve == curves[case["algorithm"]]
        assert key.did_key == case["publicKeyDid"]
        assert signing.parse_public_key(key.multikey) == key
        assert signing.parse_bare_point(case["publicKeyMultibase"], key.curve) == key
        message, signature = unpadded(case["messageBase64"]), unpadded(case["signatureBase64"])
        if case["validSignature"]:
            signing.verify(case["publicKeyDid"], message, signature)
            with pytest.raises(SignatureError, match="does not match"):
                signing.verify(case["publicKeyDid"], message + b"!", signature)
        else:
            with pytest.raises(SignatureError, match=reasons[case["tags"][0]]):
                signing.verify(case["publicKeyDid"], message, signature)


def test_published_vectors() -> None:
    # RFC 6979, A.2.5 (its s is the high one), and the vector that secp256k1 libraries share.
    p256 = signing.signing_key("p256", SECRET)
    r = 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
    s = ORDERS["p256"] - 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8
    expected_p256 = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    signing.verify(p256.did_key, b"sample", expected_p256)
    k256 = signing.signing_key("k256", (1).to_bytes(32, "big"))
    expected_k256 = bytes.fromhex(
        "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
        "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
    )
    signing.verify(k256.did_key, b"Satoshi Nakamoto", expected_k256)
    if signing._ecdsa(deterministic=True).deterministic_signing:
        assert p256.sign(b"sample") == expected_p256
        assert k256.sign(b"Satoshi Nakamoto") == expected_k256


def test_published_did_keys() -> None:
    # did:key method specification, test vectors.
    for text, curve in (
        ("did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme", "k256"),
        ("did:key:zDnaerx9CtbPJ1q36T5Ln5wYt3MQYeGRG5ehnPAmxcf5mDZpv", "p256"),
    ):
        key = signing.parse_public_key(text)
        assert (key.curve, key.did_key) == (curve, text)


@settings(max_examples=40)
@given(st.sampled_from(CURVES), st.integers(1, 2**255), st.binary(max_size=80))
def test_sign_and_verify(curve: Curve, number: int, message: bytes) -> None:
    key = signing.signing_key(curve, number.to_bytes(32, "big"))
    signature = key.sign(message)
    assert len(signature) == 64
    assert int.from_bytes(signature[32:], "big") <= ORDERS[curve] // 2
    signing.verify(key.did_key, message, signature)
    signing.verify(key.public.multikey, message, signature)
    if signing._ecdsa(deterministic=True).deterministic_signing:
        assert key.sign(message) == signature
    other = signing.signing_key(curve, (number + 1).to_bytes(32, "big"))
    with pytest.raises(SignatureError, match="does not match"):
        signing.verify(other.did_key, message, signature)


@pytest.mark.parametrize("curve", CURVES)
def test_sign_without_rfc_6979(curve: Curve, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ec.ECDSA

    def old(algorithm: Any) -> ec.ECDSA:
        return real(algorithm)

    monkeypatch.setattr(ec, "ECDSA", old)
    key = signing.signing_key(curve, SECRET)
    signatures = {key.sign(b"message") for _ in range(8)}
    assert len(signatures) == 8
    for signature in signatures:
        signing.verify(key.did_key, b"message", signature)


@pytest.mark.parametrize("curve", CURVES)
def test_every_other_form_of_a_signature_is_refused(curve: Curve) -> None:
    key, order = signing.signing_key(curve, SECRET), ORDERS[curve]
    good = key.sign(b"message")
    r, s = int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big")
    signing.verify(key.did_key, b"message", good)

    def raw(first: int, second: int) -> bytes:
        return first.to_bytes(32, "big") + second.to_bytes(32, "big")

    for signature, reason in (
        (raw(r, order - s), "high s"),
        (encode_dss_signature(r, s), "DER"),
        (good[:63], "63"),
        (good + b"\0", "65"),
        (b"", "this one 0"),
        (raw(0, s), "outside the group"),
        (raw(r, 0), "outside the group"),
        (raw(order, s), "outside the group"),
        (raw(r, order), "outside the group"),
        (b"\xff" * 64, "outside the group"),
        (raw(s, min(r, order - r)), "does not match"),
    ):
        with pytest.raises(SignatureError, match=reason):
            signing.verify(key.did_key, b"message", signature)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not start with 'z'"),
        ("did:key:", "does not start with 'z'"),
        ("did:plc:z72i7hdynmk6r22z27h6tvur", "does not start with 'z'"),
        ("did:key:z0OIl", "not base58btc"),
        ("did:key:z" + "1" * 1000, "too long"),
        ("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", "neither"),  # Ed25519
        ("did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBm", "bytes|neither"),
    ],
)
def test_what_is_no_public_key(text: str, reason: str) -> None:
    with pytest.raises(SignatureError, match=reason):
        signing.verify(text, b"", bytes(64))


@pytest.mark.parametrize("curve", CURVES)
def test_a_point_that_is_not_on_the_curve(curve: Curve) -> None:
    good = signing.signing_key(curve, SECRET).sign(b"")
    refused = 0
    for x in range(1, 9):
        key = signing.PublicKey(curve, b"\x02" + x.to_bytes(32, "big"))
        with pytest.raises(SignatureError) as caught:
            signing.verify_key(key, b"", good)
        refused += "not a point" in str(caught.value)
    assert refused > 0


@pytest.mark.parametrize("curve", CURVES)
def test_bare_points(curve: Curve) -> None:
    key = signing.signing_key(curve, SECRET).public
    long = private_of(curve).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert signing.parse_bare_point(signing._base58(long), curve) == key
    assert signing.parse_bare_point(signing._base58(key.point), curve) == key
    for wrong in (key.point[:-1], b"\x05" + key.point[1:], long[:-1], b""):
        with pytest.raises(SignatureError):
            signing.parse_bare_point(signing._base58(wrong), curve)


@pytest.mark.parametrize("curve", CURVES)
def test_every_form_of_a_signing_key(curve: Curve, tmp_path: Path) -> None:
    private = private_of(curve)
    key = signing.signing_key(curve, SECRET)
    pkcs8 = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    sec1 = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert b"BEGIN PRIVATE KEY" in pkcs8
    assert b"BEGIN EC PRIVATE KEY" in sec1
    for text in (
        pkcs8,
        sec1,
        b"# my key\n" + pkcs8,
        f"{curve}:{SECRET.hex()}\n".encode(),
        f"  {curve}:{SECRET.hex().upper()}".encode(),
        signing.to_multikey(key).encode(),
        signing.to_multikey(key).encode() + b"\r\n",
    ):
        path = tmp_path / "key"
        path.write_bytes(text)
        loaded = signing.load_signing_key(path)
        assert loaded == key
        assert loaded.did_key == key.did_key
        signing.verify(key.did_key, b"message", loaded.sign(b"message"))


def test_private_multikeys_have_their_known_prefixes() -> None:
    # Multicodecs 0x1301 and 0x1306, then the number; in base58btc they begin alike for every key.
    assert signing.to_multikey(signing.signing_key("k256", SECRET)).startswith("z3v")
    assert signing.to_multikey(signing.signing_key("p256", SECRET)).startswith("z42")


def test_generate() -> None:
    for curve in CURVES:
        first, second = signing.generate(curve), signing.generate(curve)
        assert first.curve == curve
        assert first.did_key != second.did_key
        assert signing.parse_signing_key(signing.to_multikey(first).encode()) == first
    assert signing.generate().curve == "k256"


def bad_keys() -> dict[str, bytes]:
    k256 = private_of("k256")
    pem = k256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    other = ec.derive_private_key(int.from_bytes(SECRET, "big"), ec.SECP384R1())
    public = k256.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    secret = SECRET.hex()
    return {
        "empty": b"",
        "binary": SECRET,
        "bare hex": secret.encode(),
        "short hex": f"k256:{secret[:-1]}".encode(),
        "long hex": f"k256:{secret}0".encode(),
        "other prefix": f"p384:{secret}".encode(),
        "zero": b"k256:" + b"0" * 64,
        "order": b"p256:" + hex(ORDERS["p256"])[2:].encode(),
        "public multikey": signing.signing_key("k256", SECRET).public.multikey.encode(),
        "unknown multikey": signing._base58(b"\x80\x26" + SECRET).encode(),
        "cut multikey": signing.to_multikey(signing.signing_key("k256", SECRET))[:-3].encode(),
        "cut pem": pem[:-60],
        "garbled pem": pem.replace(pem[60:64], b"!!!!"),
        "public pem": public,
        "encrypted": k256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw")),
        "other curve": other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "ed25519": ed25519.Ed25519PrivateKey.from_private_bytes(SECRET).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        "huge": f"k256:{secret}".encode() + b" " * (65 << 10),
    }


@pytest.mark.parametrize("name", bad_keys())
def test_bad_signing_keys_are_named_and_never_quoted(name: str, tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    content = bad_keys()[name]
    path.write_bytes(content)
    with pytest.raises(SignatureError) as caught:
        signing.load_signing_key(path)
    assert str(path) in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert caught.value.__cause__ is None
    lines = [line for line in content.decode("latin-1").split() if len(line) > 20]
    for piece in (
        SECRET.hex(),
        SECRET.hex()[:-1],
        repr(SECRET)[2:-1],
        str(int.from_bytes(SECRET, "big")),
        *lines,
    ):
        assert piece not in shown


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        signing.load_signing_key(tmp_path / "none")


def test_nothing_shows_the_secret() -> None:
    key = signing.signing_key("k256", SECRET)
    assert repr(key) == str(key) == f"{key}" == f"SigningKey({key.did_key})"
    assert SECRET.hex() not in repr(vars(key))
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)
    with pytest.raises(SignatureError) as caught:
        signing.signing_key("k256", b"\xff" * 32)
    assert "ff" not in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "private"), [(0o600, True), (0o400, True), (0o640, False), (0o604, False), (0o666, False)]
)
def test_mode_is_private(tmp_path: Path, mode: int, private: bool) -> None:
    path = tmp_path / "key"
    path.touch()
    os.chmod(path, mode)
    assert signing.mode_is_private(path) == private
