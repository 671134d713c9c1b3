"""Links of a simulated world: who has one to whom, and what is on it."""

from typing import TYPE_CHECKING

from meshos.ids import NodeId
from meshos.node.kernel.hearing import heard
from meshos.protocols.membership.events import PeerProved
from meshos.protocols.rpc.events import LinkDown, LinkUp, MessageReceived, NotSent, SendMessage

if TYPE_CHECKING:
    from meshos.simulations.world import SimNode, World


LATER_S = 0.05
"""By how much the two sides of a link may learn at different times that it broke."""


class Links:
    """Who has a link to whom, and what is on it: in order, and reliable until it breaks."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._up: dict[tuple[NodeId, NodeId], int] = {}  # (who, with whom) -> the connection, until ``who`` learns that it broke
        self._arrives: dict[tuple[NodeId, NodeId], float] = {}  # when the last message of a direction arrives
        self._opening: set[tuple[NodeId, NodeId]] = set()
        self._numbers = 0
        self.stalled = 0  # messages that were sent into a cut, whose links have not broken yet
        self._random = world.generator("links").random

    def warm(self, one: "SimNode", other: "SimNode") -> None:
        """Have a link between the two that was opened long ago."""
        if (one.name, other.name) not in self._up:
            self._numbers += 1
            self._up[one.name, other.name] = self._up[other.name, one.name] = self._numbers
            self._told(other, one)
            self._told(one, other)

    def open(self, node: "SimNode", to: NodeId) -> None:
        """Dial: two round trips for TCP and TLS 1.3, then both sides know."""
        if (node.name, to) in self._up:
            node.deliver("rpc", LinkUp(self._world.peer(to)))
            return
        if (node.name, to) in self._opening:
            return
        self._opening.add((node.name, to))
        network, now = self._world.network, self._world.now
        delay = sum(network.stream_delay(*pair, now) for pair in ((node.name, to), (to, node.name)) * 2)
        self._world.after(delay, self._opened, node, node.epoch, to)

    def _opened(self, node: "SimNode", epoch: int, to: NodeId) -> None:
        self._opening.discard((node.name, to))
        if epoch != node.epoch:
            return
        other = self._world.nodes.get(to)
        passes = self._world.network.passes
        if other is None or not other.alive or other.spec.leaf or not (passes(node.name, to) and passes(to, node.name)):
            refused = other is not None and not other.alive and passes(node.name, to)
            delay = 0.0 if refused else self._world.network.faults.link_timeout_s
            self._world.after(delay, self._lost, node, epoch, to, "unreachable")
            return
        if (node.name, to) not in self._up:
            if (to, node.name) in self._up:
                self._world.visited("a new link in the place of one half dead")
                self._learns((to, node.name), self._up[to, node.name])
            self._numbers += 1
            self._up[node.name, to] = self._up[to, node.name] = self._numbers
            self._told(other, node)
        self._told(node, other)

    def _told(self, node: "SimNode", other: "SimNode") -> None:
        """``node`` learns that it has a link to ``other``, whose certificate the handshake proved."""
        peer = self._world.peer(other.name)
        if other.spec.certificate:
            node.deliver("membership", PeerProved(peer, other.spec.certificate))
        node.deliver("rpc", LinkUp(peer))

    def send(self, node: "SimNode", effect: SendMessage) -> None:
        """In order; what is sent into a cut breaks the link after its timeout. What was under way when it broke may still arrive."""
        pair = (node.name, effect.to)
        connection = self._up.get(pair)
        world = self._world
        if connection is None:
            world.after(0.0, node._later, node.epoch, "rpc", NotSent(effect.to, effect.message, "no-link"))
            return
        passes = world.network.passes(*pair)
        arrives = max(world.now + world.network.stream_delay(*pair, world.now), self._arrives.get(pair, 0.0)) if passes else -1.0
        if world.tracer is not None:
            world.tracer.sent(world.now, arrives, *pair, effect.message)
        if not passes:
            self.stalled += 1
            world.after(world.network.faults.link_timeout_s, self._timed_out, pair, connection)
            return
        self._arrives[pair] = arrives
        world.at(arrives, self._arrive, pair, connection, effect)

    def _arrive(self, pair: tuple[NodeId, NodeId], connection: int, effect: SendMessage) -> None:
        if self._up.get((pair[1], pair[0])) == connection:
            if pair not in self._up:
                self._world.visited("a message that arrived after its sender saw the link break")
            self._world.nodes[pair[1]].deliver("rpc", MessageReceived(self._world.peer(pair[0]), effect.message, effect.lane))
        else:
            self._world.visited("a message lost with its link")

    def _timed_out(self, pair: tuple[NodeId, NodeId], connection: int) -> None:
        self.stalled -= 1
        self._break(pair, connection)

    def reset(self, one: NodeId, other: NodeId) -> None:
        """The link between the two breaks now, if there is one."""
        connection = self._up.get((one, other))
        if connection is not None:
            self._break((one, other), connection)

    def _break(self, pair: tuple[NodeId, NodeId], connection: int) -> None:
        """Both sides learn it, not at the same moment: to the later one what is under way is still delivered, although the sender has
        seen the link break already (and may ask again)."""
        one, other = pair
        if self._random() < 0.5:
            one, other = other, one
        self._learns((one, other), connection)
        self._world.after(LATER_S * self._random(), self._learns, (other, one), connection)

    def _learns(self, pair: tuple[NodeId, NodeId], connection: int) -> None:
        """The first of ``pair`` learns that its connection to the second is gone."""
        if self._up.get(pair) != connection:
            return
        del self._up[pair]
        self._arrives.pop(pair, None)
        node = self._world.nodes[pair[0]]
        self._lost(node, node.epoch, pair[1], "link-lost")

    def _lost(self, node: "SimNode", epoch: int, peer: NodeId, reason: str) -> None:
        """``node`` learns that it has no link to ``peer``."""
        if epoch == node.epoch:
            for machine, event in heard(LinkDown(peer, reason)):
                if machine in node.stores or machine == "rpc":  # a scenario's nodes need not have membership
                    node.deliver(machine, event)

    def node_gone(self, node: "SimNode") -> None:
        """A process that died resets its connections, as far as the reset gets through."""
        for pair, connection in [(pair, number) for pair, number in self._up.items() if pair[0] == node.name]:
            del self._up[pair]
            self._arrives.pop(pair, None)
            passes = self._world.network.passes(*pair)
            delay = self._world.network.delay(*pair) if passes else self._world.network.faults.link_timeout_s
            self._world.after(delay, self._learns, (pair[1], pair[0]), connection)
