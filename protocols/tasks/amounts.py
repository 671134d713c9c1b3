"""Amounts as people write them in an agent file, turned into integers: MESH, memory, processor shares.

No float takes part: what was written is read as decimal text, since prices must agree on every node.
"""

import re
from decimal import Decimal

from meshos.protocols.tasks.located import Place, Text, nearest, quoted

MICRO = 1_000_000
"""The ledger counts millionths of a MESH."""
MAX_PRICE = 10**12 * MICRO
"""More than any supply of MESH; keeps sums of a block far below 2**63 after a thousand additions."""
MIN_MEMORY_BYTES = 16 << 20
MAX_MEMORY_BYTES = 1 << 42
MAX_CPU_MILLIS = 1_024_000

_NUMBER = re.compile(r"(-?\d{1,30}(?:\.\d{1,30})?(?:[eE][+-]?\d{1,2})?)\s*([^\d\s].{0,20})?")
_MEMORY_UNITS = {"": 1, "B": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def _split(value: Text) -> tuple[Decimal, str] | None:
    """The number and the unit behind it; None if this is no number with a unit."""
    match = _NUMBER.fullmatch(value.text.strip())
    if match is None or value.kind == "bool":
        return None
    return Decimal(match.group(1)), (match.group(2) or "").strip()


def _plain(number: Decimal) -> str:
    return f"{number:f}"


def price(value: Text) -> int:
    """``10 MESH`` (or ``10``: MESH is the only unit) in millionths; raises FileError ``bad-price``."""
    place, parts = value.place, _split(value)
    if parts is None:
        raise place.error("bad-price", f"price {quoted(value.text)} is no amount", hint='write it as in "10 MESH"')
    number, unit = parts
    if unit not in ("", "MESH"):
        raise place.error("bad-price", f"price {quoted(value.text)} has no known unit", hint=f'write "{_plain(number)} MESH"')
    return _scaled(number, MICRO, MAX_PRICE, place, f"price {quoted(value.text)}")


def _scaled(number: Decimal, factor: int, maximum: int, place: Place, what: str) -> int:
    if number < 0:
        raise place.error("bad-price", f"{what} is below zero", hint="what costs nothing is 0 MESH")
    scaled = number * factor
    if scaled != scaled.to_integral_value():
        raise place.error("bad-price", f"{what} has more than 6 decimals", hint="the smallest amount is 0.000001 MESH")
    if scaled > maximum:
        raise place.error("bad-price", f"{what} is more than there will ever be", hint=f"at most {maximum // factor} MESH")
    return int(scaled)


def memory(value: Text) -> int:
    """``256Mi`` in bytes; raises FileError ``bad-value``."""
    parts = _split(value)
    if parts is None:
        raise value.place.error("bad-value", f"memory {quoted(value.text)} is no amount", hint='write it as in "256Mi"')
    number, unit = parts
    if unit not in _MEMORY_UNITS:
        meant = nearest(unit.removesuffix("B").capitalize(), [u for u in _MEMORY_UNITS if u]) or "Mi"
        raise value.place.error("bad-value", f"memory {quoted(value.text)} has no known unit", hint=f'write "{_plain(number)}{meant}"')
    size = int(number * _MEMORY_UNITS[unit])
    if not MIN_MEMORY_BYTES <= size <= MAX_MEMORY_BYTES:
        raise value.place.error("bad-value", f"memory {quoted(value.text)} is not between 16Mi and 4Ti", hint='write it as in "256Mi"')
    return size


def cpu(value: Text) -> int:
    """``0.5`` (of one processor) or ``500m`` in thousandths; raises FileError ``bad-value``."""
    parts = _split(value)
    if parts is None or parts[1] not in ("", "m"):
        raise value.place.error("bad-value", f"cpu {quoted(value.text)} is no share of a processor", hint="write 0.5, or 500m")
    millis = int(parts[0] * (1 if parts[1] == "m" else 1000))
    if not 1 <= millis <= MAX_CPU_MILLIS:
        raise value.place.error("bad-value", f"cpu {quoted(value.text)} is not between 0.001 and 1024", hint="write 0.5, or 500m")
    return millis


def mesh(micro: int) -> str:
    """An amount in millionths as decimal MESH with at most 6 decimals, the way the API writes it."""
    whole, part = divmod(micro, MICRO)
    return f"{whole}.{part:06d}".rstrip("0") if part else str(whole)
