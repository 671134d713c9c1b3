"""What a node says of decisions and does about them, on the ledger's own rules."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from meshos.consensus.ledger.approvals import APPROVE, REJECT, Judge
from meshos.consensus.ledger.members import ORGS
from meshos.consensus.ledger.orgs import AddNode
from meshos.consensus.ledger.people import Pause
from meshos.errors import BadInput, Refused, Unreachable
from tests.facade.chain import Chain
from tests.ledger.books import Books, did, genesis

DELTA = ["quarantine", did("delta")]


@pytest.fixture
def chain() -> Chain:
    return Chain(Books())


async def propose(chain: Chain, by: str = "alpha-1", action: list[object] | None = None, key: str = "k") -> Mapping[str, object]:
    return await chain.desk(by).propose(action or DELTA, "it answers wrongly", key, 1.0)


async def test_a_decision_is_shown_with_who_approved_it_and_why_until_it_is_executed(chain: Chain) -> None:
    made = await propose(chain)
    assert (made["state"], made["approvals"], made["needed"], made["risk"]) == ("open", 1, 3, 90)
    assert made["action"] == {"quarantine": did("delta")} and made["reason"] == "it answers wrongly"
    id_ = str(made["id"])
    assert chain.desk("beta-1").waiting() == 1
    await chain.desk("beta-1").judge(id_[:8], APPROVE, "I looked", "k", 1.0)
    done = await chain.desk("gamma-1").judge(id_[:8], APPROVE, "me too", "k", 1.0)
    assert (done["state"], done["approvals"], done["expires_ms"]) == ("executed", 3, None)
    trail = cast("list[Mapping[str, object]]", done["trail"])
    assert [row["what"] for row in trail] == ["proposed", "approve", "approve", "executed"]
    assert [row["why"] for row in trail] == ["it answers wrongly", "I looked", "me too", None]
    listed = await chain.desk("delta-1").approvals(open_only=False)
    assert [(row["id"], row["reason"]) for row in cast(Any, listed["approvals"])] == [(id_, "it answers wrongly")]
    assert (await chain.desk("delta-1").approvals(open_only=True))["approvals"] == [] and chain.desk("beta-1").waiting() == 0


async def test_who_was_put_into_quarantine_by_a_decision_has_approved_it_all_the_same(chain: Chain) -> None:
    id_ = str((await propose(chain))["id"])
    await chain.desk("beta-1").judge(id_, APPROVE, "I looked", "k", 1.0)
    done = await chain.desk("delta-1").judge(id_, APPROVE, "it is true", "k", 1.0)
    assert (done["state"], done["approvals"], len(cast(Any, done["approvedBy"]))) == ("executed", 3, 3)


async def test_what_the_ledger_would_refuse_is_refused_before_it_is_sent_with_advice(chain: Chain) -> None:
    made = await propose(chain)
    chain.sent.clear()
    with pytest.raises(Refused) as caught:
        await chain.desk("alpha-1").judge(str(made["id"]), APPROVE, "again", "k", 1.0)
    assert caught.value.name == "already-voted" and caught.value.hint == "leave it: the first vote stands"
    with pytest.raises(Refused) as caught:
        await chain.desk("alpha-1").propose(["lift", did("delta")], "let it in", "k", 1.0)
    assert caught.value.name == "not-quarantined"
    with pytest.raises(Refused) as caught:
        await chain.desk("alpha-1").propose(["parameters", {"dispute-ms": 1}], "faster", "k", 1.0)
    assert caught.value.name == "parameter-out-of-bounds"
    assert chain.sent == {}
    assert (await chain.desk("beta-1").approval(str(made["id"])))["approvals"] == 1, "trying changes nothing"


async def test_what_was_done_is_told_again_to_whoever_did_not_hear_it(chain: Chain) -> None:
    made = await propose(chain)
    assert await propose(chain) == made
    id_ = str(made["id"])
    await chain.desk("beta-1").judge(id_, APPROVE, "I looked", "k", 1.0)
    done = await chain.desk("gamma-1").judge(id_, APPROVE, "me too", "k", 1.0)
    assert await chain.desk("gamma-1").judge(id_, APPROVE, "me too", "k", 1.0) == done, "not already-voted, nor decision-ended"
    assert (await propose(chain))["txId"] == made["txId"], "not already-quarantined"


async def test_a_node_without_a_voice_is_told_which_has_it() -> None:
    chain = Chain(Books())
    agrees = chain.books.agrees("alpha-2", did("alpha"), "node"), chain.books.agrees("alpha-2-votes", did("alpha"), "validator")
    chain.books.do("alpha-root", AddNode(did("alpha"), "alpha-2", "alpha-2-votes", *agrees))
    with pytest.raises(Refused) as caught:
        await propose(chain, by="alpha-2")
    assert (caught.value.name, caught.value.hint) == ("no-voice", "ask the node that does: alpha-1")


async def test_ids_are_found_by_how_they_begin(chain: Chain) -> None:
    id_ = str((await propose(chain))["id"])
    desk = chain.desk("beta-1")
    for digits in (4, 5, 8, 63, 64):
        assert (await desk.approval(id_[:digits]))["id"] == id_
    for text in ("abc", "xyzw", id_ + "0", id_.upper()[:7] + "A"):
        with pytest.raises(BadInput):
            await desk.approval(text)
    with pytest.raises(Refused) as caught:
        await desk.approval("0000" if not id_.startswith("0000") else "1111")
    assert caught.value.name == "no-such-decision"


@pytest.mark.parametrize("reason", ["", " ", "two\nlines", "\x1b[31mred", "ä" * 401])
async def test_a_reason_says_something_in_one_line(chain: Chain, reason: str) -> None:
    with pytest.raises(BadInput) as caught:
        await chain.desk("alpha-1").propose(DELTA, reason, "k", 1.0)
    assert caught.value.name == "bad-reason"


async def test_a_rejected_one_and_what_people_want_of_it(chain: Chain) -> None:
    id_ = str((await propose(chain))["id"])
    await chain.desk("beta-1").judge(id_, REJECT, "no", "k", 1.0)
    done = await chain.desk("gamma-1").judge(id_, REJECT, "no", "k", 1.0)
    assert done["state"] == "rejected" and done["rejectedBy"] == [did("beta"), did("gamma")]
    chain.books.do("alpha-ada", Judge(bytes.fromhex(id_), APPROVE, "still"))
    chain.books.do("beta-ada", Judge(bytes.fromhex(id_), APPROVE, "still"))
    (wish,) = cast(Any, (await chain.desk("alpha-1").approval(id_))["people"])
    assert (wish["act"], wish["percent"], wish["needed"]) == ("approve", 40, 80)
    assert [name.split(" (")[0] for name in wish["by"]] == ["Ada", "Ada"]


async def test_a_pause_is_shown_and_stops_proposals(chain: Chain) -> None:
    chain.books.do("alpha-bob", Pause(60_000, "wait"))
    listed = await chain.desk("alpha-1").approvals(open_only=True)
    assert listed["pausedUntil_ms"] == chain.time_ms + 60_000
    with pytest.raises(Refused) as caught:
        await propose(chain)
    assert caught.value.name == "autonomy-paused"
    chain.books.block(later_ms=60_000)
    assert (await chain.desk("alpha-1").approvals(open_only=True))["pausedUntil_ms"] is None


async def test_ended_decisions_come_newest_first() -> None:
    chain = Chain(Books(genesis(4)))
    first = await propose(chain)
    await chain.desk("beta-1").judge(str(first["id"]), REJECT, "no", "k", 1.0)
    await chain.desk("gamma-1").judge(str(first["id"]), REJECT, "no", "k", 1.0)
    small = await propose(chain, action=["parameters", {"directory-record-ttl-ms": 88_800_000}], key="k-2")
    assert (small["state"], small["needed"]) == ("executed", 0), "of little risk"
    waits = await propose(chain, key="k-3")
    listed = await chain.desk("delta-1").approvals(open_only=False)
    assert [row["id"] for row in cast(Any, listed["approvals"])] == [waits["id"], small["id"], first["id"]]


async def test_whose_approval_counts_is_looked_up_once_for_a_whole_list(chain: Chain) -> None:
    """That costs a read for each coordinator, and everything else waits meanwhile."""
    read, get = [], chain.get
    chain.get = lambda key: [read.append(key), get(key)][1]  # type: ignore[method-assign,assignment,func-returns-value]
    counted = []
    for number in range(3):
        await propose(chain, action=["parameters", {"dispute-ms": 3_600_001 + number}], key=f"k-{number}")
        await propose(chain, by="beta-1", key=f"k-{number}")
        read.clear()
        listed = await chain.desk("delta-1").approvals(open_only=False)
        assert [row["approvals"] for row in cast(Any, listed["approvals"])].count(1) == 2 * (number + 1)
        counted.append(read.count(ORGS.key(did("alpha"))))
    assert counted == [1, 1, 1]


async def test_a_node_that_still_fetches_the_state_says_so(chain: Chain) -> None:
    chain.get, chain.scan = {}.get, lambda prefix: iter(())  # type: ignore[method-assign,assignment]
    desk = chain.desk("alpha-1")
    for asked in (desk.approvals(open_only=True), desk.approval("abcd"), desk.propose(DELTA, "because", "k", 1.0)):
        with pytest.raises(Unreachable) as caught:
            await asked
        assert (caught.value.name, caught.value.outcome) == ("not-ready", "not_done")


async def test_a_decision_is_explained_by_who_did_what_about_it(chain: Chain) -> None:
    id_ = str((await propose(chain))["id"])
    chain.books.do("alpha-ada", Judge(bytes.fromhex(id_), APPROVE, "I say so"))
    told = await chain.desk("beta-1").explained(id_[:8])
    assert told is not None and told.kind == "decision"
    assert told.lines[:3] == (
        f"{id_[:8]} is open: quarantine {did('delta')}",
        "its risk is 90 of 100, so it needs 3 approvals and has 1",
        "people with 20 % of human power say approve, 80 % decide",
    )
    assert told.lines[3].endswith("Z proposed by alpha: it answers wrongly")
    assert told.lines[4].endswith("Z approve by Ada (alpha, alpha-ada): I say so")
    for text in ("0" * 8, "beta-1", id_[:7], "a-" + id_[:8]):
        assert await chain.desk("beta-1").explained(text) is None
