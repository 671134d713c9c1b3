"""Room in the directory over HTTP: what it costs as decimal MESH, who may rent it, for no more than was said, and out of which budget."""

import pytest

from tests.api.conftest import Live

ROOMS = "/v1/directory/rooms"


async def test_room_and_rent_have_amounts_in_mesh_and_times_in_utc(live: Live) -> None:
    async with live.client("operator") as client:
        did = (await client.get("/v1/status")).json()["org"]
        rented = (await client.post(ROOMS, json={"records": 5})).json()
        assert (rented["paid"], rented["outcome"], rented["records"]) == ("5", "committed", 5) and rented["until"].endswith("Z")
        assert (rented["room"], rented["added"], rented["free"]) == (7, 5, 2) and rented["rented"][0]["until"].endswith("Z")
        again = (await client.post(ROOMS, json={"records": 5})).json()
        assert (again["paid"], again["outcome"], again["txId"]) == ("0", "unchanged", None)
    async with live.client("read") as client:
        room = (await client.get(f"{ROOMS}/{did}")).json()
        assert (room["price"], room["room"], room["free"], room["rented"][0]["records"]) == ("1", 7, 2, 5)
        assert room["rented"][0]["until"].endswith("Z") and not any("_m" in name for name in (*room, *room["rented"][0]))
        assert (await client.get(f"{ROOMS}/did:mesh:enterprise:nobody")).json()["name"] == "bad-did"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "bad-request"),
        ({"records": 0}, "bad-request"),
        ({"records": 1.5}, "bad-request"),
        ({"records": True}, "bad-request"),
        ({"records": 1, "days": 0}, "bad-request"),
        ({"records": 1, "days": 91}, "bad-request"),
        ({"records": 1, "days": 61}, "rent-out-of-bounds"),
        ({"records": 1, "atMost": "1e3"}, "bad-amount"),
        ({"records": 2, "atMost": "1.999999"}, "rent-dearer"),
        ({"records": 1, "price": "1"}, "bad-request"),
    ],
)
async def test_a_bad_rent_is_refused_by_name(live: Live, body: object, name: str) -> None:
    async with live.client("operator") as client:
        answer = await client.post(ROOMS, json=body)
        assert answer.status_code >= 400 and answer.json()["name"] == name, answer.text
    assert live.memory is not None and not live.memory.rooms.keys


async def test_only_an_operator_rents(live: Live) -> None:
    async with live.client("caller") as client:
        assert (await client.post(ROOMS, json={"records": 1})).status_code == 403


async def test_a_rent_comes_out_of_the_keys_budget_unless_nothing_was_paid(live: Live) -> None:
    live.tokens["clerk"] = live.keys.mint("clerk", "operator", budget_micro=3_000_000)
    clerk = live.keys.find(live.tokens["clerk"])
    assert clerk is not None and live.memory is not None
    async with live.client("clerk") as client:
        assert (await client.post(ROOMS, json={"records": 4})).json()["name"] == "budget-exceeded"
        assert (await client.post(ROOMS, json={"records": 2, "atMost": "2"})).status_code == 200
        assert (await client.post(ROOMS, json={"records": 2})).status_code == 200
        assert (clerk.spent_micro, clerk.held_micro) == (2_000_000, 0)
        live.memory.rooms.silent = True
        assert (await client.post(ROOMS, json={"records": 3})).json()["name"] == "unknown-yet"
        assert clerk.left_micro() == 0, "it may have been paid"
