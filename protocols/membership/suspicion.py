"""How long a suspicion lasts (Lifeguard, Dadgar et al. 2017, section 4.2, "dogpile").

    timeout = max(shortest, longest - (longest - shortest) * log(C + 1) / log(K + 1))

with C independent confirmations of K wanted. An accuser that is alone is more likely to be the one in trouble, so it waits long;
each confirmation shortens the wait, the first the most. A confirmation is the word of another organisation.
"""

from math import log, log10

from meshos.presets import Timing


def shortest_s(timing: Timing, members: int) -> float:
    """The shortest suspicion among ``members`` nodes: it grows as news takes longer to reach everybody."""
    return timing.suspicion_mult * max(1.0, log10(max(1, members))) * timing.probe_interval_s


def timeout_s(timing: Timing, members: int, confirmations: int, wanted: int) -> float:
    """How long a suspicion lasts that ``confirmations`` of ``wanted`` others share. Nobody to confirm: the shortest."""
    shortest = shortest_s(timing, members)
    if wanted <= 0 or confirmations >= wanted:
        return shortest
    longest = timing.suspicion_max_mult * shortest
    return max(shortest, longest - (longest - shortest) * log(confirmations + 1) / log(wanted + 1))
