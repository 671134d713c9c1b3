"""The state at height 0: what genesis says, as entries."""

from collections.abc import Iterator

from meshos.consensus.ledger import parameters, people
from meshos.consensus.ledger.accounts import ACCOUNTS, TOTALS, Account, Totals
from meshos.consensus.ledger.draft import Draft
from meshos.consensus.ledger.keys import HUMAN, NODE, ROOT, VALIDATOR, Key, register
from meshos.consensus.ledger.limits import MAX_COORDINATORS
from meshos.consensus.ledger.members import CERTIFICATES, COORDINATORS, ORGS, Org
from meshos.consensus.ledger.parameters import PARAMETERS
from meshos.consensus.ledger.people import CONSTITUTION
from meshos.consensus.ledger.seats import SEATS, Seats
from meshos.consensus.pbft.limits import MAX_VALIDATORS
from meshos.consensus.pbft.validators import ValidatorEntry, ValidatorSet
from meshos.errors import BadInput
from meshos.genesis_content import Genesis
from meshos.genesis_content import Org as Founder


class _Nothing:
    def get(self, key: bytes) -> bytes | None:
        return None

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(())


NOTHING = _Nothing()
"""The View of an empty store."""


def initial(genesis: Genesis) -> dict[bytes, bytes]:
    """Every entry of the state at height 0. ``genesis`` passed ``genesis.check``.

    Raises BadInput ``genesis-malformed`` for more validators or meta-coordinators than there may be, and Refused ``key-in-use`` where
    a key stands twice.
    """
    if len(genesis.validators) > MAX_VALIDATORS or len(genesis.meta_coordinators) > MAX_COORDINATORS:
        raise BadInput("genesis-malformed", f"at most {MAX_VALIDATORS} validators and {MAX_COORDINATORS} meta-coordinators")
    draft = Draft(NOTHING, 0, genesis.time_ms)
    for founder in genesis.orgs:
        _found(draft, founder, genesis.time_ms)
    allocated = sum(founder.allocation for founder in genesis.orgs)
    draft.write(TOTALS, b"", Totals(genesis.supply, allocated, 0, genesis.supply - allocated))
    draft.write(SEATS, b"", Seats(validators(genesis).entries))
    draft.write(COORDINATORS, b"", genesis.meta_coordinators)
    draft.write(PARAMETERS, b"", parameters.from_genesis(genesis))
    draft.write(CONSTITUTION, b"", people.from_genesis(genesis))
    return {key: value for key, value in draft.changes().items() if value is not None}


def validators(genesis: Genesis) -> ValidatorSet:
    """Who votes in epoch 0."""
    seated = [(org.did, org.validator) for org in genesis.orgs if org.validator is not None]
    return ValidatorSet(0, tuple(ValidatorEntry(did, validator.node, validator.key) for did, validator in seated))


def _found(draft: Draft, founder: Founder, time_ms: int) -> None:
    register(draft, founder.root_key, Key(ROOT, founder.did))
    nodes: tuple[str, ...] = ()
    if founder.validator is not None:
        nodes = (founder.validator.node,)
        register(draft, founder.validator.node, Key(NODE, founder.did, 0, founder.validator.key))
        register(draft, founder.validator.key, Key(VALIDATOR, founder.did, 0, founder.validator.node))
    for human in founder.human_keys:
        register(draft, human.key, Key(HUMAN, founder.did, 0, human.name))
    humans = tuple(sorted(human.key for human in founder.human_keys))
    draft.write(ORGS, founder.did, Org(founder.root_key, time_ms, 0, nodes, humans))
    draft.write(CERTIFICATES, founder.did, founder.root_certificate)
    draft.write(ACCOUNTS, founder.did, Account(founder.allocation))
