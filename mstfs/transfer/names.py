"""From the keys of a source to the keys of a target.

A source has keys, or paths of files; so has a target. Where one has keys and the other paths, a record's
file is called as a mount would call it. A spelling says which key an item gets; it raises Refused, with the
key and what could be done, for one that the target cannot have.
"""

from collections.abc import Collection, Iterable
from typing import Protocol

from mstfs.errors import Refused, SyntaxRuleError
from mstfs.limits import KEY_BYTES, NAME_BYTES, NESTING
from mstfs.repo.syntax import check_key
from mstfs.staging.status import key_text
from mstfs.tree.kinds import Kind
from mstfs.view.names import ITSELF, Names

_SHOWN = 200

_HINT = "; --escape gives such keys the names that a mount shows"


def shown(key: bytes) -> str:
    """A key for an error: one line that is not too long."""
    text = key_text(key)
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


class Spelling(Protocol):
    """How the keys of one source are spelled in one target."""

    def key_of(self, key: bytes) -> bytes:
        """The key in the target. Refused."""
        ...

    def settled(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        """Those of all keys in the target, a set, that get another name now, with it. Refused."""
        ...


def spelling(kind: Kind, is_files: bool, suffix: bytes, escape: bool) -> Spelling:
    """How keys of a source are spelled in a tree of this kind; the other arguments describe the source.

    With `escape` the names of files are those that a mount shows, on whichever side they are.
    """
    if kind.name == "mst":
        return RecordFiles() if is_files else RecordKeys()
    if kind.name == "unixfs":
        if is_files:
            return Paths(b"", None, "")
        return Paths(suffix, Names(suffix, nested=not suffix) if escape else None, _HINT)
    text = kind.title if kind.layout is not None and kind.layout.text_keys else None
    return AnyKeys(text, Names(b"", nested=True) if escape and is_files else None)


class RecordKeys(Spelling):
    """Keys of a repository, out of keys."""

    def key_of(self, key: bytes) -> bytes:
        try:
            check_key(key)
        except SyntaxRuleError as error:
            raise Refused(
                f"{error}: an MST has keys as COLLECTION/RECORD-KEY only; --to hamt3 takes any key"
            ) from None
        return key

    def settled(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        return {}


class RecordFiles(RecordKeys):
    """Keys of a repository, out of the paths that a mount shows."""

    _names = Names(b".json")

    def key_of(self, key: bytes) -> bytes:
        found = self._names.key_of(tuple(key.split(b"/")))
        if found is None:
            raise Refused(
                f"{shown(key)}: an MST holds records, in files called COLLECTION/RECORD-KEY.json; "
                "--to hamt3 or --to unixfs takes any file"
            )
        return super().key_of(found)


class AnyKeys(Spelling):
    """Keys of a HAMT. `text` names a kind of tree whose keys are UTF-8; `names` spell escaped paths."""

    def __init__(self, text: str | None, names: Names | None) -> None:
        self._text = text
        self._names = names

    def key_of(self, key: bytes) -> bytes:
        if self._names is not None:
            path = tuple(key.split(b"/"))
            found = self._names.key_of(path[:-1] if path[-1] == ITSELF else path)
            if found is None:
                raise Refused(f"{shown(key)} is no path that a mount shows: leave out --escape")
            key = found
        if len(key) > KEY_BYTES:
            raise Refused(f"{shown(key)}: a key of {len(key)} bytes is over the limit of {KEY_BYTES} bytes")
        if self._text is not None and not key.isascii():
            try:
                key.decode("utf-8")
            except UnicodeDecodeError:
                raise Refused(
                    f"{shown(key)} is no UTF-8, and the keys of a {self._text} are text: "
                    "--to hashmap or --to unixfs takes any bytes"
                ) from None
        return key

    def settled(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        return {}


class Paths(Spelling):
    """Paths in a directory, out of keys and what a mount appends to them.

    `names` escape them, if given. `hint` says at the end of an error what could be done.
    """

    def __init__(self, suffix: bytes, names: Names | None, hint: str) -> None:
        self._suffix = suffix
        self._names = names
        self._hint = hint

    def key_of(self, key: bytes) -> bytes:
        if self._names is not None:
            path = b"/".join(self._names.path_of(key))
        else:
            path = key + self._suffix
            flaw = _flaw(path)
            if flaw is not None:
                raise Refused(f"{shown(key)} is no path of a file: {flaw}{self._hint}")
        if len(path) >= KEY_BYTES or path.count(b"/") >= NESTING - 1:
            raise Refused(
                f"{shown(key)}: a path has less than {KEY_BYTES} bytes and {NESTING} names, this one "
                f"{len(path)} bytes and {path.count(b'/') + 1} names"
            )
        return path

    def settled(self, keys: Collection[bytes]) -> dict[bytes, bytes]:
        renamed = {folder: folder + b"/" + ITSELF for folder in folders_above(keys) if folder in keys}
        if renamed and (self._names is None or self._suffix):
            first = min(renamed)
            below = next(key for key in sorted(keys) if key.startswith(first + b"/"))
            raise Refused(
                f"{shown(first)} is a file, and a folder too, because of {shown(below)}{self._hint}"
            )
        return renamed


def folders_above(keys: Iterable[bytes]) -> set[bytes]:
    """Every folder that has one of the paths in it, directly or further down; not the root."""
    above: set[bytes] = set()
    for key in keys:
        folder = key.rpartition(b"/")[0]
        # Most paths share their folder with others, whose folders are known then, up to the root.
        while folder and folder not in above:
            above.add(folder)
            folder = folder.rpartition(b"/")[0]
    return above


def _flaw(path: bytes) -> str | None:
    for part in path.split(b"/"):
        if not part:
            return "a part of it is empty"
        if part in (b".", b".."):
            return f"{part.decode()!r} is a part of it"
        if len(part) > NAME_BYTES:
            return f"a part of it has {len(part)} bytes, a name at most {NAME_BYTES}"
    return "it holds a NUL" if b"\0" in path else None
