"""The memory of half received messages: who takes too much of it loses its own connection, and nobody else does."""

import pytest

from meshos.errors import MeshError, Refused
from meshos.ids import OrgDid
from meshos.protocols.rpc import frames, limits
from meshos.protocols.rpc.codec import LinkCodec
from meshos.protocols.rpc.events import Request
from meshos.protocols.rpc.frames import MORE
from meshos.protocols.rpc.partials import Partials
from tests.rpc.test_codec import first, hello, pair, refused


def receiver(partials: Partials, org: str, evicted: list[MeshError] | None = None) -> LinkCodec:
    """The end of a connection on which a node of ``org`` sends."""
    told = [] if evicted is None else evicted
    b = LinkCodec(hello("b"), dialled=False, org=OrgDid(org), expect="a", partials=partials, evicted=told.append)
    b.receive(frames.hello_frame(hello("a")))
    return b


def more(count: int, stream: int = 0) -> bytes:
    return frames.header(count, MORE, "work", stream) + b"x" * count


def begin(codec: LinkCodec, count: int, stream: int = 0) -> None:
    """``count`` of the 50 000 bytes of a message."""
    codec.receive(first(b"x" * count, total=len(first(b"")) - 14 + 50_000, stream=stream))


def finish(codec: LinkCodec, missing: int, stream: int = 0) -> None:
    (message,) = codec.receive(more(missing, stream))
    assert isinstance(message, Request) and message.body == b"x" * 50_000


def test_an_organisation_beyond_its_share_loses_its_own_connection_and_nobody_else_does() -> None:
    partials = Partials(limit=100_000, share=40_000)
    evicted: list[MeshError] = []
    honest = receiver(partials, "honest", evicted)
    begin(honest, 10_000)
    attackers = [receiver(partials, "attacker", evicted) for _ in range(5)]
    for each in attackers[:4]:
        begin(each, 10_000)
    refused("busy", first(b"x" * 10, total=50_000), attackers[4])
    refused("busy", more(1), attackers[0])
    assert partials.used == 40_000 and not evicted, "what the refused one held is free again"
    begin(attackers[1], 10_000, stream=1)
    assert partials.used == 50_000, "within the share it goes on"
    attackers[1].close()
    honest.receive(more(30_000))
    refused("busy", more(1), honest)
    assert partials.used == 20_000 and not evicted, "the same bound for all"


def test_a_full_pool_costs_the_largest_connection_of_whoever_holds_most_and_not_the_next_sender() -> None:
    partials = Partials(limit=100_000, share=60_000)
    told: dict[str, list[MeshError]] = {name: [] for name in ("honest", "small", "a1", "a2", "other")}
    small, other = receiver(partials, "small", told["small"]), receiver(partials, "other", told["other"])
    a1, a2 = receiver(partials, "attacker", told["a1"]), receiver(partials, "attacker", told["a2"])
    honest = receiver(partials, "honest", told["honest"])
    begin(small, 1_000)
    begin(other, 29_000)  # the largest but one connection
    begin(a1, 20_000)
    begin(a2, 28_000)  # together the most, though neither is as large as that of another organisation
    begin(honest, 20_000)
    finish(honest, 30_000)
    assert [name for name, errors in told.items() if errors] == ["a2"] and partials.evicted == 1
    assert told["a2"][0].name == "busy"
    with pytest.raises(Refused, match="busy"):
        a2.receive(more(1))
    assert partials.used == 1_000 + 29_000 + 20_000 and a1.partial() == 1
    finish(small, 49_000)
    for codec in (a1, other):
        codec.close()
    assert partials.used == 0 and not partials._of_org and not partials._holdings


def test_who_holds_most_and_goes_on_loses_its_own_connection() -> None:
    partials = Partials(limit=60_000, share=55_000)
    evicted: list[MeshError] = []
    large, small = receiver(partials, "large", evicted), receiver(partials, "small", evicted)
    begin(small, 9_000)
    begin(large, 40_000)
    begin(large, 9_000, stream=1)
    refused("busy", more(3_000, stream=1), large)
    assert partials.used == 9_000 and not evicted and partials.evicted == 0
    finish(small, 41_000)


def test_the_age_of_a_message_counts_looks_without_progress() -> None:
    b = receiver(Partials(), "a")
    assert [b.age() for _ in range(3)] == [0, 0, 0], "nothing lies half received"
    begin(b, 10_000)
    assert [b.age() for _ in range(3)] == [0, 1, 2]
    begin(b, 10_000, stream=1)
    b.receive(more(1, stream=1))
    assert b.age() == 3, "another message moves, this one does not"
    b.receive(more(1))
    assert b.age() <= 1
    finish(b, 39_999)
    finish(b, 39_999, stream=1)
    assert b.age() == 0


def test_what_a_lane_interleaves_fits_into_a_share() -> None:
    partials = Partials(share=limits.PARTIAL_BYTES_PER_ORG)
    a, b = pair(partials)
    body = bytes(limits.BODY_BYTES["bulk"] - 4096)
    for name in (b"1", b"2"):
        a.send("bulk", Request(name * 16, "/meshos/x/1", body, 1000))  # both at once would not fit
    order = []
    while data := a.data_to_send(1 << 20):
        order += [message.id[:1] for message in b.receive(data)]
        assert partials.used <= limits.ACTIVE_BYTES["bulk"]
    assert order == [b"1", b"2"]
    for size in (10, 20):  # those that do fit still take turns
        a.send("bulk", Request(bytes([size]) * 16, "/meshos/x/1", bytes(size * limits.MIB), 1000))
    a.data_to_send(1 << 20)
    assert len(a._out["bulk"].active) == 2
