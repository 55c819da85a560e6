"""The strict check of what one root reaches, wherever its blocks are: a CAR, an overlay above it, or both.

`verify` checks a file, down to its sections; here is no file, so only what the root leads to is looked at.
The rules and their names are the same.
"""

from collections.abc import Callable, Generator, Iterator, Sequence

from mstfs.blocks.interface import BlockReader
from mstfs.errors import BlockError, CidError, Refused
from mstfs.repo import signing, verify_commit, verify_record
from mstfs.repo.verify import Report
from mstfs.tree.defect import Defect, block_defect
from mstfs.tree.mst.verify import TreeVerification

_STEP = 1024


class HeadVerification:
    """One verification. Iterate over it once for the defects as they are found, then ask for the `report`.

    `root` is a commit or an MST node. `key` and `allow_unsigned` are those of `verify.Verification`.
    `progress` is called now and then with the number of records looked at. SignatureError for a malformed
    `key`.
    """

    def __init__(
        self,
        blocks: BlockReader,
        root: bytes,
        key: str | None = None,
        *,
        progress: Callable[[int], None] | None = None,
        allow_unsigned: bool = False,
    ) -> None:
        self._blocks = blocks
        self._root = root
        self._key = None if key is None else signing.parse_public_key(key)
        self._progress = progress
        self._allow_unsigned = allow_unsigned
        self._tree: TreeVerification | None = None
        self._commit: verify_commit.Examined | None = None
        self._data: bytes | None = None
        self._records = 0
        self._complete = True
        self._count = 0
        self._ended = False
        # Hashes of the CIDs of flawed records: one that many keys name is told about once.
        self._told: set[int] = set()

    def __iter__(self) -> Iterator[Defect]:
        for defect in self._run():
            self._count += 1
            yield defect
        self._ended = True

    def report(self, defects: tuple[Defect, ...] = ()) -> Report:
        """What was found, with the defects that the caller kept. Refused before the iteration has ended."""
        if not self._ended:
            raise Refused("the verification has not ended yet")
        tree, commit = self._tree, self._commit
        nodes = tree.nodes if tree is not None else 0
        return Report(
            root=self._root,
            commit=self._root if commit is not None else None,
            data=self._data,
            did=commit.did if commit is not None else None,
            rev=commit.rev if commit is not None else None,
            records=self._records,
            nodes=nodes,
            blocks_seen=nodes + self._records + (commit is not None),
            unlinked=0,
            duplicates=0,
            signature=commit.signature if commit is not None else "unsigned",
            complete=self._complete and tree is not None and tree.complete,
            defect_count=self._count,
            defects=defects,
        )

    def _run(self) -> Iterator[Defect]:
        root = self._root
        block = yield from self._block(root, None)
        if block is None:
            return
        found = verify_commit.examine_root(root, block, self._key, allow_unsigned=self._allow_unsigned)
        self._commit, self._data = found.commit, found.data
        yield from found.defects
        if self._data is not None:
            self._tree = TreeVerification(self._blocks, self._data, self._check_entries)
            yield from self._tree

    def _block(self, cid: bytes, key: bytes | None) -> Generator[Defect, None, bytes | None]:
        """Gives the defect if the block cannot be had; returns the block, or None."""
        try:
            return self._blocks.get(cid)
        except BlockError as error:
            self._complete = False
            yield block_defect(error)._replace(key=key)
        except CidError as error:
            self._complete = False
            yield Defect("block-hash-unknown", str(error), cid, key)
        return None

    def _check_entries(
        self, node: bytes, keys: Sequence[bytes | None], values: Sequence[bytes | None]
    ) -> list[Defect]:
        defects: list[Defect] = []
        for key, value in zip(keys, values, strict=True):
            self._records += 1
            if self._progress is not None and not self._records % _STEP:
                self._progress(self._records)
            if key is not None:
                defects += verify_record.key_defects(node, key)
            if value is not None:
                defects += self._check_record(value, key)
        return defects

    def _check_record(self, cid: bytes, key: bytes | None) -> Iterator[Defect]:
        mark = hash(cid)
        if mark in self._told:
            return
        data = yield from self._block(cid, key)
        if data is None or verify_record.is_plain(data):
            return
        for defect in verify_record.defects(data):
            self._told.add(mark)
            yield defect._replace(cid=cid, key=key)
