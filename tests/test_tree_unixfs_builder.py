"""Building files and directories: the roots that another implementation gives, and what is refused."""

import io
from collections.abc import Iterator

import pytest
from test_tree_unixfs_node import Store

from mstfs.codec import cid as cids
from mstfs.codec import dag_pb
from mstfs.codec.dag_pb import Mtime
from mstfs.errors import CidError, Refused
from mstfs.limits import NODE_BYTES
from mstfs.tree.unixfs.builder import (
    Built,
    build_directory,
    build_file,
    build_sharded,
    build_symlink,
    gather,
    time_of,
)
from mstfs.tree.unixfs.directory import Dirent
from mstfs.tree.unixfs.node import decode
from mstfs.tree.unixfs.tree import EMPTY_CID, UnixfsTree
from mstfs.tree.unixfs.verify import verify_tree


def content(size: int) -> bytes:
    return bytes(at * 7 + (at >> 8) * 13 + (at >> 16) * 5 & 255 for at in range(size))


def drop(cid: bytes, block: bytes) -> None:
    assert cids.matches(cid, block)


# Bytes of content, bytes in a chunk, links in a node; the root and the Tsize that ipfs-unixfs-importer 17.1.1
# gives them (CIDv1, raw leaves, fixed-size chunks, balanced layout).
FILES = [
    (0, 262144, 174, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", 0),
    (1, 262144, 174, "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu", 1),
    (262144, 262144, 174, "bafkreiaxvxal55kcworemk4h4fpvgqcsdrky65b73htcnxtsovca77llg4", 262144),
    (262145, 262144, 174, "bafybeibnw2szkqxbp34lol6iyd24zwmm2acs2q33nwlf5r57w3zianfrae", 262249),
    (3000, 16, 174, "bafybeif4oemenpicvsnu62czualwu3uxcaq7qb4p6aygtt2xsfts6pyxtm", 11766),
    (2784, 16, 174, "bafybeibqxm6vbgtckeyri7yitaedrnowdldst2dl6ymukvkukep5cjgjhu", 10796),
    (2785, 16, 174, "bafybeidlhcvljmkjnrcgg765fahaayewd7dinnfpnpe65er5ri62aciw3y", 10950),
    (60552, 2, 174, "bafybeid6hfb66j7h6jio5mwzuc46bzzqlcs5kyfmejbqcvo7lvfbe5tzti", 1463001),
    (60553, 2, 174, "bafybeiccr2vgedzom5pgk354q6dwl5zuqj3bolh2xewa2hu6pbwhpfdmzm", 1463210),
    (1000, 3, 2, "bafybeienz6iqe4p4lqrfolt6luiunivqmkvrvwmrqc7m6ixasmvzid5v4e", 34033),
    (2000000, 1048576, 174, "bafybeibogkkz4liwxekjwnw6waxkgy3aetn7qfae6bhuge6q4s2tu4wgpq", 2000108),
    (100000, 7, 1024, "bafybeidajuuzavw43b6vao4qwzmalyaavafyc4wyhazfxmy4z4mxzqpa3m", 757962),
]


@pytest.mark.parametrize(("size", "chunk", "links", "root", "tsize"), FILES)
def test_files_have_the_roots_of_another_implementation(
    size: int, chunk: int, links: int, root: str, tsize: int
) -> None:
    built = gather(build_file(io.BytesIO(content(size)), chunk, links_per_node=links), drop)
    assert built == Built(cids.parse(root), size, tsize)


# The same with a mode and a time. Of larger files ipfs-unixfs-importer repeats both in every node, so there
# is no root to compare with; Kubo has them in the topmost node only, and so has this builder.
TOLD = [
    (0, 262144, 0o600, None, "bafybeicdtg2egiote6qopcc6rraaqguy4poepojwbshixncjc44nz2jsbe", 9),
    (5, 262144, 0o600, None, "bafybeic72cn2adfbo7fsbdmqpmrz4hq63v6zdes2blv6ginbcoea33c7l4", 16),
    (5, 262144, None, Mtime(1700000000), "bafybeid5fvwczwfgoltsftp6ufbylyvre5yd2aen4sl7ktkxzwzrjum4y4", 21),
    (5, 5, 0o4755, Mtime(1700000000, 5), "bafybeifpmgzqhi2gklgzb4nhkppifdixei54tppesrxwrittwuawcrnxe4", 29),
    (30, 10, 0o600, Mtime(1700000000, 5), "bafybeibtn6rdsr5l6cm4bp4necp67xwglueingrxhygbpwpx3x6l7ckxmu", 190),
]


@pytest.mark.parametrize(("size", "chunk", "mode", "mtime", "root", "tsize"), TOLD)
def test_files_with_attributes_have_the_roots_of_another_implementation(
    size: int, chunk: int, mode: int | None, mtime: Mtime | None, root: str, tsize: int
) -> None:
    built = gather(build_file(io.BytesIO(content(size)), chunk, mode=mode, mtime=mtime), drop)
    assert built == Built(cids.parse(root), size, tsize)


@pytest.mark.parametrize("size", [0, 1, 10, 11, 20, 30, 31, 40, 90, 91, 100, 270, 271, 300])
def test_attributes_stand_in_the_topmost_node_only(size: int) -> None:
    store = Store()
    data = content(size)
    built = gather(
        build_file(io.BytesIO(data), 10, links_per_node=3, mode=0o640, mtime=time_of(-1)), store.put
    )
    tree = UnixfsTree(store)
    assert tree.attributes(built.cid) == ("file", size, 0o640, Mtime(-1, 999_999_999))
    assert tree.read(built.cid, 0, 1000) == data
    assert list(verify_tree(store, built.cid)) == []
    told = [cid for cid, _ in tree.nodes(built.cid) if tree.attributes(cid).mode is not None]
    assert told == [built.cid]
    assert {cid for cid, _ in tree.nodes(built.cid)} == set(store.cids())
    plain = gather(build_file(io.BytesIO(data), 10, links_per_node=3), store.put)
    assert size <= 10 or tree.node(built.cid).links == tree.node(plain.cid).links


def test_a_chunk_that_is_too_large_for_a_node_stays_raw() -> None:
    store = Store()
    data = bytes(NODE_BYTES - 20)
    built = gather(build_file(io.BytesIO(data), NODE_BYTES, mode=0o600), store.put)
    tree = UnixfsTree(store)
    assert tree.node(built.cid).links == (cids.for_block(data, cids.RAW),)
    assert tree.attributes(built.cid).mode == 0o600
    assert tree.read(built.cid, 0, len(data)) == data


def test_other_kinds_have_attributes() -> None:
    store = Store()
    tree = UnixfsTree(store)
    link = gather(build_symlink(b"target", mode=0o777, mtime=time_of(7_000_000_000)), store.put)
    assert tree.attributes(link.cid) == ("symlink", 6, 0o777, Mtime(7))
    rows = small_files(300)
    for blocks in (
        build_directory(rows, mode=0o711, mtime=Mtime(0)),
        build_sharded(rows, mode=0o711, mtime=Mtime(0)),
    ):
        store = Store()
        tree = UnixfsTree(store)
        built = gather(blocks, store.put)
        assert tree.attributes(built.cid) == ("directory", 0, 0o711, Mtime(0))
        assert [cid for cid in store.cids() if tree.node(cid).mode is not None] == [built.cid]


# Files in a directory, bytes from which it is sharded, fanout; root and Tsize, from the same source.
DIRECTORIES = [
    (1, 262144, 256, "bafybeibkjn2bckxaaaq6tpry2dugmpvnfvce6l5kcdtrckltnnivfkymsy", 58),
    (10, 262144, 256, "bafybeibuxzkgyw4bhqusp2hpay2fo5ugs7gc77qp36vxxqsq2x4f3fuhbm", 589),
    (10, 0, 256, "bafybeieck6stwpnaofyfb2yohmefjtlgqsnaxgijmdiyyjj4seum6kdxdu", 645),
    (1000, 1000, 256, "bafybeiffehsx3rbri5wc6kl5i5qglnnwbsb7fi4desge4nhi46kqk6w6fq", 102078),
    (1000, 0, 16, "bafybeihkyqdl3sdtwtr7vnin6rm4d6fahkbccu2udvwnjcfkw6kveveabe", 101296),
    (1000, 0, 8, "bafybeie5bn2y7mjmjxbbfr3vclbimxq5c4tadseafr4t3lff4dfk7cciom", 108304),
    (5000, 262144, 256, "bafybeicbqhjxil5adm6be6tkblrrgwgdro3m2l7wsmmfnncrk6bqedhbda", 406394),
    (5461, 262144, 256, "bafybeiazn574qih55c7illjtsscgfdkzvn6v62n3d6bfc3n3afbodksu2i", 493321),
]


def small_files(count: int) -> list[Dirent]:
    kinds = [gather(build_file(io.BytesIO(content(size))), drop) for size in range(50)]
    return sorted(
        Dirent(b"file-%d.txt" % number, kinds[number % 50].cid, kinds[number % 50].tsize)
        for number in range(count)
    )


@pytest.mark.parametrize(("count", "limit", "fanout", "root", "tsize"), DIRECTORIES)
def test_directories_have_the_roots_of_another_implementation(
    count: int, limit: int, fanout: int, root: str, tsize: int
) -> None:
    rows = small_files(count)
    if fanout == 256:
        built = gather(build_directory(rows, directory_bytes=limit), drop)
    else:
        built = gather(build_sharded(rows, fanout=fanout), drop)
    assert built == Built(cids.parse(root), 0, tsize)


def is_sharded(rows: list[Dirent], **options: object) -> bool:
    store = Store()
    built = gather(build_directory(rows, **options), store.put)  # type: ignore[arg-type]
    return decode(built.cid, store.get(built.cid)).kind == dag_pb.KIND_SHARD


def test_a_directory_at_the_limit_is_plain() -> None:
    rows = small_files(20)
    links = sum(len(row.name) + len(row.cid) for row in rows)
    assert not is_sharded(rows, directory_bytes=links)
    assert is_sharded(rows, directory_bytes=links - 1)
    store = Store()
    block = len(store.get(gather(build_directory(rows), store.put).cid))
    assert block > links
    assert not is_sharded(rows, directory_bytes=block, estimate="block")
    assert is_sharded(rows, directory_bytes=block - 1, estimate="block")


def test_known_roots() -> None:
    assert gather(build_directory([]), drop).cid == EMPTY_CID
    link = gather(build_symlink(b"foo"), drop)
    assert cids.to_text(cids.multihash_of(link.cid)) == "QmTB8BaCJdCH5H3k7GrxJsxgDNmNYGGR71C58ERkivXoj5"


@pytest.mark.parametrize("hash_code", [cids.SHA2_256, cids.BLAKE3])
def test_every_block_has_the_given_hash_and_no_defect(hash_code: int) -> None:
    store = Store()
    file = gather(build_file(io.BytesIO(content(1000)), 10, hash_code, 4), store.put)
    link = gather(build_symlink(b"x", hash_code), store.put)
    rows = [Dirent(b"f%03d" % number, file.cid, file.tsize) for number in range(300)]
    rows.append(Dirent(b"link", link.cid, link.tsize))
    inner = gather(build_directory(rows, hash_code, 1000), store.put)
    root = gather(build_directory([Dirent(b"inner", inner.cid, inner.tsize)], hash_code), store.put)
    assert {cids.hash_of(cid)[0] for cid in store.cids()} == {hash_code}
    assert list(verify_tree(store, root.cid)) == []
    # The Tsize counts a block as often as it is linked, which here is not once.
    assert root.tsize > sum(len(block) for _, block in UnixfsTree(store).nodes(root.cid))


class Trickle(io.BytesIO):
    """Gives at most three bytes at a time, as a pipe may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 3, 3))


def test_short_reads_do_not_end_a_chunk() -> None:
    whole = list(build_file(io.BytesIO(content(100)), 10))
    assert list(build_file(Trickle(content(100)), 10)) == whole


class Endless(io.BytesIO):
    """Never ends."""

    def read(self, size: int | None = -1, /) -> bytes:
        return b"x" * (size or 0)


def test_files_are_built_as_they_are_read() -> None:
    blocks: Iterator[tuple[bytes, bytes]] = build_file(Endless(), 10, links_per_node=2)
    assert [len(next(blocks)[1]) for _ in range(2)] == [10, 10]
    assert cids.codec_of(next(blocks)[0]) == cids.DAG_PB


@pytest.mark.parametrize(
    "names",
    [[b"b", b"a"], [b"a", b"a"], [b""], [b"a/b"]],
)
def test_directories_that_are_refused(names: list[bytes]) -> None:
    with pytest.raises(Refused):
        gather(build_directory([Dirent(name, EMPTY_CID, 1) for name in names]), drop)


def test_other_refusals() -> None:
    with pytest.raises(Refused):
        gather(build_sharded([Dirent(b"a", EMPTY_CID, 1), Dirent(b"a", EMPTY_CID, 2)]), drop)
    with pytest.raises(Refused):
        gather(build_sharded([], fanout=100), drop)
    for chunk, links in ((0, 174), (1 << 40, 174), (10, 1)):
        with pytest.raises(Refused):
            gather(build_file(io.BytesIO(b""), chunk, links_per_node=links), drop)
    with pytest.raises(CidError):
        gather(build_file(io.BytesIO(b""), hash_code=cids.SHA1), drop)
