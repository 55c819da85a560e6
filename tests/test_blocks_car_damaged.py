"""CAR files that are torn, damaged, hostile, or no CAR files at all."""

import os
from pathlib import Path

import pytest
from car_files import (
    BLOCKS,
    block,
    car_v1,
    car_v2,
    header,
    holds,
    index_sorted,
    multihash_index_sorted,
    offsets_of,
    opened,
    section,
    write,
)
from hypothesis import given
from hypothesis import strategies as st

from mstfs.blocks.car import CarFile
from mstfs.blocks.car_format import parse_header
from mstfs.blocks.interface import read_nothing
from mstfs.codec import cid as cids
from mstfs.codec import varint
from mstfs.errors import CarError, CorruptBlock, MissingBlock, MstfsError, UnreachableBlock

pytestmark = pytest.mark.usefixtures("index_in_c_and_in_python")


# --- files that are no CAR --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\x00", "empty header"),
        (b"PK\x03\x04" + bytes(200), "not a CAR"),
        (b"#!/bin/sh\n" * 10, "not a CAR"),
        (b"\xff" * 100, "not a CAR"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(100), "announces a header"),
        (varint.encode(1 << 30) + bytes(100), "announces a header"),
        (b"\x3a" + bytes.fromhex("a265726f6f747381"), "cut off"),
        (b"\x0b" + bytes.fromhex("a16776657273696f6e0300"), "followed by"),
        (b"\x0a" + bytes.fromhex("a16776657273696f6e03"), "version 3"),
        (b"\x0a" + bytes.fromhex("a16776657273696f6e01"), "no roots"),
        (b"\x07" + bytes.fromhex("a165726f6f747380"[:14]), "CAR header"),
        (bytes.fromhex("0aa16776657273696f6e02"), "cut off"),
        (car_v2(car_v1(BLOCKS))[:51], "behind the end"),
        (car_v2(car_v2(car_v1(BLOCKS))), "must be a CARv1"),
        (bytes.fromhex("0aa16776657273696f6e02") + bytes(16) + b"\x32" + bytes(100), "inside itself"),
        (bytes.fromhex("0aa16776657273696f6e02") + bytes(16) + b"\xff" * 24 + bytes(99), "behind the end"),
    ],
)
def test_one_sentence_says_what_is_wrong(tmp_path: Path, data: bytes, reason: str) -> None:
    path = write(tmp_path, data, "wrong.car")
    with pytest.raises(CarError, match=reason) as caught:
        CarFile.open(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [found.name for found in tmp_path.iterdir()] == ["wrong.car"]


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for name, reason in (("", "folder"), ("pipe", "regular"), ("link", "No such"), ("x\0y", "null byte")):
        with pytest.raises(CarError, match=reason):
            CarFile.open(tmp_path / name)


def test_opening_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    broken = write(tmp_path, b"\x00", "broken.car")
    sound = write(tmp_path, car_v1(BLOCKS))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(CarError):
            CarFile.open(broken)
        car = CarFile.open(sound)
        assert holds(car, BLOCKS)
        car.close()
        car.close()
    assert len(os.listdir("/proc/self/fd")) == before


# --- headers ----------------------------------------------------------------------------------


def test_header_keys_in_any_order() -> None:
    root = BLOCKS[0][0]
    link = b"\xd8\x2a\x58\x25\x00" + root
    roots, version = b"\x65roots\x81" + link, b"\x67version\x01"
    assert parse_header(b"\xa2" + roots + version) == (1, (root,))
    assert parse_header(b"\xa2" + version + roots) == (1, (root,))
    assert parse_header(b"\xa2" + version + b"\x65roots\xf6") == (1, ())
    for broken in (
        b"\xa3" + roots + version + b"\x61x\x00",
        b"\xa2" + roots + roots,
        b"\xa2" + version + version,
        b"\xa2" + version + b"\x61x\x00",
        b"\xa2" + version + b"\x65roots\x81" + link[:-1],
        b"\xa2" + version + b"\x65roots\x81\x00",
        b"\xa2" + version + b"\x65roots\x81\xd8\x2a\x44\x00\x01\x71\x12",
        b"\xa2" + version + b"\x65roots\x9b" + b"\xff" * 8,
        b"\xa2" + version + b"\x65roots\x9a\x00\xff\xff\xff" + link,
        b"\xa2" + version + b"\x65roots" + b"\x81" * 5000,
        b"\xa2" + version + b"\x65roots" + b"\xa1\x61a" * 5000,
        b"\xbf" + roots + version + b"\xff",
        b"\xbb" + b"\xff" * 8 + roots + version,
        b"\x82" + roots + version,
    ):
        with pytest.raises(CarError):
            parse_header(broken)


@given(st.binary(max_size=80))
def test_any_header_is_read_or_refused(header_bytes: bytes) -> None:
    for start in (b"", b"\xa2\x65roots", b"\xa2\x67version\x01\x65roots\x81\xd8\x2a"):
        try:
            parse_header(start + header_bytes)
        except CarError:
            continue


def test_many_roots(tmp_path: Path) -> None:
    roots = [block(str(number))[0] for number in range(2000)]
    with opened(tmp_path, car_v1(BLOCKS, roots)) as car:
        assert car.roots == tuple(roots)
        assert holds(car, BLOCKS)


# --- torn and damaged files -------------------------------------------------------------------

SMALL = [block("first"), block("second", cids.DAG_CBOR), block("x" * 200), block("last")]


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_cut_at_every_byte(tmp_path: Path, version: int) -> None:
    payload = car_v1(SMALL, [SMALL[0][0]])
    data = payload if version == 1 else car_v2(payload, index_sorted(offsets_of(SMALL, [SMALL[0][0]])))
    start = 0 if version == 1 else 51
    offsets = [start + offset for _, offset in offsets_of(SMALL, [SMALL[0][0]])]
    ends = [*offsets[1:], start + len(payload)]
    first = start + len(header([SMALL[0][0]]))
    for length in range(len(data) + 1):
        path = write(tmp_path, data[:length])
        if length < first:
            with pytest.raises(CarError):
                CarFile.open(path, use_sidecar=False)
            continue
        with CarFile.open(path, use_sidecar=False) as car:
            whole = sum(end <= length for end in ends)
            assert [found.cid for found in car.sections()] == [cid for cid, _ in SMALL[:whole]]
            assert holds(car, SMALL[:whole])
            assert not any(car.has(cid) for cid, _ in SMALL[whole:])
            assert car.block_count == whole
            cut_inside = length not in (first, *ends) if version == 1 else length < ends[-1]
            assert (car.torn is not None) == cut_inside
            if version == 1 and car.torn is not None:
                assert f"at offset {([first, *ends])[whole]}" in car.torn


def test_every_byte_damaged(tmp_path: Path) -> None:
    payload = car_v1([*SMALL, SMALL[1]], [SMALL[0][0]])
    entries = offsets_of(SMALL, [SMALL[0][0]])
    whole = [
        payload,
        car_v2(payload, index_sorted(entries)),
        car_v2(payload, multihash_index_sorted(entries)),
    ]
    expected = dict(SMALL)
    for data in whole:
        for at in range(len(data)):
            for wrong in {0x00, 0xFF, data[at] ^ 1, data[at] ^ 0x80} - {data[at]}:
                path = write(tmp_path, data[:at] + bytes((wrong,)) + data[at + 1 :])
                try:
                    car = CarFile.open(path, use_sidecar=False)
                except CarError:
                    continue
                with car:
                    for cid, content in expected.items():
                        try:
                            assert car.get(cid) == content
                        except (MissingBlock, CorruptBlock):
                            continue
                    assert car.block_count == len(list(car.sections()))


@pytest.mark.parametrize("length", [2**63 - 1, 2**62, 2**40, 1 << 31, (64 << 20) + 129])
def test_hostile_lengths_end_the_pass(tmp_path: Path, length: int) -> None:
    tail = varint.encode(length) + SMALL[0][0] + bytes(100)
    data = car_v1(SMALL)
    with opened(tmp_path, data + tail) as car:
        assert holds(car, SMALL)
        assert car.block_count == len(SMALL)
        assert car.torn is not None
        assert f"at offset {len(data)}" in car.torn
        assert str(length) in car.torn


def test_lengths_that_are_no_varint(tmp_path: Path) -> None:
    for tail in (b"\xff" * 20 + bytes(200), b"\x80\x00" + bytes(200), b"\xa4\x80\x00" + bytes(200), b"\x80"):
        with opened(tmp_path, car_v1(SMALL) + tail) as car:
            assert holds(car, SMALL)
            assert car.torn is not None


def test_a_section_with_a_bad_cid_is_skipped(tmp_path: Path) -> None:
    bad = varint.encode(50) + b"\x07" * 50 + varint.encode(3) + b"\x01\x71\x12"
    data = car_v1(SMALL[:2]) + bad
    for _ in range(2):
        path = write(tmp_path, data + b"".join(section(*found) for found in SMALL[2:]))
        with CarFile.open(path) as car:
            assert holds(car, SMALL)
            assert car.torn is None
            assert [found.offset for found in car.problems] == [len(data) - 55, len(data) - 4]


def test_padding_at_the_end(tmp_path: Path) -> None:
    data = car_v1(SMALL)
    for padding in (1, 100, 200_000):
        for _ in range(2):
            with opened(tmp_path, data + bytes(padding), use_sidecar=True) as car:
                assert holds(car, SMALL)
                assert (car.padding, car.torn, car.problems) == (padding, None, ())
                assert len(list(car.sections())) == len(SMALL)


def test_sections_of_length_zero_in_between(tmp_path: Path) -> None:
    data = car_v1(SMALL[:2])
    rest = b"".join(section(*found) for found in SMALL[2:])
    with opened(tmp_path, data + bytes(5) + rest) as car:
        assert holds(car, SMALL)
        assert [(found.offset, "5 NUL" in found.reason) for found in car.problems] == [(len(data), True)]
        assert car.padding == 0


def test_problems_are_counted_in_bounds(tmp_path: Path) -> None:
    for _ in range(2):
        with opened(tmp_path, header() + (b"\x01\x07\x00") * 50_000, use_sidecar=True) as car:
            assert 0 < len(car.problems) <= 16
            assert car.block_count == 0


def test_a_file_cut_while_it_is_open(tmp_path: Path) -> None:
    path = write(tmp_path, car_v1(BLOCKS))
    with CarFile.open(path, use_sidecar=False) as car:
        offsets = {found.cid: found.data_offset for found in car.sections()}
        os.truncate(path, offsets[BLOCKS[1][0]])
        assert car.get(BLOCKS[0][0]) == BLOCKS[0][1]
        with pytest.raises(CorruptBlock):
            car.get(BLOCKS[6][0])
        with pytest.raises(CarError):
            car.read_raw(offsets[BLOCKS[6][0]], 4)
        assert len(list(car.sections())) == 1


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with opened(tmp_path, car_v1(BLOCKS)) as car:
        # What C cannot read, Python tries, and says what it is.
        monkeypatch.setattr(car, "read_small", read_nothing)
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(UnreachableBlock, match="Input/output error"):
            car.get(BLOCKS[0][0])
        with pytest.raises(CarError, match="Input/output error"):
            list(car.sections())
        with pytest.raises(CarError, match=r"a\.car.*Input/output error"):
            CarFile.open(tmp_path / "a.car", use_sidecar=False)


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_behind_a_header(tmp_path_factory: pytest.TempPathFactory, tail: bytes, v2: bool) -> None:
    payload = header() + tail
    path = write(tmp_path_factory.getbasetemp(), car_v2(payload) if v2 else payload, "any.car")
    with CarFile.open(path, use_sidecar=False) as car:
        for found in car.sections():
            try:
                car.get(found.cid)
            except MstfsError:
                continue


def test_a_file_overwritten_while_it_is_open(tmp_path: Path) -> None:
    path = write(tmp_path, car_v1(BLOCKS))
    whole = path.read_bytes()
    first, data = BLOCKS[0]
    with CarFile.open(path) as car:
        assert car.get(first) == data
        at = whole.index(data)
        path.write_bytes(whole[:at] + bytes(len(data)) + whole[at + len(data) :])
        for _ in range(2):
            with pytest.raises(CorruptBlock, match="was changed after it was opened"):
                car.get(first)
        assert car.get(BLOCKS[1][0]) == BLOCKS[1][1]
        path.write_bytes(whole)
        assert car.get(first) == data


def test_reads_that_give_less_than_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, car_v2(car_v1(BLOCKS)))
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: real(fd, (length + 1) // 2, offset))
    with CarFile.open(path) as car:
        assert [car.get(cid) for cid, _ in BLOCKS] == [data for _, data in BLOCKS]
        assert car.torn is None
