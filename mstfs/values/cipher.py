"""Encrypted values, as py-hamt writes them: XChaCha20-Poly1305 with a key of 32 bytes.

Source: the py-hamt package, `zarr_encryption_transformers` of version 2 and `encryption_hamt_store` of
version 3. A sealed value is a random nonce of 24 bytes, the tag of 16 bytes, and the ciphertext; the
associated data is a header that the user chose, the same for all values. Nothing binds a value to its key in
the tree.

No message, repr or exception cause of this module holds an encryption key.
"""

import binascii
import fnmatch
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mstfs.errors import DecryptionError, LimitExceeded
from mstfs.limits import SEALED_BYTES

if TYPE_CHECKING:
    from mstfs.tree.hamt.layout import Layout

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16

OVERHEAD = NONCE_BYTES + TAG_BYTES
"""Bytes by which a sealed value is longer than what it holds."""

METADATA = "zarr.json"
"""The name of Zarr's metadata files, which py-hamt 2 leaves open."""

_FILE_BYTES = 4096


class Cipher:
    """Seals and opens values with one key and one header. It shows neither."""

    __slots__ = ("_header", "_key", "_open", "_seal")

    def __init__(self, key: bytes, header: bytes) -> None:
        """DecryptionError if the key does not have 32 bytes."""
        from nacl import bindings

        if len(key) != KEY_BYTES:
            raise DecryptionError(f"an encryption key has {KEY_BYTES} bytes, this one {len(key)}")
        self._key = bytes(key)
        self._header = bytes(header)
        self._seal = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt
        self._open = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt

    def __repr__(self) -> str:
        return "Cipher()"

    def __reduce__(self) -> str:
        raise TypeError("an encryption key is not pickled")

    def encrypt(self, plain: bytes) -> bytes:
        """The sealed form of a value, another one each time. LimitExceeded over `limits.SEALED_BYTES`."""
        _check_size(len(plain) + OVERHEAD)
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._seal(plain, self._header, nonce, self._key)
        # The library has the tag at the end.
        return b"".join((nonce, sealed[-TAG_BYTES:], memoryview(sealed)[:-TAG_BYTES]))

    def decrypt(self, sealed: bytes) -> bytes:
        """What a sealed value holds.

        DecryptionError if it is too short, or was not sealed with this key and header, or was changed since;
        LimitExceeded over `limits.SEALED_BYTES`.
        """
        from nacl.exceptions import CryptoError

        _check_size(len(sealed))
        if len(sealed) < OVERHEAD:
            raise DecryptionError(f"{len(sealed)} bytes are too few for an encrypted value")
        nonce, tag = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:OVERHEAD]
        try:
            return self._open(sealed[OVERHEAD:] + tag, self._header, nonce, self._key)
        except CryptoError:
            reason = "the key or the header is another one, or the value was changed or never encrypted"
            raise DecryptionError(f"it cannot be decrypted: {reason}") from None


def _check_size(size: int) -> None:
    if size > SEALED_BYTES:
        raise LimitExceeded(f"an encrypted value of {size} bytes is over the limit of {SEALED_BYTES} bytes")


class Plain:
    """The keys whose values are not encrypted: `key in plain`.

    Those whose name, or the first part of it, fits one of the patterns (with `*`, `?` and `[...]`; a star
    passes over slashes too), and with `metadata` those of Zarr's metadata files.
    """

    def __init__(self, patterns: Iterable[str] = (), metadata: bool = False) -> None:
        self.patterns = tuple(patterns)
        self.metadata = metadata
        self._matches = re.compile("|".join(map(fnmatch.translate, self.patterns)) or r"(?!)").match

    @classmethod
    def of(cls, layout: "Layout", patterns: Iterable[str] = ()) -> "Plain":
        """The patterns, and what the layout's own writer leaves open: py-hamt 2 metadata, others nothing."""
        from mstfs.tree.hamt.pyhamt2 import PyHamt2

        return cls(patterns, metadata=isinstance(layout, PyHamt2))

    def __repr__(self) -> str:
        return f"Plain({self.patterns!r}, metadata={self.metadata})"

    def __contains__(self, key: bytes) -> bool:
        if not self.patterns and (not self.metadata or METADATA.encode() not in key):
            return False
        text = key.decode("utf-8", "surrogateescape")
        # py-hamt takes keys for paths: `a//b`, `./a/b` and `a/b/` have the parts a and b.
        path = PurePosixPath(text)
        if self.metadata and path.name == METADATA:
            return True
        return bool(self._matches(text) or (path.parts and self._matches(path.parts[0])))


# --- key files --------------------------------------------------------------------------------


def load_key(path: Path) -> bytes:
    """The encryption key in a file, in any form that `parse_key` reads.

    DecryptionError, naming the file, if it holds none; OSError if it cannot be read. Whether others may read
    the file too tells `signing.mode_is_private`.
    """
    with path.open("rb") as file:
        data = file.read(_FILE_BYTES + 1)
    try:
        return parse_key(data)
    except DecryptionError as error:
        raise DecryptionError(f"{path}: {error}") from None


def parse_key(data: bytes) -> bytes:
    """An encryption key: its 32 bytes themselves, 64 hex digits, or base64 (either alphabet, padded or not).

    DecryptionError if it is none of these. White space around a text does not matter.
    """
    if len(data) == KEY_BYTES:
        return data
    text = data.strip()
    try:
        if len(text) == 2 * KEY_BYTES:
            return binascii.unhexlify(text)
        body = text.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
        if len(body) == 43 and len(text) <= 44:
            return binascii.a2b_base64(body + b"=", strict_mode=True)
    except ValueError:
        pass  # The library's message may quote what it could not read.
    raise DecryptionError(
        f"not an encryption key: neither {KEY_BYTES} bytes, nor {2 * KEY_BYTES} hex digits, nor base64"
    )
