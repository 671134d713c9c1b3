"""Motions over HTTP: who may move and vote, what of a body is refused, and the names of the answers."""

from tests.api.conftest import Live

MOTION = {"parameters": {"dispute-ms": 20_000}}
PROPOSAL = {"motion": MOTION}


async def test_a_motion_is_moved_listed_and_voted_on(live: Live) -> None:
    async with live.client("operator") as client:
        made = (await client.post("/v1/proposals", json=PROPOSAL)).json()
        assert {"id", "txId", "height", "what", "for", "against", "needed", "waitsFor", "trail"} <= made.keys()
        listed = (await client.get("/v1/proposals?state=open")).json()
        assert {"proposals", "seats", "needed", "height", "time"} <= listed.keys()
        (one,) = listed["proposals"]
        assert (one["id"], one["motion"], one["state"]) == (made["id"], MOTION, "open") and one["expires"].endswith("Z")
        done = await client.post(f"/v1/proposals/{made['id'][:8]}/votes", json={"choice": "for"})
        assert (done.status_code, done.json()["state"]) == (200, "carried") and done.json()["ended"].endswith("Z")
        assert (await client.get("/v1/proposals?state=open")).json()["proposals"] == []
        assert [row["state"] for row in (await client.get("/v1/proposals")).json()["proposals"]] == ["carried"]
        assert (await client.get(f"/v1/proposals/{made['id'][:8]}")).json()["trail"][0]["time"].endswith("Z")
        assert (await client.get("/v1/proposals/ffff")).status_code == 404


async def test_the_same_motion_sent_again_is_one(live: Live) -> None:
    async with live.client("operator") as client:
        first = await client.post("/v1/proposals", json=PROPOSAL | {"idempotencyKey": "k"})
        again = await client.post("/v1/proposals", json=PROPOSAL | {"idempotencyKey": "k"})
        assert first.json() == again.json() and len((await client.get("/v1/proposals")).json()["proposals"]) == 1
        assert (await client.post("/v1/proposals", json={"motion": {"reinstate": "x"}, "idempotencyKey": "k"})).status_code == 409
        path = f"/v1/proposals/{first.json()['id']}/votes"
        assert (await client.post(path, json={"choice": "for", "idempotencyKey": "v"})).status_code == 200
        assert (await client.post(path, json={"choice": "against", "idempotencyKey": "v"})).status_code == 409


BAD: list[tuple[dict[str, object], str]] = [
    ({}, "motion: field required"),
    ({"motion": {}}, "a motion is one of `admit`, `coordinator`, `expel`, `parameters`, `reinstate`, `upgrade`"),
    ({"motion": MOTION | {"reinstate": "x"}}, "a motion is one of"),
    ({"motion": {"dissolve": "x"}}, "motion.dissolve: extra inputs are not permitted"),
    ({"motion": {"parameters": {}}}, "motion.parameters: "),
    ({"motion": {"parameters": {"dispute-ms": 20_000.5}}}, "motion.parameters.dispute-ms: input should be a valid integer"),
    ({"motion": {"parameters": {"dispute-ms": 20_000.0}}}, "motion.parameters.dispute-ms: input should be a valid integer"),
    ({"motion": {"parameters": {"dispute-ms": "20000"}}}, "motion.parameters.dispute-ms: input should be a valid integer"),
    ({"motion": {"parameters": {"dispute-ms": True}}}, "motion.parameters.dispute-ms: input should be a valid integer"),
    ({"motion": {"parameters": {"dispute-ms": -1}}}, "motion.parameters.dispute-ms: input should be greater than or equal to 0"),
    ({"motion": {"parameters": {"dispute-ms": 2**60}}}, "motion.parameters.dispute-ms: input should be less than"),
    ({"motion": {"parameters": dict.fromkeys("abcdefghi", 1)}}, "motion.parameters: dictionary should have at most 8 items"),
    ({"motion": {"coordinator": "did:mesh:enterprise:delta"}}, "motion.coordinator: input should be"),
    ({"motion": {"coordinator": {"did": "x"}}}, "motion.coordinator.entitled: field required"),
    ({"motion": {"coordinator": {"did": "x" * 97, "entitled": True}}}, "motion.coordinator.did: string should have at most 96"),
    ({"motion": {"upgrade": {"version": 0, "height": 1}}}, "motion.upgrade.version: "),
    ({"motion": {"upgrade": {"version": 1.5, "height": 1}}}, "motion.upgrade.version: input should be a valid integer"),
    ({"motion": {"admit": "x" * 4_097}}, "motion.admit: string should have at most 4096"),
    (PROPOSAL | {"reason": "x"}, "reason: extra inputs are not permitted"),
    (PROPOSAL | {"timeout": 1e9}, "timeout: "),
]


async def test_a_bad_motion_is_refused_by_what_is_wrong_with_it(live: Live) -> None:
    async with live.client("operator") as client:
        for body, told in BAD:
            answer = await client.post("/v1/proposals", json=body)
            assert (answer.status_code, answer.json()["name"]) == (400, "bad-request")
            assert answer.json()["detail"].startswith(told), answer.json()["detail"]
        assert live.node.proposals.found == {}


async def test_a_vote_is_for_or_against(live: Live) -> None:
    async with live.client("operator") as client:
        path = f"/v1/proposals/{(await client.post('/v1/proposals', json=PROPOSAL)).json()['id']}/votes"
        for body in ({}, {"choice": "yes"}, {"choice": True}, {"choice": "for", "reason": "x"}):
            assert (await client.post(path, json=body)).json()["name"] == "bad-request"
        assert (await client.post(path, json={"choice": "abstain"})).json()["name"] == "not-yet"
        assert (await client.get("/v1/proposals?state=some")).status_code == 400
        assert (await client.post("/v1/proposals/ffff/votes", json={"choice": "for"})).status_code == 404


async def test_who_may_only_call_or_look_votes_for_nobody(live: Live) -> None:
    async with live.client("operator") as client:
        id_ = (await client.post("/v1/proposals", json=PROPOSAL)).json()["id"]
    for role in ("caller", "read"):
        async with live.client(role) as client:
            assert (await client.get(f"/v1/proposals/{id_}")).status_code == 200
            assert (await client.post("/v1/proposals", json=PROPOSAL)).status_code == 403
            assert (await client.post(f"/v1/proposals/{id_}/votes", json={"choice": "for"})).status_code == 403
    async with live.client("") as client:
        assert (await client.get("/v1/proposals")).status_code == 401


async def test_openapi_describes_both_bodies(live: Live) -> None:
    async with live.client("") as client:
        document = (await client.get("/openapi.json")).json()
        schemas, paths = document["components"]["schemas"], document["paths"]
        assert {"MotionBody", "SubjectBody", "CoordinatorBody", "UpgradeBody", "VoteBody"} <= schemas.keys()
        assert paths["/v1/proposals"]["post"]["x-right"] == paths["/v1/proposals/{id}/votes"]["post"]["x-right"] == "operate"
