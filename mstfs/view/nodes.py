"""What a path names, and what `stat` says about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from mstfs.staging.files import StoredFile


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder; `fixed` folders belong to the control folder or to the history and never change.

    `cid` is what the tree says that the folder is, if it says it.
    """

    fixed: bool = False
    cid: bytes | None = None


@dataclass(frozen=True, slots=True)
class Leaf:
    """The file of a key: a record or a blob.

    `verbatim`: the text of a record as it was written is kept, and shown until it is published.
    """

    key: bytes
    cid: bytes
    staged: bool = False
    verbatim: bool = False
    mtime_ns: int | None = None
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A draft, a scratch file, or a symbolic link, as the overlay holds it."""

    file: StoredFile


@dataclass(frozen=True, slots=True)
class Pending:
    """A file that was created and has not been closed yet: it lives in its buffer alone."""


@dataclass(frozen=True, slots=True)
class Control:
    """A file of the control folder. `produce` gives its bytes as of now; `fixed` ones never change."""

    produce: Callable[[], bytes]
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A request to the daemon: what is written is the question, what is read afterwards the answer."""


Node = Folder | Leaf | Stored | Pending | Control | Command


class Attributes(NamedTuple):
    """`stat` in short. `kind` is folder, file or symlink; `mode` the permission bits; sizes in bytes.

    `lasting` says that the kernel may keep this until it is told otherwise.
    """

    number: int
    kind: str
    mode: int
    size: int
    mtime_ns: int
    lasting: bool
