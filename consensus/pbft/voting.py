"""The votes of one height, and what follows from them.

Of each validator one vote counts for each (view, phase): the first. Another one for another hash is evidence that it lies. With q prepare
votes for one hash in a view nothing else can be prepared in it; with q commit votes the block is decided (Castro & Liskov
1999, section 4.2).
"""

from meshos.consensus.pbft.block import Block, Certificate
from meshos.consensus.pbft.limits import MAX_PROPOSALS
from meshos.consensus.pbft.messages import Evidence, Phase, Proposal, Vote
from meshos.consensus.pbft.validators import ValidatorSet


class Slot:
    """One height on its way to a decision."""

    def __init__(self, height: int, validators: ValidatorSet) -> None:
        self.height = height
        self.validators = validators
        self.proposals: dict[int, Proposal] = {}  # by view
        self.bodies: dict[bytes, Block] = {}  # by hash: what was proposed, or asked for
        self._votes: dict[tuple[Phase, int], dict[int, Vote]] = {}

    def vote_of(self, phase: Phase, view: int, index: int) -> Vote | None:
        """The vote that counts."""
        return self._votes.get((phase, view), {}).get(index)

    def add_vote(self, vote: Vote) -> Evidence | None:
        """Count ``vote``, or say that its sender has voted otherwise."""
        votes = self._votes.setdefault((vote.phase, vote.view), {})
        known = votes.setdefault(vote.index, vote)
        return contradiction(known, vote)

    def add_proposal(self, proposal: Proposal) -> None:
        """Keep what the primary of a view proposes: the first, a few views at most."""
        if proposal.view in self.proposals:
            return
        if len(self.proposals) >= MAX_PROPOSALS:
            del self.proposals[min(self.proposals)]
        self.proposals[proposal.view] = proposal
        self.add_body(proposal.block)

    def add_body(self, block: Block) -> None:
        """Keep a block that is voted for; the oldest go first."""
        self.bodies[block.hash] = block
        while len(self.bodies) > MAX_PROPOSALS:
            del self.bodies[next(iter(self.bodies))]

    def quorum(self, phase: Phase, view: int) -> bytes | None:
        """The hash that q validators have voted for in ``view``."""
        votes = self._votes.get((phase, view), {})
        q = self.validators.q
        if len(votes) < q:
            return None
        hashes = [vote.hash for vote in votes.values()]
        return next((candidate for candidate in set(hashes) if hashes.count(candidate) >= q), None)

    def views(self, phase: Phase) -> list[int]:
        """The views in which there are votes of ``phase``, in order."""
        return sorted(view for of, view in self._votes if of == phase)

    def certificate(self, phase: Phase, view: int, block: bytes) -> Certificate:
        """The first q votes for ``block``, by index."""
        votes = self._votes.get((phase, view), {})
        signatures = [(index, vote.signature) for index, vote in sorted(votes.items()) if vote.hash == block]
        return Certificate(view, tuple(signatures[: self.validators.q]))

    def decided(self) -> tuple[int, bytes] | None:
        """(view, hash) of a block that q validators have committed."""
        for view in self.views("commit"):
            block = self.quorum("commit", view)
            if block is not None:
                return view, block
        return None

    def voters(self, block: bytes) -> list[int]:
        """Who has voted for ``block`` in whatever way: whom to ask for it."""
        return sorted({vote.index for votes in self._votes.values() for vote in votes.values() if vote.hash == block})


def contradiction(one: Vote, other: Vote) -> Evidence | None:
    """The evidence that two votes of one domain are, if they are for different hashes; in the order of the hashes, so that it is one."""
    if one.hash == other.hash:
        return None
    return Evidence(one, other) if one.hash < other.hash else Evidence(other, one)
