"""The part of the two that are relayed: to find a relay, and to come when one calls.

The nearest candidates are asked at once, as a question is one small message, and the next one for each that says no; the first that
grants is taken, and what others have granted is given back. Where nobody is left who could, the search ends with the first reason that
was told.

A relay may call this node for whoever has a link to it. So how often, and how many answers are under way, is bounded for each relay and
in all; who the caller is, is proved end to end before anything of it is heard.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from meshos.buckets import Buckets
from meshos.effects import Cast, Completed, Err, Ok, Tell
from meshos.errors import MeshError, Unreachable, busy
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, Peer
from meshos.protocols.relay.events import Answer, Answered, Grant, Seek
from meshos.protocols.relay.limits import (
    ANSWERS,
    ANSWERS_PER_RELAY,
    ASKED,
    CALLS_BURST,
    CALLS_PER_S,
    CANDIDATES,
    REMEMBERED,
    SEEK_S,
    SEEKS,
    TRY_S,
)
from meshos.protocols.relay.wire import CAST, REASONS, Called, Declined, Denied, Granted, Want, encode


@dataclass(slots=True, eq=False)
class Search:
    """One ``Seek`` under way. ``asked`` are those that have not answered, ``left`` those that would be asked next."""

    op: int
    reply_to: str
    until: float
    to: NodeId
    left: list[NodeId]
    asked: set[NodeId] = field(default_factory=set)
    reason: str = ""


class Seeking:
    """``now`` and ``out`` (the effects) are those of the step being taken."""

    def __init__(self, me: Peer, linked: Callable[[NodeId], Peer | None]) -> None:
        self.now = 0.0
        self.out: list[object] = []
        self.counts: Counter[str] = Counter()
        self._me = me
        self._linked = linked
        self._searches: dict[int, Search] = {}
        self._refs = 0
        self._answering: dict[bytes, tuple[NodeId, float]] = {}  # by token: the relay, and until when
        self._often = Buckets(CALLS_PER_S, CALLS_BURST, REMEMBERED)

    # -- to find one -------------------------------------------------------------------------------------------------

    def seek(self, perform: Perform, seek: Seek) -> None:
        """Begin a search."""
        candidates = [node for node in dict.fromkeys(seek.candidates) if node not in (self._me.node, seek.to) and self._linked(node)]
        if len(self._searches) >= SEEKS:
            self._tell(perform.reply_to, perform.op, Err(busy("the list of searches for a relay")))
        elif not candidates:
            self._tell(perform.reply_to, perform.op, Err(no_relay("this node has no other link")))
        else:
            self.counts["sought"] += 1
            self._refs += 1
            until = self.now + SEEK_S if perform.deadline is None else min(perform.deadline, self.now + SEEK_S)
            search = self._searches[self._refs] = Search(perform.op, perform.reply_to, until, seek.to, candidates[:ASKED])
            for _ in range(min(CANDIDATES, len(candidates))):
                self._ask_next(self._refs, search)

    def abandon(self, event: Abandon) -> None:
        """Nobody waits for it any more."""
        for ref, search in list(self._searches.items()):
            if (search.op, search.reply_to) == (event.op, event.reply_to):
                del self._searches[ref]

    def granted(self, relay: Peer, granted: Granted) -> None:
        """``relay`` would."""
        search = self._searches.get(granted.ref)
        if search is not None and relay.node in search.asked:
            del self._searches[granted.ref]
            self._tell(search.reply_to, search.op, Ok(Grant(relay.node, granted.token)))
        else:
            self._decline(relay.node, granted.token)

    def denied(self, relay: Peer, denied: Denied) -> None:
        """``relay`` would not."""
        search = self._searches.get(denied.ref)
        if search is None or relay.node not in search.asked:
            return
        search.asked.discard(relay.node)
        search.reason = search.reason or denied.reason
        if search.left:
            self._ask_next(denied.ref, search)
        elif not search.asked:
            self._fail(denied.ref)

    def _ask_next(self, ref: int, search: Search) -> None:
        node = search.left.pop(0)
        search.asked.add(node)
        self.out.append(Cast(node, CAST, encode(Want(ref, search.to))))

    def _fail(self, ref: int) -> None:
        search = self._searches.pop(ref)
        self.counts["found_none"] += 1
        self._tell(search.reply_to, search.op, Err(no_relay(REASONS.get(search.reason, "nobody answered"))))

    def _tell(self, machine: str, op: int, outcome: Ok[object] | Err) -> None:
        self.out.append(Tell(machine, Completed(op, outcome)))

    # -- to come -----------------------------------------------------------------------------------------------------

    def called(self, relay: Peer, called: Called) -> None:
        """``relay`` says that somebody waits there."""
        of_it = sum(node == relay.node for node, _ in self._answering.values())
        if called.caller in (self._me.node, relay.node) or called.token in self._answering:
            self.counts["calls_refused"] += 1
        elif not self._often.of(relay.node).take(self.now) or of_it >= ANSWERS_PER_RELAY or len(self._answering) >= ANSWERS:
            self.counts["calls_refused"] += 1
            self._decline(relay.node, called.token)
        else:
            self.counts["called"] += 1
            self._answering[called.token] = (relay.node, self.now + 2 * TRY_S)
            self.out.append(Answer(relay.node, called.token, called.caller))

    def answered(self, event: Answered) -> None:
        """This node has come, or could not."""
        found = self._answering.pop(event.token, None)
        if found is not None and not event.well:
            self._decline(found[0], event.token)

    def _decline(self, relay: NodeId, token: bytes) -> None:
        if self._linked(relay) is not None:
            self.out.append(Cast(relay, CAST, encode(Declined(token, "relay-declined"))))

    # -- time --------------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """When the next search or answer ends."""
        untils = [search.until for search in self._searches.values()]
        return min((*untils, *(until for _, until in self._answering.values())), default=None)

    def tick(self) -> None:
        """End those whose time is up."""
        for ref in [ref for ref, search in self._searches.items() if search.until <= self.now]:
            self._fail(ref)
        for token in [token for token, (_, until) in self._answering.items() if until <= self.now]:
            del self._answering[token]

    def statistics(self) -> dict[str, float]:
        """Counts since the start, and what is under way."""
        return {**self.counts, "searches": len(self._searches), "answering": len(self._answering)}


def no_relay(why: str) -> MeshError:
    """Nothing was done: there is no way."""
    return Unreachable("no-relay", f"no member was found that relays there: {why}", outcome="not_done")
