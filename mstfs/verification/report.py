"""What a verification finds."""

from dataclasses import dataclass
from typing import Literal

from mstfs.tree.defect import Defect
from mstfs.tree.kinds import Kind

Looked = Literal["raw", "cbor", "encrypted"]
"""How the values of a HAMT are looked at: as DAG-CBOR, which must be canonical, or as raw bytes or encrypted
ones, of which only the hash can be checked."""


@dataclass(frozen=True)
class TreeReport:
    """What was found in a tree of any kind but that of a repository.

    `nodes` and `entries` were reached from the root; of a UnixFS tree `nodes` are all its blocks.
    `blocks_seen` stand in the file (or were read, where there is none); `unlinked` of them nothing links to,
    `duplicates` are copies of others. `values` says how values were looked at, None where there is but one
    way. `complete` says that no block is missing or unreadable. `defects` are those that the caller kept,
    `defect_count` counts all.
    """

    kind: Kind
    root: bytes
    entries: int
    nodes: int
    blocks_seen: int
    unlinked: int
    duplicates: int
    values: Looked | None
    complete: bool
    defect_count: int
    defects: tuple[Defect, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing at all is wrong."""
        return self.complete and not self.defect_count
