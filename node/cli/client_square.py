"""``mesh square``: dial, ask, prove, print. The only commands beside ``mesh join`` that load libp2p."""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from meshos.errors import BadInput, Failed, MeshError, Refused, first_of
from meshos.node.cli.client_text import GENESIS_DIGITS, names_genesis, org_name, plural, short
from meshos.node.cli.output import block, document, note, ok, say, table, warn
from meshos.node.cli.proven_age import age, warn_if_old

if TYPE_CHECKING:
    from meshos.node.runtime.square.asking import Asking
    from meshos.node.runtime.square.following import Follower
    from meshos.protocols.square.describe import Description

T = TypeVar("T")

PEERS_SHOWN = 4
"""Addresses of other nodes, for people; programs get all that the node told."""


def find(host: str, seconds: float, *, as_json: bool) -> None:
    """See ``square.find``."""
    from meshos.node.runtime.square import lan

    if not lan.is_local(host):
        raise BadInput("usage", f"{host[:80]!r} is no address of a local network", hint="give this machine's own, as in 192.168.1.20")

    async def main() -> tuple[str, ...]:
        return await lan.ask(host, timeout_s=seconds)

    try:
        found = trio.run(main)
    except OSError as error:
        raise Failed("no-multicast", f"there is no multicast on {host}: {error.strerror}", hint="give an address instead") from error
    if as_json:
        document("square-find", {"p2p": list(found)})
        return
    for address in found:
        say(address)
    note(f"{len(found)} {'address' if len(found) == 1 else 'addresses'}; nothing of this is proven: mesh square describe ADDR --mesh HASH")


def describe(address: str, mesh: str | None, *, as_json: bool) -> None:
    """See ``square.describe``."""
    trusted = _digits(mesh)

    async def work(square: "Asking") -> "tuple[Description, Follower | None]":
        from meshos.node.runtime.square.following import Follower, describe_mesh

        said = await describe_mesh(square)
        return said, None if trusted is None else await Follower.begin(square, _meant(said, trusted))

    said, client = _asked(address, work)
    if as_json:
        document("square-describe", _described(said, client))
        return
    say(f"{said.mesh}, genesis {said.genesis.hex()}{', a testnet' if said.testnet else ''}")
    say(f"  node      {said.node} of {said.org}, version {said.version}")
    head = said.head if client is None else client.head
    say(f"  ledger    {'no block yet' if head is None else f'block {head.header.height}, epoch {head.header.epoch}'}")
    say(f"  speaks    {', '.join(said.protocols)}")
    for peer in said.peers[:PEERS_SHOWN]:
        say(f"  also at   {peer}")
    table(("ORG", "SEAT", "ROOT KEY"), [(org.did, "votes" if org.seat else "", org.root) for org in said.orgs])
    if said.more_orgs:
        note(f"and {plural(said.more_orgs, 'more organisation')}")
    if client is None:
        warn("nothing of this is proven: give --mesh HASH")
    else:
        _proven_head(client)


def _described(said: "Description", client: "Follower | None") -> dict[str, object]:
    from meshos.times import time_text

    head = said.head if client is None else client.head
    header = None if head is None else head.header
    return {
        "mesh": said.mesh,
        "genesis": said.genesis.hex(),
        "testnet": said.testnet,
        "node_id": said.node,
        "org": said.org,
        "version": said.version,
        "p2p": list(said.addresses),
        "peers": list(said.peers),
        "protocols": list(said.protocols),
        "head": None
        if header is None
        else {"height": header.height, "hash": header.hash.hex(), "epoch": header.epoch, "time": time_text(header.time_ms)},
        "orgs": [{"did": org.did, "root": org.root, "seat": org.seat} for org in said.orgs],
        "moreOrgs": said.more_orgs,
        "proven": client is not None,
    }


def search(address: str, query: str, limit: int, *, as_json: bool) -> None:
    """See ``square.search``."""
    from meshos.protocols.tasks.amounts import mesh as amount
    from meshos.times import time_text

    async def work(square: "Asking") -> Any:
        from meshos.node.runtime.square.following import describe_mesh, search_agents

        return await search_agents(square, query, limit, (await describe_mesh(square)).genesis)

    answer = _asked(address, work)
    rows = [(one.record.agent_id, one.record.profile, one.record.mesh_id, one.score) for one in answer.agents]
    if as_json:
        agents = [{"agentId": id_, "name": of.name, "description": of.description, "meshId": org, "score": at} for id_, of, org, at in rows]
        said = {"node_id": answer.node, "time": time_text(answer.time_ms), "complete": answer.complete, "agents": agents}
        document("square-search", said)
        return
    shown = [(f"{at:.2f}", f"{amount(of.per_query)} MESH", id_, of.name, org_name(org)) for id_, of, org, at in rows]
    table(("SCORE", "PRICE", "ID", "NAME", "ORG"), shown, right=("SCORE",))
    if not answer.complete:
        warn("partial: this node does not hold the whole directory")
    ok(f"{plural(len(rows), 'agent')}, signed by {short(answer.node)}; its owners' signatures are in the records")


def resolve(address: str, did: str, mesh: str | None, *, as_json: bool) -> None:
    """See ``square.resolve``."""
    client, (found, proven) = _proving(address, mesh, lambda client: client.resolve(did))
    if as_json:
        document("square-resolve", {"didDocument": found, "height": proven.height, "genesis": client.genesis.hash.hex()})
        return
    block(json.dumps(found, indent=2, ensure_ascii=False))
    signers = plural(len(proven.signers), "organisation")
    ok(f"proven as of block {proven.height}, {age(proven.time_ms)}, signed by {signers} of {proven.validators.n}")
    warn_if_old(proven.time_ms)


def verify(address: str, key: str, mesh: str | None, *, as_json: bool) -> None:
    """See ``square.verify``."""
    from meshos.node.cli.ledger import proven_document, show_proven

    client, proven = _proving(address, mesh, lambda client: client.prove(key.encode()))
    if as_json:
        document("square-verify", proven_document(proven) | {"genesis": client.genesis.hash.hex()})
    else:
        show_proven(proven)
        warn_if_old(proven.time_ms)


def _proving(address: str, mesh: str | None, ask: "Callable[[Follower], Awaitable[T]]") -> "tuple[Follower, T]":
    trusted = _digits(mesh)

    async def work(square: "Asking") -> "tuple[Follower, T]":
        from meshos.node.runtime.square.following import Follower, describe_mesh

        client = await Follower.begin(square, _meant(await describe_mesh(square), trusted or ""))
        return client, await ask(client)

    found = _asked(address, work)
    if trusted is None:
        warn(f"proven for the mesh that this node names, {found[0].genesis.hash.hex()}; give its hash from elsewhere with --mesh")
    return found


def _proven_head(client: "Follower") -> None:
    if client.head is None:
        ok("the genesis has this hash; there is no block yet")
        return
    header, signed, validators = client.head.header, len(client.head.certificate.signatures), client.trusted.validators
    ok(f"block {header.height}, {age(header.time_ms)}, is signed by {signed} of {validators.n} validators; {validators.q} are enough")
    warn_if_old(header.time_ms)


def _asked(address: str, work: "Callable[[Asking], Awaitable[T]]") -> T:
    from meshos.node.runtime.square.places import where

    place = where(address)
    from meshos.node.runtime.square.asking import dial

    async def main() -> T:
        async with dial(place) as square:
            return await work(square)

    try:
        return trio.run(main, strict_exception_groups=True)
    except BaseExceptionGroup as group:
        known = group.subgroup(MeshError)
        if known is None or group.split(MeshError)[1] is not None:
            raise
        raise first_of(known) from group


def _digits(text: str | None) -> str | None:
    """Those of a genesis hash that were given: all, or so many that no other genesis can be made that begins with them."""
    digits = None if text is None else text.lower()
    if digits is not None and not names_genesis(digits):
        told = f"{digits[:80]!r} is no hash of a genesis"
        raise BadInput(
            "usage", told, hint=f"it has 64 hex digits, of which the first {GENESIS_DIGITS} do; mesh genesis check FILE shows it"
        )
    return digits


def _meant(said: "Description", digits: str) -> bytes:
    """The hash of the genesis, which the node tells, of a mesh whose hash begins with these digits."""
    if not said.genesis.hex().startswith(digits):
        told = f"this is a node of the mesh {said.genesis.hex()}, not of {digits}"
        raise Refused("wrong-genesis", told, hint="ask a node of the mesh that you mean")
    return said.genesis
