"""What C finds in an index is what Python does, and it gives up where Python has to look."""

import hashlib
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstfs.blocks import car_index, fast_index
from mstfs.blocks.car_index import CarIndex, Summary

HEADER = 4096
digests = st.one_of(
    st.binary(min_size=32, max_size=32),
    # Many that begin alike, as nobody but an attacker can make them.
    st.tuples(st.sampled_from([b"\0", b"\x7f", b"\xff"]), st.binary(min_size=24, max_size=24)).map(
        lambda pair: pair[0] * 8 + pair[1]
    ),
    st.integers(0, 300).map(lambda number: number.to_bytes(8, "big") + bytes(24)),
)


def table(found: list[bytes], codes: list[int]) -> bytes:
    rows = sorted(
        (*struct.unpack(">4Q", digest), 100 * at, codes[at % len(codes)] << 40 | 36 << 32 | 36 + at)
        for at, digest in enumerate(found)
    )
    return bytes(HEADER) + b"".join(struct.pack("=6Q", *row) for row in rows)


def index_of(data: bytes) -> CarIndex:
    rows = (len(data) - HEADER) // 48
    return CarIndex(memoryview(data), Summary(rows, rows, 0, None, ()), None)


def in_python(index: CarIndex, cid: bytes) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(car_index, "fast_index", None)
        return index.find(cid)


@given(
    st.lists(digests, max_size=200), st.lists(digests, max_size=20), st.sampled_from([[0x12], [0x12, 0x1E]])
)
def test_the_same_is_found(held: list[bytes], others: list[bytes], codes: list[int]) -> None:
    index = index_of(table(held, codes))
    for digest in held + others:
        for code in (0x12, 0x1E):
            cid = bytes((1, 0x71, code, 32)) + digest
            assert index.find(cid) == in_python(index, cid)


def test_digests_that_differ_in_one_byte_are_others() -> None:
    held = hashlib.sha256(b"held").digest()
    data = memoryview(table([held], [0x12]))
    for at in range(32):
        other = held[:at] + bytes([held[at] ^ 1]) + held[at + 1 :]
        found = fast_index.find(data, HEADER, 1, b"\x01\x71\x12\x20" + other)
        assert not isinstance(found, tuple), at
    assert fast_index.find(data, HEADER, 1, b"\x01\x71\x12\x20" + held) == (0, 36, 0)


def test_large_tables() -> None:
    held = [hashlib.sha256(b"%d" % number).digest() for number in range(50_000)]
    data = table(held, [0x12])
    rows = len(held)
    for number in range(0, rows, 97):
        cid = b"\x01\x71\x12\x20" + held[number]
        hit = fast_index.find(memoryview(data), HEADER, rows, cid)
        assert isinstance(hit, tuple)
        row, offset, size = hit
        assert data[HEADER + 48 * row :][:32] == struct.pack("=4Q", *struct.unpack(">4Q", held[number]))
        assert (offset, size) == (100 * number + 36, number)
        other = b"\x01\x71\x12\x20" + hashlib.sha256(b"not %d" % number).digest()
        assert fast_index.find(memoryview(data), HEADER, rows, other) is None


def test_what_is_left_to_python() -> None:
    data = memoryview(bytes(HEADER))
    for cid in (
        b"",
        b"\x12\x20" + bytes(32),
        b"\x01\x71\x12\x20" + bytes(31),
        b"\x01\x81\x12\x20" + bytes(32),
    ):
        assert fast_index.find(data, HEADER, 0, cid) is NotImplemented
    assert fast_index.find(data, HEADER, 0, b"\x01\x71\x12\x20" + bytes(32)) is None


def test_a_table_that_is_shorter_than_it_says() -> None:
    cid = b"\x01\x71\x12\x20" + bytes(32)
    for header, rows in ((HEADER, 1), (HEADER + 8, 0), (0, 1 << 60), (-8, 1), (4, 1), (0, -1)):
        with pytest.raises(ValueError, match="too short"):
            fast_index.find(memoryview(bytes(HEADER)), header, rows, cid)
    with pytest.raises(TypeError):
        fast_index.find(memoryview(b""), 0, 0, "text")  # type: ignore[arg-type]


# --- reading ----------------------------------------------------------------------------------


def packed(blocks: list[bytes], code: int = 0x12) -> tuple[bytes, bytes]:
    """A file of blocks, and its index."""
    rows = []
    at = 0
    for block in blocks:
        digest = hashlib.sha256(block).digest()
        rows.append((*struct.unpack(">4Q", digest), at, code << 40 | 0 << 32 | len(block)))
        at += len(block)
    return b"".join(blocks), bytes(HEADER) + b"".join(struct.pack("=6Q", *row) for row in sorted(rows))


def cid_of(block: bytes, code: int = 0x12) -> bytes:
    return bytes((1, 0x71, code, 32)) + hashlib.sha256(block).digest()


def opened(tmp_path: Path, data: bytes) -> int:
    (tmp_path / "file").write_bytes(data)
    return os.open(tmp_path / "file", os.O_RDONLY)


def test_small_blocks_are_read(tmp_path: Path) -> None:
    blocks = [os.urandom(size) for size in (0, 1, 55, 56, 64, 500, car_index.SMALL_BYTES)]
    data, index = packed(blocks)
    file = opened(tmp_path, data)
    for block in blocks:
        assert fast_index.read(memoryview(index), HEADER, len(blocks), file, cid_of(block)) == block
    assert fast_index.read(memoryview(index), HEADER, len(blocks), file, cid_of(b"other")) is None
    os.close(file)


def test_each_byte_of_a_block_counts(tmp_path: Path) -> None:
    block = os.urandom(300)
    _, index = packed([block])
    for at in range(len(block)):
        file = opened(tmp_path, block[:at] + bytes([block[at] ^ 1]) + block[at + 1 :])
        assert fast_index.read(memoryview(index), HEADER, 1, file, cid_of(block)) is None, at
        os.close(file)


def test_what_reading_leaves_to_python(tmp_path: Path) -> None:
    small, large = b"small", bytes(car_index.SMALL_BYTES + 1)
    data, index = packed([small, large])
    file = opened(tmp_path, data)
    assert fast_index.read(memoryview(index), HEADER, 2, file, cid_of(large)) is None
    assert fast_index.read(memoryview(index), HEADER, 2, file, b"\x12\x20" + cid_of(small)[4:]) is None
    os.close(file)
    # A file that was closed, or cut, or never was so long.
    assert fast_index.read(memoryview(index), HEADER, 2, file, cid_of(small)) is None
    file = opened(tmp_path, small[:-1])
    assert fast_index.read(memoryview(index), HEADER, 2, file, cid_of(small)) is None
    row = struct.pack("=6Q", *struct.unpack(">4Q", cid_of(small)[4:]), (1 << 63) - 2, 0x12 << 40 | 5)
    assert fast_index.read(memoryview(bytes(HEADER) + row), HEADER, 1, file, cid_of(small)) is None
    # The section of a damaged index, shorter than the CID that it begins with.
    row = struct.pack("=6Q", *struct.unpack(">4Q", cid_of(small)[4:]), 0, 0x12 << 40 | 36 << 32 | 5)
    assert fast_index.read(memoryview(bytes(HEADER) + row), HEADER, 1, file, cid_of(small)) is None
    os.close(file)
    # Another hash function, though the digest is one of sha2-256.
    data, index = packed([small], 0x1E)
    file = opened(tmp_path, data)
    assert fast_index.read(memoryview(index), HEADER, 1, file, cid_of(small, 0x1E)) is None
    os.close(file)
