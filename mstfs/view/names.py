"""Key <-> path, a bijection.

A key `collection/rkey` is the path `collection/rkey.json`: every `/` ends a folder's name, and the
last part carries the suffix of the form that records are shown in. A part passes unchanged unless it
could not be a name, would leave the tree, or could be taken for something else:

* it is empty, `.` or `..`, holds a NUL byte, starts with `%`, is longer than a name may be, or is the
  name of the control folder;
* it stands where keys of the repository's form have none: the last part of a key without `/` (a file
  beside the collections) or a folder inside a collection.

Such a part is written `%-` (a folder) or `%=` (the file) and then its bytes, with NUL as `%00` and `%` as
`%25` (and a slash, which only names in foreign directories hold, as `%2F`). Where that is longer than a name
may be it is cut into pieces, and `%+piece` is a folder in which the part goes on. So every key is reachable,
no name leaves the mount, no two keys share a path, and the file of one key is never a folder on the way to
another.

Keys of HAMTs have no form: there every part that can be a name is one (`nested`), and no name has a suffix.
Then the path of one key may be a folder on the way to others. The name `%@` in such a folder is its file.
"""

from dataclasses import dataclass
from functools import lru_cache

from mstfs.limits import NAME_BYTES

Path = tuple[bytes, ...]

CONTROL = b".mstfs"
FILE = b"%="
FOLDER = b"%-"
CONTINUED = b"%+"
ITSELF = b"%@"
PIECE_BYTES = 240
ASKED = 128
"""Answers that are remembered: one request asks the same of a name again and again."""


def _armour(part: bytes) -> bytes:
    return part.replace(b"%", b"%25").replace(b"\0", b"%00").replace(b"/", b"%2F")


def strip_armour(text: bytes) -> bytes:
    """The bytes that the text of one piece stands for."""
    return text.replace(b"%00", b"\0").replace(b"%2F", b"/").replace(b"%25", b"%")


def is_plain(part: bytes, room: int) -> bool:
    """Whether a part of a key (without a slash) is a name as it stands; `room` is what a name may have."""
    return (
        0 < len(part) <= room and part[0] != 0x25 and part not in (b".", b"..", CONTROL) and b"\0" not in part
    )


def in_control(path: bytes) -> bool:
    """Whether a path is that of the control folder, or of something in it."""
    return path.startswith(CONTROL) and (len(path) == len(CONTROL) or path[len(CONTROL)] == 0x2F)


def pieces(part: bytes, mark: bytes, room: int) -> list[bytes]:
    """The names of an escaped part; only the last may be followed by a suffix of `NAME_BYTES - room`."""
    text = _armour(part)
    names = []
    while len(text) > room - len(mark):
        cut = PIECE_BYTES
        # A piece must not end inside `%25` or `%00`, so that each piece can be read by itself.
        percent = text.rfind(b"%", cut - 2, cut)
        if percent >= 0:
            cut = percent
        names.append(CONTINUED + text[:cut])
        text = text[cut:]
    names.append(mark + text)
    return names


@dataclass(frozen=True)
class Names:
    """The mapping for one kind of leaf suffix, e.g. `.json`, and for keys with or without a form."""

    suffix: bytes
    nested: bool = False

    def path_of(self, key: bytes) -> Path:
        """The path of a key; defined for every sequence of bytes."""
        parts = key.split(b"/")
        room = NAME_BYTES - len(self.suffix)
        if len(parts) == 2:
            folder, leaf = parts
            # The common shape, decided without a loop: a listing asks this for every entry.
            if is_plain(folder, NAME_BYTES) and is_plain(leaf, room):
                return (folder, leaf + self.suffix)
        names: list[bytes] = []
        for index, part in enumerate(parts[:-1]):
            if (index == 0 or self.nested) and is_plain(part, NAME_BYTES):
                names.append(part)
            else:
                names += pieces(part, FOLDER, NAME_BYTES)
        leaf = parts[-1]
        if (len(parts) > 1 or self.nested) and is_plain(leaf, room):
            names.append(leaf + self.suffix)
        else:
            names += pieces(leaf, FILE, room)
            names[-1] += self.suffix
        return tuple(names)

    @lru_cache(maxsize=ASKED)  # noqa: B019  (one or two of these live, and as long as the process)
    def key_of(self, path: Path) -> bytes | None:
        """The key that a file's path stands for, or None if it stands for none (a scratch name)."""
        if not path or not path[-1].endswith(self.suffix):
            return None
        if len(path) == 2:
            folder, name = path
            # The common shape, as in `path_of`: each part of the key is the name as it stands.
            leaf = name[: len(name) - len(self.suffix)]
            key = folder + b"/" + leaf
            if is_plain(folder, NAME_BYTES) and is_plain(leaf, NAME_BYTES - len(self.suffix)):
                return key if key.count(b"/") == 1 else None
        key, complete = _join((*path[:-1], path[-1][: len(path[-1]) - len(self.suffix)]))
        if not complete or self.path_of(key) != path:
            return None
        return key

    def prefix_of(self, folder: Path) -> bytes:
        """What every key below a folder starts with; the empty path has the empty prefix."""
        if not folder:
            return b""
        text, complete = _join(folder)
        return text + b"/" if complete else text

    def is_whole(self, folder: Path) -> bool:
        """True if every key that starts with the folder's prefix is below the folder, if it can hold keys."""
        return not folder[-1].startswith(CONTINUED)

    @lru_cache(maxsize=ASKED)  # noqa: B019  (one or two of these live, and as long as the process)
    def can_hold_keys(self, folder: Path) -> bool:
        """False for a folder that no key spells: scratch, or a name that is escaped without need."""
        # A part this long is cut after its first piece, wherever in a part the prefix ends. The NUL is for a
        # piece that is shorter than others: what followed would have been cut in two.
        probe = b"\0" + b"x" * 2 * NAME_BYTES
        return self.path_of(self.prefix_of(folder) + probe)[: len(folder)] == folder


def _join(names: Path) -> tuple[bytes, bool]:
    """The parts that names spell, joined by `/`, and whether the last part is complete."""
    out = bytearray()
    fresh = True
    for index, name in enumerate(names):
        if fresh and index:
            out += b"/"
        if name.startswith(CONTINUED):
            out += strip_armour(name[2:])
            fresh = False
        elif name.startswith((FOLDER, FILE)):
            out += strip_armour(name[2:])
            fresh = True
        else:
            # A plain name after a piece that goes on spells nothing; path_of(key) != path shows it.
            out += name
            fresh = True
    return bytes(out), fresh
