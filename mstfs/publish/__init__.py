"""Making a new root from what is staged.

Terminology
    A plan is everything that a publication will write: the new nodes, the commit, the counts.

Tricky bits
    `make_plan` only reads, and may run in a thread while edits go on; `record_plan` is one durable
    transaction, and clears exactly the edits that went into the plan.

Hacking
    Publishers, which push a published root somewhere else, start from the event that
    `record_plan` returns.
"""
