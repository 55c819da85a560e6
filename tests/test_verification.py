"""Verifying trees that are no repositories: planted defects are named and placed, sound trees have none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cli_trees import TREES, VALUES, Blocks, Made, UnixfsBlocks, raw_cid, write
from naive_hamt import BLAKE3_CBOR, blake3_of, grouped, hash_map, keep, link, mined, py_hamt_2, py_hamt_3
from naive_sharded import Array, Writer

from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.codec.dag_pb import KIND_DIRECTORY, KIND_FILE, UnixfsData
from mstfs.errors import Refused
from mstfs.limits import RECORD_BYTES
from mstfs.tree import kinds
from mstfs.tree.defect import Defect
from mstfs.values.cipher import Cipher
from mstfs.values.interface import ValueOptions
from mstfs.verification.car import CarVerification
from mstfs.verification.head import HeadVerification
from mstfs.verification.report import TreeReport
from mstfs.verification.roots import kind_of
from mstfs.verification.walk import Question

FILECOIN = kinds.parse("filecoin,width=5,bucket=3,hash=sha2-256")


class Found(NamedTuple):
    """What the verifiers of a file and of a head say."""

    report: TreeReport
    defects: list[Defect]
    of_head: list[Defect]


def verify(folder: Path, made: Made, told: kinds.Kind | None = None, **asked: Any) -> Found:
    path = write(folder / "tree.car", [made])
    with CarFile.open(path, use_sidecar=False) as car:
        root = car.roots[0]
        kind = kind_of(root, made.blocks.get(root), told)
        assert kind is not None
        question = replace(Question(kind, root), **asked)
        steps: list[tuple[int, int]] = []
        verification = CarVerification(car, question, progress=lambda *step: steps.append(step))
        with pytest.raises(Refused):
            verification.report()
        defects = list(verification)
        head = HeadVerification(car, question)
        of_head = list(head)
        report = verification.report(tuple(defects))
        assert report.defect_count == len(defects)
        assert head.report().complete == report.complete
        assert (head.report().nodes, head.report().entries) == (report.nodes, report.entries)
        assert steps == sorted(set(steps))
        assert not steps or steps[-1] == (2 * len(made.blocks), 2 * len(made.blocks))
    return Found(report, defects, of_head)


# --- sound trees ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TREES))
def test_sound_trees(name: str, tmp_path: Path) -> None:
    made = TREES[name](VALUES)
    found = verify(tmp_path, made, FILECOIN if name == "filecoin" else None)
    assert (found.defects, found.of_head) == ([], [])
    report = found.report
    assert report.sound
    assert (report.unlinked, report.duplicates, report.blocks_seen) == (0, 0, len(made.blocks))
    if name != "unixfs":  # there a dirent may be a directory
        assert report.entries == len(made.files)
    expected = {"hamt3 raw": "raw", "hamt3 cbor": "cbor", "hamt2": "cbor"}
    assert report.values == expected.get(name)


def test_values_that_are_files(tmp_path: Path) -> None:
    tree = UnixfsBlocks()
    contents = {b"blob": dag_cbor.encode(bytes(1000)), b"record": dag_cbor.encode({"n": list(range(300))})}
    root, nodes = py_hamt_2({key: tree.file(content, 100) for key, content in contents.items()})
    found = verify(tmp_path, Made(root, nodes | tree.blocks, {}))
    assert (found.defects, found.report.values) == ([], "cbor")
    assert found.report.unlinked == 0


def test_blocks_that_nothing_links_to_are_counted(tmp_path: Path) -> None:
    made = TREES["hamt3 raw"](VALUES)
    raw_cid(b"nobody's", made.blocks)
    report = verify(tmp_path, made).report
    assert report.sound
    assert report.unlinked == 1


FIXTURES = {
    # An implementation in JavaScript leaves empty buckets behind when it deletes a bucket's last entry.
    "hamt/hamt_ipld_hashmap_bw8_bs3_sha256": {"node-form"},
    "unixfs/gateway-conformance__file-3k-and-3-blocks-missing-block": {"missing-block"},
    "unixfs/go-car__simple-unixfs-missing-blocks": {"missing-block"},
}
"""Files that break a rule, and the rules."""


def test_real_files(shared_fixtures: Path) -> None:
    seen = 0
    for folder in ("hamt", "unixfs"):
        for path in sorted((shared_fixtures / folder).glob("*.car")):
            with CarFile.open(path, use_sidecar=False) as car:
                root = car.roots[0]
                kind = kind_of(root, car.get(root))
                assert kind is not None
                verification = CarVerification(car, Question(kind, root))
                rules = {defect.rule for defect in verification}
                assert rules == FIXTURES.get(f"{folder}/{path.stem}", set()), path
                assert verification.report().unlinked == 0
                seen += 1
    assert seen >= 16


# --- planted defects --------------------------------------------------------------------------


class Planted(NamedTuple):
    """A tree with one defect, and what must be said of it; `cid` None is for any block."""

    made: Made
    rule: str
    cid: bytes | None
    key: bytes | None
    told: kinds.Kind | None = None
    asked: dict[str, Any] = {}  # noqa: RUF012


ITEMS: dict[bytes, Any] = {b"k/%03d" % number: {"n": number} for number in range(60)}
KEY = b"k/007"


def hamt3_with(block: bytes, *, codec: int = cids.RAW, kept: bytes | None = None) -> tuple[Made, bytes]:
    """A HAMT in which KEY names this block; `kept` is what is stored in its place."""
    blocks: Blocks = {}
    entries = {key: raw_cid(dag_cbor.encode(item), blocks) for key, item in ITEMS.items()}
    cid = bytes((1, codec, 0x1E, 0x20)) + blake3_of(block)
    entries[KEY] = cid
    root, nodes = py_hamt_3(entries)
    return Made(root, nodes | blocks | {cid: block if kept is None else kept}, {}), cid


def value_of(rule: str, block: bytes) -> Callable[[], Planted]:
    def plant() -> Planted:
        made, cid = hamt3_with(block)
        return Planted(made, rule, cid, KEY, asked={"options": ValueOptions(encoding="cbor")})

    return plant


def value_missing() -> Planted:
    made, cid = hamt3_with(b"\xa0")
    del made.blocks[cid]
    return Planted(made, "missing-block", cid, KEY)


def value_of_other_bytes() -> Planted:
    made, cid = hamt3_with(b"\xa0", kept=b"\xa1")
    return Planted(made, "block-hash", cid, KEY)


def value_of_a_weak_hash() -> Planted:
    blocks: Blocks = {}
    cid = bytes((1, cids.RAW, cids.SHA2_256, 8)) + cids.hash_of(cids.for_block(b"x"))[1][:8]
    blocks[cid] = b"x"
    root, nodes = py_hamt_3({KEY: cid})
    return Planted(Made(root, nodes | blocks, {}), "block-hash-unknown", cid, KEY)


def file_value(make: Callable[[UnixfsBlocks], tuple[bytes, str, bytes | None]]) -> Callable[[], Planted]:
    def plant() -> Planted:
        tree = UnixfsBlocks()
        top, rule, cid = make(tree)
        blocks: Blocks = {}
        entries = {key: raw_cid(b"raw %b" % key, blocks) for key in ITEMS}
        root, nodes = py_hamt_3({**entries, KEY: top})
        return Planted(Made(root, nodes | blocks | tree.blocks, {}), rule, cid, KEY)

    return plant


def a_directory(tree: UnixfsBlocks) -> tuple[bytes, str, bytes]:
    top = tree.folder({})
    return top, "value-file", top


def a_chunk_less(tree: UnixfsBlocks) -> tuple[bytes, str, bytes]:
    top = tree.file(bytes(range(250)), 100)
    gone = cids.for_block(bytes(range(100, 200)), cids.RAW)
    del tree.blocks[gone]
    return top, "missing-block", gone


def a_chunk_of_another_size(tree: UnixfsBlocks) -> tuple[bytes, str, bytes]:
    parts = [(b"", tree.file(b"one")), (b"", tree.file(b"three"))]
    top = tree.node(UnixfsData(KIND_FILE, None, 9, (3, 6)), parts)
    return top, "child-size", top


def file_of(rule: str, content: bytes) -> Callable[[], Planted]:
    """A value that is DAG-CBOR in a UnixFS file."""

    def plant() -> Planted:
        tree = UnixfsBlocks()
        top = tree.file(content, 5)
        blocks: Blocks = {}
        entries = {key: raw_cid(dag_cbor.encode(item), blocks) for key, item in ITEMS.items()}
        root, nodes = py_hamt_2({**entries, KEY: top})
        return Planted(Made(root, nodes | blocks | tree.blocks, {}), rule, top, KEY)

    return plant


def key_in_another_slot() -> Planted:
    cid = b"\x01\x55\x1e\x20" + blake3_of(b"x")
    keys = [b"k/%03d" % number for number in range(60)]
    slots: list[Any] = [{} for _ in range(256)]
    nodes: Blocks = {cid: b"x"}
    for slot, bucket in grouped(dict.fromkeys(keys, cid), 0, 8, blake3_of).items():
        slots[slot] = {key.decode(): link(cid) for key in bucket}
    at = blake3_of(KEY)[0]
    free = next(slot for slot in range(256) if not slots[slot])
    del slots[at][KEY.decode()]
    slots[free] = {KEY.decode(): link(cid)}
    root = keep(slots, nodes, BLAKE3_CBOR)
    return Planted(Made(root, nodes, {}), "key-slot", root, KEY)


def subtree_that_fits_into_a_bucket() -> Planted:
    nodes: Blocks = {}
    key = mined(b"\x07", 1)[0]
    cid = raw_cid(b"x", nodes)
    below: list[Any] = [{} for _ in range(256)]
    below[blake3_of(key)[1]] = {key.decode(): link(cid)}
    child = keep(below, nodes, BLAKE3_CBOR)
    slots: list[Any] = [{} for _ in range(256)]
    slots[7] = [link(child)]
    return Planted(Made(keep(slots, nodes, BLAKE3_CBOR), nodes, {}), "sparse-subtree", child, None)


def root_that_is_not_canonical() -> Planted:
    made = TREES["hamt2"](VALUES)
    value: Any = dag_cbor.decode(made.blocks.pop(made.root))
    block = dag_cbor.encode(value)
    # The field B behind the field L.
    half = dag_cbor.encode(value["B"])
    assert block.startswith(b"\xa2\x61B" + half)
    block = b"\xa2" + block[len(half) + 3 :] + b"\x61B" + half
    root = BLAKE3_CBOR + blake3_of(block)
    made.blocks[root] = block
    return Planted(made._replace(root=root), "cbor-map-order", root, None)


def root_of_too_few_slots() -> Planted:
    nodes: Blocks = {}
    root = keep([{} for _ in range(255)], nodes, BLAKE3_CBOR)
    return Planted(Made(root, nodes, {}), "node-slots", root, None, kinds.parse("hamt3"))


def keys_one_level_off() -> Planted:
    blocks: Blocks = {}
    entries = {key: raw_cid(dag_cbor.encode(item), blocks) for key, item in ITEMS.items()}
    root, nodes = py_hamt_2(entries, skip=1)
    return Planted(Made(root, nodes | blocks, {}), "hash-offset", root, None)


def another_hash_than_declared() -> Planted:
    root, nodes = hash_map(ITEMS, function=blake3_of)
    return Planted(Made(root, nodes, {}), "hash-declared", root, None)


def linked_record_that_is_not_canonical() -> Planted:
    block = b"\x18\x01"
    cid = b"\x01\x71\x12\x20" + cids.hash_of(cids.for_block(block))[1]
    root, nodes = hash_map({**ITEMS, KEY: link(cid)})
    return Planted(Made(root, nodes | {cid: block}, {}), "cbor-not-minimal", cid, KEY)


def unixfs(
    make: Callable[[UnixfsBlocks], tuple[dict[bytes, Any], str, bytes | None]],
) -> Callable[[], Planted]:
    def plant() -> Planted:
        tree = UnixfsBlocks()
        names, rule, key = make(tree)
        return Planted(Made(tree.folder(names), tree.blocks, {}), rule, None, key)

    return plant


def a_missing_file(tree: UnixfsBlocks) -> tuple[dict[bytes, Any], str, bytes]:
    gone = tree.file(b"gone")
    del tree.blocks[gone]
    return {b"a": {b"b": {b"gone": gone, b"here": tree.file(b"here")}}}, "missing-block", b"a/b/gone"


def a_name_twice(tree: UnixfsBlocks) -> tuple[dict[bytes, Any], str, bytes]:
    twice = [(b"x", tree.file(b"1")), (b"x", tree.file(b"2"))]
    return {b"a": tree.node(UnixfsData(KIND_DIRECTORY), twice)}, "entry-duplicate", b"a/x"


def a_lying_tsize(tree: UnixfsBlocks) -> tuple[dict[bytes, Any], str, bytes]:
    file = tree.file(b"four")
    tree.sizes[file] = 5
    return {b"a": {b"x": file}}, "link-size", b"a/x"


def a_chunk_of_zarr_less() -> Planted:
    writer = Writer()
    chunk = writer.put(b"chunk")
    root = writer.v2({"t": Array((8,), (1,), {(3,): chunk})})
    blocks = {cid: writer.blocks.get(cid) for cid in writer.blocks.cids() if cid != chunk}
    return Planted(Made(root, blocks, {}), "missing-block", chunk, b"t/c/3")


def a_shard_too_short() -> Planted:
    writer = Writer()
    array = Array((8,), (1,), {(number,): writer.put(b"%d" % number) for number in range(8)})
    row = writer.row(array)
    short = writer.shard([array.chunks[(0,)]])
    row["shard_cids"][0] = link(short)
    root = writer.v2({"t": array}, arrays={"t": row})
    blocks = {cid: writer.blocks.get(cid) for cid in writer.blocks.cids()}
    return Planted(Made(root, blocks, {}), "shard-length", short, None)


PLANTED: dict[str, Callable[[], Planted]] = {
    "value missing": value_missing,
    "value of other bytes": value_of_other_bytes,
    "value of a weak hash": value_of_a_weak_hash,
    "value with a long integer": value_of("cbor-not-minimal", b"\x18\x01"),
    "value with something behind it": value_of("cbor-trailing", b"\x01\x01"),
    "value with unsorted keys": value_of("cbor-map-order", b"\xa2\x61b\x01\x61a\x01"),
    "value that is a short byte string": value_of("value-cbor", b"\x45abc"),
    "value too large for a record": value_of("value-size", dag_cbor.encode([b"x" * RECORD_BYTES])),
    "value that is a directory": file_value(a_directory),
    "file that lacks a chunk": file_value(a_chunk_less),
    "file whose sizes lie": file_value(a_chunk_of_another_size),
    "file of a record that is not canonical": file_of("cbor-not-minimal", b"\x82\x18\x01\x63abc"),
    "file of a short byte string": file_of("value-cbor", b"\x48abcdefg"),
    "key in another slot": key_in_another_slot,
    "sparse subtree": subtree_that_fits_into_a_bucket,
    "root that is not canonical": root_that_is_not_canonical,
    "root of too few slots": root_of_too_few_slots,
    "keys one level off": keys_one_level_off,
    "another hash than declared": another_hash_than_declared,
    "linked record": linked_record_that_is_not_canonical,
    "missing file": unixfs(a_missing_file),
    "name twice": unixfs(a_name_twice),
    "lying tsize": unixfs(a_lying_tsize),
    "chunk of Zarr missing": a_chunk_of_zarr_less,
    "shard too short": a_shard_too_short,
}


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_planted_defects_are_named_and_placed(name: str, tmp_path: Path) -> None:
    planted = PLANTED[name]()
    found = verify(tmp_path, planted.made, planted.told, **planted.asked)
    [defect] = found.defects
    assert defect.rule == planted.rule
    assert planted.cid in (None, defect.cid)
    assert defect.key == planted.key
    assert defect.message
    assert not found.report.sound
    assert [(one.rule, one.cid, one.key) for one in found.of_head] == [(defect.rule, defect.cid, defect.key)]
    if defect.rule != "missing-block":
        data = (tmp_path / "tree.car").read_bytes()
        assert defect.cid is not None
        assert defect.offset is not None
        assert defect.cid in data[defect.offset : defect.offset + 10 + len(defect.cid)]
    unreadable = ("missing-block", "block-hash", "block-hash-unknown", "node-slots", "shard-length")
    assert found.report.complete == (defect.rule not in unreadable)


def test_a_flaw_is_told_once_for_all_keys_that_name_it(tmp_path: Path) -> None:
    cid = bytes((1, cids.RAW, 0x1E, 0x20)) + blake3_of(b"x")
    root, nodes = py_hamt_3({b"a": cid, b"b": cid, b"c": cid})
    found = verify(tmp_path, Made(root, nodes | {cid: b"y"}, {}))
    assert [defect.rule for defect in found.defects] == ["block-hash"]
    found = verify(tmp_path, Made(root, nodes, {}))
    assert sorted(defect.key or b"" for defect in found.defects) == [b"a", b"b", b"c"]


def test_a_wrong_block_that_nothing_links_to_is_told(tmp_path: Path) -> None:
    made = TREES["unixfs"](VALUES)
    stray = cids.for_block(b"x", cids.RAW)
    made.blocks[stray] = b"y"
    found = verify(tmp_path, made)
    assert [(defect.rule, defect.cid) for defect in found.defects] == [("block-hash", stray)]
    assert found.of_head == []


# --- how values are looked at -----------------------------------------------------------------


def test_raw_values_are_not_looked_into(tmp_path: Path) -> None:
    made, _ = hamt3_with(b"\x18\x01")
    assert verify(tmp_path, made).report.values == "raw"  # one that is no DAG-CBOR, and all may be none
    found = verify(tmp_path, made, options=ValueOptions(encoding="raw"))
    assert found.defects == []


@pytest.mark.parametrize("family", [py_hamt_2, py_hamt_3])
def test_encrypted_values(
    family: Callable[[dict[bytes, bytes]], tuple[bytes, Blocks]], tmp_path: Path
) -> None:
    cipher = Cipher(bytes(32), b"header")
    blocks: Blocks = {}
    sealed = {key: cipher.encrypt(dag_cbor.encode(item)) for key, item in ITEMS.items()}
    entries = {key: raw_cid(data, blocks) for key, data in sealed.items()}
    root, nodes = family(entries)
    made = Made(root, nodes | blocks, {})
    without = verify(tmp_path, made)
    assert without.defects == []
    assert without.report.values == ("encrypted" if family is py_hamt_2 else "raw")
    assert verify(tmp_path, made, encrypted=True).report.values == "encrypted"
    opened = verify(tmp_path, made, cipher=cipher)
    assert (opened.defects, opened.report.values) == ([], "cbor")
    wrong = verify(tmp_path, made, cipher=Cipher(bytes(32), b"other"), options=ValueOptions(encoding="cbor"))
    assert {defect.rule for defect in wrong.defects} == {"value-sealed"}
    assert {defect.key for defect in wrong.defects} == ITEMS.keys()
    bad = cipher.encrypt(b"\x18\x01")
    entries[KEY] = raw_cid(bad, blocks)
    root, nodes = family(entries)
    found = verify(
        tmp_path, Made(root, nodes | blocks, {}), cipher=cipher, options=ValueOptions(encoding="cbor")
    )
    assert [(defect.rule, defect.key) for defect in found.defects] == [("cbor-not-minimal", KEY)]


# --- roots ------------------------------------------------------------------------------------


def test_which_verifier_a_root_needs() -> None:
    for name, make in TREES.items():
        made = make(VALUES)
        block = made.blocks[made.root]
        if name == "filecoin":
            with pytest.raises(Refused, match="--tree filecoin"):
                kind_of(made.root, block)
            assert kind_of(made.root, block, FILECOIN) == FILECOIN
            continue
        found = kind_of(made.root, block)
        assert found is not None
        assert found.name == name.split()[0]
        assert kind_of(made.root, block, kinds.parse(found.name)) == found
        with pytest.raises(Refused, match="not a"):
            kind_of(made.root, block, kinds.MST)
    commit = dag_cbor.encode({"did": "did:web:a", "data": None})
    assert kind_of(cids.for_block(commit), commit) is None
    assert kind_of(cids.for_block(b""), b"") is None
    assert kind_of(cids.for_block(b"", cids.DAG_PB), None) == kinds.UNIXFS
    assert kind_of(cids.for_block(b""), None) is None
    # A store that calls every block raw.
    made = TREES["hamt3 raw"](VALUES)
    raw = b"\x01\x55" + cids.multihash_of(made.root)
    assert kind_of(raw, made.blocks[made.root]) == kinds.UNIXFS
    assert kind_of(raw, made.blocks[made.root], kinds.parse("hamt3")) == kinds.parse("hamt3")
