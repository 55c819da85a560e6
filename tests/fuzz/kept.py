"""Inputs that once broke something, by target, each with what it broke."""

KEPT: dict[str, list[bytes]] = {
    # A piece of a name that ends before an escape, and so is shorter than others, was no folder for keys.
    "names": [b"a/" + b"k" * 239 + b"\0" + b"k" * 100, b"a/" + b"k" * 238 + b"%" + b"k" * 100],
}
