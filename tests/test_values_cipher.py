"""Encrypted values: vectors of other implementations, damage, key files, and what nothing may show."""

import base64
import copy
import pickle
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstfs.errors import DecryptionError, FormatError, LimitExceeded
from mstfs.limits import SEALED_BYTES
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.values.cipher import OVERHEAD, Cipher, Plain, load_key, parse_key

KEY = bytes(range(32))
HEADER = b"sample-header"

# Made by py-hamt 2.4.1 (create_zarr_encryption_transformers) and 3.6.0 (SimpleEncryptedZarrHAMTStore).
PY_HAMT_2 = bytes.fromhex(
    "4a0bc21535a9525b18eaf16e95360566c539916d9a5a56a5f2c16bbf2fa6ce477e34cdd673ed0f41a622605ba538870e8af654ae"
)
PY_HAMT_3 = bytes.fromhex(
    "eba717cd1d95270777127a81dcd3b166913bf3cfb3240d781fb2bb7607f15135dea5f3e540087b3df470451588abde2d6115b6"
)


def test_what_py_hamt_has_sealed() -> None:
    cipher = Cipher(KEY, HEADER)
    assert cipher.decrypt(PY_HAMT_2) == b"\x4bchunk bytes"
    assert cipher.decrypt(PY_HAMT_3) == b"chunk bytes"


def test_the_vector_of_the_construction() -> None:
    # draft-irtf-cfrg-xchacha, appendix A.3.1, with the tag where py-hamt has it.
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    nonce = bytes(range(0x40, 0x58))
    tag = bytes.fromhex("c0875924c1c7987947deafd8780acf49")
    ciphertext = bytes.fromhex(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39"
        "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52e"
    )
    cipher = Cipher(bytes(range(0x80, 0xA0)), bytes.fromhex("50515253c0c1c2c3c4c5c6c7"))
    assert cipher.decrypt(nonce + tag + ciphertext) == text


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_what_is_sealed_opens(plain: bytes, header: bytes) -> None:
    cipher = Cipher(KEY, header)
    sealed = cipher.encrypt(plain)
    assert len(sealed) == len(plain) + OVERHEAD
    assert cipher.decrypt(sealed) == plain
    assert cipher.encrypt(plain) != sealed  # another nonce each time


@given(st.data())
def test_nothing_else_opens(data: st.DataObject) -> None:
    sealed = Cipher(KEY, HEADER).encrypt(b"some text")
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    changed = bytearray(sealed)
    changed[at >> 3] ^= 1 << (at & 7)
    for wrong in (bytes(changed), sealed[: at >> 3], sealed + b"\0"):
        with pytest.raises(DecryptionError):
            Cipher(KEY, HEADER).decrypt(wrong)
    for cipher in (Cipher(KEY, HEADER + b"\0"), Cipher(KEY, b""), Cipher(KEY[::-1], HEADER)):
        with pytest.raises(DecryptionError):
            cipher.decrypt(sealed)


def test_sizes() -> None:
    cipher = Cipher(KEY, HEADER)
    with pytest.raises(DecryptionError, match="39 bytes are too few"):
        cipher.decrypt(bytes(39))
    with pytest.raises(LimitExceeded):
        cipher.decrypt(bytes(SEALED_BYTES + 1))
    with pytest.raises(LimitExceeded):
        cipher.encrypt(bytes(SEALED_BYTES - OVERHEAD + 1))
    for size in (0, 31, 33, 64):
        with pytest.raises(DecryptionError, match=f"has 32 bytes, this one {size}"):
            Cipher(bytes(size), HEADER)


SECRETS = [KEY.hex(), KEY.hex().upper(), base64.b64encode(KEY).decode(), repr(KEY)[2:-1], repr(KEY[:8])[2:-1]]


def shows_no_secret(text: str) -> bool:
    return not any(secret in text for secret in SECRETS)


def test_nothing_shows_the_key(tmp_path: Path) -> None:
    cipher = Cipher(KEY, b"a header")
    texts = [repr(cipher), str(cipher), f"{cipher}"]
    assert not hasattr(cipher, "__dict__")
    file = tmp_path / "key"
    file.write_text("k" + KEY.hex())
    for action in (
        lambda: cipher.decrypt(bytes(100)),
        lambda: cipher.decrypt(b""),
        lambda: Cipher(KEY + b"\0", HEADER),
        lambda: load_key(file),
        lambda: parse_key(base64.b64encode(KEY) + b"!"),
        lambda: parse_key(KEY.hex()[:-1].encode() + b"x"),
    ):
        with pytest.raises(FormatError) as caught:
            action()
        texts.append("".join(traceback.format_exception(caught.value)))
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert all(map(shows_no_secret, texts))
    for spread in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            spread(cipher)


# --- key files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        KEY,
        KEY.hex().encode(),
        KEY.hex().upper().encode() + b"\n",
        b"  " + KEY.hex().encode() + b" \r\n",
        base64.b64encode(KEY),
        base64.b64encode(KEY) + b"\n",
        base64.b64encode(KEY).rstrip(b"="),
    ],
)
def test_forms_of_a_key(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(data)
    assert load_key(file) == KEY


def test_both_alphabets_of_base64() -> None:
    key = b"\xff\xfe\xfb" * 10 + b"\xfb\xff"
    assert parse_key(base64.urlsafe_b64encode(key)) == key
    assert parse_key(base64.b64encode(key)) == key


def test_bytes_count_as_they_are() -> None:
    for key in (b" " * 32, b"\n" * 31 + b"=", b"0123456789abcdef" * 2):
        assert parse_key(key) == key


@pytest.mark.parametrize(
    "data", [b"", b"x", KEY[:31], KEY + b"\n", b"z" * 64, b"!" * 43, KEY.hex().encode() * 2, bytes(10_000)]
)
def test_what_is_no_key(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "some key"
    file.write_bytes(data)
    with pytest.raises(DecryptionError, match="some key: not an encryption key"):
        load_key(file)


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_key(tmp_path / "nowhere")


# --- what stays open ----------------------------------------------------------------------------


def test_what_py_hamt_2_leaves_open() -> None:
    plain = Plain.of(PyHamt2(), ["temp", "lat"])
    # As py-hamt 2.4.1 answers for exclude_vars=["temp", "lat"], which takes keys for paths.
    left_open = [
        "zarr.json",
        "precip/zarr.json",
        "a/b/zarr.json",
        "a/zarr.json/",
        "temp/c/0",
        "temp",
        "./temp/c",
    ]
    left_open += ["lat/c/0", "lat//c", "precip//zarr.json"]
    sealed = [
        "precip/c/0/0",
        "tempest/c/0",
        "a/temp",
        "zarr.json/x",
        "xzarr.json",
        "latitude",
        "/temp",
        "../temp",
    ]
    assert [key for key in left_open + sealed if key.encode() in plain] == left_open


def test_what_py_hamt_3_leaves_open() -> None:
    for layout in (PyHamt3(), PyHamt3(bare=True), HashMap()):
        plain = Plain.of(layout)
        assert not any(key in plain for key in (b"zarr.json", b"temp/c/0", b"", b"\xff"))
    assert b"zarr.json" not in Plain.of(PyHamt3(), ["temp"])
    assert b"temp/zarr.json" in Plain.of(PyHamt3(), ["temp"])


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("t*", [b"temp/c/0", b"t", b"t/"], [b"a/t", b"T"]),
        ("*/zarr.json", [b"a/zarr.json", b"a/b/zarr.json"], [b"zarr.json"]),
        ("*", [b"", b"a", b"a\nb", b"\xff/x"], []),
        ("a?c/[xy]", [b"abc/x", b"a\xc3\xa9c/y"], [b"abc", b"abc/z"]),
        ("a.c", [b"a.c", b"a.c/x"], [b"abc"]),
        ("", [b""], [b"a"]),
    ],
)
def test_patterns(pattern: str, fits: list[bytes], others: list[bytes]) -> None:
    plain = Plain([pattern])
    assert all(key in plain for key in fits)
    assert not any(key in plain for key in others)


def test_no_pattern_leaves_nothing_open() -> None:
    assert not any(key in Plain() for key in (b"", b"a", b"zarr.json"))
