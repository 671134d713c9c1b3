"""The ledger over HTTP: amounts as decimal MESH, who may move them, and what of a body is refused."""

import base64

import pytest

from tests.api.conftest import Live

BETA = "did:mesh:enterprise:beta"


async def test_head_block_and_account_have_the_contracts_names(live: Live) -> None:
    async with live.client("read") as client:
        head = (await client.get("/v1/ledger/head")).json()
        assert {"height", "stateRoot", "view", "primary", "time"} <= head.keys() and head["time"].endswith("Z")
        alpha = (await client.get("/v1/status")).json()["org"]
        account = (await client.get(f"/v1/accounts/{alpha}")).json()
        assert account["balance"] == "10" and not any(name.endswith("_micro") for name in account)
        assert (await client.get("/v1/accounts/did:mesh:enterprise:nobody")).json()["name"] == "no-such-account"
        assert (await client.get("/v1/ledger/blocks/9")).json()["name"] == "no-such-block"


async def test_a_transfer_moves_once_however_often_it_is_sent(live: Live) -> None:
    body = {"transfer": {"to": BETA, "amount": "2.5"}, "idempotencyKey": "k-1"}
    async with live.client("operator") as client:
        first = await client.post("/v1/transactions", json=body)
        again = await client.post("/v1/transactions", json=body)
        assert first.status_code == again.status_code == 200 and first.json() == again.json()
        assert (await client.get(f"/v1/accounts/{(await client.get('/v1/status')).json()['org']}")).json()["balance"] == "7.5"
        block = (await client.get("/v1/ledger/blocks/1")).json()
        assert block["transactions"][0]["expires"].endswith("Z")
        other = body | {"transfer": {"to": BETA, "amount": "3"}}
        assert (await client.post("/v1/transactions", json=other)).status_code == 409


async def test_an_idempotency_key_belongs_to_the_api_key_that_it_came_with(live: Live) -> None:
    body = {"transfer": {"to": BETA, "amount": "2"}, "idempotencyKey": "k-1"}
    for role in ("operator", "admin"):
        async with live.client(role) as client:
            assert (await client.post("/v1/transactions", json=body)).status_code == 200
    assert live.memory is not None and len(live.memory.ledger.moved) == 2, "the second was taken for the first"


async def test_what_was_signed_elsewhere_is_taken_as_it_is(live: Live) -> None:
    async with live.client("operator") as client:
        answer = await client.post("/v1/transactions", json={"request": base64.b64encode(b"signed").decode()})
        assert answer.status_code == 200 and live.memory is not None and live.memory.ledger.submitted == [b"signed"]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "bad-request"),
        ({"transfer": {"to": BETA, "amount": "1"}, "request": "AAAA"}, "bad-request"),
        ({"request": "not base64!"}, "bad-request"),
        ({"transfer": {"to": BETA, "amount": "1e3"}}, "bad-amount"),
        ({"transfer": {"to": BETA, "amount": "0.0000001"}}, "bad-amount"),
        ({"transfer": {"to": BETA, "amount": "1"}, "timeout": 1e9}, "bad-request"),
        ({"transfer": {"to": BETA, "amount": "11"}}, "insufficient-funds"),
    ],
)
async def test_a_bad_transaction_is_refused_by_name(live: Live, body: object, name: str) -> None:
    async with live.client("operator") as client:
        answer = await client.post("/v1/transactions", json=body)
        assert answer.status_code >= 400 and answer.json()["name"] == name, answer.text


async def test_only_an_operator_moves_money(live: Live) -> None:
    async with live.client("caller") as client:
        answer = await client.post("/v1/transactions", json={"transfer": {"to": BETA, "amount": "1"}})
        assert answer.status_code == 403


async def test_a_key_moves_no_more_than_its_budget(live: Live) -> None:
    live.tokens["clerk"] = live.keys.mint("clerk", "operator", budget_micro=3_000_000)
    clerk = live.keys.find(live.tokens["clerk"])
    assert clerk is not None
    async with live.client("clerk") as client:

        async def move(amount: str, **more: object) -> tuple[int, str]:
            answer = await client.post("/v1/transactions", json={"transfer": {"to": BETA, "amount": amount}, **more})
            return answer.status_code, answer.json().get("name", "")

        assert await move("3.000001") == (402, "budget-exceeded")
        assert await move("2", idempotencyKey="k") == await move("2", idempotencyKey="k") == (200, "")
        assert await move("2", idempotencyKey="k", timeout=77) == (200, ""), "how long is waited is no part of what is asked"
        assert (clerk.spent_micro, clerk.held_micro) == (2_000_000, 0), "once for what is done once"
        assert await move("1.5") == (402, "budget-exceeded")
        assert live.memory is not None
        live.memory.ledger.silent = True
        assert (await move("1", idempotencyKey="late"))[1] == "unknown-yet"
        live.memory.ledger.silent = False
        assert clerk.left_micro() == 0, "it may have been moved"
        assert await move("1", idempotencyKey="late") == (200, ""), "and is asked after without being taken again"
        clerk.budget_micro = 4_000_000
        live.memory.ledger.balances.update(dict.fromkeys(live.memory.ledger.balances, 0))
        assert (await move("1"))[1] == "insufficient-funds"
        assert clerk.left_micro() == 1_000_000, "what was not moved is not spent"
