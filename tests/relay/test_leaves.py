"""Members that nobody can dial are called by anybody, through the anchors that they say, on the real host and over real sockets."""

from collections.abc import Mapping, Sequence

import pytest
import trio

from meshos.errors import Unreachable
from meshos.ids import NodeId
from meshos.protocols.relay.policy import Policy
from tests.links.mesh import ALPHA, BETA
from tests.relay.mesh import GAMMA, STAYS, Mesh, Node

pytestmark = pytest.mark.usefixtures("kind")


class Leaves:
    """``first`` and ``second``, whom nobody can dial, each linked to two of four members; ``lone`` is linked to nobody."""

    def __init__(self, policies: Mapping[int, Policy] | None = None) -> None:
        self.mesh = Mesh()
        self.first, self.second, self.lone = (self.mesh.member(ALPHA), self.mesh.member(BETA), self.mesh.member(ALPHA))
        self.members = [self.mesh.member(GAMMA, (policies or {}).get(number, STAYS)) for number in range(4)]
        self.anchors: dict[NodeId, Sequence[NodeId]] = {
            self.first.id: [node.id for node in self.members[:2]],
            self.second.id: [node.id for node in self.members[2:]],
        }

    @property
    def all(self) -> list[Node]:
        return [self.first, self.second, self.lone, *self.members]

    async def start(self, nursery: trio.Nursery) -> "Leaves":
        for node in self.all:
            self.mesh.walls |= {(node.id, self.first.id), (node.id, self.second.id)}
            node.relaying._anchors_of = lambda of: self.anchors.get(of, ())
            node.relay._candidates = node.relaying._candidates
            await node.start(nursery)
        for leaf in (self.first, self.second):
            for anchor in self.members:
                if anchor.id in self.anchors[leaf.id]:
                    await leaf.link(anchor)
        return self


async def test_two_leaves_that_have_no_anchor_in_common_call_each_other(nursery: trio.Nursery) -> None:
    leaves = await Leaves().start(nursery)
    assert await leaves.first.ask(leaves.second, b"hello") == b"did:mesh:enterprise:alpha hello"
    assert leaves.first.state(leaves.second).via in leaves.anchors[leaves.second.id]
    assert await leaves.second.ask(leaves.first, b"back")
    nursery.cancel_scope.cancel()


async def test_a_member_that_has_no_links_at_all_calls_a_leaf(nursery: trio.Nursery) -> None:
    leaves = await Leaves().start(nursery)
    assert await leaves.lone.ask(leaves.first)
    assert leaves.lone.state(leaves.first).via in leaves.anchors[leaves.first.id]
    nursery.cancel_scope.cancel()


async def test_where_the_anchor_that_one_is_linked_to_does_not_relay_the_other_one_is_dialled(nursery: trio.Nursery) -> None:
    leaves = await Leaves({0: Policy(serve=False)}).start(nursery)
    await leaves.lone.link(leaves.members[0])
    assert await leaves.lone.ask(leaves.first)
    assert leaves.lone.state(leaves.first).via == leaves.members[1].id
    nursery.cancel_scope.cancel()


async def test_an_anchor_that_is_gone_itself_a_leaf_or_the_caller_is_no_way_and_the_call_ends(nursery: trio.Nursery) -> None:
    leaves = await Leaves().start(nursery)
    leaves.anchors[leaves.first.id] = [NodeId("nobody"), leaves.second.id, leaves.first.id, leaves.lone.id]
    with pytest.raises(Unreachable) as caught:
        await leaves.lone.ask(leaves.first)
    assert caught.value.outcome == "not_done"
    assert not leaves.lone.links.states(), "it has dialled none of these"
    nursery.cancel_scope.cancel()
