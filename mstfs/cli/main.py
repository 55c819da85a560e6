"""The parser, and the one place where errors become sentences and exit codes."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

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


FAMILIES = {
    "mounts": ("mount", "umount", "sync", "revert", "checkout"),
    "records": ("ls", "cat"),
    "changes": ("log", "status", "diff"),
    "archives": ("info", "export"),
    "transfers": ("convert", "import"),
    "checks": ("verify", "prove"),
    "demo": ("demo",),
    "completion": ("completion",),
}
"""The modules of the commands, in the order in which help shows them."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Every command with its arguments, or only those of the family of one; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="mstfs",
        description=DESCRIPTION,
        epilog=exits.MEANINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mstfs {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    known = any(command in family for family in FAMILIES.values())
    for module, family in FAMILIES.items():
        if not known or command in family:
            import_module(f"mstfs.cli.{module}").add(commands)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Parse and run one command; returns its exit code."""
    completing = "_ARGCOMPLETE" in os.environ
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    parser = build_parser(None if completing else named)
    if completing:
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
