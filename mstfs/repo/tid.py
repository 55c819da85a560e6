"""Timestamp identifiers: 13 characters that sort like the time they name (atproto specification, "TID").

A TID is a 63-bit number: 53 bits of microseconds since 1970, then 10 bits of clock identifier,
written as 13 base-32 digits whose alphabet is in ASCII order.
"""

import re

from mstfs.errors import SyntaxRuleError

ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
MICROSECONDS_MAX = (1 << 53) - 1
CLOCK_MAX = (1 << 10) - 1

# The first digit stands for 3 bits and the sign, which is never set.
_is_tid = re.compile(r"[2-7a-j][2-7a-z]{12}").fullmatch
# Python reads base 32 itself once the digits are its own, and that is 10 times faster than a loop.
_TO_PYTHON = str.maketrans(ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_PAIRS = tuple(high + low for high in ALPHABET for low in ALPHABET)


def is_valid(text: str) -> bool:
    """Whether the text is a TID."""
    return _is_tid(text) is not None


def encode(us: int, clock: int) -> str:
    """The TID of `us` microseconds since 1970 (53 bits) and a clock identifier (10 bits).

    SyntaxRuleError if one of them is out of range.
    """
    if not 0 <= us <= MICROSECONDS_MAX:
        raise SyntaxRuleError(f"a TID holds 0 to {MICROSECONDS_MAX} microseconds, not {us}")
    if not 0 <= clock <= CLOCK_MAX:
        raise SyntaxRuleError(f"the clock identifier of a TID is 0 to {CLOCK_MAX}, not {clock}")
    pairs = "".join([_PAIRS[us >> shift & 1023] for shift in (40, 30, 20, 10, 0)])
    return ALPHABET[us >> 50] + pairs + _PAIRS[clock]


def decode(text: str) -> tuple[int, int]:
    """Microseconds since 1970 and clock identifier. SyntaxRuleError if the text is not a TID."""
    if _is_tid(text) is None:
        raise SyntaxRuleError(
            f"{text[:40]!r} is not a TID: 13 characters of {ALPHABET}, the first at most 'j'"
        )
    number = int(text.translate(_TO_PYTHON), 32)
    return number >> 10, number & CLOCK_MAX


def next_after(last: str | None, now_us: int, clock: int) -> str:
    """A TID for now that sorts after `last`, even if the clock was turned back.

    SyntaxRuleError if `last` is not a TID, or is the end of time itself.
    """
    if last is not None:
        now_us = max(now_us, decode(last)[0] + 1)
    return encode(now_us, clock)
