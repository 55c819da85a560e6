"""Kinds of trees by the names that people give them."""

import pytest
from naive_hamt import filecoin, sha256_of

from mstfs.blocks.memory import MemoryBlocks
from mstfs.repo.head import read_head
from mstfs.tree import kinds


@pytest.mark.parametrize(
    "text",
    [
        *("mst", "unixfs", "sharded-zarr", "hamt2", "hamt3"),
        "filecoin,width=8,bucket=1,hash=blake3",
        "filecoin,width=5,bucket=3,hash=sha2-256",
    ],
)
def test_a_kind_is_read_as_it_is_spelled(text: str) -> None:
    kind = kinds.parse(text)
    assert kind.spelled == text
    assert kinds.parse(kind.spelled) == kind


def test_what_a_root_tells_is_not_spelled() -> None:
    assert kinds.parse("hashmap,width=5,bucket=3").spelled == "hashmap"
    assert kinds.parse("filecoin").spelled == "filecoin,width=5,bucket=3,hash=sha2-256"


@pytest.mark.parametrize("old", [False, True])
def test_the_pointers_of_a_filecoin_hamt_need_not_be_told(old: bool) -> None:
    entries = {b"k/%03d" % number: b"%d" % number for number in range(100)}
    root, nodes = filecoin(entries, function=sha256_of, old=old)
    blocks = MemoryBlocks(nodes.items())
    head = read_head(blocks, root, kinds.parse("filecoin"))
    assert [entry.key for entry in head.tree.open(blocks).walk(root)] == sorted(entries)
