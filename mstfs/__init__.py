"""mstfs: Merkle trees in CAR files as folders, and as mappings.

The names below are the library; they are loaded when they are first used, so that the command line starts
quickly. See `mstfs.archive.Archive`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mstfs.archive import Archive as Archive
    from mstfs.archive import create_archive as create
    from mstfs.archive import open_archive as open
    from mstfs.codec.cid import Link as Link
    from mstfs.repo.signing import load_signing_key as load_signing_key

__version__ = "0.1.0"

_PLACES = {
    "Archive": ("mstfs.archive", "Archive"),
    "Link": ("mstfs.codec.cid", "Link"),
    "create": ("mstfs.archive", "create_archive"),
    "load_signing_key": ("mstfs.repo.signing", "load_signing_key"),
    "open": ("mstfs.archive", "open_archive"),
}

__all__ = ["Archive", "Link", "__version__", "create", "load_signing_key", "open"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _PLACES:
        raise AttributeError(f"module 'mstfs' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
