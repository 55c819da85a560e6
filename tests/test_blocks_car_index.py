"""The sidecar index: where it lies, when it is believed, and what it finds."""

import os
import random
from pathlib import Path

import pytest
from car_files import Block, block, car_v1, header, overwrite, section
from hypothesis import given
from hypothesis import strategies as st

from mstfs.blocks import car_index
from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.errors import CorruptBlock, MissingBlock

BLOCKS = [block(f"number {number}") for number in range(200)]
ABSENT = block("absent")[0]


@pytest.fixture
def car(tmp_path: Path) -> Path:
    folder = tmp_path / "cars"
    folder.mkdir()
    path = folder / "a.car"
    path.write_bytes(car_v1(BLOCKS))
    return path


def sidecar(car: Path) -> Path:
    return car.with_name("a.car.mstfs-index")


def check(car: Path, expected: Path | None, cache_dir: Path | None = None) -> int:
    """Open, read everything, and give the inode of the index."""
    with CarFile.open(car, cache_dir=cache_dir) as opened:
        assert opened.index_path == expected
        assert all(opened.get(cid) == data for cid, data in BLOCKS)
        assert not opened.has(ABSENT)
        assert opened.block_count == len(BLOCKS)
    return expected.stat().st_ino if expected is not None else 0


# --- where it lies ----------------------------------------------------------------------------


def test_it_lies_beside_the_car_and_is_used_again(car: Path) -> None:
    first = check(car, sidecar(car))
    assert check(car, sidecar(car)) == first
    assert sidecar(car).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in car.parent.iterdir()) == ["a.car", "a.car.mstfs-index"]


def test_it_lies_where_it_is_told(car: Path, tmp_path: Path) -> None:
    index = tmp_path / "far" / "away.index"
    for _ in range(2):
        with CarFile.open(car, index=index) as opened:
            assert opened.index_path == index
            assert opened.get(BLOCKS[5][0]) == BLOCKS[5][1]
    assert not sidecar(car).exists()


def test_without_sidecar_nothing_is_written(car: Path) -> None:
    with CarFile.open(car, use_sidecar=False) as opened:
        assert opened.index_path is None
        assert opened.get(BLOCKS[5][0]) == BLOCKS[5][1]
    assert not sidecar(car).exists()


def test_it_goes_to_the_cache_folder_when_it_must(car: Path, tmp_path: Path) -> None:
    sidecar(car).mkdir()  # a name that cannot be replaced by a file, for root either
    cache = tmp_path / "cache"
    name = cids.for_block(os.fsencode(car), cids.RAW, cids.BLAKE3)[4:].hex()
    expected = cache / f"{name}.mstfs-index"
    assert check(car, expected, cache) == check(car, expected, cache)


def test_the_cache_folder_of_the_user(car: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar(car).mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with CarFile.open(car) as opened:
        assert opened.index_path is not None
        assert opened.index_path.parent == tmp_path / "home" / "mstfs"
    assert (tmp_path / "home" / "mstfs").stat().st_mode & 0o077 == 0


def test_it_stays_in_memory_when_nothing_can_be_written(car: Path, tmp_path: Path) -> None:
    sidecar(car).mkdir()
    (tmp_path / "file").write_text("")
    check(car, None, tmp_path / "file" / "cache")
    assert [path.name for path in sidecar(car).iterdir()] == []
    assert sorted(path.name for path in car.parent.iterdir()) == ["a.car", "a.car.mstfs-index"]


def test_a_very_long_name(car: Path, tmp_path: Path) -> None:
    path = car.rename(car.with_name("x" * 251 + ".car"))
    with CarFile.open(path, cache_dir=tmp_path / "cache") as opened:
        assert opened.index_path is not None
        assert opened.index_path.parent == tmp_path / "cache"


# --- when it is believed ----------------------------------------------------------------------


def test_another_car_under_the_name(car: Path) -> None:
    check(car, sidecar(car))
    status = car.stat()
    other = [block(f"Number {number}") for number in range(200)]
    car.write_bytes(car_v1(other))
    os.utime(car, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert car.stat().st_size == status.st_size
    with CarFile.open(car) as opened:
        assert all(opened.get(cid) == data for cid, data in other)
        assert not opened.has(BLOCKS[0][0])


def test_a_car_that_grew_or_was_touched(car: Path) -> None:
    first = check(car, sidecar(car))
    with car.open("ab") as file:
        file.write(section(*block("more")))
    with CarFile.open(car) as opened:
        assert opened.get(block("more")[0]) == b"more"
    second = sidecar(car).stat().st_ino
    assert second != first
    os.utime(car, ns=(5, 5))
    with CarFile.open(car) as opened:
        assert opened.get(BLOCKS[0][0]) == BLOCKS[0][1]
    assert sidecar(car).stat().st_ino != second


def test_every_byte_of_the_index_damaged(car: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in the index, each block is found, and none that is not there."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # two hundred indexes need not survive a power loss
    check(car, sidecar(car))
    sound = sidecar(car).read_bytes()
    places = [*range(12), *range(12, 600, 17), *range(4060, 4300, 5), len(sound) - 1]
    for at in places:
        for wrong in (sound[at] ^ 0x10, 0xFF - sound[at]):
            sidecar(car).write_bytes(sound[:at] + bytes((wrong,)) + sound[at + 1 :])
            check(car, sidecar(car))


def test_an_index_of_any_length(car: Path) -> None:
    check(car, sidecar(car))
    sound = sidecar(car).read_bytes()
    for length in (0, 1, 100, 4095, 4096, 4097, len(sound) - 48, len(sound) - 1):
        sidecar(car).write_bytes(sound[:length])
        check(car, sidecar(car))
    sidecar(car).write_bytes(sound + bytes(48))
    check(car, sidecar(car))
    assert sidecar(car).read_bytes() == sound


def test_a_header_that_lies_in_its_types(car: Path) -> None:
    check(car, sidecar(car))
    with CarFile.open(car) as opened:
        stamp = opened._stamp
    rows = sidecar(car).read_bytes()[4096:]
    summary = car_index.Summary(200, 200, 0, None, ())
    for lie in (
        summary._replace(torn=5),  # type: ignore[arg-type]
        summary._replace(blocks="x"),  # type: ignore[arg-type]
        summary._replace(padding=None),  # type: ignore[arg-type]
        summary._replace(problems=((1, 2, 3),)),  # type: ignore[arg-type]
        summary._replace(problems=("abc",)),  # type: ignore[arg-type]
        summary._replace(rows=199),
        summary._replace(rows=-1),
    ):
        sidecar(car).write_bytes(car_index._pack_header(stamp, lie, "") + rows)
        assert car_index.load(sidecar(car), stamp) is None
        check(car, sidecar(car))


def test_what_is_no_regular_file_of_ours(car: Path, tmp_path: Path) -> None:
    check(car, sidecar(car))
    with CarFile.open(car) as opened:
        stamp = opened._stamp
    elsewhere = sidecar(car).rename(tmp_path / "elsewhere")
    index = car_index.load(elsewhere, stamp)
    assert index is not None
    index.close()
    sidecar(car).symlink_to(elsewhere)
    assert car_index.load(sidecar(car), stamp) is None
    os.mkfifo(tmp_path / "pipe")
    assert car_index.load(tmp_path / "pipe", stamp) is None
    check(car, sidecar(car))
    assert not sidecar(car).is_symlink()


def test_a_missing_block_does_not_cost_an_intact_index(car: Path) -> None:
    first = check(car, sidecar(car))
    with CarFile.open(car) as opened:
        for _ in range(2):
            with pytest.raises(MissingBlock):
                opened.get(ABSENT)
    assert sidecar(car).stat().st_ino == first


def test_a_corrupt_block_does_not_cost_an_intact_index(tmp_path: Path) -> None:
    blocks = [block(f"{number} " * 500) for number in range(200)]  # large enough to have a middle
    car = tmp_path / "a.car"
    car.write_bytes(car_v1(blocks))
    (cid, data), sound = blocks[100], blocks[101]
    with CarFile.open(car) as opened:
        located = opened.locate(cid)
    assert located is not None
    first = sidecar(car).stat().st_ino
    overwrite(car, located[0], data.replace(b"1", b"2"))
    with CarFile.open(car) as opened:
        for _ in range(2):
            with pytest.raises(CorruptBlock):
                opened.get(cid)
        assert opened.get(sound[0]) == sound[1]
    assert sidecar(car).stat().st_ino == first


# --- what it finds ----------------------------------------------------------------------------


def test_runs_are_merged(car: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(car, sidecar(car))
    whole = sidecar(car).read_bytes()
    for rows in (1, 7, 64, 199, 200, 201):
        monkeypatch.setattr(car_index, "_RUN_ROWS", rows)
        monkeypatch.setattr(car_index, "_BATCH_ROWS", 5)
        # Small windows, or all rows come at once.
        monkeypatch.setattr("mstfs.blocks.car_scan._WINDOW_MIN", 150)
        monkeypatch.setattr("mstfs.blocks.car_scan._WINDOW_MAX", 2400)
        sidecar(car).unlink()
        check(car, sidecar(car))
        assert sidecar(car).read_bytes() == whole


def digest_cid(digest: bytes, code: int = cids.SHA2_256) -> bytes:
    return bytes((1, cids.RAW, code, len(digest))) + digest


def test_floods_of_equal_prefixes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 20_000
    rng = random.Random(1)
    tails = [bytes(24 - 8) + rng.randbytes(8) for _ in range(rows)]
    flood = [(digest_cid(b"\x77" * 8 + tail), b"") for tail in tails]
    path = tmp_path / "flood.car"
    path.write_bytes(car_v1([*BLOCKS, *flood]))
    reads = 0
    unpack = car_index._row_words

    def counted(buffer: object, offset: int) -> tuple[int, ...]:
        nonlocal reads
        reads += 1
        return unpack(buffer, offset)  # type: ignore[arg-type]

    with CarFile.open(path, use_sidecar=False) as car:
        monkeypatch.setattr(car_index, "_row_words", counted)
        assert all(car.has(cid) for cid, _ in flood[::100])
        assert not car.has(digest_cid(b"\x77" * 8 + bytes(24)))
        assert not car.has(digest_cid(b"\x77" * 8 + b"\xff" * 24))
        assert reads <= 3 * len(flood[::100])


def test_a_flood_of_false_copies_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cid, data = block("right")
    path = tmp_path / "flood.car"
    path.write_bytes(car_v1([(cid, b"wrong")] * 5000 + [(cid, data)] + [(ABSENT, b"wrong")] * 5000))
    hashed = 0
    matches = cids.matches

    def counted(cid: bytes, data: bytes) -> bool:
        nonlocal hashed
        hashed += 1
        return matches(cid, data)

    monkeypatch.setattr(cids, "matches", counted)
    with CarFile.open(path, use_sidecar=False) as car:
        for _ in range(10):
            assert car.get(cid) == data
            with pytest.raises(CorruptBlock):
                car.get(ABSENT)
    assert hashed < 10_000 + 100


digests = st.binary(min_size=1, max_size=2).map(lambda pattern: (pattern * 40)[:32])
entries = st.lists(
    st.tuples(
        digests,
        st.sampled_from([cids.SHA2_256, cids.SHA2_512, cids.BLAKE3, 0x22]),
        st.sampled_from([32, 32, 20, 31]),
        st.binary(max_size=5),
    ),
    max_size=30,
)


@given(entries, digests)
def test_it_agrees_with_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[bytes, int, int, bytes]], absent: bytes
) -> None:
    # Digests are made up, from few words, so that keys meet in some columns and not in others.
    blocks: list[Block] = [(digest_cid(digest[:size], code), data) for digest, code, size, data in rows]
    path = tmp_path_factory.getbasetemp() / "model.car"
    path.unlink(missing_ok=True)
    path.write_bytes(car_v1(blocks))
    first: dict[bytes, tuple[int, int]] = {}
    with CarFile.open(path, use_sidecar=False) as car:
        for found in car.sections():
            first.setdefault(cids.multihash_of(found.cid), (found.data_offset, found.length))
        for cid in [cid for cid, _ in blocks] + [digest_cid(absent), digest_cid(absent, cids.BLAKE3)]:
            assert car.locate(cid) == first.get(cids.multihash_of(cid))


def test_an_empty_car(tmp_path: Path) -> None:
    path = tmp_path / "empty.car"
    path.write_bytes(header())
    for _ in range(2):
        with CarFile.open(path) as car:
            assert car.index_path is not None
            assert not car.has(ABSENT)
