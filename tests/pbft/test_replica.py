"""The machine: what it hears and says, its clients, and everything that it refuses by name before it costs anything."""

from collections import deque
from dataclasses import replace

import pytest

from meshos.consensus.pbft.block import request_hash
from meshos.consensus.pbft.codec import encode
from meshos.consensus.pbft.config import Config, Timing
from meshos.consensus.pbft.events import Committed, FindRequest, Head, Noticed, ReadBlock, ReadHead, Submit, WallTime
from meshos.consensus.pbft.limits import MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES
from meshos.consensus.pbft.messages import Blocks, Message, NewView, Proposal, Relay, Status, Vote
from meshos.consensus.pbft.pool import Pending, Pool
from meshos.consensus.pbft.replica import CAST, Replica
from meshos.consensus.pbft.view_change import new_view
from meshos.crypto.signing import Domain
from meshos.crypto.simulated import SimulatedSigner
from meshos.effects import Cast, Completed, Err, Heard, Ok, Outcome, Persist, Sign, Signed, Tell, Tick, WriteBack
from meshos.errors import Refused
from meshos.flow import Compute, Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, OrgDid, Peer
from meshos.simulations.pbft.cores import GENESIS, GENESIS_MS, SECRET, VERIFIER, Cores, Disk, genesis_set
from meshos.simulations.pbft.toy import Toy, request
from meshos.simulations.run import node_ids
from tests.pbft.making import ALICE, add, fill, reproposed, signed
from tests.pbft.test_view_change import change, shown

STRANGER = Peer(NodeId("n099"), OrgDid("did:mesh:enterprise:x"))


class Host:
    """Replicas with a driver that does everything at once."""

    def __init__(self, n: int = 4) -> None:
        self.ids = node_ids(n)
        self.now = 0.0
        self.disks = {node: Disk() for node in self.ids}
        self.replicas: dict[NodeId, Replica] = {}
        self.queue: deque[tuple[NodeId, object]] = deque()
        self.answers: dict[int, Outcome[object]] = {}
        self.told: list[object] = []
        self.computed = 0
        for node in self.ids:
            config = Config(node, node, GENESIS, GENESIS_MS, genesis_set(n), Timing())
            toy = Toy(GENESIS, genesis_set(n))
            self.replicas[node] = Replica(config, toy, self.disks[node], VERIFIER, now=0.0, wall_ms=GENESIS_MS + 1, listeners=("api",))
            toy.sets = self.replicas[node].core.validators_of
        for node in self.ids:
            self.queue.append((node, Tick()))
        self.run()

    def run(self) -> None:
        while self.queue:
            node, event = self.queue.popleft()
            effects = self.replicas[node].step(self.now, event)
            for effect in effects:
                if isinstance(effect, Persist | WriteBack):
                    self.disks[node].write(effect.writes, durable=isinstance(effect, Persist))
            for effect in effects:
                self.carry(node, effect)

    def carry(self, node: NodeId, effect: object) -> None:
        match effect:
            case Cast(to, protocol, body):
                if to in self.replicas:
                    self.queue.append((to, Heard(Peer(node, OrgDid("did:mesh:enterprise:o")), protocol, body)))
            case Sign(_, op, domain, payload):
                self.queue.append((node, Signed(op, SimulatedSigner(SECRET, node).sign(domain, payload))))  # type: ignore[arg-type]
            case Perform(operation=Compute(work=work)):
                self.computed += 1
                self.queue.append((node, Completed(effect.op, Ok(work()))))
            case Tell("client", Completed(op, outcome)):
                self.answers[op] = outcome
            case Tell("api", event):
                self.told.append(event)

    def ask(self, op: int, command: object, node: int = 0) -> None:
        self.queue.append((self.ids[node], Perform(op, Propose(command), None, "client")))
        self.run()

    def hear(self, node: int, sender: NodeId | Peer, message: Message | bytes) -> str:
        """What a replica refuses a message for, if it does."""
        replica = self.replicas[self.ids[node]]
        before = replica.refused.copy()
        peer = sender if isinstance(sender, Peer) else Peer(sender, OrgDid("did:mesh:enterprise:o"))
        self.queue.append((self.ids[node], Heard(peer, CAST, message if isinstance(message, bytes) else encode(message))))
        self.run()
        found = replica.refused - before
        return next(iter(found), "")


def test_a_client_hears_where_its_request_stands_and_what_came_of_it() -> None:
    host = Host()
    host.ask(1, Submit(add(1)), node=2)
    assert host.answers[1] == Ok(Committed(1, 0, b"1"))
    host.ask(2, FindRequest(request_hash(add(1))), node=3)
    host.ask(3, FindRequest(bytes(32)), node=3)
    assert (host.answers[2], host.answers[3]) == (Ok(Committed(1, 0, b"1")), Ok(None))
    host.ask(4, ReadHead(), node=1)
    head = host.answers[4]
    assert isinstance(head, Ok) and isinstance(head.value, Head)
    assert (head.value.height, head.value.primary, head.value.validator, head.value.silent) == (1, host.ids[0], True, "")
    host.ask(5, ReadBlock(1))
    block = host.answers[5]
    assert isinstance(block, Ok) and block.value == host.replicas[host.ids[0]].core.chain.certified(1)
    assert sum(type(event).__name__ == "Decided" for event in host.told) == 4


def test_a_repeated_request_gets_the_recorded_answer_and_costs_no_check() -> None:
    host = Host()
    host.ask(1, Submit(add(1)))
    computed = host.computed
    host.ask(2, Submit(add(1)))
    assert host.answers[2] == host.answers[1] and host.computed == computed


def test_client_signatures_are_verified_once() -> None:
    """Relayed before, they are known when the proposal comes: it has one signature to check, its primary's."""
    host = Host()
    checked: list[int] = []
    verify = VERIFIER.verify_many

    class Counting:
        def verify_many(self, claims: list[object]) -> list[bool]:
            checked.append(sum(claim.signer == "alice" for claim in claims))  # type: ignore[attr-defined]
            return verify(claims)  # type: ignore[arg-type]

    for replica in host.replicas.values():
        replica._votes._verifier = replica._requests._verifier = Counting()  # type: ignore[assignment]
    host.ask(1, Submit(add(1)), node=2)
    assert isinstance(host.answers[1], Ok) and sum(checked) == len(host.ids)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (b"", "bad-encoding"),
        (b"\x81\x01", "bad-encoding"),
        (request(ALICE, GENESIS, 1, "add", 1)[:-1] + b"\0", "bad-signature"),
        (bytes(MAX_REQUEST_BYTES + 1), "too-large"),
    ],
)
def test_a_bad_request_is_refused_to_its_client_by_name(wrong: bytes, name: str) -> None:
    host = Host()
    host.ask(1, Submit(wrong))
    outcome = host.answers[1]
    assert isinstance(outcome, Err) and outcome.error.name == name
    assert host.replicas[host.ids[0]].statistics()["clients"] == 0


def test_a_request_that_can_never_be_ordered_is_refused_to_its_client() -> None:
    host = Host()
    host.ask(1, Submit(add(1)))
    host.ask(2, Submit(request(ALICE, GENESIS, 1, "add", 2)))
    outcome = host.answers[2]
    assert isinstance(outcome, Err) and outcome.error.name == "request-repeated"


def test_a_client_that_gives_up_is_forgotten_and_its_request_goes_on() -> None:
    host = Host()
    replica = host.replicas[host.ids[1]]
    perform = Perform(7, Propose(Submit(add(1))), None, "client")
    host.queue.append((host.ids[1], perform))
    host.queue.append((host.ids[1], Abandon(7, perform.operation, "client")))
    host.run()
    assert 7 not in host.answers and replica.statistics()["clients"] == 0 and replica.core.chain.height == 1


def test_an_unknown_command_is_refused() -> None:
    host = Host()
    host.ask(1, "do something")
    outcome = host.answers[1]
    assert isinstance(outcome, Err) and outcome.error.name == "unknown-command"


# -- bad input from peers ------------------------------------------------------------------------------------------------


def test_bytes_that_are_no_message_are_refused_by_name() -> None:
    host = Host()
    assert host.hear(0, host.ids[1], b"") == "bad-encoding"
    assert host.hear(0, host.ids[1], b"\x81\x18\x63") == "pbft-message-malformed"
    assert host.hear(0, host.ids[1], bytes(MAX_MESSAGE_BYTES + 1)) == "too-large"


def test_votes_that_no_validator_brings_or_signs_are_refused_by_name() -> None:
    host, cores = Host(), Cores()
    vote = signed(Vote("prepare", 0, 0, 1, bytes(32), 2, b""), cores[2])
    assert host.hear(0, STRANGER, vote) == "unknown-validator"
    assert host.hear(0, host.ids[2], replace(vote, index=9)) == "unknown-validator"
    assert host.hear(0, host.ids[2], replace(vote, signature=bytes(64))) == "bad-signature"
    assert host.hear(0, host.ids[2], replace(vote, index=3)) == "bad-signature"
    assert host.hear(0, host.ids[2], replace(vote, epoch=3)) == "wrong-epoch"
    assert host.hear(0, host.ids[2], replace(vote, height=50)) == "too-far-ahead"
    assert host.hear(0, host.ids[2], vote) == ""


def test_a_vote_of_another_domain_does_not_count() -> None:
    """Signatures with the domain of a commit vote, of another mesh, of another protocol."""
    host = Host()
    signer = SimulatedSigner(SECRET, host.ids[2])
    for domain in (
        Domain(GENESIS, "pbft", 0, 0, 1, "commit"),
        Domain(b"\1" * 32, "pbft", 0, 0, 1, "prepare"),
        Domain(GENESIS, "raft", 0, 0, 1, "prepare"),
    ):
        vote = Vote("prepare", 0, 0, 1, bytes(32), 2, signer.sign(domain, bytes(32)))
        assert host.hear(0, host.ids[2], vote) == "bad-signature"


def test_a_proposal_of_another_than_the_primary_is_refused() -> None:
    host, cores = Host(), Cores().start()
    cores.submit(add(1))
    (proposal,) = [send.message for send in cores[0].take() if isinstance(send.message, Proposal)]
    assert isinstance(proposal, Proposal)
    other = Proposal(0, proposal.block, 2, signed(replace(proposal.vote, index=2), cores[2]).signature)
    assert host.hear(1, host.ids[2], other) == "not-primary"
    assert host.hear(1, host.ids[0], replace(proposal, signature=bytes(64))) == "bad-signature"
    assert host.hear(1, host.ids[0], reproposed(proposal, cores[0], state_root=bytes(32))) == "wrong-state-root"


def test_a_proposal_with_a_request_that_is_not_signed_gets_no_vote() -> None:
    host, cores = Host(), Cores().start()
    cores.submit(add(1))
    (proposal,) = [send.message for send in cores[0].take() if isinstance(send.message, Proposal)]
    assert isinstance(proposal, Proposal)
    forged = request(ALICE, GENESIS, 1, "add", 1000)
    forged = forged[:-1] + bytes([forged[-1] ^ 1])
    assert host.hear(1, host.ids[0], reproposed(proposal, cores[0], (forged,))) == "bad-signature"
    assert host.hear(1, host.ids[0], reproposed(proposal, cores[0], (b"\x81\x01",))) == "bad-encoding"


def test_forged_views_and_blocks_are_refused_by_name() -> None:
    host, cores = Host(), Cores().start()
    promises = [change(cores[index], index) for index in range(4)]
    assert host.hear(3, host.ids[1], shown(new_view(0, 1, 1, promises[:2]), cores[1])) == "no-quorum"
    assert host.hear(3, host.ids[1], replace(promises[1], view=2)) == "bad-signature"
    proof = shown(new_view(0, 1, 1, promises[:3]), cores[1])
    assert isinstance(proof, NewView) and host.hear(3, host.ids[1], replace(proof, signature=bytes(64))) == "bad-signature"
    cores.submit(add(1))
    cores.deliver()
    blocks = cores[0].core._catching_up.blocks_from(1)
    (certified,) = blocks.blocks
    certificate = certified.certificate
    for signatures, name in (
        (certificate.signatures[:2], "no-quorum"),
        (((0, bytes(64)), *certificate.signatures[1:]), "bad-signature"),
        ((*certificate.signatures[:2], (9, bytes(64))), "unknown-validator"),
    ):
        forged = replace(certified, certificate=replace(certificate, signatures=signatures))
        assert host.hear(3, host.ids[1], Blocks(1, 1, (forged,))) == name
    assert host.replicas[host.ids[3]].core.chain.height == 0
    assert host.hear(3, host.ids[1], blocks) == "" and host.replicas[host.ids[3]].core.chain.height == 1


def test_a_replayed_vote_costs_no_check() -> None:
    host, cores = Host(), Cores()
    vote = signed(Vote("prepare", 0, 0, 1, bytes(32), 2, b""), cores[2])
    host.hear(0, host.ids[2], vote)
    computed = host.computed
    for _ in range(10):
        host.hear(0, host.ids[2], vote)
    assert host.computed == computed


def test_a_flood_of_one_node_fills_its_share_of_the_pool_and_no_more() -> None:
    pool = Pool()
    with pytest.raises(Refused) as caught:
        for number in range(10_000):
            pool.add(Pending(number.to_bytes(32, "big"), b"x", NodeId("flood"), 0.0))
    assert caught.value.name == "busy" and len(pool) == 2048
    pool.add(Pending(b"\xff" * 32, b"x", NodeId("other"), 0.0))
    pool.remove(pending.hash for pending in pool)
    assert len(pool) == 0
    pool.add(Pending(bytes(32), b"x", NodeId("flood"), 0.0))


def test_a_flood_that_waits_for_its_check_is_bounded() -> None:
    host = Host()
    replica = host.replicas[host.ids[0]]
    peer = Peer(host.ids[1], OrgDid("did:mesh:enterprise:o"))
    body = encode(Relay(tuple(request(ALICE, GENESIS, 1, "add", number) for number in range(50))))
    for _ in range(3_000):  # no check ever ends
        replica.step(0.0, Heard(peer, CAST, body))
    assert replica.refused["busy"] > 0 and replica._requests._bytes <= 64 << 20


def test_who_is_no_validator_may_ask_and_relay() -> None:
    host = Host()
    assert host.hear(0, STRANGER, Status(0, 0, 0)) == ""
    assert host.hear(0, STRANGER, Relay((add(1),))) == ""
    assert host.replicas[host.ids[0]].core.chain.height == 0 or host.replicas[host.ids[1]].core.chain.height == 1


def test_a_clock_that_is_set_is_believed() -> None:
    host = Host()
    for node in host.ids[1:]:
        host.queue.append((node, WallTime(GENESIS_MS + 3_600_000)))
    host.run()
    host.ask(1, Submit(add(1)))
    assert 1 not in host.answers and host.replicas[host.ids[1]].refused["clock-apart"] == 1
    assert any(isinstance(event, Noticed) for event in host.told)


def test_a_mesh_of_one_decides_alone() -> None:
    host = Host(1)
    host.ask(1, Submit(add(1)))
    assert host.answers[1] == Ok(Committed(1, 0, b"1"))


def test_a_client_of_a_node_without_a_vote_hears_soon_that_its_request_can_never_be_ordered_any_more() -> None:
    """As where the node did not know yet that the nonce is used: its client would wait for all of its time."""
    cores = Cores(extra=1).start()
    follower, used = cores[4], request(ALICE, GENESIS, 1, "add", 7)
    follower.submit(used)
    follower.take()
    cores.submit(add(1), cut=[4])
    cores.deliver(cut=[4])
    follower.hear(cores[0].name, cores[0].core._catching_up.blocks_from(1))
    assert follower.core.chain.height == 1 and request_hash(used) in follower.core.desk.pool
    follower.wait(0.4)
    assert [dropped.request_hash for dropped in follower.dropped] == [request_hash(used)]


@pytest.mark.parametrize("known", [1, 2])
def test_an_answer_that_crosses_with_what_is_decided_here_is_an_answer(known: int) -> None:
    host, cores = Host(), Cores().start()
    fill(cores, 2)
    blocks, replica = cores[0].core._catching_up.blocks_from(1), host.replicas[host.ids[3]]
    asked = NodeId("n050")  # who answers when it is told to
    host.hear(3, asked, Status(0, 0, 2))
    host.now += 0.1
    host.queue.append((host.ids[3], Tick()))
    host.run()
    assert replica.core._catching_up._fetching.asked == asked
    host.hear(3, host.ids[1], replace(blocks, blocks=blocks.blocks[:known]))
    host.hear(3, asked, blocks)
    fetching = replica.core._catching_up._fetching
    assert replica.core.chain.height == 2 and fetching.asked is None
    assert fetching._peers[asked].not_before == 0.0, "it is not left for another"
