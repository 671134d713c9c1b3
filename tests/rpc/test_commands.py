"""Requests that are commands to a machine: no Flow, and the same promises as a request that is one."""

import random

from meshos.effects import Completed, Err, Ok, Tell
from meshos.errors import BadInput, Refused
from meshos.flow import Propose
from meshos.flow_machine import Abandon, Perform
from meshos.ids import NodeId, OrgDid, Peer
from meshos.protocols.rpc.events import Cancel, Inbound, LinkUp, Message, MessageReceived, Reply, Request, SendMessage
from meshos.protocols.rpc.machine import Rpc
from meshos.protocols.rpc.serving import Commanded

ACME = OrgDid("did:mesh:enterprise:acme")
ME, PEER = Peer(NodeId("me"), ACME), Peer(NodeId("peer"), ACME)
WRITE = "/t/write/1"
ID = bytes(16)


def command(request: Inbound) -> object:
    if request.body == b"bad":
        raise BadInput("bad-request", "no command")
    return request.body.decode()


def rpc() -> Rpc:
    commands = {WRITE: Commanded("raft", command, lambda result: str(result).encode())}
    machine = Rpc(ME, {WRITE: lambda peer: True}, random.Random(1), commands=commands)
    machine.step(0, LinkUp(PEER))
    return machine


def received(machine: Rpc, now: float, message: Message) -> list[object]:
    return machine.step(now, MessageReceived(PEER, message, "work"))


def request(body: bytes = b"x=1", number: int = 0) -> Request:
    return Request(number.to_bytes(16, "big"), WRITE, body, 5000)


def begun(machine: Rpc, message: Request) -> Perform:
    (told,) = received(machine, 1.0, message)
    assert isinstance(told, Tell) and told.machine == "raft" and isinstance(told.event, Perform)
    return told.event


def test_a_request_is_put_to_the_machine_with_its_deadline_and_its_result_is_the_reply() -> None:
    machine = rpc()
    perform = begun(machine, request())
    assert perform.operation == Propose("x=1", "raft") and perform.deadline == 6.0 and perform.reply_to == "rpc"
    assert machine.step(2.0, Completed(perform.op, Ok(7))) == [SendMessage(PEER.node, "work", Reply(ID, Ok(b"7")))]
    assert machine.statistics()["running"] == 0


def test_the_same_id_is_done_once_and_answered_as_often_as_it_is_asked() -> None:
    machine = rpc()
    perform = begun(machine, request())
    assert received(machine, 1.1, request()) == [], "it runs already"
    machine.step(2.0, Completed(perform.op, Ok(7)))
    assert received(machine, 2.1, request()) == [SendMessage(PEER.node, "work", Reply(ID, Ok(b"7")))]


def test_an_error_of_the_machine_is_the_reply() -> None:
    machine = rpc()
    error = Refused("not-leader", "ask another")
    perform = begun(machine, request())
    assert machine.step(2.0, Completed(perform.op, Err(error))) == [SendMessage(PEER.node, "work", Reply(ID, Err(error)))]


def test_what_is_no_command_is_refused_and_not_put_to_the_machine() -> None:
    machine = rpc()
    (sent,) = received(machine, 1.0, request(b"bad"))
    assert isinstance(sent, SendMessage) and isinstance(sent.message, Reply) and isinstance(sent.message.outcome, Err)
    assert sent.message.outcome.error.name == "bad-request" and machine.statistics()["running"] == 0


def test_a_cancel_abandons_the_command_and_what_the_machine_says_later_is_not_sent() -> None:
    machine = rpc()
    perform = begun(machine, request())
    assert received(machine, 1.5, Cancel(ID)) == [Tell("raft", Abandon(perform.op, perform.operation, "rpc"))]
    assert machine.statistics()["running"] == 0 and received(machine, 1.6, Cancel(ID)) == []
    assert machine.step(2.0, Completed(perform.op, Ok(7))) == []
    (sent,) = received(machine, 2.5, request())
    assert isinstance(sent, SendMessage) and isinstance(sent.message, Reply) and isinstance(sent.message.outcome, Err)
    assert sent.message.outcome.error.name == "cancelled" and sent.message.outcome.error.outcome == "unknown", "it may have been done"


def test_each_completion_finds_its_own_request() -> None:
    machine = rpc()
    first, second = begun(machine, request(number=1)), begun(machine, request(number=2))
    (sent,) = machine.step(2.0, Completed(second.op, Ok("b")))
    assert isinstance(sent, SendMessage) and sent.message == Reply((2).to_bytes(16, "big"), Ok(b"b"))
    (sent,) = machine.step(2.0, Completed(first.op, Ok("a")))
    assert isinstance(sent, SendMessage) and sent.message == Reply((1).to_bytes(16, "big"), Ok(b"a"))
