"""A kernel that never forgets by itself: what it was told stays true until the view says otherwise.

It keeps names, attributes and contents without end, as a mount allows it to. What it does itself (create,
write, rename) it knows; every other change must come as an invalidation, or a program would see what is no
longer so.
"""

from mstfs.view.inodes import ROOT, Inode
from mstfs.view.nodes import Attributes
from mstfs.view.view import View

EVERYTHING = 1 << 22


class Kernel:
    """The caches of one mount."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.references: dict[int, int] = {}
        self.names: dict[tuple[int, bytes], int | None] = {}
        self.attributes: dict[int, Attributes] = {}
        self.pages: dict[int, bytes] = {}

    # --- what the kernel asks ---------------------------------------------------------------------

    def refer(self, inode: Inode) -> Inode:
        self.references[inode.number] = self.references.get(inode.number, 0) + 1
        return inode

    def lookup(self, path: bytes) -> Inode | None:
        """Walk to a path; every name on the way is known from then on."""
        inode = self.view.inodes.by_number[ROOT]
        for name in path.split(b"/") if path else ():
            found = self.view.lookup(inode, name)
            self.names[inode.number, name] = found.number if found is not None else None
            if found is None:
                return None
            inode = self.refer(found)
        return inode

    def look(self, inode: Inode) -> tuple[Attributes, bytes]:
        """Attributes and contents of a file, which stay in the cache."""
        attributes = self.attributes[inode.number] = self.view.attributes(inode)
        if attributes.kind == "file":
            self.pages[inode.number] = self.view.read(inode, 0, EVERYTHING)
        return attributes, self.pages.get(inode.number, b"")

    def forget(self) -> None:
        """Drop everything."""
        for number, count in self.references.items():
            self.view.inodes.forget(number, count)
        self.__init__(self.view)  # type: ignore[misc]

    # --- what the kernel does itself --------------------------------------------------------------

    def wrote(self, inode: Inode) -> None:
        self.attributes.pop(inode.number, None)
        self.pages.pop(inode.number, None)

    def linked(self, parent: Inode, name: bytes, inode: Inode | None) -> None:
        """A name was made or removed by a request of the kernel's own."""
        old = self.names.get((parent.number, name))
        if old is not None:
            self.attributes.pop(old, None)
        self.names[parent.number, name] = inode.number if inode is not None else None
        self.attributes.pop(parent.number, None)
        if inode is not None:
            self.attributes.pop(inode.number, None)

    # --- what it is told --------------------------------------------------------------------------

    def take_invalidations(self) -> None:
        inodes, entries = self.view.stale.take()
        for number in inodes:
            self.attributes.pop(number, None)
            self.pages.pop(number, None)
        for entry in entries:
            self.names.pop(entry, None)

    def check(self) -> None:
        """All that is still believed is true. Call once the answer to a request is given."""
        table = self.view.inodes.by_number
        for number in {*self.attributes, *self.pages}:
            inode = table.get(number)
            if inode is None or (inode.path is None and not inode.opens):
                self.attributes.pop(number, None)
                self.pages.pop(number, None)
        for number, attributes in self.attributes.items():
            assert self.view.attributes(table[number]) == attributes, table[number].path
        for number, data in self.pages.items():
            assert self.view.read(table[number], 0, EVERYTHING) == data, table[number].path
        for (parent, name), known in list(self.names.items()):
            folder = table.get(parent)
            if folder is None or folder.path is None:
                del self.names[parent, name]
                continue
            found = self.view.lookup(folder, name)
            if found is not None:
                self.refer(found)
            assert (found.number if found is not None else None) == known, (folder.path, name)
