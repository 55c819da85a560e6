"""UnixFS: directories, files and symbolic links as DAG-PB blocks, as IPFS keeps them. Read only so far.

Terminology
    A node is a DAG-PB block with a UnixFS message in it, or a raw block, which is (a part of) a file.
    A dirent is one name in a directory. A shard is a node of a directory that is spread over many blocks by
    the hash of the names; a slot is one of the places in a shard, its fanout is how many it has.
    A chunk is a piece of a file's content, a leaf is the node that holds one. The path of something is the
    names on the way to it, joined by slashes, without one in front.

Tricky bits
    The key of an entry is its path, and keys are in the order of their bytes. This is not the order of the
    names in each directory: `a.txt` comes before `a/x`, though `a` comes before `a.txt`.
    Names are any bytes: `..`, NUL and what else a stranger may think of come out as they are, and whoever
    shows them escapes them. Only names that are empty or hold a slash have no path; they are listed in their
    directory, and nowhere else. Of two equal names the first wins.
    Sizes are told by the parents and known by the children. A read believes them for finding its way, and
    checks each block that it comes to; nothing is ever allocated because of what a size says.
    The same block may well be linked many times (equal files, runs of zeros), so a small archive can spell
    a huge tree. What comes again is counted, and bounded where somebody waits for the end.

Hacking
    `node` is one block, `directory` lists and looks up, `file` reads ranges, `path` walks whole trees, `diff`
    compares. These take a `load` function, from CID to decoded node; `tree` has the class that caches nodes
    and ties all together. `builder` makes blocks as Kubo does, `folders` whole trees of them, and `verify`
    is the strict check of a tree.
    Source: https://specs.ipfs.tech/unixfs
"""
