"""A Zarr store over an archive, without a mount; needs the package zarr (the extra `mstfs[zarr]`).

with HamtStore("data.car", mode="a") as store:
    dataset.to_zarr(store, zarr_format=3)
    root = store.publish()
xarray.open_zarr(HamtStore("data.car"))

Zarr runs the methods of a store on an event loop of its own. Everything here is local and quick, and an
archive is not for several threads at a time: so methods do their work where they are called, under a lock.

Source: zarr-python 3, `zarr.abc.store`.
"""

import os
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from threading import RLock
from typing import Any, Literal, NamedTuple, Self
from uuid import uuid4
from weakref import WeakValueDictionary

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from mstfs.archive import Archive, create_archive, open_archive
from mstfs.errors import Refused
from mstfs.tree import kinds
from mstfs.tree.interface import Entry
from mstfs.tree.kinds import Kind
from mstfs.values.interface import ValueOptions

Mode = Literal["r", "r+", "a", "w", "w-"]

_ALL = 1 << 62
"""More bytes than any value has."""

_PAGE = 16
_PAGE_MOST = 4096


class _Opened:
    """An archive that stores share."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.lock = RLock()
        self.name = uuid4().hex
        self.process = os.getpid()
        self.closed = False


_OPENED: "WeakValueDictionary[str, _Opened]" = WeakValueDictionary()
"""What this process has open, by name: a pickled store that comes back to it finds its archive here."""


class _Recipe(NamedTuple):
    """What a pickled store consists of; `root` is None where the newest state is shown."""

    name: str
    car: str
    overlay: str | None
    root: bytes | None
    tree: Kind | None
    encoding: Any
    sealed: bool
    folder: str
    read_only: bool


class HamtStore(Store):
    """A Zarr store whose keys are those of an archive; a HAMT can be written, any tree can be read.

    `archive` is an open archive, or the path of a CAR or an overlay that is to be opened: `mode` "r" reads
    it, "r+" changes what is there, "a" makes it if need be, "w" begins with an empty store, "w-" makes one
    where there is none. `options` are those of `mstfs.open`; a new archive is a tree of the kind `tree`, by
    default that of py-hamt 3. With a `path` the store is what the archive holds below this folder.

    What is set is staged in the overlay at once; `publish` makes a new root of it. A store can be pickled:
    in this process it goes on with the same archive, in others it opens the files for reading only.
    `close` closes the archive if it was opened here. Raises what `mstfs.open` raises, ValueError for a mode
    that does not fit, FileExistsError, FileNotFoundError.
    """

    def __init__(
        self,
        archive: Archive | str | os.PathLike[str],
        *,
        mode: Mode | None = None,
        read_only: bool = False,
        path: str = "",
        **options: Any,
    ) -> None:
        self._own = not isinstance(archive, Archive)
        if isinstance(archive, Archive):
            if mode is not None or options:
                raise ValueError("an archive that is open has its mode and its options already")
            opened = _shared(archive)
        else:
            read_only = read_only or mode in (None, "r")
            opened = _Opened(_open(archive, "r" if read_only else mode or "r", options))
            _OPENED[opened.name] = opened
        super().__init__(read_only=read_only or opened.archive.workspace.read_only)
        self._opened = opened
        self._folder = path.strip("/") + "/" if path.strip("/") else ""
        if mode == "w" and not self.read_only:
            self._delete_all(self._folder)

    @classmethod
    def _over(cls, opened: _Opened, folder: str, read_only: bool) -> Self:
        store = cls.__new__(cls)
        Store.__init__(store, read_only=read_only)
        store._own = False
        store._opened = opened
        store._folder = folder
        return store

    # --- what it is ---------------------------------------------------------------------------

    @property
    def archive(self) -> Archive:
        """The archive below. ValueError once it is closed."""
        if self._opened.closed:
            raise ValueError("the store is closed")
        return self._opened.archive

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same store with or without the right to change it. ValueError where it cannot be changed."""
        if not read_only and self.archive.workspace.read_only:
            raise ValueError("the archive is open for reading only")
        return self._over(self._opened, self._folder, read_only)

    def publish(self, message: str = "") -> str:
        """Make a new root of everything that is staged, durable on return; returns the CID of the head."""
        self._check_writable()
        with self._opened.lock:
            self.archive.publish(message=message)
            return self.archive.root

    def close(self) -> None:
        super().close()
        with self._opened.lock:
            if self._own and not self._opened.closed:
                self._opened.closed = True
                self._opened.archive.close()

    def __str__(self) -> str:
        return f"mstfs://{self._car}{'#' if self._folder else ''}{self._folder.removesuffix('/')}"

    def __repr__(self) -> str:
        return f"HamtStore({str(self)!r})"

    @property
    def _car(self) -> Path:
        return self._opened.archive.car.path.absolute()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, HamtStore)
            and self._folder == other._folder
            and self._car == other._car
            and self._opened.archive.overlay_path == other._opened.archive.overlay_path
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        archive = self.archive
        overlay = archive.overlay_path
        # Without edits to show it stays at its root; else those who open it again see the newest state.
        fixed = archive.workspace.edits.database is None
        recipe = _Recipe(
            self._opened.name,
            str(self._car),
            None if overlay is None else str(overlay.absolute()),
            archive.head.root if fixed else None,
            None if archive.kind.name == "mst" else archive.kind,
            archive.encoding or "auto",
            getattr(archive.workspace.values, "cipher", None) is not None,
            self._folder,
            self.read_only,
        )
        return _restore, (recipe,)

    # --- reading ------------------------------------------------------------------------------

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """The same as `get`, for those who have no event loop."""
        prototype = prototype or default_buffer_prototype()
        name = self._folder + key
        with self._opened.lock:
            try:
                if byte_range is None:
                    data = self.archive.read(name, 0, _ALL)
                elif isinstance(byte_range, RangeByteRequest):
                    data = self.archive.read(name, byte_range.start, byte_range.end - byte_range.start)
                elif isinstance(byte_range, OffsetByteRequest):
                    data = self.archive.read(name, byte_range.offset, _ALL)
                elif isinstance(byte_range, SuffixByteRequest):
                    start = self.archive.size(name) - byte_range.suffix
                    data = self.archive.read(name, max(start, 0), byte_range.suffix)
                else:
                    raise ValueError(f"Unexpected byte_range, got {byte_range}.")
            except KeyError:
                return None
        return prototype.buffer.from_bytes(data)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        return self.get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [self.get_sync(key, prototype=prototype, byte_range=part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        with self._opened.lock:
            return self._folder + key in self.archive

    async def getsize(self, key: str) -> int:
        with self._opened.lock:
            try:
                return self.archive.size(self._folder + key)
            except KeyError:
                raise FileNotFoundError(key) from None

    async def getsize_prefix(self, prefix: str) -> int:
        total = 0
        for entry in self._entries(self._folder + prefix):
            with self._opened.lock:
                total += self.archive.workspace.values.size(entry.key, entry.cid)
        return total

    # --- listing ------------------------------------------------------------------------------

    async def is_empty(self, prefix: str) -> bool:
        return next(self._entries(self._folder + _as_folder(prefix)), None) is None

    async def list(self) -> AsyncIterator[str]:
        for entry in self._entries(self._folder):
            yield self._name(entry.key)

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for entry in self._entries(self._folder + prefix):
            yield self._name(entry.key)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names in a folder. What is below a folder in it is passed over, and not read."""
        folder = _spelled(self._folder + _as_folder(prefix.rstrip("/")))
        for name in self._names(folder):
            yield _text(name)

    def _name(self, key: bytes) -> str:
        return _text(key).removeprefix(self._folder)

    def _entries(self, prefix: str, after: bytes | None = None) -> Iterator[Entry]:
        """The entries under a prefix. Pages grow; the lock is not held while the caller has one."""
        spelled = _spelled(prefix)
        size = _PAGE
        while True:
            with self._opened.lock:
                page = self.archive.workspace.staged.page(spelled, after, size)
            yield from page
            if len(page) < size:
                return
            after = page[-1].key
            size = min(size * 4, _PAGE_MOST)

    def _names(self, folder: bytes) -> Iterator[bytes]:
        start: bytes | None = folder
        while start is not None:
            with self._opened.lock:
                first = self.archive.workspace.staged.seek(start)
            if first is None or not first.key.startswith(folder):
                return
            start = None
            for key in self._from(first, folder):
                name, slash, _ = key[len(folder) :].partition(b"/")
                if not slash:
                    if name:
                        yield name
                    continue
                # A name may be that of a value and of a folder; then it was given before.
                with self._opened.lock:
                    twice = self.archive.workspace.staged.get(folder + name) is not None
                if name and not twice:
                    yield name
                start = folder + name + b"0"  # The character behind the slash.
                break

    def _from(self, first: Entry, folder: bytes) -> Iterator[bytes]:
        yield first.key
        for entry in self._entries(_text(folder), first.key):
            yield entry.key

    # --- writing ------------------------------------------------------------------------------

    @property
    def supports_writes(self) -> bool:
        return True

    @property
    def supports_deletes(self) -> bool:
        return True

    @property
    def supports_listing(self) -> bool:
        return True

    @property
    def supports_partial_writes(self) -> Literal[False]:
        return False

    async def set_partial_values(self, key_start_values: Iterable[Any]) -> None:
        """Not supported; the first releases of zarr 3 ask for the method."""
        raise NotImplementedError

    def set_sync(self, key: str, value: Buffer) -> None:
        """The same as `set`, for those who have no event loop."""
        self._check_writable()
        if not isinstance(value, Buffer):
            raise TypeError(f"the value must be a Buffer, not {type(value).__name__}")
        with self._opened.lock:
            self.archive[self._folder + key] = value.to_bytes()

    async def set(self, key: str, value: Buffer) -> None:
        self.set_sync(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        self._check_writable()
        with self._opened.lock:
            if self._folder + key not in self.archive:
                self.set_sync(key, value)

    async def _set_many(self, values: Iterable[tuple[str, Buffer]]) -> None:
        # In one transaction: all of them or none.
        self._check_writable()
        with self._opened.lock, self.archive.workspace.transaction():
            for key, value in values:
                self.set_sync(key, value)

    def delete_sync(self, key: str) -> None:
        """The same as `delete`, for those who have no event loop."""
        self._check_writable()
        with self._opened.lock:
            self._delete(_spelled(self._folder + key))

    async def delete(self, key: str) -> None:
        self.delete_sync(key)

    async def delete_dir(self, prefix: str) -> None:
        self._check_writable()
        self._delete_all(self._folder + _as_folder(prefix))

    async def clear(self) -> None:
        self._check_writable()
        self._delete_all(self._folder)

    def _delete(self, key: bytes) -> None:
        workspace = self.archive.workspace
        if workspace.staged.get(key) is not None:
            with workspace.transaction():
                workspace.stage_delete(key)

    def _delete_all(self, prefix: str) -> None:
        # In one transaction: all of them or none.
        with self._opened.lock, self.archive.workspace.transaction():
            for key in [entry.key for entry in self._entries(prefix)]:
                self._delete(key)


def _open(place: str | os.PathLike[str], mode: Mode, options: dict[str, Any]) -> Archive:
    """The archive that a mode asks for."""
    path = Path(place)
    if mode not in ("r", "r+", "a", "w", "w-"):
        raise ValueError(f"{mode!r} is no mode: r, r+, a, w and w- are")
    if mode == "w-" or (mode in ("a", "w") and not os.path.lexists(path)):
        tree = options.pop("tree", "hamt3")
        if kinds.parse(tree).name == "hamt3":
            # An empty tree does not tell how its values are kept; those of a Zarr store are plain bytes.
            options.setdefault("values", "raw")
        return create_archive(path, tree, **options)
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    archive = open_archive(path, read_only=mode == "r", **options)
    try:
        why = archive.workspace.why_read_only
        if mode != "r" and archive.workspace.read_only:
            raise Refused(f"{path}: {why or 'it can be read, not changed'}")
    except BaseException:
        archive.close()
        raise
    return archive


def _shared(archive: Archive) -> _Opened:
    """What other stores over the same archive share, so that they have one lock."""
    for opened in _OPENED.values():
        if opened.archive is archive:
            return opened
    opened = _Opened(archive)
    _OPENED[opened.name] = opened
    return opened


def _restore(recipe: _Recipe) -> HamtStore:
    """A store that was pickled."""
    opened = _OPENED.get(recipe.name)
    # A fork has the archives of its parent in its memory, but must not use them.
    if opened is not None and opened.process == os.getpid() and not opened.closed:
        return HamtStore._over(opened, recipe.folder, recipe.read_only)
    if recipe.sealed:
        raise Refused("the archive is encrypted, and keys are not pickled: open it where it is used")
    archive = Archive.open(
        recipe.car,
        mode="read" if recipe.overlay is not None else "car",
        root=recipe.root,
        overlay=recipe.overlay,
        tree=recipe.tree,
        options=ValueOptions(encoding=recipe.encoding),
    )
    store = HamtStore._over(_shared(archive), recipe.folder, True)
    store._own = True
    return store


def _as_folder(prefix: str) -> str:
    return prefix + "/" if prefix and not prefix.endswith("/") else prefix


def _spelled(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
