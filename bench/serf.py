"""Debian's serf as the peer of membership: agents on loopback, and what each of them logs about the others.

serf (hashicorp/serf, built on memberlist: SWIM with Lifeguard) is asked for nothing; it writes a line when a member joins or fails,
and a thread an agent stamps each line when it comes.
"""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from meshos.errors import Failed

PROFILES = {"lan": "lan", "fast": "local"}
"""serf's profile that is nearest to a preset of ours; it has none that is faster than local."""

_SEEN = {"EventMemberFailed:": "failed", "EventMemberJoin:": "alive"}


def installed() -> bool:
    """Whether there is a serf to measure beside."""
    return shutil.which("serf") is not None


class Agent:
    """One agent, and what it says of the others: the last word on each, when it was said, and every failure."""

    def __init__(self, name: str, port: int, join: int, profile: str) -> None:
        self.name, self.port = name, port
        self._join, self._profile = join, profile
        self.said: dict[str, tuple[str, float]] = {}
        self.failures: list[str] = []
        self.start()

    def start(self) -> None:
        """Begin, or begin again after a kill."""
        at = f"127.0.0.1:{self.port}"
        command = ["serf", "agent", f"-node={self.name}", f"-bind={at}", f"-rpc-addr=127.0.0.1:{self.port + 100}"]
        command += [f"-profile={self._profile}", "-log-level=info", f"-retry-join=127.0.0.1:{self._join}", "-retry-interval=1s"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def end(self) -> None:
        """SIGKILL, and wait; nothing happens to an agent that has ended."""
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)

    def _read(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                for name, state in news(line):
                    self.said[name] = (state, time.monotonic())
                    if state == "failed":
                        self.failures.append(name)


def news(line: str) -> list[tuple[str, str]]:
    """Who is what by a line of serf's log: ``… [INFO] serf: EventMemberFailed: NAME ADDRESS``; mostly nothing."""
    for event, state in _SEEN.items():
        _, found, rest = line.partition(f" serf: {event} ")
        if found and rest.split():
            return [(rest.split()[0], state)]
    return []


@contextmanager
def cluster(count: int, preset: str, base_port: int) -> Iterator[list[Agent]]:
    """``count`` agents that know each other; all are ended at the end. Raises Failed ``peer-not-ready``.

    They gossip on the ports after ``base_port``, and listen to commands 100 further on.
    """
    agents: list[Agent] = []
    try:
        for number in range(count):
            join = base_port + 1 if number else base_port + 2
            agents.append(Agent(f"serf-{number + 1}", base_port + 1 + number, join, PROFILES[preset]))
        wait_until_all_say(agents, [agent.name for agent in agents], "alive", 60.0)
        yield agents
    finally:
        for agent in agents:
            agent.end()


def wait_until_all_say(agents: Sequence[Agent], names: Sequence[str], state: str, seconds: float) -> float:
    """Wait until every agent says ``state`` of every name but its own; when the last said so, on the monotonic clock.

    Raises Failed ``peer-not-ready`` when the time is over.
    """
    until = time.monotonic() + seconds
    while True:
        words = [agent.said.get(name, ("", 0.0)) for agent in agents for name in names if name != agent.name]
        if all(said == state for said, _ in words):
            return max((when for _, when in words), default=time.monotonic())
        if time.monotonic() > until:
            raise Failed("peer-not-ready", f"serf's agents do not all say {state} of {', '.join(names)[:200]} after {seconds:g} s")
        time.sleep(0.02)
