"""An organisation that is not in the genesis: its folders, made by the commands before and after it is admitted."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from meshos import genesis
from meshos.crypto import certificates, invitations
from meshos.crypto.keys import SigningKey
from meshos.crypto.keystore import TEST_COST
from meshos.errors import BadInput, Refused
from meshos.ids import OrgDid
from meshos.node import folder
from meshos.node.cli import making
from meshos.node.cli.doctor import CHECKS
from meshos.node.config import Address, NodeConfig, load
from meshos.node.founding import begin
from meshos.node.opening import Folder, open_folder
from meshos.storage.memory import MemoryStore
from tests.cli.conftest import Mesh

NOW_MS = 1_700_000_000_000
ACME, GLOBEX, NEWCO = (OrgDid(f"did:mesh:enterprise:{name}") for name in ("acme", "globex", "newco"))


@pytest.fixture
def mesh_of_acme(tmp_path: Path) -> Path:
    """A genesis that names acme and globex, and newco's folder, which has keys."""
    made = {}
    for org in (ACME, GLOBEX, NEWCO):
        name = org.rpartition(":")[2]
        at = Address("127.0.0.1", 0)
        config = NodeConfig(tmp_path / f"{name}-1", f"{name}-1", org, api=at, gossip=at, link=at)
        made[org] = folder.make_org(config, now=time.time(), cost=TEST_COST, root_cost=TEST_COST)
    founders = [made[ACME], made[GLOBEX]]
    content = genesis.new(folder.template(), mesh="m", time_ms=NOW_MS, placement_seed=b"\1" * 32, testnet=True, orgs=founders)
    file = tmp_path / "genesis.json"
    file.write_bytes(genesis.to_json(content))
    return file


def opened(directory: Path) -> Folder:
    async def work() -> Folder:
        return await open_folder(load(directory))

    return trio.run(work)


def test_its_first_node_is_certified_by_its_own_root_and_founds_its_group(mesh_of_acme: Path, tmp_path: Path) -> None:
    made = making.finish(tmp_path / "newco-1", mesh_of_acme, None)
    assert made.ready and "waits until the others admit it" in made.notes[0]
    node = opened(tmp_path / "newco-1")
    assert (node.me.org, set(node.trust.roots)) == (NEWCO, {ACME, GLOBEX, NEWCO})
    store = MemoryStore(random.Random(1))
    begin(node, store)
    assert len(list(store.scan(b""))) > 1, "it decides alone, until others are taken up"
    making.finish(tmp_path / "newco-1", mesh_of_acme, None)
    assert making.finish(tmp_path / "acme-1", mesh_of_acme, None).notes == ()


def test_a_further_node_brings_its_root_along(mesh_of_acme: Path, tmp_path: Path, mesh: Mesh) -> None:
    making.finish(tmp_path / "newco-1", mesh_of_acme, None)
    first = load(tmp_path / "newco-1")
    mesh_hash = folder.read_genesis(mesh_of_acme).hash
    token = invitations.invite(folder.open_root(first), genesis_hash=mesh_hash, org=NEWCO, now=time.time())
    joined = making.joining(replace(first, dir=tmp_path / "newco-2", name="newco-2"), token, mesh_of_acme)
    issued = mesh("org", "issue", joined.request, "--dir", "newco-1")
    assert issued.code == 0 and issued.out.count("BEGIN CERTIFICATE") == 2
    (tmp_path / "c.pem").write_text(issued.out)
    assert "once they have admitted it" in making.finish(tmp_path / "newco-2", None, tmp_path / "c.pem").notes[0]
    node = opened(tmp_path / "newco-2")
    assert node.trust.check(folder.issued(load(tmp_path / "newco-1"))[0]).org == NEWCO
    verdicts = {check.name: check.run(node.config).verdict for check in CHECKS if check.name in ("genesis", "certificate")}
    assert verdicts == {"genesis": "pass", "certificate": "pass"}
    store = MemoryStore(random.Random(1))
    begin(node, store)
    assert len(list(store.scan(b""))) == 1, "it begins with nothing"


def _of_acme(config: NodeConfig, other: SigningKey) -> list[bytes]:
    """A certificate for newco's node with a root behind it that is acme's."""
    node = folder.open_identity(config).node.public
    mesh_id = folder.read_genesis(config.dir.parent / "genesis.json").mesh_id
    issued = certificates.issue(other, mesh_id=mesh_id, org=NEWCO, node=node, now=time.time())
    return [issued, certificates.new_root(other, ACME, now=time.time())]


def _without_root(config: NodeConfig, other: SigningKey) -> list[bytes]:
    return _of_acme(config, other)[:1]


def _of_another_root(config: NodeConfig, other: SigningKey) -> list[bytes]:
    return [_of_acme(config, other)[0], certificates.new_root(SigningKey.generate(), NEWCO, now=time.time())]


@pytest.mark.parametrize(
    ("chain", "name"), [(_of_acme, "wrong-org-root"), (_without_root, "unknown-org"), (_of_another_root, "wrong-org-root")]
)
def test_a_chain_that_does_not_hold_is_refused(
    mesh_of_acme: Path, tmp_path: Path, chain: Callable[[NodeConfig, SigningKey], list[bytes]], name: str
) -> None:
    config = load(tmp_path / "newco-1")
    with pytest.raises(Refused) as caught:
        folder.install(config, folder.read_genesis(mesh_of_acme), chain(config, SigningKey.generate()), now=time.time())
    assert caught.value.name == name and not config.certificate.exists()


@pytest.mark.parametrize("org", [ACME, NEWCO])
def test_a_root_that_nobody_has_named_is_not_believed(mesh_of_acme: Path, tmp_path: Path, org: OrgDid) -> None:
    """A stranger makes a root in the organisation's name, and hands the joining node a certificate of it."""
    thief, now = SigningKey.generate(), time.time()
    name = org.rpartition(":")[2]
    first = load(tmp_path / f"{name}-1")
    token = invitations.invite(folder.open_root(first), genesis_hash=folder.read_genesis(mesh_of_acme).hash, org=org, now=now)
    config = replace(first, dir=tmp_path / f"{name}-2", name=f"{name}-2")
    making.joining(config, token, mesh_of_acme)
    content, node = folder.read_genesis(mesh_of_acme), folder.open_identity(config).node.public
    chain = [
        certificates.issue(thief, mesh_id=content.mesh_id, org=org, node=node, now=now),
        certificates.new_root(thief, org, now=now),
    ]
    forged = tmp_path / "forged.pem"
    forged.write_bytes(b"".join(map(certificates.pem, chain)))
    with pytest.raises(Refused) as caught:
        making.finish(config.dir, None, forged)
    assert caught.value.name == "root-not-proven" and not config.certificate.exists()
    assert "--root" in caught.value.hint and folder.multikey(thief.public) in caught.value.detail
    with pytest.raises(Refused) as caught:
        making.finish(config.dir, None, forged, folder.multikey(folder.open_root(first).public))
    assert caught.value.name == "root-not-proven"
    making.finish(config.dir, None, forged, folder.multikey(thief.public))
    assert opened(config.dir).trust.roots[org].key == thief.public, "whoever types a root key means it"
    making.finish(config.dir, None, forged)  # it is the one of this folder now


@pytest.mark.parametrize("later_s", [0, 10 * 24 * 3600])
def test_a_founder_that_has_rotated_its_root_invites_with_the_one_of_now(
    mesh_of_acme: Path, tmp_path: Path, mesh: Mesh, monkeypatch: pytest.MonkeyPatch, later_s: float
) -> None:
    """Also where the answer comes when the invitation has ended."""
    content, now, root = folder.read_genesis(mesh_of_acme), time.time(), SigningKey.generate()
    config = replace(load(tmp_path / "acme-1"), dir=tmp_path / "acme-2", name="acme-2")
    making.joining(config, invitations.invite(root, genesis_hash=content.hash, org=ACME, now=now), mesh_of_acme)
    node = folder.open_identity(config).node.public
    chain = [certificates.issue(root, mesh_id=content.mesh_id, org=ACME, node=node, now=now), certificates.new_root(root, ACME, now=now)]
    (tmp_path / "c.pem").write_bytes(b"".join(map(certificates.pem, chain)))
    monkeypatch.setattr(time, "time", lambda: now + later_s)
    assert making.finish(config.dir, None, tmp_path / "c.pem").ready
    assert opened(config.dir).trust.roots[ACME].key == root.public


def test_a_root_key_without_a_certificate_or_that_is_no_key_has_a_name(mesh_of_acme: Path, tmp_path: Path, mesh: Mesh) -> None:
    making.finish(tmp_path / "acme-1", mesh_of_acme, None)
    alone = mesh("init", "--dir", "acme-1", "--root", "z6Mk")
    assert alone.code == 2 and "[usage]" in alone.err
    wrong = mesh("init", "--dir", "acme-1", "--root", "z6Mk", "--certificate", "acme-1/certificate.pem")
    assert wrong.code == 4 and "[bad-public-key]" in wrong.err


def test_where_the_root_was_made_it_is_known(mesh_of_acme: Path, tmp_path: Path) -> None:
    """Also after it was rotated: the folder's entry names the one of now."""
    making.finish(tmp_path / "acme-1", mesh_of_acme, None)
    config, content, now, root = load(tmp_path / "acme-1"), folder.read_genesis(mesh_of_acme), time.time(), SigningKey.generate()
    entry = folder.own_entry(config)
    assert entry is not None
    certificate = certificates.new_root(root, ACME, now=now)
    folder.write_org(config, replace(entry, root_key=folder.multikey(root.public), root_certificate=certificate))
    node = folder.open_identity(config).node.public
    issued = certificates.issue(root, mesh_id=content.mesh_id, org=ACME, node=node, now=now)
    (tmp_path / "c.pem").write_bytes(b"".join(map(certificates.pem, [issued, certificate])))
    assert making.finish(config.dir, None, tmp_path / "c.pem").ready


def test_an_invitation_to_another_mesh_or_organisation_names_no_root(mesh_of_acme: Path, tmp_path: Path) -> None:
    content, now, thief = folder.read_genesis(mesh_of_acme), time.time(), SigningKey.generate()
    for number, (mesh_hash, org) in enumerate([(bytes(32), ACME), (content.hash, GLOBEX)]):
        config = replace(load(tmp_path / "acme-1"), dir=tmp_path / f"joins-{number}", name=f"joins-{number}")
        making.joining(config, invitations.invite(thief, genesis_hash=mesh_hash, org=org, now=now), None)
        node = folder.open_identity(config).node.public
        issued = certificates.issue(thief, mesh_id=content.mesh_id, org=ACME, node=node, now=now)
        (tmp_path / "c.pem").write_bytes(b"".join(map(certificates.pem, [issued, certificates.new_root(thief, ACME, now=now)])))
        with pytest.raises(Refused) as caught:
            making.finish(config.dir, mesh_of_acme, tmp_path / "c.pem")
        assert caught.value.name == "root-not-proven"


def test_a_certificate_without_its_root_does_not_do_for_an_outsider(mesh_of_acme: Path, tmp_path: Path) -> None:
    making.finish(tmp_path / "newco-1", mesh_of_acme, None)
    config = load(tmp_path / "newco-1")
    folder.write_chain(config, certificates.chain_from_pem(config.certificate.read_bytes())[:1])
    with pytest.raises(BadInput) as caught:
        opened(config.dir)
    assert caught.value.name == "org-not-in-genesis"


def test_a_founder_whose_root_is_another_than_that_of_its_certificate_is_refused(mesh_of_acme: Path, tmp_path: Path) -> None:
    content = folder.read_genesis(mesh_of_acme)
    entry, _ = content.orgs
    other = SigningKey.generate()
    certificate = certificates.new_root(other, ACME, now=time.time())
    foreign = replace(content, orgs=(replace(entry, root_key=folder.multikey(other.public), root_certificate=certificate),))
    with pytest.raises(Refused) as caught:
        folder.certify(load(tmp_path / "acme-1"), foreign, now=time.time())
    assert caught.value.name == "wrong-org-root"
