"""`python -m mstfs` and the command `mstfs`."""

import gc
import io
import sys

from mstfs.cli.main import run


def main() -> None:
    """Run the command line and exit with its code."""
    # Nearly all that is made at the start lives to the end: the collector need not look at it so often.
    gc.set_threshold(100_000, 50, 100)
    # A locale that cannot write a character must not end a listing in the middle.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
