"""Exports: all that a root reaches and nothing else, in the order that can be streamed."""

import io
from pathlib import Path

import naive_mst
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workspaces import cid, data_root, delete, put, read_only, repository, tree_blocks, writable

from mstfs.blocks.memory import MemoryBlocks
from mstfs.errors import BlockError
from mstfs.publish.export import export_car, reachable, write_export
from mstfs.publish.plan import checkout, publish
from mstfs.repo.head import Head, read_head
from mstfs.staging.workspace import Workspace
from mstfs.tree.mst.tree import MstTree

ENTRIES = {b"a.b.c/%03d" % number: number for number in range(60)}
keys = st.sampled_from(sorted(ENTRIES) + [b"a.b.d/%d" % number for number in range(9)])


def reached(head: Head, blocks: dict[bytes, bytes]) -> set[bytes]:
    """Every CID that a head reaches, found the plain way."""
    tree = MstTree(MemoryBlocks(blocks.items()))
    return {head.root, *(name for name, _ in tree.stream(head.data))}


def exported(workspace: Workspace, head: Head, since: Head | None = None) -> dict[bytes, bytes]:
    file = io.BytesIO()
    size = write_export(file, workspace, head, since=since)
    assert size == len(file.getvalue())
    roots, blocks = naive_mst.read_car(file.getvalue())
    assert roots == [head.root]
    return blocks


@pytest.mark.parametrize("kind", ["commit", "old", "bare"])
def test_an_export_is_what_the_root_reaches(tmp_path: Path, kind: str) -> None:
    root, held = repository(ENTRIES, kind=kind)
    workspace = writable(tmp_path, ENTRIES, kind=kind)
    put(workspace, b"a.b.c/staged", 100)
    assert exported(workspace, workspace.head) == held
    counts: list[int] = []
    target = tmp_path / "new.car"
    size = export_car(workspace, workspace.head, target, progress=counts.append)
    assert size == target.stat().st_size
    assert counts == [len(held)]
    assert naive_mst.read_car(target.read_bytes()) == ([root], held)


def test_the_order_is_that_of_a_stream(tmp_path: Path) -> None:
    workspace = writable(tmp_path, ENTRIES)
    names = [name for name, _ in reachable(workspace, workspace.head)]
    assert names[0] == workspace.head.root
    wanted = [name for name, _ in workspace.tree.stream(workspace.head.data)]  # type: ignore[attr-defined]
    assert names[1:] == list(dict.fromkeys(wanted))
    assert len(names) == len(set(names))


def test_the_empty_tree() -> None:
    workspace = read_only({}, kind="bare")
    assert set(exported(workspace, workspace.head)) == {data_root({})}


@given(
    st.dictionaries(keys, st.one_of(st.none(), st.integers(0, 70)), max_size=12),
    st.dictionaries(keys, st.one_of(st.none(), st.integers(0, 70)), max_size=3),
)
@settings(max_examples=25)
def test_an_old_car_and_the_delta_are_all_that_the_new_root_reaches(
    tmp_path_factory: pytest.TempPathFactory,
    first: dict[bytes, int | None],
    second: dict[bytes, int | None],
) -> None:
    workspace = writable(tmp_path_factory.mktemp("delta"), ENTRIES)
    heads = [workspace.head]
    for edits in (first, second):
        for key, number in edits.items():
            if number is None:
                delete(workspace, key)
            else:
                put(workspace, key, number)
        publish(workspace)
        heads.append(workspace.head)
    whole = [exported(workspace, head) for head in heads]
    for old in range(3):
        for new in range(3):
            delta = exported(workspace, heads[new], heads[old])
            assert set(delta) <= set(whole[new])
            both = whole[old] | delta
            assert {name: both[name] for name in whole[new]} == whole[new]
            assert reached(heads[new], both) == set(whole[new])
            # Nodes that both have are not sent again.
            nodes = {name for name, _ in workspace.tree.nodes(heads[old].data)}
            assert not nodes & set(delta)
            assert old != new or not delta
    assert workspace.database is not None
    workspace.database.close()


def test_a_record_that_is_also_a_node_is_written_once(tmp_path: Path) -> None:
    inner, nodes = tree_blocks({b"x.y.z/1": 1})
    data, outer = naive_mst.build({b"a.b.c/tree": inner, b"x.y.z/1": cid(1)})
    blocks = MemoryBlocks([*nodes.items(), *outer.items()])
    workspace = read_only({}, blocks)
    names = [name for name, _ in reachable(workspace, read_head(blocks, data))]
    assert sorted(names) == sorted({*outer, inner, cid(1)})


@pytest.mark.parametrize("lost", ["node", "record", "commit"])
def test_a_missing_block_leaves_no_file(tmp_path: Path, lost: str) -> None:
    root, held = repository(ENTRIES)
    data = data_root(ENTRIES)
    victim = {"node": data, "record": cid(30), "commit": root}[lost]
    workspace = writable(tmp_path, ENTRIES)
    target = tmp_path / "out" / "new.car"
    target.parent.mkdir()
    target.write_bytes(b"precious")
    left = Workspace(
        head=workspace.head,
        blocks=read_only(
            {}, MemoryBlocks((name, block) for name, block in held.items() if name != victim)
        ).blocks,
        tree=workspace.tree,
        values=workspace.values,
        database=None,
    )
    with pytest.raises(BlockError):
        export_car(left, left.head, target)
    assert [path.name for path in target.parent.iterdir()] == ["new.car"]
    assert target.read_bytes() == b"precious"


def test_a_root_of_the_history(tmp_path: Path) -> None:
    _, held = repository(ENTRIES)
    workspace = writable(tmp_path, ENTRIES)
    first = workspace.head
    put(workspace, b"a.b.c/000", 99)
    publish(workspace)
    assert exported(workspace, first) == held
    newest = exported(workspace, workspace.head)
    checkout(workspace, first.root)
    assert exported(workspace, workspace.head) == held
    assert cid(99) in newest
