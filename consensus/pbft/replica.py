"""The machine "pbft": the core of the agreement in a node, with its codec, its checks of signatures, and its clients.

What a peer casts is decoded, looked at once (is it worth a check?), its signatures are verified, and only then the core sees it. What the
core sends is encoded and cast. A client submits a request and hears where it was ordered and what came of it, however long that
takes: whoever gives up knows that it may still be. ``listeners`` are told of each block (``Decided``) and of what an operator should
know (``Noticed``), once the effects before are on disk.
"""

from collections import Counter
from collections.abc import Sequence

from meshos.consensus.pbft import claims as signatures
from meshos.consensus.pbft.application import Application
from meshos.consensus.pbft.block import request_hash
from meshos.consensus.pbft.checking import Lane, Unchecked
from meshos.consensus.pbft.codec import decode, encode
from meshos.consensus.pbft.config import Config
from meshos.consensus.pbft.events import (
    Committed,
    Decided,
    Dropped,
    FindRequest,
    Head,
    Noticed,
    ReadBlock,
    ReadHead,
    Send,
    Submit,
    WallTime,
)
from meshos.consensus.pbft.limits import MAX_COMMANDS, MAX_REQUEST_BYTES
from meshos.consensus.pbft.messages import Blocks, Body, Evidence, Message, NewView, Proposal, Relay, ViewChange, Vote
from meshos.consensus.pbft.pbft import Pbft
from meshos.consensus.pbft.pool import Pending
from meshos.crypto.signing import Claim, Verifier
from meshos.effects import Cast, Completed, Err, Heard, Ok, Outcome, Signed, Tell, Tick
from meshos.errors import MeshError, Refused, busy
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId
from meshos.storage.store import View

CAST = "/meshos/pbft/1"
"""What replicas speak."""

_VOTES, _REQUESTS = 1, 2  # the lanes, by the number of their checks
_FROM_VALIDATORS = (Vote, Proposal, ViewChange, NewView, Evidence, Body)

_Asker = tuple[str, int]


class Replica:
    """``view`` shows what was persisted and what is on its way; ``wall_ms`` is the wall time at ``now``."""

    def __init__(
        self,
        config: Config,
        application: Application,
        view: View,
        verifier: Verifier,
        *,
        now: float,
        wall_ms: int,
        machine: str = "pbft",
        listeners: Sequence[str] = (),
    ) -> None:
        self.config = config
        self.core = Pbft(config, application, view)
        self.refused: Counter[str] = Counter()  # by the names of the refusals
        self._application = application
        self._clock = (now, wall_ms)
        self._machine = machine
        self._listeners = tuple(listeners)
        self._votes: Lane[Message] = Lane(machine, _VOTES, verifier)
        self._requests: Lane[tuple[Pending, bool]] = Lane(machine, _REQUESTS, verifier)  # with whether others are to be told
        self._asked: dict[bytes, list[_Asker]] = {}  # who waits for which request
        self._waits: dict[_Asker, bytes] = {}
        self._started = False
        self._begin_at = now
        self._effects: list[object] = []
        self._now = now

    # -- the machine ---------------------------------------------------------------------------------------------------

    def step(self, now: float, event: object) -> list[object]:
        """See ``meshos.effects.Machine``."""
        self._now = now
        self.core.desk.staged()
        if not self._started:
            self._started = True
            self._carry(self.core.start(now, self._wall_ms()))
        match event:
            case Heard(peer, _, body):
                self._hear(peer.node, body)
            case Signed(op, signature):
                self._carry(self.core.signed(now, self._wall_ms(), op, signature))
            case Completed(op, outcome):
                self._checked(op, outcome)
            case Perform(operation=Propose(command=command)):
                self._perform((event.reply_to, event.op), command)
            case Abandon():
                self._abandon((event.reply_to, event.op))
            case WallTime(ms):
                self._clock = (now, ms)
            case Tick():
                self._carry(self.core.tick(now, self._wall_ms()))
            case _:
                raise TypeError(f"Replica has no use for {event!r}")
        if self._votes:
            self._votes_checked(self._votes.at_once())
            self._effects += self._votes.begin()
        if self._requests:
            self._requests_checked(self._requests.at_once())
            self._effects += self._requests.begin()
        effects, self._effects = self._effects, []  # of a step nothing is left that cannot be written down
        return effects

    def deadline(self) -> float | None:
        """See ``meshos.effects.Machine``."""
        return self.core.deadline() if self._started else self._begin_at

    def statistics(self) -> dict[str, int]:
        """Where it stands, what waits, and what was refused."""
        chain = self.core.chain
        figures = {"height": chain.height, "epoch": chain.epoch, "view": self.core.view, "pool": len(self.core.desk.pool)}
        figures |= {"clients": len(self._waits), "unchecked": len(self._votes) + len(self._requests)}
        return figures | {f"refused {name}": count for name, count in sorted(self.refused.items())}

    def _wall_ms(self) -> int:
        since, wall_ms = self._clock
        return wall_ms + round((self._now - since) * 1000)

    # -- from peers ----------------------------------------------------------------------------------------------------

    def _hear(self, sender: NodeId, body: bytes) -> None:
        try:
            message = decode(body)
            self._admit(sender, message, len(body))
        except MeshError as error:
            self.refused[error.name] += 1

    def _admit(self, sender: NodeId, message: Message, size: int) -> None:
        """Have its signatures checked, or give it to the core at once, if it has none."""
        core = self.core
        if isinstance(message, _FROM_VALIDATORS) and not self._is_validator(sender):
            raise Refused("unknown-validator", f"{sender} says what only validators may say")
        if not core.worth(self._now, sender, message):
            self._carry(core.taken())
            return
        self._carry(core.taken())
        if isinstance(message, Relay):
            for request in message.requests:
                self._take_request(sender, request, None)
            return
        if isinstance(message, Blocks):
            message, wanted = self._wanted(message)
        else:
            wanted = signatures.claims(message, self.config.genesis_hash, core.validators_of)
            if isinstance(message, Proposal):
                wanted += self._claims_of_requests(message)
        if wanted:
            self._votes.add(Unchecked(sender, message, tuple(wanted), size))
        else:
            self._carry(core.receive(self._now, self._wall_ms(), sender, message))

    def _is_validator(self, node: NodeId) -> bool:
        chain = self.core.chain
        return chain.validators.index_of(node) is not None or chain.named_next().index_of(node) is not None

    def _wanted(self, message: Blocks) -> tuple[Blocks, list[Claim]]:
        """Of the blocks the ones that follow here, as far as their validators are known."""
        chain = self.core.chain
        blocks = tuple(block for block in message.blocks if block.block.header.height > chain.height)
        if blocks and blocks[0].block.header.height != chain.height + 1:
            blocks = ()
        count, wanted = signatures.blocks_claims(blocks, self.config.genesis_hash, chain.validators)
        return Blocks(message.height, message.base, blocks[:count], message.first), wanted

    def _claims_of_requests(self, proposal: Proposal) -> list[Claim]:
        """Of those that have not been checked when they came by themselves: client signatures are verified once."""
        pool = self.core.desk.pool
        wanted: list[Claim] = []
        for name, request in zip(proposal.block.request_hashes, proposal.block.requests, strict=True):
            if name not in pool:
                wanted += self._application.claims(request)
        return wanted

    def _take_request(self, sender: NodeId, request: bytes, asker: _Asker | None) -> None:
        """Have the signatures of a request checked, unless it is known."""
        name = request_hash(request)
        core = self.core
        if name in core.desk.pool or core.chain.place(name) is not None:
            return
        wanted = tuple(self._application.claims(request))
        pending = Pending(name, request, sender, self._now)
        self._requests.add(Unchecked(sender, (pending, asker is not None), wanted, len(request)))

    def _checked(self, op: int, outcome: Outcome[object]) -> None:
        if op == _VOTES:
            self._votes_checked(self._votes.ended(outcome))
        else:
            self._requests_checked(self._requests.ended(outcome))

    def _votes_checked(self, checked: list[tuple[Unchecked[Message], bool]]) -> None:
        for item, good in checked:
            if good:
                self._carry(self.core.receive(self._now, self._wall_ms(), item.sender, item.what))
            else:
                self.refused["bad-signature"] += 1

    def _requests_checked(self, checked: list[tuple[Unchecked[tuple[Pending, bool]], bool]]) -> None:
        told: list[Pending] = []
        heard: list[Pending] = []
        for request, good in checked:
            pending, relay = request.what
            if good:
                (told if relay else heard).append(pending)
            else:
                self.refused["bad-signature"] += 1
                self._answer(pending.hash, Err(Refused("bad-signature", "the request is not signed by whom it names")))
        for pendings, relay in ((told, True), (heard, False)):
            if pendings:
                self._carry(self.core.submit(self._now, self._wall_ms(), pendings, relay=relay))

    # -- from the core -------------------------------------------------------------------------------------------------

    def _carry(self, effects: list[object]) -> None:
        for effect in effects:
            match effect:
                case Send(to, message):
                    body = encode(message)
                    self._effects += [Cast(node, CAST, body) for node in to]
                case Decided():
                    self._decided(effect)
                case Dropped(name, error):
                    self._dropped(name, error)
                case Noticed(error):
                    self.refused[error.name] += 1
                    self._effects += [Tell(listener, effect) for listener in self._listeners]
                case _:
                    self._effects.append(effect)

    def _decided(self, decided: Decided) -> None:
        header = decided.certified.block.header
        for index, name in enumerate(decided.certified.block.request_hashes):
            self._answer(name, Ok(Committed(header.height, index, decided.results[index])))
        self._effects += [Tell(listener, decided) for listener in self._listeners]

    def _dropped(self, name: bytes, error: MeshError) -> None:
        place = self.core.chain.place(name)
        self._answer(name, Err(error) if place is None else Ok(Committed(*place)))

    # -- clients -------------------------------------------------------------------------------------------------------

    def _perform(self, asker: _Asker, command: object) -> None:
        try:
            match command:
                case Submit(request):
                    self._submit(asker, request)
                    return
                case ReadHead():
                    result: object = self._head()
                case ReadBlock(height):
                    result = self.core.chain.certified(height)
                case FindRequest(name):
                    place = self.core.chain.place(name)
                    result = None if place is None else Committed(*place)
                case _:
                    raise Refused("unknown-command", f"the ledger has no command {type(command).__name__}")
        except MeshError as error:
            self._effects.append(Tell(asker[0], Completed(asker[1], Err(error))))
            return
        self._effects.append(Tell(asker[0], Completed(asker[1], Ok(result))))

    def _submit(self, asker: _Asker, request: bytes) -> None:
        if len(request) > MAX_REQUEST_BYTES:
            raise Refused("too-large", f"a request of {len(request)} bytes, at most {MAX_REQUEST_BYTES} are ordered")
        name = request_hash(request)
        place = self.core.chain.place(name)
        if place is not None:
            self._effects.append(Tell(asker[0], Completed(asker[1], Ok(Committed(*place)))))
            return
        if len(self._waits) >= MAX_COMMANDS:
            raise busy("the table of clients that wait for the ledger")
        self._take_request(self.config.node, request, asker)
        self._waits[asker] = name
        self._asked.setdefault(name, []).append(asker)

    def _abandon(self, asker: _Asker) -> None:
        """Nobody waits any more; the request goes on all the same."""
        name = self._waits.pop(asker, None)
        if name is not None:
            self._asked[name].remove(asker)
            if not self._asked[name]:
                del self._asked[name]

    def _answer(self, name: bytes, outcome: Outcome[object]) -> None:
        for asker in self._asked.pop(name, ()):
            del self._waits[asker]
            self._effects.append(Tell(asker[0], Completed(asker[1], outcome)))

    def _head(self) -> Head:
        core, chain = self.core, self.core.chain
        silent = core.silent
        return Head(
            height=chain.height,
            hash=chain.head,
            time_ms=chain.time_ms,
            state_root=chain.root,
            epoch=chain.epoch,
            view=core.view,
            primary=core.desk.node(chain.validators.primary(core.view)),
            validator=core.desk.index is not None,
            behind=core.behind,
            pool=len(core.desk.pool),
            silent="" if silent is None else silent.name,
        )
