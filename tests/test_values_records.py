"""The values of a repository as files."""

from typing import Any

import pytest

from mstfs.blocks.memory import MemoryBlocks
from mstfs.codec import cid as cids
from mstfs.codec import dag_cbor
from mstfs.values.interface import ValueOptions
from mstfs.values.records import RecordValues


@pytest.mark.parametrize("form", ["json", "cbor"])
def test_whole_files_of_which_nothing_is_kept(form: Any) -> None:
    store = MemoryBlocks()
    values = RecordValues(store, ValueOptions(form=form))
    files = []
    for number in range(20):
        block = dag_cbor.encode({"$type": "a.b.c", "text": "x" * 20 * number})
        cid = cids.for_block(block)
        store.put(cid, block)
        files.append((b"a.b.c/%d" % number, cid))
    texts = [values.read(key, cid, 0, 1 << 20) for key, cid in files]
    values.let_go()
    assert list(values.whole(files, 1 << 20)) == texts
    assert list(values.whole(files, len(texts[7]))) == texts[:8] + [None] * 12
    assert values.renderings.held == 0
    # What cannot be read is not there; the others are.
    missing = cids.for_block(b"missing")
    assert list(values.whole([files[0], (b"a.b.c/x", missing), files[1]], 1 << 20)) == [
        *(texts[0], None, texts[1])
    ]
    # What is held is taken.
    values.read(*files[3], 0, 1)
    store.delete(files[3][1])
    assert list(values.whole(files[3:4], 1 << 20)) == texts[3:4]
