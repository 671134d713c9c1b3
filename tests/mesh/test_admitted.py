"""An organisation that did not found the mesh: it starts, waits, is admitted by vote, takes part, has another root, and leaves."""

import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.keys import ROOT, possession
from meshos.consensus.ledger.orgs import Leave, RotateRoot
from meshos.crypto import certificates
from meshos.crypto.keys import SigningKey, multikey
from meshos.crypto.signing import sign
from meshos.genesis import Genesis
from meshos.ids import OrgDid
from meshos.node import folder
from meshos.node.cli.signing import signed
from meshos.node.cli.testnet import record
from meshos.node.config import load
from tests.mesh.conftest import Agents, Further
from tests.mesh.testnet import Net, free_base, until

NEWCO = OrgDid("did:mesh:enterprise:newco")
FOUNDERS = ("alpha", "beta", "gamma", "delta")


class Five(Net):
    """The testnet, and the newcomer's node, which stands for itself."""

    def __init__(self, net: Net, further: Further) -> None:
        super().__init__(net.folder)
        self.further = further
        self.place = further.place
        self.fifth: record.Node | None = None
        self.child: subprocess.Popen[bytes] | None = None

    def node(self, org: str) -> record.Node:
        return self.fifth if org == "newco" and self.fifth is not None else super().node(org)

    def begin(self) -> None:
        self.child = self.further.run()

    def start(self) -> None:
        self.begin()
        child = self.child
        assert child is not None

        def ready() -> bool:
            assert child.poll() is None, self.log("newco")
            return answers(self)

        until(ready, "it never became ready")

    def end(self) -> None:
        assert self.child is not None
        self.child.terminate()
        self.child.wait(30)

    def problems(self) -> str:
        return " ".join(self.ask("newco", "GET", "/v1/status").body["problems"])

    def by_root(self, root: SigningKey, body: Body) -> None:
        """A transaction of the newcomer's root key, passed on by a founder's node."""
        key = self.ask("alpha", "GET", f"/v1/ledger/keys/{multikey(root.public)}").body
        request = signed(root, body, bytes.fromhex(key["genesis"]), key["nonce"], int(time.time() * 1000) + 60_000)
        answer = self.ask("alpha", "POST", "/v1/transactions", {"request": request})
        assert answer.body.get("outcome") == "committed", answer

    def genesis(self) -> Genesis:
        return folder.read_genesis(self.place / "genesis.json")

    def parted(self) -> bool:
        """Whether none of the founders lists the newcomer's node as alive."""
        return all(self.sees(org, "newco") != "alive" for org in FOUNDERS)


@dataclass
class Roots:
    """The newcomer's root key as it is now."""

    now: SigningKey


@pytest.fixture(scope="module")
def five(net: Net, agents: Agents, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Five]:
    place = tmp_path_factory.mktemp("fifth") / "newco-1"
    further = Further(place, free_base())
    five = Five(net, further)
    made = json.loads(net.must("init", "--org", "newco", *further.options(net), "--json"))
    ready = net.mesh("init", "--dir", place, "--genesis", net.folder / "testnet" / "genesis.json")
    assert ready.code == 0 and "did not found this mesh" in ready.err, ready
    five.fifth = further.record("newco", NEWCO, made["node_id"])
    five.start()
    try:
        yield five
    finally:
        five.end()


@pytest.fixture(scope="module")
def admitted(five: Five) -> Five:
    """The motion is carried by three of four."""
    application = five.must("org", "apply", "--dir", five.place).strip()
    moved = five.ask("alpha", "POST", "/v1/proposals", {"motion": {"admit": application}})
    assert moved.status in (200, 201), moved
    for org in ("beta", "gamma"):
        until(lambda org=org: five.ask(org, "GET", f"/v1/proposals/{moved.body['id']}").status == 200)
        voted = five.ask(org, "POST", f"/v1/proposals/{moved.body['id']}/votes", {"choice": "for"})
        assert voted.status == 200, voted
    return five


@pytest.fixture(scope="module")
def roots(admitted: Five) -> Roots:
    return Roots(folder.open_root(load(admitted.place)))


def test_before_the_vote_it_runs_and_waits(five: Five) -> None:
    until(lambda: "waits for admission" in five.problems())
    assert "waits-for-admission" in five.log("newco")
    doctor = {row["check"]: row["verdict"] for row in json.loads(five.mesh("doctor", "--dir", five.place, "--json").out)["checks"]}
    assert (doctor["genesis"], doctor["certificate"]) == ("pass", "pass")
    refused = "links_path_tcp_refused_unknown_root"
    until(lambda: five.metrics("alpha").get(refused) or five.metrics("beta").get(refused), "it never came to the door")
    assert five.parted(), "nobody takes it for a member"


def test_once_admitted_it_is_let_in_and_has_the_ledger(admitted: Five) -> None:
    until(lambda: admitted.acquainted(*FOUNDERS, "newco"), "it was never let in")
    newest = admitted.ask("alpha", "GET", "/v1/ledger/head").body["height"]
    until(lambda: admitted.ask("newco", "GET", "/v1/ledger/head").body["height"] >= newest, "it never caught up")
    until(lambda: "admission" not in admitted.problems())
    assert "admitted" in admitted.log("newco")


def test_its_node_is_registered_is_given_mesh_and_pays(admitted: Five, agents: Agents) -> None:
    done = json.loads(admitted.must("org", "register", "--dir", admitted.place, "--json"))
    assert (done["role"], done["org"], done["key"]) == ("node", NEWCO, admitted.node("newco").node_id)
    admitted.must("wallet", "transfer", NEWCO, "50", "--org", "alpha")
    until(lambda: admitted.ask("newco", "GET", f"/v1/accounts/{NEWCO}").body.get("balance") == "50")
    paid = admitted.ask("newco", "POST", "/v1/transactions", {"transfer": {"to": admitted.node("beta").did, "amount": "1"}})
    assert paid.body.get("outcome") == "committed", paid
    until(lambda: admitted.knows("newco", agents.echo), "it never heard of the agent")
    called = admitted.call("newco", agents.echo, "echo", {"text": "from the fifth"})
    assert called["status"] == "completed" and called["receipt"]["callerOrg"] == NEWCO


def test_who_starts_again_believes_the_same(admitted: Five) -> None:
    admitted.must("testnet", "kill", "delta")
    admitted.end()
    admitted.begin()
    admitted.must("testnet", "start", "delta")
    until(lambda: answers(admitted) and admitted.acquainted("alpha", "delta", "newco"), "it was not let in again")


def test_a_forged_root_is_not_believed_and_a_good_one_is_with_the_certificate_that_was_prepared(admitted: Five, roots: Roots) -> None:
    until(lambda: admitted.acquainted(*FOUNDERS, "newco"))
    forged, good = SigningKey(secrets.token_bytes(32)), SigningKey(secrets.token_bytes(32))
    certificate = certificates.new_root(good, NEWCO, now=time.time())
    admitted.by_root(roots.now, _rotation(admitted, forged, certificate))
    until(admitted.parted, "a root that is not that of its certificate is believed")
    chain = _prepared(admitted, good, certificate)
    admitted.by_root(forged, _rotation(admitted, good, certificate))
    roots.now = good
    until(lambda: _has_swapped(admitted, chain), "it did not come back with the certificate that was prepared")


def test_a_node_that_is_prepared_goes_along_when_its_root_is_rotated(admitted: Five, roots: Roots) -> None:
    coming = SigningKey(secrets.token_bytes(32))
    certificate = certificates.new_root(coming, NEWCO, now=time.time())
    chain = _prepared(admitted, coming, certificate)
    admitted.by_root(roots.now, _rotation(admitted, coming, certificate))
    roots.now = coming
    until(lambda: _has_swapped(admitted, chain), "it was left behind")


def test_who_has_left_is_let_in_nowhere(admitted: Five, roots: Roots) -> None:
    admitted.by_root(roots.now, Leave(admitted.node("alpha").did))
    until(admitted.parted, "it has left, and is there")


def answers(five: Five) -> bool:
    try:
        return five.ask("newco", "GET", "/readyz").status == 200
    except OSError:
        return False


def _rotation(five: Five, root: SigningKey, certificate: bytes) -> RotateRoot:
    claim = possession(five.genesis().hash, multikey(root.public), NEWCO, ROOT, b"")
    return RotateRoot(NEWCO, multikey(root.public), certificate, sign(root, claim.domain, claim.payload))


def _prepared(five: Five, root: SigningKey, certificate: bytes) -> list[bytes]:
    """The certificate of its node under a coming root, put into its folder, and that root's."""
    node = folder.open_identity(load(five.place)).node.public
    issued = certificates.issue(root, mesh_id=five.genesis().mesh_id, org=NEWCO, node=node, now=time.time())
    (five.place / folder.NEXT_CERTIFICATE).write_bytes(certificates.pem(issued))
    return [issued, certificate]


def _has_swapped(five: Five, chain: list[bytes]) -> bool:
    """Whether it is let in everywhere, and has kept this certificate, with its root's."""
    kept = certificates.chain_from_pem((five.place / "certificate.pem").read_bytes())
    is_there = kept == chain and not (five.place / folder.NEXT_CERTIFICATE).exists()
    return is_there and five.problems() == "" and five.acquainted(*FOUNDERS, "newco")
