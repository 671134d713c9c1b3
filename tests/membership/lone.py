"""One machine alone, driven by hand: what it hears is written by the test, and so is the world around it."""

import random
from collections.abc import Sequence

from meshos.crypto.simulated import SimulatedSigner, SimulatedWorld
from meshos.effects import Persist, Put, Sign, Signed, Tell, Tick
from meshos.flow_machine import Perform, StartFlow
from meshos.ids import NodeId, OrgDid, Peer
from meshos.presets import LAN, Timing
from meshos.protocols.membership import codec
from meshos.protocols.membership import events as ev
from meshos.protocols.membership.commands import Certified
from meshos.protocols.membership.machine import Membership
from meshos.protocols.membership.statements import Kind, Statement
from meshos.protocols.membership.syncing import Seed
from meshos.storage.memory import MemoryStore
from tests.membership.mesh import DOMAIN, facts, org

ME = NodeId("me")


class Lone:
    """``signs=False`` keeps signatures back until ``sign()``. ``out`` is what the last call caused, ``lines`` the transcript."""

    def __init__(
        self, timing: Timing = LAN, *, store: MemoryStore | None = None, signs: bool = True, seed: int = 1, seeds: Sequence[Seed] = ()
    ) -> None:
        self.store = store or MemoryStore(random.Random(seed))
        self.secret = SimulatedWorld(seed)
        self.signs = signs
        self.unsigned: list[Sign] = []
        self.written: list[int] = []
        self.now = 0.0
        self.out: list[object] = []
        self.lines: list[str] = []
        self.timing = timing
        self.org: dict[NodeId, OrgDid] = {ME: org(0)}
        mine = Certified(ME, org(0), b"my certificate")
        self.machine = Membership(
            mine, facts(ME, org(0)), domain=DOMAIN, timing=timing, seeds=seeds, rng=random.Random(seed), view=self.store
        )

    def step(self, event: object) -> list[object]:
        """One step, and the steps that its signatures cause; gives all effects."""
        self.out = []
        self._step(event)
        return self.out

    def _step(self, event: object) -> None:
        effects = self.machine.step(self.now, event)
        self.out += effects
        for effect in effects:
            self._note(effect)
            if isinstance(effect, Persist):
                self.store.write(effect.writes)
                self.written += [int.from_bytes(w.value, "big") for w in effect.writes if isinstance(w, Put) and w.key == b"incarnation"]
        for effect in effects:
            if isinstance(effect, Sign):
                self.unsigned.append(effect)
        if self.signs:
            self._sign()

    def _sign(self) -> None:
        waiting, self.unsigned = self.unsigned, []
        for sign in waiting:
            assert sign.domain == DOMAIN
            self._step(Signed(sign.op, SimulatedSigner(self.secret, ME).sign(DOMAIN, sign.payload)))

    def sign(self) -> list[object]:
        """Now the signatures come."""
        self.out = []
        self._sign()
        return self.out

    def until(self, when: float) -> list[object]:
        """Let time pass, tick by tick; gives all effects."""
        everything: list[object] = []
        while (due := self.machine.deadline()) is not None and due <= when:
            self.now = max(self.now, due)
            everything += self.step(Tick())
        self.now = when
        return everything

    # -- others ------------------------------------------------------------------------------------------------------

    def meet(self, node: str, of: int, incarnation: int = 1) -> NodeId:
        """``node`` proves who it is and says that it is alive."""
        name = NodeId(node)
        self.org[name] = org(of)
        self.step(ev.PeerProved(peer_of(name, org(of)), f"certificate of {node}".encode()))
        self.hear(name, self.alive(name, incarnation))
        return name

    def alive(self, node: NodeId, incarnation: int) -> Statement:
        return self._signed(node, codec.alive_payload(node, incarnation, 0, facts(node, self.org[node])))

    def word(self, kind: Kind, subject: NodeId, incarnation: int, accuser: NodeId) -> Statement:
        return self._signed(accuser, codec.word_payload(kind, subject, incarnation, accuser))

    def left(self, node: NodeId, incarnation: int) -> Statement:
        return self._signed(node, codec.left_payload(node, incarnation))

    def _signed(self, signer: NodeId, payload: bytes) -> Statement:
        return codec.statement(payload, SimulatedSigner(self.secret, signer).sign(DOMAIN, payload))

    def hear(self, sender: NodeId, *said: Statement, message: ev.Message | None = None) -> list[object]:
        carried = message or ev.Gossip(tuple(one.blob for one in said))
        return self.step(ev.DatagramReceived(sender, f"{sender}:1", carried, tuple(said)))

    # -- what it did -------------------------------------------------------------------------------------------------

    def sent(self, kind: type, effects: list[object] | None = None) -> list[ev.SendDatagram]:
        effects = self.out if effects is None else effects
        return [effect for effect in effects if isinstance(effect, ev.SendDatagram) and type(effect.message) is kind]

    def state(self, node: NodeId) -> tuple[str, bool]:
        view = self.machine.member(node)
        assert view is not None
        return view.state, view.routable

    def _note(self, effect: object) -> None:
        """One line a thing done."""
        at = f"{self.now:6.2f}"
        if isinstance(effect, ev.SendDatagram):
            target = f" {effect.message.target}" if isinstance(effect.message, ev.PingRequest) else ""
            said = ", ".join(describe(codec.decode_statement(blob)) for blob in effect.message.updates)
            self.lines.append(f"{at} {type(effect.message).__name__} to {effect.to}{target}{' with ' + said if said else ''}")
        elif isinstance(effect, Persist):
            self.lines.append(f"{at} Persist {', '.join(write.key.decode() for write in effect.writes)}")
        elif isinstance(effect, Sign):
            self.lines.append(f"{at} Sign {describe(codec.statement(effect.payload, bytes(64)))}")
        elif isinstance(effect, Tell) and isinstance(effect.event, ev.MemberChanged):
            changed = effect.event
            routable = "" if changed.routable else ", unroutable"
            self.lines.append(f"{at} {changed.node} is {changed.state}{routable} ({changed.incarnation})")
        elif isinstance(effect, Tell) and isinstance(effect.event, Perform):
            self.lines.append(f"{at} probe over the link")
        elif isinstance(effect, Tell) and isinstance(effect.event, StartFlow):
            self.lines.append(f"{at} sync")


def peer_of(node: NodeId, of: OrgDid) -> Peer:
    return Peer(node, of)


def describe(said: Statement) -> str:
    by = "" if said.signer == said.subject else f" by {said.signer}"
    return f"{said.subject} {said.kind.name.lower()} {said.incarnation}{by}"


def met(*, orgs: tuple[int, ...] = (1, 2, 3, 4), signs: bool = True) -> tuple[Lone, list[NodeId]]:
    """A machine that has begun, and knows a node of each of these organisations."""
    lone = Lone(signs=signs)
    lone.step(ev.Started())
    lone.sign()
    return lone, [lone.meet(f"p{number}", of) for number, of in enumerate(orgs)]


def silence(lone: Lone, subject: NodeId, seconds: float) -> list[object]:
    """Time passes in which everybody answers but ``subject``, whom nobody reaches."""
    everything: list[object] = []
    end = lone.now + seconds
    effects: list[object] = list(lone.out)
    while True:
        while effects:
            everything += effects
            answers: list[object] = []
            for sent in effects:
                if isinstance(sent, ev.SendDatagram) and sent.to != subject:
                    if isinstance(sent.message, ev.Ping):
                        answers += lone.hear(sent.to, message=ev.Ack(sent.message.sequence))
                    elif isinstance(sent.message, ev.PingRequest):
                        answers += lone.hear(sent.to, message=ev.Nack(sent.message.sequence))
            effects = answers
        due = lone.machine.deadline()
        if due is None or due > end:
            break
        effects = lone.until(max(due, lone.now))
    lone.now = end
    return everything


def told(effects: list[object]) -> set[str]:
    """What was said on datagrams."""
    sent = [effect for effect in effects if isinstance(effect, ev.SendDatagram)]
    return {describe(codec.decode_statement(blob)) for each in sent for blob in each.message.updates}
