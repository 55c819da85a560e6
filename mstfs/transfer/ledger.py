"""What is remembered of everything that was written: a row for each key, in one byte string each."""

from collections.abc import Iterator
from typing import NamedTuple

from mstfs.transfer.items import DIGEST_BYTES, ItemKind

_KINDS: tuple[ItemKind, ...] = ("record", "blob", "symlink", "folder")
_CODES = {kind: bytes((code,)) for code, kind in enumerate(_KINDS)}
_TSIZE = 1 + DIGEST_BYTES
_CID = _TSIZE + 8


class Row(NamedTuple):
    """What became of one item.

    `kind` is what it is in the new tree, `digest` that of its content: of a record, its DAG-CBOR. `tsize` is
    what UnixFS calls so, else 0. A folder has no CID. Where attributes count, the digest is over them too.
    """

    kind: ItemKind
    digest: bytes
    tsize: int
    cid: bytes


NO_DIGEST = bytes(DIGEST_BYTES)


class Ledger:
    """The rows of all keys."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def put(self, key: bytes, row: Row) -> None:
        """Remember a row; one that the key had before is forgotten."""
        kind, digest, tsize, cid = row
        self._rows[key] = _CODES[kind] + digest + tsize.to_bytes(8, "big") + cid

    def get(self, key: bytes) -> Row | None:
        """The row of a key."""
        packed = self._rows.get(key)
        return None if packed is None else _unpacked(packed)

    def drop(self, key: bytes) -> None:
        """Forget a key."""
        del self._rows[key]

    def move(self, key: bytes, other: bytes) -> None:
        """Let a row be that of another key."""
        self._rows[other] = self._rows.pop(key)

    def keys(self) -> list[bytes]:
        """All keys, in their order."""
        return sorted(self._rows)

    def rows(self) -> Iterator[tuple[bytes, Row]]:
        """Keys with their rows, in the order of keys."""
        rows = self._rows
        for key in sorted(rows):
            yield key, _unpacked(rows[key])

    def values(self) -> list[tuple[bytes, bytes]]:
        """Keys with the CIDs of their values, in the order of keys."""
        rows = self._rows
        return [(key, rows[key][_CID:]) for key in sorted(rows)]

    def of_kind(self, kind: ItemKind) -> list[bytes]:
        """The keys of one kind, in any order."""
        code = _CODES[kind][0]
        return [key for key, packed in self._rows.items() if packed[0] == code]


def _unpacked(packed: bytes) -> Row:
    return Row(_KINDS[packed[0]], packed[1:_TSIZE], int.from_bytes(packed[_TSIZE:_CID], "big"), packed[_CID:])
