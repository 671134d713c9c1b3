"""A process of its own: one member, of which the parent says by JSON who it is, and where others are.

It prints ``{"ready": true}`` when it has its link to the relay. For each line that it reads, nodes and whether there is a way to them, it
calls them, waits for the direct links, and prints how they are linked then.
"""

import json
import sys
from typing import Any

import trio

from meshos.crypto.certificates import Trust
from meshos.crypto.keys import PublicKey, SigningKey
from meshos.ids import NodeId, OrgDid
from meshos.node.runtime.links.quic import QuicPath
from meshos.node.runtime.links.splicing import Splicing
from meshos.node.runtime.links.tcp import TcpPath
from meshos.node.runtime.links.tls import Credentials
from meshos.protocols.relay import punching
from meshos.protocols.relay.policy import USUAL
from tests.relay.mesh import Mesh, Node


def told(credentials: Credentials) -> dict[str, Any]:
    """``credentials`` as JSON."""
    return {
        "seed": credentials.key.seed().hex(),
        "certificate": credentials.certificate.hex(),
        "mesh": credentials.mesh.hex(),
        "id": credentials.trust.mesh_id,
        "roots": {org: key.raw.hex() for org, key in credentials.trust.roots.items()},
        "authorities": [root.hex() for root in credentials.roots],
    }


def read(given: dict[str, Any]) -> Credentials:
    """The same back."""
    roots = {OrgDid(org): PublicKey(bytes.fromhex(key)) for org, key in given["roots"].items()}
    authorities = tuple(bytes.fromhex(root) for root in given["authorities"])
    key, certificate = SigningKey(bytes.fromhex(given["seed"])), bytes.fromhex(given["certificate"])
    return Credentials(key, certificate, bytes.fromhex(given["mesh"]), Trust(given["id"], roots), authorities)


class Member(Node):
    """On both paths, where ``given`` says; ``given["at"]`` says where others are."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        super().__init__(Mesh(), OrgDid(given["org"]), read(given["who"]), USUAL, Splicing)

    def _paths(self, kind: str) -> list[TcpPath | QuicPath]:
        host, port = self.given["listen"]
        return [path(self.credentials, host, port, self._address_of) for path in (TcpPath, QuicPath)]

    def _address_of(self, node: NodeId) -> tuple[str, int] | None:
        found = self.given["at"].get(node)
        return None if found is None else (found[0], found[1])

    async def ask_node(self, node: str) -> None:
        await self.ask_id(NodeId(node), b"hello", timeout_s=60, retries=9)  # seven processes begin at once

    async def call(self, targets: dict[str, bool]) -> dict[str, object]:
        """All at once: how each is linked at first, and when those that should be have a direct link, and a way to the others was tried."""
        first: dict[str, object] = {}

        async def one(target: str) -> None:
            await self.ask_node(target)
            first[target] = self.how(target)

        async with trio.open_nursery() as nursery:
            for target in targets:
                nursery.start_soon(one, target)
        with trio.move_on_after(PATIENCE_S):
            while any(direct and self.how(target)["via"] is not None for target, direct in targets.items()) or self.tried < len(targets):
                await trio.sleep(0.05)
        for target in targets:
            await self.ask_node(target)
        return {"first": first, "then": {target: self.how(target) for target in targets}, "figures": self.figures()}

    @property
    def tried(self) -> float:
        """How many meetings have come to punches."""
        return self.figure("punched")

    def figures(self) -> dict[str, float]:
        """Of all that has to do with it."""
        return {**self.machine.statistics(), **self.relaying.statistics(), **self.relay.statistics()}

    def how(self, node: str) -> dict[str, object]:
        """How the link is now."""
        main = self.links._peers[NodeId(node)].main
        return {"path": None if main is None else main.path, "via": None if main is None else main.connection.via}


PATIENCE_S = 120.0
MEET_AGAIN_S, MEETINGS_PER_LINK = 2.0, 10
"""A meeting may come to nothing where seven processes share a core: so there are more of them than between nodes."""


async def main(given: dict[str, Any]) -> None:
    punching.MEET_AGAIN_S, punching.MEETINGS_PER_LINK = MEET_AGAIN_S, MEETINGS_PER_LINK  # of this process, which is a member's
    member = Member(given)
    async with trio.open_nursery() as nursery:
        await member.start(nursery)
        if given["relay"]:
            await member.ask_node(given["relay"])
        print(json.dumps({"ready": True}), flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(json.dumps(await member.call(json.loads(line))), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
