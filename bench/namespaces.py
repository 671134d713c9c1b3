"""Two machines and a router between them, as network namespaces of this one. The router can swallow TCP or UDP, as a firewall does.

A rule of the router's routing policy does that (``ip rule``), not a packet filter: it needs nothing but iproute2, which the namespaces need
anyway, and what is swallowed is gone without a word to either side, as a drop in a packet filter on the way is.
"""

import os
import shutil
import subprocess
import sys
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

from meshos.errors import Refused

Protocol: TypeAlias = Literal["tcp", "udp"]

ADDRESSES: Final = ("10.78.1.2", "10.78.2.2")
"""Of the two machines; the router is the .1 of both networks."""
ROUTER: Final = "router"
MACHINES: Final = ("one", "two")


def why_not() -> str:
    """Why this machine cannot have network namespaces; empty where it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root here"
    if shutil.which("ip") is None:
        return "iproute2 is not installed (Debian: apt install iproute2)"
    probe = f"mesh{os.getpid()}probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return made.stderr.strip()


class Routed:
    """The three of them, while the block lasts. Raises Refused ``no-namespaces``."""

    def __init__(self) -> None:
        self._prefix = f"mesh{os.getpid()}"

    def within(self, machine: int) -> list[str]:
        """What a command begins with that is to run on that machine (0 or 1)."""
        return ["ip", "netns", "exec", self._name(MACHINES[machine])]

    def cut(self, protocol: Protocol) -> None:
        """From now on the router swallows it."""
        self._ip("-n", self._name(ROUTER), "rule", "add", "blackhole", "ipproto", protocol, "priority", "10")

    def mend(self, protocol: Protocol) -> None:
        """No longer."""
        self._ip("-n", self._name(ROUTER), "rule", "del", "blackhole", "ipproto", protocol, "priority", "10")

    def __enter__(self) -> Self:
        if reason := why_not():
            raise Refused("no-namespaces", reason, hint="run it as root on Linux, with iproute2 installed")
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def _name(self, which: str) -> str:
        return self._prefix + which

    def _begin(self) -> None:
        router = self._name(ROUTER)
        self._ip("netns", "add", router)
        for machine, address in zip(MACHINES, ADDRESSES, strict=True):
            space, gateway = self._name(machine), address.rpartition(".")[0] + ".1"
            self._ip("netns", "add", space)
            self._ip("-n", router, "link", "add", f"to-{machine}", "type", "veth", "peer", "name", "lan", "netns", space)
            self._ip("-n", router, "address", "add", f"{gateway}/24", "dev", f"to-{machine}")
            self._ip("-n", router, "link", "set", f"to-{machine}", "up")
            self._ip("-n", space, "address", "add", f"{address}/24", "dev", "lan")
            self._ip("-n", space, "link", "set", "lan", "up")
            self._ip("-n", space, "link", "set", "lo", "up")
            self._ip("-n", space, "route", "add", "default", "via", gateway)
        self._ip("netns", "exec", router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def _end(self) -> None:
        for which in (*MACHINES, ROUTER):
            subprocess.run(["ip", "netns", "del", self._name(which)], capture_output=True, check=False)

    def _ip(self, *words: str) -> None:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused("no-namespaces", f"ip {' '.join(words)}: {done.stderr.strip()}", hint="run it as root on Linux")
