"""What a node gives to light clients: a bundle (``light_client.py``) for any key, from what it holds.

The newest header is that of the newest block, and proves the state before it (``tree.prove_at``). Right after a start, or where the newest
block was taken with a checkpoint's state, that state is not known here: then a bundle waits for the next block, as ``proof-not-yet``.
"""

from collections.abc import Sequence

from meshos.consensus.ledger import tree
from meshos.consensus.ledger.light_client import Bundle, Signed
from meshos.consensus.pbft.block import decode_certified
from meshos.consensus.pbft.codec import step_of
from meshos.consensus.pbft.messages import EpochStep
from meshos.consensus.pbft.records import EPOCHS, HEAD, block_key, height_of, read
from meshos.storage.store import View


def bundle(view: View, genesis_hash: bytes, key: bytes) -> Bundle:
    """What proves the value of ``key`` in the newest state that a quorum signed; ``view`` is that of the agreement's machine.

    Raises Refused ``proof-not-yet`` or ``state-incomplete``, Failed ``state-corrupt``.
    """
    head = view.get(HEAD)
    stored = None if head is None else view.get(block_key(height_of(head)))
    if stored is None:
        raise tree.not_yet()
    certified = decode_certified(stored)
    steps = [step_of(read(record)) for _, record in view.scan(EPOCHS)]
    return bundle_at(view, genesis_hash, key, Signed(certified.block.header, certified.certificate), steps)


def bundle_at(view: View, genesis_hash: bytes, key: bytes, head: Signed, steps: Sequence[EpochStep]) -> Bundle:
    """The same where the newest header is at hand, and the ``steps`` that lead to it from what somebody knows; raises as ``bundle``."""
    value, proof = tree.prove_at(view, key, head.header.state_root)
    past = tuple(step for step in steps if step.validators.epoch <= head.header.epoch)
    return Bundle(genesis_hash, past, head, key, value, proof)
