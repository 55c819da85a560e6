"""What the values of a tree say as files, and how files become values.

Terminology
    A value is the CID that an entry of a tree holds. A record is a value that is structured data: its
    file is a text that is made of it and parsed again. A blob is opaque bytes: its file is these bytes.
    Making is turning the bytes of a file into a value, and into the blocks that it needs.

Tricky bits
    The same CID may say different things under two keys (an encrypted value and a plain one), so every
    method takes the key too.
    Sizes are exact and must be cheap, because a listing asks for all of them.

Hacking
    `interface` is what every kind of value can do. `records` are those of atproto repositories. `hamt` reads
    those of HAMTs out of `sources` and makes them with `hamt_writer`; `cipher` encrypts them, and `detect`
    finds out what a HAMT does not say about its values. `unixfs` are files and symbolic links.
"""
