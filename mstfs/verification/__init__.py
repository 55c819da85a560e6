"""Strict checks and proofs for every kind of tree, with the values that it names.

Terminology
    A walk goes once over one tree and its values, and gives a defect for each broken rule. A verification is
    a walk over a file, down to its sections, or over what one root reaches, wherever its blocks are. A proof
    is the few blocks that show what a root has under a key, or that it does not have the key.

Tricky bits
    Repositories have a verifier of their own (`mstfs.repo.verify`), which knows commits and records; whoever
    verifies an archive asks `roots.kind_of` first. The rules of nodes stand with their trees. A verifier must
    tell what is wrong with a root that every reader refuses, so `roots` looks more kindly. Whether values are
    DAG-CBOR, raw bytes or encrypted is in no file: what is looked into is a part of the report.

Hacking
    `roots` says which tree a root is. `walk` puts the verifier of a tree and the check of its `values`
    together; `car` and `head` run it. `report` is what they find. `proof` makes proofs and checks them.
"""
