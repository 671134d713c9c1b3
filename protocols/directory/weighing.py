"""How what the mesh measures moves an agent up or down, as the caller weighs it.

    score = (fit + trust·T + latency·L + price·P) / (1 + trust + latency + price)

``fit`` (0..1) is how well the agent fits the question; ``trust``, ``latency`` and ``price`` are the caller's weights, each 0..1, so that
none counts for more than the fit. T, L and P are 0..1, 1 the best, and are made of one agent alone: they are the same in every cell, on
every page and beside any other agents.

    T = trust score / 100                     L = 500 ms / (500 ms + average latency)          P = 1 MESH / (1 MESH + price of a query)

What was not measured counts as the middle: .5, which is a trust score of 50 or a latency of 500 ms. A free agent's P is 1. With all
weights 0 the score is the fit.
"""

from dataclasses import dataclass

from meshos.errors import BadInput
from meshos.protocols.directory.parts import Measured

LATENCY_MIDDLE_MS = 500.0
"""A latency that counts as the middle: tools answer in a few milliseconds, agents that think in seconds."""

PRICE_MIDDLE_MICRO = 1_000_000
"""A price that counts as the middle: 1 MESH a query."""

MIDDLE = 0.5


@dataclass(frozen=True, slots=True)
class Weigh:
    """The weights, each 0..1; 0: it does not count."""

    trust: float = 0.0
    latency: float = 0.0
    price: float = 0.0


NOTHING = Weigh()


def check(weigh: Weigh) -> None:
    """Return if each weight is from 0 to 1; raises BadInput ``bad-query``."""
    for name in ("trust", "latency", "price"):
        if not 0 <= getattr(weigh, name) <= 1:
            raise BadInput("bad-query", f"the weight of {name} is not from 0 to 1")


@dataclass(frozen=True, slots=True)
class Counted:
    """T, L and P of the module's text, each 0..1."""

    trust: float
    latency: float
    price: float


def counted(measured: Measured, per_query_micro: int) -> Counted:
    """What is measured of an agent, as it counts."""
    latency_ms = measured.avg_latency_ms
    return Counted(
        min(1.0, max(0.0, measured.trust_score / 100)),
        MIDDLE if latency_ms is None else LATENCY_MIDDLE_MS / (LATENCY_MIDDLE_MS + max(0.0, latency_ms)),
        PRICE_MIDDLE_MICRO / (PRICE_MIDDLE_MICRO + per_query_micro),
    )


def weighed(fit: float, weigh: Weigh, measured: Measured, per_query_micro: int) -> float:
    """The score, in 0..1; see the module's text."""
    of = counted(measured, per_query_micro)
    total = fit + weigh.trust * of.trust + weigh.latency * of.latency + weigh.price * of.price
    return min(1.0, total / (1 + weigh.trust + weigh.latency + weigh.price))
