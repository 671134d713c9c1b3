"""Debian's etcd as the peer of Raft: three members on loopback with their default fsync, and two clients of them.

One is Python over gRPC, which costs its caller about what ours does; the other is wrk on the JSON gateway, written in C, so that the
members and not the client are the limit. Both put values under changing keys, at the leader.
"""

import asyncio
import base64
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from meshos.bench.live import free_ports
from meshos.errors import Failed

MEMBERS = 3
KEYS = 1000
READY_S = 30.0
TRY_S = 0.2
"""How long one try of a put waits: a member without a leader would keep it for seconds, and answer it no sooner when there is one."""
PUT = "/etcdserverpb.KV/Put"


def installed() -> bool:
    """Whether there is an etcd to measure beside."""
    return shutil.which("etcd") is not None


def has_grpc() -> bool:
    """Whether there is a gRPC for Python."""
    return importlib.util.find_spec("grpc") is not None


def has_wrk() -> bool:
    """Whether there is a wrk."""
    return shutil.which("wrk") is not None


class Cluster:
    """The members by number; ``leader`` looks which of them leads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        urls = [f"http://127.0.0.1:{port}" for port in free_ports(2 * MEMBERS)]
        self._clients, self._peers = urls[:MEMBERS], urls[MEMBERS:]
        self.processes = [self._start(number) for number in range(MEMBERS)]

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        name, client, peer = f"m{number}", self._clients[number], self._peers[number]
        cluster = ",".join(f"m{each}={url}" for each, url in enumerate(self._peers))
        command = ["etcd", "--name", name, "--data-dir", str(self._folder / name), "--initial-cluster", cluster]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--logger", "zap", "--log-level", "error"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def url(self, number: int) -> str:
        """Where clients reach a member."""
        return self._clients[number]

    def leader(self) -> int:
        """The member that leads; raises Failed ``peer-not-ready``."""
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            for number in range(MEMBERS):
                status = self._status(number)
                if status is not None and status["header"]["member_id"] == status.get("leader"):
                    return number
            time.sleep(0.05)
        raise Failed("peer-not-ready", f"etcd's members have no leader after {READY_S:g} s")

    def kill_leader_ms(self, size: int) -> float:
        """Milliseconds from its end to the first put that another member has had accepted; all are up again afterwards.

        Raises Failed ``peer-not-ready``.
        """
        number = self.leader()
        other = self.url((number + 1) % MEMBERS)
        body = json.dumps({"key": _text(_key(0)), "value": _text(bytes(size))}).encode()
        self.processes[number].kill()
        began = time.perf_counter()
        while _posted(f"{other}/v3/kv/put", body, TRY_S) is None:
            if time.perf_counter() > began + READY_S:
                raise Failed("peer-not-ready", f"etcd took no write within {READY_S:g} s of its leader's end")
            time.sleep(0.005)
        took = (time.perf_counter() - began) * 1000
        self.processes[number].wait(10)
        self.processes[number] = self._start(number)
        self._wait_for_all()
        return took

    def _wait_for_all(self) -> None:
        """Until every member follows a leader."""
        until = time.monotonic() + READY_S
        while not all((self._status(number) or {}).get("leader") for number in range(MEMBERS)):
            if time.monotonic() > until:
                raise Failed("peer-not-ready", f"etcd's members do not all follow a leader after {READY_S:g} s")
            time.sleep(0.05)

    def end(self) -> None:
        """SIGKILL, and wait."""
        for process in self.processes:
            process.kill()
            process.wait(10)

    def _status(self, number: int) -> dict[str, Any] | None:
        return _posted(f"{self.url(number)}/v3/maintenance/status", b"{}", 1.0)


def _posted(url: str, body: bytes, timeout_s: float) -> dict[str, Any] | None:
    """The JSON that a member answers; None if it does not, or refuses."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=timeout_s) as answer:
            document: dict[str, Any] = json.load(answer)
            return document
    except OSError:
        return None


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Three members that have a leader, in a temporary folder; ended and deleted at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mesh-bench-etcd-", ignore_cleanup_errors=True)))
        members = Cluster(folder)
        stack.callback(members.end)
        members.leader()
        yield members


# -- the client in Python --------------------------------------------------------------------------------------------


def puts(url: str, in_flight: int, seconds: float, size: int) -> tuple[list[float], float]:
    """Milliseconds of each put, and puts a second, with ``in_flight`` of them at any time."""
    return asyncio.run(_puts(url.removeprefix("http://"), in_flight, seconds, size))


async def _puts(address: str, in_flight: int, seconds: float, size: int) -> tuple[list[float], float]:
    import grpc.aio  # type: ignore[import-untyped]  # here, as it is not everywhere

    taken: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        put = channel.unary_unary(PUT)  # bytes in, bytes out: no generated code, which would cost the peer time
        await put(_put_request(0, size))
        began = time.perf_counter()

        async def writer(number: int) -> None:
            while (since := time.perf_counter()) < began + seconds:
                await put(_put_request(number + len(taken), size))
                taken.append((time.perf_counter() - since) * 1000)

        await asyncio.gather(*(writer(number) for number in range(in_flight)))
        return taken, len(taken) / (time.perf_counter() - began)


def _put_request(number: int, size: int) -> bytes:
    """etcdserverpb.PutRequest: 1 key, 2 value, both bytes."""
    return _field(1, _key(number)) + _field(2, os.urandom(size))


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field of Protocol Buffers."""
    length, size = bytearray(), len(data)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | 2]) + bytes(length) + data


def _key(number: int) -> bytes:
    return b"bench/%04d" % (number % KEYS)


# -- the client in C -------------------------------------------------------------------------------------------------

_SCRIPT = """
local bodies = {{}}
for number = 0, {keys} - 1 do
  bodies[number] = '{{"key":"' .. "{prefix}" .. string.format("%04d", number) .. '","value":"{value}"}}'
end
local number = 0
request = function()
  number = (number + 1) % {keys}
  return wrk.format("POST", "/v3/kv/put", {{["Content-Type"] = "application/json"}}, bodies[number])
end
"""


def wrk(url: str, in_flight: int, seconds: float, size: int) -> float:
    """Puts a second through the gateway by wrk; raises Failed ``peer-not-ready``."""
    script = _SCRIPT.format(keys=KEYS, prefix=_text(b"bench/"), value=_text(os.urandom(size)))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t", "1", "-c", str(in_flight), "-d", f"{seconds:.0f}s", "-s", file.name, url]
        said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if rate is None or "Non-2xx" in said:
        raise Failed("peer-not-ready", f"wrk did not measure etcd's gateway: {said[-300:]}")
    return float(rate[1])


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
