"""Copies: nothing gets lost on the way around, the same items give the same root, failures leave nothing."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transfers import GivenSource, content, converted, copied, target

from mstfs.archive import Archive
from mstfs.blocks.car import CarFile
from mstfs.codec import cid as cids
from mstfs.codec.cid import Link
from mstfs.errors import CopyDiffers, MissingBlock, Refused
from mstfs.limits import RECORD_BYTES
from mstfs.repo.sample import make_sample, signing_key
from mstfs.repo.verify import verify_repository
from mstfs.transfer import copy as copying
from mstfs.transfer.car_output import CarOutput
from mstfs.transfer.copy import Copy
from mstfs.transfer.items import Item

MAPS = ("hamt3", "hamt2", "hashmap", "hashmap,width=5,bucket=3,hash=sha2-256", "hashmap,width=3,bucket=1")

LINK = Link(cids.for_block(b"elsewhere", cids.RAW))
MIXED: dict[bytes, Any] = {
    b"": ("blob", b"under the empty key"),
    b"a": ("blob", b""),
    b"a/b": ("blob", bytes(range(256)) * 40),
    b"a/b/c": ("record", {"text": "Gr\u00fc\u00dfe", "float": 1.5, "link": LINK, "bytes": b"\0\1"}),
    b"list": ("record", [1, -(1 << 64), None, True, ""]),
    b"number": ("record", 7),
    b"null": ("record", None),
    b"word": ("record", "word"),
    b"link": ("record", LINK),
    b"large": ("blob", random.Random(7).randbytes((1 << 20) + 17)),
    b"twice": ("blob", b"same"),
    b"../twice": ("blob", b"same"),
    "schl\u00fcssel/\u2603".encode(): ("record", {"/": "not a link", "$link": 3}),
}


def values_of(items: dict[bytes, Any]) -> dict[str, Any]:
    return {key.decode(): value for key, (_, value) in items.items()}


# --- there and back ---------------------------------------------------------------------------


def test_records_go_through_every_kind_of_tree_and_come_back(tmp_path: Path) -> None:
    start = tmp_path / "start.car"
    made = make_sample(start, 300, 4)
    here = start
    for number, to in enumerate((*MAPS, "mst")):
        there = tmp_path / f"{number}.car"
        done = converted(here, there, to)
        assert (done.keys, done.checked, done.encoding, done.left_out) == (300, True, None, 0)
        here = there
    assert done.root == done.data == made.data
    with CarFile.open(start) as old, CarFile.open(here) as new:
        blocks = {section.cid for section in new.sections()}
        assert blocks == {section.cid for section in old.sections()} - {made.root}
    assert done.blocks == len(blocks)


@pytest.mark.parametrize("to", MAPS)
def test_blobs_and_records_of_all_kinds(tmp_path: Path, to: str) -> None:
    done = copied(GivenSource(MIXED), tmp_path / "new.car", to)
    assert done.keys == len(MIXED)
    assert content(tmp_path / "new.car") == values_of(MIXED)
    # And from there to another one, which does not depend on the way.
    other = converted(tmp_path / "new.car", tmp_path / "other.car", "hamt3")
    assert other.root == copied(GivenSource(MIXED), tmp_path / "straight.car", "hamt3").root


@pytest.mark.parametrize("to", [*MAPS, "unixfs", "mst"])
def test_nothing_becomes_an_empty_tree(tmp_path: Path, to: str) -> None:
    done = copied(GivenSource({}), tmp_path / "new.car", to, encoding="raw" if to == "hamt3" else None)
    assert (done.keys, done.blocks) == (0, 1)
    assert content(tmp_path / "new.car") == {}


@pytest.mark.parametrize("to", [*MAPS, "unixfs"])
def test_the_order_in_which_items_come_does_not_matter(tmp_path: Path, to: str) -> None:
    items: dict[bytes, Any] = {
        b"%d/%d" % (number % 7, number): ("blob", b"%d" % (number % 50)) for number in range(500)
    }
    first = copied(GivenSource(items), tmp_path / "first.car", to)
    shuffled = list(items.items())
    random.Random(3).shuffle(shuffled)
    second = copied(GivenSource(dict(shuffled)), tmp_path / "second.car", to)
    assert first.root == second.root
    assert first.blocks == second.blocks
    again = copied(GivenSource(items), tmp_path / "again.car", to)
    assert again == first
    assert (tmp_path / "again.car").read_bytes() == (tmp_path / "first.car").read_bytes()


@settings(max_examples=20)
@given(
    st.dictionaries(
        st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12),
        st.one_of(
            st.binary(max_size=300), st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=3)
        ),
        max_size=12,
    )
)
def test_any_entries_survive(tmp_path_factory: pytest.TempPathFactory, entries: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    items: dict[bytes, Any] = {
        key.encode(): ("blob" if isinstance(value, bytes) else "record", value)
        for key, value in entries.items()
    }
    for to in ("hamt3", "hamt2", "hashmap"):
        copied(GivenSource(items), folder / f"{to}.car", to)
        with Archive.open(folder / f"{to}.car") as archive:
            assert dict(archive) == entries


def test_a_copy_begins_with_what_is_staged(tmp_path: Path) -> None:
    path = tmp_path / "repo.car"
    make_sample(path, 20, 1)
    with Archive.open(path, mode="write") as archive:
        archive["org.example.note/new"] = {"$type": "org.example.note"}
        del archive["app.bsky.actor.profile/self"]
        expected = dict(archive)
    converted(path, tmp_path / "new.car", "hamt2")
    assert content(tmp_path / "new.car") == expected


# --- repositories -----------------------------------------------------------------------------


def test_a_repository_gets_a_commit(tmp_path: Path) -> None:
    start = tmp_path / "start.car"
    made = make_sample(start, 60, 2)
    converted(start, tmp_path / "map.car", "hashmap")
    out = tmp_path / "signed.car"
    done = converted(tmp_path / "map.car", out, "mst", did=made.did, signer=signing_key(2))
    assert done.data == made.data
    assert done.root != done.data
    with CarFile.open(out) as car:
        assert car.roots == (done.root,)
        report = verify_repository(car, done.root, made.did_key)
    assert (report.sound, report.signature, report.unlinked) == (True, "valid", 0)
    done = converted(start, out, "mst", did=made.did)
    with Archive.open(out) as archive:
        assert (archive.head.kind, archive.head.root) == ("unsigned", done.root)


@pytest.mark.parametrize(
    ("key", "item", "reason"),
    [
        (b"plain", ("record", {}), "no '/' between"),
        (b"a.b.c/..", ("record", {}), "reserved"),
        (b"a.b.c/d", ("record", {"x": 1.5}), "a.b.c/d.*float"),
        (b"a.b.c/d", ("record", [1]), "a.b.c/d.*maps.*a list"),
        (b"a.b.c/d", ("record", LINK), "a.b.c/d.*maps.*a link"),
        (b"a.b.c/d", ("blob", b"\xff\xd8"), "a.b.c/d.*UTF-8"),
        (b"a.b.c/d", ("symlink", b"e"), "a.b.c/d.*symbolic link.*--follow"),
    ],
)
def test_what_no_repository_holds(tmp_path: Path, key: bytes, item: Any, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        copied(
            GivenSource({b"a.b.c/a": ("record", {"$type": "a.b.c"}), key: item}), tmp_path / "new.car", "mst"
        )
    assert os.listdir(tmp_path) == []


def test_files_of_records_become_records(tmp_path: Path) -> None:
    files: dict[bytes, Any] = {b"a.b.c/x.json": ("blob", b'{"$type": "a.b.c", "n": 1}')}
    copied(GivenSource(files, is_files=True), tmp_path / "new.car", "mst")
    assert content(tmp_path / "new.car") == {"a.b.c/x": {"$type": "a.b.c", "n": 1}}
    for name, data, reason in [
        (b"a.b.c/x", b"{}", "called COLLECTION/RECORD-KEY.json"),
        (b"a.b.c/x.json", b'{"n": 1.5}', r"a\.b\.c/x\.json'.*line 1"),
        (b"a.b.c/x.json", b" " * (RECORD_BYTES + 1), "a record can have"),
        (b"notes/x.json", b"{}", "NSID"),
    ]:
        with pytest.raises(Refused, match=reason):
            copied(GivenSource({name: ("blob", data)}, is_files=True), tmp_path / "bad.car", "mst")


# --- UnixFS -----------------------------------------------------------------------------------


def test_records_become_files_as_a_mount_shows_them_and_come_back(tmp_path: Path) -> None:
    start = tmp_path / "start.car"
    made = make_sample(start, 600, 9)
    with pytest.raises(Refused, match=r"a part of it has 517 bytes.*--escape"):
        converted(start, tmp_path / "files.car", "unixfs")
    done = converted(start, tmp_path / "files.car", "unixfs", escape=True)
    assert done.keys == 600
    with Archive.open(start) as old, Archive.open(tmp_path / "files.car") as new:
        text = new["app.bsky.actor.profile/self.json"]
        assert text.decode() == old.json("app.bsky.actor.profile/self")
    back = converted(tmp_path / "files.car", tmp_path / "back.car", "mst")
    assert back.root == made.data


def test_keys_that_are_no_paths(tmp_path: Path) -> None:
    for key, reason in [
        (b"a//b", "a part of it is empty"),
        (b"/a", "a part of it is empty"),
        (b"a/", "a part of it is empty"),
        (b"a/../b", "'..' is a part"),
        (b"./b", "'.' is a part"),
        (b"a\0", "NUL"),
        (b"x" * 256, "256 bytes"),
        (b"x/" * 300 + b"x", "601 bytes and 301 names"),
    ]:
        with pytest.raises(Refused, match=reason):
            copied(GivenSource({b"b": ("blob", b"1"), key: ("blob", b"2")}), tmp_path / "new.car", "unixfs")
    with pytest.raises(Refused, match=r"'a/b' is a file, and a folder too, because of 'a/b/c'.*--escape"):
        copied(
            GivenSource(dict.fromkeys((b"a/b", b"a/b-c", b"a/b/c"), ("blob", b"1"))), tmp_path / "x", "unixfs"
        )
    assert os.listdir(tmp_path) == []


def test_escaped_names_are_those_of_a_mount_and_can_be_read_back(tmp_path: Path) -> None:
    odd: dict[bytes, Any] = {
        key: ("blob", b"of " + key)
        for key in (b"", b"/", b"a", b"a/", b"a/b", b"a//b", b"..", b"a\0b", b"%", b"%@", b"a/%@", b"y" * 600)
    }
    done = copied(GivenSource(odd), tmp_path / "files.car", "unixfs", escape=True)
    assert done.keys == len(odd)
    names = set(content(tmp_path / "files.car"))
    assert {"%=", "a/%@", "a/b", "%=.."} <= names
    converted(tmp_path / "files.car", tmp_path / "back.car", "hamt3", encoding="raw", escape=True)
    assert content(tmp_path / "back.car") == values_of(odd)


def test_files_that_no_mount_shows_cannot_be_unescaped(tmp_path: Path) -> None:
    source = GivenSource({b"%zz": ("blob", b"1")}, is_files=True)
    with pytest.raises(Refused, match="leave out --escape"):
        copied(source, tmp_path / "new.car", "hamt3", escape=True)


# --- symbolic links ---------------------------------------------------------------------------


def test_symbolic_links_can_be_followed_inside_of_a_source(tmp_path: Path) -> None:
    items: dict[bytes, Any] = {
        b"a/near": ("symlink", b"file"),
        b"a/file": ("blob", b"content"),
        b"b/far": ("symlink", b".././a//near"),
    }
    with pytest.raises(Refused, match=r"'a/near' is a symbolic link.*--follow"):
        copied(GivenSource(items, is_files=True), tmp_path / "new.car", "hamt3")
    copied(GivenSource(items, is_files=True), tmp_path / "new.car", "hamt3", follow=True)
    assert set(content(tmp_path / "new.car").values()) == {b"content"}
    assert len(content(tmp_path / "new.car")) == 3


@pytest.mark.parametrize(
    ("leads", "reason"),
    [
        (b"/etc/passwd", "outside of the source"),
        (b"../x", "outside of the source"),
        (b"nowhere", "no file in the source"),
        (b".", "no file in the source"),
        (b"link", "in a circle"),
    ],
)
def test_symbolic_links_that_cannot_be_followed(tmp_path: Path, leads: bytes, reason: str) -> None:
    items: dict[bytes, Any] = {b"link": ("symlink", leads), b"x": ("blob", b"")}
    with pytest.raises(Refused, match=f"'link' is a symbolic link.*{reason}"):
        copied(GivenSource(items, is_files=True), tmp_path / "new.car", "hamt3", follow=True)
    assert os.listdir(tmp_path) == []


# --- failures ---------------------------------------------------------------------------------


class Stopping(GivenSource):
    """Breaks off in the middle."""

    def __init__(self, error: BaseException) -> None:
        super().__init__({b"%d" % number: ("blob", b"x" * 1000) for number in range(1000)})
        self.error = error

    def items(self) -> Iterator[Item]:
        for number, item in enumerate(super().items()):
            if number == 900:
                raise self.error
            yield item


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "full"), MissingBlock(b"\1\x55\0\0")])
def test_what_stops_a_copy_leaves_nothing_behind(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "new.car"
    with pytest.raises(type(error)):
        copied(Stopping(error), out, "hamt3")
    assert os.listdir(tmp_path) == []
    out.write_bytes(b"old")
    with pytest.raises(type(error)):
        copied(Stopping(error), out, "unixfs")
    assert os.listdir(tmp_path) == ["new.car"]
    assert out.read_bytes() == b"old"


def test_missing_blocks_are_named_with_their_key(tmp_path: Path) -> None:
    class Missing(GivenSource):
        def items(self) -> Iterator[Item]:
            def load() -> Any:
                raise MissingBlock(cids.for_block(b"gone"))

            yield Item(b"the/key", "record", load=load)

    with pytest.raises(MissingBlock, match="needed for 'the/key'"):
        copied(Missing({}), tmp_path / "new.car", "hamt3")


# --- the look back ----------------------------------------------------------------------------


def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, change: Any) -> str:
    """What the look back says about a copy into which `change` puts a mistake."""
    made = target(to)
    real_make, real_build = made.make, made.build
    change(monkeypatch, made, real_make, real_build)
    copy = Copy(GivenSource({b"k%02d" % number: ("blob", b"%d" % number) for number in range(40)}), made)
    with pytest.raises(CopyDiffers) as caught:
        copy.run(tmp_path / "new.car")
    assert os.listdir(tmp_path) == []
    return str(caught.value)


@pytest.mark.parametrize("to", ["hamt3", "hamt2", "hashmap", "unixfs"])
def test_a_value_that_is_not_what_was_read_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    def change(patch: pytest.MonkeyPatch, made: Any, make: Any, build: Any) -> None:
        def wrong(key: bytes, item: Item) -> Any:
            row = yield from make(key, item)
            return row._replace(digest=bytes(16)) if key == b"k17" else row

        patch.setattr(made, "make", wrong)

    assert "'k17' has another content" in planted(tmp_path, monkeypatch, to, change)


@pytest.mark.parametrize("to", ["hamt3", "hamt2", "hashmap", "unixfs"])
def test_keys_that_are_missing_or_too_many_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    def without(patch: pytest.MonkeyPatch, made: Any, make: Any, build: Any) -> None:
        def less(ledger: Any) -> Any:
            row = ledger.get(b"k20")
            ledger.drop(b"k20")
            root = yield from build(ledger)
            ledger.put(b"k20", row)
            return root

        patch.setattr(made, "build", less)

    def more(patch: pytest.MonkeyPatch, made: Any, make: Any, build: Any) -> None:
        def other(ledger: Any) -> Any:
            root = yield from build(ledger)
            ledger.drop(b"k21")
            return root

        patch.setattr(made, "build", other)

    assert "'k20' is in the source, but not in the new file" in planted(tmp_path, monkeypatch, to, without)
    assert "'k21' is in the new file, but not in the source" in planted(tmp_path, monkeypatch, to, more)


def test_blocks_that_did_not_arrive_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Losing(CarOutput):
        def put(self, cid: bytes, block: bytes) -> None:
            if block != b"13":
                super().put(cid, block)

    monkeypatch.setattr(copying, "CarOutput", Losing)
    with pytest.raises(CopyDiffers, match=r"'k' cannot be read.*missing"):
        copied(GivenSource({b"k": ("blob", b"13")}), tmp_path / "new.car", "hamt3", encoding="raw")


def test_damage_on_the_way_to_the_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Flipping(CarOutput):
        def put(self, cid: bytes, block: bytes) -> None:
            super().put(cid, block.replace(b"content", b"c0ntent"))

    monkeypatch.setattr(copying, "CarOutput", Flipping)
    with pytest.raises(CopyDiffers, match=r"'k' cannot be read.*do not match"):
        copied(GivenSource({b"k": ("blob", b"content")}), tmp_path / "new.car", "hamt3", encoding="raw")


def test_values_that_look_like_others_are_told(tmp_path: Path) -> None:
    """One byte that happens to be DAG-CBOR: whoever opens the file has to be told that it is a blob."""
    done = copied(GivenSource({b"k": ("blob", b"\xa0")}), tmp_path / "new.car", "hamt3", encoding="raw")
    assert done.encoding == "raw"
    done = copied(GivenSource({b"k": ("blob", b"\xff")}), tmp_path / "new.car", "hamt3", encoding="raw")
    assert done.encoding is None


def test_without_looking_back(tmp_path: Path) -> None:
    copy = Copy(GivenSource({b"k": ("blob", b"1")}), target("hamt2"))
    done = copy.run(tmp_path / "new.car", look_back=False)
    assert not done.checked
    assert content(tmp_path / "new.car") == {"k": b"1"}


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    items: dict[bytes, Any] = {b"%d" % number: ("blob", b"x" * 100) for number in range(600)}
    Copy(GivenSource(items), target("hamt2")).run(
        tmp_path / "new.car", progress=lambda *step: told.append(step)
    )
    assert [step[:2] for step in told] == [
        ("writing", 256), ("writing", 512), ("writing", 600), ("checking", 256), ("checking", 512),
        ("checking", 600),
    ]  # fmt: skip
    assert told[-1][2] == 60_000


def test_progress_within_one_large_item_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    source = GivenSource({b"k": ("blob", bytes(40 << 20))})
    Copy(source, target("unixfs")).run(tmp_path / "new.car", progress=lambda *step: told.append(step))
    assert [(what, items, size >> 20) for what, items, size in told] == [
        ("writing", 0, 16), ("writing", 0, 32), ("writing", 1, 40),
        ("checking", 0, 16), ("checking", 0, 32), ("checking", 1, 40),
    ]  # fmt: skip


def test_a_raw_hamt_takes_no_records(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"'k'.*--values raw"):
        copied(GivenSource({b"k": ("record", {})}), tmp_path / "new.car", "hamt3", encoding="raw")


def test_keys_that_are_no_text(tmp_path: Path) -> None:
    source = GivenSource({b"\xff": ("blob", b"1")})
    with pytest.raises(Refused, match=r"no UTF-8.*hashmap"):
        copied(source, tmp_path / "new.car", "hamt3")
    copied(source, tmp_path / "new.car", "hashmap")
    assert content(tmp_path / "new.car") == {"\udcff": b"1"}
