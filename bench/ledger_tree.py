"""What the ledger's state tree costs, on LevelDB, with the floor of its hashes beside it; a part of ``mesh bench ledger``.

Times are processor time of the one thread: it waits for nothing, and what else the machine does would be most of a clock's time.
"""

import tempfile
import time
from hashlib import sha256
from pathlib import Path
from random import Random

from meshos.bench.report import Report, row
from meshos.consensus.ledger import tree
from meshos.consensus.ledger.chunks import END, accept, parse, serve
from meshos.consensus.ledger.proofs import encode_proof, verify
from meshos.effects import Put
from meshos.storage.level import LevelStore
from meshos.storage.memory import MemoryStore
from meshos.storage.overlay import Overlay
from meshos.storage.store import Store

TOUCHED = 400
"""Keys of a block of 200 transfers."""
VALUE_BYTES = 24
HASHES_A_KEY = 7
"""SHA-256 of a changed key at 100,000: its place, its value, its leaf, and its share of two for each page above."""


def measure(report: Report, *, short: bool, keys: int = 100_000) -> None:
    """Add the rows to ``report``."""
    random, rounds = Random(1), 5 if short else 40
    names = [b"account/did:mesh:enterprise:org-%d/%d" % (number % 50, number) for number in range(keys)]
    with tempfile.TemporaryDirectory() as folder:
        level = LevelStore(Path(folder) / "level")
        store = level.prefixed("ledger")
        _fill(store, {name: random.randbytes(VALUE_BYTES) for name in names})
        tree.warm(store)
        _updates(report, store, names, random, rounds)
        _proofs(report, store, names, random, rounds)
        _transfer(report, store, 5 if short else 50)
        level.close()


def _fill(store: Store, content: dict[bytes, bytes]) -> None:
    _, writes = tree.update(store, dict(content))
    for begin in range(0, len(writes), 5_000):
        store.write(writes[begin : begin + 5_000])


def _updates(report: Report, store: Store, names: list[bytes], random: Random, rounds: int) -> None:
    took, wrote, floor = [], [], []
    touched = min(TOUCHED, len(names))
    for _ in range(rounds):
        changes = {name: random.randbytes(VALUE_BYTES) for name in random.sample(names, touched)}
        view = Overlay(store)
        began = time.thread_time()
        _, writes = tree.update(view, dict(changes))
        took.append((time.thread_time() - began) * 1e6 / touched)
        wrote.append(sum(len(write.key) + len(write.value) for write in writes if isinstance(write, Put)) / touched)
        began = time.thread_time()
        for name in changes:
            for _ in range(HASHES_A_KEY):
                sha256(name).digest()
        floor.append((time.thread_time() - began) * 1e6 / touched)
        store.write(writes)
    what = f"a changed key, {touched} of {len(names):,} at once"
    report.rows.append(row(f"{what}: new root and writes", took, "us"))
    report.rows.append(row(f"{what}: its SHA-256 alone", floor, "us", note="the floor"))
    report.rows.append(row(f"{what}: written, the value included", wrote, "bytes"))


def _proofs(report: Report, store: Store, names: list[bytes], random: Random, rounds: int) -> None:
    root, sizes, made, checked = tree.root(store), [], [], []
    for name in random.choices(names, k=20 * rounds):
        began = time.thread_time()
        value, proof = tree.prove_at(store, name, root)
        between = time.thread_time()
        verify(root, name, value, proof)
        made.append((between - began) * 1e6)
        checked.append((time.thread_time() - between) * 1e6)
        sizes.append(float(len(encode_proof(proof))))
    report.rows.append(row("a proof: made", made, "us"))
    report.rows.append(row("a proof: checked", checked, "us"))
    report.rows.append(row("a proof: on the wire", sizes, "bytes"))


def _transfer(report: Report, store: Store, most: int) -> None:
    """The first ``most`` chunks of the state, given and taken."""
    root, target, place = tree.root(store), MemoryStore(Random(1)), b""
    gave, took, keys = [], [], []
    for _ in range(most):
        began = time.thread_time()
        data = serve(store, place)
        between = time.thread_time()
        accepted = accept(target, root, data)
        took.append((time.thread_time() - between) * 1e3)
        gave.append((between - began) * 1e3)
        target.write(accepted.writes)
        part = parse(data)
        keys.append(float(len(part.entries)))
        if part.end == END:
            break
        place = part.end.encode()
    report.rows.append(row("a chunk of the state: given", gave, "ms"))
    report.rows.append(row("a chunk of the state: checked", took, "ms"))
    report.rows.append(row("a chunk of the state: keys in it", keys, ""))
