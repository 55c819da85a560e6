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

CONTAINERS = 1 << 17
"""Lists and maps in one block: each takes a byte that spells it, and a hundred once it is read. For JSON,
where links and byte strings become maps, these count too."""

SCRATCH_BYTES = 4 << 30
"""Bytes in one scratch file or draft."""

NAME_BYTES = 255
"""NAME_MAX: bytes in one directory entry's name."""

MANIFEST_BYTES = 16 << 20
"""Bytes in a sharded Zarr manifest, or in one of its shards."""

SHARD_ENTRIES = 1 << 20
"""Places for chunks in one shard of a Zarr store."""

RANK = 64
"""Dimensions of an array."""

SEALED_BYTES = 128 << 20
"""Bytes in one encrypted value: it can only be read and written as a whole."""

NODE_LINKS = 1 << 18
"""Links in one DAG-PB node, and block sizes in one UnixFS message."""

SHARD_SLOTS = 1024
"""Slots in one shard of a UnixFS directory."""

FILE_BYTES = (1 << 63) - 1
"""Bytes that a UnixFS file may claim to hold: an off_t."""

FILE_DEPTH = 128
"""Nodes on the way from the top of a UnixFS file to a leaf."""

FILE_VISITS = 1 << 16
"""What reading a range may cost: one for each node and each 16 links in it. n bytes get n / 4 on top."""

REPEATED = 1 << 20
"""Entries that one walk gives out of nodes that it was in before: a small archive can spell a huge tree."""

LOADED_BYTES = 4 << 30
"""Bytes of a file that are handed over as one value; greater ones are read in ranges."""
