"""What random programs on a view work on: names, texts, and the trees that are there at first."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dag_cbor
import naive_hamt
import naive_mst
from view_model import REPOSITORY, Rules
from workspaces import DID, REV, block, odd_text, swapped_text, text

from mstfs.codec import cid as cids
from mstfs.codec import dag_json
from mstfs.repo import commit as commits
from mstfs.tree.hamt.node import IDENTITY_DATA_BYTES, inline_cid
from mstfs.tree.kinds import parse
from mstfs.values.interface import ValueOptions
from mstfs.view.kinds import key_rule
from mstfs.view.names import Names

BIG = 70_000


@dataclass(frozen=True)
class World:
    """One kind of tree to work on: the names and texts that programs use, and what the tree holds at first.

    `make` gives root and blocks of an archive with these entries (key -> block), `data_root` the root of the
    tree alone, `value` the CID that stands for a block in it.
    """

    rules: Rules
    texts: list[bytes]
    folders: list[bytes]
    paths: list[bytes]
    first: dict[bytes, bytes]
    make: Callable[[dict[bytes, bytes]], tuple[bytes, dict[bytes, bytes]]]
    data_root: Callable[[dict[bytes, bytes]], bytes]
    value: Callable[[bytes], bytes]
    options: ValueOptions = field(default_factory=ValueOptions)

    def key(self, path: bytes) -> bytes:
        key = self.rules.key_named(path)
        assert key is not None
        return key

    def entries(self, files: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """The entries of a tree with these records, by path."""
        return {self.key(path): self.value(data) for path, data in files.items()}


def below(folders: list[bytes], leaves: list[bytes]) -> list[bytes]:
    return [folder + b"/" + leaf for folder in folders for leaf in leaves]


def _repository(files: dict[bytes, bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    data, nodes = naive_mst.build({key: cids.for_block(data) for key, data in files.items()})
    root, made = commits.make(DID, data, REV, None)
    return root, {**nodes, root: made, **{cids.for_block(data): data for data in files.values()}}


def repository_world() -> World:
    folders = [b"a.b.c", b"a.b.d", b"tmp", b"odd", b"tmp/in", b"a.b.c/in"]
    return World(
        rules=REPOSITORY,
        texts=[
            text(1),
            text(2),
            text(3),
            swapped_text(1),
            swapped_text(2),
            odd_text(1),
            odd_text(2),
            odd_text(3) + b" " * BIG,
            b"",
            b"{",
            b'{"n": 1.5}',
            b"no record" * 9000,
        ],
        folders=folders,
        paths=[*below(folders, [b"x.json", b"y.json", b"x~", b"self.json"]), b"x.json", b"note~"],
        first={b"a.b.c/x": block(1), b"a.b.c/self": block(2), b"a.b.d/y": block(3), b"odd/x": block(1)},
        make=_repository,
        data_root=lambda entries: naive_mst.build(entries)[0],
        value=cids.for_block,
    )


# Some names are those of files and of folders.
HAMT_FOLDERS = [b"a", b"b", b"a/in", b"b/in", b"x", b"a/x"]
HAMT_PATHS = [
    *below(HAMT_FOLDERS, [b"x", b"y", b".x.swp", b"!", b"%@"]),
    *(b"x", b"in", b".#note"),
]
HAMT_KEYS = [b"a/x", b"a/y", b"b/in/y", b"b"]


def _blob_cid(data: bytes) -> bytes:
    return cids.for_block(data, cids.RAW, cids.BLAKE3)


def _blobs(files: dict[bytes, bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    root, nodes = naive_hamt.py_hamt_3({key: _blob_cid(data) for key, data in files.items()})
    return root, {**nodes, **{_blob_cid(data): data for data in files.values()}}


def blob_world() -> World:
    """Raw bytes in a HAMT of py-hamt 3: nothing is a draft, and only editors' temporaries are scratch."""
    return World(
        rules=Rules(Names(b"", nested=True), key_rule(parse("hamt3")), lambda data: data, lambda data: data),
        texts=[b"", b"one", b"two", b"other", text(1), bytes(BIG), b"x" * BIG, b"y" * 140_000],
        folders=HAMT_FOLDERS,
        paths=HAMT_PATHS,
        first=dict(zip(HAMT_KEYS, (b"one", text(1), b"", b"four"), strict=True)),
        make=_blobs,
        data_root=lambda entries: naive_hamt.py_hamt_3(entries)[0],
        value=_blob_cid,
    )


def _record_cid(data: bytes) -> bytes:
    return inline_cid(data) if len(data) <= IDENTITY_DATA_BYTES else cids.for_block(data)


def _records(entries: dict[bytes, bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    plain = {}
    for key, cid in entries.items():
        inline = cids.identity_data(cid)
        plain[key] = naive_hamt.link(cid) if inline is None else dag_cbor.decode(inline)
    return naive_hamt.hash_map(plain, width=4)


def _record_archive(files: dict[bytes, bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    root, nodes = _records({key: _record_cid(data) for key, data in files.items()})
    return root, {**nodes, **{cids.for_block(data): data for data in files.values()}}


def record_world() -> World:
    """Records in an IPLD HashMap, in the node or linked, and every new file is one."""
    plain: list[Any] = [{"a": 1}, [1.5, None], "x" * 150, 7]
    values = [dag_cbor.encode(value) for value in plain]
    texts = [dag_json.render(value) for value in values]
    return World(
        rules=Rules(
            Names(b"", nested=True), key_rule(parse("hashmap,width=4")), dag_json.parse, dag_json.render
        ),
        texts=[
            *texts,
            texts[0].replace(b"\n", b" "),
            texts[2] + b" " * BIG,
            b"",
            b"{",
            b'{"/": 5}',
            b"no record" * 9000,
        ],
        folders=HAMT_FOLDERS,
        paths=HAMT_PATHS,
        first=dict(zip(HAMT_KEYS, values, strict=True)),
        make=_record_archive,
        data_root=lambda entries: _records(entries)[0],
        value=_record_cid,
        options=ValueOptions(new_files="record"),
    )
