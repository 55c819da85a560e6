"""Exit codes, and which error becomes which."""

import os

from mstfs import errors

OK = 0
DEFECTS = 1
"""What was asked for was done, and something is to be told: defects, drafts, a difference."""
USAGE = 2
"""The command makes no sense as it stands, or the input cannot be read at all."""
FAILED = 3
"""An operation failed: the disk, the kernel, another process."""
INTERNAL = 70

MEANINGS = """\
exit codes:
  0   done, nothing to report
  1   done, and there is something to report: defects (verify), drafts (sync)
  2   the command or its input is wrong: bad arguments, no CAR, a missing root, another CAR's overlay
  3   it could not be done: no /dev/fuse, a busy mount point or overlay, a full disk
  70  a bug in mstfs
"""

_FAILURES = (
    errors.MountError,
    errors.OverlayBusy,
    errors.StorageFull,
    errors.PublishError,
    errors.UnreachableBlock,
)


def code_of(error: BaseException) -> int:
    """The exit code for an exception that ends a command."""
    if isinstance(error, errors.CopyDiffers):
        return DEFECTS
    if isinstance(error, _FAILURES):
        return FAILED
    if isinstance(error, errors.MstfsError | FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return USAGE
    if isinstance(error, OSError):
        return FAILED
    if isinstance(error, KeyboardInterrupt):
        return 130
    return INTERNAL


def sentence(error: BaseException) -> str:
    """What to print about an exception."""
    if isinstance(error, OSError) and error.errno is not None:
        name = f"{error.filename}: " if error.filename else ""
        return name + os.strerror(error.errno)
    return str(error) or type(error).__name__
