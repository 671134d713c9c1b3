"""A program of somebody else's: plain py-libp2p, the address of a node's square and the hash of the genesis, and nothing of a node.

``outsider.py ADDRESS GENESIS_HASH OTHER_NODE_ID`` prints as JSON what it has proven, and where Kademlia says that the other node is.
"""

import json
import sys
from typing import Any

import libp2p
import trio
from libp2p.custom_types import TProtocol
from libp2p.discovery.rendezvous.pb.rendezvous_pb2 import Message as Rendezvous
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.envelope import consume_envelope
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from meshos.cbor import Value
from meshos.consensus.ledger import light_client
from meshos.consensus.ledger.accounts import ACCOUNTS
from meshos.crypto.signing import Ed25519Verifier
from meshos.protocols.square import describe, headers, proof, resolve, wire
from meshos.protocols.square.limits import ANSWER_BYTES
from meshos.protocols.square.protobuf import field, fields

VERIFIER = Ed25519Verifier()


class Outsider:
    """One connection to one node."""

    def __init__(self, host: Any, peer: Any) -> None:
        self.host, self.peer = host, peer

    async def exchange(self, protocol: str, request: bytes) -> bytes:
        """The frame that answers a frame, on a stream of its own."""
        stream = await self.host.new_stream(self.peer, [TProtocol(protocol)])
        await stream.write(wire.frame(request))
        data = b""
        while (length := wire.length_of(data[:4], ANSWER_BYTES)) is None or len(data) < length.size + length.bytes:
            data += await stream.read(65_536)
        await stream.close()
        return data[length.size :]

    async def ask(self, protocol: str, request: bytes) -> Value:
        """The value that answers."""
        return wire.decode_answer(await self.exchange(protocol, request))

    async def proven(self, genesis_hash: bytes, other: str) -> dict[str, object]:
        """Everything that can be proven, from the hash alone."""
        said = describe.read_description(await self.ask(describe.NAME, describe.request()))
        fetch = describe.GenesisFetch(genesis_hash)
        while not fetch.done:
            fetch.take(await self.ask(describe.NAME, fetch.request()))
        genesis = fetch.genesis()
        trusted, head = light_client.begin(genesis), None
        while head is None:
            page = headers.read_page(await self.ask(headers.NAME, headers.request(trusted.validators.epoch)))
            trusted, head = headers.follow(trusted, page, VERIFIER)
        did = genesis.orgs[0].did
        key = ACCOUNTS.key(did)
        account = light_client.verify(genesis, proof.read_bundle(await self.ask(proof.NAME, proof.request(key)), key), VERIFIER)
        resolved = resolve.read_resolved(await self.ask(resolve.NAME, resolve.request(did)), did)
        document, _ = resolve.prove(light_client.begin(genesis), did, resolved, VERIFIER)
        assert account.value is not None
        return {
            "protocols": list(said.protocols),
            "peers": list(said.peers),
            "head": head.header.height,
            "balance": ACCOUNTS.decode(account.value).balance,
            "signers": len(account.signers),
            "did": document["id"],
            "found": await self.found(f"/meshos/{genesis_hash[:8].hex()}/kad/1.0.0", other),
            "met": await self.met(f"/meshos/{genesis_hash[:8].hex()}"),
        }

    async def found(self, kademlia: str, other: str) -> list[str]:
        """Where Kademlia says that a node is."""
        key = ID.from_string(other).to_bytes()
        said = Message.FromString(await self.exchange(kademlia, Message(type=Message.FIND_NODE, key=key).SerializeToString()))
        return [str(Multiaddr(address)) for peer in said.closerPeers if peer.id == key for address in peer.addrs]

    async def met(self, namespace: str) -> dict[str, list[str]]:
        """Whom one meets at this rendezvous, as each has signed it."""
        asked = field(1, Rendezvous.DISCOVER) + field(5, field(1, namespace.encode()))
        answer = dict(fields(await self.exchange("/rendezvous/1.0.0", asked)))[6]
        assert isinstance(answer, bytes)
        rows = [dict(fields(row)) for tag, row in fields(answer) if tag == 1 and isinstance(row, bytes)]
        records = [consume_envelope(row[2], "libp2p-peer-record")[1] for row in rows if isinstance(row[2], bytes)]
        return {str(record.peer_id): [str(address) for address in record.addrs] for record in records}


async def main(address: str, genesis_hash: str, other: str) -> None:
    """Dial, prove, print."""
    host = libp2p.new_host(enable_quic="/quic-v1" in address)
    info = info_from_p2p_addr(Multiaddr(address))
    async with host.run([]):
        await host.connect(info)
        print(json.dumps(await Outsider(host, info.peer_id).proven(bytes.fromhex(genesis_hash), other)))
        await host.close()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
