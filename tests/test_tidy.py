"""Holds the rules of the house: which way imports point, what belongs where, and how long things may be.

Terminology
    A layer is a module or package directly below `mstfs`. A layer may import itself and the layers below it.

Tricky bits
    Files are parsed, never imported, so an import inside a function counts like any other.

Hacking
    Each rule is a function from sources to the list of what breaks it, so that it can be tried on a made-up
    source too: `test_the_rules_find_what_they_look_for` does that. A rule that is in the way is changed here,
    with its reason, and nowhere else.
"""

import ast
import contextlib
import io
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from mstfs.cli.main import build_parser

PROJECT = Path(__file__).resolve().parent.parent

FILE_LINES = 500
FUNCTION_LINES = 100

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "limits", "fault_points"),
    ("codec",),
    ("logs",),
    ("blocks",),
    ("tree", "remote"),
    ("repo",),
    ("values",),
    ("staging",),
    ("view", "publish", "verification"),
    ("config",),
    ("opening",),
    ("archive",),
    ("transfer", "zarr"),
    ("fuse",),
    ("daemon",),
    ("cli",),
    ("__main__",),
)
"""From the bottom up. The layers of one row do not import each other."""

FORBIDDEN = {
    # The trees and what stands on them work on blocks that are held locally.
    ("repo", "remote"),
    ("staging", "remote"),
    ("values", "remote"),
    ("view", "remote"),
}
"""Imports (from, to) that point down and are wrong all the same."""

TREE_FAMILIES = ("mst", "hamt", "unixfs", "sharded")

HOME_OF = {
    "pyfuse3": ("mstfs/fuse/", "mstfs/daemon.py"),
    "trio": ("mstfs/fuse/", "mstfs/remote/", "mstfs/publish/publisher", "mstfs/daemon.py"),
    "asyncio": (),
    "sqlite3": ("mstfs/blocks/sqlite", "mstfs/staging/"),
}
"""The only places that may import a package, as prefixes of paths."""

ASYNC_HOME = (*HOME_OF["trio"], "mstfs/zarr.py")
PRINT_HOME = ("mstfs/cli/",)


class Source(NamedTuple):
    """One Python file: its path from the project's root, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """The dotted name, without `.__init__`."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def source(path: str, text: str) -> Source:
    return Source(path, text, ast.parse(text, path))


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    found = sorted(file for folder in folders for file in (PROJECT / folder).rglob("*.py"))
    return tuple(source(file.relative_to(PROJECT).as_posix(), file.read_text("utf-8")) for file in found)


def imports(of: Source) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of all that a file imports, at its top or inside functions."""
    package = of.module if of.path.endswith("/__init__.py") else of.module.rpartition(".")[0]
    for node in ast.walk(of.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if node.level else []
            base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
            for alias in node.names:
                # `from mstfs.tree import mst` names a module, `from mstfs.tree.mst import x` a thing in one.
                # The rules look at prefixes of the name, so both forms can be taken alike.
                yield node.lineno, f"{base}.{alias.name}"


def functions(of: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(of.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


# --- the rules ----------------------------------------------------------------------------------


def imports_point_down(of: Source) -> list[str]:
    rank = {layer: row for row, layers in enumerate(LAYERS) for layer in layers}
    if of.path == "mstfs/__init__.py":
        return []  # It hands out public names of every layer when they are asked for.
    own = of.module.split(".")[1]
    if own not in rank:
        return [f"{of.path}: `{own}` has no place in LAYERS (tests/test_tidy.py)"]
    broken = []
    for line, name in imports(of):
        top, *rest = name.split(".")
        if top != "mstfs" or not rest or rest[0] == own or rest[0].startswith("__version"):
            continue
        other = rest[0]
        if other not in rank:
            broken.append(f"{of.path}:{line}: imports {name}, which is no layer")
        elif rank[other] >= rank[own] or (own, other) in FORBIDDEN:
            broken.append(f"{of.path}:{line}: {own} imports {other}, and imports point down only")
    return broken


def tree_families_stay_apart(of: Source) -> list[str]:
    own = of.module.split(".")
    if own[:2] != ["mstfs", "tree"] or len(own) < 3 or own[2] not in TREE_FAMILIES:
        return []
    foreign = [f"mstfs.tree.{family}" for family in TREE_FAMILIES if family != own[2]]
    return [
        f"{of.path}:{line}: imports {name} of another family of trees"
        for line, name in imports(of)
        if any(f"{name}.".startswith(f"{other}.") for other in foreign)
    ]


def packages_stay_home(of: Source) -> list[str]:
    return [
        f"{of.path}:{line}: imports {name}, which belongs to {', '.join(homes) or 'nobody'}"
        for line, name in imports(of)
        for package, homes in HOME_OF.items()
        if name.split(".")[0] == package and not of.path.startswith(homes)
    ]


def async_stays_at_the_edge(of: Source) -> list[str]:
    if of.path.startswith(ASYNC_HOME):
        return []
    kinds = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    return [
        f"{of.path}:{node.lineno}: async code outside the async edge"
        for node in ast.walk(of.tree)
        if isinstance(node, kinds)
    ]


def files_are_short(of: Source) -> list[str]:
    lines = of.text.count("\n")
    return [f"{of.path}: {lines} lines, more than {FILE_LINES}"] if lines > FILE_LINES else []


def functions_are_short(of: Source) -> list[str]:
    return [
        f"{of.path}:{node.lineno}: {node.name} has {length} lines, more than {FUNCTION_LINES}"
        for node in functions(of)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    ]


def only_the_command_line_prints(of: Source) -> list[str]:
    if of.path.startswith(PRINT_HOME):
        return []
    return [
        f"{of.path}:{node.lineno}: print"
        for node in ast.walk(of.tree)
        if isinstance(node, ast.Name) and node.id == "print"
    ]


def public_things_have_docstrings(of: Source) -> list[str]:
    broken = [] if ast.get_docstring(of.tree) else [f"{of.path}: no module docstring"]
    named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return broken + [
        f"{of.path}:{node.lineno}: {node.name} has no docstring"
        for node in of.tree.body
        if isinstance(node, named) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]


def packages_hold_only_a_docstring(of: Source) -> list[str]:
    if not of.path.endswith("/__init__.py") or of.path == "mstfs/__init__.py":
        return []
    extra = of.tree.body[1:] if ast.get_docstring(of.tree) else of.tree.body
    return [f"{of.path}:{node.lineno}: more than a docstring" for node in extra]


Rule = Callable[[Source], list[str]]

ANYWHERE: list[Rule] = [files_are_short, functions_are_short]
IN_MSTFS: list[Rule] = [
    imports_point_down,
    tree_families_stay_apart,
    packages_stay_home,
    async_stays_at_the_edge,
    only_the_command_line_prints,
    public_things_have_docstrings,
    packages_hold_only_a_docstring,
]


@pytest.mark.parametrize("rule", IN_MSTFS, ids=lambda rule: rule.__name__)
def test_mstfs_keeps(rule: Rule) -> None:
    files = sources("mstfs")
    assert files
    broken = [line for file in files for line in rule(file)]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("rule", ANYWHERE, ids=lambda rule: rule.__name__)
def test_code_and_tests_keep(rule: Rule) -> None:
    broken = [line for file in sources("mstfs", "tests") for line in rule(file)]
    assert not broken, "\n".join(broken)


LONG_FUNCTION = "def long():\n" + "    x = 1\n" * FUNCTION_LINES
BROKEN = [
    (imports_point_down, "mstfs/codec/cid.py", "from mstfs.blocks import interface"),
    (imports_point_down, "mstfs/codec/cid.py", "def f():\n    import mstfs.tree.mst.node"),
    (imports_point_down, "mstfs/view/names.py", "from mstfs import publish"),
    (imports_point_down, "mstfs/view/names.py", "from ..publish import plan"),
    (imports_point_down, "mstfs/view/names.py", "from mstfs.remote import fetcher"),
    (imports_point_down, "mstfs/fuse/errnos.py", "from mstfs.daemon import main"),
    (imports_point_down, "mstfs/nowhere.py", ""),
    (tree_families_stay_apart, "mstfs/tree/mst/node.py", "from mstfs.tree.hamt.node import decode"),
    (tree_families_stay_apart, "mstfs/tree/mst/node.py", "from mstfs.tree import unixfs"),
    (tree_families_stay_apart, "mstfs/tree/hamt/node.py", "from ..mst import node"),
    (packages_stay_home, "mstfs/view/names.py", "import pyfuse3"),
    (packages_stay_home, "mstfs/publish/plan.py", "from trio import sleep"),
    (packages_stay_home, "mstfs/repo/history.py", "def f():\n    import sqlite3"),
    (packages_stay_home, "mstfs/daemon.py", "import asyncio"),
    (async_stays_at_the_edge, "mstfs/publish/plan.py", "async def f(): pass"),
    (files_are_short, "mstfs/codec/cid.py", "\n" * (FILE_LINES + 1)),
    (functions_are_short, "mstfs/codec/cid.py", LONG_FUNCTION),
    (only_the_command_line_prints, "mstfs/codec/cid.py", "def f():\n    print(1)"),
    (public_things_have_docstrings, "mstfs/codec/cid.py", "x = 1"),
    (public_things_have_docstrings, "mstfs/codec/cid.py", '"""Text."""\ndef f(): pass'),
    (public_things_have_docstrings, "mstfs/codec/cid.py", '"""Text."""\nclass C: pass'),
    (packages_hold_only_a_docstring, "mstfs/codec/__init__.py", '"""Text."""\nimport os'),
]
SOUND = [
    (imports_point_down, "mstfs/codec/cid.py", "from mstfs import errors, limits\nimport os"),
    (imports_point_down, "mstfs/publish/publisher_s3.py", "from mstfs.remote import s3"),
    (imports_point_down, "mstfs/view/names.py", "from . import namespace"),
    (tree_families_stay_apart, "mstfs/tree/mst/edit.py", "from mstfs.tree.mst import node"),
    (tree_families_stay_apart, "mstfs/tree/mst/edit.py", "from mstfs.tree.interface import Edit"),
    (packages_stay_home, "mstfs/publish/publisher_s3.py", "import trio"),
    (packages_stay_home, "mstfs/staging/edits.py", "import sqlite3"),
    (async_stays_at_the_edge, "mstfs/daemon.py", "async def f(): await g()"),
    (functions_are_short, "mstfs/codec/cid.py", LONG_FUNCTION.removesuffix("    x = 1\n")),
    (only_the_command_line_prints, "mstfs/cli/show.py", "print(1)"),
    (public_things_have_docstrings, "mstfs/codec/cid.py", '"""Text."""\ndef _f(): pass'),
    (packages_hold_only_a_docstring, "mstfs/codec/__init__.py", '"""Text."""'),
]


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN)
def test_the_rules_find_what_they_look_for(rule: Rule, path: str, text: str) -> None:
    assert rule(source(path, text))


@pytest.mark.parametrize(("rule", "path", "text"), SOUND)
def test_the_rules_let_the_rest_pass(rule: Rule, path: str, text: str) -> None:
    assert rule(source(path, text)) == []


# --- scripts and the README -----------------------------------------------------------------------


def shell_blocks(markdown: str) -> Iterator[str]:
    """The lines of all fenced blocks that are shell (or name no language)."""
    for language, body in re.findall(r"^```(\w*)\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL):
        if language in ("", "sh", "bash", "console", "shell"):
            yield from body.splitlines()


def missing_scripts(markdown: str, project: Path) -> list[str]:
    """Files in scripts/ or systemd/ that a command in `markdown` names and that do not exist."""
    named = {
        name
        for line in shell_blocks(markdown)
        for name in re.findall(r"(?<![\w/.-])(?:\./)?((?:scripts|systemd)/[\w@.-]+)", line)
    }
    return sorted(name for name in named if not (project / name).is_file())


def mstfs_commands(markdown: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Command and long options of each call of mstfs in the shell blocks of `markdown`."""
    for line in shell_blocks(markdown):
        for words in re.findall(
            r"(?:^|[|&;(] *|\$ )(?:\./)?(?:scripts/)?mstfs ([a-z][^|&;#)]*)", line.strip()
        ):
            command, *rest = words.split()
            yield command, frozenset(word.partition("=")[0] for word in rest if word.startswith("--"))


def help_of(command: str) -> str:
    """The help text of a command of mstfs, or nothing if there is no such command."""
    text = io.StringIO()
    with (
        contextlib.redirect_stdout(text),
        contextlib.redirect_stderr(io.StringIO()),
        pytest.raises(SystemExit),
    ):
        build_parser().parse_args([command, "--help"])
    return text.getvalue()


def wrong_commands(markdown: str) -> list[str]:
    """Calls of mstfs in `markdown` with a command or an option that does not exist."""
    broken = []
    for command, options in mstfs_commands(markdown):
        text = help_of(command)
        if not text:
            broken.append(f"mstfs {command}")
        known = set(re.findall(r"--[a-z][a-z-]*", text))
        broken += [f"mstfs {command} {option}" for option in sorted(options - known) if text]
    return broken


def test_wrong_commands_are_found() -> None:
    calls = (
        "mstfs mount a b --read-only\n$ scripts/mstfs sync --nothing=1 mnt; mstfs nowhere x  # mstfs else\n"
    )
    assert wrong_commands(f"```sh\n{calls}```\nmstfs elsewhere\n") == [
        "mstfs sync --nothing",
        "mstfs nowhere",
    ]


def test_documents_name_only_commands_that_exist() -> None:
    for file in [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]:
        assert not wrong_commands(file.read_text("utf-8")), file


def test_missing_scripts_are_found() -> None:
    text = "```sh\nscripts/test --fast\n./scripts/nowhere x\n```\nscripts/elsewhere\n"
    assert missing_scripts(text, PROJECT) == ["scripts/nowhere"]


def test_documents_name_only_scripts_that_exist() -> None:
    documents = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]
    assert documents
    broken = [
        f"{file.name}: {name}" for file in documents for name in missing_scripts(file.read_text(), PROJECT)
    ]
    assert not broken
