"""The functions that place keys, against published values, and the bits that are taken from them."""

import hashlib

import pytest
from naive_hamt import slot_of

from mstfs.tree.hamt import hashes
from mstfs.tree.hamt.hashmap import HashMap
from mstfs.tree.hamt.layout import Layout
from mstfs.tree.hamt.pyhamt2 import PyHamt2

FOX = b"The quick brown fox jumps over the lazy dog"


@pytest.mark.parametrize(
    ("data", "long", "short"),
    [
        (b"", "00000000000000000000000000000000", "00000000"),
        (b"hello", "cbd8a7b341bd9b025b1e906a48ae1d19", "248bfa47"),
        (FOX, "e34bbc7bbc071b6c7a433ca9c49a9347", "2e4ff723"),
    ],
)
def test_murmur3(data: bytes, long: str, short: str) -> None:
    assert hashes.murmur3_x64_128(data).hex() == long
    assert hashes.murmur3_x64_64(data).hex() == long[:16]
    assert hashes.murmur3_32(data).hex() == short


def test_murmur3_of_every_tail_length() -> None:
    # A sum over all lengths around two blocks, made once with another implementation.
    total = hashlib.sha256()
    for size in range(70):
        data = bytes(range(size))
        total.update(hashes.murmur3_x64_128(data) + hashes.murmur3_32(data))
    assert total.hexdigest() == "de1b7d17c7b956bf0dd5001ecd708b69e0267d82e6ea39baffd4ad600807ffc4"


def test_every_function_is_named_and_has_its_size() -> None:
    assert hashes.FUNCTIONS.keys() == hashes.NAMES.keys()
    for code, bits in hashes.DIGEST_BITS.items():
        assert 8 * len(hashes.FUNCTIONS[code](b"key")) == bits
    assert hashes.FUNCTIONS[hashes.IDENTITY](b"key") == b"key"
    assert hashes.name_of(0x99) == "hash function 0x99"


@pytest.mark.parametrize("width", [1, 3, 4, 5, 7, 8, 11, 16])
def test_slots_and_ways(width: int) -> None:
    layout = HashMap(width=width)
    digest = hashlib.sha256(FOX).digest()
    way = 0
    for level in range(256 // width):
        slot = slot_of(digest, level, width)
        assert layout.slot(digest, level) == slot
        way = way << width | slot
        assert layout.way(digest, level + 1) == way
    with pytest.raises(IndexError):
        layout.slot(digest, 256 // width)
    assert layout.way(digest, 256 // width + 1) is None


def test_levels() -> None:
    layouts: list[tuple[Layout, int]] = [
        (PyHamt2(), 32),
        (PyHamt2(skip=1), 31),
        (HashMap(width=5, key_hash=hashes.SHA2_256), 51),
        (HashMap(width=5, key_hash=hashes.MURMUR3_X64_64), 12),
        (HashMap(width=3, key_hash=hashes.SHA2_512), 128),
        (HashMap(width=8, key_hash=hashes.IDENTITY), 128),
    ]
    for layout, levels in layouts:
        assert layout.levels == levels
    digest = hashlib.sha256(FOX).digest()
    assert PyHamt2(skip=1).slot(digest, 0) == digest[1]
    assert PyHamt2(skip=1).way(digest, 2) == digest[1] << 8 | digest[2]
