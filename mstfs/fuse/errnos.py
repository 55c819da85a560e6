"""Which error a program sees: one table, from the exception tree to errno."""

import errno

from mstfs import errors

TABLE: tuple[tuple[type[Exception], int], ...] = (
    (errors.ReadOnly, errno.EROFS),
    (errors.StorageFull, errno.ENOSPC),
    (errors.OverlayError, errno.EIO),
    (errors.BlockError, errno.EIO),
    (errors.MissingBlocks, errno.EIO),
    (errors.RecordError, errno.EINVAL),
    (errors.SyntaxRuleError, errno.EINVAL),
    (errors.LimitExceeded, errno.EFBIG),
    (errors.FormatError, errno.EIO),
    (errors.Refused, errno.EPERM),
    (errors.MstfsError, errno.EIO),
)


def errno_of(error: BaseException) -> int:
    """The errno for an exception; EIO for what was never expected."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    for kind, code in TABLE:
        if isinstance(error, kind):
            return code
    return errno.EIO
