"""Homes with routers of the kinds that there are, two of each, and a server that all reach: network namespaces, and nftables.

    home cone-1 192.168.1.2 -- its router -- 203.0.113.0/24 -- its router -- 192.168.2.2 home cone-2, and so on
                                                  |
                                              server .1

The router's kinds, by what RFC 4787 calls their filtering and mapping:

- ``cone``: every inside port has one outside port, and whoever knows it may send there (full cone).
- ``port``: the same mapping; only from where something was sent to (port-restricted). What Linux does of itself.
- ``symmetric``: another outside port for every destination.
"""

import os
import shutil
import subprocess
import sys

PREFIX = f"punch{os.getpid()}"
KINDS = ("cone", "port", "symmetric")
HOMES = tuple(f"{kind}-{number}" for kind in KINDS for number in (1, 2))
SERVER = "203.0.113.1"
OUTSIDE = {home: f"203.0.113.{number}" for number, home in enumerate(HOMES, 2)}
INSIDE = {home: f"192.168.{number}.2" for number, home in enumerate(HOMES, 1)}
SPACES = ("hub", "server", *HOMES, *(f"router-{home}" for home in HOMES))
PORT = 8300
"""Of every member's links; a router's full cone lets in what comes to it."""


def why_not() -> str:
    """Why this machine cannot make such a network; nothing where it can."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("nft") is None:
        return "routers need Linux, root, iproute2 and nftables"
    made = subprocess.run(["ip", "netns", "add", f"{PREFIX}probe"], capture_output=True, text=True, check=False)
    try:
        rules = "table ip t { chain c { type nat hook postrouting priority 100; masquerade fully-random\n}\n}"
        tried = subprocess.run([*within("probe"), "nft", "-f", "-"], input=rules, capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["ip", "netns", "del", f"{PREFIX}probe"], capture_output=True, check=False)
    return made.stderr.strip() or tried.stderr.strip()


def within(space: str) -> list[str]:
    """The words before a command that is to run there."""
    return ["ip", "netns", "exec", f"{PREFIX}{space}"]


def rules(home: str) -> str:
    """What its router does. TCP does not come in from outside through any of them."""
    kind = home.partition("-")[0]
    how = "fully-random" if kind == "symmetric" else "persistent"
    inward = f'iifname "out" udp dport {PORT} dnat to {INSIDE[home]}:{PORT};' if kind == "cone" else ""
    return f"""
    table ip nat {{
      chain out {{ type nat hook postrouting priority 100; oifname "out" masquerade {how};}}
      chain in {{ type nat hook prerouting priority -100; {inward}}}
    }}
    table ip filter {{
      chain input {{ type filter hook input priority 0; iifname "out" drop;}}
      chain forward {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "in" accept
        ct status dnat accept
      }}
    }}
    """


class Net:
    """``begin``, then ``within(space)`` for the homes and the server; ``end``."""

    def begin(self) -> None:
        """Make it."""
        for space in SPACES:
            _run("ip", "netns", "add", f"{PREFIX}{space}")
            _run("ip", "-n", f"{PREFIX}{space}", "link", "set", "lo", "up")
        hub = f"{PREFIX}hub"
        _run("ip", "-n", hub, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", hub, "link", "set", "bridge", "up")
        self._plug("server", "out", SERVER)
        for home in HOMES:
            router = f"router-{home}"
            self._plug(router, "out", OUTSIDE[home])
            gateway = INSIDE[home].rpartition(".")[0] + ".1"
            _run("ip", "-n", f"{PREFIX}{home}", "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", f"{PREFIX}{router}")
            for space, device, address in ((home, "out", INSIDE[home]), (router, "in", gateway)):
                _run("ip", "-n", f"{PREFIX}{space}", "address", "add", f"{address}/24", "dev", device)
                _run("ip", "-n", f"{PREFIX}{space}", "link", "set", device, "up")
            _run("ip", "-n", f"{PREFIX}{home}", "route", "add", "default", "via", gateway)
            _run(*within(router), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
            _run(*within(router), "nft", "-f", "-", text=rules(home))

    def _plug(self, space: str, device: str, address: str) -> None:
        hub, there = f"{PREFIX}hub", f"{PREFIX}{space}"
        port = f"to-{address.rpartition('.')[2]}"
        _run("ip", "-n", hub, "link", "add", port, "type", "veth", "peer", "name", device, "netns", there)
        _run("ip", "-n", hub, "link", "set", port, "master", "bridge", "up")
        _run("ip", "-n", there, "address", "add", f"{address}/24", "dev", device)
        _run("ip", "-n", there, "link", "set", device, "up")

    def end(self) -> None:
        """Take it down."""
        for space in SPACES:
            subprocess.run(["ip", "netns", "del", f"{PREFIX}{space}"], capture_output=True, check=False)


def _run(*words: str, text: str | None = None) -> None:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
