"""How the answers of a node read to a person: durations, amounts, short ids, and careful access to what came over the wire."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

SHOWN_DIGITS = 8
"""Hex digits of the id of a decision or motion in a table."""
SHORT_ID = 10
"""Characters of an id in a table: ``a-`` and 8 hex digits are unique among ten thousand agents as good as always."""
GENESIS_DIGITS = 32
"""Of a genesis hash, that say which it is: to make another genesis that begins with them takes 2^64 times what it takes with 16."""
_GENESIS = re.compile(rf"[0-9a-f]{{{GENESIS_DIGITS},64}}")


def names_genesis(text: str) -> bool:
    """Whether these are the digits of a genesis hash, or enough of the first ones."""
    return _GENESIS.fullmatch(text) is not None


def short(identity: object) -> str:
    """The beginning of an id that is enough to name it."""
    return str(identity)[:SHORT_ID]


def digits(row: Mapping[str, object]) -> str:
    """The beginning of the id of a decision or motion."""
    return str(row.get("id"))[:SHOWN_DIGITS]


def left(text: object) -> str:
    """How long until a time of the ledger, by this machine's clock."""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return "-"
    return duration(max(0.0, (at - datetime.now(UTC)).total_seconds() * 1000))


def org_name(did: object) -> str:
    """``alpha`` of ``did:mesh:enterprise:alpha``."""
    return str(did).rpartition(":")[2]


def duration(ms: object) -> str:
    """Milliseconds in the largest unit that says enough: ``412 ms``, ``3 s``, ``4 m``, ``2 h``, ``5 d``."""
    value = number(ms)
    if value is None:
        return "-"
    if value < 1000:
        return f"{value:.0f} ms"
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m")):
        if value >= size:
            return f"{value / size:.0f} {unit}"
    return f"{value / 1000:.0f} s"


def number(value: object) -> float | None:
    """``value`` if it is a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def percent(share: object) -> str:
    """``12%`` of 0.12."""
    value = number(share)
    return "-" if value is None else f"{value * 100:.0f}%"


def mesh(amount: object) -> str:
    """``10 MESH`` of "10"; ``free`` where nothing is asked."""
    return "free" if amount in (None, "", "0") else f"{amount} MESH"


def table_of(value: object) -> Mapping[str, object]:
    """``value`` if it is an object, else an empty one: an older node may not send it."""
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def rows_of(value: object) -> list[Mapping[str, object]]:
    """The objects in ``value``."""
    return [cast("Mapping[str, object]", one) for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def texts_of(value: object) -> list[str]:
    """The texts in ``value``."""
    return [str(one) for one in value] if isinstance(value, list) else []


def plural(count: object, one: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"
