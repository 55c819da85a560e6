"""Pages of large folders: what they pack, what differs from them, and how they are kept on disk."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from view_kit import Kit

from mstfs.archive import Archive, create_archive
from mstfs.view.changes import published
from mstfs.view.inodes import plain_number
from mstfs.view.namespace import Child
from mstfs.view.page_store import Kept, PageStore, place_of
from mstfs.view.pages import ASK, FILE, FOLDER, NO_TIME, PAGE, FolderPages, Page, pack

COUNT = 2 * PAGE + 7
ENTRIES = {b"a.b.c/r%04d" % number: number for number in range(COUNT)} | {b"a.b.d/self": 3}


class Counter:
    """Stands for the fast path: takes pages, and counts what a test says was handed out."""

    def __init__(self) -> None:
        self.folders: list[list[Page]] = []

    def new_folder(self) -> int:
        self.folders.append([])
        return len(self.folders) - 1

    def add_page(self, folder: int, page: Page) -> bool:
        self.folders[folder].append(page)
        return True

    def drop_folder(self, folder: int) -> None:
        self.folders[folder] = []

    def place_of(self, number: int) -> tuple[int, int] | None:
        for folder, pages in enumerate(self.folders):
            for count, page in enumerate(pages):
                for index, inode in enumerate(page.inodes):
                    if inode == number and page.handed[index]:
                        return folder, count * PAGE + index
        return None

    def take_back(self, number: int, count: int) -> int:
        place = self.place_of(number)
        if place is None:
            return count
        page = self.folders[place[0]][place[1] // PAGE]
        own = min(count, page.handed[place[1] % PAGE])
        page.handed[place[1] % PAGE] -= own
        return count - own


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    """A view of a large folder."""
    kit = Kit.at(tmp_path, ENTRIES)
    kit.view.pages.begin(Counter())
    return kit


def whole(kit: Kit, path: bytes = b"a.b.c") -> FolderPages:
    """All pages of a folder."""
    pages = kit.view.pages.of(path)
    assert pages is not None
    while not pages.complete:
        assert kit.view.pages.handout is not None
        pages.extend(kit.view.pages.handout)
    return pages


def hand_out(pages: FolderPages, name: bytes) -> int:
    """As if the kernel had been given a name from a page; its inode."""
    for page in pages.pages:
        for index in range(page.count):
            if page.name(index) == name:
                page.handed[index] += 1
                return page.inodes[index]
    raise AssertionError(name)


def test_pages_say_what_the_view_says(kit: Kit) -> None:
    pages = whole(kit)
    assert pages.count == COUNT
    assert [page.count for page in pages.pages] == [PAGE, PAGE, COUNT - 2 * PAGE]
    listed = dict(kit.view.children(b"a.b.c"))
    for index in range(pages.count):
        spot = pages.spot(index)
        name = spot.page.name(spot.at)
        inode = kit.inode(b"a.b.c/" + name)
        assert pages.attributes(spot) == kit.view.attributes(inode)
        assert pages.leaf(spot) == listed.pop(name)
        assert pages.holds(name)
    assert not listed
    assert not pages.holds(b"absent.json")
    assert kit.view.pages.differences(pages) == set()


def test_small_folders_have_none(kit: Kit) -> None:
    assert kit.view.pages.of(b"a.b.d") is None
    assert kit.view.pages.of(b"") is None
    assert kit.view.pages.of(b".mstfs") is None
    assert kit.view.pages.of(b"no/folder") is None


@given(st.data())
def test_a_page_holds_what_was_packed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    view = Kit.at(tmp_path_factory.mktemp("kit")).view
    names = data.draw(
        st.lists(st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name), unique=True)
    )
    known = [(entry.key, entry.cid) for entry in view.workspace.staged.page()]
    entries = [Child(name, *data.draw(st.sampled_from([*known, (None, None)]))) for name in names]
    entries.append(Child(b"unreadable", b"a.b.c/x", b"\x01\x71\x12\x20" + bytes(32)))
    page = Page(pack(view, b"folder/", entries))
    assert page.count == len(entries)
    for index, (name, key, cid) in enumerate(entries):
        assert page.name(index) == name
        assert page.cid(index) == (cid or b"")
        assert page.inodes[index] == plain_number(b"folder/" + name)
        assert page.mtimes[index] == NO_TIME
        if name == b"unreadable":
            assert page.types[index] == ASK
        elif key is None or cid is None:
            assert (page.types[index], page.sizes[index]) == (FOLDER, 0)
        else:
            assert (page.types[index], page.sizes[index]) == (FILE, view.values.size(key, cid))


def test_whatever_is_staged_or_published_differs(kit: Kit) -> None:
    pages = whole(kit)
    check_differs(pages)
    reader = kit.open(b"a.b.c/r0007.json")
    kit.view.pin(reader)
    assert kit.view.pages.differences(pages) == {b"r0007.json"}
    check_differs(pages)
    kit.put(b"a.b.c/r0001.json", b'{"$type": "a.b.c", "n": 1000}')
    kit.put(b"a.b.c/new.json", b'{"$type": "a.b.c", "n": 1001}')
    kit.put(b"a.b.c/notes.txt", b"scratch")
    folder = kit.inode(b"a.b.c")
    kit.writer.unlink(folder, b"r0002.json")
    kit.renamer.rename(folder, b"r0003.json", folder, b"r0004.json")
    opened = kit.open(b"a.b.c/r0005.json", write=True)
    kit.writer.write(opened, 0, b"x")
    staged = {b"r0001.json", b"new.json", b"r0002.json", b"r0003.json", b"r0004.json"}
    differences = kit.view.pages.differences(pages)
    assert differences >= staged | {b"notes.txt", b"r0005.json"}
    assert b"r0006.json" not in differences
    kit.publish()
    assert kit.view.pages.differences(pages) >= staged | {b"notes.txt", b"r0005.json"}
    assert b"r0006.json" not in kit.view.pages.differences(pages)
    check_differs(pages)


def test_where_names_nest_a_name_differs_with_all_below_it(tmp_path: Path) -> None:
    create_archive(tmp_path / "map.car", "hamt3").close()
    with Archive.open(tmp_path / "map.car", mode="write") as archive:
        kit = Kit(archive.workspace)
        kit.view.pages.begin(Counter())
        kit.mkdir(b"d")
        for number in range(40):
            kit.put(b"d/k%02d" % number, b"x")
        kit.mkdir(b"d/sub")
        kit.put(b"d/sub/a", b"x")
        # A name this long is a folder and what is in it.
        key = b"d/" + b"n" * 300
        making = archive.workspace.values.make(key, "blob", lambda offset, length: b"x"[offset:][:length], 1)
        with archive.workspace.transaction():
            archive.workspace.stage_value(key, making)
        kit.publish()
        pages = whole(kit, b"d")
        check_differs(pages)
        kit.put(b"d/k01", b"new")
        kit.unlink(b"d/k02")
        kit.put(b"d/sub/b", b"new")
        with archive.workspace.transaction():
            archive.workspace.stage_delete(key)
        kit.put(b"d/.x.swp", b"scratch")
        kit.open(b"d/k03", write=True)
        check_differs(pages)
        kit.publish()
        check_differs(pages)


def check_differs(pages: FolderPages) -> None:
    """Asked of one name, the answer is the same as for all."""
    kit_pages = pages.view.pages
    names = {pages.spot(index).page.name(pages.spot(index).at) for index in range(pages.count)}
    differences = kit_pages.differences(pages)
    differing = kit_pages.differing(pages)
    for name in names | differences | {b"absent.json", b"absent", b"%@"}:
        assert kit_pages.differs(pages, name) == (name in differences), name
        assert differing(name) == (name in differences), name


def test_the_files_among_some_entries(kit: Kit) -> None:
    """Those that the kernel knows, wherever pages begin and end, but for those that differ."""
    pages = whole(kit)
    handed = [b"r%04d.json" % number for number in range(0, COUNT, 3)]
    numbers = [hand_out(pages, name) for name in handed]

    def found(first: int, end: int) -> list[bytes]:
        files = list(pages.files(first, end))
        for file in files:
            assert file.cid == kit.view.workspace.staged.published(file.key)
            assert file.size == kit.view.values.size(file.key, file.cid)
            assert file.number == numbers[handed.index(file.key[6:] + b".json")]
        return [file.key[6:] + b".json" for file in files]

    for first in (0, 1, 5, PAGE - 1, PAGE, PAGE + 7):
        for end in (first, first + 1, first + 40, PAGE, 2 * PAGE, COUNT):
            assert found(first, min(end, COUNT)) == [
                name for name in handed if first <= int(name[1:5]) < min(end, COUNT)
            ]
    kit.put(b"a.b.c/r0003.json", b'{"$type": "a.b.c", "n": 1000}')
    assert found(0, 10) == [b"r0000.json", b"r0006.json", b"r0009.json"]


def test_what_was_handed_out_gets_an_inode_when_it_is_asked_for(kit: Kit) -> None:
    pages = whole(kit)
    table = kit.view.inodes
    number = hand_out(pages, b"r0010.json")
    assert number not in table.by_number
    assert table.numbered(plain_number(b"a.b.c/r0011.json")) is None
    inode = table.numbered(number)
    assert inode is not None
    assert (inode.number, inode.path) == (number, b"a.b.c/r0010.json")
    assert table.get(b"a.b.c/r0010.json") is inode
    table.drop_if_unused(inode)
    assert table.numbered(number) is inode, "the kernel still knows it"
    table.forget(number, 1)
    assert table.numbered(number) is None
    # A name that goes takes the inode along, and a new file of that name gets another one.
    number = hand_out(pages, b"r0012.json")
    kit.writer.unlink(kit.inode(b"a.b.c"), b"r0012.json")
    gone = table.numbered(number)
    assert gone is not None
    assert gone.path is None
    kit.put(b"a.b.c/r0012.json", b'{"$type": "a.b.c", "n": 7}')
    assert kit.inode(b"a.b.c/r0012.json").number != number
    # A folder that moves takes along what was never looked at.
    number = hand_out(pages, b"r0013.json")
    kit.renamer.rename(kit.inode(b""), b"a.b.c", kit.inode(b""), b"a.b.e")
    moved = table.numbered(number)
    assert moved is not None
    assert moved.path == b"a.b.e/r0013.json"


def test_too_much_drift_begins_anew(kit: Kit) -> None:
    pages = whole(kit)
    kit.view.pages.renew(b"a.b.c")
    assert kit.view.pages.of(b"a.b.c") is pages
    published(kit.view, [b"a.b.c/r%04d" % number for number in range(PAGE + 1)])
    kit.view.pages.renew(b"a.b.c")
    again = whole(kit)
    assert again is not pages
    assert kit.view.pages.differences(again) == set()


# --- on disk ----------------------------------------------------------------------------------


def kept_of(pages: FolderPages) -> Kept:
    return Kept(pages.root, len(pages.pages), iter([page.blob for page in pages.pages]))


def test_pages_are_kept(kit: Kit, tmp_path: Path) -> None:
    store = PageStore(tmp_path / "kept", "mst json")
    pages = whole(kit)
    assert store.read(b"a.b.c") is None
    store.write(b"a.b.c", kept_of(pages))
    kept = store.read(b"a.b.c")
    assert kept is not None
    assert (kept.root, kept.pages) == (pages.root, len(pages.pages))
    assert list(kept.blobs) == [page.blob for page in pages.pages]
    assert store.read(b"a.b.d") is None
    assert PageStore(tmp_path / "kept", "mst cbor").read(b"a.b.c") is None
    (file,) = (tmp_path / "kept").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    os.rename(file, store._file(b"a.b.d"))
    assert store.read(b"a.b.d") is None


def test_what_is_damaged_is_not_believed(kit: Kit, tmp_path: Path) -> None:
    store = PageStore(tmp_path / "kept", "mst json")
    pages = whole(kit)
    store.write(b"a.b.c", kept_of(pages))
    (file,) = (tmp_path / "kept").iterdir()
    data, right = file.read_bytes(), [page.blob for page in pages.pages]
    rng = random.Random(2)
    for place in [*range(120), *(rng.randrange(len(data)) for _ in range(200))]:
        file.write_bytes(data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :])
        kept = store.read(b"a.b.c")
        blobs = list(kept.blobs) if kept is not None else []
        assert len(blobs) < len(right)
        assert blobs == right[: len(blobs)]
        if kept is not None:
            assert kept.root == pages.root
    for end in (0, 10, 100, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:end])
        kept = store.read(b"a.b.c")
        assert kept is None or len(list(kept.blobs)) < len(right)


def test_what_cannot_be_kept_does_no_harm(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = PageStore(tmp_path / "file", "mst json")
    store.write(b"a.b.c", kept_of(whole(kit)))
    assert store.read(b"a.b.c") is None
    target = tmp_path / "elsewhere"
    target.write_text("not to be followed")
    store = PageStore(tmp_path / "kept", "mst json")
    (tmp_path / "kept").mkdir()
    store._file(b"a.b.c").symlink_to(target)
    assert store.read(b"a.b.c") is None
    store.write(b"a.b.c", kept_of(whole(kit)))
    assert target.read_text() == "not to be followed"


def test_pages_lie_beside_the_car(tmp_path: Path) -> None:
    assert place_of(tmp_path / "x.car", b"f" * 32) == tmp_path / "x.car.mstfs-listings"


def test_another_mount_begins_with_what_was_kept(kit: Kit, tmp_path: Path) -> None:
    store = PageStore(tmp_path / "kept", "mst json")
    store.write(b"a.b.c", kept_of(whole(kit)))
    kit.put(b"a.b.c/r0001.json", b'{"$type": "a.b.c", "n": 1000}')
    kit.publish()
    again = Kit(kit.workspace)
    again.view.pages.begin(Counter())
    again.view.pages.store = store
    pages = whole(again)
    assert pages.kept is not None
    assert pages.count == COUNT
    assert again.view.pages.differences(pages) == {b"r0001.json"}
    assert pages.to_keep() is None
