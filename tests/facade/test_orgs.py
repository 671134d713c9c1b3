"""What a node says of an organisation: what the ledger holds of it, and who votes until the next checkpoint."""

from types import SimpleNamespace
from typing import Any

import pytest

from meshos.consensus.ledger.keys import HUMAN, KEYS, Key
from meshos.consensus.ledger.members import ORGS, Org
from meshos.consensus.ledger.seats import SEATS, Seats
from meshos.consensus.pbft.validators import ValidatorEntry, ValidatorSet
from meshos.errors import BadInput, Refused
from meshos.ids import NodeId, OrgDid
from meshos.node.facade.ledger import Books, LedgerDesk

ALPHA, BETA = OrgDid("did:mesh:enterprise:alpha"), OrgDid("did:mesh:enterprise:beta")
FIRST, SECOND = NodeId("first"), NodeId("second")


def entry(node: NodeId) -> ValidatorEntry:
    return ValidatorEntry(ALPHA, node, f"key of {node}", False)


def desk(rows: dict[bytes, bytes], *, restoring: bool = False) -> LedgerDesk:
    """alpha has moved its seat from its first to its second node, which is not in force yet."""
    view: Any = SimpleNamespace(get=rows.get, restoring=restoring, height=70, time_ms=5)
    store: Any = SimpleNamespace()
    replica: Any = SimpleNamespace(core=SimpleNamespace(chain=SimpleNamespace(validators=ValidatorSet(0, (entry(FIRST),)))))
    names = {FIRST: "alpha-1"}
    return LedgerDesk(SimpleNamespace(), Books(replica, view, store), bytes(32), FIRST, names.get)  # type: ignore[arg-type]


def books() -> dict[bytes, bytes]:
    org = Org("root", 1, nodes=(FIRST, SECOND), humans=("person",), tabs=3, moves=1)
    return {
        ORGS.key(ALPHA): ORGS.encode(org),
        KEYS.key("person"): KEYS.encode(Key(HUMAN, ALPHA, 0, "Ada")),
        SEATS.key(b""): SEATS.encode(Seats((entry(SECOND),))),
    }


async def test_a_seat_that_was_moved_is_told_beside_who_votes_until_then() -> None:
    found = await desk(books()).org(ALPHA)
    assert found["seat"] == {"node_id": SECOND, "validator": f"key of {SECOND}"} and found["votes"] == FIRST
    assert found["nodes"] == [{"node_id": FIRST, "name": "alpha-1"}, {"node_id": SECOND, "name": None}]
    assert found["people"] == [{"key": "person", "name": "Ada"}]
    assert (found["root"], found["moves"], found["tabs"], found["height"]) == ("root", 1, 3, 70)


async def test_who_has_no_seat_and_who_is_unknown() -> None:
    rows = books() | {SEATS.key(b""): SEATS.encode(Seats(()))}
    assert (await desk(rows).org(ALPHA))["seat"] is None
    with pytest.raises(Refused, match="no-such-org"):
        await desk(rows).org(BETA)
    with pytest.raises(BadInput, match="bad-did"):
        await desk(rows).org("beta")
    with pytest.raises(Refused, match="state-incomplete"):
        await desk(rows, restoring=True).org(ALPHA)
