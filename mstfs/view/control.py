"""The control folder `.mstfs`: reachable by name, not listed.

.mstfs/root              the CID of the head, as text
.mstfs/status            JSON: head, staged edits, drafts, scratch, and what the daemon adds
.mstfs/diff              what is staged, one line a key
.mstfs/history/<n>/      every published root as a read-only tree
.mstfs/blocks/<cid>      any block, by its CID
.mstfs/commands/<name>   write a request in JSON, close, read the answer
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from mstfs.codec import cid as cids
from mstfs.errors import CidError, MstfsError
from mstfs.staging.status import change_lines, staged_changes, status
from mstfs.staging.workspace import Workspace
from mstfs.view.kinds import namespace_of
from mstfs.view.names import CONTROL, Names, Path
from mstfs.view.namespace import Namespace
from mstfs.view.nodes import Control, Folder, Leaf, Node

COMMANDS = CONTROL + b"/commands"

ROOM_BYTES = 2048
"""How much longer a status may become where files are never opened: its counters are new to it, or grow."""


class ControlFolder:
    """Resolves and lists paths at and below `.mstfs`. `extra` adds the daemon's own words to the status.

    `steady`: who reads a status asks for its size again in the end, and must not be told of another one.
    Where files are opened each opener has a copy; where they never are, blanks make all of one length,
    with room for what is still to be said.
    """

    def __init__(self, workspace: Workspace, names: Names) -> None:
        self.workspace = workspace
        self.names = names
        self.extra: Callable[[], dict[str, Any]] = dict
        self.steady = False
        self._length = 0
        self.files: dict[bytes, Callable[[], bytes]] = {
            b"root": self._root,
            b"status": self._status,
            b"diff": self._diff,
        }

    def _root(self) -> bytes:
        return cids.to_text(self.workspace.head.root).encode() + b"\n"

    def _status(self) -> bytes:
        text = json.dumps({**status(self.workspace), **self.extra()}, indent=2).encode()
        return (self._steady(text) if self.steady else text) + b"\n"

    def _steady(self, text: bytes) -> bytes:
        if len(text) > self._length:
            self._length = len(text) + ROOM_BYTES
        # At the end of each line, where no terminal shows them.
        lines = text.split(b"\n")
        blanks, more = divmod(self._length - len(text), len(lines))
        return (b" " * blanks + b"\n").join(lines) + b" " * (blanks + more)

    def _diff(self) -> bytes:
        return "".join(line + "\n" for line in change_lines(staged_changes(self.workspace))).encode()

    def resolve(self, path: bytes) -> Node | None:
        """What a path at or below `.mstfs` names, or None."""
        parts = path.split(b"/")[1:]
        if not parts:
            return Folder(fixed=True)
        if len(parts) == 1:
            if parts[0] in self.files:
                return Control(self.files[parts[0]])
            return Folder(fixed=True) if parts[0] in (b"history", b"blocks", b"commands") else None
        if parts[0] == b"history":
            return self._past(parts[1:])
        if parts[0] == b"blocks" and len(parts) == 2:
            return self._block(parts[1])
        return None

    def _block(self, name: bytes) -> Node | None:
        try:
            cid = cids.parse(name.decode("ascii"))
        except (CidError, UnicodeDecodeError):
            return None
        if not self.workspace.blocks.has(cid):
            return None
        return Control(lambda: self.workspace.blocks.get(cid), fixed=True)

    def _namespace(self, number: bytes) -> Namespace | None:
        if not number.isdigit() or len(number) > 18:
            return None
        event = self.workspace.history.read(int(number))
        if event is None or str(event.sequence).encode() != number:
            return None
        workspace = self.workspace
        return namespace_of(workspace.head.tree, workspace.at(event.data), self.names, _never)

    def _past(self, parts: list[bytes]) -> Node | None:
        namespace = self._namespace(parts[0])
        if namespace is None:
            return None
        found = namespace.find(tuple(parts[1:]))
        if found is None:
            return None
        if found.key is None or found.cid is None:
            return Folder(fixed=True, cid=found.cid)
        return Leaf(found.key, found.cid, fixed=True)

    def children(self, path: bytes) -> Iterator[tuple[bytes, Node | None]]:
        """Names in the control folder; blocks and commands are reachable and not listed."""
        parts = path.split(b"/")[1:]
        if not parts:
            for name, produce in sorted(self.files.items()):
                yield name, Control(produce)
            for name in (b"blocks", b"commands", b"history"):
                yield name, Folder(fixed=True)
        elif parts == [b"history"]:
            for event in sorted(self.workspace.history.events()):
                yield str(event.sequence).encode(), Folder(fixed=True)
        elif parts[0] == b"history":
            namespace = self._namespace(parts[1])
            if namespace is not None:
                for name, key, cid in namespace.children(tuple(parts[2:]), _skip):
                    if key is None or cid is None:
                        yield name, Folder(fixed=True, cid=cid)
                    else:
                        yield name, Leaf(key, cid, fixed=True)


def _skip(error: MstfsError) -> None:
    """A part of an old tree that cannot be read is left out of its listing, as in the tree of today."""


def _never(path: Path) -> bool:
    """No folder of an old tree is kept: it holds keys, or it is none."""
    return False
