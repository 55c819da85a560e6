"""Proofs about keys of every kind of tree: what holds, what does not, and that nothing more is needed."""

from pathlib import Path

import pytest
from cli_trees import TREES, VALUES, Blocks, Made, UnixfsBlocks, raw_cid
from naive_hamt import blake3_of, hash_map, link, py_hamt_2, py_hamt_3
from naive_sharded import Array, Chunks, Writer

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.codec.dag_pb import KIND_DIRECTORY, PBLink, PBNode, UnixfsData, encode, encode_data
from mstfs.errors import MissingBlock, ProofError, Refused
from mstfs.repo.head import Head, read_head
from mstfs.repo.sample import make_sample, signing_key
from mstfs.tree import kinds
from mstfs.tree.kinds import Kind
from mstfs.tree.unixfs import proof as unixfs_proof
from mstfs.tree.unixfs.tree import UnixfsTree
from mstfs.verification.proof import check_proof, make_proof

FILECOIN = kinds.parse("filecoin,width=5,bucket=3,hash=sha2-256")
ABSENT = (b"nope", b"many/nope", b"many/000/deeper", b"temp/c/99")


def opened(name: str, made: Made) -> tuple[MemoryBlocks, Head, Kind | None]:
    blocks = MemoryBlocks(made.blocks.items())
    told = FILECOIN if name == "filecoin" else None
    return blocks, read_head(blocks, made.root, told), told


@pytest.mark.parametrize("name", sorted(TREES))
def test_keys_that_are_there_and_keys_that_are_not(name: str) -> None:
    made = TREES[name](VALUES)
    blocks, head, told = opened(name, made)
    tree = head.tree.open(blocks)
    for key in (*made.files, *ABSENT):
        value, proof = make_proof(blocks, head, key)
        assert value == tree.get(made.root, key)
        assert (value is None) == (key not in made.files)
        assert len(proof) <= 8
        held = MemoryBlocks(proof)
        kind, proven = check_proof(held, made.root, key, kind=told)
        assert kind == head.tree
        assert (proven.value, proven.data, proven.did) == (value, made.root, None)
        # Of a file of several blocks only the topmost one is there.
        whole = value is not None and not (name == "unixfs" and key == b"temp/c/1")
        assert proven.has_record == whole


@pytest.mark.parametrize("name", sorted(TREES))
def test_no_block_on_the_way_can_be_left_out_or_bent(name: str) -> None:
    made = TREES[name](VALUES)
    blocks, head, told = opened(name, made)
    for key in (b"many/000", b"t/c/3" if name == "sharded-zarr" else b"temp/c/1", b"many/nope"):
        value, proof = make_proof(blocks, head, key)
        for cid, block in proof:
            others = [pair for pair in proof if pair[0] != cid]
            if cid == value and name != "unixfs":
                _, proven = check_proof(MemoryBlocks(others), made.root, key, kind=told)
                assert (proven.value, proven.has_record) == (value, False)
            elif cid != value:
                with pytest.raises(ProofError):
                    check_proof(MemoryBlocks(others), made.root, key, kind=told)
            bent = MemoryBlocks(others)
            bent.plant(cid, block + b"\0")
            with pytest.raises(ProofError):
                check_proof(bent, made.root, key, kind=told)


def test_what_places_the_keys_is_found_out_from_the_proof() -> None:
    blocks: Blocks = {}
    entries = {b"k/%04d" % number: raw_cid(b"%d" % number, blocks) for number in range(3000)}
    linked = {key: link(cid) for key, cid in entries.items()}
    for root, nodes in (py_hamt_2(entries, skip=1), hash_map(linked, function=blake3_of)):
        store = MemoryBlocks((nodes | blocks).items())
        head = read_head(store, root)
        for number in range(0, 6000, 61):
            key = b"k/%04d" % number
            value, proof = make_proof(store, head, key)
            assert value == entries.get(key)
            assert check_proof(MemoryBlocks(proof), root, key)[1].value == value


def test_a_hamt_whose_keys_nobody_can_look_up_proves_nothing() -> None:
    root, nodes = hash_map(dict.fromkeys(VALUES, 1), function=lambda key: blake3_of(key)[7:])
    store = MemoryBlocks(nodes.items())
    with pytest.raises(Refused, match="hash function"):
        make_proof(store, read_head(store, root), b"nope")
    with pytest.raises(ProofError, match="hash function"):
        check_proof(store, root, b"nope")


def test_an_empty_hamt_has_no_key() -> None:
    root, nodes = py_hamt_3({})
    store = MemoryBlocks(nodes.items())
    assert make_proof(store, read_head(store, root), b"k") == (None, [(root, nodes[root])])
    assert check_proof(store, root, b"k")[1].value is None


def test_only_the_way_is_read() -> None:
    made = TREES["hamt3 raw"]({b"k/%04d" % number: b"" for number in range(2000)})
    blocks, head, _ = opened("hamt3 raw", made)
    _, proof = make_proof(blocks, head, b"k/0001")
    assert len(proof) == 3  # two nodes and the value
    value = made.blocks.keys() - {cid for cid, _ in proof}
    less = MemoryBlocks(proof)
    assert len(value) > 20
    assert make_proof(less, head, b"k/0001")[1] == proof
    with pytest.raises(MissingBlock):
        make_proof(MemoryBlocks(proof[:-1]), head, b"k/0001")


# --- UnixFS -----------------------------------------------------------------------------------


def test_directories_and_the_root_have_proofs() -> None:
    made = TREES["unixfs"](VALUES)
    blocks, head, _ = opened("unixfs", made)
    tree = UnixfsTree(blocks)
    for path in (b"", b"temp", b"temp/c"):
        value, proof = make_proof(blocks, head, path)
        assert value == tree.resolve(made.root, path)
        assert check_proof(MemoryBlocks(proof), made.root, path)[1].has_record


def test_sharded_directories(shared_fixtures: Path) -> None:
    from mstfs.blocks.car import CarFile

    path = shared_fixtures / "unixfs/gateway-conformance__single-layer-hamt-with-multi-block-files.car"
    with CarFile.open(path, use_sidecar=False) as car:
        head = read_head(car, car.roots[0])
        for key, cid in list(UnixfsTree(car).walk(head.data))[::97]:
            value, proof = make_proof(car, head, key)
            assert value == cid
            assert len(proof) <= 4
            assert check_proof(MemoryBlocks(proof), head.root, key)[1].value == cid
        value, proof = make_proof(car, head, b"not-there")
        assert value is None
        assert check_proof(MemoryBlocks(proof), head.root, b"not-there")[1].value is None
        # The shards that say so are needed, each of them.
        assert len(proof) >= 1
        for left_out in range(len(proof)):
            with pytest.raises(ProofError, match="lacks"):
                unixfs_proof.check(head.root, b"not-there", proof[:left_out] + proof[left_out + 1 :])


def test_nothing_is_below_a_file() -> None:
    tree = UnixfsBlocks()
    root = tree.folder({b"a": tree.file(b"raw"), b"l": tree.symlink(b"a")})
    store = MemoryBlocks(tree.blocks.items())
    for path in (b"a/b", b"l/b", b"nope/b"):
        assert unixfs_proof.check(root, path, unixfs_proof.prove(store, root, path)) is None
    raw = tree.file(b"raw")
    assert unixfs_proof.check(raw, b"", []) == raw
    assert unixfs_proof.check(raw, b"x", []) is None


def test_a_name_with_a_slash_has_no_path() -> None:
    store = MemoryBlocks()
    file = cids.for_block(b"x", cids.RAW)
    message = encode_data(UnixfsData(KIND_DIRECTORY))
    block = encode(PBNode((PBLink(file, b"a/b", 1),), message))
    root = cids.for_block(block, cids.DAG_PB)
    store.put(root, block)
    with pytest.raises(Refused, match="no path"):
        make_proof(store, read_head(store, root), b"/a%2Fb")


def test_the_first_of_two_equal_names_is_proven() -> None:
    tree = UnixfsBlocks()
    first, second = tree.file(b"1"), tree.file(b"2")
    root = tree.node(UnixfsData(KIND_DIRECTORY), [(b"x", first), (b"x", second)])
    store = MemoryBlocks(tree.blocks.items())
    assert unixfs_proof.check(root, b"x", unixfs_proof.prove(store, root, b"x")) == first


# --- sharded Zarr -----------------------------------------------------------------------------


def test_a_manifest_and_one_shard_are_enough() -> None:
    writer = Writer()
    chunks: Chunks = {(number,): writer.put(b"%d" % number) for number in range(64)}
    root = writer.v2({"t": Array((64,), (1,), chunks)})
    head = read_head(writer.blocks, root)
    value, proof = make_proof(writer.blocks, head, b"t/c/63")
    assert value == chunks[(63,)]
    assert len(proof) == 4  # manifest, document, shard, chunk
    assert check_proof(MemoryBlocks(proof), root, b"t/c/63")[1].value == value
    assert len(make_proof(writer.blocks, head, b"t/zarr.json")[1]) == 2


# --- repositories -----------------------------------------------------------------------------


def test_the_proof_of_a_repository_is_that_of_the_commit(tmp_path: Path) -> None:
    from mstfs.blocks.car import CarFile

    made = make_sample(tmp_path / "repo.car", 20, 1)
    with CarFile.open(tmp_path / "repo.car", use_sidecar=False) as car:
        head = read_head(car, made.root)
        key = b"app.bsky.actor.profile/self"
        value, proof = make_proof(car, head, key)
        assert proof[0][0] == made.root
        kind, proven = check_proof(MemoryBlocks(proof), made.root, key, made.did_key)
        assert (kind, proven.value, proven.signature) == (kinds.MST, value, "valid")
        with pytest.raises(ProofError, match="signature"):
            check_proof(MemoryBlocks(proof), made.root, key, signing_key(99).did_key)


def test_a_signing_key_vouches_for_no_hamt() -> None:
    root, nodes = py_hamt_3({})
    with pytest.raises(ProofError, match="no commit"):
        check_proof(MemoryBlocks(nodes.items()), root, b"k", signing_key(1).did_key)
    with pytest.raises(ProofError, match="missing"):
        check_proof(MemoryBlocks(), root, b"k")
