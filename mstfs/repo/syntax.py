"""The syntax of keys and identifiers (atproto specifications: "NSID", "Record Key", "DID").

Each rule is one regular expression for the hot path; the sentence that says which rule a text
breaks is worked out only once it is known to break one.
"""

import re

from mstfs.errors import SyntaxRuleError

NSID_CHARACTERS = 317
SEGMENT_CHARACTERS = 63
RECORD_KEY_CHARACTERS = 512
DID_CHARACTERS = 2048

# A domain name written backwards, of two segments or more, then a name of letters and digits. The limit of
# 253 characters that domain names have is not checked: the interoperability tests accept longer ones.
_NSID = (
    r"(?=[^/]{5,317}(?:/|\Z))"
    r"[a-zA-Z](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)+"
    r"\.[a-zA-Z][a-zA-Z0-9]{0,62}"
)
_RECORD_KEY = r"(?!\.{1,2}\Z)[A-Za-z0-9._:~-]{1,512}"
_is_nsid = re.compile(_NSID).fullmatch
_is_record_key = re.compile(_RECORD_KEY).fullmatch
_is_key = re.compile(f"{_NSID}/{_RECORD_KEY}".encode()).fullmatch
_is_did = re.compile(r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]").fullmatch
_is_label = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?").fullmatch


def is_nsid(text: str) -> bool:
    """Whether the text names a collection, e.g. `app.bsky.feed.post`."""
    return _is_nsid(text) is not None


def is_record_key(text: str) -> bool:
    """Whether the text is a record key: 1 to 512 of `A-Za-z0-9.-_:~`, but not `.` or `..`."""
    return _is_record_key(text) is not None


def is_did(text: str) -> bool:
    """Whether the text is a DID, e.g. `did:plc:z72i7hdynmk6r22z27h6tvur`."""
    return len(text) <= DID_CHARACTERS and _is_did(text) is not None


def is_key(key: bytes) -> bool:
    """Whether the key is `collection/record-key`, both of valid syntax."""
    return _is_key(key) is not None


def check_key(key: bytes) -> None:
    """SyntaxRuleError with the rule that the key breaks, unless it is `collection/record-key`."""
    if is_key(key):
        return
    try:
        text = key.decode("ascii")
    except UnicodeDecodeError:
        raise SyntaxRuleError(f"key {_show(key.decode('utf-8', 'replace'))}: not ASCII") from None
    collection, slash, record_key = text.partition("/")
    if not slash:
        raise SyntaxRuleError(f"key {_show(text)}: no '/' between collection and record key")
    try:
        check_nsid(collection)
        check_record_key(record_key)
    except SyntaxRuleError as error:
        raise SyntaxRuleError(f"key {_show(text)}: {error}") from None


def check_nsid(text: str) -> None:
    """SyntaxRuleError with the rule that the text breaks, unless it is an NSID."""
    if is_nsid(text):
        return
    raise SyntaxRuleError(f"{_show(text)} is not an NSID: {_nsid_flaw(text)}")


def check_record_key(text: str) -> None:
    """SyntaxRuleError with the rule that the text breaks, unless it is a record key."""
    if is_record_key(text):
        return
    if not text:
        flaw = "it is empty"
    elif text in (".", ".."):
        flaw = "'.' and '..' are reserved"
    elif len(text) > RECORD_KEY_CHARACTERS:
        flaw = f"it has {len(text)} characters, {RECORD_KEY_CHARACTERS} are allowed"
    else:
        other = re.sub(r"[A-Za-z0-9._:~-]", "", text)[0]
        flaw = f"the character {other!r} is not one of A-Z a-z 0-9 . - _ : ~"
    raise SyntaxRuleError(f"{_show(text)} is not a record key: {flaw}")


def check_did(text: str) -> None:
    """SyntaxRuleError with the rule that the text breaks, unless it is a DID."""
    if is_did(text):
        return
    if not text.startswith("did:"):
        flaw = "it does not start with 'did:'"
    elif len(text) > DID_CHARACTERS:
        flaw = f"it has {len(text)} characters, {DID_CHARACTERS} are allowed"
    elif not re.match(r"did:[a-z]+:", text):
        flaw = "the method is not one or more of a-z between two colons"
    elif text[-1] in ":%":
        flaw = f"it ends in {text[-1]!r}"
    else:
        flaw = "the identifier is not one or more of A-Z a-z 0-9 . _ : % -"
    raise SyntaxRuleError(f"{_show(text)} is not a DID: {flaw}")


def _nsid_flaw(text: str) -> str:
    if not text.isascii():
        return "it is not ASCII"
    if len(text) > NSID_CHARACTERS:
        return f"it has {len(text)} characters, {NSID_CHARACTERS} are allowed"
    segments = text.split(".")
    if len(segments) < 3:
        return f"it has {len(segments)} of at least three segments"
    for number, segment in enumerate(segments, 1):
        if not segment:
            return f"segment {number} is empty"
        if len(segment) > SEGMENT_CHARACTERS:
            return f"segment {number} has {len(segment)} characters, {SEGMENT_CHARACTERS} are allowed"
    for number, segment in enumerate(segments[:-1], 1):
        if not _is_label(segment):
            return f"segment {number} is not made of letters, digits and inner hyphens"
    if segments[0][0].isdigit():
        return "it starts with a digit"
    return "the last segment is not a letter followed by letters and digits"


def _show(text: str) -> str:
    # A hostile key must not fill a log or a terminal, nor control it.
    return ascii(text if len(text) <= 80 else text[:77] + "...")
