"""What kinds of trees differ in, seen as folders: how keys are spelled, which a program may make."""

import re
from collections.abc import Callable

from mstfs.limits import KEY_BYTES
from mstfs.repo.syntax import is_key
from mstfs.staging.tree import StagedTree
from mstfs.tree.kinds import Kind
from mstfs.tree.unixfs.tree import UnixfsTree
from mstfs.values.interface import Values
from mstfs.view.names import Names, Path
from mstfs.view.namespace import KeyNamespace, Namespace

KeyRule = Callable[[bytes], bool]

_TEMPORARY = re.compile(rb"\.[^/]*\.sw[a-z]|\.#[^/]*|\.fuse_hidden[0-9a-f]+|\.nfs[0-9a-f]+")


def names_of(kind: Kind, values: Values) -> Names:
    """How the keys of a tree are spelled: those of repositories have a form, others have none."""
    return Names(values.suffix, nested=kind.name != "mst")


def namespace_of(kind: Kind, tree: StagedTree, names: Names, is_kept: Callable[[Path], bool]) -> Namespace:
    """The folders of a tree; `is_kept` as in `KeyNamespace`."""
    if isinstance(tree.tree, UnixfsTree):
        from mstfs.view.directories import DirectoryNamespace

        return DirectoryNamespace(tree.tree, tree.root)
    return KeyNamespace(tree, names, is_kept)


def key_rule(kind: Kind) -> KeyRule:
    """Which keys a program may make by making a file.

    In a repository any other file is scratch. Elsewhere every name is to be a key, but for temporary ones.
    """
    if kind.name == "mst":
        return is_key
    text = kind.layout is not None and kind.layout.text_keys

    def rule(key: bytes) -> bool:
        if len(key) > KEY_BYTES or is_temporary(key.rpartition(b"/")[2]):
            return False
        return not text or _is_text(key)

    return rule


def is_temporary(name: bytes) -> bool:
    """Whether vim, emacs or the kernel give such a name to a file that lives while another one is in use."""
    return _TEMPORARY.fullmatch(name) is not None


def _is_text(key: bytes) -> bool:
    try:
        key.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
