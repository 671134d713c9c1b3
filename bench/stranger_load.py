"""A process of strangers: 200 connections from 50 loopback addresses, and half a core, no more and no less.

    python -m meshos.bench.stranger_load HOST SQUARE_PORT LINK_PORT SECONDS

Four kinds, in turn: those that say nothing but a byte now and then; those that send garbage and come again at once; those that shake
hands with the links' port and have no certificate; and good libp2p clients that ask for as much as they are given. Whoever is cut off
comes again. What is left of the half core is burnt, so that an idle target costs the machine as much as one that answers.
Prints what was done as one JSON line.
"""

import json
import os
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from meshos.errors import MeshError
from meshos.node.runtime.matrix_threads import load_numpy

load_numpy()  # before libp2p does, as in a node

from meshos.node.runtime.square import limits, upgrade  # noqa: E402
from meshos.node.runtime.square.asking import Asking  # noqa: E402
from meshos.node.runtime.square.wire import TcpWire  # noqa: E402
from meshos.protocols.square import describe, search  # noqa: E402

CONNECTIONS, ADDRESSES = 200, 50
SHARE = 0.5
"""Of one core."""
TURN_S = 0.02
PAUSE_S = 0.05
"""Before whoever was cut off comes again."""


class Strangers:
    """All of them; ``counts`` is what they did."""

    def __init__(self, host: str, square: int, link: int) -> None:
        self._host, self._square, self._link = host, square, link
        self._own = upgrade.identity(os.urandom(32))
        self._tls = ssl.create_default_context()
        self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE
        self.counts: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """All at once, for so long."""
        kinds = (self._mute, self._garble, self._handshake, self._ask)
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for number in range(CONNECTIONS):
                    nursery.start_soon(self._again, kinds[number % len(kinds)], f"127.0.1.{1 + number % ADDRESSES}")
                await self._govern()

    async def _govern(self) -> None:
        """Hold this process to its share of a core, and to no less."""
        began, spent = time.perf_counter(), time.process_time()
        while True:
            await trio.sleep(TURN_S)
            allowed = (time.perf_counter() - began) * SHARE
            while (used := time.process_time() - spent) < allowed - TURN_S:
                pass  # burnt
            if used > allowed:
                time.sleep((used - allowed) / SHARE)  # the whole process: that is the point

    async def _again(self, kind: Callable[[str], Awaitable[None]], address: str) -> None:
        while True:
            with suppress(OSError, MeshError, trio.BrokenResourceError, trio.ClosedResourceError):
                await kind(address)
            self.counts["ended"] += 1
            await trio.sleep(PAUSE_S)

    async def _open(self, port: int, address: str) -> trio.SocketStream:
        stream = await trio.open_tcp_stream(self._host, port, local_address=address)
        self.counts["connections"] += 1
        return stream

    async def _mute(self, address: str) -> None:
        async with await self._open(self._square, address) as stream:
            while True:
                await stream.send_all(b"\x13")
                await trio.sleep(1.0)

    async def _garble(self, address: str) -> None:
        async with await self._open(self._square, address) as stream:
            await stream.send_all(os.urandom(16_384))
            while await stream.receive_some(16_384):
                pass

    async def _handshake(self, address: str) -> None:
        async with await self._open(self._link, address) as stream:
            secured = trio.SSLStream(stream, self._tls)
            await secured.do_handshake()
            self.counts["handshakes without a certificate"] += 1
            await secured.receive_some(16_384)

    async def _ask(self, address: str) -> None:
        stream = await self._open(self._square, address)
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(limits.DIAL_S):
                    muxed = await upgrade.dial(TcpWire(stream), self._own, None, lambda why: nursery.cancel_scope.cancel())
                nursery.start_soon(muxed.start)
                await self._questions(Asking(muxed))
                nursery.cancel_scope.cancel()
        except* (MeshError, OSError, trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.counts["cut off"] += 1
        except* Exception:  # whatever libp2p raises where its connection is cut off
            self.counts["cut off within libp2p"] += 1
        finally:
            await trio.aclose_forcefully(stream)

    async def _questions(self, asking: Asking) -> None:
        while True:
            for name, request in ((describe.NAME, describe.request()), (search.NAME, search.request("what time is it", 10))):
                try:
                    await asking.ask(name, request)
                    self.counts["answers"] += 1
                except MeshError as error:
                    self.counts[f"refused {error.name}"] += 1
                    if error.name in ("square-unreachable", "square-flood"):
                        raise


def main(host: str, square: str, link: str, seconds: str) -> None:
    """See the module's text."""
    strangers = Strangers(host, int(square), int(link))
    trio.run(strangers.run, float(seconds), strict_exception_groups=True)
    print(json.dumps({**strangers.counts, "core": round(time.process_time(), 1)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
