"""Completion in shells: the command that prints the script, and what is offered for roots and keys."""

import argparse
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mstfs.cli import exits

if TYPE_CHECKING:
    from mstfs.cli.target import Target

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
    """Folders and keys that start with `prefix`; never raises."""
    typed = os.fsencode(prefix)
    try:
        with _opened(parsed_args) as target:
            found = [text for name in _offered(target, typed) if (text := _plain_text(name)) is not None]
    except Exception:
        return []  # As above.
    return found


def _offered(target: "Target", typed: bytes) -> Iterator[bytes]:
    from mstfs.view.directories import DirectoryNamespace

    tree = target.archive.workspace.staged
    namespace = target.namespace(tree)
    if isinstance(namespace, DirectoryNamespace):
        folder = tuple(part for part in typed.rpartition(b"/")[0].split(b"/") if part)
        children = namespace.children(folder, lambda error: None)
        paths = ((b"/".join((*folder, child.name)), child) for child in children)
        names = (path if child.key is not None else path + b"/" for path, child in paths)
        yield from islice((name for name in names if name.startswith(typed)), ANSWERS_MAX)
        return
    if target.archive.kind.name == "mst" and b"/" in typed:
        yield from (entry.key for entry in tree.page(typed, None, ANSWERS_MAX))
        return
    # One look for each folder, however much is in it.
    wanted = typed
    for _ in range(ANSWERS_MAX):
        entry = tree.seek(wanted)
        if entry is None or not entry.key.startswith(typed):
            return
        end = entry.key.find(b"/", len(typed))
        if end < 0:
            yield entry.key
            wanted = entry.key + b"\0"
        else:
            yield entry.key[: end + 1]
            # No key is between the last one in the folder and this: "/" + 1 is "0".
            wanted = entry.key[:end] + b"0"


def _plain_text(name: bytes) -> str | None:
    """A name as a shell can take it; None for one with bytes that are no text, or that move a cursor."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


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
