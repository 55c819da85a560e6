"""Speed, measured against peers in the same run. `scripts/bench` starts these; the tests never do.

Terminology
    A ratio is our time through the peer's: below 1 we are faster. CPU times are of a child process that
    does one thing; wall times are of a real program on a real mount.

Hacking
    `trees` compares trees with atmst; `mounts` compares mounts with libfuse's passthrough; `table` prints.
"""
