"""The verifier of whole repositories: every kind of defect under its own rule, and nothing on sound ones."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from crooked import DID, REV, SECRET, Link, Repo, Section, cid_of, did_key, emit, sign
from defects import KINDS

from mstfs.blocks.car import CarFile
from mstfs.errors import CarError, Refused, SignatureError
from mstfs.repo.sample import make_sample
from mstfs.repo.verify import DEFECTS_KEPT, Report, Verification, verify_repository

KEY = did_key()


def verify(path: Path, data: bytes, root: bytes | None = None, key: str | None = KEY) -> Report:
    path.write_bytes(data)
    with CarFile.open(path, use_sidecar=False) as car:
        return verify_repository(car, root, key)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "repository.car"


# --- defects ----------------------------------------------------------------------------------

# Damage that cannot come alone: what is reported besides the rule that the kind is about.
COMPANIONS = {
    "key-again-in-a-child": {"child-layer"},
    "key-empty": {"key-syntax"},
    "key-of-9000-bytes": {"key-syntax"},
    "prefix-half-float": {"entry-field-type"},
    "prefix-true": {"prefix-not-maximal"},
    "record-float-of-32-bits": {"record-float"},
    "record-infinity": {"record-float"},
    "record-nan": {"record-float"},
    "tower-of-pointers": {"bare-root"},
}


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 60
    assert len({kind.rule for kind in KINDS.values()}) >= 50


@pytest.mark.parametrize("name", KINDS)
def test_each_defect_is_reported_under_its_rule(name: str, path: Path) -> None:
    kind = KINDS[name]
    report = verify(path, kind.car())
    rules = {defect.rule for defect in report.defects}
    assert kind.rule in rules, rules
    assert rules - {kind.rule} <= COMPANIONS.get(name, set())
    assert not report.sound
    for defect in report.defects:
        assert defect.message
        assert defect.rule == defect.rule.lower().replace("_", "-")


@pytest.mark.parametrize("name", KINDS)
def test_each_defect_has_its_place(name: str, path: Path) -> None:
    """The CID that a defect names stands in the file where its offset says (unless it is missing)."""
    data = KINDS[name].car()
    for defect in verify(path, data).defects:
        if defect.cid is not None and defect.rule != "missing-block":
            assert defect.offset is not None
            assert defect.cid in data[defect.offset : defect.offset + 10 + len(defect.cid)]


# --- sound repositories -----------------------------------------------------------------------


def test_the_repository_that_defects_are_planted_in_is_sound(path: Path) -> None:
    repo = Repo()
    data = repo.car()
    report = verify(path, data)
    assert report.defects == ()
    assert report.sound
    assert report.complete
    assert report.signature == "valid"
    assert (report.did, report.rev, report.records) == (DID, REV, 180)
    assert report.nodes == len(repo.tree.everywhere())
    assert report.blocks_seen == report.nodes + 180 + 1
    assert (report.unlinked, report.duplicates) == (0, 0)
    assert report.root == report.commit == CarFile.open(path, use_sidecar=False).roots[0]


@pytest.mark.parametrize("records", [0, 1, 2, 500])
@pytest.mark.parametrize("order", ["stream", "pds", "shuffled"])
def test_samples_are_sound(path: Path, records: int, order: str) -> None:
    data = io.BytesIO()
    info = make_sample(data, records, 3, order=order)  # type: ignore[arg-type]
    report = verify(path, data.getvalue(), key=info.did_key)
    assert report.defects == ()
    assert report.sound
    assert (report.signature, report.records, report.data) == ("valid", records, info.data)
    assert (report.unlinked, report.duplicates) == (0, 0)


def test_real_repositories_are_sound(shared_fixtures: Path) -> None:
    names = sorted((shared_fixtures / "atproto").glob("*.car"))
    assert len(names) >= 4
    for name in names:
        with CarFile.open(name, use_sidecar=False) as car:
            report = verify_repository(car)
        assert report.defects == (), name
        assert (report.complete, report.signature) == (True, "unchecked"), name


def test_a_bare_tree(path: Path) -> None:
    repo = Repo()
    repo.bare = True
    report = verify(path, repo.car(), key=None)
    assert report.defects == ()
    assert (report.commit, report.did, report.records, report.signature) == (None, None, 180, "unsigned")
    assert report.data == report.root


def test_a_bare_tree_as_the_root_asked_for(path: Path) -> None:
    data = Repo().car()
    whole = verify(path, data)
    report = verify(path, data, root=whole.data)
    assert report.defects == ()
    assert (report.root, report.commit, report.unlinked) == (whole.data, None, 1)


@pytest.mark.parametrize("changes", [{"rev": None}, {"rev": None, "prev": None}, {}])
def test_commits_of_version_2(path: Path, changes: dict[str, None]) -> None:
    repo = Repo()
    repo.commit["version"] = 2
    for name in changes:
        del repo.commit[name]
    report = verify(path, repo.car())
    assert report.defects == ()
    assert report.signature == "valid"


def test_a_commit_may_have_a_predecessor(path: Path) -> None:
    repo = Repo()
    repo.commit["prev"] = Link(cid_of(b"the commit before"))
    assert verify(path, repo.car()).sound


def test_the_key_in_a_did_key_is_used(path: Path) -> None:
    repo = Repo()
    repo.commit["did"] = KEY
    assert verify(path, repo.car(), key=None).signature == "valid"
    repo.signature = lambda message: sign(message, SECRET + 1)
    report = verify(path, repo.car(), key=None)
    assert [defect.rule for defect in report.defects] == ["signature-mismatch"]
    assert report.signature == "invalid"


def test_without_a_key_only_the_form_of_the_signature_is_checked(path: Path) -> None:
    repo = Repo()
    repo.signature = lambda message: sign(message, SECRET + 1)
    report = verify(path, repo.car(), key=None)
    assert (report.defects, report.signature) == ((), "unchecked")
    for name in ("signature-in-der", "signature-with-high-s", "signature-of-65-bytes", "signature-of-zeros"):
        (defect,) = verify(path, KINDS[name].car(), key=None).defects
        assert defect.rule == KINDS[name].rule


def test_an_unsigned_commit_can_be_allowed(path: Path) -> None:
    path.write_bytes(KINDS["commit-without-signature"].car())
    with CarFile.open(path, use_sidecar=False) as car:
        report = verify_repository(car, key=KEY, allow_unsigned=True)
    assert (report.defects, report.signature, report.sound) == ((), "unsigned", True)


def test_a_malformed_key_is_an_error_of_the_caller(path: Path) -> None:
    with pytest.raises(SignatureError):
        verify(path, Repo().car(), key="did:key:zNothing")


# --- counts and order -------------------------------------------------------------------------


def test_copies_and_unlinked_blocks_are_counted_and_no_defects(path: Path) -> None:
    repo = Repo()
    stray = Section(cid_of(b"a picture", 0x55), b"a picture")
    repo.sections = lambda sections: [
        stray,
        *reversed(sections),
        sections[3],
        sections[4],
        sections[4],
        stray,
    ]
    report = verify(path, repo.car())
    assert report.defects == ()
    assert (report.unlinked, report.duplicates) == (1, 4)


def test_a_sound_copy_stands_in_for_a_damaged_one(path: Path) -> None:
    for name in ("first-copy-does-not-match", "second-copy-does-not-match"):
        report = verify(path, KINDS[name].car())
        assert len(report.defects) == 1
        assert report.complete
        assert not report.sound


@pytest.mark.parametrize(
    "name", ["record-missing", "node-missing", "record-does-not-match", "node-does-not-match"]
)
def test_a_repository_with_a_hole_is_not_complete(name: str, path: Path) -> None:
    report = verify(path, KINDS[name].car())
    assert not report.complete
    assert len(report.defects) == 1


def test_a_file_cut_between_two_blocks_is_noticed_by_the_walk(path: Path) -> None:
    repo = Repo()
    repo.sections = lambda sections: sections[:-1]
    cut = repo.car()
    report = verify(path, cut)
    assert "car-torn" not in {defect.rule for defect in report.defects}
    assert not report.complete


def test_a_defective_record_under_many_keys_is_taken_apart_once(path: Path) -> None:
    repo = Repo()
    for number in range(50):
        repo.records[b"com.example.note/z%d" % number] = {"$type": "com.example.note", "x": 1.5}
    report = verify(path, repo.car())
    assert [defect.rule for defect in report.defects] == ["record-float"]
    assert report.records == 230


def test_a_record_of_nothing_but_floats_is_not_reported_for_ever(path: Path) -> None:
    repo = Repo()
    repo.records[repo.first_key()] = {"$type": "com.example.note", "x": [0.5] * 10_000}
    assert len(verify(path, repo.car()).defects) == 20


def test_defects_are_found_one_by_one_and_the_report_comes_last(path: Path) -> None:
    path.write_bytes(KINDS["record-float"].car())
    with CarFile.open(path, use_sidecar=False) as car:
        verification = Verification(car, key=KEY)
        defects: Iterator[object] = iter(verification)
        next(defects)
        with pytest.raises(Refused):
            verification.report()
        assert list(defects) == []
        report = verification.report()
    assert (report.defect_count, report.defects, report.sound) == (1, (), False)


def test_a_report_holds_so_many_defects_and_counts_the_rest(path: Path) -> None:
    repo = Repo()
    wrong = Section(cid_of(b"one", 0x55), b"two")
    repo.sections = lambda sections: sections + [wrong] * (DEFECTS_KEPT + 5)
    report = verify(path, repo.car())
    assert len(report.defects) == DEFECTS_KEPT
    assert report.defect_count == DEFECTS_KEPT + 5


@pytest.mark.parametrize(
    ("name", "where"), [("padded", -64), ("torn-in-length", -1), ("torn-in-block", -137)]
)
def test_damage_at_the_end_has_its_offset(name: str, where: int, path: Path) -> None:
    data = KINDS[name].car()
    (defect,) = verify(path, data).defects
    assert defect.offset == len(data) + where


def test_progress_goes_up_to_its_end(path: Path) -> None:
    data = io.BytesIO()
    info = make_sample(data, 3000, 1)
    path.write_bytes(data.getvalue())
    steps: list[tuple[int, int]] = []
    with CarFile.open(path, use_sidecar=False) as car:
        verify_repository(car, key=info.did_key, progress=lambda done, total: steps.append((done, total)))
    assert len(steps) > 3
    assert steps == sorted(steps)
    assert all(done <= total for done, total in steps)
    assert steps[-1][0] == steps[-1][1]


def test_a_car_v2_has_its_offsets_in_the_file(path: Path) -> None:
    repo = Repo()
    inner = KINDS["record-float"].car()
    head = bytes.fromhex("0aa16776657273696f6e02") + bytes(16)
    head += b"".join(number.to_bytes(8, "little") for number in (100, len(inner), 0))
    data = head + bytes(100 - len(head)) + inner
    (defect,) = verify(path, data).defects
    assert defect.rule == "record-float"
    assert defect.offset is not None
    assert defect.cid is not None
    assert defect.cid in data[defect.offset : defect.offset + 40]
    assert repo.first_key() == defect.key


def test_records_that_share_a_block_with_a_node_or_the_commit_are_told_apart(path: Path) -> None:
    """A key that names a node: sound as a node, wrong as a record."""
    repo = Repo()
    empty = emit({"e": [], "l": None})
    repo.records[b"com.example.note/node"] = {"e": [], "l": None}
    (defect,) = verify(path, repo.car()).defects
    assert (defect.rule, defect.cid) == ("record-type-missing", cid_of(empty))


# --- every byte counts ------------------------------------------------------------------------


def small_repository() -> bytes:
    repo = Repo()
    repo.records = dict(list(repo.records.items())[::18])
    return repo.car()


def outcome(path: Path, data: bytes) -> bool:
    """Whether the file passes as sound."""
    try:
        return verify(path, data).sound
    except CarError:
        return False


def test_no_flipped_bit_goes_unnoticed(path: Path) -> None:
    data = small_repository()
    assert outcome(path, data)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        assert not outcome(path, bytes(flipped)), at


def test_no_cut_goes_unnoticed(path: Path) -> None:
    data = small_repository()
    for size in range(0, len(data), 3):
        assert not outcome(path, data[:size]), size
