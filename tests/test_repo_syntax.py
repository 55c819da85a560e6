"""NSIDs, record keys, DIDs and keys against the interoperability lists, and the sentences that say why."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstfs.errors import SyntaxRuleError
from mstfs.repo import syntax


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().split("\n") if line and not line.startswith("# ")]


@pytest.mark.parametrize(
    ("name", "accepts", "check"),
    [
        ("nsid", syntax.is_nsid, syntax.check_nsid),
        ("recordkey", syntax.is_record_key, syntax.check_record_key),
    ],
)
def test_interop_lists(
    shared_fixtures: Path, name: str, accepts: Callable[[str], bool], check: Callable[[str], None]
) -> None:
    folder = shared_fixtures / "atproto/interop/syntax"
    valid = lines(folder / f"{name}_syntax_valid.txt")
    invalid = lines(folder / f"{name}_syntax_invalid.txt")
    assert len(valid) >= 14
    assert len(invalid) >= 12
    for text in valid:
        assert accepts(text), text
        check(text)
    for text in invalid:
        assert not accepts(text), text
        with pytest.raises(SyntaxRuleError):
            check(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "1 of at least three"),
        ("com.example", "2 of at least three"),
        ("com.exämple.foo", "not ASCII"),
        ("com." + "o" * 64 + ".foo", "segment 2 has 64 characters"),
        ("com.example." + "o" * 64, "segment 3 has 64 characters"),
        ("com..foo", "segment 2 is empty"),
        ("com.example.foo.", "segment 4 is empty"),
        ("com.exa_mple.foo", "segment 2 is not made of letters"),
        ("com.example-.foo", "segment 2 is not made of letters"),
        ("0com.example.foo", "starts with a digit"),
        ("com.example.3", "the last segment"),
        ("com.example.foo-bar", "the last segment"),
        ("com.example.foo\n", "the last segment"),
        (".".join(["a" * 60] * 6), "365 characters, 317 are allowed"),
    ],
)
def test_why_it_is_no_nsid(text: str, reason: str) -> None:
    assert not syntax.is_nsid(text)
    with pytest.raises(SyntaxRuleError, match=reason):
        syntax.check_nsid(text)


def test_longest_nsid() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61, "e" * 63])
    assert len(longest) == syntax.NSID_CHARACTERS
    assert syntax.is_nsid(longest)
    assert syntax.is_key(longest.encode() + b"/self")
    too_long = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 62, "e" * 63])
    assert not syntax.is_nsid(too_long)
    assert not syntax.is_key(too_long.encode() + b"/self")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (".", "reserved"),
        ("..", "reserved"),
        ("a" * 513, "513 characters"),
        ("a/b", "'/'"),
        ("self\n", r"'\\n'"),
        ("é", "xe9"),
    ],
)
def test_why_it_is_no_record_key(text: str, reason: str) -> None:
    assert not syntax.is_record_key(text)
    with pytest.raises(SyntaxRuleError, match=reason):
        syntax.check_record_key(text)


@pytest.mark.parametrize(
    "text",
    [
        "did:plc:z72i7hdynmk6r22z27h6tvur",
        "did:web:example.com",
        "did:web:localhost%3A1234",
        "did:method:val:two",
        "did:m:v",
        "did:method::::val",
        "did:method:-:_:.",
        "did:key:zQ3shZc2QzApp2oymGvQbzP8eKheVshBHbU4ZYjeXqwSKEn6N",
    ],
)
def test_dids(text: str) -> None:
    assert syntax.is_did(text)
    syntax.check_did(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not start"),
        ("DID:method:val", "does not start"),
        ("did:", "the method"),
        ("did:METHOD:val", "the method"),
        ("did:upper2:val", "the method"),
        ("did:method:", "ends in ':'"),
        ("did:method:val%", "ends in '%'"),
        ("did:method:val/two", "the identifier"),
        ("did:method:val ", "the identifier"),
        ("did:method:val\n", "the identifier"),
        ("did:plc:" + "a" * 2048, "2056 characters"),
    ],
)
def test_why_it_is_no_did(text: str, reason: str) -> None:
    assert not syntax.is_did(text)
    with pytest.raises(SyntaxRuleError, match=reason):
        syntax.check_did(text)


@pytest.mark.parametrize(
    "key",
    [b"app.bsky.feed.post/3jui7kd54zh2y", b"app.bsky.actor.profile/self", b"a.b.c/~", b"a.b.c/" + b"x" * 512],
)
def test_keys(key: bytes) -> None:
    assert syntax.is_key(key)
    syntax.check_key(key)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (b"", "no '/'"),
        (b"a.b.c", "no '/'"),
        (b"a.b.c/", "is not a record key: it is empty"),
        (b"/self", "is not an NSID"),
        (b"a.b/self", "is not an NSID"),
        (b"a.b.c/..", "reserved"),
        (b"a.b.c/d/e", "'/'"),
        (b"a.b.c/self\n", "not one of"),
        (b"a.b.c\n/self", "the last segment"),
        (b"a.b.c/\xff", "not ASCII"),
        (b"a.b.c/" + b"x" * 513, "513 characters"),
        (b".".join([b"a" * 60] * 6) + b"/self", "365 characters"),
    ],
)
def test_why_it_is_no_key(key: bytes, reason: str) -> None:
    assert not syntax.is_key(key)
    with pytest.raises(SyntaxRuleError, match=reason) as caught:
        syntax.check_key(key)
    # What a hostile key puts into a message is short and cannot steer a terminal.
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


part = st.text("aZ09.-_:~/ é", max_size=12)


@given(part, part)
def test_a_key_is_an_nsid_and_a_record_key(collection: str, record_key: str) -> None:
    expected = syntax.is_nsid(collection) and syntax.is_record_key(record_key)
    key = f"{collection}/{record_key}".encode()
    assert syntax.is_key(key) == expected
    if expected:
        syntax.check_key(key)
    else:
        with pytest.raises(SyntaxRuleError):
            syntax.check_key(key)


@given(st.from_regex(r"\A[a-b](\.[a-b0-1-]{1,3}){1,4}\Z"), st.sampled_from(["self", ".", "", "a/b"]))
def test_keys_that_are_nearly_right(collection: str, record_key: str) -> None:
    expected = syntax.is_nsid(collection) and syntax.is_record_key(record_key)
    assert syntax.is_key(f"{collection}/{record_key}".encode()) == expected
