"""Inode numbers, references, and what happens to them when names move."""

from mstfs.view.inodes import NUMBER_BIT, ROOT, InodeTable
from mstfs.view.nodes import Folder, Pending


def test_numbers_are_the_same_in_every_table() -> None:
    first, second = InodeTable(), InodeTable()
    second.at(b"other")
    for path in (b"a", b"a/b.json", b"\xff", b"x" * 5000):
        number = first.at(path).number
        assert second.at(path).number == number
        assert number & NUMBER_BIT
        assert number < 1 << 63
        assert first.at(path) is first.by_number[number]


def test_an_inode_lives_while_it_is_known_or_open() -> None:
    table = InodeTable()
    inode = table.at(b"a", Pending())
    inode.lookups, inode.opens = 3, 1
    table.forget(inode.number, 2)
    table.forget(inode.number, 1)
    assert table.get(b"a") is inode
    inode.opens = 0
    table.drop_if_unused(inode)
    assert table.get(b"a") is None
    assert set(table.by_number) == {ROOT}
    table.forget(4711, 1)
    table.forget(ROOT, 1 << 40)
    assert set(table.by_number) == {ROOT}


def test_a_new_file_under_an_old_name_has_another_number() -> None:
    table = InodeTable()
    old = table.at(b"a")
    old.opens = 1
    table.detach(old)
    assert old.path is None
    new = table.at(b"a")
    assert new.number != old.number
    assert table.by_number[old.number] is old
    old.opens = 0
    table.drop_if_unused(old)
    assert table.get(b"a") is new
    assert old.number not in table.by_number


def test_a_folder_moves_with_what_is_in_it() -> None:
    table = InodeTable()
    paths = [b"a", b"a/x", b"a/b", b"a/b/y", b"ab", b"a.b"]
    numbers = {path: table.at(path, Folder()).number for path in paths}
    table.move(b"a", b"c", folder=True)
    assert {path: inode.number for path, inode in table.by_path.items() if path} == {
        (b"c" + path[1:] if path == b"a" or path.startswith(b"a/") else path): number
        for path, number in numbers.items()
    }
    assert all(inode.path == path for path, inode in table.by_path.items())
    table.move(b"nothing", b"d", folder=False)
    assert table.get(b"d") is None


def test_who_remembers_the_target_of_a_move_keeps_a_file_without_a_name() -> None:
    table = InodeTable()
    moved, there = table.at(b"a/x"), table.at(b"c/x")
    there.opens = 1
    table.move(b"a", b"c", folder=True)
    assert table.get(b"c/x") is moved
    assert there.path is None
    assert table.by_number[there.number] is there
