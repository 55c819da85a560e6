"""What a mount promises, as a plain model: dicts of texts, and who has what open.

Paths are bytes as in the view. A record file is a path whose key is valid, or is in the tree; every other
file is scratch. `edits` lie over `head`; `own` are drafts and scratch, and lie over both.

Where keys have no form, a folder may have the name of a file, which is then `%@` in that folder. The dicts
know files by the name that they have without the folder. Methods take paths as programs do.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass

from mstfs.errors import RecordError
from mstfs.repo import record
from mstfs.repo.syntax import is_key
from mstfs.view.names import Names


@dataclass(frozen=True)
class Rules:
    """What kinds of trees differ in: how keys are spelled, which may be made, and what a file's block is.

    `parse` raises RecordError for a text that is no record.
    """

    names: Names
    is_key: Callable[[bytes], bool]
    parse: Callable[[bytes], bytes]
    render: Callable[[bytes], bytes]

    def key_named(self, path: bytes) -> bytes | None:
        """The key that a path spells, or None."""
        return self.names.key_of(tuple(path.split(b"/")))

    @property
    def nested(self) -> bool:
        """Whether keys have no form: then a folder may have the name of a record."""
        return self.names.nested


REPOSITORY = Rules(Names(b".json"), is_key, record.parse, record.render)


class Refusal(Exception):
    """The operation fails with this errno, and nothing changes."""

    def __init__(self, code: int) -> None:
        super().__init__(errno.errorcode[code])
        self.code = code


class Open:
    """A file that somebody has open. They see `data` where it is `buffered`, otherwise what the path says."""

    def __init__(self, path: bytes) -> None:
        self.path: bytes | None = path
        self.data = b""
        self.buffered = False
        self.dirty = False
        self.pending = False
        self.invalid = False
        self.opens = 0
        self.writers = 0


ITSELF = b"/%@"


def inside(path: bytes, folder: bytes) -> bool:
    return not folder or path == folder or path.startswith(folder + b"/")


def ancestors(path: bytes) -> set[bytes]:
    names = path.split(b"/")
    return {b"/".join(names[:depth]) for depth in range(1, len(names))}


class Model:
    """A mount. Blocks are compared as bytes; `texts` are kept for edits that were written in another form."""

    def __init__(self, head: dict[bytes, bytes], rules: Rules = REPOSITORY) -> None:
        self.head = head
        self.rules = rules
        self.edits: dict[bytes, bytes | None] = {}
        self.texts: dict[bytes, bytes] = {}
        self.own: dict[bytes, bytes] = {}
        self.errors: set[bytes] = set()
        self.links: dict[bytes, bytes] = {}
        self.folders: set[bytes] = set()
        self.kept: set[bytes] = set()
        # Of `own` and `links`, those that are kept as `%@`: as long as they are, the folder is there.
        self.inner: set[bytes] = set()
        self.opened: dict[bytes, Open] = {}

    # --- what is there --------------------------------------------------------------------------

    def plain(self, path: bytes) -> bytes:
        """What the dicts call the file that programs find at a path."""
        return path.removesuffix(ITSELF) if self.rules.nested else path

    def place(self, path: bytes) -> bytes:
        """Where programs find what the dicts call so."""
        return path + ITSELF if self.rules.nested and path in self.all_folders() else path

    def tree(self) -> dict[bytes, bytes]:
        """Path -> block of every record, staged edits included."""
        merged = {**self.head, **self.edits}
        return {path: block for path, block in merged.items() if block is not None}

    def is_record(self, path: bytes) -> bool:
        key = self.rules.key_named(path)
        if key is None:
            return False
        return self.rules.is_key(key) or path in self.tree() or path in self.head

    def is_reserved(self, path: bytes) -> bool:
        """Whether no folder may have this name."""
        return not self.rules.nested and self.is_record(path)

    def stored(self, path: bytes) -> bytes | None:
        """What a file says to somebody who opens it first."""
        if path in self.own:
            return self.own[path]
        block = self.tree().get(path)
        if block is None:
            return None
        return self.texts.get(path, self.rules.render(block))

    def visible(self, path: bytes) -> bytes | None:
        there = self.opened.get(path)
        if there is not None and there.buffered and (there.pending or self.stored(path) is not None):
            return there.data
        return self.stored(path)

    def files(self) -> set[bytes]:
        pending = {path for path, there in self.opened.items() if there.pending}
        return {*self.own, *self.tree(), *pending}

    def placed(self) -> set[bytes]:
        """Paths of all files and links, as programs find them."""
        return {self.place(path) for path in self.files() | set(self.links)}

    def all_folders(self) -> set[bytes]:
        found = self.folders | self.kept | self.inner
        for path in (*self.files(), *self.links, *self.folders, *self.kept):
            found |= ancestors(path)
        return found

    def listing(self, folder: bytes) -> set[bytes]:
        """Paths directly in a folder."""
        everything = self.placed() | self.all_folders()
        return {path for path in everything if path.rpartition(b"/")[0] == folder}

    def exists(self, path: bytes) -> bool:
        return path in self.all_folders() or path in self.placed()

    def seen(self, node: Open) -> bytes:
        """What those who have it open read."""
        if node.buffered or node.path is None:
            return node.data
        return self.stored(node.path) or b""

    # --- records --------------------------------------------------------------------------------

    def touch(self, *paths: bytes) -> None:
        for path in paths:
            self.kept |= ancestors(path)

    def put(self, path: bytes, block: bytes, text: bytes | None) -> None:
        self.texts.pop(path, None)
        if self.head.get(path) == block:
            self.edits.pop(path, None)
            return
        self.edits[path] = block
        if text is not None and text != self.rules.render(block):
            self.texts[path] = text

    def delete(self, path: bytes) -> None:
        if path not in self.tree():
            return
        self.texts.pop(path, None)
        if path in self.head:
            self.edits[path] = None
        else:
            self.edits.pop(path, None)

    def put_text(self, path: bytes, text: bytes) -> None:
        """Raises RecordError, and changes nothing then."""
        block = self.rules.parse(text)
        self.drop_own(path)
        current = self.tree().get(path)
        if current is not None and self.rules.render(current) == text:
            self.put(path, current, None)
        else:
            self.put(path, block, text)

    def keep_own(self, path: bytes, text: bytes, place: bytes) -> None:
        self.own[path] = text
        (self.inner.add if place != path else self.inner.discard)(path)

    def drop_own(self, path: bytes) -> None:
        self.own.pop(path, None)
        self.inner.discard(path)
        self.errors.discard(path)

    def drop(self, path: bytes) -> None:
        """Whatever a file's path names."""
        self.drop_own(path)
        self.links.pop(path, None)
        if self.is_record(path):
            self.delete(path)

    def part(self, node: Open) -> None:
        """The name goes; those who have the file open keep what they see."""
        assert node.path is not None
        if not node.buffered:
            node.data = self.stored(node.path) or b""
        del self.opened[node.path]
        node.path = None

    # --- files ----------------------------------------------------------------------------------

    def create(self, place: bytes) -> Open:
        if self.exists(place):
            raise Refusal(errno.EEXIST)
        path = self.plain(place)
        if path in self.opened:
            self.part(self.opened[path])
        node = self.opened[path] = Open(path)
        node.buffered = node.dirty = node.pending = True
        node.opens = node.writers = 1
        self.touch(place)
        return node

    def mkdir(self, path: bytes) -> None:
        self.folders.add(path)
        self.touch(path)

    def symlink(self, place: bytes, target: bytes) -> None:
        path = self.plain(place)
        self.links[path] = target
        if place != path:
            self.inner.add(path)
        self.touch(place)

    def open(self, place: bytes, *, write: bool, truncate: bool) -> Open:
        path = self.plain(place)
        node = self.opened.setdefault(path, Open(path))
        if truncate:
            self.change(node, b"")
        node.opens += 1
        node.writers += write
        return node

    def change(self, node: Open, data: bytes) -> None:
        node.data = data
        node.buffered = node.dirty = True
        node.invalid = False

    def commit(self, node: Open, *, final: bool) -> None:
        path = node.path
        if path is None or not node.dirty or (not node.data and not final):
            return
        if not self.is_record(path):
            self.keep_own(path, node.data, self.place(path))
            self.errors.discard(path)
        else:
            try:
                self.put_text(path, node.data)
                node.invalid = False
            except RecordError:
                self.keep_own(path, node.data, self.place(path))
                self.errors.add(path)
                node.invalid = bool(node.data)
        node.dirty = node.pending = False

    def flush(self, node: Open) -> None:
        if node.buffered:
            self.commit(node, final=False)
            if node.invalid:
                raise Refusal(errno.EINVAL)

    def release(self, node: Open, *, write: bool) -> None:
        node.opens -= 1
        node.writers -= write
        if node.opens:
            return
        self.commit(node, final=True)
        if node.path is not None:
            del self.opened[node.path]

    def unlink(self, place: bytes) -> None:
        path = self.plain(place)
        node = self.opened.get(path)
        if node is not None:
            self.part(node)
        self.touch(place)
        self.drop(path)

    def rmdir(self, path: bytes) -> None:
        if self.listing(path):
            raise Refusal(errno.ENOTEMPTY)
        self.folders.discard(path)
        self.kept.discard(path)
        self.touch(path)

    # --- rename ---------------------------------------------------------------------------------

    def settle(self, path: bytes) -> None:
        node = self.opened.get(path)
        if node is not None and node.buffered and node.dirty:
            self.commit(node, final=True)

    def rename(self, source: bytes, target: bytes) -> None:
        if source == target:
            return
        folder = source in self.all_folders()
        if target in self.all_folders():
            if not folder:
                raise Refusal(errno.EISDIR)
            if self.listing(target):
                raise Refusal(errno.ENOTEMPTY)
        elif folder and self.exists(target):
            raise Refusal(errno.ENOTDIR)
        if folder:
            if target.startswith(source + b"/") or self.is_reserved(target):
                raise Refusal(errno.EINVAL)
            self.rename_folder(source, target)
        else:
            path, new_path = self.plain(source), self.plain(target)
            self.settle(path)
            self.check_move(path, new_path)
            there = self.opened.get(new_path)
            if there is not None:
                self.part(there)
            self.move(path, target)
        self.touch(source, target)

    def check_move(self, source: bytes, target: bytes) -> None:
        if source in self.links:
            if self.is_record(target):
                raise Refusal(errno.EPERM)
        elif source in self.own and self.is_record(target):
            node = self.opened.get(source)
            if self.is_record(source) or (node is not None and node.buffered):
                return
            try:
                self.rules.parse(self.own[source])
            except RecordError:
                raise Refusal(errno.EINVAL) from None

    def move(self, source: bytes, place: bytes) -> None:
        """Move one file in the tables, and who has it open along with it."""
        target = self.plain(place)
        node = self.opened.pop(source, None)
        becomes_record, was_record = self.is_record(target), self.is_record(source)
        if source in self.links:
            link = self.links.pop(source)
            self.inner.discard(source)
            self.drop(target)
            self.links[target] = link
            if place != target:
                self.inner.add(target)
        elif source not in self.own:
            block, text = self.tree()[source], self.texts.get(source)
            data = node.data if node is not None and node.buffered else text or self.rules.render(block)
            self.drop(target)
            if becomes_record:
                self.put(target, block, text)
            else:
                self.keep_own(target, data, place)
            self.delete(source)
        else:
            text = self.own[source]
            self.drop_own(source)
            if not becomes_record:
                self.drop(target)
                self.keep_own(target, text, place)
            else:
                self.drop_own(target)
                self.links.pop(target, None)
                try:
                    self.put_text(target, text)
                except RecordError:
                    self.keep_own(target, text, place)
                    self.errors.add(target)
            if was_record:
                self.delete(source)
        if node is not None:
            node.path = target
            node.invalid = node.buffered and bool(self.own.get(target)) and target in self.errors
            self.opened[target] = node

    def rename_folder(self, source: bytes, target: bytes) -> None:
        moved = sorted(path for path in self.files() | set(self.links) if inside(path, source))
        for path in moved:
            self.settle(path)
        for path in moved:
            self.check_move(path, target + path[len(source) :])
        places = {path: self.place(path) for path in moved}
        for path in moved:
            self.move(path, target + places[path][len(source) :])
        for some in (self.folders, self.kept):
            for path in [path for path in some if inside(path, source)]:
                some.discard(path)
                some.add(target + path[len(source) :])
        self.folders.add(target)

    # --- publish, revert, checkout, crash -------------------------------------------------------

    def hold(self, path: bytes) -> Open | None:
        """Before a name says something else: readers get a file of their own, writers keep the name."""
        node = self.opened.get(path)
        if node is None:
            return None
        if not node.writers and not node.buffered:
            self.part(node)
            return None
        node.data = self.seen(node)
        node.buffered = True
        return node

    def publish(self) -> None:
        for path in list(self.texts):
            self.hold(path)
        self.head = self.tree()
        self.edits, self.texts = {}, {}

    def checkout(self, head: dict[bytes, bytes], *, force: bool) -> None:
        if self.edits and not force:
            raise Refusal(errno.EPERM)
        changed = {path for path in {*head, *self.head} if head.get(path) != self.head.get(path)}
        held = [node for path in changed if path not in self.own and (node := self.hold(path))]
        self.head = head
        self.keep_names(held)
        self.give_way(changed)

    def revert(self, folder: bytes) -> None:
        chosen = {path for path in {*self.errors, *self.edits} if inside(self.place(path), folder)}
        held = [node for path in chosen if (node := self.hold(path))]
        for path in chosen:
            self.drop_own(path)
            self.edits.pop(path, None)
            self.texts.pop(path, None)
        self.keep_names(held)
        self.give_way(chosen)

    def give_way(self, changed: set[bytes]) -> None:
        """A folder that is only kept makes room for a file of the tree; scratch makes room for a folder."""
        if not self.rules.nested:
            return
        changed = changed.union(*map(ancestors, changed))
        for path in changed & set(self.tree()):
            everything = self.files() | set(self.links) | self.folders | self.kept | self.inner
            if path not in self.inner and not any(other.startswith(path + b"/") for other in everything):
                self.folders.discard(path)
                self.kept.discard(path)
        self.inner |= {*self.own, *self.links} & self.all_folders()

    def keep_names(self, held: list[Open]) -> None:
        for node in held:
            if node.dirty and node.path is not None and self.stored(node.path) is None:
                node.pending = True

    def crash(self) -> None:
        """The process is gone; what was closed or synced is still there."""
        self.opened = {}
        self.kept = set()
