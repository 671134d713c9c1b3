"""What tests are made of: blocks, certificates, validator sets, requests, what a liar can sign; and Hypothesis strategies."""

from dataclasses import replace

import pytest
from hypothesis import strategies as st

from meshos.consensus.pbft.block import Block, Certificate, Header, commit_domain, request_hash, requests_root
from meshos.consensus.pbft.claims import vote_domain
from meshos.consensus.pbft.messages import Checkpoint, Message, Proposal, Vote
from meshos.consensus.pbft.validators import ValidatorEntry, ValidatorSet, encode_validators
from meshos.crypto.simulated import SimulatedSigner, SimulatedWorld
from meshos.errors import Refused
from meshos.ids import NodeId, OrgDid
from meshos.simulations.pbft.cores import GENESIS, SECRET, Cores, Node
from meshos.simulations.pbft.toy import request

WORLD = SimulatedWorld(1)
HASH = st.binary(min_size=32, max_size=32)
NUMBER = st.integers(0, 2**53)
headers = st.builds(Header, st.integers(1, 2**53), NUMBER, NUMBER, HASH, HASH, HASH, HASH)
certificates = st.builds(
    lambda view, rows: Certificate(view, tuple(sorted(rows.items()))),
    NUMBER,
    st.dictionaries(st.integers(0, 99), st.binary(min_size=64, max_size=64), max_size=8),
)


def block_of(requests: tuple[bytes, ...], **fields: object) -> Block:
    header = Header(1, 0, 5, GENESIS, bytes(32), requests_root([request_hash(request) for request in requests]), bytes(32))
    return Block(replace(header, **fields), requests)  # type: ignore[arg-type]


blocks = st.lists(st.binary(max_size=60), max_size=9, unique=True).map(lambda requests: block_of(tuple(requests)))


def seats(n: int, suspended: tuple[int, ...] = (), epoch: int = 0) -> ValidatorSet:
    return ValidatorSet(
        epoch, tuple(ValidatorEntry(OrgDid(f"did:mesh:enterprise:o{i:03d}"), NodeId(f"n{i}"), f"k{i}", i in suspended) for i in range(n))
    )


def refused(call: object, *arguments: object) -> str:
    with pytest.raises(Refused) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.name


def certificate_by(signers: range | tuple[int, ...], header: Header, view: int = 3) -> Certificate:
    domain = commit_domain(GENESIS, header.epoch, view, header.height)
    return Certificate(view, tuple((i, SimulatedSigner(WORLD, f"k{i}").sign(domain, header.hash)) for i in signers))


ALICE = SimulatedSigner(SECRET, "alice")


def add(nonce: int) -> bytes:
    return request(ALICE, GENESIS, nonce, "add", 1)


def signed(vote: Vote, node: Node) -> Vote:
    return replace(vote, signature=SimulatedSigner(SECRET, node.name).sign(vote_domain(GENESIS, vote), vote.hash))


def proposal_of(cores: Cores, view: int = 0) -> Proposal:
    """What the primary of the first view proposes, taken before it leaves."""
    (said,) = [send.message for send in cores[view % 4].take() if isinstance(send.message, Proposal)]
    assert isinstance(said, Proposal)
    return said


def reproposed(proposal: Proposal, primary: Node, requests: tuple[bytes, ...] | None = None, **fields: object) -> Proposal:
    """The same with another header, signed by the primary: what a liar can do."""
    requests = proposal.block.requests if requests is None else requests
    root = requests_root([request_hash(each) for each in requests])
    block = Block(replace(proposal.block.header, requests_root=root, **fields), requests)  # type: ignore[arg-type]
    vote = Proposal(proposal.view, block, proposal.index, b"").vote
    return Proposal(proposal.view, block, proposal.index, signed(vote, primary).signature)


OPERATOR = SimulatedSigner(SECRET, "operator")


def new_seats(nonce: int, validators: ValidatorSet) -> bytes:
    return request(OPERATOR, GENESIS, nonce, "seats", encode_validators(validators))


def fill(cores: Cores, until: int, cut: tuple[int, ...] = ()) -> None:
    """Work until somebody is at a height."""
    for more in range(until):
        if max(cores.heights()) >= until:
            break
        client = SimulatedSigner(SECRET, f"client {more} until {until}")
        cores.submit(request(client, GENESIS, 1, "add", 1), cut=cut)
        cores.deliver(cut=cut)
    assert max(cores.heights()) == until


def prepared_at(cores: Cores, *holders: int) -> Block:
    """The first block is prepared at ``holders``, and decided nowhere."""
    cores.submit(add(1))
    (send,) = [send for send in cores[0].take() if isinstance(send.message, Proposal)]
    proposal = send.message
    assert isinstance(proposal, Proposal)
    votes = [signed(Vote("prepare", 0, 0, 1, proposal.block.hash, index, b""), cores[index]) for index in (1, 2)]
    for holder in holders:
        if holder:
            cores[holder].hear(cores[0].name, proposal)
        for vote in votes:
            if vote.index != holder:
                cores[holder].hear(cores[vote.index].name, vote)
    for node in cores.nodes.values():
        node.take()
    return proposal.block


def said(node: Node, kind: type) -> list[Message]:
    """What it has said of this kind since the last time."""
    return [send.message for send in node.take() if isinstance(send.message, kind)]


def behind(cores: Cores) -> tuple[Node, Checkpoint]:
    """A validator at 12 while the others are at 27 and keep two blocks; and the stable checkpoint that it has itself."""
    fill(cores, 12)
    node = cores[3]
    own = node.core._checkpointing.stable
    assert own is not None and own.header.height == 12
    fill(cores, 27, cut=(3,))
    return node, own
