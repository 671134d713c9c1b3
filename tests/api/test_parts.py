"""The parts under the API: keys at rest, rates, amounts, replays, events, JSON in pieces, sockets."""

import json
import socket
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos import cbor
from meshos.errors import BadInput, Refused
from meshos.node.api import amounts, json_text, limits
from meshos.node.api.app import build
from meshos.node.api.event_log import EventLog
from meshos.node.api.keys import KeyRing
from meshos.node.api.rates import Bucket, Strangers
from meshos.node.api.replays import Answer, Replays
from meshos.node.api.server import Listen, keep_keys, open_socket, serve
from meshos.node.api.server import settings as settings_of
from tests.api.memory_node import MemoryNode


def test_keys_are_hashed_at_rest_and_survive(tmp_path: Path) -> None:
    ring = KeyRing()
    token = ring.mint("ops", "operator", budget_micro=5_000_000)
    mine = ring.mint("process", "agent", kept=False)
    key = ring.find(token)
    assert key is not None
    key.hold(2_000_000)
    key.settle(2_000_000, 1_500_000)
    path = tmp_path / "keys.json"
    ring.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in path.read_text()
    assert token.rpartition("_")[2] not in path.read_text()
    again = KeyRing.load(path)
    found = again.find(token)
    assert found is not None
    assert (found.role, found.left_micro()) == ("operator", 3_500_000)
    assert again.find(mine) is None, "an agent's key ends with its process"
    assert KeyRing.load(tmp_path / "none.json").all_keys() == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"keys":[{}]}',
        '{"keys":[{"id":"a","name":"b","role":"king","sha256":"00"}]}',
        '{"keys":[{"id":"a","name":"b","role":[],"budgetMicro":1,"spentMicro":0,"depth":8,"sha256":"00"}]}',
        pytest.param("[" * 200_000, id="deep"),
    ],
)
def test_a_damaged_key_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        KeyRing.load(path)
    assert caught.value.name == "bad-key-file"


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read: Is a directory") as caught:
        KeyRing.load(tmp_path)
    assert caught.value.name == "bad-key-file"


def test_a_key_file_that_is_too_large_is_named(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with path.open("wb") as file:
        file.truncate(limits.KEYS_FILE_BYTES + 1)
    with pytest.raises(BadInput, match="so it is something else") as caught:
        KeyRing.load(path)
    assert caught.value.name == "bad-key-file"


async def test_spent_budgets_are_written_down(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    ring = KeyRing()
    token = ring.mint("ops", "operator", budget_micro=5)
    path = tmp_path / "keys.json"
    ring.save(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_keys, ring, path)
        await trio.sleep(5)
        key = ring.find(token)
        assert key is not None
        key.hold(5)
        key.settle(5, 4)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    kept = KeyRing.load(path).find(token)
    assert kept is not None
    assert kept.spent_micro == 4


def test_a_purse_never_lends() -> None:
    ring = KeyRing()
    key = ring.find(ring.mint("a", "caller", budget_micro=10))
    assert key is not None
    key.hold(6)
    with pytest.raises(Refused, match="budget-exceeded"):
        key.hold(5)
    key.settle(6, 0)
    key.hold(10)
    key.settle(10, 99)
    assert key.left_micro() == 0


def test_a_bucket_refills_at_its_rate() -> None:
    bucket = Bucket(per_s=10, burst=2, tokens=2, filled_at=0)
    assert [bucket.take(0), bucket.take(0)] == [0, 0]
    assert bucket.take(0) == pytest.approx(0.1)
    assert bucket.take(0.1) == 0
    assert bucket.take(100) == 0
    assert bucket.take(100) == 0
    assert bucket.take(100) > 0, "it never holds more than its burst"


def test_strangers_are_counted_in_bounded_room() -> None:
    strangers = Strangers(size=3, per_s=1, burst=2)
    for address in ("a", "b", "c", "d"):
        strangers.count(address, 0)
        strangers.count(address, 0)
    assert strangers.wait_s("d", 0) > 0
    assert strangers.wait_s("a", 0) == 0, "the longest unused went first"


@given(st.integers(min_value=0, max_value=10**17))
def test_amounts_go_there_and_back(micro: int) -> None:
    assert amounts.micro(amounts.text(micro)) == micro


@pytest.mark.parametrize("text", ["", "MESH", "-1", "1.", ".5", "1.1234567", "1e3", "١", "1 000", "9" * 13, "10 MSH", "NaN"])
def test_wrong_amounts(text: str) -> None:
    with pytest.raises(BadInput, match="bad-amount"):
        amounts.micro(text)


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=200)
@given(_values)
def test_results_in_pieces_are_the_same_json(value: object) -> None:
    pieces = b"".join(json_text.result_pieces(cbor.encode(value)))
    assert json.loads(pieces) == value
    assert pieces == json_text.result_text(cbor.encode(value))


def test_long_texts_and_lists_come_in_small_pieces() -> None:
    value = {"text": 'ü"\U0001f600' * 200_000, "rows": [{"n": i} for i in range(1000)], "numbers": list(range(1000))}
    pieces = list(json_text.result_pieces(cbor.encode(value)))
    assert json.loads(b"".join(pieces)) == value
    assert max(map(len, pieces)) <= 12 * limits.PIECE_CHARS


def test_what_json_cannot_say_becomes_the_nearest() -> None:
    value = cbor.encode({"bytes": b"\x00\xff", "nan": float("nan"), "inf": float("inf")})
    assert json.loads(json_text.result_text(value)) == {"bytes": "AP8=", "nan": None, "inf": None}
    assert json.loads(b"".join(json_text.result_pieces(value))) == {"bytes": "AP8=", "nan": None, "inf": None}


async def test_replays_are_bounded_and_bound_to_their_body() -> None:
    replays = Replays(entries=3, size=100)
    for number in range(10):
        name = ("key", "/v1/tasks", str(number))
        assert await replays.begin(name, b"body") is None
        replays.end(name, Answer(200, b"x" * 40))
    assert await replays.begin(("key", "/v1/tasks", "9"), b"body") == Answer(200, b"x" * 40)
    assert await replays.begin(("key", "/v1/tasks", "0"), b"body") is None, "the oldest are forgotten"
    with pytest.raises(Refused, match="idempotency-conflict"):
        await replays.begin(("key", "/v1/tasks", "9"), b"other")


async def test_replays_refuse_when_all_are_running() -> None:
    replays = Replays(entries=2)
    for number in range(2):
        await replays.begin(("key", "/", str(number)), b"")
    with pytest.raises(Refused, match="busy"):
        await replays.begin(("key", "/", "3"), b"")


async def test_an_answer_that_was_not_kept_binds_the_key_all_the_same() -> None:
    replays = Replays()
    name = ("key", "/", "1")
    await replays.begin(name, b"body")
    replays.end(name, None)
    assert await replays.begin(name, b"body") is None, "the service is asked again"
    replays.end(name, Answer(200, b"x" * (limits.REPLAY_BODY_BYTES + 1)))
    with pytest.raises(Refused, match="idempotency-conflict"):
        await replays.begin(name, b"other")


async def test_a_repetition_takes_over_when_the_first_left_nothing() -> None:
    replays = Replays()
    name = ("key", "/", "1")
    await replays.begin(name, b"body")
    async with trio.open_nursery() as nursery:

        async def repeat() -> None:
            assert await replays.begin(name, b"body") is None

        nursery.start_soon(repeat)
        await trio.testing.wait_all_tasks_blocked()
        replays.drop(name)


async def test_a_slow_reader_of_events_is_told_what_it_missed() -> None:
    log = EventLog("run", lambda: 0, size=4)
    reader = log.read(None)
    for number in range(10):
        log.publish("tick", str(number), {})
    assert [(await reader.__anext__()).text for _ in range(3)] == ["6 events are no longer kept", "6", "7"]
    late = log.read("run-8")
    assert (await late.__anext__()).text == "8"
    await reader.aclose()
    await reader.aclose()
    await late.aclose()
    assert log.readers == 0


@pytest.mark.parametrize("since", ["", "run-", "run--5", "run-x", "run-" + "9" * 30, "-", "other-3"])
async def test_nonsense_ids_mean_from_the_oldest(since: str) -> None:
    log = EventLog("run", lambda: 0)
    log.publish("tick", "first", {})
    assert (await log.read(since).__anext__()).text == "first"


async def test_readers_of_events_are_counted() -> None:
    log = EventLog("run", lambda: 0)
    readers = [log.read(None) for _ in range(limits.EVENT_READERS)]
    with pytest.raises(Refused, match="busy"):
        log.read(None)
    await readers[0].aclose()
    log.read(None)


def test_only_loopback_checks_for_its_own_names() -> None:
    assert settings_of(Listen("127.0.0.1")).hosts == {"localhost", "127.0.0.1", "[::1]"}
    assert settings_of(Listen("::1")).hosts is not None
    assert settings_of(Listen("192.0.2.1")).hosts is None


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_beyond_loopback_only_with_tls(host: str) -> None:
    with pytest.raises(BadInput, match="plain-api"):
        open_socket(Listen(host))


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Refused, match="port-taken"):
            open_socket(Listen(port=taken.getsockname()[1]))


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(1))
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    certificate, private = folder / "api.pem", folder / "api.key"
    certificate.write_bytes(built.sign(key, None).public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return certificate, private


async def test_tls_with_both_versions_and_a_plain_client_refused(tmp_path: Path, nursery: trio.Nursery) -> None:
    certificate, key = _certificate(tmp_path)
    ring = KeyRing()
    headers = {"Authorization": f"Bearer {ring.mint('a', 'admin')}"}
    app = build(MemoryNode(), ring, settings=settings_of(Listen("0.0.0.0")))
    listen = Listen("127.0.0.1", 0, certificate, key)
    url = await nursery.start(lambda task_status: serve(app, listen, task_status=task_status))
    url = url.replace("127.0.0.1", "localhost")
    assert url.startswith("https://")
    trusting = ssl.create_default_context(cafile=certificate)
    for http2, version in [(False, "HTTP/1.1"), (True, "HTTP/2")]:
        async with httpx.AsyncClient(verify=trusting, http2=http2, headers=headers) as client:
            answer = await client.get(f"{url}/v1/status")
            assert (answer.status_code, answer.http_version) == (200, version)
    async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(url.replace("https", "http") + "/v1/status")
    nursery.cancel_scope.cancel()


async def test_the_server_ends_when_it_is_told_to(nursery: trio.Nursery) -> None:
    over = trio.Event()
    ring = KeyRing()
    ended = trio.Event()
    url = ""

    async def run(task_status: trio.TaskStatus[str]) -> None:
        await serve(build(MemoryNode(), ring), Listen(), shutdown_trigger=over.wait, task_status=task_status)
        ended.set()

    url = await nursery.start(run)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{url}/healthz")).status_code == 200
    over.set()
    with trio.fail_after(10):
        await ended.wait()
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{url}/healthz")
