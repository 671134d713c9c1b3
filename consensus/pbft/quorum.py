"""How many is enough (DESIGN.md, "Quorums"): the only place where f and q are computed.

Of n validators at most f = floor((n - 1) / 3) may lie. Two quorums of q = ceil((n + f + 1) / 2) meet in at least
2q - n >= f + 1 validators, so in an honest one (Castro & Liskov 1999, section 4.2; with q = 2f + 1 where n = 3f + 1), and
the n - f honest ones alone are a quorum. A suspended validator counts in n all the same: its vote is lost, its seat is not.
"""


def faults(n: int) -> int:
    """f: how many of ``n`` validators may be Byzantine."""
    if n < 1:
        raise ValueError("a quorum needs somebody")
    return (n - 1) // 3


def quorum(n: int) -> int:
    """q: any two sets of this many of ``n`` validators have an honest one in common."""
    return (n + faults(n) + 2) // 2


def weak_quorum(n: int) -> int:
    """f + 1: among this many is an honest one (Castro & Liskov 2002, section 2.3.1, "weak certificate")."""
    return faults(n) + 1
