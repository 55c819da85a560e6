"""Bytes to values and back: varints, CIDs, DAG-CBOR, DAG-PB, and DAG-JSON for people.

Terminology
    A CID is plain `bytes` in its binary form, without a multibase prefix. A multihash is hash
    code + digest length + digest; two CIDs with equal multihashes name the same bytes. A link is
    a CID inside a decoded value, a `cid.Link`.

Tricky bits
    Links and byte strings must never be mixed up. `dag_cbor.decode` keeps them apart;
    `dag_cbor.decode_node` does not, and is for tree nodes only, whose reader emits the node again
    and compares. A CIDv0 is a bare sha2-256 multihash of 34 bytes and implies dag-pb.
    Short digests prove nothing, so `cid.matches` refuses them, as it refuses sha1.
    JSON has no links and no byte strings: each dialect (DAG-JSON here, that of atproto's records above)
    spells them as maps, and says what happens to a map that only looks so.

Hacking
    The shape of nearly every CID is 36 bytes: version 1, one codec byte, 12 20, 32 bytes of
    sha2-256. Each hot function tests for it first. multiformats and dag-cbor are slow to import
    and to run: they stand where a person's text comes in, and as the reference of the tests.
"""
