"""What has been changed and not yet published.

Terminology
    An edit is a staged put or a tombstone for one key. A draft is text in a record file that
    is no valid record (yet); scratch is a file whose name is no key. Both are kept, neither
    is ever published.

Tricky bits
    The tables are the truth; what is held in memory is a mirror that changes along with them.
    Whoever opens a transaction reloads the mirrors when it is rolled back.

Hacking
    `edits` and `files` own their tables and nothing else does. `tree` lays edits over a root
    and is read only: it asks `edits` and the tree below, and writes to neither.
"""
