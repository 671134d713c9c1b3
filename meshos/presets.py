"""Timing presets: lan, wan, local and fast, each made from another by replacing what differs.

All of membership's times hang together, so they are set together and checked together. In the formulas, n is the number of
members that are not known to be dead, and s = 1 + this node's health score (Lifeguard, Dadgar et al. 2017, section 4.1): 0
while the node keeps up, at most ``awareness_max`` while it does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Timing:
    """When membership does what. The defaults are those of ``lan``."""

    probe_interval_s: float = 1.0
    """One member is probed every ``probe_interval_s * s`` (SWIM, section 4: the protocol period T')."""

    probe_timeout_s: float = 0.5
    """How long a direct probe waits for its ack, times s; above the 99th percentile of a round trip. What is left of the
    interval, ``probe_interval_s - probe_timeout_s``, is for the indirect probes and the probe over the link, side by side."""

    indirect_probes: int = 3
    """Members asked to probe on our behalf when a direct probe stays unanswered (SWIM's k)."""

    nack_share: float = 0.8
    """A helper that itself gets no ack says so after this share of the indirect phase (Lifeguard, section 4.1), so that the
    nack is back before the phase ends."""

    suspicion_mult: float = 3.0
    """The shortest suspicion lasts ``suspicion_mult * max(1, log10(n)) * probe_interval_s``. A live member must hear of it, write
    down a higher incarnation, sign and spread it within that time, also after a pause: on lan one of 2.5 s begins
    before the suspicion by at least one interval, so 1.5 s are left to refute in."""

    suspicion_max_mult: float = 6.0
    """The longest suspicion, of an accuser that nobody confirms, lasts ``suspicion_max_mult`` times the shortest."""

    confirmations: int = 2
    """K: this many other organisations confirming a suspicion bring it down to the shortest. With C of them it lasts
    max(shortest, longest - (longest - shortest) * log(C+1)/log(K+1)) (Lifeguard, section 4.2)."""

    confirming_probes: int = 8
    """How many of all members are expected to probe a suspect at once when they hear of it; the others meet it on their round."""

    awareness_max: int = 8
    """The worst health score. With 8, a node that cannot keep up probes nine times slower and more patiently."""

    gossip_interval_s: float = 0.2
    """While there is news, it goes to ``gossip_fanout`` random members this often, beyond what rides on probes and acks."""

    gossip_fanout: int = 3
    """See ``gossip_interval_s``."""

    retransmit_mult: int = 6
    """A piece of news is sent ``ceil(retransmit_mult * log10(n+1))`` times, at least ``retransmit_mult`` (SWIM, section 4.1), by each
    node that hears of it."""

    sync_interval_s: float = 30.0
    """Push/pull anti-entropy with one random member this often, at rest; times 1 + ceil(log2(n/32)) above 32 members."""

    sync_gap_s: float = 1.0
    """After a sync that brought news the next follows in about this time; after one that did not, the gap doubles up to the
    interval. So a node that joins, or a partition that healed, catches up in a logarithm of rounds."""

    sync_timeout_s: float = 10.0
    """One sync, all its pages. Longer than ``sync_gap_s``: at most two run at once."""

    reconnect_interval_s: float = 5.0
    """A member that is held for dead is pinged, or a seed that is not a member asked, this often (with many members, by fewer of
    them), so that the two sides of a healed partition find each other."""

    facts_interval_s: float = 5.0
    """Changed facts about this node (load, health) are signed and spread at most this often; changed addresses at once."""

    dead_kept_s: float = 3600.0
    """How long a dead or departed member stays listed, to come back with a higher incarnation. After that its last incarnation is
    remembered for as long again, so that old news cannot bring it back."""

    leave_s: float = 1.0
    """How long a node that leaves goes on telling the others: several times ``gossip_interval_s``."""

    def __post_init__(self) -> None:
        """Raises ValueError with the relation that does not hold."""
        relations = {
            "0 < probe_timeout_s < probe_interval_s": 0 < self.probe_timeout_s < self.probe_interval_s,
            "0 < nack_share < 1": 0 < self.nack_share < 1,
            "suspicion_mult >= 2, or a refutation has no time": self.suspicion_mult >= 2,
            "suspicion_max_mult >= 1": self.suspicion_max_mult >= 1,
            "indirect_probes, confirmations, confirming_probes >= 1": min(self.indirect_probes, self.confirmations, self.confirming_probes)
            >= 1,
            "0 < gossip_interval_s <= probe_interval_s": 0 < self.gossip_interval_s <= self.probe_interval_s,
            "gossip_fanout, retransmit_mult >= 1, awareness_max >= 0": self.gossip_fanout >= 1
            and self.retransmit_mult >= 1
            and self.awareness_max >= 0,
            "0 < sync_gap_s < sync_timeout_s < sync_interval_s": 0 < self.sync_gap_s < self.sync_timeout_s < self.sync_interval_s,
            "suspicion is shorter than what is kept of the dead": self.suspicion_mult * self.suspicion_max_mult * self.probe_interval_s
            < self.dead_kept_s,
            "leave_s >= 2 * gossip_interval_s": self.leave_s >= 2 * self.gossip_interval_s,
            "reconnect_interval_s, facts_interval_s > 0": min(self.reconnect_interval_s, self.facts_interval_s) > 0,
        }
        for relation, holds in relations.items():
            if not holds:
                raise ValueError(f"timing: {relation}")


LAN = Timing()
"""Machines in one building or region, up to a thousand."""

WAN = replace(
    LAN,
    probe_interval_s=5.0,
    probe_timeout_s=3.0,
    suspicion_mult=4.0,
    gossip_interval_s=0.5,
    gossip_fanout=4,
    sync_interval_s=60.0,
    sync_gap_s=3.0,
    sync_timeout_s=30.0,
    reconnect_interval_s=15.0,
    facts_interval_s=15.0,
    leave_s=3.0,
)
"""Across continents: round trips of 300 ms and bursts of loss are ordinary."""

LOCAL = replace(
    LAN,
    probe_timeout_s=0.4,
    indirect_probes=1,
    gossip_interval_s=0.1,
    sync_interval_s=15.0,
    sync_timeout_s=5.0,
    sync_gap_s=0.5,
    reconnect_interval_s=2.0,
    facts_interval_s=2.0,
    dead_kept_s=600.0,
    leave_s=0.3,
)
"""All nodes on one machine that does other work too: answers come fast, but processes wait for a core, so as patient as lan."""

FAST = replace(
    LOCAL,
    probe_interval_s=0.2,
    probe_timeout_s=0.1,
    indirect_probes=3,
    gossip_interval_s=0.04,
    sync_interval_s=5.0,
    sync_timeout_s=3.0,
    sync_gap_s=0.2,
    reconnect_interval_s=1.0,
    facts_interval_s=1.0,
    dead_kept_s=120.0,
    leave_s=0.2,
)
"""Failover within two seconds, for tests and idle machines: whoever pauses for half a second is accused."""

PRESETS: Mapping[str, Timing] = MappingProxyType({"lan": LAN, "wan": WAN, "local": LOCAL, "fast": FAST})
"""By the names that genesis.json uses."""
