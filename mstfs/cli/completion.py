"""Completion in shells: the command that prints the script, and what is offered for roots and keys."""

import argparse
import os
from pathlib import Path
from typing import Any

from mstfs.cli import exits

ANSWERS_MAX = 500
"""More keys than a person can choose from are not looked up."""

EXAMPLES = """\
mstfs completion bash > ~/.local/share/bash-completion/completions/mstfs
mstfs completion zsh > ~/.zfunc/_mstfs      (with ~/.zfunc in fpath)
mstfs completion fish > ~/.config/fish/completions/mstfs.fish
"""


def add(commands: Any) -> None:
    """Declare the commands of this family."""
    from mstfs.cli.options import add_json, declare

    parser = declare(
        commands,
        "completion",
        summary="print a script that lets a shell complete commands",
        description="Print the script that makes a shell complete the commands of mstfs, their options, "
        "files, events of the history and keys. It needs the package argcomplete.",
        examples=EXAMPLES,
        codes="0 done; 2 argcomplete is not installed",
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    add_json(parser)
    parser.set_defaults(run=run_completion)


def run_completion(arguments: argparse.Namespace) -> int:
    """`mstfs completion`."""
    from mstfs.cli.output import print_json
    from mstfs.errors import Refused

    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        raise Refused("completion needs argcomplete: pip install mstfs[completion]") from None
    script = shellcode(["mstfs"], shell=arguments.shell)
    if arguments.json:
        print_json({"shell": arguments.shell, "script": script})
    else:
        print(script.rstrip())
    return exits.OK


def complete_root(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> dict[str, str]:
    """Numbers of events that start with `prefix`, each with its time and kind; never raises."""
    from mstfs.cli.output import time_text

    found: dict[str, str] = {}
    try:
        with _opened(parsed_args) as target:
            for event in target.archive.history():
                if str(event.sequence).startswith(prefix) and len(found) < ANSWERS_MAX:
                    found[str(event.sequence)] = f"{event.kind} {time_text(event.time_ns)}"
    except Exception:
        return {}  # A completion that fails offers nothing: there is nobody to tell.
    return found


def complete_key(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Collections and keys that start with `prefix`; never raises."""
    from mstfs.view.names import Names
    from mstfs.view.namespace import KeyNamespace

    typed = os.fsencode(prefix)
    try:
        with _opened(parsed_args) as target:
            tree = target.archive.workspace.staged
            if b"/" in typed:
                page = tree.page(typed, None, ANSWERS_MAX)
                return [entry.key.decode() for entry in page]
            children = KeyNamespace(tree, Names(target.suffix)).children(())
            return [child.name.decode() + "/" for child in children if child.name.startswith(typed)]
    except Exception:
        return []  # As above.


def _opened(parsed_args: argparse.Namespace) -> Any:
    from mstfs.cli.options import opened
    from mstfs.cli.target import open_target

    if not hasattr(parsed_args, "car_only"):
        return open_target(parsed_args.mountpoint)
    if not hasattr(parsed_args, "target"):
        words = parsed_args.words or []
        there = bool(words) and os.path.lexists(words[0])
        parsed_args.target = Path(words[0]) if there else Path()
    return opened(parsed_args)
