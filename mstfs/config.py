"""Frozen settings: what a mount or a command was asked for, after parsing."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The settings of one mount.

    `root` is a binary CID or None for the archive's own; `publish_every` is in seconds, 0 is never;
    `cache_bytes` is what rendered records may take in memory; `options` are handed to the kernel.
    """

    source: Path
    mountpoint: Path
    root: bytes | None = None
    overlay: Path | None = None
    read_only: bool = False
    form: str = "json"
    signing_key: Path | None = None
    publish_every: float = 0.0
    publish_on_unmount: bool = True
    cache_bytes: int = 32 << 20
    verify: str = "once"
    allow_other: bool = False
    options: tuple[str, ...] = field(default=())
