"""A cable between two network namespaces that is long and loses packets: for kernels without netem.

    python -m meshos.bench.slow_cable NAMESPACE NAMESPACE DELAY_MS LOSS SEED

Each namespace gets a TAP device ``cable`` (10.79.0.1 and 10.79.0.2). What one sends reaches the other DELAY_MS later, in order, or is lost
with the chance LOSS. Says ``ready``, and ends with its standard input.
"""

import fcntl
import os
import random
import selectors
import struct
import subprocess
import sys
import time
from collections import deque

ADDRESSES = ("10.79.0.1", "10.79.0.2")
_SET_INTERFACE, _TAP, _NO_INFO = 0x400454CA, 0x0002, 0x1000
"""TUNSETIFF, IFF_TAP, IFF_NO_PI (linux/if_tun.h)."""
_FRAME_BYTES = 65_536
_BATCH = 64


def _tap(namespace: str, address: str, number: int) -> int:
    """The end of the cable that is not in the namespace."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    name = f"mesh{os.getpid()}t{number}"[:15]
    fcntl.ioctl(device, _SET_INTERFACE, struct.pack("16sH22x", name.encode(), _TAP | _NO_INFO))
    for words in (
        ["link", "set", name, "netns", namespace],
        ["-n", namespace, "link", "set", name, "name", "cable"],
        ["-n", namespace, "address", "add", f"{address}/24", "dev", "cable"],
        ["-n", namespace, "link", "set", "cable", "up"],
    ):
        subprocess.run(["ip", *words], check=True, capture_output=True)
    return device


def carry(ends: tuple[int, int], delay_s: float, loss: float, dice: random.Random) -> None:
    """Carry frames both ways, until standard input ends."""
    under_way: dict[int, deque[tuple[float, bytes]]] = {end: deque() for end in ends}  # to whom, when
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    watched = selectors.DefaultSelector()
    for source in (*ends, 0):
        watched.register(source, selectors.EVENT_READ)
    while True:
        due = min((frames[0][0] for frames in under_way.values() if frames), default=None)
        wait = None if due is None else max(0.0, due - time.monotonic())
        for key, _ in watched.select(wait):
            if key.fd == 0:
                if not os.read(0, 64):
                    return
                continue
            for _ in range(_BATCH):
                try:
                    frame = os.read(key.fd, _FRAME_BYTES)
                except BlockingIOError:
                    break
                if dice.random() >= loss:
                    under_way[other[key.fd]].append((time.monotonic() + delay_s, frame))
        now = time.monotonic()
        for end, frames in under_way.items():
            while frames and frames[0][0] <= now:
                try:
                    os.write(end, frames.popleft()[1])
                except BlockingIOError:
                    continue  # its queue is full: as lost as any


def main(one: str, two: str, delay_ms: str, loss: str, seed: str) -> None:
    """See the module's text."""
    ends = (_tap(one, ADDRESSES[0], 0), _tap(two, ADDRESSES[1], 1))
    print("ready", flush=True)
    carry(ends, float(delay_ms) / 1000, float(loss), random.Random(int(seed)))


if __name__ == "__main__":
    main(*sys.argv[1:])
