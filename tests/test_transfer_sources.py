"""Folders, tars and zips: what is in them arrives, what cannot be taken is named, nothing leaves the tree."""

import bz2
import gzip
import io
import lzma
import os
import socket
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from transfers import content, copied, fill, member, tar_of

from mstfs.archive import Archive
from mstfs.errors import FormatError, LimitExceeded, MstfsError, Refused
from mstfs.transfer.archives import ArchiveSource
from mstfs.transfer.folders import FolderSource
from mstfs.transfer.items import Item, Source
from mstfs.transfer.sources import open_source, stream_source
from mstfs.transfer.tars import TarSource
from mstfs.transfer.zips import ZipSource

FILES = {
    "zarr.json": b"{}",
    "a/b/c": b"deep",
    "a/b-c": b"beside",
    "a/b.c": b"dot",
    "empty": b"",
    "large": bytes(range(256)) * 3000,
    "with blank/\u00fcml\u00e4ut": b"text",
    ".hidden/x": b"not left out",
}


def read(item: Item) -> bytes:
    opened = item.open()
    try:
        data = opened.read(0, opened.size)
        opened.finish()
        return data
    finally:
        opened.close()


def taken(source: Source) -> dict[str, tuple[str, bytes]]:
    return {os.fsdecode(item.key): (item.kind, read(item)) for item in source.items()}


def keys(source: Source) -> list[bytes]:
    return [item.key for item in source.items()]


# --- folders ----------------------------------------------------------------------------------


def test_a_folder_in_the_order_of_keys(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", FILES)
    (folder / "a/empty/inner").mkdir(parents=True)
    (folder / "a/link").symlink_to("b/c")
    (folder / "a/dangling").symlink_to("/nowhere")
    source = FolderSource(folder)
    assert taken(source) == {
        **{name: ("blob", data) for name, data in FILES.items()},
        "a/empty/inner": ("folder", b""),
        "a/link": ("symlink", b"b/c"),
        "a/dangling": ("symlink", b"/nowhere"),
    }
    assert keys(source) == sorted(keys(source))
    plan = list(source.plan())
    assert [planned.key for planned in plan] == keys(source)
    sizes = {os.fsdecode(planned.key): planned.size for planned in plan if planned.kind == "blob"}
    assert sizes == {name: len(data) for name, data in FILES.items()}


def test_names_that_are_no_text_are_kept(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"1")
    assert keys(FolderSource(tmp_path)) == [b"caf\xe9"]
    copied(FolderSource(tmp_path), tmp_path.with_suffix(".car"), "unixfs")
    assert content(tmp_path.with_suffix(".car")) == {"caf\udce9": b"1"}


def test_what_is_no_file_is_named_before_anything_is_written(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", FILES)
    os.mkfifo(folder / "a/pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "a/sock"))
        with pytest.raises(Refused, match="'a/pipe' is a named pipe, 'a/sock' is a socket"):
            copied(FolderSource(folder), tmp_path / "new.car", "unixfs")
    with pytest.raises(Refused, match="'a/pipe' is a named pipe"):
        keys(FolderSource(folder))
    assert not (tmp_path / "new.car").exists()


def test_links_are_followed_where_that_is_asked_for(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {"file": b"1"})
    outside = fill(tmp_path / "outside", {"x": b"2"})
    (folder / "link").symlink_to("file")
    (folder / "other").symlink_to(outside)
    assert taken(FolderSource(folder, follow=True)) == {
        "file": ("blob", b"1"),
        "link": ("blob", b"1"),
        "other/x": ("blob", b"2"),
    }
    (folder / "dangling").symlink_to("nowhere")
    with pytest.raises(Refused, match="'dangling' is a symbolic link that leads nowhere"):
        list(FolderSource(folder, follow=True).plan())
    (folder / "dangling").unlink()
    (folder / "up").symlink_to("..")
    with pytest.raises(Refused, match=r"'up/in' is|'up' is.*folder that it lies in"):
        list(FolderSource(folder, follow=True).plan())


@pytest.mark.parametrize("size", [0, 9, 20, 3000])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    (item,) = FolderSource(tmp_path).items()
    opened = item.open()
    opened.read(0, 5)
    path.write_bytes(b"y" * size)
    with pytest.raises(Refused, match="file' changed while it was read"):
        opened.finish()
    opened.close()


def test_a_file_that_is_cut_while_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path / "in", {"file": b"x" * 3_000_000})
    real = os.pread
    calls = 0

    def cutting(fd: int, length: int, offset: int) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.truncate(folder / "file", 300_000)
        return real(fd, length, offset)

    monkeypatch.setattr(os, "pread", cutting)
    with pytest.raises(Refused, match=r"'file'.*(shorter|cut|changed) while it was"):
        copied(FolderSource(folder), tmp_path / "new.car", "unixfs")
    assert os.listdir(tmp_path) == ["in"]


def test_a_link_that_takes_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"1")
    folder = fill(tmp_path / "in", {"file": b"1"})
    (item,) = FolderSource(folder).items()
    (folder / "file").unlink()
    (folder / "file").symlink_to("../secret")
    with pytest.raises(OSError, match="symbolic links"):
        item.open()


# --- folders and UnixFS -----------------------------------------------------------------------


def test_a_folder_as_unixfs_is_all_there(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", FILES)
    (folder / "a/empty/inner").mkdir(parents=True)
    (folder / "a/link").symlink_to("b/c")
    done = copied(FolderSource(folder), tmp_path / "new.car", "unixfs")
    assert (done.keys, done.folders, done.left_out) == (len(FILES) + 1, 1, 0)
    with Archive.open(tmp_path / "new.car") as archive:
        source = ArchiveSource(archive.kind, archive.workspace.staged, archive.workspace.values)
        assert taken(source) == taken(FolderSource(folder))


def test_permissions_and_times_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {"bin/tool": b"#!", "large": b"x" * 600_000})
    (folder / "empty").mkdir(mode=0o700)
    (folder / "bin/tool").chmod(0o751)
    for number, name in enumerate(("bin/tool", "large", "empty", "bin", ".")):
        os.utime(folder / name, ns=(0, 1_600_000_000_000_000_123 + number))
    plain = copied(FolderSource(folder), tmp_path / "plain.car", "unixfs")
    source = FolderSource(folder, folders=True)
    done = copied(source, tmp_path / "new.car", "unixfs", preserve=True)
    assert done.root != plain.root
    found: dict[bytes, Any] = {item.key: (item.mode, item.mtime_ns) for item in source.items()}
    with Archive.open(tmp_path / "new.car") as archive:
        tree, values = archive.workspace.staged, archive.workspace.values
        again = ArchiveSource(archive.kind, tree, values, folders=True)
        assert {item.key: (item.mode, item.mtime_ns) for item in again.items()} == found
        assert set(found) == {b"", b"bin", b"bin/tool", b"large", b"empty"}
        more = copied(again, tmp_path / "again.car", "unixfs", preserve=True)
    assert more.root == done.root


# --- tars -------------------------------------------------------------------------------------


def tar_source(data: bytes) -> TarSource:
    return TarSource(io.BytesIO(data), "x.tar")


def packed(folder: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(folder, arcname=".")
    return stream.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_tar_holds_what_the_folder_holds(tmp_path: Path, pack: Any) -> None:
    folder = fill(tmp_path / "in", FILES)
    (folder / "a/link").symlink_to("b/c")
    (folder / "void").mkdir()
    data = pack(packed(folder))
    one = copied(FolderSource(folder), tmp_path / "folder.car", "unixfs")
    two = copied(tar_source(data), tmp_path / "tar.car", "unixfs")
    assert (one.root, one.keys, one.folders) == (two.root, two.keys, two.folders)
    (tmp_path / "x.tar").write_bytes(data)
    # Out of a pipe, which gives it in small pieces.
    command = ["dd", f"if={tmp_path / 'x.tar'}", "bs=7001", "status=none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        three = copied(stream_source(cast(BinaryIO, process.stdout)), tmp_path / "pipe.car", "unixfs")
    assert three.root == one.root


@pytest.mark.parametrize("style", ["gnu", "pax", "ustar", "v7"])
def test_tars_of_gnu_tar(tmp_path: Path, style: str) -> None:
    long = {} if style in ("ustar", "v7") else {"d" * 120 + "/" + "e" * 200: b"long"}
    text = {name: data for name, data in FILES.items() if style != "v7" or name.isascii()}
    folder = fill(tmp_path / "in", {**text, **long})
    with (folder / "sparse").open("wb") as file:
        file.truncate(400_000)
        file.seek(200_000)
        file.write(b"island")
    path = tmp_path / "x.tar"
    sparse = ["--sparse"] if style in ("gnu", "pax") else []
    subprocess.run(["tar", f"--format={style}", *sparse, "-C", folder, "-cf", path, "."], check=True)
    one = copied(FolderSource(folder), tmp_path / "folder.car", "unixfs")
    with open_source(path) as source:
        assert copied(source, tmp_path / "tar.car", "unixfs").root == one.root


def test_hard_links_and_names_that_come_twice(tmp_path: Path) -> None:
    data = tar_of(
        [
            member("./a", b"first"),
            member("b", kind=tarfile.LNKTYPE, link="./a"),
            member("a", b"second"),
            member("s", kind=tarfile.SYMTYPE, link="a"),
            member("t", kind=tarfile.LNKTYPE, link="s"),
            member("d/", kind=tarfile.DIRTYPE),
            member("d", b"a file after all"),
            member("e//f/./g", b"tidied"),
        ]
    )
    copied(tar_source(data), tmp_path / "new.car", "unixfs")
    found = content(tmp_path / "new.car")
    assert found == {
        "a": b"second", "b": b"first", "s": b"a", "t": b"a", "d": b"a file after all", "e/f/g": b"tidied",
    }  # fmt: skip
    done = copied(tar_source(data), tmp_path / "new.car", "hamt3", encoding="raw", follow=True)
    assert content(tmp_path / "new.car") == {**found, "s": b"second", "t": b"second"}
    assert done.left_out == 1


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (member("../x"), r"'\.\./x' has '\.\.' in its path"),
        (member("a/../../x"), r"'a/\.\./\.\./x' has '\.\.'"),
        (member("a/.."), r"'a/\.\.' has '\.\.'"),
        (member("/etc/passwd"), "'/etc/passwd' has an absolute path"),
        (member("//x"), "'//x' has an absolute path"),
        (member("x", kind=tarfile.CHRTYPE), "'x' is a device"),
        (member("x", kind=tarfile.BLKTYPE), "'x' is a device"),
        (member("x", kind=tarfile.FIFOTYPE), "'x' is a named pipe"),
        (member("x", kind=b"V"), "'x' is an entry of the unknown type"),
        (member(".", b"data"), "no name"),
        (member("x", kind=tarfile.LNKTYPE, link="/etc/passwd"), "'/etc/passwd' has an absolute path"),
        (member("x", kind=tarfile.LNKTYPE, link="../y"), r"'\.\./y' has '\.\.'"),
        (member("x", kind=tarfile.LNKTYPE, link="y"), "'x': it is a hard link to something"),
        (member("x", kind=tarfile.LNKTYPE, link="x"), "'x': it is a hard link to something"),
    ],
)
def test_hostile_tars(tmp_path: Path, entry: Any, reason: str) -> None:
    data = tar_of([member("good", b"1"), entry])
    for to in ("unixfs", "hamt3"):
        with pytest.raises(Refused, match=reason):
            copied(tar_source(data), tmp_path / "new.car", to)
    assert os.listdir(tmp_path) == []


def test_a_file_and_a_folder_of_one_name(tmp_path: Path) -> None:
    data = tar_of([member("a/b", b"1"), member("a", b"2")])
    with pytest.raises(Refused, match=r"'a' is a file, and a folder too, because of 'a/b'$"):
        copied(tar_source(data), tmp_path / "new.car", "unixfs")
    copied(tar_source(data), tmp_path / "new.car", "hamt2")
    assert content(tmp_path / "new.car") == {"a": b"2", "a/b": b"1"}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_tars_that_were_cut_off(pack: Any) -> None:
    whole = pack(tar_of([member("a", os.urandom(3000)), member("b", os.urandom(3000))]))
    # Of a plain one, what is missing behind the end mark is padding.
    end = 2 * (512 + 3072) + 512 if pack is bytes else len(whole)
    for size in sorted({*range(1, end, 511), end - 1, 512, 1024, 3584, 4096}):
        with pytest.raises(FormatError, match=r"^x\.tar: "):
            taken(tar_source(whole[:size]))


def test_damaged_tars() -> None:
    whole = tar_of([member("a", b"1" * 600), member("b", b"2" * 600)])
    second = bytearray(whole)
    second[1536 + 5] ^= 1  # inside of the second header, where the module takes it for the end
    with pytest.raises(FormatError, match=r"x.tar: .*bad checksum"):
        taken(tar_source(bytes(second)))
    with pytest.raises(FormatError, match="something stands behind its end mark"):
        taken(tar_source(whole + whole))
    packed = bytearray(gzip.compress(whole))
    packed[-6] ^= 1  # the checksum at the end of gzip
    with pytest.raises(FormatError, match=r"x\.tar: .*CRC"):
        taken(tar_source(bytes(packed)))
    for junk in (b"", b"no tar at all", os.urandom(4096)):
        with pytest.raises(MstfsError, match=r"x\.tar|zip"):
            taken(tar_source(junk))


def test_headers_that_are_made_to_hurt() -> None:
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE):
        info, _ = member("././@LongLink", kind=kind)
        info.size = 1 << 33
        start = info.tobuf(tarfile.GNU_FORMAT)
        with pytest.raises(LimitExceeded, match="header of 8589934592 bytes"):
            taken(tar_source(gzip.compress(start + bytes(1 << 20))))
    backwards, _ = member("x")
    backwards.size = -1024
    with pytest.raises(FormatError, match=r"x\.tar: "):
        taken(
            tar_source(tar_of([member("a", b"1")])[:1024] + backwards.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        )


@pytest.mark.parametrize(
    ("text", "mtime_ns"),
    [
        ("1600000000.123456789", 1_600_000_000_123_456_789),
        ("-1.5", -1_500_000_000),
        ("inf", None),
        ("nan", None),
        ("1e400", None),
        ("99999999999999999999", None),
    ],
)
def test_times_in_tars(text: str, mtime_ns: int | None, tmp_path: Path) -> None:
    info, data = member("a", b"1")
    info.pax_headers = {"mtime": text}
    (item,) = tar_source(tar_of([(info, data)])).items()
    assert item.mtime_ns == mtime_ns
    copied(tar_source(tar_of([(info, data)])), tmp_path / "new.car", "unixfs", preserve=True)


def test_zstd(tmp_path: Path) -> None:
    source = tar_source(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(MstfsError, match=r"zstd|damaged"):
        taken(source)


# --- zips -------------------------------------------------------------------------------------


def zip_of(path: Path, entries: list[tuple[Any, bytes]], **more: Any) -> Path:
    with zipfile.ZipFile(path, "w", **more) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def unix(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def test_a_zip_holds_what_the_folder_holds(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", FILES)
    (folder / "a/link").symlink_to("b/c")
    (folder / "void").mkdir()
    one = copied(FolderSource(folder), tmp_path / "folder.car", "unixfs")
    entries: list[tuple[Any, bytes]] = list(FILES.items())
    entries += [(unix("a/link", 0o120777), b"b/c"), ("void/", b""), ("a/", b""), ("./", b"")]
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        path = zip_of(tmp_path / "x.zip", entries, compression=kind)
        with open_source(path) as source:
            assert isinstance(source, ZipSource)
            assert copied(source, tmp_path / "zip.car", "unixfs").root == one.root


def test_names_in_zips(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", [("caf\u00e9", b"1"), ("AAAAA", b"2"), ("BBBB", b"3")])
    data = path.read_bytes().replace(b"AAAAA", "na\u00efv".encode()).replace(b"BBBB", b"na\x8bf")
    path.write_bytes(data)
    with open_source(path) as source:
        # UTF-8, UTF-8 without saying so, and the code page of DOS.
        assert [key.decode() for key in keys(source)] == ["caf\u00e9", "na\u00efv", "na\u00eff"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("../x", r"'\.\./x' has '\.\.'"),
        ("/x", "'/x' has an absolute path"),
        (unix("x", 0o020666), "'x' is no file"),
        (unix("x", 0o010666), "'x' is no file"),
        (".", "no name"),
    ],
)
def test_hostile_zips(tmp_path: Path, entry: Any, reason: str) -> None:
    path = zip_of(tmp_path / "x.zip", [("good", b"1"), (entry, b"2")])
    with open_source(path) as source, pytest.raises(Refused, match=reason):
        copied(source, tmp_path / "new.car", "unixfs")
    assert os.listdir(tmp_path) == ["x.zip"]


def test_a_nul_in_a_zip(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", [("good_evil", b"1")])
    path.write_bytes(path.read_bytes().replace(b"good_evil", b"good\0evil"))
    with open_source(path) as source, pytest.raises(Refused, match="NUL"):
        keys(source)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_come_twice_in_a_zip(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", [("a", b"first"), ("b", b"1"), ("./a", b"second"), ("b", b"2")])
    with open_source(path) as source:
        assert taken(source) == {"a": ("blob", b"second"), "b": ("blob", b"2")}


def test_damaged_zips(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", [("a", b"content")])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"content", b"c0ntent"))
    with open_source(path) as source, pytest.raises(FormatError, match=r"x\.zip: 'a': Bad CRC-32"):
        taken(source)
    path.write_bytes(data[:-5])
    with pytest.raises(FormatError, match=r"x\.zip: "), open_source(path):
        pass
    # The flag for encryption, in both places.
    locked = bytearray(data)
    locked[6] |= 1
    locked[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(locked)
    with open_source(path) as source, pytest.raises(Refused, match="'a' is encrypted"):
        taken(source)


# --- which one it is --------------------------------------------------------------------------


def test_the_source_for_a_path(tmp_path: Path) -> None:
    with open_source(tmp_path) as source:
        assert isinstance(source, FolderSource)
    (tmp_path / "x").write_bytes(tar_of([member("a", b"1")]))
    with open_source(tmp_path / "x") as source:
        assert isinstance(source, TarSource)
    with pytest.raises(FileNotFoundError), open_source(tmp_path / "nowhere"):
        pass
    copied(FolderSource(tmp_path), tmp_path / "x.car", "unixfs")
    with pytest.raises(Refused, match=r"archive already.*mstfs convert"), open_source(tmp_path / "x.car"):
        pass
    with pytest.raises(Refused, match="zip cannot be read from a stream"):
        taken(stream_source(io.BytesIO(b"PK\3\4" + bytes(100))))
