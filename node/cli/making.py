"""What ``mesh init`` does, by case: a founding organisation's node, a joining node, and finishing either."""

import time
from dataclasses import dataclass
from pathlib import Path

from meshos.crypto import certificates, invitations
from meshos.crypto.keys import PublicKey, SigningKey, public_key_of_multikey
from meshos.errors import BadInput, Refused
from meshos.genesis import MAX_BYTES, Genesis
from meshos.ids import NodeId
from meshos.node import agreeing, folder
from meshos.node.config import NodeConfig, load

REQUEST_FILE = "join-request.txt"


@dataclass(frozen=True, slots=True)
class Made:
    """A node's folder as it is now, and what is still to be done with it."""

    config: NodeConfig
    node_id: NodeId
    ready: bool
    verdict: str
    notes: tuple[str, ...] = ()
    request: str = ""

    def body(self) -> dict[str, object]:
        """For ``--json``."""
        body: dict[str, object] = {
            "name": self.config.name,
            "org": self.config.org,
            "node_id": self.node_id,
            "dir": str(self.config.dir),
            "ready": self.ready,
            "next": self.verdict,
        }
        return body | ({"request": self.request} if self.request else {})


def invitation(token: str, org: str | None, now: float) -> invitations.Invitation:
    """What an invitation says; raises as ``read_invitation``, and BadInput ``bad-org`` if ``--org`` names another organisation."""
    invited = invitations.read_invitation(token, now=now)
    if org is not None and org not in (invited.org, invited.org.rpartition(":")[2]):
        raise BadInput("bad-org", f"the invitation is to {invited.org}, not to {org}", hint="leave --org away")
    return invited


def founding(config: NodeConfig, genesis: Path | None, root: SigningKey | None = None) -> Made:
    """The first node of a new organisation, with this root key or a new one."""
    if genesis is not None and folder.read_genesis(genesis).org(config.org) is not None:
        told = f"{config.org} is in this genesis already, and new keys would not be its keys"
        raise BadInput("org-exists", told, hint="join it with --join, or finish the folder that has its keys with --dir")
    org = folder.make_org(config, now=time.time(), root=root)
    assert org.validator is not None
    told = f"made; hand {config.dir / folder.ORG_FILE} to whoever writes the genesis, then: "
    told += f"mesh init --dir {config.dir} --genesis genesis.json"
    return Made(config, org.validator.node, False, told, _advice(config))


def joining(config: NodeConfig, token: str, genesis: Path | None) -> Made:
    """A further node of an organisation: its keys, and the request that its root key has to answer."""
    if genesis is not None:
        content = folder.read_genesis(genesis)
        invited = invitations.read_invitation(token, now=time.time())
        if invited.genesis_hash != content.hash:
            raise Refused("wrong-mesh", f"the invitation is to another mesh than that of {genesis}", hint="ask for its genesis")
        folder.write_file(config.genesis, folder.read_file(genesis, MAX_BYTES))
    identity = folder.make_joining(config)
    now = time.time()
    invited = invitations.read_invitation(token, now=now)
    agreement = agreeing.of_node(identity, invited.genesis_hash, invited.org)
    request = f"{invitations.request(token, identity.node, now=now)} {agreement}"
    folder.write_file(config.dir / REQUEST_FILE, request.encode() + b"\n")
    told = (
        f"made; have {config.dir / REQUEST_FILE} answered where the root key is: mesh org issue @{REQUEST_FILE} > certificate.pem; then: "
    )
    told += f"mesh init --dir {config.dir} --genesis genesis.json --certificate certificate.pem"
    return Made(config, identity.node_id, False, told, _advice(config)[:1], request)


def finish(directory: Path, genesis: Path | None, certificate: Path | None, root: str | None = None) -> Made:
    """Give a folder that has keys its genesis and certificate; called again, it changes nothing. ``root``: the organisation's root key
    (Multikey), where neither the genesis nor the folder names it.

    Raises as ``folder.install`` and ``folder.certify``, and Refused ``bad-public-key``.
    """
    config = load(directory)
    node = folder.open_identity(config).node_id
    source = genesis or config.genesis
    if not source.exists():
        told = f"keys are there; a genesis is missing: mesh init --dir {config.dir} --genesis genesis.json"
        return Made(config, node, False, told)
    content = folder.read_genesis(source)
    if certificate is not None:
        expected = _root_named_here(config, content) if root is None else public_key_of_multikey(root)
        folder.install(config, content, _chain(folder.read_file(certificate), certificate), now=time.time(), root=expected)
    elif genesis is not None or not config.certificate.exists():
        folder.certify(config, content, now=time.time())
    notes = () if content.org(config.org) is not None else (_outside(config),)
    return Made(config, node, True, f"ready; next: mesh run --dir {config.dir}", notes)


def _root_named_here(config: NodeConfig, genesis: Genesis) -> PublicKey | None:
    """The organisation's root key as this folder has it: it was made here, or signed the invitation which the folder was made with."""
    entry, file = folder.own_entry(config), config.dir / REQUEST_FILE
    if entry is not None and entry.did == config.org:
        return public_key_of_multikey(entry.root_key)
    if not file.exists():
        return None
    words = folder.read_file(file).decode("ascii", "replace").split()
    invited = invitations.invitation_in(words[0] if words else "")
    return invited.root if (invited.genesis_hash, invited.org) == (genesis.hash, config.org) else None


def _outside(config: NodeConfig) -> str:
    if not (config.dir / folder.ORG_FILE).exists():
        return f"{config.org} did not found this mesh: the others let its nodes in once they have admitted it"
    return (
        f"{config.org} did not found this mesh: its node waits until the others admit it by vote; hand them {config.dir / folder.ORG_FILE}"
    )


def _chain(data: bytes, path: Path) -> list[bytes]:
    try:
        return certificates.chain_from_pem(data)
    except Refused as error:
        raise BadInput("cannot-read", f"{path} holds no certificate in PEM", hint="it is what `mesh org issue` prints") from error


def _advice(config: NodeConfig) -> tuple[str, ...]:
    return (
        f"the passphrase of its keys is in {config.passphrase_file}; {folder.PASSPHRASE_VARIABLE} can hold it instead",
        f"{config.dir / folder.ROOT_FILE} is the organisation's root key: keep a copy offline; "
        "only certificates and keys on the ledger need it",
    )
