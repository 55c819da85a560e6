"""What a verifier reports: one broken rule at one place."""

from typing import NamedTuple

from mstfs.errors import BlockError, CorruptBlock, MissingBlock


class Defect(NamedTuple):
    """One broken rule.

    `rule` is a stable identifier in kebab-case, `message` one sentence for a person. `cid` is the
    block and `key` the entry where the rule is broken, if there is one; `offset` is a byte offset
    in the archive, which only the caller who knows the archive can fill in.
    """

    rule: str
    message: str
    cid: bytes | None = None
    key: bytes | None = None
    offset: int | None = None


def block_defect(error: BlockError) -> Defect:
    """The defect that a block is which could not be had."""
    if isinstance(error, MissingBlock):
        return Defect("missing-block", "the block is missing", error.cid)
    rule = "block-hash" if isinstance(error, CorruptBlock) else "unreachable-block"
    return Defect(rule, error.message, error.cid)
