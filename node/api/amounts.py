"""MESH in requests: CONTRACT.md's strings of decimal MESH with at most 6 decimals (what is written comes from tasks.amounts)."""

import re

from meshos.errors import BadInput
from meshos.protocols.tasks.amounts import MICRO, mesh

_AMOUNT = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?")

text = mesh
"""The shortest decimal text of an amount in millionths."""


def micro(text: str, least: str = "zero or more") -> int:
    """Millionths of MESH in ``text`` ("10", "0.25", "10 MESH"); raises BadInput ``bad-amount``, whose hint says that it is ``least``."""
    match = _AMOUNT.fullmatch(text.strip().removesuffix("MESH").rstrip())
    if match is None:
        hint = f'it is {least}; write it like "10" or "0.25", with at most 6 decimals'
        raise BadInput("bad-amount", f"{text[:40]!r} is not an amount of MESH", hint=hint)
    whole, decimals = match.groups()
    return int(whole) * MICRO + int((decimals or "").ljust(6, "0"))
