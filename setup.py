"""Builds what is written in C, if it can: without a compiler or libfuse's headers mstfs works without it."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "mstfs.fuse.fast_path_wrapper",
            sources=["mstfs/fuse/fast_path.c", "mstfs/fuse/fast_listing.c", "mstfs/fuse/fast_push.c"],
            depends=["mstfs/fuse/fast_listing.h", "mstfs/fuse/fast_push.h"],
            include_dirs=["/usr/include/fuse3", "/usr/local/include/fuse3"],
            define_macros=[("_FILE_OFFSET_BITS", "64")],
            optional=True,
        ),
        *(
            Extension(
                f"mstfs.blocks.{name}",
                sources=[f"mstfs/blocks/{name}.c", "mstfs/blocks/fast_sha256.c"],
                depends=["mstfs/blocks/fast_sha256.h"],
                optional=True,
            )
            for name in ("fast_index", "fast_ahead")
        ),
        Extension("mstfs.repo.fast_record", sources=["mstfs/repo/fast_record.c"], optional=True),
        *(
            Extension(
                f"mstfs.tree.mst.{name}",
                sources=[f"mstfs/tree/mst/{name}.c", "mstfs/tree/mst/fast_reader.c"],
                depends=["mstfs/tree/mst/fast_reader.h"],
                optional=True,
            )
            for name in ("fast_node", "fast_search")
        ),
    ]
)
