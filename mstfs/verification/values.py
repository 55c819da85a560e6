"""What is wrong with the values of a tree.

Rules: `missing-block`, `block-hash`, `block-hash-unknown`, `unreachable-block`; those of `tree.unixfs.verify`
for values that are UnixFS files, and `value-file` (it is a directory or a symbolic link, which no reader
takes for the value); where values are DAG-CBOR those of `codec.lenient`, `value-cbor` (what else the strict
reader refuses) and `value-size` (a record that is too large to be read); `value-sealed` (it does not open
with the key).
"""

from collections.abc import Iterator, Sequence

from mstfs.blocks.interface import BlockReader
from mstfs.codec import byte_string, dag_cbor, lenient
from mstfs.codec import cid as cids
from mstfs.errors import (
    BlockError,
    CborError,
    CidError,
    DecryptionError,
    FormatError,
    LimitExceeded,
    MissingBlocks,
    NodeError,
)
from mstfs.limits import RECORD_BYTES, SEALED_BYTES
from mstfs.tree.defect import Defect
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.pyhamt2 import PyHamt2
from mstfs.tree.hamt.pyhamt3 import PyHamt3
from mstfs.tree.hamt.tree import HamtTree
from mstfs.tree.unixfs.verify import TreeVerification as UnixfsVerification
from mstfs.values.cache import ByteCache
from mstfs.values.cipher import METADATA, OVERHEAD, Cipher, Plain
from mstfs.values.detect import SAMPLE_KEYS, SAMPLE_VALUES, detect
from mstfs.values.interface import ValueOptions
from mstfs.values.sources import Stored
from mstfs.verification.report import Looked
from mstfs.verification.sight import Sight

_READ_BYTES = 1 << 20


class ValueCheck:
    """Looks at the values of the nodes that a walk comes to: what a tree verifier calls for each node.

    `looked` as in the report; None where the codec of a CID says what is behind it, and DAG-CBOR is looked
    into. `complete` is False if a value could not be read as a whole.
    """

    def __init__(
        self, sight: Sight, looked: Looked | None, cipher: Cipher | None = None, plain: Plain | None = None
    ) -> None:
        self.complete = True
        self.blocks = 0
        """Blocks of values that were looked at."""
        self._sight = sight
        self._looked = looked
        self._cipher = cipher
        self._plain = plain
        self._stored = Stored(sight, ByteCache(_READ_BYTES))
        # Hashes of CIDs: of flawed values, and of UnixFS files, which are walked once each.
        self._told: set[int] = set()

    def __call__(self, node: bytes, keys: Sequence[bytes], values: Sequence[bytes]) -> Iterator[Defect]:
        for key, cid in zip(keys, values, strict=True):
            if hash(cid) in self._told:
                continue
            for defect in self._check(key, cid):
                if defect.rule != "missing-block":
                    self._told.add(hash(cid))
                yield defect._replace(key=key)

    def _check(self, key: bytes, cid: bytes) -> Iterator[Defect]:
        sealed = self._cipher is not None and self._plain is not None and key not in self._plain
        if cids.codec_of(cid) == cids.DAG_PB:
            yield from self._check_file(cid, sealed)
            return
        self.blocks += 1
        if sealed or self._is_cbor(cid):
            try:
                data = self._sight.get(cid)
            except (BlockError, CidError):
                pass  # What is wrong with it is found out below.
            else:
                yield from self._check_content(cid, data, len(data), sealed)
                return
        flaw = self._sight.flaw(cid)
        if flaw is not None:
            self.complete = False
            yield flaw

    def _is_cbor(self, cid: bytes) -> bool:
        return self._looked == "cbor" or (self._looked is None and cids.codec_of(cid) == cids.DAG_CBOR)

    def _check_file(self, cid: bytes, sealed: bool) -> Iterator[Defect]:
        self._told.add(hash(cid))
        walk = UnixfsVerification(self._sight, cid)
        sound = True
        for defect in walk:
            sound = False
            yield defect
        self.blocks += walk.blocks_read
        self.complete = self.complete and walk.complete
        if not sound:
            return
        source = self._stored.source(cid)
        try:
            size = source.size
            if not sealed and not self._is_cbor(cid):
                return
            data = source.read(0, byte_string.HEAD_BYTES)
            # A byte string is sound if its head is: all the rest need not be read for that.
            if size <= (SEALED_BYTES if sealed else RECORD_BYTES) and (
                sealed or not byte_string.is_head(data)
            ):
                data = source.read(0, size)
        except NodeError as error:
            yield Defect("value-file", str(error).partition(": ")[2], cid)
        except LimitExceeded as error:
            yield Defect("limit", str(error), cid)
        except (BlockError, MissingBlocks) as error:
            # It was there a moment ago.
            self.complete = False
            yield Defect("unreachable-block", str(error), cid)
        else:
            yield from self._check_content(cid, data, size, sealed)

    def _check_content(self, cid: bytes, data: bytes, size: int, sealed: bool) -> Iterator[Defect]:
        """Check a value of `size` bytes; `data` is all of it, or as much as tells what is wrong."""
        if not sealed:
            yield from _cbor_defects(data, size, cid)
            return
        assert self._cipher is not None
        try:
            if size > SEALED_BYTES:
                raise DecryptionError(f"{size} bytes are too many for an encrypted value")
            opened = self._cipher.decrypt(data)
        except (DecryptionError, LimitExceeded) as error:
            yield Defect("value-sealed", str(error), cid)
            return
        if self._looked == "cbor":
            yield from _cbor_defects(opened, len(opened), cid)


def _cbor_defects(data: bytes, size: int, cid: bytes) -> Iterator[Defect]:
    """What is wrong with a value of `size` bytes; of a byte string `data` may be the head alone."""
    if byte_string.is_head(data):
        if byte_string.content_at(data[: byte_string.HEAD_BYTES], size) is None:
            yield Defect("value-cbor", "the value is a byte string of another length than it says", cid)
        return
    if size > RECORD_BYTES:
        yield Defect("value-size", f"the record has {size} bytes, at most {RECORD_BYTES} are read", cid)
        return
    try:
        dag_cbor.decode(data)
    except CborError as error:
        departures = lenient.read(data).departures
        for departure in departures:
            yield Defect(departure.rule, f"the value is not canonical: {departure.message}", cid)
        if not departures:
            yield Defect("value-cbor", f"the value is {error}", cid)


# --- how values are looked at ---------------------------------------------------------------------


def looked_at(
    blocks: BlockReader,
    root: bytes,
    layout: Layout,
    options: ValueOptions,
    cipher: Cipher | None = None,
    plain: Plain | None = None,
) -> Looked | None:
    """How the values of a HAMT are to be looked at, as a person says or as some of them tell."""
    if not isinstance(layout, PyHamt2 | PyHamt3):
        return None
    if options.encoding != "auto":
        return options.encoding
    tree = HamtTree(blocks, layout)
    try:
        if isinstance(layout, PyHamt2):
            return "cbor" if cipher is not None or not _look_sealed(tree, root, layout) else "encrypted"
        return detect(tree, root, layout, cipher, plain)
    except (BlockError, FormatError, MissingBlocks):
        return "raw"  # The root cannot be read, so there are no values to look at.


def _look_sealed(tree: HamtTree, root: bytes, layout: Layout) -> bool:
    """Whether all values of py-hamt 2, which are DAG-CBOR if they are open, look encrypted."""
    plain = Plain.of(layout)
    tried = 0
    for key, cid in tree.sample(root, SAMPLE_KEYS):
        if key in plain or key.endswith(METADATA.encode()) or cids.codec_of(cid) == cids.DAG_PB:
            continue
        try:
            data = tree.values.get(cid)
        except (BlockError, CidError):
            continue
        if len(data) < OVERHEAD or next(_cbor_defects(data, len(data), cid), None) is None:
            return False
        tried += 1
        if tried == SAMPLE_VALUES:
            break
    return tried > 0
