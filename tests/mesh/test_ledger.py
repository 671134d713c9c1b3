"""The ledger of a running mesh by the commands that people type: moving MESH, looking at it, proving it, and a call that pays."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

from tests.mesh.conftest import Agents
from tests.mesh.testnet import Net, until


def balance(net: Net, whose: str, asked: str) -> Decimal:
    """What ``whose`` has, as ``asked``'s node says: exactly, since millionths add up to no float."""
    return Decimal(net.ask(asked, "GET", f"/v1/accounts/{net.node(whose).did}").body["balance"])


def waiting(net: Net) -> int:
    """How many transactions alpha's node waits for."""
    return int(net.ask("alpha", "GET", "/v1/ledger/head").body["waiting"])


@contextmanager
def begun(net: Net, *words: object) -> Iterator[subprocess.Popen[str]]:
    """The command while it runs; whoever runs the tests in the background has SIGINT ignored, which a child would inherit."""
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    line = [sys.executable, "-m", "meshos.node.cli.main", *map(str, words)]
    with subprocess.Popen(line, cwd=net.folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=heed) as command:
        try:
            yield command
        finally:
            command.kill()


def test_a_transfer_is_committed_at_all_and_stands_in_a_block_that_a_quorum_signed(net: Net) -> None:
    before, had = balance(net, "delta", "alpha"), balance(net, "gamma", "alpha")
    moved = json.loads(net.must("wallet", "transfer", net.node("delta").did, "12.5", "--org", "gamma", "--json"))
    for org in ("alpha", "beta", "gamma", "delta"):
        until(lambda org=org: balance(net, "delta", org) == before + Decimal("12.5"), f"{org} never heard of it")
    assert balance(net, "gamma", "beta") <= had - Decimal("12.5")
    block = json.loads(net.must("ledger", "block", moved["height"], "--org", "beta", "--json"))
    assert moved["txId"] in [tx["txId"] for tx in block["transactions"]] and len(block["signedBy"]) >= 3
    tx = json.loads(net.must("ledger", "tx", moved["txId"][:12], "--org", "delta", "--json"))
    assert (tx["outcome"], tx["kind"], tx["height"]) == ("committed", "transfer", moved["height"])


def test_a_transfer_with_the_same_key_moves_once(net: Net) -> None:
    words = ("wallet", "transfer", net.node("beta").did, "3", "--org", "alpha", "--idempotency-key", "once-only", "--json")
    first, again = json.loads(net.must(*words)), json.loads(net.must(*words))
    assert first["txId"] == again["txId"]


def test_a_transfer_of_which_nothing_is_known_yet_can_be_asked_for_again_and_moves_once(net: Net) -> None:
    words = ("wallet", "transfer", net.node("beta").did, "1", "--org", "alpha", "--json")
    net.must("testnet", "partition", "alpha,beta/gamma,delta")
    try:
        late = net.mesh(*words, "--timeout", "2")
        assert (late.code, "[unknown-yet]" in late.err) == (3, True), late
        (key,) = re.findall(r"--idempotency-key ([0-9a-f]{32})", late.err)
    finally:
        net.must("testnet", "heal")
    until(lambda: net.mesh(*words, "--idempotency-key", key).code == 0)
    first, again = (json.loads(net.must(*words, "--idempotency-key", key)) for _ in range(2))
    assert first == again and first["outcome"] == "committed"


def test_whoever_stops_waiting_for_a_transfer_learns_how_to_ask_for_it_again(net: Net) -> None:
    words = ("wallet", "transfer", net.node("beta").did, "1", "--org", "alpha")
    net.must("testnet", "partition", "alpha,beta/gamma,delta")
    try:
        assert "alpha-1 is cut off from gamma-1, delta-1" in net.mesh("testnet", "status").err
        before = waiting(net)
        with begun(net, *words, "--timeout", "120") as command:
            until(lambda: waiting(net) > before, "it was never asked for")
            command.send_signal(signal.SIGINT)
            _, err = command.communicate(timeout=60)
    finally:
        net.must("testnet", "heal")
    assert command.returncode == 130 and "Traceback" not in err, err
    (key,) = re.findall(r"--idempotency-key ([0-9a-f]{32})", err)
    until(lambda: net.mesh(*words, "--idempotency-key", key).code == 0)


def test_what_the_ledger_says_no_to(net: Net) -> None:
    beta = net.node("beta").did
    too_much = net.mesh("wallet", "transfer", beta, "900000000", "--org", "gamma")
    assert (too_much.code, "[insufficient-funds]" in too_much.err) == (4, True), too_much
    beyond = net.mesh("wallet", "transfer", beta, "900000000000", "--org", "gamma")
    assert (beyond.code, "[amount-out-of-bounds]" in beyond.err) == (4, True), beyond
    nobody = net.mesh("wallet", "transfer", "did:mesh:enterprise:nobody", "1", "--org", "gamma")
    assert (nobody.code, "[account-unknown]" in nobody.err) == (4, True), nobody
    assert net.mesh("wallet", "transfer", "beta", "1", "--org", "gamma").code == 2
    assert "[bad-amount]" in net.mesh("wallet", "transfer", beta, "0.0000001", "--org", "gamma").err
    assert "[no-such-block]" in net.mesh("ledger", "block", "99999999", "--org", "gamma").err
    assert "[no-such-transaction]" in net.mesh("ledger", "tx", "0123456789abcdef", "--org", "gamma").err


def test_a_proof_is_checked_with_the_genesis_alone(net: Net, tmp_path: Path) -> None:
    net.must("wallet", "transfer", net.node("beta").did, "1", "--org", "alpha")
    file, key = tmp_path / "balance.proof", f"account/{net.node('delta').did}"

    def proven() -> bool:
        return net.mesh("ledger", "proof", key, "--out", file, "--org", "beta").code == 0

    until(proven, "its state was never signed")
    genesis = net.folder / "testnet" / "genesis.json"
    checked = json.loads(net.must("ledger", "verify", file, "--genesis", genesis, "--json"))
    assert checked["key"] == key
    nothing = net.mesh("ledger", "proof", "account/did:mesh:enterprise:nobody", "--out", tmp_path / "absent.proof", "--org", "beta")
    assert nothing.code == 0 and "that the ledger has nothing under account/did:mesh:enterprise:nobody" in nothing.err, nothing
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    refused = net.mesh("ledger", "verify", file, "--genesis", genesis)
    assert (refused.code == 1 and "[not-proven]" in refused.err) or refused.code in (2, 4), refused


def test_a_call_pays_by_voucher_on_a_tab_that_opens_by_itself(net: Net, agents: Agents) -> None:
    before = balance(net, "beta", "gamma")
    called = net.call("delta", agents.units, "convert", {"value": 3, "from_unit": "km", "to_unit": "m"})
    assert called["status"] == "completed" and called["receipt"]["price"] != "0"
    until(lambda: balance(net, "beta", "gamma") >= before + Decimal(called["receipt"]["price"]), "the provider was never paid")
    tabs = net.ask("alpha", "GET", f"/v1/accounts/{net.node('beta').did}").body["tabs"]
    assert any(tab["org"] == net.node("delta").did and Decimal(tab["redeemed"]) > 0 for tab in tabs)


def test_the_others_go_on_without_one_validator_and_it_catches_up(net: Net) -> None:
    net.must("testnet", "kill", "alpha")
    try:
        for _ in range(3):
            net.must("wallet", "transfer", net.node("gamma").did, "1", "--org", "beta", "--timeout", "60")
    finally:
        net.must("testnet", "start", "alpha")
    newest = net.ask("beta", "GET", "/v1/ledger/head").body["height"]
    roots = {
        until(lambda org=org: net.ask(org, "GET", f"/v1/ledger/blocks/{newest}").body.get("stateRoot"), f"{org} never had it")
        for org in ("alpha", "beta", "gamma", "delta")
    }
    assert len(roots) == 1
