"""Drafts and scratch: files, folders and symbolic links that live in the overlay only, by path.

Contents are rows of 64 KiB, so that a write in the middle of a big file costs one row.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from mstfs.blocks.sqlite import Database

CHUNK_BYTES = 64 << 10

PART_CHUNKS = 64
"""Chunks of a large file that are dropped at a time."""

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS files (
        ident INTEGER PRIMARY KEY AUTOINCREMENT,
        path BLOB UNIQUE,
        kind TEXT NOT NULL,
        size INTEGER NOT NULL,
        mode INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        error TEXT,
        target BLOB
    )""",
    """CREATE TABLE IF NOT EXISTS chunks (
        ident INTEGER NOT NULL,
        number INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (ident, number)
    ) WITHOUT ROWID""",
)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One row. `kind`: file, folder, symlink; `mode`: permission bits; `error`: why a draft is no record."""

    ident: int
    path: bytes
    kind: str
    size: int
    mode: int
    mtime_ns: int
    error: str | None = None
    target: bytes | None = None


class Files:
    """The drafts and the scratch of one overlay, mirrored in memory (without their contents).

    `children` holds the names in each folder that something is stored in, directly or further down; the
    folder need not be stored itself, as those of keys are not.

    Every method that changes something is called inside a transaction of the database.
    """

    def __init__(self, database: Database | None) -> None:
        self.database = database
        self.by_path: dict[bytes, StoredFile] = {}
        self.children: dict[bytes, set[bytes]] = {}
        self.reload()

    def reload(self) -> None:
        """Read the table again: after a transaction was rolled back, or on opening."""
        self.by_path, self.children = {}, {}
        if self.database is None:
            return
        rows = self.database.iterate(
            "SELECT ident, path, kind, size, mode, mtime_ns, error, target FROM files WHERE path IS NOT NULL"
        )
        for row in rows:
            self._mirror(StoredFile(*row))

    def purge_orphans(self) -> None:
        """Drop the contents of files that were unlinked while open when the daemon last ended."""
        database = self._writable()
        with database.transaction():
            database.execute(
                "DELETE FROM chunks WHERE ident IN (SELECT ident FROM files WHERE path IS NULL)", ()
            )
            database.execute("DELETE FROM files WHERE path IS NULL", ())

    def _writable(self) -> Database:
        assert self.database is not None, "the caller checks that the mount is writable"
        return self.database

    def _mirror(self, file: StoredFile) -> None:
        self.by_path[file.path] = file
        path = file.path
        while path:
            parent, _, name = path.rpartition(b"/")
            names = self.children.setdefault(parent, set())
            if name in names:
                return
            names.add(name)
            path = parent

    def _unmirror(self, path: bytes) -> None:
        del self.by_path[path]
        while path and path not in self.by_path and path not in self.children:
            parent, _, name = path.rpartition(b"/")
            names = self.children[parent]
            names.discard(name)
            if names:
                return
            del self.children[parent]
            path = parent

    def get(self, path: bytes) -> StoredFile | None:
        return self.by_path.get(path)

    def names(self, folder: bytes) -> frozenset[bytes]:
        """Names in `folder` of what is stored there, and of folders on the way to something that is."""
        return frozenset(self.children.get(folder, ()))

    def has_name(self, folder: bytes, name: bytes) -> bool:
        """Whether a name is among the `names` of a folder."""
        return name in self.children.get(folder, ())

    def below(self, folder: bytes) -> list[StoredFile]:
        """Everything stored below `folder`, parents before their children."""
        found: list[StoredFile] = []
        todo = [folder]
        while todo:
            parent = todo.pop()
            for name in sorted(self.children.get(parent, ())):
                path = parent + b"/" + name if parent else name
                if path in self.by_path:
                    found.append(self.by_path[path])
                todo.append(path)
        return found

    def add(
        self,
        path: bytes,
        kind: str,
        *,
        mode: int,
        mtime_ns: int,
        error: str | None = None,
        target: bytes | None = None,
    ) -> StoredFile:
        """Make an empty file, a folder, or a symbolic link to `target`; the path must be free."""
        database = self._writable()
        size = len(target) if target is not None else 0
        database.execute(
            "INSERT INTO files (path, kind, size, mode, mtime_ns, error, target) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (path, kind, size, mode, mtime_ns, error, target),
        )
        ident = database.execute("SELECT last_insert_rowid()", ())[0][0]
        file = StoredFile(ident, path, kind, size, mode, mtime_ns, error, target)
        self._mirror(file)
        return file

    def change(self, file: StoredFile, **fields: object) -> StoredFile:
        """Change size, mode, mtime_ns, error or path of a stored file."""
        database = self._writable()
        new = replace(file, **fields)  # type: ignore[arg-type]
        database.execute(
            "UPDATE files SET path = ?, size = ?, mode = ?, mtime_ns = ?, error = ? WHERE ident = ?",
            (new.path, new.size, new.mode, new.mtime_ns, new.error, new.ident),
        )
        self._unmirror(file.path)
        self._mirror(new)
        return new

    def write(
        self,
        file: StoredFile,
        chunks: Mapping[int, bytes | bytearray],
        size: int,
        kept: int,
        **fields: object,
    ) -> StoredFile:
        """Store changed chunks, by number, and the new size.

        Of what was stored before, only the first `kept` bytes stay where no chunk replaces them: a file that
        was cut and grew again has zeros behind the cut.
        """
        database = self._writable()
        if kept < file.size:
            last = (kept + CHUNK_BYTES - 1) // CHUNK_BYTES
            database.execute("DELETE FROM chunks WHERE ident = ? AND number >= ?", (file.ident, last))
        database.execute_many(
            "INSERT OR REPLACE INTO chunks (ident, number, data) VALUES (?, ?, ?)",
            [(file.ident, number, bytes(data)) for number, data in chunks.items()],
        )
        return self.change(file, size=size, **fields)

    def read_chunk(self, ident: int, number: int) -> bytes:
        """Up to 64 KiB; a chunk that was never written is empty (its bytes are zeros up to the size)."""
        rows = self._writable().execute(
            "SELECT data FROM chunks WHERE ident = ? AND number = ?", (ident, number)
        )
        return rows[0][0] if rows else b""

    def contents(self, file: StoredFile) -> bytes:
        """The whole of a file: for drafts and for small scratch files."""
        out = bytearray(file.size)
        for number in range((file.size + CHUNK_BYTES - 1) // CHUNK_BYTES):
            data = self.read_chunk(file.ident, number)
            start = number * CHUNK_BYTES
            end = min(start + len(data), file.size)
            out[start:end] = data[: end - start]
        return bytes(out)

    def remove(self, file: StoredFile, *, keep_contents: bool = False) -> None:
        """Remove a path; `keep_contents` leaves the bytes for those who have it open, until `forget`."""
        self._writable().execute("UPDATE files SET path = NULL WHERE ident = ?", (file.ident,))
        self._unmirror(file.path)
        if not keep_contents:
            self.forget(file.ident)

    def forget(self, ident: int) -> None:
        """Drop the contents of a file that has no path any more; a file that has one is left alone."""
        database = self._writable()
        if database.execute("DELETE FROM files WHERE ident = ? AND path IS NULL RETURNING ident", (ident,)):
            database.execute("DELETE FROM chunks WHERE ident = ?", (ident,))

    def forget_part(self, ident: int) -> bool:
        """The same for a large file, a part at a time; returns whether that was the last one."""
        database = self._writable()
        gone = database.execute(
            "DELETE FROM chunks WHERE ident = ?1 AND number IN (SELECT number FROM chunks WHERE ident = ?1 "
            "AND EXISTS (SELECT 1 FROM files WHERE files.ident = ?1 AND path IS NULL) LIMIT ?2) "
            "RETURNING number",
            (ident, PART_CHUNKS),
        )
        if len(gone) == PART_CHUNKS:
            return False
        self.forget(ident)
        return True

    def drafts(self) -> Iterator[StoredFile]:
        """Every file that carries an error, in path order."""
        for path in sorted(self.by_path):
            if self.by_path[path].error is not None:
                yield self.by_path[path]
