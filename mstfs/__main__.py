"""`python -m mstfs` and the command `mstfs`."""

import io
import sys

from mstfs.cli.main import run


def main() -> None:
    """Run the command line and exit with its code."""
    # A locale that cannot write a character must not end a listing in the middle.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
