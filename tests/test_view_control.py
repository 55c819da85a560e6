"""The control folder: what it shows, what it hides, and past roots as trees."""

import errno
import json
from pathlib import Path

import pytest
from view_kit import ENTRIES, Kit, check_refused
from workspaces import block, cid, data_root, delete, put, text, writable

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.view.nodes import Command, Control, Folder, Leaf


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit.at(tmp_path)


def test_it_is_reachable_and_not_listed(kit: Kit) -> None:
    assert kit.names() == [b"a.b.c", b"a.b.d"]
    assert kit.names(b".mstfs") == [b"blocks", b"commands", b"diff", b"history", b"root", b"status"]
    assert kit.names(b".mstfs/blocks") == kit.names(b".mstfs/commands") == []
    assert kit.view.attributes(kit.inode(b".mstfs")).kind == "folder"
    assert kit.view.attributes(kit.inode(b".mstfs/commands")).mode == 0o700
    for path in (b".mstfs/x", b".mstfs/root/x", b".mstfs/blocks/x/y", b".mstfs/commands/x"):
        assert kit.view.resolve(path) is None


def test_files_say_what_is_so_now(kit: Kit) -> None:
    root = cids.to_text(kit.workspace.head.root).encode()
    assert kit.get(b".mstfs/root") == root + b"\n"
    assert kit.get(b".mstfs/diff") == b""
    kit.put(b"a.b.c/new.json", text(7))
    delete(kit.workspace, b"a.b.c/x")
    assert kit.get(b".mstfs/diff") == b"A a.b.c/new\nD a.b.c/x\n"
    kit.view.control.extra = lambda: {"pid": 5}
    told = json.loads(kit.get(b".mstfs/status"))
    assert (told["staged"], told["pid"]) == ({"put": 1, "delete": 1}, 5)
    attributes = kit.view.attributes(kit.inode(b".mstfs/status"))
    assert (attributes.mode, attributes.lasting) == (0o400, False)
    for name in (b"root", b"status", b"diff"):
        check_refused(errno.EPERM, kit.write_to, b".mstfs/" + name)


def test_a_status_that_is_never_opened_has_one_length(kit: Kit) -> None:
    """However its counters grow, and whatever is counted for the first time."""
    kit.view.control.steady = True
    lengths = set()
    for number in range(60):
        counted = {f"request_{name:02}": 10 ** (number // 6) for name in range(number)}
        kit.view.control.extra = lambda counted=counted: counted  # type: ignore[misc]
        told = kit.get(b".mstfs/status")
        assert json.loads(told)["staged"] == {"put": 0, "delete": 0}
        assert {name: json.loads(told)[name] for name in counted} == counted
        assert kit.view.attributes(kit.inode(b".mstfs/status")).size == len(told)
        lengths.add(len(told))
    assert len(lengths) == 1
    kit.view.control.extra = lambda: {"much": "x" * 5000}
    assert json.loads(kit.get(b".mstfs/status"))["much"] == "x" * 5000


def test_blocks(kit: Kit) -> None:
    path = b".mstfs/blocks/" + cids.to_text(cid(1)).encode()
    assert kit.get(path) == block(1)
    assert kit.view.attributes(kit.inode(path)).lasting
    for name in (cids.to_text(cid(4711)).encode(), b"x", b"\xff", b"", b"b" * 255):
        assert kit.view.resolve(b".mstfs/blocks/" + name) is None


def test_every_published_root_is_a_tree(kit: Kit) -> None:
    kit.put(b"a.b.c/new.json", text(7))
    kit.unlink(b"a.b.c/x.json")
    kit.publish()
    kit.put(b"a.b.c/later.json", text(8))
    assert kit.names(b".mstfs/history") == [b"1", b"2"]
    first, second = b".mstfs/history/1", b".mstfs/history/2"
    assert kit.names(first) == kit.names(second) == [b"a.b.c", b"a.b.d"]
    assert kit.names(first + b"/a.b.c") == [b"x.json", b"y.json"]
    assert kit.names(second + b"/a.b.c") == [b"new.json", b"y.json"]
    assert kit.get(first + b"/a.b.c/x.json") == text(1)
    assert kit.view.attributes(kit.inode(first + b"/a.b.c/x.json")).mode == 0o444
    assert kit.xattr(first + b"/a.b.c/x.json", b"state") == b"published"
    assert kit.view.resolve(second + b"/a.b.c/x.json") is None
    for path in (b"/0", b"/01", b"/3", b"/-1", b"/x", b"/" + b"9" * 30, b"/1/nothing", b"/1/a.b.c/x.json/y"):
        assert kit.view.resolve(b".mstfs/history" + path) is None
    assert kit.names(b".mstfs/history/9") == []


def test_the_past_cannot_be_changed(kit: Kit) -> None:
    path = b".mstfs/history/1/a.b.c/x.json"
    node = kit.view.resolve(path)
    assert isinstance(node, Leaf)
    assert node.fixed
    assert kit.view.resolve(b".mstfs/history/1/a.b.c") == Folder(fixed=True)
    for action in (
        lambda: kit.open(path, write=True),
        lambda: kit.open(path, truncate=True),
        lambda: kit.unlink(path),
        lambda: kit.put(b".mstfs/history/1/a.b.c/n.json", text(1)),
        lambda: kit.mkdir(b".mstfs/history/1/a.b.e"),
        lambda: kit.writer.rmdir(*kit.split(b".mstfs/history/1/a.b.c")),
        lambda: kit.rename(path, b"x~"),
        lambda: kit.rename(b"a.b.c/x.json", path),
    ):
        check_refused(errno.EPERM, action)


def test_a_past_tree_with_a_lost_node_is_listed_as_far_as_it_goes(tmp_path: Path) -> None:
    entries = {b"a.b.c/%03d" % number: number for number in range(60)}
    workspace = writable(tmp_path, entries)
    put(workspace, b"a.b.c/005", 99)
    kit = Kit(workspace)
    kit.publish()
    old = data_root(entries)
    lower = workspace.blocks.lowers[0]
    assert isinstance(lower, MemoryBlocks)
    held = {name for name, _ in workspace.tree.nodes(workspace.head.data)}
    lost = next(name for name, _ in workspace.tree.nodes(old) if name not in held and name != old)
    lower.delete(lost)
    fresh = Kit(workspace)
    fresh.workspace.tree = type(workspace.tree)(workspace.blocks)  # type: ignore[call-arg]
    listed = fresh.names(b".mstfs/history/1/a.b.c")
    assert 0 < len(listed) < 60
    assert len(fresh.names(b".mstfs/history/2/a.b.c")) == 60


def test_a_command_is_a_file_that_answers(kit: Kit) -> None:
    path = b".mstfs/commands/one"
    inode = kit.writer.create(*kit.split(path), 0o600)
    assert isinstance(inode.node, Command)
    kit.writer.write(inode, 0, b'{"command": "x"}')
    assert isinstance(kit.view.resolve(path), Command)
    assert kit.view.read(inode, 0, 100) == b'{"command": "x"}'
    # Even at the end of the daemon it never becomes a file of the overlay.
    kit.writer.commit(inode, final=True)
    kit.writer.flush(inode)
    inode.reply = b'{"ok": true}'
    assert kit.view.read(inode, 0, 100) == b'{"ok": true}'
    assert kit.view.attributes(inode).size == 12
    kit.writer.release(inode)
    assert kit.inode(path) is inode
    assert not kit.workspace.files.by_path
    check_refused(errno.EFBIG, lambda: kit.writer.write(inode, 1 << 30, b"x"))
    kit.unlink(path)
    assert kit.find(path) is None
    assert kit.names() == [b"a.b.c", b"a.b.d"]


def test_commands_work_where_nothing_can_be_written(kit: Kit) -> None:
    kit.workspace.read_only = True
    path = b".mstfs/commands/one"
    kit.writer.release(kit.writer.create(*kit.split(path), 0o600))
    kit.unlink(path)
    check_refused(errno.EROFS, lambda: kit.put(b"a.b.c/new.json", text(1)))


def test_control_files_are_no_scratch(kit: Kit) -> None:
    assert isinstance(kit.view.resolve(b".mstfs/root"), Control)
    assert set(ENTRIES) == {b"a.b.c/x", b"a.b.c/y", b"a.b.d/self"}
    check_refused(errno.EPERM, lambda: kit.rename(b".mstfs/root", b"x"))
    check_refused(errno.EPERM, lambda: kit.unlink(b".mstfs/status"))
