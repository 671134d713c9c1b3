"""Which signatures must hold before a message is believed.

What can be refused without looking at a signature is refused here, by name: another epoch, a seat that does not exist or is suspended, a
proposal of somebody who is not the primary, too few votes. The claims that remain are checked together, off the event loop.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from meshos.consensus.pbft.block import PROTOCOL, Certificate, Certified, Header, certificate_claims, seat, vote_claims
from meshos.consensus.pbft.checkpoint import checkpoint_digest
from meshos.consensus.pbft.messages import (
    Checkpoint,
    Checkpoints,
    EpochStep,
    Evidence,
    Message,
    NewView,
    Proposal,
    Seen,
    Signatures,
    ViewChange,
    Vote,
)
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.consensus.pbft.view_change import change_domain, change_payload, check_form, new_view_domain, new_view_payload
from meshos.crypto.signing import Claim, Domain
from meshos.errors import Refused

Sets: TypeAlias = Callable[[int], ValidatorSet | None]
"""The validators of an epoch, where they are known."""


def vote_domain(genesis_hash: bytes, vote: Vote) -> Domain:
    """What a vote's signature is for."""
    return Domain(genesis_hash, PROTOCOL, vote.epoch, vote.view, vote.height, vote.phase)


def claims(message: Message, genesis_hash: bytes, sets: Sets) -> list[Claim]:
    """What must be verified of ``message``; blocks have ``blocks_claims``, and requests their application.

    Raises Refused ``wrong-epoch``, ``unknown-validator``, ``validator-suspended``, ``not-primary``, ``no-quorum``, ``forged-new-view`` or
    ``no-evidence``.
    """
    match message:
        case Vote():
            return [_vote(message, genesis_hash, sets)]
        case Proposal():
            return _proposal(message, genesis_hash, sets)
        case ViewChange():
            return _change(message, genesis_hash, sets)
        case NewView():
            return _new_view(message, genesis_hash, sets)
        case Evidence():
            check_evidence(message)
            return [_vote(message.one, genesis_hash, sets), _vote(message.other, genesis_hash, sets)]
        case Seen(_, vote, change):
            votes = [] if vote is None else [_vote(vote, genesis_hash, sets)]
            return votes + ([] if change is None else [_own_change(change, genesis_hash, sets)])
        case Checkpoints():
            return _checkpoints(message, genesis_hash, sets)
    return []


def check_evidence(evidence: Evidence) -> None:
    """Raise Refused ``no-evidence`` unless the two votes exclude each other."""
    one, other = evidence.one, evidence.other
    same = (one.phase, one.epoch, one.view, one.height, one.index) == (other.phase, other.epoch, other.view, other.height, other.index)
    if not same or one.hash >= other.hash or one.phase == "checkpoint":
        raise Refused("no-evidence", "these two votes do not contradict each other")


def blocks_claims(blocks: Sequence[Certified], genesis_hash: bytes, validators: ValidatorSet) -> tuple[int, list[Claim]]:
    """How many of ``blocks`` are of the epoch of ``validators``, and what must be verified of these; raises as ``certificate_claims``."""
    found: list[Claim] = []
    for number, certified in enumerate(blocks):
        if number and certified.block.header.epoch != validators.epoch:
            return number, found
        found += certificate_claims(genesis_hash, certified.block.header, certified.certificate, validators)
    return len(blocks), found


def _set(epoch: int, sets: Sets) -> ValidatorSet:
    validators = sets(epoch)
    if validators is None:
        raise Refused("wrong-epoch", f"epoch {epoch} is not the one that decides now")
    return validators


def _vote(vote: Vote, genesis_hash: bytes, sets: Sets) -> Claim:
    entry = seat(_set(vote.epoch, sets), vote.index)
    return Claim(entry.key, vote_domain(genesis_hash, vote), vote.hash, vote.signature)


def _proposal(message: Proposal, genesis_hash: bytes, sets: Sets) -> list[Claim]:
    vote = message.vote
    if message.index != _set(vote.epoch, sets).primary(message.view):
        raise Refused("not-primary", f"validator {message.index} is not the primary of view {message.view}")
    return [_vote(vote, genesis_hash, sets)]


def _own_change(change: ViewChange, genesis_hash: bytes, sets: Sets) -> Claim:
    entry = seat(_set(change.epoch, sets), change.index)
    return Claim(entry.key, change_domain(genesis_hash, change), change_payload(change), change.signature)


def _change(change: ViewChange, genesis_hash: bytes, sets: Sets) -> list[Claim]:
    found = [_own_change(change, genesis_hash, sets)]
    if change.prepared is not None:
        view, block = change.prepared
        found += _prepared(genesis_hash, _set(change.epoch, sets), view, change.height + 1, block, change.proof)
    return found


def _prepared(genesis_hash: bytes, validators: ValidatorSet, view: int, height: int, block: bytes, proof: Signatures) -> list[Claim]:
    domain = Domain(genesis_hash, PROTOCOL, validators.epoch, view, height, "prepare")
    return vote_claims(domain, block, Certificate(view, proof), validators)


def _new_view(message: NewView, genesis_hash: bytes, sets: Sets) -> list[Claim]:
    validators = _set(message.epoch, sets)
    choice = check_form(message, validators)
    key = seat(validators, message.index).key
    found = [Claim(key, new_view_domain(genesis_hash, message), new_view_payload(message), message.signature)]
    found += [_own_change(change, genesis_hash, sets) for change in message.changes]
    if choice.hash is not None:
        found += _prepared(genesis_hash, validators, choice.view, choice.height, choice.hash, message.proof)
    return found


def _checkpoints(message: Checkpoints, genesis_hash: bytes, sets: Sets) -> list[Claim]:
    """Each epoch is proven by the one before, from one that is known on."""
    found: list[Claim] = []
    known: dict[int, ValidatorSet] = {}
    for step in message.steps:
        validators = known.get(step.header.epoch) or _set(step.header.epoch, sets)
        found += _step(step, genesis_hash, validators)
        known[step.validators.epoch] = step.validators
    if message.checkpoint is not None:
        epoch = message.checkpoint.header.epoch
        found += checkpoint_claims(message.checkpoint, genesis_hash, known.get(epoch) or _set(epoch, sets))
    return found


def _step(step: EpochStep, genesis_hash: bytes, validators: ValidatorSet) -> list[Claim]:
    following = step.validators
    if following.epoch != validators.epoch + 1 or step.header.next_validators != following.hash:
        raise Refused("wrong-epoch", "these are not the validators that the header names")
    return certificate_claims(genesis_hash, step.header, step.certificate, validators)


def checkpoint_claims(checkpoint: Checkpoint, genesis_hash: bytes, validators: ValidatorSet) -> list[Claim]:
    """What must be verified before a state is taken for the mesh's."""
    header: Header = checkpoint.header
    domain = Domain(genesis_hash, PROTOCOL, header.epoch, 0, header.height, "checkpoint")
    digest = checkpoint_digest(header, checkpoint.root, checkpoint.pending)
    votes = vote_claims(domain, digest, Certificate(0, checkpoint.signatures), validators)
    return votes + certificate_claims(genesis_hash, header, checkpoint.certificate, validators)
