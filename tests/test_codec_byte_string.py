"""Heads of byte strings, against the codec that decodes them whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mstfs.codec import byte_string, dag_cbor
from mstfs.errors import CborError

SIZES = [0, 1, 23, 24, 25, 255, 256, 65535, 65536, 70000]


@pytest.mark.parametrize("size", SIZES)
def test_a_head_is_what_the_codec_writes(size: int) -> None:
    block = dag_cbor.encode(bytes(size))
    assert byte_string.head(size) == block[: len(block) - size]
    start = block[: byte_string.HEAD_BYTES]
    assert byte_string.is_head(start)
    assert byte_string.content_at(start, len(block)) == len(block) - size
    assert byte_string.content_at(start, len(block) + 1) is None
    assert byte_string.content_at(start, len(block) - 1) is None


def test_heads_of_what_no_memory_holds() -> None:
    assert byte_string.head((1 << 32) - 1) == b"\x5a\xff\xff\xff\xff"
    assert byte_string.head(1 << 32) == b"\x5b\x00\x00\x00\x01\x00\x00\x00\x00"
    assert byte_string.content_at(byte_string.head(1 << 40), 9 + (1 << 40)) == 9


@given(
    st.binary(max_size=40) | st.builds(lambda a, b: a + b, st.sampled_from([b"\x58", b"\x59\0"]), st.binary())
)
def test_only_canonical_byte_strings_have_content(block: bytes) -> None:
    try:
        value = dag_cbor.decode(block)
    except CborError:
        value = None
    at = byte_string.content_at(block[: byte_string.HEAD_BYTES], len(block))
    if isinstance(value, bytes):
        assert at is not None
        assert block[at:] == value
    else:
        assert at is None
