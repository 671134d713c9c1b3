"""``mesh init``: make one node."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshos.errors import BadInput
from meshos.ids import ORG_KINDS, OrgDid, org_did
from meshos.node.cli.output import JsonFlag, document, note, ok, say

if TYPE_CHECKING:
    from meshos.node.config import NodeConfig, Seed

DirOption = Annotated[Path, typer.Option("--dir", help="The node's folder.")]
DEFAULT_DIR = Path("node")
API_PORT, GOSSIP_PORT, LINK_PORT = 8100, 8200, 8300


def register(app: typer.Typer) -> None:
    """Add ``mesh init``."""
    app.command(epilog="Example: mesh init --org acme --kind enterprise --dir acme-1")(init)


def did_of(name: str, kind: str) -> OrgDid:
    """The DID that ``--org`` and ``--kind`` mean; ``--org`` may also be a whole DID. Raises BadInput ``bad-org``."""
    try:
        if name.startswith("did:mesh:"):
            kind, name = name.removeprefix("did:mesh:").split(":", 1)
        return org_did(kind, name)
    except ValueError as error:
        raise BadInput("bad-org", str(error), hint=f"for instance --org acme --kind {ORG_KINDS[0]}") from error


LeafFlag = Annotated[bool, typer.Option("--leaf", help="Nobody can dial it (it is behind a router): it keeps links to some of the others.")]


def init(
    org: Annotated[str | None, typer.Option(help="The organisation's name, as in acme, or its whole DID.")] = None,
    kind: Annotated[str, typer.Option(help=f"What it is: {', '.join(ORG_KINDS)}.")] = ORG_KINDS[0],
    directory: DirOption = DEFAULT_DIR,
    genesis: Annotated[Path | None, typer.Option(help="The mesh's genesis.json, once there is one.")] = None,
    join: Annotated[str | None, typer.Option(help="An invitation from `mesh org invite`: a further node of that organisation.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="The answer of `mesh org issue` to a joining node.")] = None,
    root: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="With --certificate: the organisation's root key, where neither genesis nor invitation names it."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The node's name; NAME-1 if not given.")] = None,
    region: Annotated[str, typer.Option(help="Where it stands, as in eu-west-1.")] = "local",
    host: Annotated[str, typer.Option(help="The address it takes links and gossip on, and that others reach it at.")] = "127.0.0.1",
    api_port: Annotated[int, typer.Option(min=0, max=65535)] = API_PORT,
    gossip_port: Annotated[int, typer.Option(min=0, max=65535)] = GOSSIP_PORT,
    link_port: Annotated[int, typer.Option(min=0, max=65535)] = LINK_PORT,
    seed: Annotated[
        list[str] | None, typer.Option(help="A node to ask first: NODE_ID,GOSSIP_HOST:PORT,LINK_HOST:PORT. May be given several times.")
    ] = None,
    leaf: LeafFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Make keys and a configuration for one node; called again with --genesis or --certificate, finish what was begun."""
    from meshos.node.cli import making
    from meshos.node.config import FILE

    if root is not None and certificate is None:
        raise BadInput("usage", "--root says whose the certificate is", hint="give the certificate too: --certificate certificate.pem")
    if (directory / FILE).exists():
        made = making.finish(directory, genesis, certificate, root)
    elif join is not None:
        invited = making.invitation(join, org, time.time())
        config = configured(invited.org, name, directory, region, host, (api_port, gossip_port, link_port), seed, leaf=leaf)
        made = making.joining(config, join, genesis)
    elif org is not None:
        config = configured(did_of(org, kind), name, directory, region, host, (api_port, gossip_port, link_port), seed, leaf=leaf)
        made = making.founding(config, genesis)
    else:
        raise BadInput("usage", "which organisation is it", hint="give --org NAME for a new one, --join TOKEN for one that exists")
    if as_json:
        document("init", made.body())
        return
    say(f"{made.config.name} of {made.config.org}")
    say(f"  node id  {made.node_id}")
    say(f"  folder   {made.config.dir}")
    for line in made.notes:
        note(line)
    ok(made.verdict)


def configured(
    org: OrgDid,
    name: str | None,
    directory: Path,
    region: str,
    host: str,
    ports: tuple[int, int, int],
    seeds: list[str] | None,
    *,
    leaf: bool = False,
) -> "NodeConfig":
    """A node's configuration from options; ``ports`` are those of API, gossip and links. Raises BadInput ``bad-seed`` or ``bad-config``."""
    from meshos.node.config import Address, NodeConfig, parse, square_beside
    from meshos.node.config_text import to_toml

    own = org.rpartition(":")[2]
    api, gossip, link = ports
    config = NodeConfig(
        dir=directory.absolute(),
        name=name or f"{own[:61]}-1",
        org=org,
        region=region,
        api=Address("127.0.0.1", api),
        gossip=Address(host, gossip),
        link=Address(host, link),
        square=square_beside(Address(host, link)),
        seeds=tuple(parse_seed(text) for text in seeds or []),
        leaf=leaf,
    )
    return parse(to_toml(config).encode(), config.dir)  # the file's own checks are the rules for options too


def parse_seed(text: str) -> "Seed":
    """``NODE_ID,HOST:PORT,HOST:PORT``; raises BadInput ``bad-seed``."""
    from meshos.ids import NodeId
    from meshos.node.config import Seed, parse_address

    parts = text.split(",")
    try:
        node, gossip, link = parts
        return Seed(NodeId(node), parse_address(gossip), parse_address(link))
    except ValueError as error:
        raise BadInput("bad-seed", f"{text[:120]!r} is no seed", hint="write NODE_ID,GOSSIP_HOST:PORT,LINK_HOST:PORT") from error
