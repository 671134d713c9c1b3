"""What each replica of a small scope does in each of its states with each event: computed once, and remembered.

Theory of operation. A replica is a deterministic automaton, so what one replica does in one state with one event is computed once and
remembered, however many global states it is part of (exhaustive.py goes through those). States and messages have numbers; a set of
messages is an integer with a bit for each.
"""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshos.consensus.pbft.codec import encode
from meshos.consensus.pbft.messages import Message, NewView, Proposal, ViewChange, Vote
from meshos.consensus.pbft.records import HEAD
from meshos.consensus.pbft.view_change import choose
from meshos.consensus.pbft.voting import Slot
from meshos.crypto.simulated import SimulatedSigner
from meshos.ids import NodeId
from meshos.simulations.pbft.cores import GENESIS, SECRET, Cores, Node
from meshos.simulations.pbft.toy import request

_EXPLORED = (Vote, Proposal, ViewChange, NewView)


class Counterexample(Exception):
    """Two replicas have decided differently, or one has signed twice; the text is the way there."""


@dataclass(slots=True)
class _Local:
    """One state of one replica. ``after``: where each event leads (None: nowhere new), and what is sent then."""

    node: Node
    image: bytes  # to make copies from
    decided: tuple[bytes, ...]
    views: int
    may_leave: bool
    after: dict[int, "tuple[int, int, bool]"] = field(default_factory=dict)
    idle: int = 0  # messages that change nothing here,
    counted: int = 0  # those that are only added to what it holds,
    telling: int = 0  # and those that make it do something
    settled: dict[int, int] = field(default_factory=dict)  # the state after all that is only counted, by what there is


LEAVE, CRASH = -1, -2


@dataclass(slots=True)
class Scope:
    """How much is explored."""

    n: int = 4
    heights: int = 1
    views: int = 1
    crashes: int = 1
    interval: int = 8


class Automata:
    """All replicas' states, made as they are met."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.messages: list[tuple[int, int, Message]] = []  # (to, from, what), by number
        self._numbers: dict[object, int] = {}
        self.locals: list[_Local] = []
        self._known: dict[object, int] = {}
        self.to: list[int] = [0] * scope.n  # which messages go to whom
        self.first: tuple[int, ...] = ()
        self.sent = 0

    def begin(self) -> None:
        """All replicas know the requests, and have done what they do without a message."""
        cores = Cores(self.scope.n, interval=self.scope.interval)
        signer = SimulatedSigner(SECRET, "client")
        wanted = [request(signer, GENESIS, number + 1, "add", 1) for number in range(self.scope.heights)]
        first: list[int] = []
        for place, node in enumerate(cores.nodes.values()):
            node.wall_ms += place  # so that each would propose another block
            node.start()
            for each in wanted:
                node.submit(each)
            number, sent = self._intern(place, node)
            first.append(number)
            self.sent |= sent
        self.first = tuple(first)

    def step(self, place: int, local: int, event: int) -> "tuple[int, int, bool]":
        """Where ``event`` leads the replica ``place``: its state, what it has sent, and whether it did anything that others may see."""
        state = self.locals[local]
        known = state.after.get(event)
        if known is None and event >= 0 and _stale(state.node, self.messages[event][2]):
            known = state.after[event] = (local, 0, False)
        if known is None:
            node = pickle.loads(state.image)
            assert isinstance(node, Node)
            if event == LEAVE:
                node.lose_patience()
            elif event == CRASH:
                node.crash()
                for number in range(self.scope.heights):
                    node.submit(request(SimulatedSigner(SECRET, "client"), GENESIS, number + 1, "add", 1))
            else:
                _, sender, message = self.messages[event]
                node.hear(self._name(sender), message)
            number, sent = self._intern(place, node)
            changed = number != local
            visible = bool(sent) or self.locals[number].decided != state.decided or (changed and self._decides(event, place))
            known = state.after[event] = (number, sent, visible)
        return known

    def sort(self, place: int, local: int, there: int) -> None:
        """Find out what each message of ``there`` does in a state."""
        state = self.locals[local]
        for event in bits(there & ~(state.idle | state.counted | state.telling)):
            number, sent, visible = self.step(place, local, event)
            if visible:
                state.telling |= 1 << event
            elif number == local and not sent:
                state.idle |= 1 << event
            else:
                state.counted |= 1 << event

    def settle(self, place: int, local: int, there: int) -> int:
        """The state after everything of ``there`` that makes nobody do anything."""
        known = self.locals[local].settled.get(there)
        if known is not None:
            return known
        now = local
        while True:
            self.sort(place, now, there)
            counted = there & self.locals[now].counted
            if not counted:
                break
            now = self.step(place, now, (counted & -counted).bit_length() - 1)[0]
        self.locals[local].settled[there] = now
        return now

    def _decides(self, event: int, place: int) -> bool:
        """Whether it matters which messages of its kind come first: promises to the primary of their view."""
        if event < 0:
            return True
        message = self.messages[event][2]
        return isinstance(message, ViewChange) and message.view % self.scope.n == place

    def _name(self, place: int) -> NodeId:
        return NodeId(f"n{place + 1:03d}")

    def _intern(self, place: int, node: Node) -> tuple[int, int]:
        """The number of this state, and of the messages that were sent on the way."""
        sent = 0
        for said in node.take():
            if isinstance(said.message, _EXPLORED):
                for to in said.to:
                    sent |= 1 << self._number(place, int(to[1:]) - 1, said.message)
        self._check_signed(node)
        key = (place, fingerprint(node))
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = len(self.locals)
            record = node.core.desk.ballot.record
            decided = tuple(decided.certified.block.hash for decided in node.decided)
            timers = node.core.desk.timers
            may_leave = record.promised < self.scope.views and (timers.runs("patience") or timers.runs("impatience"))
            self.locals.append(_Local(node, pickle.dumps(node, pickle.HIGHEST_PROTOCOL), decided, record.promised, may_leave))
        return number, sent

    def _number(self, sender: int, to: int, message: Message) -> int:
        key = (to, meaning(message))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.messages)
            self.messages.append((to, sender, message))
            self.to[to] |= 1 << number
        return number

    def _check_signed(self, node: Node) -> None:
        signed: dict[object, bytes] = {}
        for domain, payload in node.signed:
            if domain.phase in ("prepare", "commit") and signed.setdefault(domain, payload) != payload:
                raise Counterexample(f"{node.name} signs a second {domain.phase} vote in view {domain.view} at height {domain.height}")


def _stale(node: Node, message: Message) -> bool:
    """Whether a replica has all of ``message`` already, or is beyond it: cheaper to see than to try."""
    core = node.core
    record = core.desk.ballot.record
    match message:
        case Vote() | Proposal():
            vote = message.vote if isinstance(message, Proposal) else message
            slot = core._slots.known(vote.height)
            there = slot is not None and slot.vote_of(vote.phase, vote.view, vote.index) is not None
            proposed = not isinstance(message, Proposal) or (slot is not None and message.view in slot.proposals)
            return vote.height <= core.chain.height or (there and proposed)
        case ViewChange(view=view, index=index):
            known = core._views.newest_change(index)
            return view <= record.view or (known is not None and (known.view, known.height) >= (view, message.height))
        case NewView(view=view):
            return view <= record.view or view < record.promised
    return False


def fingerprint(node: Node) -> object:
    """All of a core's state that decides what it will do, but for time, for what is decided, and for who of several has signed a proof."""
    core = node.core
    desk, views, record, voted = core.desk, core._views, core.desk.ballot.record, core.desk.ballot.voted
    slots = [slot for height, slot in sorted(core._slots._slots.items()) if height > core.chain.height]
    held = tuple((slot.height, _votes(slot), tuple(sorted(slot.proposals)), tuple(sorted(slot.bodies))) for slot in slots)
    changes = tuple(meaning(change) for _, change in sorted(views._changes._of.items()) if change.view > record.view)
    waiting = None if views._held is None else meaning(views._held[1])
    lock = None if voted.lock is None else voted.lock[:2]
    timers = (desk.timers.runs("patience"), desk.timers.runs("impatience"))
    pool = tuple(pending.hash for pending in desk.pool)
    signed = frozenset((domain.phase, domain.view, domain.height, payload) for domain, payload in node.signed)
    own = (record, voted.order, voted.prepared, voted.committed, lock, views._assembled, signed)
    return core.chain.head, node.disk.durable.get(HEAD), own, held, changes, waiting, timers, pool


def _votes(slot: Slot) -> object:
    return tuple(sorted((of, tuple(sorted((index, vote.hash) for index, vote in votes.items()))) for of, votes in slot._votes.items()))


def meaning(message: Message) -> object:
    """What ``message`` says, whoever of several has signed for it."""
    match message:
        case ViewChange():
            return "promise", message.index, message.view, message.height, message.hash, message.prepared
        case NewView():
            return "proof", message.view, choose(message.changes)
    return encode(message)


def bits(mask: int) -> Iterator[int]:
    """The numbers in a set of messages."""
    while mask:
        bit = mask & -mask
        mask ^= bit
        yield bit.bit_length() - 1
