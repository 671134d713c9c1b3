"""The rpc machine: one answer to every Ask, in time; one run of every id; the right word on what was done."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.effects import Err, Ok
from meshos.errors import Broken, Failed, MeshError, Refused
from meshos.flow import Ask, Cancelled, Sleep
from meshos.flow_machine import Abandon
from meshos.ids import NodeId
from meshos.protocols.rpc import limits
from meshos.protocols.rpc.asking import ttl_ms
from meshos.protocols.rpc.events import Cancel, Inbound, LinkDown, MessageReceived, NotSent, OpenLink, Reply, Request, SendMessage
from tests.rpc.network import Asked, Faults, Network

ECHO, SLOW, FAIL, BIG, ODD = "/t/echo/1", "/t/slow/1", "/t/fail/1", "/t/big/1", "/t/odd/1"


class World:
    """Services that count what they do."""

    def __init__(self) -> None:
        self.runs: Counter[bytes] = Counter()
        self.cancelled: list[bytes] = []
        self.services = {ECHO: self.echo, SLOW: self.slow, FAIL: self.fail, BIG: self.big, ODD: self.odd}

    async def echo(self, request: Inbound) -> bytes:
        self.runs[request.body] += 1
        return request.body

    async def slow(self, request: Inbound) -> bytes:
        self.runs[request.body] += 1
        try:
            await Sleep(0.3)
        except Cancelled:
            self.cancelled.append(request.body)
            raise
        return request.body

    async def fail(self, request: Inbound) -> bytes:
        self.runs[request.body] += 1
        raise Failed("no-such-agent", "there is none", outcome="done")

    async def big(self, request: Inbound) -> bytes:
        return bytes(int(request.body))

    async def odd(self, request: Inbound) -> str:
        return "text"


def ask(to: str, protocol: str = ECHO, body: bytes = b"hello", timeout_s: float = 5.0, retries: int = 2, lane: str = "work") -> Ask:
    return Ask(NodeId(to), protocol, body, timeout_s, retries, lane)  # type: ignore[arg-type]


def error_of(asked: Asked) -> MeshError:
    ((_, completed),) = asked.ends
    assert isinstance(completed.outcome, Err), completed
    return completed.outcome.error


def value_of(asked: Asked) -> object:
    ((_, completed),) = asked.ends
    assert isinstance(completed.outcome, Ok), completed
    return completed.outcome.value


def lanes(network: Network, kind: str) -> list[str]:
    return [line.split("lane=")[1].split(" ")[0] for line in network.log if f" {kind} id=" in line]


def quiet(network: Network) -> None:
    """After the last deadline and the last record, every table is empty."""
    network.run(network.now + limits.TTL_MAX_S + 100)
    for node in network.nodes.values():
        rpc = node.machines["rpc"].statistics()
        held = {name: rpc[name] for name in ("in_flight", "timers", "links_wanted", "peers_asked", "running", "records", "record_bytes")}
        assert not any(held.values()), held
        assert node.machines["rpc"].deadline() is None
        assert not any(node.machines["flows"].statistics().values())


def test_an_ask_opens_a_link_and_gets_its_answer() -> None:
    world = World()
    network = Network("ab", world.services)
    asked = network.ask("a", ask("b"))
    network.run(1.0)
    assert value_of(asked) == b"hello" and network.messages == {"Request": 1, "Reply": 1}
    quiet(network)


def test_errors_cross_the_wire_as_they_are() -> None:
    network = Network("ab", World().services)
    asked = network.ask("a", ask("b", FAIL))
    odd = network.ask("a", ask("b", ODD))
    network.run(1.0)
    error = error_of(asked)
    assert type(error) is Failed and (error.name, error.detail, error.outcome) == ("no-such-agent", "there is none", "done")
    assert isinstance(error_of(odd), Broken) and [type(r.error) for r in network.reports] == [TypeError]


def test_asking_oneself_needs_no_link_and_obeys_the_same_rules() -> None:
    world = World()
    network = Network("a", world.services, allowed={ECHO: lambda peer: True, SLOW: lambda peer: False})
    echo, slow, unknown = network.ask("a", ask("a")), network.ask("a", ask("a", SLOW)), network.ask("a", ask("a", "/t/none/1"))
    assert value_of(echo) == b"hello"
    assert error_of(slow).name == "not-allowed" and error_of(unknown).name == "unknown-protocol"
    assert not network.messages
    quiet(network)


def test_who_is_not_allowed_is_refused_and_nothing_runs() -> None:
    world = World()
    network = Network("abc", world.services, allowed={ECHO: lambda peer: peer.node == "c"})
    refused, allowed = network.ask("a", ask("b")), network.ask("c", ask("b"))
    network.run(1.0)
    assert isinstance(error_of(refused), Refused) and error_of(refused).outcome == "not_done" and value_of(allowed) == b"hello"
    assert world.runs == {b"hello": 1}


def test_the_deadline_shrinks_along_the_way_and_ends_both_sides() -> None:
    world = World()
    network = Network("ab", world.services)
    asked = network.ask("a", ask("b", SLOW, timeout_s=0.2))
    network.run(0.2)
    error = error_of(asked)
    assert (error.name, error.outcome) == ("deadline-exceeded", "unknown")
    assert asked.ends[0][0] <= asked.deadline
    assert world.cancelled == [b"hello"], "the other side had stopped by then"
    assert ttl_ms(0.2) < 200 and ttl_ms(10.0) == 10_000 - limits.HOP_MARGIN_MAX_MS and ttl_ms(0.002) < 1


def test_who_gives_up_says_so() -> None:
    network = Network("ab", World().services)
    asked = network.ask("a", ask("b", timeout_s=0.2))
    network.run(0.0055)
    network.faults.loss = 1.0  # the reply and all that follows
    network.run(0.2)
    assert (error_of(asked).name, error_of(asked).outcome, asked.ends[0][0]) == ("deadline-exceeded", "unknown", 0.2)
    assert network.messages["Cancel"] == 1


def test_no_time_left_is_an_answer_at_once() -> None:
    network = Network("ab", World().services)
    asked = network.ask("a", ask("b"), deadline=0.0)
    assert (error_of(asked).name, error_of(asked).outcome) == ("deadline-exceeded", "not_done")
    assert not network.messages


def test_abandoning_reaches_the_running_flow_and_nobody_is_told() -> None:
    world = World()
    network = Network("ab", world.services)
    asked = network.ask("a", ask("b", SLOW))
    network.run(0.1)
    network.step("a", "rpc", Abandon(1, asked.ask, reply_to="test"))
    network.run(0.2)
    assert world.cancelled == [b"hello"] and not asked.ends
    network.step("a", "rpc", Abandon(1, asked.ask, reply_to="test"))  # once more changes nothing
    quiet(network)


def test_a_cancel_that_overtakes_its_request_keeps_it_from_running() -> None:
    world = World()
    network = Network("ab", world.services)
    peer = network.nodes["a"].peer
    network.step("b", "rpc", MessageReceived(peer, Cancel(b"i" * 16), "control"))
    network.step("b", "rpc", MessageReceived(peer, Request(b"i" * 16, ECHO, b"late", 1000)))
    assert not world.runs


def test_a_repeated_id_gets_the_recorded_reply_and_a_running_one_is_joined() -> None:
    world = World()
    network = Network("abc", world.services)
    network.ask("a", ask("b"))
    network.run(0.1)
    a, c = network.nodes["a"].peer, network.nodes["c"].peer
    request = Request(b"i" * 16, SLOW, b"once", 1000)
    for _ in range(3):
        network.step("b", "rpc", MessageReceived(a, request))
    network.run(1.0)
    for _ in range(2):
        network.step("b", "rpc", MessageReceived(a, request))
    assert world.runs[b"once"] == 1
    statistics = network.nodes["b"].machines["rpc"].statistics()
    assert (statistics["joined"], statistics["repeated"]) == (2, 2)
    assert network.messages["Reply"] == 1 + 3
    network.step("b", "rpc", MessageReceived(c, request))
    assert world.runs[b"once"] == 2, "the id of another peer is another request"


def test_what_the_asker_has_settled_is_not_kept_and_never_runs_again() -> None:
    world = World()
    network = Network("ab", world.services)
    for n in range(100):
        assert value_of(_answered(network, ask("b", body=str(n).encode()))) == str(n).encode()
    statistics = network.nodes["b"].machines["rpc"].statistics()
    assert statistics["records"] == 1, "the last one, of which nobody has said yet that it arrived"
    late = Request(_first_id(network), ECHO, b"0", 1000)
    network.step("b", "rpc", MessageReceived(network.nodes["a"].peer, late))
    assert world.runs[b"0"] == 1
    slow = network.ask("a", ask("b", SLOW))
    for n in range(5):
        _answered(network, ask("b", body=b"after %d" % n), 0.01)
    assert network.nodes["b"].machines["rpc"].statistics()["records"] == 5, "while an older one waits, all later ones are kept"
    network.run(network.now + 1)
    assert value_of(slow) == b"hello"
    quiet(network)


def _answered(network: Network, request: Ask, seconds: float = 0.1) -> Asked:
    asked = network.ask("a", request)
    network.run(network.now + seconds)
    return asked


def _first_id(network: Network) -> bytes:
    line = next(line for line in network.log if " Request id=" in line)
    return bytes.fromhex(line.split("id=")[1].split(" ")[0])


def test_a_lost_request_and_a_lost_reply_are_made_good_by_the_same_id() -> None:
    for seed in range(20):
        world = World()
        network = Network("ab", world.services, faults=Faults(loss=0.3), seed=seed)
        asked = network.ask("a", ask("b", timeout_s=10.0, retries=20))
        network.run(10.0)
        assert value_of(asked) == b"hello" and world.runs == {b"hello": 1}


def test_a_node_that_cannot_be_reached_was_surely_not_asked() -> None:
    network = Network("a", World().services)
    asked = network.ask("a", ask("nobody", timeout_s=10.0))
    network.run(10.0)
    error = error_of(asked)
    assert (error.name, error.outcome) == ("peer-unreachable", "not_done")
    assert asked.ends[0][0] < 1.0, "the retries end long before the deadline"
    assert sum("OpenLink" in line for line in network.log) == 3
    quiet(network)


def test_a_link_that_ends_leaves_the_outcome_unknown_unless_the_message_surely_stayed_here() -> None:
    network = Network("ab", World().services)
    sent = network.ask("a", ask("b", SLOW, retries=0))
    network.run(0.1)
    network.cut("a", "b")
    assert error_of(sent).outcome == "unknown"
    kept = network.ask("a", ask("b", SLOW, retries=0))
    network.faults.not_sent = 1.0
    network.run(0.2)
    assert error_of(kept).outcome == "not_done"


def test_a_link_that_ends_is_opened_again_and_the_reply_is_found() -> None:
    world = World()
    network = Network("ab", world.services)
    asked = network.ask("a", ask("b", SLOW))
    network.run(0.1)
    network.cut("a", "b")
    network.run(5.0)
    assert value_of(asked) == b"hello" and world.runs == {b"hello": 1}
    quiet(network)


def test_a_refused_link_is_not_tried_again() -> None:
    network = Network("a", World().services)
    asked = network.ask("a", ask("x"))
    network.step("a", "rpc", LinkDown(NodeId("x"), "wrong-genesis", "another mesh", refused=True))
    assert isinstance(error_of(asked), Refused) and error_of(asked).name == "wrong-genesis"


def test_too_many_requests_to_one_peer_are_busy_at_once_and_others_go_on() -> None:
    network = Network("abc", World().services)
    asks = [network.ask("a", ask("b", SLOW, body=str(n).encode(), retries=0)) for n in range(limits.ASKS_PER_PEER + 5)]
    other = network.ask("a", ask("c"))
    assert [len(each.ends) for each in asks[-6:]] == [0, 1, 1, 1, 1, 1]
    assert error_of(asks[-1]).name == "busy" and error_of(asks[-1]).outcome == "not_done"
    network.run(1.0)
    assert value_of(other) == b"hello" and all(isinstance(each.ends[0][1].outcome, Ok) for each in asks[:-5])


def test_the_serving_side_has_a_limit_of_its_own_and_what_was_not_taken_in_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.protocols.rpc.serving.SERVED_PER_PEER", 2)
    world = World()
    network = Network("ab", world.services, seed=3)
    asks = [network.ask("a", ask("b", SLOW, body=bytes([n]), retries=6, timeout_s=10.0)) for n in range(4)]
    given_up = network.ask("a", ask("b", SLOW, body=b"no retries", retries=0))
    network.run(10.0)
    assert [value_of(each) for each in asks] == [bytes([n]) for n in range(4)]
    assert all(count == 1 for count in world.runs.values())
    assert (error_of(given_up).name, error_of(given_up).outcome) == ("busy", "not_done") and b"no retries" not in world.runs
    quiet(network)


def test_replies_choose_their_lane_by_size_and_above_the_last_are_refused() -> None:
    network = Network("ab", World().services)
    sizes = [10, limits.BODY_BYTES["control"] + 1, limits.BODY_BYTES["work"] + 1, limits.BODY_BYTES["bulk"] + 1]
    for lane, expected in (("control", ["control", "work", "bulk"]), ("work", ["work", "work", "bulk"])):
        network.log.clear()
        for size, _ in zip(sizes, expected, strict=False):
            asked = network.ask("a", ask("b", BIG, str(size).encode(), lane=lane))
            network.run(network.now + 1)
            assert value_of(asked) == bytes(size)
        assert lanes(network, "Reply") == expected
    asked = network.ask("a", ask("b", BIG, str(sizes[-1]).encode()))
    network.run(network.now + 1)
    assert (error_of(asked).name, error_of(asked).outcome) == ("result-too-large", "done")
    asked = network.ask("a", ask("b", body=bytes(limits.BODY_BYTES["bulk"] + 1)))
    assert (error_of(asked).name, error_of(asked).outcome) == ("request-too-large", "not_done")
    asked = network.ask("a", ask("b", body=bytes(limits.BODY_BYTES["work"] + 1), lane="control"))
    assert lanes(network, "Request")[-1] == "bulk"


def test_a_reply_that_finds_no_room_is_asked_for_again() -> None:
    world = World()
    network = Network("ab", world.services, seed=1)
    asked = network.ask("a", ask("b", body=b"x" * 1000))
    network.run(0.0065)
    assert world.runs and not asked.ends
    reply = Reply(_id_of(network), Ok(b"x" * 1000))
    network._heap.clear()  # the reply that is on its way is lost
    network.step("b", "rpc", NotSent(NodeId("a"), reply, "busy"))
    network.run(2.0)
    assert value_of(asked) == b"x" * 1000 and sum(world.runs.values()) == 1


def _id_of(network: Network) -> bytes:
    (request,) = [line for line in network.log if " Request id=" in line]
    return bytes.fromhex(request.split("id=")[1].split(" ")[0])


def test_old_bodies_give_way_but_their_ids_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.protocols.rpc.records.RECORD_BYTES", 2500)
    world = World()
    network = Network("ab", world.services)
    peer = network.nodes["a"].peer
    network.ask("a", ask("b"))
    network.run(0.1)
    for n in range(4):
        network.step("b", "rpc", MessageReceived(peer, Request(bytes([n]) * 16, ECHO, bytes([n]) * 1000, 1000)))
    network.log.clear()
    network.step("b", "rpc", MessageReceived(peer, Request(bytes(16), ECHO, bytes(1000), 1000)))
    assert world.runs[bytes(1000)] == 1 and "reply-not-kept" in network.log[-1]
    assert network.nodes["b"].machines["rpc"].statistics()["record_bytes"] <= 2500


def test_a_large_reply_is_let_go_once_it_has_arrived() -> None:
    network = Network("ab", World().services)
    size = limits.BODY_BYTES["work"] + 1
    asked = network.ask("a", ask("b", BIG, str(size).encode()))
    network.run(1.0)
    assert value_of(asked) == bytes(size)
    statistics = network.nodes["b"].machines["rpc"].statistics()
    assert (statistics["records"], statistics["record_bytes"]) == (1, 0)


def test_the_bodies_of_running_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.protocols.rpc.serving.SERVED_BYTES_PER_PEER", 2500)
    network = Network("ab", World().services)
    asks = [network.ask("a", ask("b", SLOW, bytes([n]) * 1000, retries=0)) for n in range(3)]
    network.run(1.0)
    assert [isinstance(each.ends[0][1].outcome, Ok) for each in asks] == [True, True, False]
    assert error_of(asks[2]).name == "busy"
    quiet(network)


def test_records_are_bounded_per_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshos.protocols.rpc.records.RECORDS_PER_PEER", 10)
    network = Network("ab", World().services)
    peer = network.nodes["a"].peer
    for n in range(30):
        network.step("b", "rpc", MessageReceived(peer, Request(bytes([n]) * 16, ECHO, b"x", 1000)))
        network.step("b", "rpc", MessageReceived(peer, Cancel(bytes([n + 100]) * 16)))
    assert network.nodes["b"].machines["rpc"].statistics()["records"] == 10
    quiet(network)


def test_the_retry_budget_keeps_a_sick_peer_from_being_flooded() -> None:
    network = Network("ab", World().services, faults=Faults(refuse_open=1.0))
    for n in range(200):
        network.ask("a", ask("b", body=str(n).encode(), retries=5, timeout_s=3.0))
    network.run(5.0)
    statistics = network.nodes["a"].machines["rpc"].statistics()
    assert statistics["failed"] == 200 and statistics["retries"] <= limits.RETRY_BUDGET + 200 * limits.RETRY_DEPOSIT + 5


def test_a_reply_of_somebody_else_is_not_believed() -> None:
    network = Network("abc", World().services, faults=Faults(loss=1.0))
    asked = network.ask("a", ask("b", timeout_s=1.0))
    network.run(0.1)
    network.step("a", "rpc", MessageReceived(network.nodes["c"].peer, Reply(_id_of(network), Ok(b"forged"))))
    assert not asked.ends


def test_an_unanswered_open_is_asked_again_and_the_deadline_holds() -> None:
    network = Network("ab", World().services)
    network._open = lambda name, to: None  # type: ignore[method-assign]
    asked = network.ask("a", ask("b", timeout_s=25.0))
    network.run(30.0)
    assert (error_of(asked).name, error_of(asked).outcome) == ("deadline-exceeded", "not_done") and asked.ends[0][0] == 25.0
    assert sum(OpenLink.__name__ in line for line in network.log) == 3


def test_events_of_no_use_are_a_bug() -> None:
    network = Network("a", {})
    with pytest.raises(TypeError):
        network.step("a", "rpc", SendMessage(NodeId("b"), "work", Cancel(b"")))


def random_run(seed: int, faults: Faults) -> tuple[Network, World, list[Asked]]:
    world, rng = World(), random.Random(seed)
    network = Network("abc", world.services, faults=faults, seed=seed)
    asks: list[Asked] = []
    for n in range(40):
        network.run(network.now + rng.random() * 0.2)
        to = rng.choice("abcx")
        protocol, body = rng.choice([ECHO, SLOW, FAIL]), str(n).encode()
        asks.append(network.ask(rng.choice("abc"), ask(to, protocol, body, rng.choice([0.05, 0.5, 3.0]), rng.randrange(4))))
    network.run(network.now + 10)
    return network, world, asks


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.builds(
        Faults,
        loss=st.sampled_from([0, 0.05, 0.5]),
        double=st.sampled_from([0, 0.3]),
        jitter_s=st.sampled_from([0, 0.2]),
        flap_s=st.sampled_from([0, 0.2]),
        refuse_open=st.sampled_from([0, 0.3]),
        not_sent=st.sampled_from([0, 0.2]),
    ),
)
def test_whatever_the_network_does(seed: int, faults: Faults) -> None:
    network, world, asks = random_run(seed, faults)
    for asked in asks:
        assert len(asked.ends) == 1, "every Ask completes exactly once"
        at, completed = asked.ends[0]
        assert at <= asked.deadline + 1e-9
        body = asked.ask.body
        if isinstance(completed.outcome, Ok):
            assert completed.outcome.value == body and world.runs[body] == 1
        elif completed.outcome.error.outcome == "not_done" and not faults.double:
            assert world.runs[body] == 0, completed
    assert all(count == 1 for count in world.runs.values()), "no id is run twice"
    assert not network.reports
    quiet(network)


def test_the_same_seed_gives_the_same_decisions() -> None:
    faults = Faults(loss=0.1, double=0.1, jitter_s=0.05, flap_s=0.5, refuse_open=0.1, not_sent=0.05)
    logs = [random_run(7, faults)[0].log for _ in range(2)]
    assert logs[0] == logs[1] and len(logs[0]) > 100
