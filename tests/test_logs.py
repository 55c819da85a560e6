"""Lines of the log: one a record, with what it is about, and not again and again."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from mstfs import logs
from mstfs.blocks.interface import verified
from mstfs.codec import cid as cids
from mstfs.errors import CorruptBlock, MissingBlock, MissingBlocks

CID = cids.for_block(b"a")


def record(message: str, *words: object, created: float = 0.0, **extra: Any) -> logging.LogRecord:
    made = logging.getLogger("test").makeRecord(
        "test", logging.ERROR, "f", 1, message, words, None, extra=extra
    )
    made.created, made.msecs = created, 7.0
    return made


def test_a_line_names_path_and_cid() -> None:
    with pytest.raises(CorruptBlock) as caught:
        verified(CID, b"b")
    extra = logs.about(path=b"a b/c", error=caught.value, errno=5)
    line = logs.Lines().format(record("read of %s", "x", **extra))
    assert line == (f'1970-01-01T00:00:00.007Z ERROR read of x path="a b/c" cid={cids.to_text(CID)} errno=5')


@pytest.mark.parametrize("error", [MissingBlock(CID), MissingBlocks([CID])])
def test_what_is_missing_is_named(error: Exception) -> None:
    assert logs.about(error=error) == {"about": {"cid": cids.to_text(CID)}}


def test_no_name_begins_a_line_or_another_field() -> None:
    name = b'a\n1970 ERROR x\x1b[31m"\\ cid=b\xff\xc3\xa9'
    line = logs.Lines().format(record("read of %s", name.decode("utf-8", "replace"), **logs.about(path=name)))
    assert line.isprintable()
    assert line.count("\n") == 0
    assert line.endswith(r'path="a\n1970 ERROR x\u001b[31m\"\\ cid=b\\xff\u00e9"')


def test_a_traceback_is_indented() -> None:
    made = record("oh")
    try:
        raise ValueError("why")
    except ValueError:
        made.exc_info = sys.exc_info()
    first, *rest = logs.Lines().format(made).splitlines()
    assert first.endswith("ERROR oh")
    assert rest[-1] == "  ValueError: why"
    assert all(line.startswith("  ") for line in rest)


def test_what_is_said_again_is_left_out_for_a_minute() -> None:
    once = logs.Once()
    said = [once.filter(record("a %d", number % 2, created=100.0 + number)) for number in range(130)]
    assert [number for number, heard in enumerate(said) if heard] == [0, 1, 60, 61, 120, 121]
    for number in range(10 * logs.REMEMBERED):
        assert once.filter(record("b %d", number, created=300.0))
    assert len(once._said) <= logs.REMEMBERED


def test_a_log_goes_on_where_it_was(tmp_path: Path) -> None:
    log = logging.getLogger("mstfs")
    before = log.handlers[:], log.level, log.propagate
    path = tmp_path / "new/folders/a.log"
    try:
        for text in ("one", "two"):
            logs.log_to(path)
            log.info(text)
            log.debug("quiet")
            for handler in log.handlers:
                assert isinstance(handler, logging.StreamHandler)
                handler.stream.close()
    finally:
        log.handlers[:], log.level, log.propagate = before
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["one", "two"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
