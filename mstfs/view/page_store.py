"""Pages on disk, so that a folder that was listed once need not be read again to be listed on the next mount.

One file a folder, named by a hash of the folder's path, in a folder beside the CAR or in the user's cache. It
holds what names, sizes and times a root gives, nothing that is in no block: it may be deleted at any time.

Layout: MAGIC; u32 length of the header; the header (DAG-CBOR: `root`, a CID as bytes; `path`; `how`, the kind
of tree and of values; `pages`, their number); its BLAKE3; then the pages, each behind u32 its length and its
BLAKE3. Numbers are little-endian.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from blake3 import blake3

from mstfs.blocks.car_writer import replacing
from mstfs.codec import dag_cbor
from mstfs.errors import FormatError, MstfsError

log = logging.getLogger("mstfs")

SUFFIX = ".mstfs-listings"
MAGIC = b"mstfs pages 1\n"
HEADER_BYTES = 1 << 16
PAGE_BYTES = 1 << 20
DIGEST = 32


class Kept(NamedTuple):
    """The pages of a folder as of a root. `blobs` reads one after the other, up to one that is damaged."""

    root: bytes
    pages: int
    blobs: Iterator[bytes]


class PageStore:
    """The pages of one archive. Whatever fails is as if nothing were stored."""

    def __init__(self, folder: Path, how: str) -> None:
        self.folder = folder
        self.how = how

    def _file(self, path: bytes) -> Path:
        return self.folder / (blake3(self.how.encode() + b"\0" + path).hexdigest()[:32] + ".pages")

    def read(self, path: bytes) -> Kept | None:
        """What is stored of a folder, or None."""
        file = self._file(path)
        try:
            fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        opened = os.fdopen(fd, "rb")
        try:
            root, count = self._header(opened, path)
        except (OSError, MstfsError):
            opened.close()
            return None
        return Kept(root, count, self._blobs(opened, count, file))

    def _header(self, file: BinaryIO, path: bytes) -> tuple[bytes, int]:
        head = file.read(len(MAGIC) + 4)
        data = file.read(min(int.from_bytes(head[len(MAGIC) :], "little"), HEADER_BYTES))
        if head[: len(MAGIC)] != MAGIC or blake3(data).digest() != file.read(DIGEST):
            raise FormatError("no pages, or damaged")
        match dag_cbor.decode(data):
            case {"root": bytes(root), "path": bytes(of), "how": str(how), "pages": int(count)} if (
                of == path and how == self.how
            ):
                return root, count
        raise FormatError("pages of something else")

    def _blobs(self, file: BinaryIO, count: int, path: Path) -> Iterator[bytes]:
        with file:
            for _ in range(count):
                head = file.read(4 + DIGEST)
                size = int.from_bytes(head[:4], "little")
                blob = file.read(size) if size <= PAGE_BYTES else b""
                if len(blob) != size or blake3(blob).digest() != head[4:]:
                    log.warning("%s is damaged: its folder is read anew", path)
                    return
                yield blob

    def write(self, path: bytes, kept: Kept) -> None:
        """Store all pages of a folder, in place of what was stored of it."""
        header = dag_cbor.encode({"root": kept.root, "path": path, "how": self.how, "pages": kept.pages})
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacing(self._file(path), mode=0o600) as file:
                file.write(MAGIC + len(header).to_bytes(4, "little") + header + blake3(header).digest())
                for blob in kept.blobs:
                    file.write(len(blob).to_bytes(4, "little") + blake3(blob).digest() + blob)
        except OSError as error:
            log.info("the listing of %r is not kept: %s", path, error)


def place_of(car: Path, fingerprint: bytes) -> Path:
    """The folder for the pages of a CAR: beside it, or in the user's cache if nothing can be put there."""
    if os.access(car.parent, os.W_OK):
        return car.with_name(car.name + SUFFIX)
    from platformdirs import user_cache_path

    return user_cache_path("mstfs") / (fingerprint.hex()[:32] + SUFFIX)
