"""The strict check of sharded Zarr stores: sound ones have no defects, and each defect is found and named."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from multiformats import CID
from naive_sharded import GRID, Array, Writer, big, expected, value
from test_tree_sharded_hostile import BROKEN, LINK, SHARDS, row_of
from test_tree_sharded_tree import as_file, shards_of

from mstfs.blocks.interface import BlockReader
from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.errors import CidError, CorruptBlock, UnreachableBlock
from mstfs.tree.defect import Defect
from mstfs.tree.sharded.verify import TreeVerification, verify_tree
from mstfs.tree.unixfs.tree import UnixfsTree

PLAIN = {
    "t": big(100, 10),
    "g/u": Array((4, 6), (2, 2), {(1, 2): value(1), (0, 0): value(2)}, encoding="v2", separator="."),
    "scalar": Array((), (), {(): value(3)}, per_shard=1),
    "empty": Array((0, 4), (1, 1)),
}


def found(writer: Writer, root: bytes) -> list[Defect]:
    return list(verify_tree(writer.blocks, root))


def rules(writer: Writer, root: bytes) -> list[str]:
    return [defect.rule for defect in found(writer, root)]


def test_sound_stores() -> None:
    writer = Writer()
    more = {"zarr.json": value(9), "time/c/0": value(8)}
    root = writer.v2(PLAIN, more)
    run = TreeVerification(writer.blocks, root)
    assert list(run) == []
    assert (run.nodes, run.entries) == (1 + 10 + 2 + 1, len(expected(writer, PLAIN, more)))
    assert run.complete
    assert rules(writer, writer.v1(GRID, documents={"temp": GRID}, primary="temp")) == []
    assert rules(writer, writer.v1(GRID, documents={"temp": GRID})) == []


def test_every_entry_is_shown_once() -> None:
    writer = Writer()
    array = big(40, 10)
    for number in range(40):
        array.chunks[(number,)] = value(number % 20)
    root = writer.v2({"t": array})
    seen: list[tuple[bytes, list[bytes], list[bytes]]] = []

    def look(cid: bytes, keys: Sequence[bytes], values: Sequence[bytes]) -> Iterator[Defect]:
        seen.append((cid, list(keys), list(values)))
        yield Defect("odd", "", cid)

    run = TreeVerification(writer.blocks, root, on_entries=look)
    assert [defect.rule for defect in run] == ["odd"] * 3
    shards = shards_of(writer, root)
    assert [cid for cid, _, _ in seen] == [root, *shards]
    assert seen[2] == (
        shards[1],
        [b"t/c/%d" % at for at in range(10, 20)],
        [value(at) for at in range(10, 20)],
    )
    assert (run.nodes, run.entries) == (3, 41)


@pytest.mark.parametrize(("rule", "fields"), BROKEN.values(), ids=BROKEN)
def test_broken_manifests(rule: str, fields: dict[str, Any]) -> None:
    writer = Writer()
    root = writer.v2({}, **fields)
    run = TreeVerification(writer.blocks, root)
    assert [(defect.rule, defect.cid) for defect in run] == [(rule, root)]
    assert not run.complete


@pytest.mark.parametrize(("rule", "block"), SHARDS.values(), ids=SHARDS)
def test_broken_shards(rule: str, block: bytes) -> None:
    writer = Writer()
    cid = writer.put(block, cids.DAG_CBOR)
    array = Array((4,), (1,))
    root = writer.v2(
        {}, {"t/zarr.json": writer.put(array.document())}, arrays={"t": row_of(shard_cids=[CID.decode(cid)])}
    )
    run = TreeVerification(writer.blocks, root)
    named = {"long head": "cbor-not-minimal", "no CID": "cbor-link", "cut off": "cbor-truncated"}
    name = next(name for name, item in SHARDS.items() if item[1] == block)
    defects = list(run)
    assert [defect.rule for defect in defects] == [named.get(name, rule)]
    assert {defect.cid for defect in defects} == {cid}
    assert run.complete == (name == "long head")


def test_a_manifest_that_is_not_canonical() -> None:
    writer = Writer()
    block = writer.blocks.get(writer.v2(PLAIN))
    assert block[:1] == b"\xa6"
    root = writer.put(b"\xb8\x06" + block[1:], cids.DAG_CBOR)
    run = TreeVerification(writer.blocks, root)
    assert [defect.rule for defect in run] == ["cbor-not-minimal"]
    assert run.complete
    assert run.nodes == 14
    for block, rule in ((b"\x80", "not-manifest"), (b"\xa1", "cbor-truncated")):
        run = TreeVerification(writer.blocks, writer.put(block, cids.DAG_CBOR))
        assert ([defect.rule for defect in run], run.complete) == ([rule], False)


def test_what_only_the_whole_store_shows() -> None:
    writer = Writer()
    array = Array((3,), (1,), {(0,): value(1)})
    outside = CID.decode(writer.shard([value(1), None, None, value(2)]))
    document = {"t/zarr.json": writer.put(array.document())}
    cases: list[tuple[bytes, list[str]]] = [
        (writer.v2({"t": array}, odd=1), ["unknown-field"]),
        (writer.v2({}, arrays={"t": {**writer.row(array), "odd": 1}}, more=document), ["unknown-field"]),
        (writer.v2({}, document, arrays={"/t": writer.row(array)}), ["path-form"]),
        (writer.v2({"t": array}, {"/odd": value(1), "": value(2)}), ["metadata-key"] * 2),
        (
            writer.v2({}, document, arrays={"t": row_of(array_shape=[3], shard_cids=[outside])}),
            ["chunk-outside"],
        ),
        (writer.v2({"t": array}, {"t/c/0": value(3), "t/c/1": value(3)}), ["key-twice"]),
        (writer.v2({}, arrays={"t": writer.row(array)}), ["array-document"]),
        (
            writer.v2({}, {"t/zarr.json": writer.put(b"{}")}, arrays={"t": writer.row(array)}),
            ["array-document"],
        ),
        (writer.v2({}, document, arrays={"t": row_of()}), ["array-shape"]),
        (writer.v2({"t": Array((3,), (1,), encoding="odd")}), ["chunk-keys"]),
        (writer.v1(GRID, documents={"a": GRID, "b": GRID}), ["array-unknown"]),
        (writer.v1(GRID, documents={"a": GRID}, primary="a/"), ["path-form"]),
        (writer.v1(GRID), ["array-document"]),
        (writer.v2({}, {"k" * 8193: value(1)}), ["limit"]),
    ]
    for root, wanted in cases:
        assert rules(writer, root) == wanted
    twice = found(writer, cases[5][0])[0]
    assert (twice.key, twice.cid) == (b"t/c/0", shards_of(writer, cases[5][0])[0])


def test_links_of_another_kind() -> None:
    writer = Writer()
    array = Array((4,), (1,), {(0,): value(1)})
    block = writer.blocks.get(writer.shard([value(1), None, None, None]))
    link = CID.decode(writer.put(block, cids.RAW))
    document = {"t/zarr.json": writer.put(array.document())}
    root = writer.v2({}, document, arrays={"t": row_of(shard_cids=[link])})
    assert rules(writer, root) == ["node-link-kind"]
    link = CID.decode(as_file(writer, block * 1))
    files = UnixfsTree(writer.blocks)
    root = writer.v2({}, document, arrays={"t": row_of(shard_cids=[link])})
    assert [defect.rule for defect in verify_tree(writer.blocks, root, files)] == ["node-link-kind"]
    array = big(100, 100)
    split = CID.decode(as_file(writer, writer.blocks.get(shards_of(writer, writer.v2({"t": array}))[0])))
    row = {**writer.row(array), "shard_cids": [split]}
    root = writer.v2({}, {"t/zarr.json": writer.put(array.document())}, arrays={"t": row})
    assert list(verify_tree(writer.blocks, root, files)) == []
    assert rules(writer, root) == ["node-codec"]


class Failing(BlockReader):
    """Fails for some blocks."""

    def __init__(self, blocks: MemoryBlocks, failures: dict[bytes, Exception]) -> None:
        self.blocks = blocks
        self.failures = failures

    def get(self, cid: bytes) -> bytes:
        if cid in self.failures:
            raise self.failures[cid]
        return self.blocks.get(cid)

    def has(self, cid: bytes) -> bool:
        return self.blocks.has(cid)

    def length(self, cid: bytes) -> int:
        return self.blocks.length(cid)


def test_blocks_that_cannot_be_had() -> None:
    writer = Writer()
    array = big(40, 10)
    root = writer.v2({"t": array})
    shards = shards_of(writer, root)
    document = writer.put(array.document())
    writer.blocks.delete(shards[0])
    writer.blocks.delete(document)
    failures: dict[bytes, Exception] = {
        shards[1]: CorruptBlock(shards[1], "odd"),
        shards[2]: UnreachableBlock(shards[2], "odd"),
    }
    run = TreeVerification(Failing(writer.blocks, failures), root)
    assert [(defect.rule, defect.cid) for defect in run] == [
        ("missing-block", document),
        ("missing-block", shards[0]),
        ("block-hash", shards[1]),
        ("unreachable-block", shards[2]),
    ]
    assert (run.nodes, run.complete) == (2, False)
    assert rules(writer, value(1)) == ["missing-block"]


def test_version_1_with_a_missing_document_is_checked_all_the_same() -> None:
    writer = Writer()
    root = writer.v1(GRID, documents={"temp": GRID})
    missing = [writer.put(GRID.document()), shards_of(writer, root)[0]]
    for cid in missing:
        writer.blocks.delete(cid)
    assert [(defect.rule, defect.cid) for defect in found(writer, root)] == [
        ("missing-block", cid) for cid in missing
    ]


def test_a_hash_that_proves_nothing() -> None:
    writer = Writer()
    shard = writer.shard([value(1)] * 4)
    array = Array((4,), (1,))
    document = {"t/zarr.json": writer.put(array.document())}
    root = writer.v2({}, document, arrays={"t": row_of(shard_cids=[CID.decode(shard)])})
    run = TreeVerification(Failing(writer.blocks, {shard: CidError("sha1 can be forged")}), root)
    assert [(defect.rule, defect.cid) for defect in run] == [("block-hash-unknown", shard)]


def test_the_same_shard_again_and_again_is_read_once() -> None:
    writer = Writer()
    link = CID.decode(writer.shard([value(1)] * 4))
    array = Array((4000,), (1,))
    document = {"t/zarr.json": writer.put(array.document())}
    root = writer.v2({}, document, arrays={"t": row_of(array_shape=[4000], shard_cids=[link] * 1000)})
    run = TreeVerification(writer.blocks, root)
    assert list(run) == []
    assert (run.nodes, run.entries) == (2, 4001)


def test_links_in_broken_places_name_their_block() -> None:
    writer = Writer()
    root = writer.v2({}, metadata={"a": LINK, "b": 1})
    assert found(writer, root)[0].cid == root
