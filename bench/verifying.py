"""How fast this machine verifies the signatures of transactions, with every core: what no ledger on it can exceed.

python -m meshos.bench.verifying SECONDS
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass

from meshos import cbor
from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.accounts import Transfer
from meshos.consensus.ledger.kinds import envelope_of
from meshos.crypto.keys import SigningKey, node_id
from meshos.crypto.signing import Claim, sign, verify_many
from meshos.errors import Failed
from meshos.ids import OrgDid

AT_ONCE = 256
GIVEN_UP_S = 30.0


@dataclass(frozen=True, slots=True)
class Verifying:
    """``rate``: a second, all cores together, on the wall's clock. ``cpu_us``: processor time of one."""

    rate: float
    cpu_us: float


def verifying(seconds: float) -> Verifying:
    """Keep every core at it for so long; raises Failed ``bench-command-failed``."""
    command = [sys.executable, "-m", "meshos.bench.verifying", str(seconds)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in os.sched_getaffinity(0)]
    try:
        found = [_read(process.communicate(timeout=seconds + GIVEN_UP_S)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait(10)
    counts = sum(count for count, _, _ in found)
    return Verifying(sum(count / wall_us * 1e6 for count, wall_us, _ in found), sum(cpu for _, _, cpu in found) / counts)


def _read(said: bytes) -> tuple[int, int, int]:
    """How many, and the microseconds that they took on the wall's clock and of the processor."""
    match cbor.decode(said, max_bytes=64) if said else None:
        case [int(count), int(wall_us), int(cpu_us)] if count and wall_us:
            return count, wall_us, cpu_us
    raise Failed("bench-command-failed", "the process that verifies signatures said nothing")


def _claims() -> list[Claim]:
    key, domain = SigningKey.generate(), transaction.domain(bytes(32))
    node, transfer = node_id(key.public), Transfer(OrgDid("did:mesh:enterprise:bench1"), 1)
    envelopes = [envelope_of(transfer, node, nonce, 2_000_000_000_000) for nonce in range(AT_ONCE)]
    return [Claim(node, domain, envelope, sign(key, domain, envelope)) for envelope in envelopes]


def _main(seconds: float) -> None:
    claims, count = _claims(), 0
    began, used = time.perf_counter(), time.process_time()
    while time.perf_counter() < began + seconds:
        assert all(verify_many(claims))
        count += AT_ONCE
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    sys.stdout.buffer.write(cbor.encode([count, round(wall * 1e6), round(cpu * 1e6)]))


if __name__ == "__main__":
    _main(float(sys.argv[1]))
