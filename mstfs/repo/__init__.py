"""What an atproto repository is made of besides its tree: records, commits, keys, signatures.

Terminology
    A record is a value that is structured data (DAG-CBOR), shown as JSON. A commit is the signed
    object that names an account and the root of its tree. A key is `collection/record-key`; what
    signs a commit is a signing key. A TID is a timestamp as text, a rev is the TID of a commit.

Tricky bits
    JSON is what people see, the block is what counts: `record.parse(record.render(block))` is the
    block again, byte for byte, for every valid record. A map that spells `$link` or `$bytes` itself
    has no JSON of its own (`record.is_faithful`). Neither the curve nor the public key is in a
    commit; they come from the DID document. Signatures are 64 bytes with a low S, nothing else.

Hacking
    Reading text is done twice: once by the C scanner of `json`, which is fast and tells little, and
    only if that fails by `record_text`, which knows lines and columns. Both must accept the same
    texts; a property test holds them together. A rule of the data model lives in `record_rules`,
    and both readers, the verifier and the library ask there.
"""
