"""The parser, and the one place where errors become sentences and exit codes."""

import argparse
import os
import sys
from collections.abc import Sequence

from mstfs import __version__
from mstfs.cli import exits
from mstfs.cli.output import warn

DESCRIPTION = """\
Mount the Merkle tree in a CAR file as a folder, edit it with the tools you have, publish a new root on sync.

  mstfs mount repo.car mnt      show an atproto repository as a folder
  ls mnt; cat mnt/app.bsky.actor.profile/self.json
  mstfs sync mnt                make a new root of your edits
  mstfs umount mnt
"""


def build_parser() -> argparse.ArgumentParser:
    """Every command with its arguments; declares only, imports nothing heavy."""
    from mstfs.cli import archives, changes, checks, completion, demo, mounts, records, transfers

    parser = argparse.ArgumentParser(
        prog="mstfs",
        description=DESCRIPTION,
        epilog=exits.MEANINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mstfs {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for family in (mounts, records, changes, archives, transfers, checks, demo, completion):
        family.add(commands)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Parse and run one command; returns its exit code."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help()
        return exits.USAGE
    try:
        code: int = parsed.run(parsed)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read our output has enough; Python must not complain about it on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK
    except Exception as error:
        code = exits.code_of(error)
        if parsed.debug or code == exits.INTERNAL:
            import traceback

            traceback.print_exc()
        warn(exits.sentence(error))
        return code
    except KeyboardInterrupt:
        return 130
