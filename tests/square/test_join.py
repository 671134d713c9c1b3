"""``/meshos/join/1``: what a stranger may say at the door, and what is made of the answer."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from meshos import cbor
from meshos.errors import Refused
from meshos.protocols.square import join, wire
from meshos.protocols.square.answering import Asker, Protocol
from meshos.protocols.square.join import ASKED, SeedEntry, Standing

NODE = "12D3KooW" + "A" * 44
SEED = SeedEntry(NODE, "10.0.0.1:7201", "10.0.0.1:7301")
ASKER = Asker("12D3KooWstranger", "192.0.2.1")


class Door:
    """Lets everybody in whose application is a word."""

    def __init__(self) -> None:
        self.knocked: list[tuple[str, str | None]] = []

    def policy(self) -> str:
        return "invitation"

    def seeds(self) -> list[SeedEntry]:
        return [SEED] * 40

    async def knock(self, application: str, invitation: str | None, address: str) -> tuple[str, bytes | None]:
        assert address == ASKER.address
        self.knocked.append((application, invitation))
        return ASKED, b"m" * 32


def asked(protocol: Protocol, request: bytes) -> Standing:
    async def ask() -> Standing:
        answer = await protocol.answer(wire.decode_request(request, protocol.most), ASKER)
        return join.read_standing(wire.decode_answer(wire.encode_answer(answer)))

    return trio.run(ask)


def test_a_stranger_learns_how_one_comes_in_and_whom_to_ask_first() -> None:
    door = Door()
    found = asked(join.protocol(door), join.request())
    assert found == Standing("invitation", "stranger", None, (SEED,) * join.SEEDS) and not door.knocked


def test_an_application_comes_to_the_door_with_its_invitation() -> None:
    door = Door()
    protocol = join.protocol(door)
    assert asked(protocol, join.request("app", "inv")).motion == b"m" * 32
    assert asked(protocol, join.request("app")).state == ASKED
    assert door.knocked == [("app", "inv"), ("app", None)]


@pytest.mark.parametrize(
    "fields",
    [{"application": ""}, {"application": 1}, {"invitation": "inv"}, {"application": "a" * 5000}, {"application": "a", "as": "root"}],
)
def test_what_is_no_application_is_refused(fields: dict[str, object]) -> None:
    door = Door()
    with pytest.raises(Refused) as caught:
        asked(join.protocol(door), wire.encode_request(fields))
    assert caught.value.name == "square-bad-request" and not door.knocked


def test_the_largest_request_fits() -> None:
    request = join.request("a" * join.TEXT_CHARS, "i" * join.INVITATION_CHARS)
    assert len(request) <= join.protocol(Door()).most


GOOD: dict[str, object] = {"policy": "open", "state": "member", "motion": None, "seeds": [[NODE, "a:1", "b:2"]]}


@pytest.mark.parametrize(
    "change",
    [
        {"policy": "closed"},
        {"state": "king"},
        {"motion": "m"},
        {"seeds": [[NODE, "a:1", "b:2"]] * 17},
        {"seeds": {}},
    ],
)
def test_an_answer_is_read_or_refused(change: dict[str, object]) -> None:
    assert join.read_standing(GOOD).seeds == (SeedEntry(NODE, "a:1", "b:2"),)  # type: ignore[arg-type]
    with pytest.raises(Refused) as caught:
        join.read_standing({**GOOD, **change})  # type: ignore[dict-item]
    assert caught.value.name == "square-bad-answer"


@pytest.mark.parametrize("row", [[NODE, "a:1"], ["12D3", "a:1", "b:2"], [NODE, "a:1", "b" * 200], [NODE, "a:1\n", "b:2"], 7, {}])
def test_what_is_no_seed_is_passed_over(row: cbor.Value) -> None:
    answer = {**GOOD, "seeds": [row, [NODE, "a:1", "b:2"]]}
    assert join.read_standing(answer).seeds == (SeedEntry(NODE, "a:1", "b:2"),)  # type: ignore[arg-type]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.binary(max_size=9) | st.text(max_size=9),
    lambda v: st.lists(v) | st.dictionaries(st.text(max_size=9), v),
)


@given(values)
def test_any_answer_is_refused_by_name(value: cbor.Value) -> None:
    with pytest.raises(Refused) as caught:
        join.read_standing(value)
    assert caught.value.name == "square-bad-answer"
