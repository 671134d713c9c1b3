"""Two members behind routers of all kinds, and one outside that relays: who finds a direct way, and who stays relayed. With real
processes, real sockets, and the kernel's own address translation."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meshos.crypto.keys import node_id
from tests.links.mesh import ALPHA, BETA
from tests.relay.member import told
from tests.relay.mesh import GAMMA, Mesh
from tests.relay.routers import INSIDE, KINDS, PORT, SERVER, Net, why_not, within

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")

DIRECT = {(a, b) for a in KINDS for b in KINDS} - {("symmetric", "symmetric"), ("symmetric", "port"), ("port", "symmetric")}
"""The pairs of routers through which a way is found: the same as RFC 5128 says of them."""


class Members:
    """Three processes in ``net``."""

    def __init__(self, net: Net) -> None:
        mesh = Mesh()
        credentials = {"a": mesh.credentials(ALPHA), "b": mesh.credentials(BETA), "server": mesh.credentials(GAMMA)}
        orgs = {"a": ALPHA, "b": BETA, "server": GAMMA}
        ids = {space: node_id(one.key.public) for space, one in credentials.items()}
        hosts = {**INSIDE, "server": SERVER}
        at = {ids[space]: [hosts[space], PORT] for space in ids}
        self.processes: dict[str, subprocess.Popen[str]] = {}
        for space in ("server", "a", "b"):
            given = {
                "who": told(mesh, credentials[space]),
                "org": orgs[space],
                "listen": [hosts[space], PORT],
                "at": at,
                "relay": "" if space == "server" else ids["server"],
                "target": ids["b"],
                "patience_s": 8,
            }
            command = [*within(space), sys.executable, "-m", "tests.relay.member", json.dumps(given)]
            self.processes[space] = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self.read(space) == {"ready": True}

    def read(self, space: str) -> dict[str, Any]:
        stdout = self.processes[space].stdout
        assert stdout is not None
        answer = json.loads(stdout.readline() or "null")
        assert isinstance(answer, dict), f"{space} has ended"
        return answer

    def call(self) -> dict[str, Any]:
        """``a`` calls ``b``."""
        stdin = self.processes["a"].stdin
        assert stdin is not None
        stdin.write("\n")
        stdin.flush()
        return self.read("a")

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.mark.parametrize("kinds", [(a, b) for a in KINDS for b in KINDS], ids="-".join)
def test_a_way_is_found_through_all_routers_but_those_that_hide_their_port_from_one_that_wants_it(kinds: tuple[str, str]) -> None:
    net, members = Net(kinds), None
    try:
        net.begin()
        members = Members(net)
        answer = members.call()
        assert answer["first"]["path"] == "relay", "the first call does not wait for a way"
        assert (answer["then"]["path"], answer["then"]["via"] is None) == (("quic", True) if kinds in DIRECT else ("relay", False)), answer
        assert 0 < answer["figures"]["punches_sent"] <= 12
    finally:
        if members is not None:
            members.end()
        net.end()
