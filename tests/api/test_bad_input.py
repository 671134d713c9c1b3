"""What strangers, mistaken clients and slow ones meet: a named refusal that costs little and changes nothing."""

import json
import socket
from collections.abc import Mapping

import pytest
import trio
from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

from meshos.node.api import limits
from tests.api.conftest import Live


async def raw(live: Live, data: bytes, *, patience: float = 5) -> bytes:
    """All that the server sends back for ``data``, until it closes or ``patience`` seconds are over."""
    stream = await trio.open_tcp_stream("127.0.0.1", live.port())
    got = b""
    async with stream:
        try:
            await stream.send_all(data)
            with trio.move_on_after(patience):
                async for piece in stream:
                    got += piece
        except trio.BrokenResourceError:
            pass
    return got


def head(live: Live, *lines: str, method: str = "POST", path: str = "/v1/tasks", host: str = "localhost", key: str = "admin") -> bytes:
    """The head of a request."""
    fixed = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {live.tokens[key]}", "Content-Type: application/json"]
    return ("\r\n".join([*fixed, *lines]) + "\r\n\r\n").encode()


def problem(answer: bytes) -> Mapping[str, object]:
    """The problem document of a raw answer."""
    value: Mapping[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return value


async def test_keys(live: Live) -> None:
    async with live.client("") as client:
        for header, name in [
            (None, "no-key"),
            ("Basic YTpi", "no-key"),
            ("Bearer nonsense", "unknown-api-key"),
            ("Bearer mk_000000000000_" + "x" * 43, "unknown-api-key"),
            (f"Bearer {live.tokens['admin'][:-1]}", "unknown-api-key"),
            (f"Bearer {live.tokens['admin']}x", "unknown-api-key"),
        ]:
            answer = await client.get("/v1/status", headers={"Authorization": header} if header else {})
            assert (answer.status_code, answer.json()["name"]) == (401, name), header
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_roles(live: Live) -> None:
    async with live.client("read") as client:
        for method, path, body in [
            ("POST", "/v1/tasks", {"agentId": live.agent, "type": "echo"}),
            ("POST", "/v1/agents", {"agent": {"name": "x"}}),
            ("DELETE", f"/v1/agents/{live.agent}", None),
            ("POST", "/v1/keys", {"name": "x", "role": "admin"}),
        ]:
            answer = await client.request(method, path, json=body)
            assert (answer.status_code, answer.json()["name"]) == (403, "not-allowed"), path
        assert (await client.post("/v1/discover", json={"query": "time"})).status_code == 200
    async with live.client("operator") as client:
        assert (await client.get("/v1/keys")).status_code == 403
    assert live.agent in live.node.hosted
    assert live.node.runs == 0


async def test_an_agents_key_may_find_and_call_and_nothing_else(live: Live) -> None:
    live.tokens["agent"] = live.keys.mint("Clock", "agent", budget_micro=3_000_000, depth=2, kept=False)
    async with live.client("agent") as client:
        body = {"agentId": live.agent, "type": "echo"}
        assert (await client.post("/v1/tasks", json=body)).json()["cost"] == "2"
        assert live.node.callers[-1].depth == 2
        assert live.node.callers[-1].budget_micro == 3_000_000
        second = await client.post("/v1/tasks", json=body)
        assert (second.status_code, second.json()["name"]) == (402, "budget-exceeded")
        assert (await client.get("/v1/members")).json()["name"] == "not-allowed"
        assert (await client.post("/v1/agents", json={"agent": {"name": "x"}})).json()["name"] == "not-allowed"


async def test_keys_are_made_used_and_revoked(live: Live) -> None:
    async with live.client("admin") as client:
        made = (await client.post("/v1/keys", json={"name": "ci", "role": "caller", "budget": "2"})).json()
        live.tokens["ci"] = made["key"]
        async with live.client("ci") as other:
            assert (await other.post("/v1/tasks", json={"agentId": live.agent, "type": "echo"})).status_code == 200
            assert (await other.post("/v1/tasks", json={"agentId": live.agent, "type": "echo"})).json()["name"] == "budget-exceeded"
            listed = (await client.get("/v1/keys")).json()["keys"]
            assert made["key"] not in json.dumps(listed)
            assert next(one for one in listed if one["id"] == made["id"])["spent"] == "2"
            assert (await client.delete(f"/v1/keys/{made['id']}")).status_code == 200
            assert (await other.get("/v1/status")).json()["name"] == "unknown-api-key"
        assert (await client.delete(f"/v1/keys/{made['id']}")).json()["name"] == "no-such-api-key"


async def test_an_address_that_guesses_keys_is_not_heard(live: Live) -> None:
    async with live.client("") as client:
        names = [
            (await client.get("/v1/status", headers={"Authorization": "Bearer mk_1_2"})).json()["name"]
            for _ in range(int(limits.FAILED_KEYS_BURST) + 10)
        ]
    assert names[0] == "unknown-api-key"
    assert names[-1] == "rate-limited"


async def test_a_key_has_a_rate(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    burst = 20
    monkeypatch.setitem(limits.RATES, "read", (0.001, float(burst)))  # on a busy machine the usual rate is faster than this test
    live.tokens["slow"] = live.keys.mint("slow", "read")
    answers = 0
    async with live.client("slow") as client:
        for _ in range(burst + 10):
            answer = await client.get("/v1/nothing")
            answers += 1
            if answer.status_code == 429:
                break
        assert answer.json()["name"] == "rate-limited"
        assert answer.headers["retry-after"] == "1"
        assert answers > burst
    async with live.client("admin") as client:
        assert (await client.get("/v1/status")).status_code == 200, "others are not disturbed"


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("/v1/tasks", b"", "JSON"),
        ("/v1/tasks", b"{", "JSON"),
        ("/v1/tasks", b"[]", "object"),
        ("/v1/tasks", b"null", "object"),
        ("/v1/tasks", b"\xff\xfe", "JSON"),
        ("/v1/tasks", b'{"type":"x"}', "agentId"),
        ("/v1/tasks", b'{"agentId":1,"type":"x"}', "agentId"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","timeout":"5"}', "timeout"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","timeout":0}', "timeout"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","timeout":1e9}', "timeout"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","timeout":NaN}', "timeout"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","priority":10}', "priority"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","data":[]}', "data"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","data":{"x":1e999}}', "finite"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","data":{"x":99999999999999999999}}', "64 bits"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","data":{"x":"\\ud800"}}', "JSON"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","data":' + b'{"a":' * 30 + b"1" + b"}" * 31, "nested"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","data":' + b'{"a":' * 9999, "recursion"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","budget":"1.1234567"}', "amount"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","budget":"-1"}', "amount"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","files":{"f":{"filename":"../x","content":""}}}', "path"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","files":{"f":{"filename":"x","content":"%%"}}}', "base64"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","misspelt":1}', "misspelt"),
        ("/v1/tasks", b'{"agentId":"a","type":"x","idempotencyKey":""}', "idempotencyKey"),
        ("/v1/discover", b'{"query":""}', "query"),
        ("/v1/discover", b'{"query":"x","limit":0}', "limit"),
        ("/v1/discover", b'{"query":"x","limit":true}', "limit"),
        ("/v1/discover", b'{"query":"x","filters":{"maxlatency":1}}', "maxlatency"),
        ("/v1/discover", b'{"query":"x","filters":{"trustScore":70}}', "trustScore"),
        ("/v1/discover", b"{}", "query"),
        ("/v1/discover", b'{"query":"x","related":"a-1"}', "related"),
        ("/v1/discover", b'{"related":""}', "related"),
        ("/v1/discover", b'{"related":7}', "related"),
        ("/v1/discover", b'{"query":"x","filters":{"exclude":{"region":["x"]}}}', "exclude.region"),
        ("/v1/discover", b'{"query":"x","filters":{"exclude":{"regions":"x"}}}', "exclude.regions"),
        ("/v1/discover", b'{"query":"x","filters":{"exclude":{"capabilities":[' + b'"x",' * 64 + b'"x"]}}}', "exclude.capabilities"),
        ("/v1/discover", b'{"query":"x","filters":{"exclude":{"organisations":[""]}}}', "exclude.organisations"),
        ("/v1/discover", b'{"query":"x","weigh":{"trust":1.1}}', "weigh.trust"),
        ("/v1/discover", b'{"query":"x","weigh":{"trust":-1}}', "weigh.trust"),
        ("/v1/discover", b'{"query":"x","weigh":{"price":NaN}}', "weigh.price"),
        ("/v1/discover", b'{"query":"x","weigh":{"price":"1"}}', "weigh.price"),
        ("/v1/discover", b'{"query":"x","weigh":{"uptime":1}}', "weigh.uptime"),
        ("/v1/discover", b'{"query":"x","facets":1}', "facets"),
        ("/v1/discover", b'{"query":"x","cursor":""}', "cursor"),
        ("/v1/discover", b'{"query":"x","cursor":"' + b"A" * 129 + b'"}', "cursor"),
        ("/v1/agents", b'{"agent":"name: x"}', "agent"),
        ("/v1/agents", b'{"agent":{}}', "name"),
        ("/v1/publish", b'{"lines":"x"}', "lines"),
        ("/v1/keys", b'{"name":"x","role":"agent"}', "role"),
    ],
)
async def test_wrong_bodies_say_where(live: Live, path: str, body: bytes, where: str) -> None:
    async with live.client() as client:
        answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, answer.text
        document = answer.json()
        assert document["name"] in ("bad-request", "bad-amount", "bad-agent-file")
        assert where.lower() in document["detail"].lower()
        assert document["outcome"] == "not_done"
        assert document["exit"] == 2
    assert live.node.runs == 0


async def test_routes_methods_and_content_types(live: Live) -> None:
    async with live.client() as client:
        assert (await client.get("/v2/tasks")).json()["name"] == "no-such-route"
        assert (await client.put("/v1/tasks", json={})).json()["name"] == "method-not-allowed"
        form = await client.post("/v1/tasks", content=b"{}", headers={"Content-Type": "text/plain"})
        assert (form.status_code, form.json()["name"]) == (415, "not-json")
        assert (await client.post("/v1/tasks", json={"agentId": "a-0", "type": "echo"})).status_code == 404
        assert (await client.post("/v1/tasks", json={"agentId": live.agent, "type": "nothing"})).json()["name"] == "no-such-task-type"
    async with live.client("") as client:
        assert (await client.get("/v2/tasks")).status_code == 401, "strangers do not learn what there is"


async def test_a_bug_is_a_problem_without_its_insides(live: Live) -> None:
    async with live.client() as client:
        answer = await client.post("/v1/tasks", json={"agentId": live.agent, "type": "crash"}, headers={"X-Request-Id": "b-1"})
        assert (answer.status_code, answer.json()["name"], answer.json()["exit"]) == (500, "internal", 70)
        assert "b-1" in answer.json()["detail"]
        assert "on purpose" not in answer.text
        assert (await client.get("/v1/status")).status_code == 200


async def test_oversized_bodies(live: Live) -> None:
    async with live.client() as client:
        data = {"agentId": live.agent, "type": "echo", "data": {"x": "x" * (limits.DATA_BYTES + 1)}}
        answer = await client.post("/v1/tasks", json=data)
        assert (answer.status_code, answer.json()["name"]) == (413, "too-large")
        answer = await client.post("/v1/discover", content=b"x" * (3 * limits.BODY_BYTES), headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["name"]) == (413, "too-large")

        async def endless() -> object:
            for _ in range(200):
                yield b" " * 65536

        answer = await client.post("/v1/discover", content=endless(), headers={"Content-Type": "application/json"})  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["name"]) == (413, "too-large")
        assert (await client.get("/v1/status")).status_code == 200
    declared = await raw(live, head(live, "Content-Length: 99999999999999999999"), patience=2)
    assert problem(declared)["name"] == "too-large"
    assert live.node.runs == 0


async def test_refused_bodies_never_hold_a_connection(live: Live) -> None:
    """A body that nobody reads fills the server's queue; the connection has to end all the same."""
    body = b" " * (4 * limits.DRAIN_BYTES)
    request = head(live, f"Content-Length: {len(body)}", path="/v1/discover").replace(b"Bearer mk_", b"Bearer mx_")
    stream = await trio.open_tcp_stream("127.0.0.1", live.port())
    with trio.fail_after(15):
        try:
            await stream.send_all(request + body)
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass
    await stream.aclose()
    async with live.client() as client:
        with trio.fail_after(10):
            while "mesh_api_requests_running 1.0" not in (await client.get("/metrics")).text:
                await trio.sleep(0.05)


async def test_header_floods(live: Live) -> None:
    flood = await raw(live, head(live, *[f"X-{i}: {'y' * 100}" for i in range(1000)], method="GET"))
    assert flood.startswith(b"HTTP/1.1 431") or flood.startswith(b"HTTP/1.1 400")
    assert (await raw(live, b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")
    assert (await raw(live, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 400"), "no Host"
    assert await raw(live, b"\x16\x03\x01\x02\x00\x01\x00" * 20) is not None
    async with live.client() as client:
        assert (await client.get("/v1/status")).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "[::2]", ""])
async def test_foreign_hosts_are_refused(live: Live, host: str) -> None:
    answer = await raw(live, head(live, "Connection: close", method="GET", path="/healthz", host=host))
    assert answer.startswith(b"HTTP/1.1 421"), answer[:200]
    assert problem(answer)["name"] == "wrong-host"


async def test_own_hosts_and_foreign_origins(live: Live) -> None:
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:8101"):
        assert (await raw(live, head(live, "Connection: close", method="GET", path="/healthz", host=host))).startswith(b"HTTP/1.1 200")
    async with live.client() as client:
        for origin, status in [("http://evil.example", 403), ("null", 403), (live.url, 200)]:
            answer = await client.get("/v1/status", headers={"Origin": origin})
            assert answer.status_code == status, origin
            assert "access-control-allow-origin" not in answer.headers


async def test_a_body_that_dribbles_is_cut_off(hasty: Live) -> None:
    answer = await raw(hasty, head(hasty, "Content-Length: 100", path="/v1/discover") + b'{"query":')
    assert answer.startswith(b"HTTP/1.1 408")
    assert problem(answer)["name"] == "body-timeout"


async def test_too_many_at_once_is_busy(hasty: Live) -> None:
    async with hasty.client() as client:
        made = (await client.post("/v1/agents", json={"agent": {"name": "Clock"}})).json()
        body = {"agentId": made["agentId"], "type": "sleep", "data": {"seconds": 600}, "timeout": 600}
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(lambda: client.post("/v1/tasks", json=body))
            with trio.fail_after(5):
                while len(hasty.node.scopes) < 2:
                    await trio.sleep(0.01)
            answer = await client.get("/v1/status")
            assert (answer.status_code, answer.json()["name"]) == (503, "busy")
            nursery.cancel_scope.cancel()


async def test_a_reader_that_stops_reading_is_let_go(live: Live) -> None:
    """The server's writes to it end (TCP_USER_TIMEOUT), and meanwhile everybody else is served."""
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect(("127.0.0.1", live.port()))
    body = json.dumps({"agentId": live.agent, "type": "text", "data": {"size": 30_000_000}}).encode()
    stuck.sendall(head(live, f"Content-Length: {len(body)}") + body)
    async with live.client() as client:
        for _ in range(20):
            assert (await client.get("/v1/status")).status_code == 200
    stuck.close()


def _h2(*frames: bytes) -> bytes:
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize() + b"".join(frames)


def _h2_request(*headers: tuple[bytes, bytes], end: bool = True) -> bytes:
    flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
    return HeadersFrame(1, Encoder().encode(headers), flags=flags).serialize()


UPGRADE = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: %b\r\n\r\n"
LOCAL = ((b":scheme", b"http"), (b":authority", b"localhost"))


@pytest.mark.parametrize(
    "said",
    [
        UPGRADE % b"A",
        UPGRADE % b"AAAA",
        _h2(_h2_request((b":method", b"CONNECT"), (b":authority", b"localhost"))),
        _h2(_h2_request((b":method", b"G\xc3\x84T"), (b":path", b"/"), *LOCAL)),
        _h2(
            _h2_request((b":method", b"POST"), (b":path", b"/v1/tasks"), *LOCAL, end=False),
            DataFrame(1, b"x" * 10).serialize(),
            DataFrame(3, b"for a stream that never was").serialize(),
        ),
        _h2(b"\xff" * 200),
        _h2() * 2,
    ],
    ids=["settings not base64", "settings cut", "connect", "method not ascii", "data of no stream", "noise", "preface twice"],
)
async def test_http2_that_is_wrong_ends_its_own_connection_alone(live: Live, said: bytes) -> None:
    """What hypercorn raises for these comes before the gate, from whoever reaches the port."""
    _, _, address = live.url.partition("://")
    host, _, port = address.partition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    with trio.fail_after(30):
        await stream.send_all(said)
        try:
            await stream.send_eof()
            while await stream.receive_some(65_536):
                pass
        except trio.BrokenResourceError:
            pass  # reset: an end too
    async with live.client() as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_a_body_that_goes_on_after_its_refusal_over_http2_disturbs_nobody(live: Live) -> None:
    _, _, address = live.url.partition("://")
    host, _, port = address.partition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    with trio.fail_after(30):
        await stream.send_all(_h2(_h2_request((b":method", b"POST"), (b":path", b"/v1/tasks"), *LOCAL, end=False)))
        got = b""
        while b"no-key" not in got:
            got += await stream.receive_some(65_536)
        await stream.send_all(DataFrame(1, b"x" * 10).serialize())
        await stream.aclose()
    async with live.client() as client:
        assert (await client.get("/healthz")).status_code == 200


async def test_an_encoded_slash_is_part_of_an_id_and_parts_no_path(live: Live) -> None:
    async with live.client() as client:
        for method, part, meant in [
            ("GET", "..%2Fmembers", "../members"),
            ("DELETE", "a%2fb", "a/b"),
            ("GET", "a%252Fb", "a%2Fb"),
            ("GET", "a%25b", "a%b"),
        ]:
            answer = await client.request(method, f"/v1/agents/{part}")
            problem = answer.json()
            assert (answer.status_code, problem["name"]) == (404, "no-such-agent"), problem
            assert f"no agent {meant} is known" in problem["detail"]
        assert (await client.get(f"/v1/agents/{live.agent.replace('-', '%2D')}")).json()["agentId"] == live.agent
        assert (await client.get("/v1/%61gents")).status_code == 200


async def test_an_empty_id_is_no_path_and_sends_nobody_elsewhere(live: Live) -> None:
    async with live.client() as client:
        for method in ("GET", "DELETE"):
            answer = await client.request(method, "/v1/agents/")
            assert (answer.status_code, answer.json()["name"]) == (404, "no-such-route")
