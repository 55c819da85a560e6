"""Names: a bijection between keys and paths, whatever the keys are."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mstfs.repo.syntax import is_key
from mstfs.view.names import CONTROL, ITSELF, Names, in_control

JSON = Names(b".json")
CBOR = Names(b".cbor")

HOSTILE = [
    b"", b".", b"..", b"/", b"%", b"\0", b"%00", b"%25", b"%2500", b".mstfs", b".json", b"x.json", b"%.json",
    b"%=", b"%+", b"%-", b"%=x", b"%-x", b"%+x", b"%=x.json", b"\xff\xfe", b"\xc3\x28", b"\n", b" ", b"~",
    b"x" * 249, b"x" * 250, b"x" * 251, b"x" * 254, b"x" * 255, b"x" * 256, b"x" * 512, b"x" * 8192,
    b"%" * 100, b"\0" * 255, b"x" * 239 + b"%", b"x" * 238 + b"%", b"x" * 240 + b"%", b"%" * 4096,
]  # fmt: skip

parts = st.one_of(
    st.sampled_from(HOSTILE),
    st.binary(max_size=8),
    st.sampled_from([b"a", b"b", b"app.bsky.feed.post", b"3jui7kd54zh2y"]),
    st.builds(lambda base, more: base + more, st.sampled_from(HOSTILE), st.binary(max_size=3)),
)
keys = st.lists(parts, min_size=1, max_size=4).map(b"/".join)
names_of_paths = st.one_of(
    parts.map(lambda part: part.replace(b"/", b"")),
    parts.map(lambda part: b"%-" + part.replace(b"/", b"")),
    parts.map(lambda part: b"%+" + part.replace(b"/", b"")),
    parts.map(lambda part: part.replace(b"/", b"") + b".json"),
    parts.map(lambda part: b"%=" + part.replace(b"/", b"") + b".json"),
)
nsid = st.from_regex(r"[a-z]{1,20}(\.[a-z0-9]{1,20}){1,3}\.[a-zA-Z]{1,20}", fullmatch=True)
record_key = st.from_regex(r"[A-Za-z0-9._:~-]{1,250}", fullmatch=True)


def check_path(key: bytes, names: Names) -> None:
    path = names.path_of(key)
    assert names.key_of(path) == key
    assert path
    for name in path:
        assert 1 <= len(name) <= 255
        assert b"/" not in name
        assert b"\0" not in name
        assert name not in (b".", b"..")
    assert path[0] != CONTROL
    for depth in range(len(path)):
        assert key.startswith(names.prefix_of(path[:depth]))
        assert names.can_hold_keys(path[:depth])


@pytest.mark.parametrize("names", [JSON, CBOR])
@pytest.mark.parametrize("part", HOSTILE, ids=lambda part: repr(part[:12]))
def test_hostile_parts_stand_anywhere_in_a_key(part: bytes, names: Names) -> None:
    for key in (
        part,
        b"a/" + part,
        part + b"/a",
        b"a/" + part + b"/b",
        part + b"/" + part,
        b"/" + part + b"/",
    ):
        check_path(key, names)


@given(keys)
@settings(max_examples=300)
def test_a_key_is_read_back_from_its_path(key: bytes) -> None:
    check_path(key, JSON)


@given(st.binary(max_size=600))
@settings(max_examples=200)
def test_any_bytes_are_a_key(key: bytes) -> None:
    check_path(key, CBOR)


@given(st.lists(keys, min_size=2, max_size=8, unique=True))
@example([b"a/%", b"a/%.json/c"])
@example([b"%", b"%.json/x"])
@example([b"a", b"a/b", b"a.json/b", b"a/b.json/c", b"a/b/c"])
@example([b"a/" + b"x" * 500, b"a/" + b"x" * 500 + b"/y", b"a/" + b"x" * 500 + b".json/y"])
@settings(max_examples=300)
def test_no_path_is_another_keys_path_or_a_folder_of_it(some: list[bytes]) -> None:
    paths = sorted(JSON.path_of(key) for key in some)
    for first, second in pairwise(paths):
        assert second[: len(first)] != first


@given(st.lists(names_of_paths, min_size=1, max_size=4))
@settings(max_examples=300)
def test_a_path_stands_for_one_key_or_for_none(path: list[bytes]) -> None:
    key = JSON.key_of(tuple(path))
    assert key is None or JSON.path_of(key) == tuple(path)


@given(st.lists(names_of_paths, min_size=1, max_size=3), keys)
@settings(max_examples=300)
def test_only_folders_that_keys_spell_can_hold_keys(folder: list[bytes], rest: bytes) -> None:
    key = JSON.prefix_of(tuple(folder)) + rest
    path = JSON.path_of(key)
    if path[: len(folder)] == tuple(folder) and len(path) > len(folder):
        assert JSON.can_hold_keys(tuple(folder))
    elif JSON.can_hold_keys(tuple(folder)) and JSON.is_whole(tuple(folder)):
        pytest.fail(f"{key!r} has the prefix of {folder!r} and is not in it")


@given(nsid, record_key)
@example("app.bsky.feed.post", "3jui7kd54zh2y")
@example("com.example.a", "x.json")
@example("com.example.a", "self")
@example("com.example.a", "~-_:.x")
@settings(max_examples=200)
def test_keys_of_atproto_pass_plain(collection: str, name: str) -> None:
    key = f"{collection}/{name}".encode()
    if is_key(key) and name != ".mstfs":
        assert JSON.path_of(key) == (collection.encode(), name.encode() + b".json")


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (b"a/b", b"a/b.json"),
        (b"a", b"%=a.json"),
        (b"a/b/c", b"a/%-b/c.json"),
        (b"a/..", b"a/%=...json"),
        (b"../a", b"%-../a.json"),
        (b".mstfs/a", b"%-.mstfs/a.json"),
        (b"a/", b"a/%=.json"),
        (b"/a", b"%-/a.json"),
        (b"a/b\0c%", b"a/%=b%00c%25.json"),
        (b"%=a/b", b"%-%25=a/b.json"),
        (b"a/" + b"x" * 300, b"a/%+" + b"x" * 240 + b"/%=" + b"x" * 60 + b".json"),
    ],
)
def test_how_a_path_is_written(key: bytes, path: bytes) -> None:
    assert b"/".join(JSON.path_of(key)) == path


@pytest.mark.parametrize(
    "path",
    [
        b"a/b", b"a/b.jso", b"a/.json", b"x.json", b"a/b/c.json", b"a/%=b.json", b"%-a/b.json", b"a/%-b.json",
        b"a/%=%2.json", b"a/%=%.json", b"a/%+x/%=y.json", b"a/%+" + b"x" * 240 + b"/y.json",
        b"%=.mstfs/a.json", b"a/%-b/%-c.json", b"a/%=%0.json", b"a/%+.json", b".mstfs/a.json",
    ],
)  # fmt: skip
def test_what_is_no_key(path: bytes) -> None:
    assert JSON.key_of(tuple(path.split(b"/"))) is None


def test_the_control_folder_is_told_from_its_neighbours() -> None:
    assert in_control(b".mstfs")
    assert in_control(b".mstfs/root")
    assert not in_control(b".mstfsx")
    assert not in_control(b"a/.mstfs")
    assert not in_control(b"")


# --- keys without a form ----------------------------------------------------------------------

NESTED = Names(b"", nested=True)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (b"a", b"a"),
        (b"a/b/c", b"a/b/c"),
        (b"zarr.json", b"zarr.json"),
        (b"temp/c/0/0", b"temp/c/0/0"),
        (b"", b"%="),
        (b"/", b"%-/%="),
        (b"a/", b"a/%="),
        (b"/a", b"%-/a"),
        (b"../etc", b"%-../etc"),
        (b"a/..", b"a/%=.."),
        (b"%@", b"%=%25@"),
        (b"a/%@", b"a/%=%25@"),
        (b".mstfs", b"%=.mstfs"),
        (b".mstfs/root", b"%-.mstfs/root"),
        (b"a\0b", b"%=a%00b"),
    ],
)
def test_keys_without_a_form(key: bytes, path: bytes) -> None:
    assert b"/".join(NESTED.path_of(key)) == path
    assert NESTED.key_of(tuple(path.split(b"/"))) == key


@given(keys)
def test_every_key_without_a_form_has_one_path(key: bytes) -> None:
    path = NESTED.path_of(key)
    assert NESTED.key_of(path) == key
    for name in path:
        assert 0 < len(name) <= 255
        assert name not in (b".", b"..", b".mstfs", ITSELF)
        assert b"/" not in name
        assert b"\0" not in name
