"""``/meshos/headers/1``: who decides, and what they decided last: all that a light client follows.

    request  {"epoch": e}    what comes after epoch e (default 0: after genesis)
    answer   {"steps": [[header, certificate, validators], …], "more": bool, "head": null or [header, certificate]}

``steps`` are the changes of the validator set after epoch e, oldest first, a page of them; with ``more`` the next page begins after the
last one's epoch. ``head`` comes with the last page: the newest header. Whoever has genesis checks all of it (``light_client.follow``,
``light_client.check``) and needs to believe nobody.
"""

from dataclasses import dataclass

from meshos.cbor import Value
from meshos.consensus.ledger import light_client
from meshos.consensus.ledger.light_client import Signed, Trusted
from meshos.consensus.pbft.block import certificate_fields, header_fields
from meshos.consensus.pbft.codec import step_fields, step_of
from meshos.consensus.pbft.messages import EpochStep
from meshos.crypto.signing import Verifier
from meshos.errors import Refused
from meshos.protocols.square import limits, wire
from meshos.protocols.square.answering import Asker, Protocol
from meshos.protocols.square.describe import read_head
from meshos.protocols.square.knowledge import Known, knows_epoch, steps_after

NAME = "/meshos/headers/1"
COST = 3

MAX_EPOCH = 1 << 40


@dataclass(frozen=True, slots=True)
class Page:
    """See the module's text; nothing of it is proven yet."""

    steps: tuple[EpochStep, ...]
    more: bool
    head: Signed | None


def protocol(known: Known) -> Protocol:
    """The protocol, for a node that knows ``known``."""

    async def answer(fields: wire.Fields, asker: Asker) -> object:
        wire.known_only(fields, "epoch")
        epoch = wire.number(fields, "epoch", MAX_EPOCH)
        if not knows_epoch(known.store, epoch):
            raise old_epoch(epoch)
        steps, all_of_them = steps_after(known.store, epoch, limits.STEPS_A_PAGE, limits.STEPS_A_PAGE_BYTES)
        head = known.head() if all_of_them else None
        return {
            "steps": [step_fields(step) for step in steps],
            "more": not all_of_them,
            "head": None if head is None else [header_fields(head.header), certificate_fields(head.certificate)],
        }

    return Protocol(NAME, COST, answer)


def old_epoch(epoch: int) -> Refused:
    """The refusal of who asks from an epoch on that this node does not remember."""
    return Refused("square-old-epoch", f"this node does not hold what came right after epoch {epoch}", hint="ask an older node of the mesh")


# -- for who asks ------------------------------------------------------------------------------------------------------


def request(epoch: int) -> bytes:
    """For what comes after this epoch."""
    return wire.encode_request({"epoch": epoch})


def read_page(value: Value) -> Page:
    """The page that an answer holds; raises Refused ``square-bad-answer``, or as the readers of its parts do."""
    match value:
        case {"steps": [*rows], "more": bool() as more, "head": head} if len(rows) <= limits.STEPS_A_PAGE and (rows or not more):
            return Page(tuple(map(_step, rows)), more, None if head is None else read_head(head))
    raise wire.bad_answer("this is no page of headers")


def follow(trusted: Trusted, page: Page, verifier: Verifier) -> tuple[Trusted, Signed | None]:
    """What is known for certain after ``page``, and its head where it has one, checked. Raises as ``light_client.follow`` and ``check``."""
    after = light_client.follow(trusted, page.steps, verifier)
    head = page.head
    if head is None:
        return after, None
    if after.header is not None and after.certificate is not None and head.header == after.header:
        return after, Signed(after.header, after.certificate)  # which was checked as the end of its epoch; that of ``page`` was not
    light_client.check(after, head, verifier)
    return after, head


def _step(row: Value) -> EpochStep:
    try:
        if isinstance(row, list):
            return step_of(row)
    except ValueError as error:
        raise wire.bad_answer("a change of the validator set in it cannot be read") from error
    raise wire.bad_answer("a change of the validator set in it cannot be read")
