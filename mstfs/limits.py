"""Every limit in one place: what a hostile or damaged input may ask of us.

Each is far above what real archives hold, and far below what hurts a small machine.
"""

VARINT_BYTES = 9
"""Bytes in an unsigned varint (multiformats: at most 63 bits of value)."""

CID_BYTES = 128
"""Bytes in a binary CID."""

CAR_HEADER_BYTES = 32 << 20
"""Bytes in the header of a CAR."""

BLOCK_BYTES = 64 << 20
"""Bytes in one block; a CAR section that announces more ends the scan."""

NODE_BYTES = 8 << 20
"""Bytes in one node of a tree."""

RECORD_BYTES = 2 << 20
"""Bytes of one record, as DAG-CBOR or as text: twice what the largest server takes."""

KEY_BYTES = 8192
"""Bytes in one key; a node that spells a longer one is refused."""

TREE_HEIGHT = 128
"""Layers in an MST: sha-256 has 256 bits, two a layer."""

NESTING = 200
"""Lists and maps inside each other in a record."""

SCRATCH_BYTES = 4 << 30
"""Bytes in one scratch file or draft."""

NAME_BYTES = 255
"""NAME_MAX: bytes in one directory entry's name."""
