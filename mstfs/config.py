"""Frozen settings: what a mount or a command was asked for, after parsing."""

from dataclasses import dataclass, field
from pathlib import Path

from mstfs.tree.kinds import Kind
from mstfs.values.interface import ValueOptions


@dataclass(frozen=True)
class Settings:
    """The settings of one mount.

    `root` is a binary CID or None for the archive's own; `tree` and `values` are what a person says about the
    tree; `encryption_key`, `key_header` and `plain` say how values
    are encrypted; `publish_every` is in seconds, 0 is never; `log_level` is the name of one of logging's;
    `options` are handed to the kernel.
    """

    source: Path
    mountpoint: Path
    root: bytes | None = None
    overlay: Path | None = None
    read_only: bool = False
    tree: Kind | None = None
    values: ValueOptions = field(default_factory=ValueOptions)
    signing_key: Path | None = None
    encryption_key: Path | None = None
    key_header: bytes = b""
    plain: tuple[str, ...] = ()
    publish_every: float = 0.0
    publish_on_unmount: bool = True
    verify: str = "once"
    allow_other: bool = False
    log_level: str = "info"
    options: tuple[str, ...] = field(default=())
