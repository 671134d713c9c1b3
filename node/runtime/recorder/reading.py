"""A recording read back from its folder: entries in order, as far as they are whole.

The folder may have been copied from anywhere: sizes are bounded, and every entry is checked (entries.py, values.py).
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from meshos.errors import BadInput
from meshos.node.runtime.recorder.entries import Entry, Head, decode, parse
from meshos.node.runtime.recorder.limits import ENTRIES_BYTES, RING_BYTES
from meshos.node.runtime.recorder.ring import LENGTH_BYTES, segments
from meshos.node.runtime.recorder.values import bad
from meshos.storage.framing import SALT_BYTES, read_frames

MAX_SEGMENT_BYTES = RING_BYTES + ENTRIES_BYTES


def read(folder: Path) -> Iterator[Entry]:
    """Every entry in ``folder``, segment by segment; raises BadInput ``no-recording`` or ``bad-recording``."""
    try:
        present = segments(folder)
        if not present:
            raise BadInput(
                "no-recording", f"there is no recording in {folder}", hint="the node records with `recorder = true` in node.toml"
            )
        for path in present:
            with suppress(FileNotFoundError):  # the node runs, and has made room
                yield from read_segment(path)
    except OSError as error:
        raise BadInput("no-recording", f"{folder} cannot be read: {error.strerror}") from error


def read_segment(path: Path) -> Iterator[Entry]:
    """The entries of one segment, up to the first frame that is torn. An empty one (the node was killed as it began) has none."""
    if path.stat().st_size > MAX_SEGMENT_BYTES:
        raise bad(f"{path.name} has more than {MAX_SEGMENT_BYTES} bytes")
    data = path.read_bytes()
    machines: tuple[str, ...] = ()
    begun = False
    for frame in read_frames(data[:SALT_BYTES], data, SALT_BYTES):
        for row in chain.from_iterable(map(decode, _parts(frame.payload))):
            entry = parse(row, machines)
            if isinstance(entry, Head) == begun:
                raise bad(f"{path.name} does not begin with a head, or has another")
            if isinstance(entry, Head):
                begun, machines = True, entry.machines
            yield entry


def _parts(payload: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(payload):
        end = at + LENGTH_BYTES + int.from_bytes(payload[at : at + LENGTH_BYTES], "big")
        if end > len(payload):
            raise bad("what a frame holds is longer than the frame")
        yield payload[at + LENGTH_BYTES : end]
        at = end
