"""Inputs that once broke something, by target, each with what it broke."""

KEPT: dict[str, list[bytes]] = {}
