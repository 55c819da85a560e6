"""An archive: a CAR and the overlay above it, opened as one. This is what `import mstfs` gives.

with mstfs.open("repo.car") as repo:
    for key in repo: print(key, repo[key]["$type"])
    repo["app.bsky.feed.post/3k2a"] = {"$type": "app.bsky.feed.post", "text": "hi"}
    repo.publish()
    repo.export("new.car")
"""

import os
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, MutableMapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

from mstfs.blocks.car import CarFile
from mstfs.blocks.car_writer import replacing, write_car
from mstfs.blocks.memory import MemoryBlocks
from mstfs.blocks.sqlite import Database
from mstfs.codec import cid as cids
from mstfs.errors import Refused
from mstfs.opening import Mode, Reading, car_of, is_overlay, open_overlay, open_workspace
from mstfs.publish.plan import publish
from mstfs.repo.commit import Signer
from mstfs.repo.head import Head
from mstfs.repo.history import Event
from mstfs.repo.syntax import check_key
from mstfs.staging.workspace import Workspace
from mstfs.tree import kinds
from mstfs.tree.interface import TreeDiff
from mstfs.values.cipher import Cipher
from mstfs.values.interface import Making, ValueKind, ValueOptions

Transformer = Callable[[str, Any], Any]
"""From a key and a value to another value."""


class Archive(MutableMapping[str, Any]):
    """A tree as a mapping of keys to values.

    Keys are text; bytes that are none are escaped as by `os.fsdecode`. A blob is `bytes`. A record is what
    its DAG-CBOR says, of a repository always a dict; links are `mstfs.Link`. Assignments and deletions are
    staged in the overlay at once; `publish` makes a new root of them. Not safe for several threads.
    """

    def __init__(self, car: CarFile, workspace: Workspace, closing: ExitStack) -> None:
        self.car = car
        self.workspace = workspace
        self.encode: Transformer | None = None
        self.decode: Transformer | None = None
        self._closing = closing

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        mode: Mode = "read",
        root: bytes | None = None,
        overlay: str | os.PathLike[str] | None = None,
        verify: Literal["once", "always"] = "once",
        tree: kinds.Kind | None = None,
        options: ValueOptions | None = None,
        cipher: Cipher | None = None,
        plain: tuple[str, ...] = (),
    ) -> Self:
        """Open a CAR (with its overlay, if it has one) or an overlay (with the CAR that it belongs to).

        `mode` "write" makes the overlay if need be and locks it, unless the tree can only be read; "read"
        shows what it holds and takes no lock; "car" leaves it aside. `tree` and `options` say what a file
        does not say about its tree, `cipher` opens and seals the values of a HAMT, but for those of keys that
        fit a pattern of `plain`. Raises CarError, OverlayError and their kin, BlockError where the root is
        missing, Refused where it is none, DecryptionError; nothing is left open and nothing was changed.
        """
        path = Path(path)
        reading = Reading(root, tree, options or ValueOptions(), cipher, plain)
        with ExitStack() as closing:
            if overlay is None and is_overlay(path):
                overlay, path = path, car_of(path)
            car = closing.enter_context(CarFile.open(path, verify=verify))
            database: Database | None = None
            if mode != "car":
                database = open_overlay(car, Path(overlay) if overlay is not None else None, mode, reading)
                if database is not None:
                    closing.callback(database.close)
            workspace = open_workspace(car, database, mode, reading)
            return cls(car, workspace, closing.pop_all())

    # --- what it is ---------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        return self.workspace.head

    @property
    def kind(self) -> kinds.Kind:
        """What kind of tree it is."""
        return self.head.tree

    @property
    def encoding(self) -> str | None:
        """How the values of a HAMT are kept, `raw` or `cbor`; None for other trees."""
        encoding: str | None = getattr(self.workspace.values, "encoding", None)
        return encoding

    @property
    def encrypted(self) -> bool | None:
        """Whether values are encrypted; None where nothing tells: a file does not, before a key was given."""
        if self.kind.name not in ("hamt2", "hamt3"):
            return False
        if getattr(self.workspace.values, "cipher", None) is not None:
            return True
        database = self.workspace.database
        rows = database.execute("SELECT 1 FROM meta WHERE name = 'cipher'") if database is not None else []
        return True if rows else None

    @property
    def root(self) -> str:
        """The CID of the head, as text."""
        return cids.to_text(self.head.root)

    @property
    def overlay_path(self) -> Path | None:
        return self.workspace.database.path if self.workspace.database is not None else None

    def history(self) -> Iterator[Event]:
        """Publications, newest first."""
        return self.workspace.history.events()

    def close(self) -> None:
        """Let go of the files; what is staged stays staged."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the mapping --------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        value = self.workspace.values.load(*self._found(key))
        return value if self.decode is None else self.decode(key, value)

    def _found(self, key: str) -> tuple[bytes, bytes]:
        spelled = _spelled(key)
        cid = self.workspace.staged.get(spelled) if spelled is not None else None
        if cid is None or spelled is None:
            raise KeyError(key)
        return spelled, cid

    def block(self, key: str) -> bytes:
        """The block behind a value. KeyError if there is no such key."""
        return self.workspace.values.stored(self._found(key)[1])

    def kind_of(self, key: str) -> ValueKind:
        """Whether a value is a record, a blob or a symbolic link. KeyError if there is no such key."""
        return self.workspace.values.kind(*self._found(key))

    def size(self, key: str) -> int:
        """The bytes of a value's file, as a mount shows it. KeyError if there is no such key."""
        return self.workspace.values.size(*self._found(key))

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """A range of a value's file, as a mount shows it. KeyError if there is no such key."""
        spelled, cid = self._found(key)
        if length is None:
            length = self.workspace.values.size(spelled, cid) - offset
        return self.workspace.values.read(spelled, cid, offset, length) if length > 0 else b""

    def json(self, key: str) -> str:
        """A record as JSON, as a mount shows it. KeyError if there is no such key."""
        return self.read(key).decode()

    def __setitem__(self, key: str, value: Any) -> None:
        spelled = self._checked(key)
        if self.encode is not None:
            value = self.encode(key, value)
        with self.workspace.transaction():
            self.workspace.stage_value(spelled, self.workspace.values.make_loaded(spelled, value))

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Assign all values of a mapping, or of pairs of keys and values: all, or none if one is refused.

        Much quicker than one assignment after the other.
        """
        pairs = other.items() if isinstance(other, Mapping) else other

        def makings() -> Iterator[tuple[bytes, Making]]:
            for key, value in chain(pairs, more.items()):
                spelled = self._checked(key)
                if self.encode is not None:
                    value = self.encode(key, value)
                yield spelled, self.workspace.values.make_loaded(spelled, value)

        with self.workspace.transaction():
            self.workspace.stage_values(makings())

    def _checked(self, key: str) -> bytes:
        if self.kind.name == "mst":
            spelled = key.encode("utf-8", "replace")
            check_key(spelled)
            return spelled
        found = _spelled(key)
        text = self.kind.layout is not None and self.kind.layout.text_keys
        if found is None or (text and found != key.encode("utf-8", "replace")):
            raise Refused(f"{key!r} is no key: it is not UTF-8")
        return found

    def __delitem__(self, key: str) -> None:
        spelled = _spelled(key)
        if spelled is None or self.workspace.staged.get(spelled) is None:
            raise KeyError(key)
        with self.workspace.transaction():
            self.workspace.stage_delete(spelled)

    def __contains__(self, key: object) -> bool:
        spelled = _spelled(key) if isinstance(key, str) else None
        return spelled is not None and self.workspace.staged.get(spelled) is not None

    def __iter__(self) -> Iterator[str]:
        return self.under("")

    def under(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, in order; a collection is `collection/`."""
        after: bytes | None = None
        spelled = _spelled(prefix)
        while spelled is not None and (page := self.workspace.staged.page(spelled, after, 1024)):
            for key, _ in page:
                yield key.decode("utf-8", "surrogateescape")
            after = page[-1].key

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def keys(self, prefix: str = "") -> KeysView[str]:
        """The keys that start with `prefix`, in order."""
        return _Keys(self, prefix)

    def ids(self) -> Iterator[str]:
        """The CIDs of all blocks that the head reaches."""
        from mstfs.publish.export import reachable

        for cid, _ in reachable(self.workspace, self.head):
            yield cids.to_text(cid)

    # --- publishing ---------------------------------------------------------------------------

    def publish(self, signer: Signer | None = None, *, message: str = "") -> Event | None:
        """Make a new root of everything staged: durable on return. None if nothing changed."""
        return publish(self.workspace, signer, message=message, clock_id=self.clock_id)

    @property
    def clock_id(self) -> int:
        """Ten bits that tell the TIDs of this overlay from those of others."""
        database = self.workspace.database
        rows = database.execute("SELECT value FROM meta WHERE name = 'clock'", ()) if database else []
        return int(rows[0][0]) if rows else 0

    def diff(self, a: bytes, b: bytes) -> TreeDiff:
        """What changed from the tree of one root to that of another (commits or bare roots)."""
        return self.workspace.tree.diff(self.data_of(a), self.data_of(b))

    def data_of(self, root: bytes) -> bytes:
        """The tree of a root."""
        return self.workspace.read_head(root).data

    def export(
        self, target: str | os.PathLike[str], *, root: bytes | None = None, since: bytes | None = None
    ) -> int:
        """Write a CARv1 with what the head (or `root`) reaches, in streamable order; returns its bytes.

        With `since`, only blocks that this older root does not reach. Refused where the target is the CAR or
        the overlay itself.
        """
        from mstfs.publish.export import export_car

        for own in (self.car.path if self.car is not None else None, self.overlay_path):
            if own is not None and os.path.exists(target) and os.path.samefile(own, target):
                raise Refused(f"{target} is part of this archive: export to another file")
        head = self.head if root is None else self.workspace.read_head(root)
        base = None if since is None else self.workspace.read_head(since)
        return export_car(self.workspace, head, Path(target), since=base)


def _spelled(key: str) -> bytes | None:
    """The bytes of a key as iteration shows it; None for a text that stands for no bytes."""
    try:
        return key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None


class _Keys(KeysView[str]):
    """A view of the keys that start with a prefix."""

    def __init__(self, archive: Archive, prefix: str) -> None:
        super().__init__(archive)
        self.archive = archive
        self.prefix = prefix

    def __iter__(self) -> Iterator[str]:
        return self.archive.under(self.prefix)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.startswith(self.prefix) and key in self.archive

    def __len__(self) -> int:
        return sum(1 for _ in self)


def open_archive(
    path: str | os.PathLike[str],
    *,
    root: str | None = None,
    overlay: str | os.PathLike[str] | None = None,
    read_only: bool = False,
    tree: str | None = None,
    values: str = "auto",
    key: bytes | None = None,
    key_header: bytes = b"",
    plain: Iterable[str] = (),
    encode: Transformer | None = None,
    decode: Transformer | None = None,
) -> Archive:
    """Open a CAR or an overlay as a mapping; see `Archive`. `root` is a CID as text.

    `tree` and `values` are what `mstfs mount --tree` and `--values` take. `key` is an encryption key of 32
    bytes, `key_header` its associated data, and `plain` are patterns of keys whose values are not encrypted.
    What is assigned goes through `encode`, what is read through `decode`: both take the key and the value,
    and return a value.
    """
    if values not in ("auto", "raw", "cbor"):
        raise Refused(f"values={values}: auto, raw and cbor are known")
    archive = Archive.open(
        path,
        mode="read" if read_only else "write",
        root=cids.parse(root) if root is not None else None,
        overlay=overlay,
        tree=kinds.parse(tree) if tree is not None else None,
        options=ValueOptions(encoding=cast(Literal["auto", "raw", "cbor"], values)),
        cipher=Cipher(key, key_header) if key is not None else None,
        plain=tuple(plain),
    )
    archive.encode, archive.decode = encode, decode
    return archive


def create_archive(path: str | os.PathLike[str], tree: str = "hamt3", **options: Any) -> Archive:
    """Write a CAR that holds an empty tree, and open it; `options` are those of `open_archive`.

    Raises Refused for a kind of tree that cannot be written, FileExistsError where the file exists.
    """
    kind = kinds.parse(tree)
    if not kind.writable:
        raise Refused(f"a {kind.title} can be read, not made")
    path = Path(path)
    if os.path.lexists(path):
        raise FileExistsError(17, "File exists", str(path))
    root, block = kind.open(MemoryBlocks()).empty()
    with replacing(path) as file:
        write_car(file, (root,), [(root, block)])
    try:
        return open_archive(path, **options)
    except BaseException:
        path.unlink()
        raise
