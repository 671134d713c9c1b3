"""``/meshos/proof/1``: what the ledger says of one key, with its proof.

    request  {"key": bytes, "epoch": e}    e: the epoch whose validators the asker knows (default 0, those of genesis)
    answer   {"bundle": bytes}             as in ``consensus/ledger/light_client.py``, with the changes of the validator set after e

Who is further behind than STEPS_A_BUNDLE changes is refused as ``square-answer-too-large``, and follows headers first.

The value is not believed because this node says so: a bundle is checked against genesis (``light_client.verify``), or against the
validators that the asker has followed already (``light_client.prove_to``).
"""

from meshos.cbor import Value
from meshos.consensus.ledger import bundles, tree
from meshos.consensus.ledger.light_client import Bundle, decode_bundle, encode_bundle
from meshos.consensus.ledger.tree_limits import MAX_KEY_BYTES
from meshos.protocols.square import limits, wire
from meshos.protocols.square.answering import Asker, Protocol
from meshos.protocols.square.headers import MAX_EPOCH, old_epoch
from meshos.protocols.square.knowledge import Known, knows_epoch, steps_after

NAME = "/meshos/proof/1"
COST = 4


def protocol(known: Known) -> Protocol:
    """The protocol, for a node that knows ``known``."""

    async def answer(fields: wire.Fields, asker: Asker) -> object:
        wire.known_only(fields, "key", "epoch")
        key = fields.get("key")
        if not isinstance(key, bytes) or not 1 <= len(key) <= MAX_KEY_BYTES:
            raise wire.bad_request(f"key is not 1 to {MAX_KEY_BYTES} bytes")
        return {"bundle": bundle_after(known, key, wire.number(fields, "epoch", MAX_EPOCH))}

    return Protocol(NAME, COST, answer)


def bundle_after(known: Known, key: bytes, epoch: int) -> bytes:
    """A bundle for ``key`` without the changes of the validator set up to ``epoch``.

    Raises Refused ``proof-not-yet``, ``state-incomplete``, ``square-old-epoch`` or ``square-answer-too-large``.
    """
    if not knows_epoch(known.store, epoch):
        raise old_epoch(epoch)
    head = known.head()
    if head is None:
        raise tree.not_yet()
    steps, all_of_them = steps_after(known.store, epoch, limits.STEPS_A_BUNDLE, limits.STEPS_A_PAGE_BYTES)
    if not all_of_them:
        raise wire.answer_too_large(f"the validators have changed more than {len(steps)} times since epoch {epoch}")
    return encode_bundle(bundles.bundle_at(known.store, known.genesis.hash, key, head, steps))


# -- for who asks ------------------------------------------------------------------------------------------------------


def request(key: bytes, epoch: int = 0) -> bytes:
    """For what the ledger says of ``key``, to who knows the validators of ``epoch``."""
    return wire.encode_request({"key": key, "epoch": epoch})


def read_bundle(value: Value, key: bytes) -> Bundle:
    """The bundle that an answer holds, unproven; raises Refused ``square-bad-answer``, or as ``decode_bundle``."""
    match value:
        case {"bundle": bytes() as data}:
            bundle = decode_bundle(data)
            if bundle.key == key:
                return bundle
            raise wire.bad_answer("its proof is about another key than the one asked for")
    raise wire.bad_answer("it holds no proof")
