"""Builds what is written in C, if it can: without a compiler or libfuse's headers mstfs works without it."""

from setuptools import Extension, setup

CBOR = "mstfs/codec/fast_cbor.h"

FUSE_PARTS = ("path", "files", "large", "listing", "new", "push")
"""Of what answers the kernel; the first one uses the others."""

BLOCK_PARTS = ("parts", "crypto")
"""What large files are read with."""

setup(
    ext_modules=[
        Extension(
            "mstfs.fuse.fast_path_wrapper",
            sources=[
                *(f"mstfs/fuse/fast_{part}.c" for part in FUSE_PARTS),
                *(f"mstfs/blocks/fast_{part}.c" for part in BLOCK_PARTS),
            ],
            depends=[
                *(f"mstfs/fuse/fast_{part}.h" for part in FUSE_PARTS[1:]),
                *(f"mstfs/blocks/fast_{part}.h" for part in BLOCK_PARTS),
            ],
            include_dirs=["/usr/include/fuse3", "/usr/local/include/fuse3"],
            define_macros=[("_FILE_OFFSET_BITS", "64")],
            optional=True,
        ),
        *(
            Extension(
                f"{folder}/{name}".replace("/", "."),
                sources=[f"{folder}/{name}.c", f"{folder}/{shared}.c"],
                depends=[f"{folder}/{shared}.h", CBOR],
                optional=True,
            )
            for folder, name, shared in (
                ("mstfs/blocks", "fast_index", "fast_crypto"),
                ("mstfs/blocks", "fast_ahead", "fast_crypto"),
                ("mstfs/tree/mst", "fast_node", "fast_reader"),
                ("mstfs/tree/mst", "fast_search", "fast_reader"),
            )
        ),
        Extension(
            "mstfs.tree.hamt.fast_node",
            sources=["mstfs/tree/hamt/fast_node.c"],
            depends=[CBOR],
            optional=True,
        ),
        Extension("mstfs.repo.fast_record", sources=["mstfs/repo/fast_record.c"], optional=True),
    ]
)
