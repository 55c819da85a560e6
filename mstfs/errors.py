"""The exception tree.

Terminology
    Absent, corrupt and unreachable blocks are three different errors: a block that nobody
    holds, bytes that do not match their CID, and a store that could not be asked.

Tricky bits
    Every message is one sentence that a person can act on; it names the file, the CID and
    the reason where they are known. `str(error)` is what the command line prints.

Hacking
    One table turns these into errno (`mstfs.fuse.errnos`), one into exit codes
    (`mstfs.cli.exits`). A new class needs a place in both, or inherits its parent's.
"""

from collections.abc import Iterable


def _cid_text(cid: bytes) -> str:
    # The codec package stands above this module, and an error must be printable whatever the bytes are.
    import libipld

    if len(cid) == 34 and cid[:2] == b"\x12\x20":
        return str(libipld.encode_multibase("z", cid))[1:]
    return str(libipld.encode_multibase("b", cid))


class MstfsError(Exception):
    """Root of every error that mstfs raises on purpose."""


class Refused(MstfsError):
    """The request makes no sense or is not allowed as it stands (a wrong argument, a wrong state)."""


class ReadOnly(Refused):
    """Something tried to change what is mounted or opened for reading only."""


# --- blocks -----------------------------------------------------------------------------------


class BlockError(MstfsError):
    """A block could not be had. `cid` is its binary CID."""

    def __init__(self, cid: bytes, message: str) -> None:
        super().__init__(cid, message)
        self.cid = cid
        self.message = message

    def __str__(self) -> str:
        # Made when it is read: a layer that lacks a block says so to the next one, a million times.
        return f"block {_cid_text(self.cid)}: {self.message}"


class MissingBlock(BlockError):
    """No layer holds the block."""

    def __init__(self, cid: bytes, message: str = "missing") -> None:
        super().__init__(cid, message)


class CorruptBlock(BlockError):
    """The bytes found do not match the CID."""


class UnreachableBlock(BlockError):
    """The store that should hold the block could not be read (I/O error, network)."""


class ConflictingBlock(BlockError):
    """Other bytes are stored under this CID already."""


class MissingBlocks(MstfsError):
    """An operation needs blocks that no local layer holds; `cids` is the frontier it can name."""

    def __init__(self, cids: Iterable[bytes]) -> None:
        self.cids = tuple(cids)
        first = _cid_text(self.cids[0])
        count = len(self.cids)
        super().__init__(
            f"block {first}: missing" if count == 1 else f"{count} blocks are missing, the first is {first}"
        )


# --- formats ----------------------------------------------------------------------------------


class FormatError(MstfsError):
    """Bytes or text that do not follow their format."""


class VarintError(FormatError):
    """A malformed, overlong or truncated unsigned varint."""


class CidError(FormatError):
    """A malformed or unsupported CID."""


class CborError(FormatError):
    """Bytes that are not DAG-CBOR in canonical form, or a value that has no such form."""


class DagPbError(FormatError):
    """Bytes that are not DAG-PB, or not a UnixFS message, or a value that has no such form."""


class CarError(FormatError):
    """A file that is not a CAR, or is broken. `offset` is a byte offset in the file, if known."""

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class NodeError(FormatError):
    """A block that is not a valid node of its tree. `rule` names the rule that it breaks."""

    def __init__(self, cid: bytes, rule: str, message: str) -> None:
        super().__init__(f"node {_cid_text(cid)}: {message}")
        self.cid = cid
        self.rule = rule


class CommitError(FormatError):
    """A commit with wrong or missing fields."""


class SignatureError(FormatError):
    """A signature or a signing key that is malformed, or does not verify."""


class DecryptionError(FormatError):
    """An encryption key that is malformed, or bytes that a key and a header do not decrypt."""


class SyntaxRuleError(FormatError):
    """A key, NSID, record key, DID or TID that breaks its syntax."""


class RecordError(FormatError):
    """A record that is not valid; `line` and `column` count from 1, or are 0 where there is no text."""

    def __init__(self, reason: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"line {line}, column {column}: {reason}" if line else reason)
        self.reason = reason
        self.line = line
        self.column = column


class ProofError(FormatError):
    """A proof that does not prove its claim."""


class LimitExceeded(FormatError):
    """An input asks for more than `mstfs.limits` allows."""


# --- archives and overlays --------------------------------------------------------------------


class OverlayError(MstfsError):
    """The writable layer cannot be used."""


class OverlayBusy(OverlayError):
    """Another process has the overlay open for writing."""


class OverlayMismatch(OverlayError):
    """The overlay belongs to another CAR."""


class OverlayDamaged(OverlayError):
    """The overlay is not a database of ours, or it is damaged."""


class StorageFull(OverlayError):
    """The disk or the quota is full; nothing was changed."""


class MountError(MstfsError):
    """The mount could not be made, found or taken down."""


class CopyDiffers(MstfsError):
    """What was written does not read back as what it was made of; it was not kept."""


class PublishError(MstfsError):
    """The new root could not be published; edits stay staged."""
