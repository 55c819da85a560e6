"""Defects of keys, commits and records."""

from collections.abc import Callable
from typing import Any

from crooked import (
    K256_ORDER,
    SECRET,
    Link,
    Pairs,
    Raw,
    Repo,
    cid_of,
    cid_sha512,
    emit,
    sign,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from defect_kinds import add, kind

# --- keys -------------------------------------------------------------------------------------


def key(rule: str, text: bytes) -> Callable[[str], None]:
    """A record under a key that is no key."""

    def plant(repo: Repo) -> None:
        repo.records[text] = {"$type": "com.example.note"}

    return lambda name: add(name, rule, plant)


key("key-syntax", b"com.example.note")("key_without_slash")
key("key-syntax", b"com.example.note/a/b")("key_with_two_slashes")
key("key-syntax", b"/self")("key_without_collection")
key("key-syntax", b"com.example.note/")("key_without_record_key")
key("key-syntax", b"com.example.note/.")("record_key_dot")
key("key-syntax", b"com.example.note/..")("record_key_dot_dot")
key("key-syntax", b"com.example.note/" + b"k" * 513)("record_key_of_513")
key("key-syntax", b"com.example.note/a b")("record_key_with_blank")
key("key-syntax", b"com.example.note/a#b")("record_key_with_hash")
key("key-syntax", b"com.example.note/a\nb")("record_key_with_newline")
key("key-syntax", b"com.example.note/a\0b")("record_key_with_nul")
key("key-syntax", b"com.example.note/caf\xc3\xa9")("record_key_not_ascii")
key("key-syntax", b"com.example.note/\xff\xfe")("record_key_not_utf8")
key("key-syntax", b"example.note/self")("collection_of_two_segments")
key("key-syntax", b"com.example.3note/self")("collection_name_starts_with_digit")
key("key-syntax", b"com..note/self")("collection_with_empty_segment")
key("key-syntax", b"com.-example.note/self")("collection_with_outer_hyphen")
key("key-syntax", b"com." + b"a" * 64 + b".note/self")("collection_segment_of_64")
key("key-syntax", b"com." + b".".join([b"a" * 60] * 6) + b".note/self")("collection_too_long")
key("key-syntax", b"com.example.note/self ")("record_key_ends_in_blank")
key("key-length", b"com.example.note/" + b"k" * 9000)("key_of_9000_bytes")
key("key-length", b"")("key_empty")


# --- commits ----------------------------------------------------------------------------------


def commit(rule: str, **fields: Any) -> Callable[[str], None]:
    """A commit with other values in its fields, signed over them."""

    def plant(repo: Repo) -> None:
        repo.commit.update(fields)

    return lambda name: add(name, rule, plant)


def commit_without(rule: str, field: str) -> Callable[[str], None]:
    def plant(repo: Repo) -> None:
        del repo.commit[field]

    return lambda name: add(name, rule, plant)


commit("commit-version", version=1)("commit_version_1")
commit("commit-version", version=4)("commit_version_4")
commit("commit-version", version="3")("commit_version_text")
commit("commit-version", version=True)("commit_version_true")
commit("commit-did", did="alice.example.com")("commit_did_is_a_handle")
commit("commit-did", did="did:PLC:abc")("commit_did_in_capitals")
commit("commit-did", did="did:plc:")("commit_did_empty")
commit("commit-did", did=b"did:plc:abc")("commit_did_bytes")
commit("commit-rev", rev="2024-01-01")("commit_rev_is_a_date")
commit("commit-rev", rev="zzzzzzzzzzzzz")("commit_rev_beyond_all_time")
commit("commit-rev", rev="3lcq5mkzpdc2k2")("commit_rev_too_long")
commit("commit-rev", rev=3)("commit_rev_number")
commit("commit-prev", prev="")("commit_prev_text")
commit("commit-prev", prev=Link(cid_of(b"x", 0x55)))("commit_prev_raw")
commit("commit-prev", prev=cid_of(b"x"))("commit_prev_bytes")
commit("commit-extra-field", note="hello")("commit_with_another_field")
commit("commit-data", data=None)("commit_data_null")
commit_without("commit-rev-missing", "rev")("commit_without_rev")
commit_without("commit-prev-missing", "prev")("commit_without_prev")
commit_without("commit-did", "did")("commit_without_did")
commit_without("commit-version", "version")("commit_without_version")


@kind("commit-data")
def commit_data_bytes(repo: Repo) -> None:
    repo.data_link = bytes


@kind("commit-data")
def commit_data_raw(repo: Repo) -> None:
    repo.data_link = lambda cid: Link(b"\x01\x55" + cid[2:])


@kind("cbor-map-order")
def commit_out_of_order(repo: Repo) -> None:
    repo.commit_emit = lambda commit: emit(Pairs(sorted(commit.items())))


@kind("cbor-not-minimal")
def commit_version_spelled_long(repo: Repo) -> None:
    repo.commit_emit = lambda commit: emit({**commit, "version": Raw(b"\x18\x03")})


@kind("cbor-trailing")
def commit_with_trailing_byte(repo: Repo) -> None:
    repo.commit_emit = lambda commit: emit(commit) + b"\0"


@kind("commit-unsigned")
def commit_without_signature(repo: Repo) -> None:
    repo.signature = None


@kind("commit-sig")
def signature_text(repo: Repo) -> None:
    repo.signature = lambda message: sign(message).hex()


@kind("commit-sig")
def signature_null(repo: Repo) -> None:
    repo.signature = lambda message: None


@kind("signature-length")
def signature_of_65_bytes(repo: Repo) -> None:
    repo.signature = lambda message: sign(message) + b"\0"


@kind("signature-length")
def signature_empty(repo: Repo) -> None:
    repo.signature = lambda message: b""


@kind("signature-der")
def signature_in_der(repo: Repo) -> None:
    def der(message: bytes) -> bytes:
        plain = sign(message)
        return encode_dss_signature(int.from_bytes(plain[:32], "big"), int.from_bytes(plain[32:], "big"))

    repo.signature = der


@kind("signature-high-s")
def signature_with_high_s(repo: Repo) -> None:
    def high(message: bytes) -> bytes:
        plain = sign(message)
        return plain[:32] + (K256_ORDER - int.from_bytes(plain[32:], "big")).to_bytes(32, "big")

    repo.signature = high


@kind("signature-range")
def signature_of_zeros(repo: Repo) -> None:
    repo.signature = lambda message: bytes(64)


@kind("signature-range")
def signature_r_is_the_order(repo: Repo) -> None:
    repo.signature = lambda message: K256_ORDER.to_bytes(32, "big") + sign(message)[32:]


@kind("signature-mismatch")
def signature_of_another_key(repo: Repo) -> None:
    repo.signature = lambda message: sign(message, SECRET + 1)


@kind("signature-mismatch")
def signature_of_other_bytes(repo: Repo) -> None:
    repo.signature = lambda message: sign(message + b"\0")


@kind("signature-mismatch")
def rev_changed_after_signing(repo: Repo) -> None:
    repo.commit_emit = lambda commit: emit({**commit, "rev": "3lcq5mkzpdc2l"})


# --- records ----------------------------------------------------------------------------------


def record(rule: str, value: Any) -> Callable[[str], None]:
    """One record that is wrong. A function is given the sound record."""

    def plant(repo: Repo) -> None:
        sound = repo.records[repo.first_key()]
        repo.records[repo.first_key()] = value(sound) if callable(value) else value

    return lambda name: add(name, rule, plant)


def with_field(rule: str, value: Any) -> Callable[[str], None]:
    return record(rule, lambda sound: {**sound, "x": value})


BLOB = {"$type": "blob", "ref": Link(cid_of(b"b", 0x55)), "mimeType": "image/png", "size": 7}

record("record-map", [{"$type": "com.example.note"}])("record_is_a_list")
record("record-map", "com.example.note")("record_is_a_text")
record("record-map", Raw(b"\xf6"))("record_is_null")
record("cbor-truncated", Raw(b""))("record_is_empty")
record("record-type-missing", {"n": 1})("record_without_type")
record("record-type", {"$type": ""})("record_type_empty")
record("record-type", {"$type": 5})("record_type_number")
record("record-type", {"$type": None})("record_type_null")
with_field("record-float", 1.5)("record_float")
with_field("record-float", 123.0)("record_whole_float")
with_field("record-float", [{"deep": [-0.0]}])("record_float_deep_down")
with_field("cbor-float-special", Raw(b"\xfb\x7f\xf8\0\0\0\0\0\0"))("record_nan")
with_field("cbor-float-special", Raw(b"\xfb\xff\xf0\0\0\0\0\0\0"))("record_infinity")
with_field("cbor-float-width", Raw(b"\xfa\x3f\x80\0\0"))("record_float_of_32_bits")
with_field("record-int", 1 << 63)("record_int_beyond_64_bits")
with_field("record-int", [(1 << 64) - 1])("record_int_unsigned_max")
with_field("record-int", -(1 << 63) - 1)("record_int_below_64_bits")
with_field("record-blob", {**BLOB, "size": 0})("blob_size_zero")
with_field("record-blob", {**BLOB, "size": -7})("blob_size_negative")
with_field("record-blob", {**BLOB, "size": "7"})("blob_size_text")
with_field("record-blob", {**BLOB, "ref": Link(cid_of(b"b"))})("blob_ref_dag_cbor")
with_field("record-blob", {**BLOB, "ref": "bafkrei"})("blob_ref_text")
with_field("record-blob", [{name: BLOB[name] for name in BLOB if name != "mimeType"}])("blob_without_type")
with_field("record-blob", {**BLOB, "mimeType": 1})("blob_type_number")
with_field("record-link-kind", Link(cid_sha512(b"x")))("link_in_record_with_sha512")
with_field("record-link-kind", Link(cid_of(b"x", 0x70)))("link_in_record_dag_pb")
with_field("record-link-kind", Link(cid_of(b"x")[2:]))("link_in_record_version_0")
with_field("record-reserved", {"$link": "x"})("record_spells_link")
with_field("record-reserved", {"$bytes": "x"})("record_spells_bytes")
with_field("cbor-link", Raw(b"\xd8\x2a\x58\x26\0" + cid_of(b"x") + b"!"))("link_in_record_with_junk")
with_field("cbor-link", Raw(b"\xd8\x2a" + emit(cid_of(b"x"))))("link_in_record_without_zero")
with_field("cbor-not-minimal", Raw(b"\x18\x05"))("record_int_spelled_long")
with_field("cbor-not-minimal", Raw(b"\x78\x01a"))("record_text_head_long")
with_field("cbor-indefinite", Raw(b"\x7f\x61a\xff"))("record_text_indefinite")
with_field("cbor-utf8", Raw(b"\x62\xc3\x28"))("record_text_not_utf8")
with_field("cbor-utf8", Raw(b"\x63\xed\xa0\x80"))("record_text_surrogate")
with_field("cbor-tag", Raw(b"\xc1\x01"))("record_tagged_date")
with_field("cbor-simple", Raw(b"\xf7"))("record_undefined")
with_field("cbor-malformed", Raw(b"\x1c"))("record_reserved_head")
with_field("cbor-map-key", Pairs([(1, 2)]))("record_map_key_number")
with_field("cbor-map-key", Pairs([(b"k", 2)]))("record_map_key_bytes")
with_field("cbor-nesting", Raw(b"\x81" * 5000 + b"\x80"))("record_nested_5000_times")
record("cbor-map-order", lambda sound: Pairs([*sorted(sound.items(), reverse=True)]))("record_out_of_order")
record("cbor-duplicate-key", Pairs([("a", 1), ("a", 1), ("$type", "com.example.note")]))("record_key_twice")
record("cbor-trailing", lambda sound: Raw(emit(sound) + b"\xf6"))("record_with_trailing_byte")
record("cbor-truncated", lambda sound: Raw(emit(sound)[:-1]))("record_cut_short")
record("record-size", {"$type": "com.example.note", "x": "x" * (2 << 20)})("record_of_two_megabytes")
with_field("cbor-containers", Raw(b"\x9a\x00\x04\x00\x00" + b"\x80" * (1 << 18)))(
    "record_of_many_small_lists"
)
