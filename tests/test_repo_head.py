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
from mstfs.tree import kinds

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


def test_kinds_of_trees() -> None:
    """The table of roots in the formats; a Filecoin HAMT has to be told."""
    raw = cids.for_block(b"raw", codec=cids.RAW)
    hamt: dict[str, object] = {"B": {}, "L": {}}
    listed: list[object] = [{}] * 256
    manifest = {"manifest_version": "sharded_zarr_v1"}
    hash_map = {"hashAlg": 0x12, "bucketSize": 3, "hamt": [bytes(32), []]}
    told = {dag_cbor.encode(value): name for value, name in ((hamt, "hamt2"), (manifest, "sharded-zarr"))}
    told |= {dag_cbor.encode(listed): "hamt3", dag_cbor.encode(hash_map): "hashmap"}
    blocks = MemoryBlocks([(raw, b"raw"), *((cids.for_block(block), block) for block in told)])
    assert read_head(blocks, raw).tree.name == "unixfs"
    for data, name in told.items():
        head = read_head(blocks, cids.for_block(data))
        assert (head.tree.name, head.commit, head.kind) == (name, None, "bare")
        assert read_head(blocks, head.root, kinds.parse(name)).tree == head.tree
        with pytest.raises(Refused, match="not a UnixFS"):
            read_head(blocks, head.root, kinds.UNIXFS)


def test_a_filecoin_hamt_must_be_told() -> None:
    made = dag_cbor.encode([b"", []])
    blocks = MemoryBlocks([(cids.for_block(made), made)])
    with pytest.raises(Refused, match="--tree filecoin"):
        read_head(blocks, cids.for_block(made))
    kind = kinds.parse("filecoin:width=5:bucket=3:hash=sha2-256")
    assert read_head(blocks, cids.for_block(made), kind).tree == kind


def test_what_is_no_root() -> None:
    odd = cids.for_block(b"\xff")
    halved = dag_cbor.encode({"did": DID, "data": "x"})
    blocks = MemoryBlocks([(odd, b"\xff"), (cid(1), block(1)), (cids.for_block(halved), halved)])
    with pytest.raises(FormatError, match="not valid DAG-CBOR"):
        read_head(blocks, odd)
    with pytest.raises(Refused, match="no commit, and no tree that is known"):
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
