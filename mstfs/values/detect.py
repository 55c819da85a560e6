"""What the values of a HAMT look like from outside: raw bytes or DAG-CBOR, encrypted or not.

py-hamt's files say neither. A few values tell: random bytes are hardly ever canonical DAG-CBOR, and a key
that does not fit opens nothing.
"""

from collections.abc import Iterator
from typing import Literal

import orjson

from mstfs.codec import byte_string, dag_cbor
from mstfs.errors import (
    BlockError,
    CborError,
    DecryptionError,
    FormatError,
    LimitExceeded,
    MissingBlocks,
    Refused,
)
from mstfs.limits import RECORD_BYTES, SEALED_BYTES
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.interface import Entry
from mstfs.values.cache import ByteCache
from mstfs.values.cipher import METADATA, OVERHEAD, Cipher, Plain
from mstfs.values.sources import BytesSource, Source, Stored

SAMPLE_VALUES = 32
"""Values that are read."""

SAMPLE_KEYS = 512
"""Keys among which those with encrypted values are looked for."""

_UNREADABLE = (BlockError, MissingBlocks, FormatError)


def detect(
    tree: HamtTree, root: bytes, layout: Layout, cipher: Cipher | None = None, plain: Plain | None = None
) -> Literal["raw", "cbor"]:
    """How the values of a tree are encoded, as far as a few of them tell. The same tree, the same answer.

    Only py-hamt 3 leaves it open: "cbor" if every value that is looked at is canonical DAG-CBOR, and there is
    one; a Zarr store never is. Values that cannot be read, or not be decrypted, do not count.
    """
    if not isinstance(layout, PyHamt3):
        return "cbor"
    if cipher is not None and plain is None:
        plain = Plain.of(layout)
    stored = Stored(tree.values, ByteCache(RECORD_BYTES))
    seen = False
    for key, cid in _sample(tree, root, SAMPLE_VALUES):
        try:
            source = stored.source(cid)
            if cipher is not None and plain is not None and key not in plain:
                source = _opened(cipher, source)
            answer = _is_cbor(source)
        except _UNREADABLE:
            continue
        if answer is False:
            return "raw"
        seen = seen or answer is True
    return "cbor" if seen else "raw"


def check_key_fits(tree: HamtTree, root: bytes, cipher: Cipher, plain: Plain) -> None:
    """Open a few values, so that a wrong key is found before anything is shown.

    DecryptionError if none of those that `plain` does not name can be opened; Refused if they, or Zarr's
    metadata among them, look as if they had never been encrypted. Says nothing where there is none to try.
    """
    tried = 0
    never = 0
    metadata = False
    for key, data in _sealed_values(tree, root, plain):
        try:
            cipher.decrypt(data)
            return
        except DecryptionError:
            tried += 1
        is_json = _is_metadata(key) and _is_json(data)
        metadata = metadata or is_json
        # What is encrypted is longer, and looks random.
        never += is_json or len(data) < OVERHEAD or _is_cbor(BytesSource(data)) is True
    if not tried:
        return
    if metadata or never == tried:
        raise Refused(
            "the values of this HAMT do not seem to be encrypted: open it without a key, "
            "or say which of them are plain"
        )
    values = "the value that was" if tried == 1 else f"all {tried} values that were"
    hint = f" ({never} of them look as if they had never been encrypted)" if never else ""
    raise DecryptionError(
        f"the encryption key or the header does not fit: {values} tried cannot be decrypted{hint}"
    )


def _sealed_values(tree: HamtTree, root: bytes, plain: Plain) -> Iterator[tuple[bytes, bytes]]:
    # A few values that are said to be encrypted, with their keys, as they are stored.
    stored = Stored(tree.values, ByteCache(RECORD_BYTES))
    left = SAMPLE_VALUES
    room = SEALED_BYTES
    for key, cid in _sample(tree, root, SAMPLE_KEYS):
        if key in plain:
            continue
        try:
            source = stored.source(cid)
            size = source.size
            if size > room:
                continue
            yield key, source.read(0, size)
        except _UNREADABLE:
            continue
        room -= size
        left -= 1
        if not left:
            return


def _sample(tree: HamtTree, root: bytes, count: int) -> Iterator[Entry]:
    # The metadata of a Zarr store says most, and stands under a known key.
    key = METADATA.encode()
    try:
        cid = tree.get(root, key)
    except _UNREADABLE:
        cid = None
    if cid is not None:
        yield Entry(key, cid)
    for entry in tree.sample(root, count):
        if entry.key != key:
            yield entry


def _opened(cipher: Cipher, source: Source) -> Source:
    size = source.size
    if size > SEALED_BYTES:
        raise LimitExceeded(f"{size} bytes are too many for an encrypted value")
    return BytesSource(cipher.decrypt(source.read(0, size)))


def _is_cbor(source: Source) -> bool | None:
    # Whether it is canonical DAG-CBOR; None for what is too large to be looked at as a whole.
    size = source.size
    head = source.read(0, byte_string.HEAD_BYTES)
    if byte_string.is_head(head):
        return byte_string.content_at(head, size) is not None
    if size > RECORD_BYTES:
        return None
    try:
        dag_cbor.decode(source.read(0, size))
    except CborError:
        return False
    return True


def _is_metadata(key: bytes) -> bool:
    return key.rpartition(b"/")[2] == METADATA.encode()


def _is_json(data: bytes) -> bool:
    # Of what is encrypted, one in 256 begins with the same byte.
    try:
        return data.startswith(b"{") and isinstance(orjson.loads(data), dict)
    except ValueError:
        return False
