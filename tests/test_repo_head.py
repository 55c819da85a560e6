"""Heads: which blocks are roots, and which root of a CAR is taken."""

import pytest
from workspaces import DID, REV, block, cid, crooked_commit, repository, tree_blocks

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.errors import CommitError, FormatError, MissingBlock, Refused
from mstfs.repo import commit as commits
from mstfs.repo.head import choose_root, read_head
from mstfs.repo.sample import signing_key

ENTRIES = {b"a.b.c/1": 1}


def test_kinds_of_heads() -> None:
    data, nodes = tree_blocks(ENTRIES)
    blocks = MemoryBlocks(nodes.items())
    bare = read_head(blocks, data)
    assert (bare.root, bare.data, bare.commit, bare.rev, bare.kind) == (data, data, None, None, "bare")
    for signer, kind in ((None, "unsigned"), (signing_key(1), "signed")):
        root, made = commits.make(DID, data, REV, signer)
        blocks.put(root, made)
        head = read_head(blocks, root)
        assert (head.root, head.data, head.rev, head.kind) == (root, data, REV, kind)


def test_a_commit_of_version_2() -> None:
    root, blocks = repository(ENTRIES, kind="old")
    head = read_head(MemoryBlocks(blocks.items()), root)
    assert (head.rev, head.kind) == (None, "signed")


def test_what_is_no_root() -> None:
    raw = cids.for_block(b"raw", codec=cids.RAW)
    odd = cids.for_block(b"\xff")
    halved = dag_cbor.encode({"did": DID, "data": "x"})
    blocks = MemoryBlocks(
        [(raw, b"raw"), (odd, b"\xff"), (cid(1), block(1)), (cids.for_block(halved), halved)]
    )
    with pytest.raises(Refused, match="not DAG-CBOR"):
        read_head(blocks, raw)
    with pytest.raises(FormatError, match="not valid DAG-CBOR"):
        read_head(blocks, odd)
    with pytest.raises(Refused, match="no commit and no MST node"):
        read_head(blocks, cid(1))
    with pytest.raises(CommitError):
        read_head(blocks, cids.for_block(halved))
    with pytest.raises(MissingBlock):
        read_head(blocks, cid(2))


def test_the_first_root_that_can_be_mounted() -> None:
    root, held = repository(ENTRIES)
    other, more = crooked_commit(root, rev="later")
    blocks = MemoryBlocks([*held.items(), (other, more)])
    assert choose_root(blocks, (cid(9), cid(1), root, other)).root == root
    with pytest.raises(MissingBlock):
        choose_root(blocks, (cid(9), cid(1)))
    with pytest.raises(Refused, match="names no root"):
        choose_root(blocks, ())
