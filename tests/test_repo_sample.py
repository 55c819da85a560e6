"""Made-up repositories: the same for the same seed, and as varied as they promise."""

import io
from pathlib import Path

import pytest

from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.errors import Refused
from mstfs.repo import record, sample, signing, syntax
from mstfs.repo.sample import ODD_RECORD_KEYS, SampleInfo, make_sample
from mstfs.tree.mst.tree import MstTree


def sample_of(
    records: int, seed: int, edits: int = 0, order: sample.Order = "stream"
) -> tuple[bytes, SampleInfo]:
    file = io.BytesIO()
    info = make_sample(file, records, seed, edits=edits, order=order)
    return file.getvalue(), info


def test_a_seed_gives_the_same_tree_every_time_and_another_seed_another_one() -> None:
    first, second, other = sample_of(200, 1)[1], sample_of(200, 1)[1], sample_of(200, 2)[1]
    assert (first.data, first.did, first.did_key, first.rev) == (
        second.data,
        second.did,
        second.did_key,
        second.rev,
    )
    assert first.data != other.data
    assert first.did_key != other.did_key


def test_bytes_are_the_same_where_signatures_are() -> None:
    key = sample.signing_key(1)
    if key.sign(b"message") != key.sign(b"message"):
        pytest.skip("needs a cryptography library with deterministic signatures")
    assert sample_of(50, 1)[0] == sample_of(50, 1)[0]


def test_what_it_says_is_what_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "sample.car"
    info = make_sample(path, 400, 7)
    assert info.size == path.stat().st_size
    with CarFile.open(path, use_sidecar=False) as car:
        assert car.roots == (info.root,)
        entries = list(MstTree(car).walk(info.data))
        assert len(entries) == info.records == 400
        for entry in entries:
            assert syntax.is_key(entry.key)
            block = car.get(entry.cid)
            assert record.parse(record.render(block)) == block
    assert [item.name for item in tmp_path.iterdir()] == ["sample.car"]


def test_orders_hold_the_same_blocks(tmp_path: Path) -> None:
    def blocks(order: sample.Order) -> list[bytes]:
        path = tmp_path / order
        make_sample(path, 300, 1, order=order)
        with CarFile.open(path, use_sidecar=False) as car:
            return [section.cid for section in car.sections()]

    stream, pds, shuffled = blocks("stream"), blocks("pds"), blocks("shuffled")
    assert sorted(stream) == sorted(pds) == sorted(shuffled)
    assert pds == sorted(pds, key=cids.to_text, reverse=True)
    assert stream not in (pds, shuffled)
    with pytest.raises(Refused):
        make_sample(io.BytesIO(), 1, 1, order="sideways")  # type: ignore[arg-type]


def test_edits_make_a_later_state_of_the_same_repository(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    first, second = make_sample(before, 300, 1), make_sample(after, 300, 1, edits=20)
    assert second.did == first.did
    assert second.rev > first.rev
    assert second.records == 300 - 10 + 20
    with CarFile.open(before, use_sidecar=False) as old, CarFile.open(after, use_sidecar=False) as new:
        old_entries, new_entries = dict(MstTree(old).walk(first.data)), dict(MstTree(new).walk(second.data))
    assert len(old_entries.keys() - new_entries.keys()) == 10
    assert len(new_entries.keys() - old_entries.keys()) == 20
    kept = old_entries.keys() & new_entries.keys()
    assert sum(old_entries[key] != new_entries[key] for key in kept) == 10


def test_the_key_of_a_seed_signs_and_comes_as_pem() -> None:
    info = sample_of(3, 5)[1]
    key = signing.parse_signing_key(sample.signing_key_pem(5))
    assert key.did_key == info.did_key == sample.signing_key(5).did_key
    signing.verify(info.did_key, b"message", key.sign(b"message"))


def test_collections_and_odd_record_keys(tmp_path: Path) -> None:
    path = tmp_path / "sample.car"
    info = make_sample(path, 2000, 1)
    with CarFile.open(path, use_sidecar=False) as car:
        keys = [entry.key.decode() for entry in MstTree(car).walk(info.data)]
    collections = {key.partition("/")[0] for key in keys}
    assert collections >= {
        "app.bsky.actor.profile",
        "app.bsky.feed.post",
        "app.bsky.feed.like",
        "app.bsky.graph.follow",
    }
    notes = {key.partition("/")[2] for key in keys if key.startswith("org.example.note/")}
    assert notes >= set(ODD_RECORD_KEYS)
    assert max(map(len, notes)) == syntax.RECORD_KEY_CHARACTERS


@pytest.mark.parametrize(("records", "edits"), [(-1, 0), (1, -1)])
def test_negative_numbers_are_refused(records: int, edits: int) -> None:
    with pytest.raises(Refused):
        make_sample(io.BytesIO(), records, 1, edits=edits)


def test_edits_of_an_empty_repository_only_add() -> None:
    assert sample_of(0, 1, edits=4)[1].records == 4
