"""Values of mounted HAMTs: large ones become UnixFS files, and a record stays a record."""

import errno
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from mount.hamts import HASH_MAP, KINDS, RAW, check, files_of, make
from mount.mounting import Mount, refused, run, shell
from mount.test_programs import vim
from mstfs.archive import Archive
from mstfs.codec import byte_string
from mstfs.codec import cid as cids
from mstfs.limits import RECORD_BYTES

CHUNK_2 = 262_144
CHUNK_3 = 1_048_576
BIG = 20 << 20

RECORD = {"deep": {"a": [True]}, "name": "Alice", "parts": [1, 2.5, None]}
RECORD_TEXT = json.dumps(RECORD, indent=2).encode() + b"\n"


def codec(mount: Mount, path: str) -> int:
    """The codec of the CID behind a file."""
    return cids.codec_of(cids.parse(mount.state(path)["cid"]))


# --- large values -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hamt3-raw", "hamt3-cbor", "hamt2", "hashmap"])
def test_a_big_file_in_pieces_and_out_of_order(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    car = make(tmp_path, kind)
    rng = random.Random(4)
    data = rng.randbytes(BIG)
    pieces = [(start, data[start : start + 700_001]) for start in range(0, BIG, 700_001)]
    with Mount(car, "--values", kind.values) as mount:
        (mount / "folder").mkdir()
        path = mount / "folder/big"
        with path.open("wb", buffering=0) as file:
            for start, piece in rng.sample(pieces, len(pieces)):
                os.pwrite(file.fileno(), b"overwritten", start)
                os.pwrite(file.fileno(), piece, start)
            assert os.fstat(file.fileno()).st_size == BIG
            # Half written, it is a draft that nobody publishes.
            assert mount.state("folder/big")["error"] == "the file was never closed"
            assert mount.staged() == []
            with path.open("rb") as reader:
                assert reader.read() == data
        assert path.read_bytes() == data
        assert mount.status()["drafts"] == []
        assert mount.staged() == ["A folder/big"]
        assert codec(mount, "folder/big") == cids.DAG_PB
        mount.sync()
        mount.remount()
        assert path.read_bytes() == data
        with path.open("r+b", buffering=0) as file:
            for _ in range(30):
                start, piece = rng.randrange(BIG), rng.randbytes(3000)
                os.pwrite(file.fileno(), piece, start)
                data = data[:start] + piece + data[start + len(piece) :]
                assert os.pread(file.fileno(), 5000, start - 1000) == data[start - 1000 : start + 4000]
            os.ftruncate(file.fileno(), BIG - 5)
            os.fsync(file.fileno())
        data = data[: BIG - 5] + data[BIG:]
        assert path.read_bytes() == data
        mount.sync()
        # What nobody reads any more takes no room in the overlay.
        assert mount.status()["scratch"]["files"] == 0
        path.rename(mount / "moved")
        os.truncate(mount / "moved", 10)
        assert (mount / "moved").read_bytes() == data[:10]
        assert codec(mount, "moved") != cids.DAG_PB
    check(car)
    assert files_of(car) == {"moved": data[:10]}


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("hamt3-raw", CHUNK_3),
        ("hamt3-cbor", CHUNK_3 - len(byte_string.head(CHUNK_3))),
        ("hamt2", CHUNK_2 - len(byte_string.head(CHUNK_2))),
        ("hashmap", CHUNK_3),
    ],
)
def test_where_values_become_unixfs_files(name: str, limit: int, tmp_path: Path) -> None:
    kind = KINDS[name]
    car = make(tmp_path, kind)
    data = random.Random(5).randbytes(limit + 1)
    with Mount(car, "--values", kind.values) as mount:
        (mount / "most").write_bytes(data[:-1])
        (mount / "more").write_bytes(data)
        assert codec(mount, "most") == cids.RAW
        assert codec(mount, "more") == cids.DAG_PB
        for name, size in (("most", limit), ("more", limit + 1)):
            assert (mount / name).stat().st_size == size
            assert (mount / name).read_bytes() == data[:size]
        mount.sync()
    check(car)
    with Mount(car, "--values", kind.values, "--large", "raw") as mount:
        (mount / "raw").write_bytes(data)
        assert codec(mount, "raw") == cids.RAW
        assert (mount / "more").read_bytes() == (mount / "raw").read_bytes() == data
    assert files_of(car) == {"most": data[:-1], "more": data, "raw": data}


def test_a_big_file_that_was_never_closed_is_a_draft(tmp_path: Path) -> None:
    car = make(tmp_path, RAW, {"big": b"published"})
    data = random.Random(6).randbytes(BIG)
    with Mount(car) as mount:
        fd = os.open(mount / "big", os.O_WRONLY | os.O_TRUNC)
        os.write(fd, data)
        mount.kill()
        with refused(errno.ENOTCONN):
            os.close(fd)
        mount.start()
        assert mount.state("big")["error"] == "the file was never closed"
        kept = (mount / "big").read_bytes()
        assert data.startswith(kept)
        assert mount.sync(code=1)["changed"] is False
        assert mount.status()["drafts"][0]["path"] == "big"
        mount.mstfs("revert", mount / "big")
        assert (mount / "big").read_bytes() == b"published"
        (mount / "big").write_bytes(data)
        assert mount.sync()["changed"] is True
    assert files_of(car) == {"big": data}


# --- records ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hamt3-cbor", "hamt2", "hashmap", "hashmap-3"])
def test_a_file_keeps_its_kind(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    car = make(tmp_path, kind, {"record": RECORD, "other": [1, 2], "blob": RECORD_TEXT})
    with Mount(car, "--values", kind.values) as mount:
        assert (mount / "record").read_bytes() == RECORD_TEXT
        run("sed", "-i", "s/Alice/Bob/", mount / "record")
        assert mount.staged() == ["M record"]
        assert json.loads((mount / "record").read_bytes()) == {**RECORD, "name": "Bob"}
        (mount / "other").write_text('{"loose":   1}')
        assert (mount / "other").read_text() == '{"loose":   1}'
        (mount / "blob").write_text('{"loose":   1}')
        mount.sync()
        assert (mount / "other").read_text() == '{\n  "loose": 1\n}\n'
        assert (mount / "blob").read_text() == '{"loose":   1}'
        check(car)
        with refused(errno.EINVAL):
            (mount / "record").write_text('{"a": 1,\n"a": 2}')
        assert mount.state("record")["state"] == "draft"
        assert mount.state("record")["error"].startswith("line 2, column 1")
        assert (mount / "record").read_text() == '{"a": 1,\n"a": 2}'
        assert mount.sync(code=1)["changed"] is False
        mount.remount()
        assert (mount / "record").read_text() == '{"a": 1,\n"a": 2}'
        (mount / "record").write_text('"a text is a record too"')
        assert mount.staged() == ["M record"]
        assert mount.status()["drafts"] == []
        with refused(errno.EFBIG):
            os.truncate(mount / "record", RECORD_BYTES + 1)
        # A name alone has no kind.
        (mount / "record").rename(mount / "renamed")
        (mount / "blob").rename(mount / "record")
        assert (mount / "renamed").read_text() == '"a text is a record too"'
    with Archive.open(car) as archive:
        assert dict(archive) == {
            "renamed": "a text is a record too", "other": {"loose": 1}, "record": b'{"loose":   1}',
        }  # fmt: skip


def test_new_files_can_be_records(tmp_path: Path) -> None:
    car = make(tmp_path, HASH_MAP, {"blob": b"bytes"})
    with Mount(car, "--new-files", "record") as mount:
        (mount / "new").write_bytes(RECORD_TEXT)
        (mount / "blob").write_bytes(b"other bytes")
        for text in ("", "{", '{"/": 1}', "1 2"):
            if text:
                with refused(errno.EINVAL):
                    (mount / "wrong").write_text(text)
            else:
                (mount / "wrong").touch()
            assert mount.state("wrong")["state"] == "draft"
            assert mount.staged() == ["M blob", "A new"]
        (mount / "wrong").unlink()
    with Archive.open(car) as archive:
        assert dict(archive) == {"new": RECORD, "blob": b"other bytes"}


def test_values_that_are_raw_bytes_are_never_records(tmp_path: Path) -> None:
    car = make(tmp_path, RAW, {"a": b"x"})
    with Mount(car, "--new-files", "record") as mount:
        (mount / "new").write_bytes(b"no record")
        assert mount.staged() == ["A new"]


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Path]:
    """A record in a mount. Whatever the test did with it, it is still one, and Bob's."""
    car = make(tmp_path, HASH_MAP, {"people/alice": RECORD})
    with Mount(car) as mount:
        yield mount / "people/alice"
        assert mount.staged() == ["M people/alice"]
        assert os.listdir(mount / "people") == ["alice"]
        mount.sync()
        assert mount.status()["scratch"]["files"] == 0
    check(car)
    with Archive.open(car) as archive:
        assert dict(archive) == {"people/alice": {**RECORD, "name": "Bob"}}


def test_a_new_file_that_replaces_a_record_becomes_one(record: Path) -> None:
    folder = record.parent
    (folder / "tmp").write_text("no JSON")
    with refused(errno.EINVAL):
        (folder / "tmp").rename(record)
    assert record.read_bytes() == RECORD_TEXT
    assert (folder / "tmp").read_text() == "no JSON"
    shell("sed s/Alice/Bob/ alice > tmp && mv tmp alice", cwd=folder)


def test_jq(record: Path) -> None:
    shell("jq '.name = \"Bob\"' alice > tmp && mv tmp alice", cwd=record.parent)


def test_rsync(record: Path, tmp_path: Path) -> None:
    (tmp_path / "alice").write_bytes(RECORD_TEXT.replace(b"Alice", b"Bob"))
    run("rsync", "-a", tmp_path / "alice", record)


@pytest.mark.parametrize("settings", ["", "set backup backupcopy=no", "set backupcopy=yes", "set nobackup"])
def test_vim(record: Path, settings: str) -> None:
    vim(record, settings, "%s/Alice/Bob/", "wq")
    record.with_name("alice~").unlink(missing_ok=True)
