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
from tests.relay.routers import HOMES, INSIDE, KINDS, PORT, SERVER, Net, why_not, within

ROOT = Path(__file__).resolve().parent.parent.parent

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")

DIRECT = {(a, b) for a in KINDS for b in KINDS} - {("symmetric", "symmetric"), ("symmetric", "port"), ("port", "symmetric")}
"""The pairs of routers through which a way is found: the same as RFC 5128 says of them."""


class Members:
    """A process at each home, and the one outside that relays."""

    def __init__(self) -> None:
        mesh = Mesh()
        hosts = {**INSIDE, "server": SERVER}
        orgs = {**{home: ALPHA if home.endswith("1") else BETA for home in HOMES}, "server": GAMMA}
        credentials = {space: mesh.credentials(org) for space, org in orgs.items()}
        self.ids = {space: node_id(one.key.public) for space, one in credentials.items()}
        at = {self.ids[space]: [hosts[space], PORT] for space in hosts}
        self.processes: dict[str, subprocess.Popen[str]] = {}
        for space in ("server", *HOMES):
            given = {
                "who": told(credentials[space]),
                "org": orgs[space],
                "listen": [hosts[space], PORT],
                "at": at,
                "relay": "" if space == "server" else self.ids["server"],
            }
            command = [*within(space), sys.executable, "-m", "tests.relay.member", json.dumps(given)]
            self.processes[space] = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if space == "server":
                assert self.read(space) == {"ready": True}
        for home in HOMES:
            assert self.read(home) == {"ready": True}

    def read(self, space: str) -> dict[str, Any]:
        stdout = self.processes[space].stdout
        assert stdout is not None
        answer = json.loads(stdout.readline() or "null")
        assert isinstance(answer, dict), f"{space} has ended"
        return answer

    def have_call(self, home: str, others: dict[str, bool]) -> None:
        stdin = self.processes[home].stdin
        assert stdin is not None
        stdin.write(json.dumps({self.ids[other]: direct for other, direct in others.items()}) + "\n")
        stdin.flush()

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def test_a_way_is_found_through_all_routers_but_those_that_hide_their_port_from_one_that_wants_it() -> None:
    net, members, found, figures = Net(), None, {}, {}
    callers, others = [f"{kind}-1" for kind in KINDS], [f"{kind}-2" for kind in KINDS]
    try:
        net.begin()
        members = Members()
        for caller, kind in zip(callers, KINDS, strict=True):
            members.have_call(caller, {other: (kind, other.partition("-")[0]) in DIRECT for other in others})
        for caller, kind in zip(callers, KINDS, strict=True):
            answer = members.read(caller)
            assert {how["path"] for how in answer["first"].values()} == {"relay"}, "the first call does not wait for a way"
            figures[caller] = answer["figures"]
            assert answer["figures"]["punches_sent"] <= 10 * answer["figures"].get("punched", 0), answer
            for other, other_kind in zip(others, KINDS, strict=True):
                then = answer["then"][members.ids[other]]
                found[kind, other_kind] = then["path"]
                assert then["via"] == (members.ids["server"] if then["path"] == "relay" else None)
    finally:
        if members is not None:
            members.end()
        net.end()
    assert {kinds for kinds, path in found.items() if path == "quic"} == DIRECT, (found, figures)
