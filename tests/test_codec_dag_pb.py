"""DAG-PB and UnixFS messages: both ways, against real blocks, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.codec import dag_pb
from mstfs.codec.dag_pb import Mtime, PBLink, PBNode, UnixfsData
from mstfs.errors import DagPbError, LimitExceeded
from mstfs.limits import NODE_BYTES, NODE_LINKS

CID = cids.for_block(b"x", cids.RAW)
V0 = cids.multihash_of(CID)
BLAKE = cids.for_block(b"x", cids.RAW, cids.BLAKE3)

uint64s = st.one_of(st.integers(0, 300), st.integers(0, (1 << 64) - 1))
links = st.builds(
    PBLink,
    st.sampled_from([CID, V0, BLAKE]),
    st.none() | st.binary(max_size=200),
    st.none() | uint64s,
)
pb_nodes = st.builds(PBNode, st.lists(links, max_size=5).map(tuple), st.none() | st.binary(max_size=200))
mtimes = st.builds(Mtime, st.integers(-(1 << 63), (1 << 63) - 1), st.none() | st.integers(0, (1 << 32) - 1))
messages = st.builds(
    UnixfsData,
    st.integers(0, 5),
    st.none() | st.binary(max_size=200),
    st.none() | uint64s,
    st.lists(uint64s, max_size=5).map(tuple),
    st.none() | uint64s,
    st.none() | uint64s,
    st.none() | st.integers(0, (1 << 32) - 1),
    st.none() | mtimes,
)


@given(pb_nodes)
@example(PBNode())
@example(PBNode((), b""))
def test_nodes_come_back(node: PBNode) -> None:
    assert dag_pb.decode(dag_pb.encode(node)) == node


@given(messages)
def test_messages_come_back(message: UnixfsData) -> None:
    assert dag_pb.decode_data(dag_pb.encode_data(message)) == message


@st.composite
def alike(draw: st.DrawFn) -> PBNode:
    """Links as large files have them: runs of some that differ in their digests alone."""
    found: list[PBLink] = []
    for name, tsize, count in draw(
        st.lists(
            st.tuples(st.sampled_from([None, b"", b"n"]), st.none() | uint64s, st.integers(1, 9)), max_size=4
        )
    ):
        codec = draw(st.sampled_from([cids.RAW, cids.DAG_PB]))
        found += [PBLink(cids.for_block(bytes([number]), codec), name, tsize) for number in range(count)]
    return PBNode(tuple(found), draw(st.none() | st.binary(max_size=20)))


@given(alike(), st.data())
@settings(max_examples=500)
def test_links_that_are_alike_are_read_as_others_are(node: PBNode, data: st.DataObject) -> None:
    block = bytearray(dag_pb.encode(node))
    assert dag_pb.decode(bytes(block)) == node
    for at in data.draw(st.lists(st.integers(0, max(0, len(block) - 1)), max_size=2)) if block else ():
        block[at] = data.draw(st.integers(0, 255))
    cut = bytes(block[: data.draw(st.integers(0, len(block)))])
    outcomes: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        for _ in range(2):
            try:
                outcomes.append(dag_pb.decode(cut))
            except DagPbError as error:
                outcomes.append(str(error))
            patch.setattr(dag_pb, "_more_alike", lambda block, field, end, links: end)
    assert outcomes[0] == outcomes[1]


def test_links_that_only_look_alike() -> None:
    """In the second CID the fifth byte is not the length of what follows; the first four are the same."""
    sound = b"\x01\xa9\x02\x00\x1f" + bytes(31)
    block = dag_pb.encode(PBNode((PBLink(sound),)))
    assert len(sound) == len(CID)
    assert dag_pb.decode(block * 2).links == (PBLink(sound),) * 2
    with pytest.raises(DagPbError, match="no sound CID"):
        dag_pb.decode(block + block.replace(b"\x1f", b"\x1e"))


@given(st.lists(st.tuples(uint64s, st.integers(1, 9)), max_size=4))
def test_sizes_that_are_alike(runs: list[tuple[int, int]]) -> None:
    sizes = tuple(size for size, count in runs for _ in range(count))
    message = dag_pb.encode_data(UnixfsData(2, blocksizes=sizes))
    assert dag_pb.decode_data(message).blocksizes == sizes
    if sizes and sizes[-1] > 127:
        with pytest.raises(DagPbError, match="cut off"):
            dag_pb.decode_data(message[:-1])


@given(pb_nodes, messages, st.data())
@settings(max_examples=300)
def test_damage_is_read_as_something_else_or_refused(
    node: PBNode, message: UnixfsData, data: st.DataObject
) -> None:
    block = bytearray(dag_pb.encode(node._replace(data=dag_pb.encode_data(message))))
    at = data.draw(st.integers(0, len(block) - 1))
    block[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del block[data.draw(st.integers(0, len(block))) :]
    try:
        found = dag_pb.decode(bytes(block))
        if found.data is not None:
            dag_pb.decode_data(found.data)
    except DagPbError:
        return
    # What is accepted has one form, but for the side on which the data stands.
    tail = b"" if found.data is None else dag_pb.encode(PBNode((), found.data))
    head = dag_pb.encode(PBNode(found.links))
    assert bytes(block) in (head + tail, tail + head)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for decode in (dag_pb.decode, dag_pb.decode_data):
        try:
            decode(data)
        except DagPbError:
            continue


def test_known_blocks() -> None:
    # The empty directory and the empty file of every IPFS node.
    empty = dag_pb.encode(PBNode((), dag_pb.encode_data(UnixfsData(dag_pb.KIND_DIRECTORY))))
    assert cids.to_text(cids.multihash_of(cids.for_block(empty, cids.DAG_PB))) == (
        "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    )
    file = dag_pb.encode(PBNode((), dag_pb.encode_data(UnixfsData(dag_pb.KIND_FILE, filesize=0))))
    assert cids.to_text(cids.multihash_of(cids.for_block(file, cids.DAG_PB))) == (
        "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
    )


def test_real_blocks_are_emitted_as_they_were(shared_fixtures: Path, tmp_path: Path) -> None:
    count = 0
    for path in sorted((shared_fixtures / "unixfs").glob("*.car")):
        with CarFile.open(path, index=tmp_path / path.name) as car:
            for section in car.sections():
                if cids.codec_of(section.cid) != cids.DAG_PB:
                    continue
                block = car.get(section.cid)
                node = dag_pb.decode(block)
                assert dag_pb.encode(node) == block
                assert dag_pb.sort_links(node) == node
                assert node.data is not None
                assert dag_pb.encode_data(dag_pb.decode_data(node.data)) == node.data
                count += 1
    assert count > 250


def link_bytes(*fields: bytes) -> bytes:
    body = b"".join(fields)
    return b"\x12" + bytes((len(body),)) + body


HASH = b"\x0a\x24" + CID
NAME = b"\x12\x01a"
TSIZE = b"\x18\x05"
DATA = b"\x0a\x02\x08\x01"


@pytest.mark.parametrize(
    "block",
    [
        DATA[:-1],
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\x82\x00\x08\x01",
        DATA + DATA,
        DATA + b"\x1a\x00",
        b"\x08\x01",
        link_bytes(HASH) + DATA + link_bytes(HASH),
        link_bytes(),
        link_bytes(NAME, TSIZE),
        link_bytes(NAME, HASH),
        link_bytes(HASH, TSIZE, NAME),
        link_bytes(HASH, HASH),
        link_bytes(HASH, NAME, NAME),
        link_bytes(HASH, NAME, TSIZE, TSIZE),
        link_bytes(HASH, NAME, b"\x18"),
        link_bytes(HASH, NAME, b"\x18\x85\x00"),
        link_bytes(HASH, b"\x12\x05a"),
        link_bytes(HASH, b"\x20\x01"),
        link_bytes(HASH)[:-1],
        link_bytes(b"\x0a\x00"),
        link_bytes(b"\x0a\x25" + CID),
        link_bytes(b"\x0a\x23" + CID[:-1]),
        link_bytes(b"\x0a\x25" + CID + b"x"),
        link_bytes(b"\x0a\x24" + b"\x02" + CID[1:]),
    ],
)
def test_blocks_that_are_refused(block: bytes) -> None:
    with pytest.raises(DagPbError):
        dag_pb.decode(block)


def test_data_may_stand_in_front_of_the_links() -> None:
    block = DATA + link_bytes(HASH, NAME, TSIZE)
    assert dag_pb.decode(block) == PBNode((PBLink(CID, b"a", 5),), b"\x08\x01")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x08",
        b"\x08\x06",
        b"\x08\x81\x00",
        b"\x08\x01\x08\x01",
        b"\x08\x01\x12\x01a\x12\x01a",
        b"\x08\x01\x12\x02a",
        b"\x08\x01\x0a\x00",
        b"\x08\x01\x10\x00",
        b"\x08\x01\x23\x24",
        b"\x08\x01\x4b\x4c",
        b"\x08\x01\x00",
        b"\x08\x01\x49\x00",
        b"\x08\x01\x4a\x05a",
        b"\x08\x01\x38\x80\x80\x80\x80\x10",
        b"\x08\x01\x42\x00",
        b"\x08\x01\x42\x02\x18\x01",
        b"\x08\x01\x42\x04\x08\x01\x08\x01",
        b"\x08\x01\x42\x05\x08\x01\x15\x01\x01",
        b"\x08\x01\x22\x01\x80",
    ],
)
def test_messages_that_are_refused(message: bytes) -> None:
    with pytest.raises(DagPbError):
        dag_pb.decode_data(message)


def test_messages_are_read_as_protocol_buffers_are() -> None:
    # Any order, block sizes packed or not, fields of a later version of every wire type.
    later = b"\x48\x05" + b"\x52\x01x" + b"\x5d" + bytes(4) + b"\x61" + bytes(8) + b"\x80\x01\x01"
    message = b"\x22\x02\x01\x02" + later + b"\x18\x06\x20\x03\x08\x02"
    assert dag_pb.decode_data(message) == UnixfsData(2, None, 6, (1, 2, 3))


def test_numbers_of_nodes_are_limited() -> None:
    identity = PBLink(b"\x01\x55\x00\x00")
    block = dag_pb.encode(PBNode((identity,)))
    assert dag_pb.decode(block * NODE_LINKS).links.count(identity) == NODE_LINKS
    with pytest.raises(LimitExceeded, match="links"):
        dag_pb.decode(block * (NODE_LINKS + 1))
    with pytest.raises(LimitExceeded, match="bytes"):
        dag_pb.decode(bytes(NODE_BYTES + 1))
    for sizes in (b"\x20\x01" * (NODE_LINKS + 1), b"\x22\x81\x80\x10" + bytes(NODE_LINKS + 1)):
        with pytest.raises(LimitExceeded, match="block sizes"):
            dag_pb.decode_data(b"\x08\x02" + sizes)


@pytest.mark.parametrize("number", [-1, 1 << 64])
def test_numbers_that_do_not_fit_are_not_written(number: int) -> None:
    with pytest.raises(DagPbError):
        dag_pb.encode(PBNode((PBLink(CID, b"", number),)))
    with pytest.raises(DagPbError):
        dag_pb.encode_data(UnixfsData(2, filesize=number))


def test_sorting_keeps_the_order_of_equal_names() -> None:
    node = PBNode((PBLink(CID, b"b"), PBLink(V0, b"a"), PBLink(BLAKE, b"a"), PBLink(CID)))
    assert [link.cid for link in dag_pb.sort_links(node).links] == [CID, V0, BLAKE, CID]
