"""One walk over a tree of any kind but a repository's, and over its values."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mstfs.tree.defect import Defect
from mstfs.tree.hamt.verify import TreeVerification as HamtVerification
from mstfs.tree.kinds import Kind
from mstfs.tree.sharded.verify import TreeVerification as ShardedVerification
from mstfs.tree.unixfs.tree import UnixfsTree
from mstfs.tree.unixfs.verify import TreeVerification as UnixfsVerification
from mstfs.values.cipher import Cipher, Plain
from mstfs.values.interface import ValueOptions
from mstfs.verification.report import Looked
from mstfs.verification.sight import Sight
from mstfs.verification.values import ValueCheck, looked_at


@dataclass(frozen=True)
class Question:
    """What is to be verified: a tree of some kind, and what a person says about its values.

    With a `cipher` they are encrypted, but for those of keys that fit a pattern of `plain`; `encrypted` says
    the same where the key is not at hand.
    """

    kind: Kind
    root: bytes
    options: ValueOptions = field(default_factory=ValueOptions)
    cipher: Cipher | None = None
    plain: tuple[str, ...] = ()
    encrypted: bool = False


class Walk:
    """Iterate once for the defects; then the counts are complete.

    `nodes` and `entries` are what was reached, `looked` says how values were looked at.
    """

    def __init__(self, sight: Sight, question: Question) -> None:
        self.looked: Looked | None = None
        self._sight = sight
        self._question = question
        self._tree: HamtVerification | ShardedVerification | UnixfsVerification | None = None
        self._values: ValueCheck | None = None

    def __iter__(self) -> Iterator[Defect]:
        kind, root = self._question.kind, self._question.root
        if kind.layout is not None:
            self._values = self._value_check()
            self._tree = HamtVerification(self._sight, root, kind.layout, self._values)
        elif kind.name == "sharded-zarr":
            # What a chunk is made of is for those who read the array to say.
            self._values = ValueCheck(self._sight, "raw")
            files = UnixfsTree(self._sight)
            self._tree = ShardedVerification(self._sight, root, files, self._values)
        else:
            self._tree = UnixfsVerification(self._sight, root)
        yield from self._tree

    def _value_check(self) -> ValueCheck:
        question = self._question
        layout = question.kind.layout
        assert layout is not None
        plain = Plain.of(layout, question.plain)
        if question.encrypted and question.cipher is None:
            self.looked = "encrypted"
        else:
            self.looked = looked_at(
                self._sight, question.root, layout, question.options, question.cipher, plain
            )
        return ValueCheck(self._sight, self.looked, question.cipher, plain)

    @property
    def nodes(self) -> int:
        """Nodes that were reached; of a UnixFS tree every block."""
        if isinstance(self._tree, UnixfsVerification):
            return self._tree.blocks_read
        return 0 if self._tree is None else self._tree.nodes

    @property
    def entries(self) -> int:
        """Entries that were reached."""
        return 0 if self._tree is None else self._tree.entries

    @property
    def blocks(self) -> int:
        """Blocks that were looked at, those that several keys name more than once."""
        return self.nodes + (0 if self._values is None else self._values.blocks)

    @property
    def complete(self) -> bool:
        """Whether every node and every value could be read."""
        values = self._values is None or self._values.complete
        return values and self._tree is not None and self._tree.complete
