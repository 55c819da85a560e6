"""Proofs about one record, with the commit that vouches for its tree.

A proof is the commit (if the root is one), the nodes on the path to the key, and the record's block if
there is one. Source: atproto specification "Repository"; the nodes are those of `mstfs.tree.mst.proof`.
"""

from typing import NamedTuple

from mstfs.blocks.interface import BlockReader
from mstfs.codec import dag_cbor
from mstfs.errors import BlockError, FormatError, MissingBlock, ProofError, Refused
from mstfs.repo import signing, verify_commit
from mstfs.repo.head import Head, read_head
from mstfs.repo.verify_commit import SignatureState
from mstfs.tree.mst import proof


class Proven(NamedTuple):
    """What a proof proves: `value` is the CID under the key, None if the tree does not have the key.

    `has_record` tells whether the record's block is there too. `did` and `rev` are None under a bare tree.
    """

    value: bytes | None
    has_record: bool
    data: bytes
    did: str | None
    rev: str | None
    signature: SignatureState


def make_proof(blocks: BlockReader, head: Head, key: bytes) -> tuple[bytes | None, proof.Blocks]:
    """The CID under the key (None: absent) and the blocks that prove it, the root first.

    BlockError if one of them cannot be had.
    """
    found = proof.prove(blocks, head.data, key)
    value = proof.check(head.data, key, found)
    commit = [(head.root, blocks.get(head.root))] if head.commit is not None else []
    known = dict(commit + found)
    if value is not None and value not in known:
        known[value] = blocks.get(value)
    return value, list(known.items())


def check_proof(
    blocks: BlockReader, root: bytes, key: bytes, signing_key: str | None, *, allow_unsigned: bool = False
) -> Proven:
    """What `blocks` prove about a key under `root`. Trusts nothing but the root.

    With `signing_key` (did:key or multikey) the commit must carry its signature, unless it carries none and
    `allow_unsigned`. ProofError if it is not proven; SignatureError if `signing_key` is malformed.
    """
    public = None if signing_key is None else signing.parse_public_key(signing_key)
    try:
        head = read_head(blocks, root)
        signature: SignatureState = "unsigned"
        if head.commit is not None:
            fields = dag_cbor.decode(blocks.get(root))
            assert isinstance(fields, dict), "or read_head would have refused it"
            signature = verify_commit.examine(root, dict(fields), public).signature
        if signature == "invalid":
            raise ProofError("the signature of the commit is invalid")
        if public is not None and signature == "unsigned" and not allow_unsigned:
            raise ProofError("nothing is signed, so the signing key vouches for nothing")
        # Only the path is read, however big the file is; then it is checked as if it came from anywhere.
        value = proof.check(head.data, key, proof.prove(blocks, head.data, key))
        has_record = value is not None
        if value is not None:
            try:
                blocks.get(value)
            except MissingBlock:
                has_record = False
    except ProofError:
        raise
    except (BlockError, FormatError, Refused) as error:
        raise ProofError(str(error)) from None
    commit = head.commit
    return Proven(
        value,
        has_record,
        head.data,
        commit.did if commit is not None else None,
        head.rev,
        signature,
    )
