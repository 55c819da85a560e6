"""py-hamt's sharded Zarr manifest: one block that names every shard of a Zarr store. Read only.

Terminology
    The manifest is the root: CIDs of metadata documents by their Zarr keys, and for each array its geometry
    and its shards. A shard is a list with one place for each chunk of a run of chunks: a CID, or null where
    there is no chunk. Chunks are counted by their linear index: row by row, the last dimension fastest.
    The grid of an array is the number of chunks in each dimension.

Tricky bits
    Keys are those that Zarr asks for, so how an array spells its chunk keys is read in its own metadata
    document: `temp/c/0/1` unless that says otherwise. py-hamt lists `c/` always, and looks up any spelling.
    Keys are in the order of their bytes: 10 stands before 2, so a walk jumps back and forth between shards.
    It finds its way by numbers that begin alike, and never comes to a chunk that no shard has.
    The shape of an array is a claim. Only shards that exist are gone through, and each must be exactly as
    long as the manifest says; so an array of 10^18 chunks costs what its blocks weigh. An honest manifest may
    link one shard many times (runs of equal chunks): what comes again is counted and bounded.
    Version 1 has one grid for the whole store. Newer writers record whose it is; else it is the array
    whose metadata has the same shape, and if several have, all of them share its chunks, as in py-hamt.
    A key may stand in the metadata and in a shard. The shard wins, but for a version 1 store that does
    not say that its chunks are at the root.
    Kubo makes a UnixFS file of a manifest or shard over its chunk size; what reads those is handed in.

Hacking
    `manifest` is the root block, `shard` a list of chunks, `document` what is needed of an array's metadata,
    `content` reads their bytes, `chunks` knows the keys of one array and their order. `store` puts these
    together for one root, `search` walks it in key order, `diff` compares two, `proof` gathers and checks
    what shows one key, `verify` is the strict check, `tree` has the class with the caches.
    Source: py-hamt 3.6.0, module `sharded_zarr_store`.
"""
