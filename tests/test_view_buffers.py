"""A buffer against a bytearray: writes, cuts and reads at any offset, stored now and then."""

from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mstfs.staging.files import CHUNK_BYTES
from mstfs.view.buffers import Buffer

NEAR = [
    0,
    1,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    2 * CHUNK_BYTES - 3,
    2 * CHUNK_BYTES,
    3 * CHUNK_BYTES,
]
offsets = st.one_of(st.sampled_from(NEAR), st.integers(0, 3 * CHUNK_BYTES + 50))
lengths = st.one_of(st.integers(0, 40), st.sampled_from([CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1]))


class Store:
    """Chunks of a file as the overlay keeps them: holes are missing, and chunks may be short."""

    def __init__(self) -> None:
        self.chunks: dict[int, bytes] = {}
        self.size = 0

    def load(self, number: int) -> bytes:
        return self.chunks.get(number, b"")

    def take(self, buffer: Buffer) -> None:
        """What `Files.write` does."""
        kept = min(buffer.base_size, self.size)
        if kept < self.size:
            last = (kept + CHUNK_BYTES - 1) // CHUNK_BYTES
            self.chunks = {number: data for number, data in self.chunks.items() if number < last}
        self.chunks.update({number: bytes(data) for number, data in buffer.chunks.items()})
        self.size = buffer.size


class Buffers(RuleBasedStateMachine):
    """Everything that can be done to a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.fill = 0

    @initialize(size=offsets)
    def begin(self, size: int) -> None:
        self.model = bytearray(b"base" * (size // 4 + 1))[:size]
        self.store.size = size
        self.store.chunks = {
            number: bytes(self.model[number * CHUNK_BYTES :][:CHUNK_BYTES])
            for number in range((size + CHUNK_BYTES - 1) // CHUNK_BYTES)
        }
        self.buffer = Buffer(size, self.store.load)
        assert not self.buffer.dirty

    @rule(offset=offsets, length=lengths)
    def write(self, offset: int, length: int) -> None:
        self.fill = self.fill % 250 + 1
        data = bytes([self.fill]) * length
        self.buffer.write(offset, data)
        if length:
            assert self.buffer.dirty
            self.model.extend(bytes(max(0, offset - len(self.model))))
            self.model[offset : offset + length] = data

    @rule(size=offsets)
    def truncate(self, size: int) -> None:
        self.buffer.truncate(size)
        assert self.buffer.dirty
        self.model = self.model[:size] + bytes(max(0, size - len(self.model)))

    @rule(offset=offsets, length=lengths)
    def read(self, offset: int, length: int) -> None:
        assert self.buffer.read(offset, length) == self.model[offset : offset + length]

    @rule()
    def clean(self) -> None:
        self.store.take(self.buffer)
        self.buffer.clean(self.store.load)
        assert not self.buffer.dirty
        assert not self.buffer.changed_bytes()

    @rule()
    def store_and_keep(self) -> None:
        """A draft is stored whole, and its buffer goes on as it is."""
        size = self.buffer.size
        whole = {n: self.buffer.read(n * CHUNK_BYTES, CHUNK_BYTES) for n in range(-(-size // CHUNK_BYTES))}
        self.store.size, self.store.chunks = size, whole
        self.buffer.dirty = False

    @rule()
    def clean_onto_a_text(self) -> None:
        text = bytes(self.model)
        self.buffer.clean(lambda number: text[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES])
        self.store = Store()
        self.store.size = len(text)
        self.store.chunks = {
            number: text[number * CHUNK_BYTES :][:CHUNK_BYTES]
            for number in range((len(text) + CHUNK_BYTES - 1) // CHUNK_BYTES)
        }

    @invariant()
    def the_same(self) -> None:
        assert self.buffer.size == len(self.model)
        assert self.buffer.read(0, len(self.model) + 10) == self.model


TestBuffers = pytest.mark.filterwarnings("error")(Buffers.TestCase)
TestBuffers.settings = settings(max_examples=60, stateful_step_count=25)


def test_a_hole_costs_nothing() -> None:
    buffer = Buffer(0, lambda number: b"")
    buffer.truncate(1 << 40)
    buffer.write((1 << 40) - 1, b"x")
    assert buffer.changed_bytes() == CHUNK_BYTES
    assert buffer.read((1 << 40) - 3, 100) == b"\0\0x"
    assert buffer.read(1 << 39, 3) == b"\0\0\0"


def test_nothing_written_extends_nothing() -> None:
    buffer = Buffer(3, lambda number: b"abc")
    buffer.write(100, b"")
    assert (buffer.size, buffer.dirty) == (3, False)


def test_a_value_holds_for_its_key_and_while_nothing_changes() -> None:
    buffer = Buffer(0, lambda number: b"")
    buffer.write(0, b"abc")
    assert buffer.made(b"key") is None
    buffer.was_made(b"key", b"value", buffer.changes)
    assert buffer.made(b"key") == b"value"
    assert buffer.made(b"other") is None
    for change in (partial(buffer.write, 1, b"x"), partial(buffer.truncate, 2)):
        before = buffer.changes
        change()
        assert buffer.made(b"key") is None
        buffer.was_made(b"key", b"too late", before)
        assert buffer.made(b"key") is None
        buffer.was_made(b"key", b"again", buffer.changes)
        assert buffer.made(b"key") == b"again"
