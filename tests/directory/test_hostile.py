"""A node that answers, asks and announces what can be read and is not true: it brings no other to a fall, and makes none believe it."""

import dataclasses
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from meshos import cbor
from meshos.effects import Err, Machine
from meshos.errors import MeshError
from meshos.flow import Ask
from meshos.flow_machine import Flows, Service
from meshos.ids import agent_id
from meshos.protocols.directory import wire
from meshos.protocols.directory.cells import summary
from meshos.protocols.directory.cells.counting import TALLY, decode_counts
from meshos.protocols.directory.cells.query import SEARCH, decode_answer
from meshos.protocols.directory.commands import Item
from meshos.protocols.directory.explaining import ScoreAsked
from meshos.protocols.directory.filters import Filters
from meshos.protocols.directory.record import PROTOCOL, parse
from meshos.protocols.directory.search import DiscoverAnswer, DiscoverRequest
from meshos.protocols.directory.services import DISCOVER, EXPLAIN, LOOKUP, services
from meshos.protocols.directory.wire import HINT
from meshos.simulations.node import SimNode
from tests.directory.test_asking import AGENTS, QUESTIONS
from tests.directory.test_layout import CODEBOOK
from tests.directory.test_switching import NEXT
from tests.directory.world import Mesh, org

LIAR = 4
ROWS = (1, 2, 4, 8, 16, 52)
"""Bytes of what tables in messages have a row of: names, numbers, digests, agents that were found."""


class Hostile(Mesh):
    """Once it ``lies``, one of the nodes changes every answer at random into another that is as well formed, or nearly, and asks the
    like."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.lies = False
        super().__init__(seed, nodes=8)

    def _build(self, node: SimNode) -> Mapping[str, Machine]:
        machines = dict(super()._build(node))
        self.parts[node.name].spots = False  # who is found out is hardly asked any more
        if node.name == self.ids[LIAR]:
            honest = services(self.parts[node.name])
            lying = {name: self._lying(name, honest[name]) for name in (PROTOCOL, SEARCH, TALLY)}
            machines["flows"] = Flows(honest | lying, limit=1000)
        return machines

    def _lying(self, name: str, service: Service) -> Service:
        async def lied(inbound: Any) -> bytes:
            data = await service(inbound)
            assert isinstance(data, bytes)
            if self.lies:
                await self._ask(name, inbound.body)
            if not self.lies or self.random.random() < 0.2:
                return data
            lies = (self._twisted(data) for _ in range(20))
            return next((lie for lie in lies if lie != data and self._readable(name, inbound.body, lie)), data)

        return lied

    async def _ask(self, name: str, body: bytes) -> None:
        """Ask somebody else what it was asked, with something changed, or announce what nobody has."""
        if name == PROTOCOL and self.random.random() < 0.5:
            some = [agent_id(org(number % 3), AGENTS[number].name) for number in self.random.sample(range(len(AGENTS)), 5)]
            announced = [Item(agent, self.random.choice([1, 2, 2**40]), self.random.randbytes(16)) for agent in some]
            news = wire.News(self.parts[self.ids[LIAR]].layout.name, tuple(range(0, CODEBOOK.cells, 7)))
            name, body = HINT, self.random.choice([wire.encode_hint(announced), wire.encode_news(news)])
        try:
            await Ask(self.random.choice(self.ids[:LIAR]), name, self._twisted(body), 0.2, retries=0)
        except MeshError:
            return  # it was refused, or told no more than others are

    def _readable(self, name: str, asked: bytes, lie: bytes) -> bool:
        """Whether the asker can read it; of ten that it cannot, one will do."""
        try:
            _read(name, asked, lie)
        except MeshError:
            return self.random.random() < 0.1
        return True

    def _twisted(self, data: bytes) -> bytes:
        value = cbor.decode(data, max_bytes=1 << 20)
        for _ in range(self.random.randint(1, 3)):
            value = self._changed(value)
        return cbor.encode(value)

    def _changed(self, value: Any) -> Any:
        """One thing in ``value`` is another now."""
        match value:
            case list() if value:
                at = self.random.randrange(len(value))
                if self.random.random() < 0.3:
                    return _moved(self.random, value)
                return [*value[:at], self._changed(value[at]), *value[at + 1 :]]
            case dict() if value:
                key = self.random.choice(sorted(value))
                return value | {key: self._changed(value[key])}
            case bytes() if value:
                return self._other_bytes(value)
            case bool():
                return not value
            case int():
                return self.random.choice([0, 1, value + 1, max(0, value - 1), 2 * value, 2**52, 2**53])
            case str():
                return self.random.choice([value[:-1], value + "x", "", agent_id(org(1), AGENTS[1].name)])
            case _:
                return self.random.choice([None, 0, "", b"", []])

    def _other_bytes(self, data: bytes) -> bytes:
        if self.random.random() < 0.3:
            try:
                return cbor.encode(self._changed(cbor.decode(data, max_bytes=1 << 20)))
            except MeshError:
                pass  # it is no message within the message
        size = self.random.choice([size for size in ROWS if len(data) % size == 0][-2:])
        return b"".join(_moved(self.random, [data[at : at + size] for at in range(0, len(data), size)]))


def _read(name: str, asked: bytes, answer: bytes) -> object:
    """What an answer of this service says; raises what reading it raises."""
    if name == SEARCH:
        return decode_answer(answer)
    if name == TALLY:
        return decode_counts(answer)
    match wire.decode_request(asked):
        case wire.AskDigest(_, places):
            return wire.decode_digests(answer, len(places))
        case wire.AskItems():
            return wire.decode_items(answer)
        case wire.AskEntries():
            return [parse(data) for data in wire.decode_entries(answer)]
        case wire.AskVersions(ids):
            return wire.decode_versions(answer, len(ids))
        case wire.AskSummaries():
            return [summary.decode(data) for data in wire.decode_summaries(answer)]
        case wire.AskCodebook():
            return wire.decode_part(answer)


def _moved(random: Random, rows: list[Any]) -> list[Any]:
    """Without a row, with one twice, with two that have changed places, wholly or at their beginnings, or one that is another."""
    one, other = random.randrange(len(rows)), random.randrange(len(rows))
    changed = list(rows)
    match random.randrange(5):
        case 0:
            del changed[one]
        case 1:
            changed.insert(other, changed[one])
        case 2:
            changed[one], changed[other] = changed[other], changed[one]
        case 3 if isinstance(rows[one], bytes) and isinstance(rows[other], bytes):
            cut = 8 * random.randint(0, len(rows[one]) // 8)
            changed[one], changed[other] = rows[other][:cut] + rows[one][cut:], rows[one][:cut] + rows[other][cut:]
        case _:
            changed[one] = random.randbytes(len(rows[one])) if isinstance(rows[one], bytes) else rows[other]
    return changed


def asked(mesh: Hostile, turn: int) -> list[object]:
    """Of each node one of everything that can be asked."""
    agent = agent_id(org(turn % 3), AGENTS[turn].name)
    question = DiscoverRequest(QUESTIONS[turn % len(QUESTIONS)])
    some: list[tuple[str, object]] = [
        (DISCOVER, question),
        (DISCOVER, dataclasses.replace(question, limit=50, collapse=False)),
        (DISCOVER, dataclasses.replace(question, facets=True, filters=Filters(capabilities=("chess",)))),
        (DISCOVER, DiscoverRequest(related=agent)),
        (LOOKUP, agent),
        (EXPLAIN, ScoreAsked(agent, question)),
    ]
    return [mesh.start(asker, service, argument) for asker in range(len(mesh.ids)) for service, argument in some]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_one_node_answers_the_others_go_on_and_show_what_is_signed(seed: int) -> None:
    mesh = Hostile(seed)
    mesh.codebook = CODEBOOK
    mesh.run(5)
    for number in range(3):
        mesh.publish(number, *AGENTS[number::3], seconds=2)
    mesh.run(60)
    mesh.lies = True
    flows: list[object] = []
    for turn in range(12):
        mesh.codebook = CODEBOOK if turn < 6 else NEXT
        flows += asked(mesh, turn)
        mesh.run(2)
    mesh.publish(1, dataclasses.replace(AGENTS[1], per_query=77), seconds=5)
    mesh.withdraw(1, AGENTS[4].name)
    mesh.run(30)
    mesh.lies = False
    profiles = {agent_id(org(at % 3), one.name): one for at, one in enumerate(AGENTS)}
    for outcome in (mesh.ended[flow].outcome for flow in flows):
        if isinstance(outcome, Err):
            assert outcome.error.name not in ("bug", "broken"), outcome
        elif isinstance(outcome.value, DiscoverAnswer):
            assert all(one.record.profile == profiles[one.record.agent_id] for one in outcome.value.agents)
    mesh.run(120)
    for asker in range(8):
        answer = mesh.discover(asker, DiscoverRequest(AGENTS[1].description, limit=50))
        assert answer.complete and [one.record.profile.per_query for one in answer.agents if one.record.name == AGENTS[1].name] == [77]
        assert mesh.outcome(_looked_up(mesh, asker, agent_id(org(1), AGENTS[4].name))) is None


def _looked_up(mesh: Mesh, asker: int, agent: str) -> object:
    flow = mesh.start(asker, LOOKUP, agent)
    mesh.run(2)
    return flow
