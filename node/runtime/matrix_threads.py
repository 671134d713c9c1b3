"""How many threads NumPy's matrix products run on: one, unless whoever starts the process says otherwise.

OpenBLAS, which NumPy carries, starts a thread a core when NumPy is imported, and its threads wait for one another by spinning. A
question's matrices are so small that this gains little on idle cores, and on busy ones it costs: a vector took 88 to 112 ms of processor
time with two threads and 18 to 20 with one. Two questions run side by side anyhow, each in a worker thread of its own.
"""

import importlib
import os
import sys

VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
"""Where OpenBLAS looks, in its order; once, when it is loaded."""


def load_numpy() -> None:
    """Import NumPy, for whoever is the first to need it in a process: with one thread, unless the user has set a number.

    The environment is left as it was: what is started from here is not meant.
    """
    if "numpy" in sys.modules or any(os.environ.get(name) for name in VARIABLES):
        return
    os.environ[VARIABLES[0]] = "1"
    try:
        importlib.import_module("numpy")
    finally:
        del os.environ[VARIABLES[0]]
