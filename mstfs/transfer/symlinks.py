"""Symbolic links whose targets are in the source itself."""

from collections.abc import Mapping

from mstfs.errors import Refused
from mstfs.transfer.ledger import Ledger, Row
from mstfs.transfer.names import Spelling, shown

_STEPS = 40
"""Links on the way from a link to a file, as in Linux."""


def resolve(
    links: Mapping[bytes, tuple[bytes, bytes]], ledger: Ledger, spelling: Spelling
) -> dict[bytes, tuple[bytes, Row]]:
    """The key and the row that each link leads to. `links` have, by key, the path of a link and its target.

    Refused for a link that leaves the source, leads nowhere, in a circle, or to a folder.
    """
    found: dict[bytes, tuple[bytes, Row]] = {}
    for key, (path, target) in links.items():
        place, leads = path, target
        for _ in range(_STEPS):
            place = _joined(path, place, leads)
            other = spelling.key_of(place)
            if other in links:
                place, leads = links[other]
                continue
            row = ledger.get(other)
            if row is None or row.kind == "folder":
                raise Refused(
                    f"{shown(path)} is a symbolic link to {shown(target)}, which is no file in the source: "
                    "unpack it and import the folder with --follow"
                )
            found[key] = other, row
            break
        else:
            raise Refused(f"{shown(path)} is a symbolic link that leads in a circle")
    return found


def _joined(link: bytes, place: bytes, target: bytes) -> bytes:
    # The path that `target` means in a link at `place`.
    parts = [] if target.startswith(b"/") else place.split(b"/")[:-1]
    leaves = target.startswith(b"/")
    for part in target.split(b"/"):
        if part == b".." and not parts:
            leaves = True
        elif part == b"..":
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    if leaves:
        raise Refused(f"{shown(link)} is a symbolic link to {shown(target)}, outside of the source")
    return b"/".join(parts)
