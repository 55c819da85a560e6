"""Fuzzing: any bytes whatever for every parser, each with what must hold of its answer.

Terminology
    A target is one parser and what must hold: it answers, or raises an error of `mstfs.errors`; and where two
    ways lead to the same answer, both are gone. A seed is a sound input; a kept input once broke something.

Tricky bits
    Nothing here catches more than `MstfsError`: any other exception, also an AssertionError, is a finding.
    Mutations depend on the name of the target and a number alone, so a run of the tests is always the same.

Hacking
    `scripts/fuzz TARGET [seconds]` searches with coverage (atheris, libFuzzer); what it finds goes into
    `kept`, as short as can be. `tests/test_fuzz.py` runs seeds, kept inputs and mutations without atheris.
    Targets stand in `codecs` (values and texts), `trees` (nodes) and `archives` (files).
"""
