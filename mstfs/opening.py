"""How a CAR and its overlay become a workspace: which root, which kind of tree, which kind of values.

Terminology
    The overlay of a CAR is looked for beside it. It remembers which CAR it belongs to, and what a person said
    about the tree where the tree does not say it itself.
"""

import os
import random
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mstfs.blocks.car import CarFile
from mstfs.blocks.car_writer import sync_folder
from mstfs.blocks.interface import BlockReader, BlockStore
from mstfs.blocks.overlay import OverlayBlocks
from mstfs.blocks.sqlite import Database
from mstfs.blocks.sqlite_blocks import SqliteBlocks
from mstfs.codec import cid as cids
from mstfs.errors import DecryptionError, FormatError, MissingBlock, OverlayError, OverlayMismatch, Refused
from mstfs.repo import history
from mstfs.repo.head import Head, choose_root, read_head
from mstfs.staging import edits, files
from mstfs.staging.workspace import Workspace
from mstfs.tree import kinds
from mstfs.tree.interface import Tree
from mstfs.tree.kinds import Kind
from mstfs.values.cipher import Cipher, Plain
from mstfs.values.interface import ValueOptions, Values

META = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL)"
SCHEMA = (META, SqliteBlocks.SCHEMA, *edits.SCHEMA, *files.SCHEMA, *history.SCHEMA)

OVERLAY_SUFFIX = ".mstfs"

Mode = Literal["write", "read", "car"]


@dataclass(frozen=True)
class Reading:
    """How a person wants an archive to be read: its root, its kind of tree, and its values.

    With a `cipher` the values of a HAMT are encrypted, but for those of keys that fit a pattern of `plain`.
    """

    root: bytes | None = None
    tree: Kind | None = None
    options: ValueOptions = field(default_factory=ValueOptions)
    cipher: Cipher | None = None
    plain: tuple[str, ...] = ()


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


def car_of(overlay: Path) -> Path:
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


def open_overlay(car: CarFile, given: Path | None, mode: Mode, reading: Reading) -> Database | None:
    """The overlay's database, made if the mode is "write" and the tree can be changed; None where none is."""
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
        # Before anything is made: an overlay begins at a root that can be read, and changed.
        head = _first_head(car, car, reading)
        if why_read_only(head, _open_tree(head, car)) is not None:
            return None
        if given is None:
            _make_folder(place.parent)
    return _checked(car, Database.open(place, schema=SCHEMA))


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, with names that last: what is synced in it must be found again."""
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def _first_head(car: CarFile, blocks: BlockReader, reading: Reading) -> Head:
    """Where a CAR without a history begins."""
    try:
        if reading.root is not None:
            return read_head(blocks, reading.root, reading.tree)
        return choose_root(blocks, car.roots, reading.tree)
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


def _meta(database: Database | None, name: str) -> str | None:
    rows = database.execute("SELECT value FROM meta WHERE name = ?", (name,)) if database is not None else []
    return str(rows[0][0]) if rows else None


def why_read_only(head: Head, tree: Tree) -> str | None:
    """Why a tree can be read and not changed, in words; None where it can be changed."""
    if not head.tree.writable:
        return f"{head.tree.title}: it can be read, not changed"
    if head.tree.is_hamt:
        from mstfs.tree.hamt.tree import HamtTree

        assert isinstance(tree, HamtTree)
        try:
            tree.layout(head.data)
        except Refused as error:
            return f"{error}: it can be read, not changed"
    return None


def _open_tree(head: Head, blocks: BlockReader) -> Tree:
    code, _ = cids.hash_of(head.data)
    return head.tree.open(blocks, code if code != cids.IDENTITY else None)


def _open_values(head: Head, tree: Tree, blocks: BlockReader, reading: Reading) -> Values:
    options = reading.options
    if head.tree.name == "mst":
        from mstfs.values.records import RecordValues

        return RecordValues(blocks, options)
    if head.tree.name == "unixfs":
        from mstfs.tree.unixfs.tree import UnixfsTree
        from mstfs.values.unixfs import UnixfsValues

        assert isinstance(tree, UnixfsTree)
        return UnixfsValues(tree, options)
    if head.tree.name == "sharded-zarr":
        from mstfs.tree.sharded.tree import ShardedTree
        from mstfs.values.blobs import BlobValues

        assert isinstance(tree, ShardedTree)
        return BlobValues(tree, options)
    from mstfs.tree.hamt.tree import HamtTree
    from mstfs.values.hamt import HamtValues

    assert isinstance(tree, HamtTree)
    assert head.tree.layout is not None
    code, _ = cids.hash_of(head.data)
    layout = head.tree.layout
    return HamtValues(
        tree,
        layout,
        options,
        reading.cipher,
        Plain.of(layout, reading.plain),
        hash_code=code if code != cids.IDENTITY else None,
    )


def _as_remembered(database: Database | None, reading: Reading, head: Head, tree: Tree) -> Reading:
    """How the archive is to be read: as it is asked for now, else as it was before, else as it looks."""
    if head.tree.name != "hamt3" or reading.options.encoding != "auto":
        return reading
    from mstfs.tree.hamt.tree import HamtTree
    from mstfs.values.detect import detect

    assert isinstance(tree, HamtTree)
    assert head.tree.layout is not None
    encoding: Literal["raw", "cbor"]
    if (remembered := _meta(database, "encoding")) is not None:
        encoding = "raw" if remembered == "raw" else "cbor"
    else:
        plain = Plain.of(head.tree.layout, reading.plain)
        encoding = detect(tree, head.data, head.tree.layout, reading.cipher, plain)
    return replace(reading, options=replace(reading.options, encoding=encoding))


def _check_cipher(database: Database | None, reading: Reading, head: Head, tree: Tree, mode: Mode) -> None:
    """Raise DecryptionError or Refused, before anything is shown, where the cipher is a wrong one."""
    rows = database.execute("SELECT value FROM meta WHERE name = 'cipher'") if database is not None else []
    if reading.cipher is None:
        if rows and mode == "write":
            raise Refused(
                "the values of this archive are encrypted: give the key, or open it for reading only"
            )
        return
    if not head.tree.is_hamt:
        raise Refused(f"the values of a {head.tree.title} are not encrypted: leave the key away")
    if rows:
        try:
            reading.cipher.decrypt(rows[0][0])
        except DecryptionError:
            raise DecryptionError("the encryption key or the header is not that of this archive") from None
        return
    from mstfs.tree.hamt.tree import HamtTree
    from mstfs.values.detect import check_key_fits

    assert isinstance(tree, HamtTree)
    assert head.tree.layout is not None
    check_key_fits(tree, head.data, reading.cipher, Plain.of(head.tree.layout, reading.plain))


def _remember(database: Database, reading: Reading) -> None:
    if reading.cipher is not None:
        # What only this key opens tells the next one that comes, even if the tree is empty.
        _set_meta(database, "cipher", reading.cipher.encrypt(b"mstfs"))
    if reading.options.encoding != "auto":
        _set_meta(database, "encoding", reading.options.encoding)
    if reading.tree is not None:
        _set_meta(database, "tree", reading.tree.spelled)


def open_workspace(car: CarFile, database: Database | None, mode: Mode, reading: Reading) -> Workspace:
    """The workspace of a CAR and its overlay, at the root that is asked for, or at the head."""
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
    past = False
    named = _meta(database, "tree")
    if reading.tree is None and named is not None:
        reading = replace(reading, tree=kinds.parse(named))
    try:
        if newest is None:
            head = _first_head(car, blocks, reading)
        elif reading.root is None or reading.root in (newest.root, newest.data):
            head = read_head(blocks, newest.root, reading.tree)
        else:
            # An older root is shown as it was published: nothing is staged on it.
            head, past = _past_head(blocks, log, database, mode, reading), True
    except MissingBlock as error:
        raise MissingBlock(error.cid, f"the root is not in {car.path}") from error
    tree = _open_tree(head, blocks)
    _check_cipher(database, reading, head, tree, mode)
    reading = _as_remembered(database, reading, head, tree)
    values = _open_values(head, tree, blocks, reading)
    why = why_read_only(head, tree) if mode == "write" else None
    if newest is None and database is not None and not database.read_only:
        with database.transaction(durable=True):
            log.append("import", head.root, head.data, rev=head.rev, time_ns=time.time_ns())
            _remember(database, reading)
    workspace = Workspace(
        head=head,
        blocks=blocks,
        tree=tree,
        values=values,
        database=database,
        read_only=mode != "write",
        why_read_only=why,
        past=past,
        born_ns=car.path.stat().st_mtime_ns,
    )
    if not workspace.read_only:
        workspace.files.purge_orphans()
    return workspace


def _past_head(
    blocks: BlockReader, log: history.History, database: Database | None, mode: Mode, reading: Reading
) -> Head:
    assert reading.root is not None
    event = log.find(reading.root)
    if event is None and mode == "write":
        tail = log.tail()
        assert tail is not None
        assert database is not None
        raise OverlayMismatch(
            f"overlay {database.path} was begun at root {cids.to_text(tail.root)}, not at "
            f"{cids.to_text(reading.root)}: give another one with --overlay, or mount with --read-only"
        )
    return read_head(blocks, event.root if event is not None else reading.root, reading.tree)
