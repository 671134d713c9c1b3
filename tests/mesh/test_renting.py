"""A mesh in which records cost something: what does not fit is refused, room is rented once, and all nodes hold what was paid for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.conftest import bring_up, decide, end
from tests.mesh.test_ledger import balance
from tests.mesh.testnet import Net, until

ORGS = ("alpha", "beta", "gamma", "delta")


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """A testnet with two free records, and three MESH for each further one."""
    folder = tmp_path_factory.mktemp("renting")
    try:
        net = bring_up(folder, 4)
        decide(net, {"directory-free-records": 2, "directory-record-price": 3_000_000})
        until(lambda: all(room(net, org)["room"] == 2 for org in ORGS), "the price is not everywhere")
        yield net
    finally:
        end(folder)


def room(net: Net, asked: str) -> Any:
    """Alpha's, as ``asked``'s node has it."""
    return net.ask(asked, "GET", f"/v1/directory/rooms/{net.node('alpha').did}").body


def test_room_is_rented_once_and_then_more_fits_everywhere(priced: Net, tmp_path: Path) -> None:
    lines = tmp_path / "agents.jsonl"
    lines.write_text("\n".join(json.dumps({"name": f"agent-{n}", "description": f"counts to {n}", "packages": []}) for n in range(4)))
    full = priced.mesh("publish", str(lines), "--org", "alpha")
    assert "org-full" in full.err + full.out, full
    until(lambda: all(room(priced, org)["held"] == 2 for org in ORGS), "what is free is not everywhere")
    before = balance(priced, "alpha", "alpha")
    dear = priced.mesh("directory", "rent", 2, "--at-most", "5.9", "--org", "alpha")
    assert dear.code == 4 and "[rent-dearer]" in dear.err
    rented = json.loads(priced.must("directory", "rent", 2, "--at-most", 6, "--org", "alpha", "--json"))
    assert (rented["outcome"], rented["paid"]) == ("committed", "6") and balance(priced, "alpha", "alpha") == before - 6
    again = json.loads(priced.must("directory", "rent", 2, "--days", 29, "--org", "alpha", "--json"))
    assert (again["outcome"], again["paid"]) == ("unchanged", "0") and balance(priced, "alpha", "alpha") == before - 6
    until(lambda: all(room(priced, org)["room"] == 4 for org in ORGS), "the rent is not everywhere")
    priced.must("publish", str(lines), "--org", "alpha")
    until(lambda: all(room(priced, org)["held"] == 4 for org in ORGS), "what was paid for is not everywhere", patience_s=90)
    out = priced.must("directory", "room", "--org", "alpha")
    assert out.split()[0] == "4" and "rented" in out
    assert "[rent-out-of-bounds]" in priced.mesh("directory", "rent", 9_999_999, "--org", "alpha").err
