"""Reading blocks out of a CAR file, CARv1 or CARv2 (ipld.io/specs/transport/car). A CAR is never written to.

Where the blocks are is told by an index beside the file (`car_index`), made by one pass when the
file is first opened, or by the index that a CARv2 carries, which is believed only as far as each
section confirms it. Bytes are read with `pread`: a file that is cut under us gives an error.

Each block is hashed once in a process; a bit for each row of the index remembers it. A file that is changed
while it is open is hashed at every read: what was checked before says nothing about it. Small blocks are
hashed every time anyway, in C, which takes less than to look after all this. Large ones that will be asked
for next are read and hashed in a thread (`fast_ahead.c`), as far as somebody says which.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from blake3 import blake3

from mstfs.blocks import car_index, car_tags
from mstfs.blocks.car_embedded import EmbeddedIndex
from mstfs.blocks.car_format import Frame, read_all, read_at, read_frame
from mstfs.blocks.car_index import SMALL_BYTES, CarIndex, Hit, Stamp, Summary
from mstfs.blocks.car_scan import Problem, Scan, Section
from mstfs.blocks.interface import ReadSmall, read_nothing
from mstfs.codec import cid as cids
from mstfs.errors import CarError, CorruptBlock, MissingBlock, UnreachableBlock
from mstfs.limits import BLOCK_BYTES

try:
    from mstfs.blocks import fast_ahead
except ImportError:  # There was no compiler: nothing is read ahead.
    fast_ahead = None  # type: ignore[assignment]

Verify = Literal["once", "always"]


class CarFile:
    """A BlockReader over a CAR file. Make one with `CarFile.open`.

    Blocks are matched by multihash. Of several copies of a block the first sound one is given.
    """

    def __init__(self, path: Path, fd: int, frame: Frame, stamp: Stamp, sidecars: "_Sidecars") -> None:
        self.path = path
        self.version = frame.version
        self.roots = frame.roots
        self.size = stamp.size
        """Bytes in the file."""
        self.verify: Verify = "once"
        """Whether a block is hashed at every read, or only at the first."""
        self._fd = fd
        self._frame = frame
        self._stamp = stamp
        self._sidecars = sidecars
        self._trusted = False
        self._copies: dict[int, Hit | None] = {}
        self._ahead: fast_ahead.Reader | None = None
        self._tags: car_tags.Tags | None = None
        self._index: CarIndex | EmbeddedIndex
        self.read_small: ReadSmall
        self._sound: bytearray
        self._use(self._load() or EmbeddedIndex.open(fd, frame) or self._build())

    @classmethod
    def open(
        cls,
        path: Path,
        index: Path | None = None,
        cache_dir: Path | None = None,
        use_sidecar: bool = True,
        verify: Verify = "once",
    ) -> "CarFile":
        """Open a CAR.

        `index` is where its index is or goes; by default beside the CAR, or else in `cache_dir` (by
        default the user's cache directory), or else in memory. With `use_sidecar` false no index file
        is read or written. CarError, which names the file, if it is not a readable CAR.
        """
        fd = -1
        try:
            fd = _open_regular(path)
            stamp = car_index.stamp_of(fd)
            if stamp.size == 0:
                raise CarError("the file is empty", 0)
            sidecars = _Sidecars(path, index, cache_dir, use_sidecar)
            car = cls(path, fd, read_frame(fd, stamp.size), stamp, sidecars)
        except BaseException as error:
            if fd >= 0:
                os.close(fd)
            if isinstance(error, CarError):
                raise CarError(f"{path}: {error}", error.offset) from None
            raise
        car.verify = verify
        return car

    def close(self) -> None:
        """Release the file and its index. Reading fails afterwards; closing again does nothing."""
        if self._fd >= 0:
            self._stop_ahead()
            self._index.close()
            self.read_small = read_nothing
            if self._tags is not None:
                os.close(self._tags.fd)
            os.close(self._fd)
            self._fd = -1

    def let_go(self) -> None:
        """Hold no more of the index in memory than is looked up from now on, and no blocks."""
        self._stop_ahead()
        if isinstance(self._index, CarIndex):
            self._index.let_go()

    def __enter__(self) -> "CarFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- blocks -------------------------------------------------------------------------------

    def get(self, cid: bytes) -> bytes:
        """The bytes of a block. MissingBlock, CorruptBlock, UnreachableBlock; CidError for a bad CID."""
        data = self.read_small(cid)
        if data is not None:
            return data
        hit = self._index.find(cid)
        if hit is not None:
            row, offset, length = hit
            ahead = self._ahead
            if ahead is not None and cid[:4] in cids.COMMON:
                data = ahead.take(cid)
                if data is not None:
                    self._sound[row >> 3] |= 1 << (row & 7)
                    return data
            if 0 <= length <= BLOCK_BYTES:
                data = self._pread(cid, length, offset)
                if len(data) == length:
                    bit = 1 << (row & 7)
                    if self._sound[row >> 3] & bit and self.verify == "once" and not self._is_changed():
                        return data
                    if cids.matches(cid, data):
                        self._sound[row >> 3] |= bit
                        return data
        return self._get_carefully(cid, hit)

    def expect(self, expected: Sequence[bytes]) -> None:
        """`BlockReader.expect`: large blocks that were not hashed yet are read in a thread meanwhile."""
        if fast_ahead is None or not isinstance(self._index, CarIndex):
            return
        ahead = self._ahead
        if ahead is None:
            ahead = self._ahead = fast_ahead.Reader(self._fd)
        for cid in expected:
            hit = self._index.find(cid) if cid[:4] in cids.COMMON else None
            if hit is None:
                continue
            row, offset, length = hit
            if length > SMALL_BYTES and not self._sound[row >> 3] & 1 << (row & 7):
                ahead.expect(cid, offset, length)

    def has(self, cid: bytes) -> bool:
        """Whether the file has the block. It may still turn out to be corrupt.

        UnreachableBlock if the file cannot be read; CidError for a bad CID.
        """
        return self.locate(cid) is not None or cids.identity_data(cid) is not None

    def length(self, cid: bytes) -> int:
        """The bytes of a block. Errors as for `get`."""
        hit = self._index.find(cid)
        if hit is not None:
            row, _, length = hit
            # A copy that nobody looked at may be a false one, of another length than the sound one.
            checked = self._sound[row >> 3] & 1 << (row & 7)
            if 0 <= length <= BLOCK_BYTES and (checked or self._index.is_only_copy(row)):
                return length
        return len(self.get(cid))

    def locate(self, cid: bytes) -> tuple[int, int] | None:
        """The offset in the file and the length of the first copy of a block, or None; not hashed.

        Errors as for `has`.
        """
        hit = self._index.find(cid)
        if hit is None and cids.identity_data(cid) is None and self._renew_index(cid):
            hit = self._index.find(cid)
        return None if hit is None else hit[1:]

    def fileno(self) -> int:
        """The file, for who reads what `locate` gives."""
        return self._fd

    def tags(self) -> car_tags.Tags:
        """What the pages of blocks that were hashed are known by, open until the CAR is closed."""
        if self._tags is None:
            self._tags = car_tags.open_tags(self._sidecars.of(car_tags.SUFFIX))
        return self._tags

    def _get_carefully(self, cid: bytes, hit: Hit | None) -> bytes:
        # What the index said is not there, or not sound: look at the index itself, and for copies.
        data = cids.identity_data(cid)
        if data is not None:
            return data
        if self._renew_index(cid):
            return self.get(cid)
        if hit is None:
            raise MissingBlock(cid)
        row, offset, length = hit
        changed = self._is_changed()
        if not changed and row in self._copies:
            copy = self._copies[row]
        else:
            assert isinstance(self._index, CarIndex)
            copies = self._index.find_all(cid)
            copy = next((copy for copy in copies if self._read_sound(cid, copy) is not None), None)
            if not changed:
                # A flood of false copies is read once; afterwards it is known which one is sound, if any.
                self._copies[row] = copy
        data = None if copy is None else self._read_sound(cid, copy)
        if data is None:
            why = "; the file was changed after it was opened" if changed else ""
            reason = f"the {length} bytes at offset {offset} of {self.path} do not match it{why}"
            raise CorruptBlock(cid, reason)
        return data

    def _read_sound(self, cid: bytes, hit: Hit) -> bytes | None:
        _, offset, length = hit
        if not 0 <= length <= BLOCK_BYTES:
            return None
        data = self._pread(cid, length, offset)
        return data if cids.matches(cid, data) else None

    def _is_changed(self) -> bool:
        # Asked after a read: who writes to a file changes its time first, so what was read before is old.
        found = os.fstat(self._fd)
        return found.st_mtime_ns != self._stamp.mtime_ns or found.st_size != self._stamp.size

    def _pread(self, cid: bytes, length: int, offset: int) -> bytes:
        try:
            data = os.pread(self._fd, length, offset)
            return data if len(data) == length else read_all(self._fd, length, offset)
        except OverflowError:  # a damaged index may name offsets that no file has
            return b""
        except OSError as error:
            reason = f"{self.path} cannot be read at offset {offset}: {error.strerror}"
            raise UnreachableBlock(cid, reason) from None

    # --- the file -----------------------------------------------------------------------------

    def scan(self) -> Scan:
        """A new pass over the file. When its `sections` are through, it knows what else was found."""
        return Scan(self._fd, self._frame)

    def sections(self) -> Iterator[Section]:
        """Every whole section in file order; nothing is hashed. CarError if the file cannot be read."""
        return self.scan().sections()

    def read_raw(self, data_offset: int, length: int) -> bytes:
        """Bytes of the file, unchecked. CarError if they cannot be read or the file ends before."""
        if data_offset < 0 or length < 0 or data_offset + length > self.size:
            raise CarError(f"{self.path}: {length} bytes at {data_offset} are outside the file", data_offset)
        data = read_at(self._fd, length, data_offset)
        if len(data) < length:
            raise CarError(f"{self.path}: the file was cut after it was opened", data_offset + len(data))
        return data

    @property
    def header(self) -> bytes:
        """The CBOR of the CARv1 header."""
        return self._frame.header

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that stand for the content: size, header, the first and last 64 KiB; not name or time."""
        parts = (self.size.to_bytes(8, "big"), self._frame.header, bytes.fromhex(self._stamp.edges))
        return bytes(blake3(b"".join(parts)).digest())

    @property
    def block_count(self) -> int:
        """Whole sections with a sound CID, duplicates counted."""
        return self._summary().blocks

    @property
    def torn(self) -> str | None:
        """Why the data ends early, with the offset; None if it is whole.

        A CARv2 whose own index is in use has not been read through, so only its lengths were compared.
        """
        return self._frame.torn if isinstance(self._index, EmbeddedIndex) else self._summary().torn

    @property
    def padding(self) -> int:
        """NUL bytes behind the last section."""
        return self._summary().padding

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The first sections that had to be skipped, with offset and reason."""
        return self._summary().problems

    @property
    def index_path(self) -> Path | None:
        """The sidecar index in use; None if the index is in memory or the CARv2's own."""
        return self._index.path if isinstance(self._index, CarIndex) else None

    # --- the index ----------------------------------------------------------------------------

    def _summary(self) -> Summary:
        if isinstance(self._index, EmbeddedIndex):
            self._use(self._build())
        assert isinstance(self._index, CarIndex)
        return self._index.summary

    def _load(self) -> CarIndex | None:
        loaded = (car_index.load(path, self._stamp) for path in self._sidecars.of(car_index.SUFFIX))
        return next((index for index in loaded if index is not None), None)

    def _build(self) -> CarIndex:
        index = car_index.build(self._fd, self._frame, self._stamp, self._sidecars.of(car_index.SUFFIX))
        self._trusted = True
        return index

    def _use(self, index: CarIndex | EmbeddedIndex) -> None:
        self._stop_ahead()
        self._index = index
        self.read_small = index.small_reader(self._fd) if isinstance(index, CarIndex) else read_nothing
        self._sound = bytearray(index.row_count // 8 + 1)
        self._copies.clear()

    def _stop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.close()

    def _renew_index(self, cid: bytes) -> bool:
        # The index may be at fault. Gives whether there is a new one now. This happens once at most:
        # an index that this process made, or that was found intact, is right.
        if self._trusted:
            return False
        if isinstance(self._index, CarIndex) and self._index.is_intact():
            self._trusted = True
            return False
        old = self._index
        try:
            self._use(self._build())
        except CarError as error:
            raise UnreachableBlock(cid, f"{self.path}: {error}") from None
        old.close()
        return True


def _open_regular(path: Path) -> int:
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise CarError(f"cannot be opened: {error.strerror}") from None
    except ValueError as error:
        raise CarError(f"cannot be opened: {error}") from None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise CarError("is a folder, not a CAR file" if stat.S_ISDIR(mode) else "is not a regular file")
    return fd


class _Sidecars:
    # The places where what belongs to a CAR may be, best first.
    def __init__(self, path: Path, index: Path | None, cache_dir: Path | None, enabled: bool) -> None:
        self._path = path
        self._index = index
        self._cache_dir = cache_dir
        self._enabled = enabled

    def of(self, suffix: str) -> Iterator[Path]:
        if not self._enabled:
            return
        if self._index is not None:
            yield (
                self._index
                if suffix == car_index.SUFFIX
                else self._index.with_name(self._index.name + suffix)
            )
            return
        yield self._path.with_name(self._path.name + suffix)
        folder = self._cache_dir
        if folder is None:
            from platformdirs import user_cache_path

            folder = user_cache_path("mstfs")
        yield folder / (blake3(os.fsencode(self._path.absolute())).hexdigest() + suffix)
