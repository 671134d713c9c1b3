"""How old what was proven is. A node may serve the ledger of last month, by validators that have left since, and prove all of it."""

import time

from meshos.node.cli.client_text import duration
from meshos.node.cli.output import warn

OLD_MS = 24 * 3_600_000
"""A day: members' nodes renew what they publish more often, so a ledger in use has newer blocks."""


def age_ms(time_ms: int) -> int:
    """Of a header with this ledger time, by this machine's clock."""
    return max(0, time.time_ns() // 1_000_000 - time_ms)


def age(time_ms: int) -> str:
    """Its age, for people: ``3 m old``."""
    return f"{duration(age_ms(time_ms))} old"


def warn_if_old(time_ms: int) -> None:
    """Say so where the newest header that a node shows is older than a day."""
    if age_ms(time_ms) > OLD_MS:
        warn(f"the newest block that this node shows is {age(time_ms)}: the mesh is quiet, or the node is behind; ask another one, too")
