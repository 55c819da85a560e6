from mmap import mmap
from types import NotImplementedType

def find(
    table: mmap | memoryview, header: int, rows: int, cid: bytes, /
) -> tuple[int, int, int] | NotImplementedType | None: ...
def read(table: mmap | memoryview, header: int, rows: int, file: int, cid: bytes, /) -> bytes | None: ...
