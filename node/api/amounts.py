"""MESH in text and in millionths: CONTRACT.md's strings of decimal MESH with at most 6 decimals."""

import re

from meshos.errors import BadInput

_AMOUNT = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?")


def micro(text: str) -> int:
    """Millionths of MESH in ``text`` ("10", "0.25", "10 MESH"); raises BadInput ``bad-amount``."""
    match = _AMOUNT.fullmatch(text.strip().removesuffix("MESH").rstrip())
    if match is None:
        raise BadInput(
            "bad-amount", f"{text[:40]!r} is not an amount of MESH", hint='write it like "10" or "0.25", with at most 6 decimals'
        )
    whole, decimals = match.groups()
    return int(whole) * 1_000_000 + int((decimals or "").ljust(6, "0"))


def text(micro_mesh: int) -> str:
    """The shortest decimal text of ``micro_mesh`` millionths."""
    sign = "-" if micro_mesh < 0 else ""
    whole, rest = divmod(abs(micro_mesh), 1_000_000)
    return f"{sign}{whole}.{rest:06d}".rstrip("0").rstrip(".") if rest else f"{sign}{whole}"
