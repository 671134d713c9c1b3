"""What all parts of the core share: the committed chain, this node's ballot, the requests that wait, the time, and what goes out."""

from meshos.consensus.pbft.allowance import Allowance
from meshos.consensus.pbft.application import Application
from meshos.consensus.pbft.ballot import Ballot
from meshos.consensus.pbft.chain import Chain
from meshos.consensus.pbft.config import Config, Timing
from meshos.consensus.pbft.events import Noticed, Send
from meshos.consensus.pbft.messages import Message
from meshos.consensus.pbft.pool import Pool
from meshos.consensus.pbft.timers import Timers
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.effects import Persist, WriteBack
from meshos.errors import MeshError
from meshos.ids import NodeId
from meshos.storage.overlay import Overlay
from meshos.storage.store import View


class Desk:
    """One replica's. ``now`` and ``wall_ms`` are set before anything happens."""

    def __init__(self, config: Config, application: Application, store: View) -> None:
        self.config = config
        self.application = application
        self.store = Overlay(store)  # with what this step has written so far, which the driver shows only after it
        self.now = 0.0
        self.wall_ms = 0
        self.out: list[object] = []
        self.timers = Timers()
        self.allowance = Allowance()
        self.pool = Pool()
        self.chain = Chain(config, application, self.store)
        self.ballot = Ballot(config.genesis_hash, self.store, self.out, self.write)
        self.silent: MeshError | None = None  # why this validator signs nothing
        self.asking = False  # whether it first has to hear what others have seen of it
        self.restoring = False  # whether its state is being laid down

    @property
    def timing(self) -> Timing:
        """How patient this replica is."""
        return self.config.timing

    @property
    def index(self) -> int | None:
        """This node's seat in the set that decides now."""
        return self.ballot.index

    @property
    def may_sign(self) -> bool:
        """Whether anything may be signed now, whatever seat this node has."""
        return not self.asking and not self.restoring and self.silent is None

    @property
    def speaks(self) -> bool:
        """Whether this node may sign votes and promises now."""
        index = self.ballot.index
        return index is not None and self.may_sign and not self.chain.validators.entries[index].suspended

    @property
    def votes(self) -> bool:
        """Whether it may vote in its view: it speaks, and has not promised to leave it."""
        return self.speaks and self.ballot.record.promised == self.ballot.record.view

    def seat(self, validators: ValidatorSet) -> int | None:
        """This node's seat in a set, with its own key."""
        index = validators.index_of(self.config.node)
        return index if index is not None and validators.entries[index].key == self.config.key else None

    @property
    def leads(self) -> bool:
        """Whether it is the primary of its view."""
        return self.votes and self.chain.validators.primary(self.ballot.record.view) == self.index

    def after(self, ms: float) -> float:
        """The time ``ms`` milliseconds from now."""
        return self.now + ms / 1000

    def node(self, index: int) -> NodeId:
        """Who holds a seat."""
        return self.chain.validators.entries[index].node

    def others(self) -> tuple[NodeId, ...]:
        """All other validators."""
        me = self.config.node
        return tuple(entry.node for entry in self.chain.validators.entries if entry.node != me)

    def send(self, to: NodeId, message: Message) -> None:
        """To one node."""
        if to != self.config.node:
            self.out.append(Send((to,), message))

    def broadcast(self, message: Message) -> None:
        """To all other validators."""
        others = self.others()
        if others:
            self.out.append(Send(others, message))

    def write(self, effect: Persist | WriteBack) -> None:
        """Have it written; it is seen at once."""
        self.store.lay(effect.writes)
        self.out.append(effect)

    def staged(self) -> None:
        """The driver shows all that was written so far."""
        self.store.settle(self.store.pending)

    def notice(self, error: MeshError) -> None:
        """Say it to whoever operates this node."""
        self.out.append(Noticed(error))

    def again(self, name: str, ms: float) -> None:
        """Set a timer."""
        self.timers.set(name, self.now + ms / 1000)
