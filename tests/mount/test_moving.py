"""Names: folders, renames of every kind to every kind, and what those see who have a file open."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mount.mounting import (
    Mount,
    files_below,
    note_text,
    refused,
    run,
    write_record,
)

PROFILE = "app.bsky.actor.profile/self.json"


@pytest.fixture(scope="module")
def mount(module_car: Path) -> Iterator[Mount]:
    with Mount(module_car) as mounted:
        yield mounted


@pytest.fixture
def collection(mount: Mount, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A new, empty collection of the test's own, gone afterwards."""
    name = request.node.name.removeprefix("test_").replace("_", "-").split("[")[0][:60].strip("-")
    folder = mount / f"org.example.{name}.x"
    folder.mkdir()
    yield folder
    run("rm", "-r", folder)
    assert [line for line in mount.staged() if folder.name in line] == []


@pytest.mark.parametrize("kind", ["record", "staged", "draft", "scratch", "big scratch"])
def test_a_reader_keeps_what_it_saw_when_the_name_is_replaced(
    mount: Mount, collection: Path, kind: str
) -> None:
    path = collection / ("scratch" if "scratch" in kind else "a.json")
    if kind == "record":
        path = mount / PROFILE
        old = path.read_bytes()
    else:
        old = {"staged": note_text(collection.name), "big scratch": os.urandom(300_000)}.get(kind, b"{ old")
        try:
            path.write_bytes(old)
        except OSError:
            assert kind == "draft"
    new = note_text(collection.name, 2)
    (collection / "temporary").write_bytes(new)
    with path.open("rb", buffering=0) as reader:
        first = reader.read(3)
        (collection / "temporary").rename(path)
        assert path.read_bytes() == new
        assert first + reader.read() == old
        assert os.pread(reader.fileno(), 1 << 20, 0) == old
        assert os.fstat(reader.fileno()).st_size == len(old)
        assert path.read_bytes() == new
    assert path.read_bytes() == new
    if kind == "record":
        path.write_bytes(old)


def test_a_writer_whose_name_is_replaced_loses_the_name(mount: Mount, collection: Path) -> None:
    path = collection / "a.json"
    path.write_bytes(note_text(collection.name))
    new = note_text(collection.name, 2)
    (collection / "temporary").write_bytes(new)
    with path.open("r+b", buffering=0) as writer:
        (collection / "temporary").rename(path)
        writer.write(b"this goes nowhere")
        os.fsync(writer.fileno())
    assert path.read_bytes() == new


def test_a_writer_whose_file_is_renamed_goes_on_there(mount: Mount, collection: Path) -> None:
    text = note_text(collection.name, 12345)
    with (collection / "temporary").open("wb", buffering=0) as writer:
        writer.write(text[:10])
        (collection / "temporary").rename(collection / "a.json")
        writer.write(text[10:])
        (collection / "a.json").rename(collection / "b.json")
    assert (collection / "b.json").read_bytes() == text
    assert os.listdir(collection) == ["b.json"]
    assert mount.staged() == [f"A {collection.name}/b"]


def test_symbolic_links_are_scratch(mount: Mount, collection: Path) -> None:
    text = write_record(collection / "a.json")
    (collection / "link").symlink_to("a.json")
    (collection / "link").rename(collection / "moved")
    assert os.readlink(collection / "moved") == "a.json"
    assert (collection / "moved").read_bytes() == text
    with refused(errno.EPERM):
        (collection / "moved").rename(collection / "b.json")
    assert (collection / "moved").lstat().st_size == len("a.json")
    run("ln", "-sf", "nowhere", collection / "moved")
    assert os.readlink(collection / "moved") == "nowhere"
    assert mount.staged() == [f"A {collection.name}/a"]


def test_folders(mount: Mount, collection: Path) -> None:
    (collection / "inner").mkdir()
    with refused(errno.EEXIST):
        (collection / "inner").mkdir()
    (collection / "inner/file").write_text("x")
    with refused(errno.ENOTEMPTY):
        (collection / "inner").rmdir()
    with refused(errno.EISDIR):
        (collection / "inner").unlink()
    with refused(errno.ENOTDIR):
        (collection / "inner/file").rmdir()
    with refused(errno.ENOTEMPTY):
        (mount / "app.bsky.feed.post").rmdir()
    (collection / "empty").mkdir()
    with refused(errno.ENOTEMPTY):
        (collection / "empty").rename(collection / "inner")
    (collection / "inner").rename(collection / "empty")
    assert (collection / "empty/file").read_text() == "x"
    with refused(errno.EINVAL):
        (collection / "empty").rename(collection / "empty/below")
    (collection / "plain").write_text("x")
    with refused(errno.ENOTDIR):
        (collection / "empty").rename(collection / "plain")
    with refused(errno.EISDIR):
        (collection / "plain").rename(collection / "empty")
    (collection / "plain").unlink()
    (collection / "empty/file").unlink()
    (collection / "empty").rmdir()
    assert os.listdir(collection) == []
    with refused(errno.ENOENT):
        (collection / "empty").rmdir()


def test_names_that_begin_like_the_control_folder_are_plain(mount: Mount) -> None:
    for name in (".mstfs-old", ".mstfsrc"):
        folder = mount / name
        folder.mkdir()
        (folder / "x").write_text("x")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755
        (folder / "x").rename(mount / f"{name}.txt")
        folder.rename(mount / f"{name}.moved")
        assert (mount / f"{name}.txt").read_text() == "x"
        (mount / f"{name}.moved").rmdir()
        (mount / f"{name}.txt").unlink()


def test_records_move(mount: Mount, collection: Path) -> None:
    text = write_record(collection / "a.json")
    run("mv", collection / "a.json", collection / "b.json")
    assert mount.staged() == [f"A {collection.name}/b"]
    run("mv", collection / "b.json", collection / "scratch")
    assert (mount.staged(), (collection / "scratch").read_bytes()) == ([], text)
    run("mv", collection / "scratch", collection / "c.json")
    assert (mount.staged(), (collection / "c.json").read_bytes()) == ([f"A {collection.name}/c"], text)
    (collection / "text").write_text("no record")
    run("mv", collection / "text", collection / "c.json", code=1)
    with refused(errno.EINVAL):
        (collection / "text").rename(collection / "d.json")
    assert "cannot become" in mount.log()
    assert (collection / "c.json").read_bytes() == text
    assert (collection / "text").read_text() == "no record"
    assert sorted(os.listdir(collection)) == ["c.json", "text"]


def test_published_records_move(car: Path) -> None:
    with Mount(car) as mount:
        before = (mount / PROFILE).read_bytes()
        modified = (mount / PROFILE).stat().st_mtime_ns
        run("mv", mount / PROFILE, mount / "app.bsky.actor.profile/other.json")
        assert mount.staged() == ["A app.bsky.actor.profile/other", "D app.bsky.actor.profile/self"]
        run("mv", mount / "app.bsky.actor.profile/other.json", mount / PROFILE)
        assert mount.staged() == []
        assert (mount / PROFILE).read_bytes() == before
        assert (mount / PROFILE).stat().st_mtime_ns == modified
        run("mv", mount / PROFILE, mount / "elsewhere")
        assert mount.staged() == ["D app.bsky.actor.profile/self"]
        assert (mount / "elsewhere").read_bytes() == before
        mount.sync()
        run("mv", mount / "elsewhere", mount / PROFILE)
        assert mount.sync()["created"] == 1
        assert (mount / PROFILE).read_bytes() == before


def test_a_collection_moves_with_all_it_holds(car: Path) -> None:
    with Mount(car) as mount:
        posts = {path.name: path.read_bytes() for path in (mount / "app.bsky.feed.post").iterdir()}
        write_record(mount / "app.bsky.feed.post/new.json")
        (mount / "app.bsky.feed.post/notes.txt").write_text("scratch")
        (mount / "app.bsky.feed.post/sub").mkdir()
        draft = mount / "app.bsky.feed.post/draft.json"
        with refused(errno.EINVAL):
            draft.write_text("{")
        run("mv", mount / "app.bsky.feed.post", mount / "org.example.moved")
        moved = files_below(mount / "org.example.moved")
        assert moved.pop("new.json") == note_text("app.bsky.feed.post")
        assert (moved.pop("notes.txt"), moved.pop("draft.json")) == (b"scratch", b"{")
        assert moved == posts
        assert not (mount / "app.bsky.feed.post").exists()
        assert (mount / "org.example.moved/sub").is_dir()
        answer = mount.sync(code=1)
        assert (answer["created"], answer["deleted"]) == (len(posts) + 1, len(posts))
        assert [draft["path"] for draft in answer["drafts"]] == ["org.example.moved/draft.json"]
        run("rm", "-r", mount / "org.example.moved")
        assert mount.sync()["deleted"] == len(posts) + 1
        assert not (mount / "org.example.moved").exists()
        run("mv", mount / "app.bsky.feed.like", mount / "set aside")
        assert mount.sync()["deleted"] == len(os.listdir(mount / "set aside"))
        run("mv", mount / "set aside", mount / "app.bsky.feed.like")
        assert mount.sync()["created"] == len(os.listdir(mount / "app.bsky.feed.like"))


def test_a_folder_moves_below_those_who_write_in_it(mount: Mount, collection: Path) -> None:
    aside = mount / "aside"
    aside.mkdir()
    text = note_text(collection.name, 77)
    (aside / "a.json").write_bytes(text)
    with (aside / "a.json").open("r+b", buffering=0) as writer, (aside / "a.json").open("rb") as reader:
        os.pwrite(writer.fileno(), b"{", 0)
        os.fsync(writer.fileno())
        aside.rename(collection / "deeper")
        (collection / "deeper/a.json").rename(collection / "a.json")
        assert os.pread(writer.fileno(), 1000, 0) == text
        assert reader.read() == text
    assert (collection / "a.json").read_bytes() == text
    (collection / "deeper").rmdir()
    (mount / "aside2").mkdir()
    (mount / "aside2/b.json").write_bytes(text)
    with (mount / "aside2/b.json").open("r+b", buffering=0) as writer:
        os.pwrite(writer.fileno(), b"{", 0)
        os.fsync(writer.fileno())
        (collection / "a.json").unlink()
        (mount / "aside2").rename(collection)
        assert os.pread(writer.fileno(), 1000, 0) == text
        os.pwrite(writer.fileno(), b"\n", len(text))
    assert (collection / "b.json").read_bytes() == text + b"\n"
    assert mount.staged() == [f"A {collection.name}/b"]


def test_no_replace(mount: Mount, collection: Path) -> None:
    write_record(collection / "a.json")
    text = write_record(collection / "b.json", 2)
    run("mv", "-n", collection / "a.json", collection / "b.json", code=None)
    assert (collection / "b.json").read_bytes() == text
    assert sorted(os.listdir(collection)) == ["a.json", "b.json"]


def test_keys_that_are_none_are_scratch(mount: Mount, collection: Path) -> None:
    names = ["a b.json", "ü.json", "a.JSON", ".json", "%41.json", "a+b.json"]
    for name in names:
        (collection / name).write_bytes(note_text(collection.name))
        assert mount.state(f"{collection.name}/{name}")["state"] == "scratch"
    (mount / "loose.json").write_text("not in a collection")
    assert mount.staged() == []
    assert sorted(os.listdir(collection)) == sorted(names)
    (mount / "loose.json").unlink()
