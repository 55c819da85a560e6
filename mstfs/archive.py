"""An archive: a CAR and the overlay above it, opened as one. This is what `import mstfs` gives.

with mstfs.open("repo.car") as repo:
    for key in repo: print(key, repo[key]["$type"])
    repo["app.bsky.feed.post/3k2a"] = {"$type": "app.bsky.feed.post", "text": "hi"}
    repo.publish()
    repo.export("new.car")
"""

import os
import random
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from mstfs.blocks.car import CarFile
from mstfs.blocks.interface import BlockReader, BlockStore
from mstfs.blocks.overlay import OverlayBlocks
from mstfs.blocks.sqlite import Database
from mstfs.blocks.sqlite_blocks import SqliteBlocks
from mstfs.codec import cid as cids
from mstfs.errors import FormatError, MissingBlock, OverlayError, OverlayMismatch, Refused
from mstfs.publish import export
from mstfs.publish.plan import publish
from mstfs.repo import history, record
from mstfs.repo.commit import Signer
from mstfs.repo.head import Head, choose_root, read_head
from mstfs.repo.history import Event
from mstfs.repo.syntax import check_key
from mstfs.staging import edits, files
from mstfs.staging.workspace import Workspace
from mstfs.tree.interface import TreeDiff
from mstfs.tree.mst.tree import MstTree

META = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL)"
SCHEMA = (META, SqliteBlocks.SCHEMA, *edits.SCHEMA, *files.SCHEMA, *history.SCHEMA)

OVERLAY_SUFFIX = ".mstfs"

Mode = Literal["write", "read", "car"]


def overlay_places(car: CarFile) -> list[Path]:
    """Where the overlay of a CAR is looked for, in order: beside it, then in the user's state folder."""
    from platformdirs import user_state_path

    beside = car.path.with_name(car.path.name + OVERLAY_SUFFIX)
    return [beside, user_state_path("mstfs") / (car.fingerprint.hex()[:32] + OVERLAY_SUFFIX)]


def is_overlay(path: Path) -> bool:
    """True if the file is an SQLite database (whether it is one of ours is found out on opening)."""
    try:
        if not path.is_file():
            return False  # To open a pipe would be to wait for whoever writes to it.
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


class Archive(MutableMapping[str, dict[str, Any]]):
    """A repository as a mapping of keys (`collection/rkey`) to records.

    Records are dicts; links are `mstfs.Link`, byte strings `bytes`. Assignments and deletions are staged in
    the overlay at once; `publish` makes a new root of them. Not safe for several threads.
    """

    def __init__(self, car: CarFile | None, workspace: Workspace, closing: ExitStack) -> None:
        self.car = car
        self.workspace = workspace
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
    ) -> Self:
        """Open a CAR (with its overlay, if it has one) or an overlay (with the CAR that it belongs to).

        `mode` "write" makes the overlay if need be and locks it; "read" shows what it holds and takes no
        lock; "car" leaves it aside. Raises CarError, OverlayError and their kin, BlockError where the root
        is missing, Refused where it is none; nothing is left open and nothing was changed.
        """
        path = Path(path)
        with ExitStack() as closing:
            if overlay is None and is_overlay(path):
                overlay, path = path, _car_of(path)
            car = closing.enter_context(CarFile.open(path, verify=verify))
            database: Database | None = None
            if mode != "car":
                database = _open_overlay(car, Path(overlay) if overlay is not None else None, mode, root)
                if database is not None:
                    closing.callback(database.close)
            workspace = _workspace(car, database, mode, root)
            return cls(car, workspace, closing.pop_all())

    # --- what it is ---------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        return self.workspace.head

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

    def __getitem__(self, key: str) -> dict[str, Any]:
        return record.to_value(self.block(key))

    def block(self, key: str) -> bytes:
        """The DAG-CBOR block of a record. KeyError if there is no such key."""
        spelled = _spelled(key)
        cid = self.workspace.staged.get(spelled) if spelled is not None else None
        if cid is None:
            raise KeyError(key)
        return self.workspace.blocks.get(cid)

    def json(self, key: str) -> str:
        """A record as atproto JSON, as a mount shows it. KeyError if there is no such key."""
        return record.render(self.block(key)).decode()

    def __setitem__(self, key: str, value: Mapping[str, Any]) -> None:
        spelled = key.encode("utf-8", "replace")
        check_key(spelled)
        self.workspace.stage_record(spelled, record.from_value(value))

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
        return read_head(self.workspace.blocks, root).data

    def export(
        self, target: str | os.PathLike[str], *, root: bytes | None = None, since: bytes | None = None
    ) -> int:
        """Write a CARv1 with what the head (or `root`) reaches, in streamable order; returns its bytes.

        With `since`, only blocks that this older root does not reach. Refused where the target is the CAR or
        the overlay itself.
        """
        for own in (self.car.path if self.car is not None else None, self.overlay_path):
            if own is not None and os.path.exists(target) and os.path.samefile(own, target):
                raise Refused(f"{target} is part of this archive: export to another file")
        head = self.head if root is None else read_head(self.workspace.blocks, root)
        base = None if since is None else read_head(self.workspace.blocks, since)
        return export.export_car(self.workspace, head, Path(target), since=base)


def _spelled(key: str) -> bytes | None:
    """The bytes of a key as iteration shows it; None for a text that stands for no bytes."""
    try:
        return key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None


def _car_of(overlay: Path) -> Path:
    """The CAR that an overlay belongs to: where it was, or beside the overlay under its old name."""
    with Database.open(overlay, read_only=True) as database:
        rows = database.execute("SELECT value FROM meta WHERE name = 'car'", ())
    if not rows:
        raise OverlayError(f"{overlay} does not say which CAR it belongs to: open the CAR with --overlay")
    recorded = Path(os.fsdecode(rows[0][0]))
    for place in (recorded, overlay.with_name(recorded.name)):
        if place.exists():
            return place
    raise OverlayError(f"{overlay} belongs to {recorded}, which is not there any more")


def _open_overlay(car: CarFile, given: Path | None, mode: Mode, root: bytes | None) -> Database | None:
    """The overlay's database, made if the mode is "write"; None where there is none to read."""
    if given is not None:
        place = given
    else:
        beside, state = overlay_places(car)
        elsewhere = state.exists() or not os.access(car.path.parent, os.W_OK)
        place = state if elsewhere and not beside.exists() else beside
    if mode == "read":
        if given is None and not place.exists():
            return None
        return _checked(car, Database.open(place, read_only=True))
    if not place.exists():
        _first_head(car, car, root)  # Before anything is made: an overlay begins at a root that can be read.
        if given is None:
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _checked(car, Database.open(place, schema=SCHEMA))


def _first_head(car: CarFile, blocks: BlockReader, root: bytes | None) -> Head:
    """Where a CAR without a history begins."""
    try:
        return read_head(blocks, root) if root is not None else choose_root(blocks, car.roots)
    except MissingBlock as error:
        raise MissingBlock(error.cid, f"the root is not in {car.path}") from error
    except (Refused, FormatError) as error:
        kind = Refused if isinstance(error, Refused) else FormatError
        raise kind(f"{car.path}: {error}") from error


def _checked(car: CarFile, database: Database) -> Database:
    """The database, if it is new or belongs to this CAR; OverlayMismatch otherwise."""
    try:
        if database.read_only:
            tables = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'", ())
            if not tables:
                raise OverlayError(
                    f"{database.path} is an overlay that was never finished: mount the CAR once"
                )
        rows: dict[str, Any] = {}
        for name, value in database.execute("SELECT name, value FROM meta"):
            rows[name] = value
        if "fingerprint" in rows:
            if rows["fingerprint"] != car.fingerprint:
                raise OverlayMismatch(
                    f"overlay {database.path} belongs to another CAR than {car.path} "
                    f"(it was made for {os.fsdecode(rows.get('car', b'?'))})"
                )
            if not database.read_only and rows.get("car") != os.fsencode(car.path.absolute()):
                _set_meta(database, "car", os.fsencode(car.path.absolute()))
        elif not database.read_only:
            with database.transaction():
                _set_meta(database, "fingerprint", car.fingerprint)
                _set_meta(database, "car", os.fsencode(car.path.absolute()))
                _set_meta(database, "clock", random.SystemRandom().randrange(1024))
    except BaseException:
        database.close()
        raise
    return database


def _set_meta(database: Database, name: str, value: object) -> None:
    database.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))


def _workspace(car: CarFile, database: Database | None, mode: Mode, root: bytes | None) -> Workspace:
    upper: BlockStore | None = None
    layers: list[BlockReader] = [car]
    if database is not None and not database.read_only:
        upper = SqliteBlocks(database)
    elif database is not None:
        # Another process may add to it, so each look-up is a query: most blocks are in the CAR, asked first.
        layers.append(SqliteBlocks(database))
    blocks = OverlayBlocks(upper, layers)
    log = history.History(database)
    newest = log.head()
    read_only = mode != "write"
    try:
        if newest is None:
            head = _first_head(car, blocks, root)
        elif root is None or root in (newest.root, newest.data):
            head = read_head(blocks, newest.root)
        else:
            event = log.find(root)
            if event is None and mode == "write":
                tail = log.tail()
                assert tail is not None
                assert database is not None
                raise OverlayMismatch(
                    f"overlay {database.path} was begun at root {cids.to_text(tail.root)}, not at "
                    f"{cids.to_text(root)}: give another one with --overlay, or mount with --read-only"
                )
            # An older root is shown as it was published: nothing is staged on it.
            past = read_head(blocks, event.root if event is not None else root)
            return Workspace(head=past, blocks=blocks, tree=MstTree(blocks), database=database, past=True)
    except MissingBlock as error:
        raise MissingBlock(error.cid, f"the root is not in {car.path}") from error
    if newest is None and database is not None and not database.read_only:
        with database.transaction(durable=True):
            log.append("import", head.root, head.data, rev=head.rev, time_ns=time.time_ns())
    tree = MstTree(blocks)
    workspace = Workspace(head=head, blocks=blocks, tree=tree, database=database, read_only=read_only)
    if not workspace.read_only:
        workspace.files.purge_orphans()
    return workspace


def open_archive(
    path: str | os.PathLike[str],
    *,
    root: str | None = None,
    overlay: str | os.PathLike[str] | None = None,
    read_only: bool = False,
) -> Archive:
    """Open a CAR or an overlay as a mapping; see `Archive`. `root` is a CID as text."""
    return Archive.open(
        path,
        mode="read" if read_only else "write",
        root=cids.parse(root) if root is not None else None,
        overlay=overlay,
    )
