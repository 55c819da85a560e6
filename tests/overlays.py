"""Overlays for tests: a table of notes beside the blocks, and a process that opens one."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mstfs.blocks.sqlite import Database
from mstfs.blocks.sqlite_blocks import SqliteBlocks
from mstfs.codec import cid as cids

PROJECT = Path(__file__).resolve().parent.parent
SCHEMA = (SqliteBlocks.SCHEMA, "CREATE TABLE IF NOT EXISTS notes (note TEXT PRIMARY KEY) WITHOUT ROWID;")

CHILD = """
import os, sys
from pathlib import Path
from mstfs.blocks.sqlite import Database
from mstfs.blocks.sqlite_blocks import SqliteBlocks
from mstfs.codec import cid as cids
NOTES = "CREATE TABLE IF NOT EXISTS notes (note TEXT PRIMARY KEY) WITHOUT ROWID;"
def open_database(): return Database.open(Path(sys.argv[1]), schema=(SqliteBlocks.SCHEMA, NOTES))
def say(text): os.write(1, text.encode() + b"\\n")
def note(text): database.execute("INSERT INTO notes VALUES (?)", (text,))
database = open_database()
"""


def start_child(path: Path, code: str, *before: str) -> "subprocess.Popen[str]":
    """A Python process that opens the overlay and goes on with `code`; it ends when its input does."""
    return subprocess.Popen(
        [*before, sys.executable, "-c", CHILD + code, str(path)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line_of(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def note(database: Database, text: str) -> None:
    database.execute("INSERT INTO notes VALUES (?)", (text,))


def notes(database: Database) -> list[str]:
    return [text for (text,) in database.execute("SELECT note FROM notes ORDER BY note")]


def undone(database: Database, *texts: str, durable: bool = False) -> None:
    """Write these notes in a transaction that fails at its end."""
    with database.transaction(durable=durable):
        for text in texts:
            note(database, text)
        raise KeyError("the end of the transaction")


def insert_unchecked(database: Database, blocks: Mapping[bytes, bytes]) -> None:
    for cid, data in blocks.items():
        multihash = cids.multihash_of(cid)
        row = (multihash, cid[: -len(multihash)], data)
        database.execute("INSERT INTO blocks (multihash, prefix, data) VALUES (?, ?, ?)", row)
