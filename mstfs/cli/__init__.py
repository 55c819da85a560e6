"""The command line: parses, prints, exits. What it does, the packages below do.

Terminology
    A target is what a command works on: a mounted folder, a CAR, or an overlay.

Tricky bits
    `mstfs --help` must be quick: modules of this package import the rest of mstfs inside functions only.

Hacking
    One module per family of commands; each has `add(commands)`, which declares its commands, and one function
    a command, which takes the parsed arguments and returns an exit code. Errors are raised, and become a
    sentence and an exit code in `main`.
"""
