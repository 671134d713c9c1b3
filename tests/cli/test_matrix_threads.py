"""A node that runs computes its matrix products on one thread, and so does not take the cores from its neighbours."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshos.node.cli.testnet import making, processes
from meshos.node.runtime.matrix_threads import VARIABLES

PATIENCE_S = 90.0

TELL_AT_THE_END = """
import atexit, ctypes, os, pathlib

def tell():
    library = next(line.split()[-1] for line in open("/proc/self/maps") if "openblas" in line)
    count = ctypes.CDLL(library).scipy_openblas_get_num_threads64_()
    (pathlib.Path(__file__).parent / "told").write_text(f"{count} {os.environ.get('OPENBLAS_NUM_THREADS')}")

atexit.register(tell)
"""
"""As ``sitecustomize.py``: at its end the process says how many threads OpenBLAS had, and what others started from it would have got."""

TWO = min(2, len(os.sched_getaffinity(0)))
"""OpenBLAS starts no more than there are cores."""


@pytest.mark.parametrize(
    ("set_by_hand", "told"), [({}, "1 None"), ({"OPENBLAS_NUM_THREADS": "2"}, f"{TWO} 2"), ({"OMP_NUM_THREADS": "2"}, f"{TWO} None")]
)
def test_a_running_node_has_one_thread_for_matrix_products_unless_told_otherwise(
    tmp_path: Path, set_by_hand: dict[str, str], told: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(TELL_AT_THE_END)
    node = making.make(tmp_path / "testnet", orgs=1, base_port=making.free_base_port(1, 23_000), timing="fast").nodes[0]
    clean = {key: value for key, value in os.environ.items() if key not in VARIABLES and not key.startswith("MESH_")}
    command = [sys.executable, "-m", "meshos.node.cli.main", "run", "--dir", node.dir]
    with subprocess.Popen(command, env=clean | {"PYTHONPATH": str(tmp_path)} | set_by_hand, stderr=subprocess.DEVNULL) as running:
        try:
            until = time.monotonic() + PATIENCE_S
            while (answer := processes.get(node, "/readyz")) is None or answer[0] != 200:
                assert time.monotonic() < until and running.poll() is None, "it never was ready"
                time.sleep(processes.POLL_S)
        finally:
            running.send_signal(signal.SIGTERM)
    assert (tmp_path / "told").read_text() == told
