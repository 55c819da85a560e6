"""Real mounts, worked on by real programs.

Terminology
    A mount is one run of `mstfs mount` over a copy of the sample; programs are what people type.

Tricky bits
    `close` of a program's last descriptor is told to the daemon before the program ends, the release of the
    file shortly after: what a test expects after a release is polled for.

Hacking
    `mounting` starts, asks, ends and checks a mount. Where a mount is shared by the tests of a module, each
    test works in a collection of its own.
"""
