"""``mesh sim replay --node DIR``: a node's recording, run again and compared.

Exit codes as for every replay: 0 all was as recorded, 1 a machine did something else, 11 a machine raised an error (as it had), 125 nothing
could be compared.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TextIO

import typer

from meshos.crypto.signing import Ed25519Verifier
from meshos.effects import Machine
from meshos.errors import BadInput, Refused
from meshos.genesis import parse
from meshos.node.cli import output
from meshos.node.given import Given
from meshos.node.kernel.assembly import Outside, assemble
from meshos.node.recording import FOLDER
from meshos.node.runtime.recorder.drawing import Drawing
from meshos.node.runtime.recorder.entries import Head
from meshos.node.runtime.recorder.reading import read
from meshos.node.runtime.recorder.values import bad
from meshos.protocols.directory.embedder import HashedEmbedder
from meshos.simulations.flight import Difference, Flight, Replay, Seen
from meshos.simulations.flight_disks import Disks
from meshos.simulations.record import plain

SAME, DIFFERENT, CRASHED, UNDECIDED = 0, 1, 11, 125
SHOWN = 10
EVENT_CHARS = 400


def replay_node(node: Path, *, machine: str | None, until: float | None, log: Path | None, as_json: bool) -> None:
    """Replay what lies in the folder ``node``; ``until`` in seconds after the recording's beginning, ``machine`` the only one to show."""
    folder = node / FOLDER if (node / FOLDER).is_dir() else node
    with _logged(log, machine) as watch:
        flight = Replay(build, watch).run(read(folder), until)
    if machine is not None and machine not in {**flight.same, **flight.skipped}:
        known = ", ".join(sorted({**flight.same, **flight.skipped}))
        raise BadInput("no-such-machine", f"no machine {machine[:60]!r} was recorded", hint=f"these were: {known}")
    code = _code(flight, machine)
    if as_json:
        output.document("sim-replay", {**_document(flight, machine), "exit": code})
    else:
        _print(flight, machine, node)
    raise typer.Exit(code)


def build(head: Head, given: object, disks: Disks, chance: Drawing) -> Mapping[str, Machine]:
    """A node's machines, from what the recording says that they were built with."""
    if not isinstance(given, Given):
        raise bad("it does not say what its node was built with")
    outside = Outside(
        certified=given.certified,
        facts=given.facts,
        genesis=parse(given.genesis.encode()),
        validator_key=given.validator_key,
        timing=given.timing,
        seeds=given.seeds,
        verifier=Ed25519Verifier(),
        check_certificate=_not_here,
        org_of=_not_here,
        rng=chance,
        secret=b"",
        views=disks.views,
        now=head.now,
        now_ms=head.wall_ms,
        wall_ms=lambda: head.wall_ms,
        embedder=HashedEmbedder(),
        raft=given.raft,
        terms=given.terms,
        keep_blocks=given.keep_blocks,
        relaying=given.relaying,
    )
    return assemble(outside).machines


def _not_here(*_: object) -> NoReturn:
    raise Refused("not-replayed", "a replay checks no certificates: what was found is in the recording")


# -- telling ---------------------------------------------------------------------------------------------------------


@contextmanager
def _logged(path: Path | None, machine: str | None) -> "Iterator[_Log]":
    if path is None:
        yield _Log(None, machine)
        return
    with path.open("w") as out:
        yield _Log(out, machine)


class _Log:
    """The decision log: one JSON line a step."""

    def __init__(self, out: TextIO | None, machine: str | None) -> None:
        self._out, self._machine = out, machine

    def __call__(self, seen: Seen) -> None:
        if self._out is None or self._machine not in (None, seen.machine):
            return
        event = plain(seen.event) if seen.event is not None else {"type": seen.name}
        row = {"step": seen.step, "t": seen.now, "machine": seen.machine, "event": event, "replayed": seen.effects is not None}
        effects = {} if seen.effects is None else {"effects": plain(seen.effects)}
        self._out.write(json.dumps(row | effects, ensure_ascii=False, separators=(",", ":")) + "\n")


def _of(found: list[Difference], machine: str | None) -> list[Difference]:
    return [one for one in found if machine in (None, one.machine)]


def _code(flight: Flight, machine: str | None) -> int:
    if _of(flight.differences, machine):
        return DIFFERENT
    if _of(flight.crashes, machine):
        return CRASHED
    followed = [name for name in flight.same if machine in (None, name)]
    return SAME if followed else UNDECIDED


def _document(flight: Flight, machine: str | None) -> dict[str, object]:
    return {
        "software": flight.software,
        "lives": flight.lives,
        "segments": flight.segments,
        "steps": flight.steps,
        "seconds": flight.seconds,
        "same": flight.same,
        "skipped": flight.skipped,
        "blind": flight.blind,
        "differences": [_row(one) for one in _of(flight.differences, machine)],
        "crashes": [_row(one) for one in _of(flight.crashes, machine)],
    }


def _row(one: Difference) -> dict[str, object]:
    return {
        "step": one.step,
        "t": one.now,
        "machine": one.machine,
        "why": one.why,
        "event": plain(one.event),
        "effects": plain(one.effects),
    }


def _print(flight: Flight, machine: str | None, node: Path) -> None:
    for what, found in (("DIFFERS", _of(flight.differences, machine)), ("CRASHED", _of(flight.crashes, machine))):
        for one in found[:SHOWN]:
            print(f"{what} {one.machine} at step {one.step}, {one.now:.3f} s: {one.why}")
            print(f"  event    {_short(one.event)}")
            print(f"  effects  {_short(one.effects)}")
    same, skipped = Counter(flight.same), Counter(flight.skipped)
    verdict = {SAME: "ok  as recorded", DIFFERENT: "x   not as recorded", CRASHED: "x   an error, as recorded"}
    said = verdict.get(_code(flight, machine), "?   nothing could be compared")
    lives = f"{flight.lives} start{'' if flight.lives == 1 else 's'} of {node}"
    print(f"{said}: {flight.steps} steps in {flight.seconds:.1f} s, {lives} ({flight.software})")
    for name in sorted(same | skipped):
        if machine in (None, name):
            blind = f"   blind: {flight.blind[name]}" if name in flight.blind else ""
            print(f"    {name:<12} {same[name]:>8} as recorded {skipped[name]:>8} not replayed{blind}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= EVENT_CHARS else text[:EVENT_CHARS] + "…"
