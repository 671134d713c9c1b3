"""The relay's part: who is joined with whom.

    granted  --the caller comes with its token-->  called  --the other comes with its own-->  joined  --either goes-->  gone
       |                                             |                                          |
       +--- GRANT_S, the caller's link ends ---------+--- CALL_S, declined, the caller goes ----+--- IDLE_S, LIFE_S

A question is answered from what is known here, so refusing costs a message. Whoever asks is charged: the pair counts for its member and
its organisation from the grant on. Of the places that lead to one member an organisation has half, and fewer of such as are not joined: a
grant costs whoever asks nothing, and others have to reach that member as well. Between the two nothing is read here that belongs to them:
it is the ciphertext of their own handshake.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from meshos.buckets import Buckets
from meshos.effects import Cast
from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.relay.events import Came, EndLeg, Join
from meshos.protocols.relay.limits import (
    CALL_S,
    GRANT_S,
    IDLE_S,
    LIFE_S,
    PAIRS,
    PAIRS_PER_CALLED,
    PAIRS_PER_CALLER,
    PAIRS_PER_ORG,
    PAIRS_PER_ORG_AND_CALLED,
    REMEMBERED,
    TOKEN_BYTES,
    UNJOINED_PER_ORG_AND_CALLED,
    WANTS_BURST,
    WANTS_PER_S,
)
from meshos.protocols.relay.policy import Policy
from meshos.protocols.relay.wire import CAST, Called, Declined, Denied, Granted, Want, encode

Key = TypeVar("Key")
PeerOf = Callable[[NodeId], Peer | None]
"""Who a node is that there is a link to; None where there is none."""


@dataclass(slots=True, eq=False)
class Pair:
    """Two members. ``token`` is the one that is waited for, from ``awaited``; empty once they are joined."""

    caller: Peer
    called: Peer
    token: bytes
    awaited: NodeId
    until: float
    first: int | None = None
    second: int | None = None
    began: float = 0.0

    @property
    def joined(self) -> bool:
        """Whether bytes go through."""
        return self.second is not None


class Carrying:
    """``now`` and ``out`` (the effects) are those of the step being taken."""

    def __init__(self, me: Peer, policy: Policy, peer_of: PeerOf, rng: random.Random) -> None:
        self.now = 0.0
        self.out: list[object] = []
        self.counts: Counter[str] = Counter()
        self._me = me
        self._policy = policy
        self._peer_of = peer_of
        self._rng = rng
        self._often = Buckets(WANTS_PER_S, WANTS_BURST, REMEMBERED)
        self._pairs: dict[int, Pair] = {}
        self._numbered = 0
        self._tokens: dict[bytes, int] = {}
        self._legs: dict[int, int] = {}
        self._callers: Counter[NodeId] = Counter()
        self._calleds: Counter[NodeId] = Counter()
        self._orgs: Counter[OrgDid] = Counter()
        self._both: Counter[tuple[OrgDid, NodeId]] = Counter()  # of an organisation, to one member
        self._unjoined: Counter[tuple[OrgDid, NodeId]] = Counter()

    # -- what members say --------------------------------------------------------------------------------------------

    def wanted(self, caller: Peer, want: Want) -> None:
        """``caller`` asks to be relayed."""
        reason = self._refusal(caller, want.to)
        if reason is not None:
            self._refused(reason)
            if reason != "relay-too-often":  # who floods is not answered
                self._cast(caller.node, Denied(want.ref, reason))
            return
        called = self._peer_of(want.to)
        assert called is not None
        token = self._new_token()
        self._numbered += 1
        self._pairs[self._numbered] = Pair(caller, called, token, caller.node, self.now + GRANT_S)
        self._tokens[token] = self._numbered
        self._callers[caller.node] += 1
        self._calleds[called.node] += 1
        self._orgs[caller.org] += 1
        self._both[caller.org, called.node] += 1
        self._unjoined[caller.org, called.node] += 1
        self.counts["granted"] += 1
        self._cast(caller.node, Granted(want.ref, token))

    def declined(self, peer: Peer, declined: Declined) -> None:
        """``peer`` was called, and does not come; or has found another relay, and does not need the grant."""
        number = self._tokens.get(declined.token)
        if number is not None and self._pairs[number].awaited == peer.node:
            self._end(number, "relay-declined")

    # -- legs --------------------------------------------------------------------------------------------------------

    def came(self, event: Came) -> None:
        """A leg was opened."""
        number = self._tokens.get(event.token)
        if number is None or self._pairs[number].awaited != event.peer.node:
            self._refused("relay-token")
            self.out.append(EndLeg(event.leg, "relay-token"))
            return
        del self._tokens[event.token]
        pair = self._pairs[number]
        pair.token = b""
        self._legs[event.leg] = number
        if pair.first is None:
            pair.first = event.leg
            self._call(number, pair)
        else:
            pair.second, pair.began, pair.until = event.leg, self.now, self.now + IDLE_S
            self.counts["joined"] += 1
            _less(self._unjoined, (pair.caller.org, pair.called.node))
            self.out.append(Join(pair.first, event.leg, pair.caller.org))

    def carried(self, leg: int) -> None:
        """A leg is in use."""
        pair = self._pairs.get(self._legs.get(leg, 0))
        if pair is not None and pair.joined:
            pair.until = min(self.now + IDLE_S, pair.began + LIFE_S)

    def gone(self, leg: int) -> None:
        """A leg has ended."""
        number = self._legs.pop(leg, None)
        if number is not None:
            self._end(number, "relay-ended")

    def joins(self, one: NodeId, other: NodeId) -> bool:
        """Whether these two are joined here."""
        return any(pair.joined and {pair.caller.node, pair.called.node} == {one, other} for pair in self._pairs.values())

    # -- time --------------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """When the next pair ends."""
        return min((pair.until for pair in self._pairs.values()), default=None)

    def tick(self) -> None:
        """End those whose time is up."""
        for number in [number for number, pair in self._pairs.items() if pair.until <= self.now]:
            self._end(number, "relay-ended" if self._pairs[number].joined else "relay-unanswered")

    def statistics(self) -> dict[str, float]:
        """Counts since the start, and pairs."""
        return {**self.counts, "pairs": len(self._pairs), "pairs_joined": sum(pair.joined for pair in self._pairs.values())}

    # -- pieces ------------------------------------------------------------------------------------------------------

    def _refusal(self, caller: Peer, to: NodeId) -> str | None:
        """Why not, by name; what costs least is looked at first."""
        if not self._often.of(caller.node).take(self.now):
            return "relay-too-often"
        if to in (caller.node, self._me.node):
            return "relay-to-itself"
        called = self._peer_of(to)
        if not self._policy.serve:
            return "relay-off"
        if called is None:
            return "relay-unlinked"
        if not self._policy.allows(self._me, caller, called):
            return "relay-off"
        full = len(self._pairs) >= PAIRS or self._orgs[caller.org] >= PAIRS_PER_ORG
        if full or self._callers[caller.node] >= PAIRS_PER_CALLER or self._calleds[to] >= PAIRS_PER_CALLED:
            return "relay-full"
        both = (caller.org, to)
        if self._both[both] >= PAIRS_PER_ORG_AND_CALLED or self._unjoined[both] >= UNJOINED_PER_ORG_AND_CALLED:
            return "relay-full"
        return None

    def _call(self, number: int, pair: Pair) -> None:
        if self._peer_of(pair.called.node) is None:
            self._end(number, "relay-unlinked")
            return
        pair.token, pair.awaited, pair.until = self._new_token(), pair.called.node, self.now + CALL_S
        self._tokens[pair.token] = number
        self._cast(pair.called.node, Called(pair.token, pair.caller.node))

    def _end(self, number: int, reason: str) -> None:
        pair = self._pairs.pop(number)
        self._tokens.pop(pair.token, None)
        for leg in (pair.first, pair.second):
            if leg is not None and self._legs.pop(leg, None) is not None:
                self.out.append(EndLeg(leg, reason))
        _less(self._callers, pair.caller.node)
        _less(self._calleds, pair.called.node)
        _less(self._orgs, pair.caller.org)
        _less(self._both, (pair.caller.org, pair.called.node))
        if not pair.joined:
            _less(self._unjoined, (pair.caller.org, pair.called.node))
        self.counts[f"ended_{reason}"] += 1

    def _refused(self, reason: str) -> None:
        self.counts[f"refused_{reason}"] += 1

    def _cast(self, to: NodeId, message: Granted | Denied | Called) -> None:
        self.out.append(Cast(to, CAST, encode(message)))

    def _new_token(self) -> bytes:
        return self._rng.getrandbits(8 * TOKEN_BYTES).to_bytes(TOKEN_BYTES, "big")


def _less(counter: Counter[Key], key: Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
