"""Who joins a mesh by ``mesh join``, in a folder of its own, and where it is told in a network namespace of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from meshos.node.config import load
from tests.mesh.testnet import until


class Joiner:
    """The organisation ``name``, which joins at ``address``. ``within`` are the words that go before each command."""

    def __init__(self, name: str, place: Path, address: str, within: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        self.name, self.place, self.address = name, place, address
        self._options = list(options)
        self.child: subprocess.Popen[bytes] | None = None
        self._within = list(within)
        self._clean = {key: value for key, value in os.environ.items() if not key.startswith("MESH_")}

    def begin(self) -> dict[str, object]:
        """Give the command; what it says once the node is ready and registered."""
        told, log = self.place.parent / "told.json", self.place.parent / "join.log"
        words = ["join", self.address, "--org", self.name, "--dir", str(self.place), *self._options, "--json"]
        with open(told, "wb") as out, open(log, "ab") as err:
            command = [*self._within, sys.executable, "-m", "meshos.node.cli.main", *words]
            self.child = child = subprocess.Popen(command, stdout=out, stderr=err, env=self._clean)

        def answer() -> dict[str, object] | None:
            assert child.poll() is None, (told.read_text(), log.read_text())
            text = told.read_text()
            return json.loads(text) if text.endswith("}\n") else None

        found: dict[str, object] = until(answer, "it never was ready")
        assert "ready" in found, (found, log.read_text())
        return found

    def refused(self) -> str:
        """Give the command, which must say no; what it says."""
        words = ["join", self.address, "--org", self.name, "--dir", str(self.place)]
        done = self._run(words, self._clean)
        assert done.returncode == 4, done
        return done.stderr

    def end(self) -> None:
        """As Ctrl-C does."""
        if self.child is not None:
            self.child.send_signal(signal.SIGINT)
            self.child.wait(60)
            self.child = None

    def mesh(self, *words: object) -> str:
        """What a command to its own node prints; it must say yes."""
        done = self.tried(*words)
        assert done.returncode == 0, (words, done)
        return done.stdout

    def tried(self, *words: object) -> subprocess.CompletedProcess[str]:
        """How a command to its own node ends."""
        return self._run(list(map(str, words)), self._clean | self._own())

    def status(self) -> str:
        """What ``mesh status`` prints, which says no where something is wrong with the node."""
        return self._run(["status"], self._clean | self._own()).stdout

    def _own(self) -> dict[str, str]:
        return {"MESH_NODE": f"http://{load(self.place).api}", "MESH_API_KEY": (self.place / "api-key").read_text().strip()}

    def _run(self, words: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        command = [*self._within, sys.executable, "-m", "meshos.node.cli.main", *words]
        return subprocess.run(command, cwd=self.place.parent, env=env, capture_output=True, text=True, timeout=180, check=False)
