"""Another root key for an organisation: a kill at every change of the folder, who gets a certificate under it, and what is refused.

The ledger here is a file with the root key that it has. The real one is in tests/mesh/test_several_nodes.py.
"""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshos import genesis as genesis_file
from meshos.consensus.ledger.orgs import RotateRoot
from meshos.crypto import certificates
from meshos.crypto.certificates import Trust
from meshos.crypto.keys import multikey
from meshos.crypto.keystore import TEST_COST, FileKeyStore
from meshos.crypto.signing import verify_many
from meshos.errors import Refused
from meshos.genesis_reading import parse_org
from meshos.node import folder
from meshos.node.cli import registering, revoking, rotating
from meshos.node.cli.main import run
from meshos.node.config import NodeConfig, load
from meshos.node.trust import TrustBook
from tests.cli.test_killed_writes import config_of, each_change

NOW = time.time()


class Ledger:
    """As the commands see it: one organisation, its root key and its nodes."""

    def __init__(self, file: Path, nodes: list[str]) -> None:
        self.file, self.nodes = file, nodes

    def __call__(self, target: object) -> "Ledger":
        return self

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get(self, *path: str) -> dict[str, object]:
        assert path[:3] == ("v1", "ledger", "orgs")
        return {"root": self.file.read_text(), "nodes": [{"node_id": node, "name": None} for node in self.nodes]}

    def send(self, client: object, config: NodeConfig, body: Any) -> int:
        assert isinstance(body, RotateRoot) and self.file.read_text() == multikey(folder.open_root(config).public), "the old root signs"
        assert all(verify_many(body.claims(folder.read_genesis(config.genesis).hash))), "and the next one agrees"
        self.file.write_text(body.root)
        return 7


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A founder's folder ``acme-1`` with its certificate, and that of a second node in its ``issued``."""
    place = tmp_path_factory.mktemp("source")
    config = config_of(place)
    org = folder.make_org(config, now=NOW, cost=TEST_COST, root_cost=TEST_COST)
    content = genesis_file.new(
        folder.template(), mesh="one", time_ms=int(NOW * 1000), placement_seed=bytes(32), testnet=True, timing="fast", orgs=[org]
    )
    folder.certify(config, content, now=NOW)
    second = folder.make_joining(config_of(place, "acme-2"), cost=TEST_COST)
    issued = certificates.issue(folder.open_root(config), mesh_id=content.mesh_id, org=config.org, node=second.node.public, now=NOW)
    folder.remember_issued(config, issued)
    return place


@pytest.fixture
def place(source: Path, tmp_path: Path) -> Path:
    shutil.copytree(source, tmp_path / "place")
    return tmp_path / "place"


@pytest.fixture
def ledger(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    first, second = (folder.open_identity(config_of(place, name)).node_id for name in ("acme-1", "acme-2"))
    found = Ledger(tmp_path / "ledger", [first, second])
    found.file.write_text(root_in(place))
    monkeypatch.setattr(rotating, "Client", found)
    monkeypatch.setattr(rotating, "send_by_root", found.send)
    monkeypatch.setattr(rotating.prepare, "__defaults__", (TEST_COST,))
    monkeypatch.setattr(registering, "target_of", lambda config, node, key: None)
    yield found


def root_in(place: Path, file: str = folder.ROOT_FILE) -> str:
    config = load(place / "acme-1")
    store = FileKeyStore.open(config.dir / file, folder.passphrase_of(config))
    return multikey(folder.exported(store, folder.ROOT_KEY).public)


def rotate(place: Path, *words: str) -> int:
    return run(["org", "rotate-root", *words, "--dir", str(place / "acme-1")])


def reissue(place: Path, name: str, *words: str) -> int:
    return run(["org", "reissue", name, *words, "--dir", str(place / "acme-1")])


def vouched(place: Path, pem: bytes) -> str:
    """The node whose certificate this is, under the root key of the folder."""
    config = load(place / "acme-1")
    trust = Trust(folder.read_genesis(config.genesis).mesh_id, {config.org: folder.open_root(config).public})
    return certificates.verify_chain([certificates.from_pem(pem)], trust, time.time()).node


def test_the_first_step_killed_anywhere_goes_on(place: Path, tmp_path: Path, ledger: Ledger, capfd: pytest.CaptureFixture[str]) -> None:
    before, saved = root_in(place), tmp_path / "saved"
    shutil.copytree(place, saved)

    def fresh() -> None:
        shutil.rmtree(place)
        shutil.copytree(saved, place)

    for _ in each_change(place, fresh, lambda: rotate(place), least=8):
        begun = (place / "acme-1" / rotating.NEXT_ROOT).exists() and root_in(place, rotating.NEXT_ROOT)
        assert root_in(place) == before == ledger.file.read_text(), "nothing has changed"
        assert rotate(place) == 0
        assert not begun or root_in(place, rotating.NEXT_ROOT) == begun, "the key that was made is the one that comes"
        coming = rotating.under_way(load(place / "acme-1"))
        certificates.verify_root(coming.certificate, coming_org(place), coming.next.public)
    assert "PRIVATE" not in capfd.readouterr().out


def coming_org(place: Path) -> Any:
    return load(place / "acme-1").org


def test_the_second_step_killed_anywhere_ends_with_the_root_that_the_ledger_has(place: Path, tmp_path: Path, ledger: Ledger) -> None:
    before, saved = root_in(place), tmp_path / "saved"
    assert rotate(place) == 0 and reissue(place, ledger.nodes[1]) == 0
    after = root_in(place, rotating.NEXT_ROOT)
    shutil.copytree(place, saved)

    def fresh() -> None:
        shutil.rmtree(place)
        shutil.copytree(saved, place)
        ledger.file.write_text(before)

    at, states = place / "acme-1", set()
    for _ in each_change(place, fresh, lambda: rotate(place, "--commit"), least=8):
        kept = {root_in(place, file) for file in (folder.ROOT_FILE, rotating.NEXT_ROOT) if (at / file).exists()}
        assert ledger.file.read_text() in kept, "the root that the ledger has is never lost"
        states.add((ledger.file.read_text() == after, root_in(place) == after, (at / rotating.NEXT_ROOT_CERTIFICATE).exists()))
        if (at / rotating.NEXT_ROOT_CERTIFICATE).exists():
            assert rotate(place, "--commit") == 0
        assert ledger.file.read_text() == root_in(place) == after and root_in(place, rotating.OLD_ROOT) == before
        assert not (at / rotating.NEXT_ROOT).exists() and not (at / rotating.NEXT_ROOT_CERTIFICATE).exists()
        entry = parse_org((at / folder.ORG_FILE).read_bytes())
        assert entry.root_key == after
        certificates.verify_root(entry.root_certificate, entry.did, folder.open_root(load(at)).public)
        assert vouched(place, (at / folder.NEXT_CERTIFICATE).read_bytes()) == ledger.nodes[0]
    assert states == {(True, False, True), (True, True, True), (True, True, False)}, "each state in between was met"


def test_a_node_without_a_certificate_holds_the_rotation_up(place: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert rotate(place, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["next"], told["committed"]) == (root_in(place, rotating.NEXT_ROOT), False)
    assert [one["node_id"] for one in told["waiting"]] == ledger.nodes[1:]
    assert rotate(place, "--commit") == 4
    assert "[certificates-missing]" in (err := capsys.readouterr().err) and f"mesh org reissue {ledger.nodes[1]}" in err
    assert reissue(place, ledger.nodes[1][:14]) == 0
    pem = capsys.readouterr().out
    assert reissue(place, ledger.nodes[1]) == 0 and capsys.readouterr().out == pem, "the same again"
    assert pem.count("BEGIN CERTIFICATE") == 2, "its root's stands behind it"
    assert rotate(place, "--commit") == 0 and vouched(place, pem.encode()) == ledger.nodes[1]
    assert rotate(place, "--commit") == 2 and "[no-rotation]" in capsys.readouterr().err


def test_who_is_revoked_gets_no_certificate_and_stays_revoked(place: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    config, second = load(place / "acme-1"), ledger.nodes[1]
    assert rotate(place) == 0 and reissue(place, second) == 0
    serials = set(revoking.revoke(config, second, None).serials)
    assert rotate(place, "--commit") == 0
    renewed = certificates.read_revocations(
        (config.revocations / folder.list_name(config.org)).read_bytes(), config.org, folder.open_root(config).public
    )
    assert renewed.serials == serials and len(serials) == 2, "both that it had"
    assert rotate(place) == 0
    capsys.readouterr()
    assert reissue(place, second) == 4 and "[certificate-revoked]" in capsys.readouterr().err


def test_whoever_is_revoked_before_the_ledger_has_the_root_is_on_a_list_of_it_by_then(
    place: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A node believes a root from its block on: the list has to be in its folder then, and not when somebody copies it later."""
    config, second = load(place / "acme-1"), ledger.nodes[1]
    assert rotate(place) == 0 and reissue(place, second) == 0 and not list(config.revocations.glob("*.crl"))
    pem, coming = certificates.from_pem(capsys.readouterr().out.encode()), rotating.under_way(config)
    revoking.revoke(config, second, None)
    seen = []

    def send(client: object, config: NodeConfig, body: RotateRoot) -> int:
        book = TrustBook(folder.read_genesis(config.genesis), config.revocations)
        book.follow({config.org: (body.root, body.certificate)})
        with pytest.raises(Refused) as caught:
            book.check(pem)
        seen.append(caught.value.name)
        return ledger.send(client, config, body)

    monkeypatch.setattr(rotating, "send_by_root", send)
    assert rotate(place, "--nonce", "3") == 0
    told = capsys.readouterr().err
    ahead = rotating.list_ahead(config, coming)
    assert ahead is not None and str(ahead) in told and "revocations" in told
    before = ahead.read_bytes()
    assert rotate(place) == 0 and ahead.read_bytes() == before, "the same again"
    assert str(ahead) in capsys.readouterr().err
    assert rotate(place, "--commit") == 0 and seen == ["certificate-revoked"]
    assert (config.revocations / folder.list_name(config.org)).read_bytes() == before and not ahead.exists(), "it is the list from now on"


def test_the_list_of_the_coming_root_grows_with_that_of_the_one_that_is(place: Path, ledger: Ledger) -> None:
    config = load(place / "acme-1")
    assert rotate(place) == 0
    coming = rotating.under_way(config)
    assert rotating.list_ahead(config, coming) is None, "nobody is revoked"
    lists = []
    for node in reversed(ledger.nodes):
        revoking.revoke(config, node, None)
        path = rotating.list_ahead(config, coming)
        assert path is not None
        lists.append(certificates.read_revocations(path.read_bytes(), config.org, coming.next.public))
    assert lists[0].serials < lists[1].serials and lists[0].number < lists[1].number


def test_what_is_refused(place: Path, ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reissue(place, ledger.nodes[1]) == 2 and "[no-rotation]" in capsys.readouterr().err
    assert rotate(place, "--commit") == 2 and "[no-rotation]" in capsys.readouterr().err
    assert rotate(place, "--commit", "--committed") == 2 and "[usage]" in capsys.readouterr().err
    assert rotate(place) == 0
    for name in ("", "acme-2", "12D3KooW", "12D3KooWzzzzzzz"):
        assert reissue(place, name) == 2 and "[no-such-certificate]" in capsys.readouterr().err
    stranger = certificates.issue(
        folder.open_identity(load(place / "acme-1")).node,
        mesh_id=folder.read_genesis(load(place / "acme-1").genesis).mesh_id,
        org=load(place / "acme-1").org,
        node=folder.make_joining(config_of(tmp_path, "evil-1"), cost=TEST_COST).node.public,
        now=NOW,
    )
    (tmp_path / "evil.pem").write_bytes(certificates.pem(stranger))
    evil = certificates.describe(stranger).peer.node
    assert reissue(place, evil, "--certificate", str(tmp_path / "evil.pem")) == 4
    assert "[wrong-org-root]" in capsys.readouterr().err, "what another key has signed is no reason to sign it"
    ledger.file.write_text("z6MkAnother")
    assert rotate(place, "--commit", "--anyway") == 4 and "[other-root]" in capsys.readouterr().err
    assert root_in(place) != root_in(place, rotating.NEXT_ROOT), "nothing was renamed"
    (place / "acme-1" / folder.ROOT_FILE).unlink()
    assert rotate(place) == 2 and "[root-key-not-here]" in capsys.readouterr().err


def test_an_offline_root_key_is_rotated_without_asking_a_node(
    place: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # now the real node of the folder is asked, which does not run
    monkeypatch.setattr(rotating.prepare, "__defaults__", (TEST_COST,))
    assert rotate(place, "--json") == 0, "no node answers there"
    told = json.loads(capsys.readouterr().out)
    assert told["complete"] is False and [one["node_id"] for one in told["waiting"]] == ledger.nodes[1:]
    after = root_in(place, rotating.NEXT_ROOT)
    assert rotate(place, "--nonce", "3") == 0 and len(capsys.readouterr().out.split()) == 1
    assert root_in(place) != after
    assert rotate(place, "--committed") == 0 and root_in(place) == after
