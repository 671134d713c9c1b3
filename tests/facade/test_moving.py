"""What a node says of motions and does about them, on the ledger's own rules."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from meshos.consensus.ledger.keys import ROOT
from meshos.consensus.ledger.motions import Admit, Move, Vote, motion_id
from meshos.consensus.ledger.orgs import AddNode
from meshos.consensus.ledger.parameters import in_force
from meshos.errors import BadInput, MeshError, Refused, Unreachable
from tests.facade.chain import Chain
from tests.ledger.books import Books, did

LONGER = {"voting-period-ms": 200_000_000}
VOTING_MS = 259_200_000


@pytest.fixture
def chain() -> Chain:
    return Chain(Books())


async def move(chain: Chain, by: str = "alpha-1", kind: str = "parameters", what: object = LONGER, key: str = "k") -> Mapping[str, Any]:
    return await chain.moving(by).move(kind, what, key, 1.0)


async def vote(chain: Chain, by: str, id_: str, choice: str = "for") -> Mapping[str, Any]:
    return await chain.moving(f"{by}-1").vote(id_, choice, "k", 1.0)


async def test_a_motion_is_shown_until_it_is_carried_and_afterwards(chain: Chain) -> None:
    made = await move(chain)
    id_ = made["id"]
    assert (made["state"], made["for"], made["against"], made["needed"], made["blocking"], made["seats"]) == ("open", 1, 0, 3, 2, 4)
    assert made["motion"] == {"parameters": LONGER} and made["what"] == "voting-period-ms = 200000000"
    assert made["expires_ms"] == chain.time_ms + VOTING_MS and made["by"] == did("alpha")
    assert made["waitsFor"] == [did("beta"), did("delta"), did("gamma")]
    assert (chain.moving("alpha-1").waiting(), chain.moving("beta-1").waiting()) == (0, 1)
    assert (await vote(chain, "beta", id_[:8], "against"))["against"] == 1
    await vote(chain, "gamma", id_[:12])
    done = await vote(chain, "delta", id_)
    assert (done["state"], done["for"], done["against"], done["waitsFor"], done["expires_ms"]) == ("carried", 3, 1, [], None)
    assert done["votedFor"] == [did("alpha"), did("gamma"), did("delta")] and done["votedAgainst"] == [did("beta")]
    assert done["what"] == made["what"] and done["ended_ms"] == chain.time_ms
    assert [(row["what"], row["who"]) for row in done["trail"]] == [
        ("moved", "alpha"),
        ("voted-against", "beta"),
        ("voted-for", "gamma"),
        ("voted-for", "delta"),
        ("motion-carried", "alpha"),
    ]
    assert in_force(chain.books.state)["voting-period-ms"] == 200_000_000
    assert (await chain.moving("beta-1").proposals(open_only=True))["proposals"] == []
    assert [row["id"] for row in cast(Any, (await chain.moving("beta-1").proposals(open_only=False))["proposals"])] == [id_]


async def told(chain: Chain, id_: str) -> list[str]:
    """What `mesh explain` says was done about a motion, without the times."""
    explained = await chain.moving("beta-1").explained(id_)
    assert explained is not None
    return [line.partition("Z ")[2] for line in explained.lines if "Z " in line]


async def test_a_motion_is_explained_in_sentences(chain: Chain) -> None:
    id_ = (await move(chain))["id"]
    for by, choice in (("beta", "against"), ("gamma", "for"), ("delta", "for")):
        await vote(chain, by, id_, choice)
    assert await told(chain, id_) == [
        "alpha moved it, and is for it",
        "beta voted against it",
        "gamma voted for it",
        "delta voted for it",
        "with that it was carried: 3 for it, 1 against it",
    ]
    rejected, expired = [(await move(chain, key=key))["id"] for key in ("second", "third")]
    for by in ("beta", "gamma"):
        await vote(chain, by, rejected, "against")
    assert (await told(chain, rejected))[-1] == "with that it was rejected: 1 for it, 2 against it"
    chain.books.block(later_ms=200_000_000)
    assert (await told(chain, expired))[-1] == "its time was over, and it was not carried: 1 for it, 0 against it"


async def test_those_that_end_first_come_first_then_the_ended_newest_first(chain: Chain) -> None:
    first, second, third = [(await move(chain, key=str(n)))["id"] for n in range(3)]
    for org in ("beta", "gamma"):
        last = await vote(chain, org, second, "against")
    assert (last["state"], chain.moving("beta-1").waiting()) == ("rejected", 2)
    listed = await chain.moving("beta-1").proposals(open_only=False)
    assert [row["id"] for row in cast(Any, listed["proposals"])] == [first, third, second]
    assert (listed["seats"], listed["needed"]) == (4, 3)
    chain.books.block(later_ms=VOTING_MS)
    states = {row["id"]: row["state"] for row in cast(Any, (await chain.moving("beta-1").proposals(open_only=False))["proposals"])}
    assert states == {first: "expired", third: "expired", second: "rejected"}


@pytest.mark.parametrize(
    ("kind", "what", "name"),
    [
        ("parameters", {"dispute-ms": 1}, "parameter-out-of-bounds"),
        ("parameters", {"no-such": 1}, "parameter-unknown"),
        ("coordinator", {"did": "delta", "entitled": True}, "bad-did"),
        ("coordinator", {"did": did("zeta"), "entitled": True}, "not-a-member"),
        ("reinstate", did("beta"), "not-seated"),
        ("expel", did("zeta"), "not-a-member"),
        ("expel", "x", "bad-did"),
        ("reinstate", "x", "bad-did"),
        ("admit", "mesh-application1-", "application-malformed"),
        ("dissolve", did("beta"), "bad-request"),
    ],
)
async def test_what_cannot_be_moved_is_refused_before_it_is_sent(chain: Chain, kind: str, what: object, name: str) -> None:
    with pytest.raises(MeshError) as caught:
        await move(chain, kind=kind, what=what)
    assert (caught.value.name, chain.sent) == (name, {})


async def test_every_subject_is_shown_as_it_is_moved(chain: Chain) -> None:
    for kind, what in (("coordinator", {"did": did("delta"), "entitled": False}), ("upgrade", {"version": 2, "height": 4_000})):
        assert (await move(chain, kind=kind, what=what, key=kind))["motion"] == {kind: what}
    agrees = chain.books.agrees("zeta-root", did("zeta"), ROOT)
    id_ = motion_id(chain.books.do("beta-1", Move(Admit(did("zeta"), "zeta-root", b"0zeta", agrees)))).hex()
    shown = await chain.moving("alpha-1").proposal(id_)
    assert (shown["motion"], shown["what"]) == ({"admit": {"did": did("zeta"), "rootKey": "zeta-root"}}, f"admit {did('zeta')}")


async def test_an_organisation_with_a_certificate_that_is_none_gets_no_vote_for_it(chain: Chain) -> None:
    agrees = chain.books.agrees("zeta-root", did("zeta"), ROOT)
    id_ = motion_id(chain.books.do("beta-1", Move(Admit(did("zeta"), "zeta-root", b"0zeta", agrees)))).hex()
    with pytest.raises(Refused) as caught:
        await vote(chain, "gamma", id_)
    assert caught.value.name == "application-malformed"
    assert (await vote(chain, "gamma", id_, "against"))["votedAgainst"] == [did("gamma")]


async def test_a_vote_counts_once_and_there_is_no_abstention(chain: Chain) -> None:
    id_ = (await move(chain))["id"]
    assert (await move(chain))["id"] == id_, "told again to whoever did not hear it"
    chain.sent.clear()
    for by, choice, name in (("alpha", "for", "already-voted"), ("beta", "abstain", "not-yet")):
        with pytest.raises(Refused) as caught:
            await vote(chain, by, id_, choice)
        assert caught.value.name == name and caught.value.hint
    assert chain.sent == {}
    await vote(chain, "beta", id_)
    done = await vote(chain, "gamma", id_)
    assert await vote(chain, "gamma", id_) == done, "nor is it refused as ended"
    with pytest.raises(Refused) as caught:
        await vote(chain, "delta", id_)
    assert (caught.value.name, "mesh proposals --all" in caught.value.hint) == ("motion-not-open", True)


async def test_a_node_without_a_voice_is_told_which_has_it(chain: Chain) -> None:
    agrees = chain.books.agrees("alpha-2", did("alpha"), "node"), chain.books.agrees("alpha-2-votes", did("alpha"), "validator")
    chain.books.do("alpha-root", AddNode(did("alpha"), "alpha-2", "alpha-2-votes", *agrees))
    with pytest.raises(Refused) as caught:
        await move(chain, by="alpha-2")
    assert (caught.value.name, caught.value.hint) == ("no-voice", "ask the node that does: alpha-1")


async def test_ids_are_found_by_how_they_begin(chain: Chain) -> None:
    id_ = (await move(chain))["id"]
    desk = chain.moving("beta-1")
    for digits in (4, 5, 8, 63, 64):
        assert (await desk.proposal(id_[:digits]))["id"] == id_
    for text in ("abc", "xyzw", id_ + "0", id_.upper()[:7] + "A", ""):
        with pytest.raises(BadInput) as wrong:
            await desk.proposal(text)
        assert wrong.value.name == "bad-proposal-id"
    with pytest.raises(Refused) as caught:
        await desk.proposal("0000" if not id_.startswith("0000") else "1111")
    assert caught.value.name == "no-such-proposal"


async def test_a_node_that_still_fetches_the_state_says_so(chain: Chain) -> None:
    chain.get, chain.scan = {}.get, lambda prefix: iter(())  # type: ignore[method-assign,assignment]
    desk = chain.moving("alpha-1")
    for asked in (desk.proposals(open_only=True), desk.proposal("abcd"), desk.move("parameters", LONGER, "k", 1.0)):
        with pytest.raises(Unreachable) as caught:
            await asked
        assert (caught.value.name, caught.value.outcome) == ("not-ready", "not_done")


async def test_a_motion_is_explained_by_who_did_what_about_it(chain: Chain) -> None:
    id_ = (await move(chain))["id"]
    chain.books.do("beta-root", Vote(bytes.fromhex(id_), False))
    told = await chain.moving("gamma-1").explained(id_[:8])
    assert told is not None and told.kind == "motion"
    assert told.lines[:2] == (
        f"{id_[:8]} is open: voting-period-ms = 200000000",
        "for it: 1 of 4 organisations with a vote; 3 carry it",
    )
    assert told.lines[2].startswith("against it: 1; 2 reject it; it ends 20") and told.lines[3] == "it waits for delta, gamma"
    assert told.lines[4].endswith("Z alpha moved it, and is for it")
    assert told.lines[5].endswith("Z beta voted against it")
    for text in ("0" * 8, "beta-1", id_[:7]):
        assert await chain.moving("beta-1").explained(text) is None
