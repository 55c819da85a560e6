"""Targets: values, texts, identifiers."""

from typing import Any

from crooked import Repo, did_key, emit

from fuzz.target import attempt, target
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor, dag_json, dag_pb, lenient
from mstfs.errors import MstfsError, SyntaxRuleError
from mstfs.limits import NAME_BYTES
from mstfs.repo import commit as commits
from mstfs.repo import record, record_text, signing, syntax, tid, verify_commit, verify_record
from mstfs.tree.unixfs.builder import build_symlink
from mstfs.view.names import CONTROL, Names

VALUES: list[Any] = [
    *list(Repo().records.values())[:3],
    {
        "$type": "a.b.c",
        "n": -(1 << 63),
        "m": [1.5, True, None, {"deep": [[], {}, b"\0\xff"]}],
        "z": "\U0001f984",
    },
    [[[]], 23, 24, 255, 256, 65535, 65536, 1 << 32, (1 << 64) - 1, -(1 << 64)],
    {"": 0, "/": {"bytes": "x"}, "$link": "x", "$bytes": "AA"},
]


def blocks() -> list[bytes]:
    """Blocks of values of every kind."""
    return [emit(value) for value in VALUES]


@target(blocks)
def cbor(data: bytes) -> None:
    """The decoders of DAG-CBOR agree about what is canonical, and the encoder gives the same block back."""
    value = attempt(dag_cbor.decode, data)
    accepted = value is not None or data == b"\xf6"
    reading = lenient.read(data)
    if not accepted:
        attempt(dag_cbor.decode_node, data)
        attempt(dag_cbor.decode_json_form, data)
        assert attempt(dag_cbor.strict_check, data) is None
        return
    assert dag_cbor.encode(value) == data
    _agrees(data)
    assert not reading.departures
    assert reading.value == value
    node = attempt(dag_cbor.decode_node, data)
    assert node is not None or data == b"\xf6" or b"\xfb\x80" in data
    attempt(dag_cbor.decode_json_form, data)


def _agrees(block: bytes) -> None:
    # The reference implementation wants to know the codec and the hash function of every link.
    if b"\xd8\x2a" not in block:
        dag_cbor.strict_check(block)


@target(blocks)
def record_block(data: bytes) -> None:
    """What is shown of a record reads back as the same block, unless it is said to be unfaithful."""
    text = attempt(record.render, data)
    flaws = list(record.check_value(data))
    found = list(verify_record.defects(data))
    # A big record may be sound and its text too long, a hundred links deep.
    assert not flaws or found, "the verifier says at least what the record module says"
    assert not verify_record.is_plain(data) or not found
    if text is None:
        return
    assert text == record.render_in_python(data)
    assert text == text.decode().encode()
    if record.is_faithful(data) and isinstance(dag_cbor.decode(data), dict):
        blob = {flaw.rule for flaw in flaws} & {"record-type", "record-blob"}
        again = attempt(record.parse, text)
        assert again == data or blob, "the text says something else"


def texts() -> list[bytes]:
    """Records as JSON."""
    odd = [
        b'{"a": 123.0, "b": 12e1, "c": -0, "\\ud83e\\udd84": "\\u0000"}',
        b'{"x": [1, 2.50e1, {"$bytes": "AA=="}]}',
    ]
    return [record.render(block) for block in blocks()[:4]] + odd


@target(texts)
def record_json(data: bytes) -> None:
    """The fast reader of records and the one that explains agree, and what they give is canonical."""
    block = attempt(record.parse, data)
    if block is None:
        return
    assert dag_cbor.encode(record_text.read(data.decode())) == block
    _agrees(block)
    again = record.render(block)
    if record.is_faithful(block):
        assert record.parse(again) == block


def dag_texts() -> list[bytes]:
    """Values as DAG-JSON."""
    return [dag_json.render(block) for block in blocks()]


@target(dag_texts)
def dag_json_text(data: bytes) -> None:
    """A text of DAG-JSON stands for one block, whose own text stands for it as well."""
    block = attempt(dag_json.parse, data)
    if block is not None:
        assert dag_json.parse(dag_json.render(block)) == block


@target(blocks)
def dag_json_block(data: bytes) -> None:
    """Every block that can be shown as DAG-JSON comes back."""
    text = attempt(dag_json.render, data)
    if text is not None:
        assert dag_json.parse(text) == data


def commit_blocks() -> list[bytes]:
    """Commits of versions 2 and 3."""
    repo = Repo()
    block = repo.build()[1][0].data
    old = {**repo.commit, "version": 2, "data": cids.Link(repo.build()[0]), "sig": bytes(64)}
    del old["rev"]
    return [block, dag_cbor.encode(old), dag_cbor.encode({**old, "more": 1})]


@target(commit_blocks)
def commit(data: bytes) -> None:
    """A commit that is read is written the same; the verifier has a word to say about every other block."""
    cid = cids.for_block(data)
    found = verify_commit.examine_root(cid, data, None, allow_unsigned=False)
    key = signing.parse_public_key(did_key())
    verify_commit.examine_root(cid, data, key, allow_unsigned=True)
    value = attempt(commits.decode, data)
    if value is None:
        assert found.defects or found.commit is None
        return
    list(value.defects())
    assert commits.encode(value) == data
    assert found.data == value.data


def pb_blocks() -> list[bytes]:
    """Blocks of DAG-PB: a directory, a shard, files with and without links, a symbolic link."""
    one = dag_pb.PBLink(cids.for_block(b"one", cids.RAW), b"one", 3)
    two = dag_pb.PBLink(cids.for_block(b"two", cids.DAG_PB)[2:], b"", None)
    messages = [
        dag_pb.UnixfsData(dag_pb.KIND_DIRECTORY, mode=0o755, mtime=dag_pb.Mtime(-1, 5)),
        dag_pb.UnixfsData(dag_pb.KIND_FILE, b"own", 10, (3, 4)),
        dag_pb.UnixfsData(dag_pb.KIND_SHARD, b"\x05", hash_type=0x22, fanout=256),
    ]
    nodes = [dag_pb.PBNode((one, two), dag_pb.encode_data(message)) for message in messages]
    nodes[2] = nodes[2]._replace(links=(one._replace(name=b"00one"), two._replace(name=b"02")))
    return [dag_pb.encode(node) for node in nodes] + [block for _, block in build_symlink(b"../elsewhere")]


@target(pb_blocks)
def pb(data: bytes) -> None:
    """A DAG-PB block that is read is written the same, but for the place of its data."""
    node = attempt(dag_pb.decode, data)
    if node is not None:
        again = dag_pb.encode(node)
        assert dag_pb.decode(again) == node
        assert len(again) == len(data) or b"\x80\x00" in data


@target(lambda: [dag_pb.decode(block).data or b"" for block in pb_blocks()])
def unixfs_data(data: bytes) -> None:
    """A UnixFS message says the same once it is written again."""
    message = attempt(dag_pb.decode_data, data)
    if message is not None:
        assert dag_pb.decode_data(dag_pb.encode_data(message)) == message


# --- identifiers --------------------------------------------------------------------------------


@target(lambda: [b"3lcq5mkzpdc2k", b"2222222222222", b"jzzzzzzzzzzzz", b"zzzzzzzzzzzzz"])
def timestamp(data: bytes) -> None:
    """A TID is a number of 63 bits, and sorts like it."""
    text = data.decode("utf-8", "surrogateescape")
    moment = attempt(tid.decode, text)
    assert (moment is not None) == tid.is_valid(text)
    if moment is not None:
        # The syntax leaves room for one bit more than a time has.
        again = attempt(tid.encode, *moment)
        assert again == (text if moment[0] <= tid.MICROSECONDS_MAX else None)
        later = attempt(tid.next_after, text, 0, 7)
        assert later is None or later > text


def _keys() -> list[bytes]:
    return [
        b"com.example.note/self",
        b"app.bsky.feed.post/" + b"k" * 512,
        b"a/b/c",
        b"%-x/..",
        b".mstfs/\0",
        b"a" * 600,
    ]


@target(_keys)
def names(data: bytes) -> None:
    """Every key has a path of names that a folder can have, and no other key has it."""
    for form in (Names(b".json"), Names(b".json", nested=True), Names(b"", nested=True)):
        path = form.path_of(data)
        assert form.key_of(path) == data
        for name in path:
            assert 0 < len(name) <= NAME_BYTES
            assert name not in (b".", b"..")
            assert b"/" not in name
            assert b"\0" not in name
        assert path[0] != CONTROL
        for depth in range(1, len(path)):
            assert form.can_hold_keys(path[:depth])
            assert data.startswith(form.prefix_of(path[:depth]))
        given = tuple(part for part in data.split(b"/") if part)
        key = form.key_of(given)
        assert key is None or form.path_of(key) == given
        if given:
            form.can_hold_keys(given)
            form.is_whole(given)


@target(_keys)
def key_syntax(data: bytes) -> None:
    """A key is of valid syntax if and only if no rule is named that it breaks."""
    refused = False
    try:
        syntax.check_key(data)
    except SyntaxRuleError:
        refused = True
    assert refused != syntax.is_key(data)
    text = data.decode("utf-8", "surrogateescape")
    rules = ((syntax.is_nsid, syntax.check_nsid), (syntax.is_record_key, syntax.check_record_key))
    for test, check in (*rules, (syntax.is_did, syntax.check_did)):
        try:
            check(text)
        except SyntaxRuleError:
            assert not test(text)
        else:
            assert test(text)


def _cid_texts() -> list[bytes]:
    found = [
        cids.for_block(b"x", codec, code) for codec in (0x55, 0x71) for code in (0x12, 0x1E, 0x13, 0xB220)
    ]
    spelled = [cids.to_text(cid).encode() for cid in [*found, found[0][2:]]]
    return [*spelled, *found, b"zQm", b"f0155", b"\xf0\x9f\x9a\x80" * 5]


@target(_cid_texts)
def cid(data: bytes) -> None:
    """A CID in any spelling has one binary form, which has one canonical text."""
    text = data.decode("utf-8", "surrogateescape")
    found = attempt(cids.parse, text)
    strict = attempt(cids.from_base32, text)
    assert strict is None or strict == found
    if found is not None:
        assert cids.parse(cids.to_text(found)) == found
    try:
        cids.check(data)
    except MstfsError:
        attempt(cids.multihash_of, data)
        attempt(cids.codec_of, data)
        return
    assert cids.split(data + b"more", 0) == len(data)
    assert cids.multihash_of(data) in data
    code, digest = cids.hash_of(data)
    assert digest == b"" or data.endswith(digest)
    assert cids.identity_data(data) == (digest if code == cids.IDENTITY else None)
    attempt(cids.matches, data, b"x")
    assert cids.parse(cids.to_text(data)) == data


def _key_files() -> list[bytes]:
    key = signing.signing_key("p256", bytes(31) + b"\x07")
    texts = [signing.to_multikey(key), "k256:" + "07" * 32, "p256:" + "f" * 64, did_key(), did_key()[8:]]
    return [text.encode() for text in texts]


@target(_key_files, weight=20)
def signing_key(data: bytes) -> None:
    """Key files and public keys are read or refused, and a refusal never spells a secret."""
    key = attempt(signing.parse_signing_key, data)
    if key is not None:
        public = signing.parse_public_key(key.did_key)
        signing.verify_key(public, data, key.sign(data))
    public_key = attempt(signing.parse_public_key, data.decode("utf-8", "surrogateescape"))
    if public_key is not None:
        attempt(signing.verify_key, public_key, data, data[:64])
