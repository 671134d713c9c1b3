"""Decisions over HTTP: who may propose and judge, what of a body is refused, and the names of the answers."""

import pytest

from tests.api.conftest import Live

ACTION = {"quarantine": "did:mesh:enterprise:delta"}
PROPOSAL = {"action": ACTION, "reason": "it answers wrongly"}


async def test_a_decision_is_proposed_listed_and_approved(live: Live) -> None:
    async with live.client("operator") as client:
        made = (await client.post("/v1/approvals", json=PROPOSAL)).json()
        assert {"id", "txId", "height", "state", "approvedBy", "needed", "trail", "expires"} <= made.keys()
        listed = (await client.get("/v1/approvals?state=open")).json()
        assert {"approvals", "threshold", "pausedUntil", "height", "time"} <= listed.keys()
        (one,) = listed["approvals"]
        assert (one["id"], one["action"], one["state"]) == (made["id"], ACTION, "open") and one["expires"].endswith("Z")
        done = await client.post(f"/v1/approvals/{made['id'][:8]}/approve", json={"reason": "so it is"})
        assert done.status_code == 200 and done.json()["state"] == "executed" and done.json()["ended"].endswith("Z")
        assert (await client.get("/v1/approvals?state=open")).json()["approvals"] == []
        assert [row["state"] for row in (await client.get("/v1/approvals")).json()["approvals"]] == ["executed"]
        assert (await client.get(f"/v1/approvals/{made['id'][:8]}")).json()["trail"][0]["what"] == "proposed"
        assert (await client.get("/v1/approvals/ffff")).status_code == 404
        assert (await client.get("/v1/status")).json()["humans"] == {"approvalsWaiting": 0, "proposalsWaiting": 0, "pausedUntil": None}


async def test_the_same_proposal_sent_again_is_one_decision(live: Live) -> None:
    async with live.client("operator") as client:
        first = await client.post("/v1/approvals", json=PROPOSAL | {"idempotencyKey": "k"})
        again = await client.post("/v1/approvals", json=PROPOSAL | {"idempotencyKey": "k"})
        assert first.json() == again.json() and len((await client.get("/v1/approvals")).json()["approvals"]) == 1
        other = PROPOSAL | {"reason": "another", "idempotencyKey": "k"}
        assert (await client.post("/v1/approvals", json=other)).status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": ACTION},
        {"action": {}, "reason": "x"},
        {"action": ACTION | {"lift": "x"}, "reason": "x"},
        {"action": {"parameters": {}}, "reason": "x"},
        {"action": {"parameters": {"dispute-ms": "20000"}}, "reason": "x"},
        {"action": {"dissolve": "x"}, "reason": "x"},
        {"action": ACTION, "reason": ""},
        {"action": ACTION, "reason": "x" * 801},
        {"action": ACTION, "reason": "x", "timeout": 1e9},
    ],
)
async def test_a_bad_proposal_is_refused(live: Live, body: object) -> None:
    async with live.client("operator") as client:
        answer = await client.post("/v1/approvals", json=body)
        assert (answer.status_code, answer.json()["name"]) == (400, "bad-request")
        assert (await client.get("/v1/approvals?state=some")).status_code == 400


async def test_who_may_only_call_or_look_decides_nothing(live: Live) -> None:
    async with live.client("operator") as client:
        id_ = (await client.post("/v1/approvals", json=PROPOSAL)).json()["id"]
    for role in ("caller", "read"):
        async with live.client(role) as client:
            assert (await client.get("/v1/approvals")).status_code == 200
            assert (await client.post("/v1/approvals", json=PROPOSAL)).status_code == 403
            for act in ("approve", "reject"):
                assert (await client.post(f"/v1/approvals/{id_}/{act}", json={"reason": "x"})).status_code == 403
    async with live.client("") as client:
        assert (await client.get("/v1/approvals")).status_code == 401


async def test_a_key_of_the_ledger_tells_its_next_nonce(live: Live) -> None:
    async with live.client("read") as client:
        found = (await client.get("/v1/ledger/keys/z6MkPerson")).json()
        assert {"key", "role", "org", "nonce", "genesis", "time"} <= found.keys() and found["time"].endswith("Z")
        assert (await client.get("/v1/ledger/keys/nobody")).status_code == 404
        assert (await client.get(f"/v1/ledger/keys/{'x' * 65}")).status_code == 400


async def test_an_organisation_of_the_ledger_tells_its_seat_and_how_often_it_was_moved(live: Live) -> None:
    async with live.client("read") as client:
        found = (await client.get("/v1/ledger/orgs/did:mesh:enterprise:alpha")).json()
        assert {"did", "root", "nodes", "people", "seat", "votes", "moves", "suspended", "tabs", "height"} <= found.keys()
        assert (found["moves"], found["joined"], found["left"], found["time"][-1]) == (2, None, None, "Z")
        assert (await client.get("/v1/ledger/orgs/did:mesh:enterprise:nobody")).json()["name"] == "no-such-org"
    async with live.client("") as client:
        assert (await client.get("/v1/ledger/orgs/did:mesh:enterprise:alpha")).status_code == 401


async def test_who_is_in_quarantine_is_listed_page_by_page(live: Live) -> None:
    async with live.client("operator") as client:
        for name in ("delta", "beta"):
            made = (
                await client.post("/v1/approvals", json={"action": {"quarantine": f"did:mesh:enterprise:{name}"}, "reason": "x"})
            ).json()
            await client.post(f"/v1/approvals/{made['id']}/approve", json={"reason": "so it is"})
        first = (await client.get("/v1/quarantine")).json()
        assert first["more"] is True and [row["id"] for row in first["quarantined"]] == ["did:mesh:enterprise:beta"]
        rest = (await client.get("/v1/quarantine", params={"after": "did:mesh:enterprise:beta"})).json()
        (row,) = rest["quarantined"]
        assert (row["id"], row["kind"], row["settled"], rest["more"]) == ("did:mesh:enterprise:delta", "organisation", True, False)
        assert row["since"].endswith("Z") and rest["height"] == 1
        for bad in ("x" * 97, "é"):
            assert (await client.get("/v1/quarantine", params={"after": bad})).status_code == 400
