"""The run of ``mesh bench planet`` as a picture: recall, completeness and the time of questions over virtual time, one SVG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from meshos.bench.report import percentile
from meshos.simulations.directory.questions import Asked

WIDTH, HEIGHT, LEFT, GAP, TOP = 1200, 150, 70, 46, 40
"""Of one of the three panels, in pixels, and the room beside and between them."""


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    value: Callable[[Sequence[Asked]], float]
    most: float
    unit: str


def page(asked: Sequence[Asked], slice_s: float) -> str:
    """The SVG; each point is of the questions begun within ``slice_s`` virtual seconds."""
    slices: dict[int, list[Asked]] = {}
    for one in asked:
        slices.setdefault(int(one.begun_s // slice_s), []).append(one)
    slowest = max((1e3 * one.took_s for one in asked), default=1.0)
    panels = (
        _Panel("recall@10", lambda some: sum(one.recall for one in some) / len(some), 1.0, ""),
        _Panel("answers that say they are complete", lambda some: sum(one.complete for one in some) / len(some), 1.0, ""),
        _Panel("p99 until it is answered, ms", lambda some: 1e3 * percentile([one.took_s for one in some], 0.99), slowest, "ms"),
    )
    end_s = max((one.begun_s for one in asked), default=0.0) + slice_s
    height = TOP + len(panels) * (HEIGHT + GAP)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 2 * LEFT}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        *_phases(asked, end_s, height),
    ]
    for number, panel in enumerate(panels):
        drawn += _panel(panel, slices, slice_s, end_s, TOP + number * (HEIGHT + GAP))
    return "\n".join([*drawn, "</svg>"]) + "\n"


def _at(second: float, end_s: float) -> float:
    return LEFT + WIDTH * second / end_s


def _phases(asked: Sequence[Asked], end_s: float, height: int) -> list[str]:
    """Bands with the names of the phases, every other name lower so that none hides the next."""
    names = list(dict.fromkeys(one.phase for one in asked))
    drawn = []
    for number, name in enumerate(names):
        times = [one.begun_s for one in asked if one.phase == name]
        left, right = _at(min(times), end_s), _at(max(times), end_s)
        drawn.append(f'<rect x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{height - TOP - GAP}" fill="#eef3f8"/>')
        drawn.append(f'<text x="{left:.1f}" y="{14 + 14 * (number % 2)}">{escape(name)}</text>')
    return drawn


def _panel(panel: _Panel, slices: dict[int, list[Asked]], slice_s: float, end_s: float, top: int) -> list[str]:
    bottom = top + HEIGHT
    drawn = [f'<text x="{LEFT}" y="{bottom + 32}">{escape(panel.title)} (below: virtual seconds)</text>']
    for share in (0.0, 0.5, 1.0):
        y = bottom - HEIGHT * share
        drawn.append(f'<line x1="{LEFT}" y1="{y}" x2="{LEFT + WIDTH}" y2="{y}" stroke="#bbb"/>')
        drawn.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{panel.most * share:.4g}</text>')
    for second in range(0, int(end_s) + 1, 100):
        drawn.append(f'<text x="{_at(second, end_s):.1f}" y="{bottom + 16}" text-anchor="middle">{second}</text>')
    for number, some in sorted(slices.items()):
        x, y = _at((number + 0.5) * slice_s, end_s), bottom - HEIGHT * min(1.0, panel.value(some) / panel.most)
        drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#1f5fa8"/>')
    return drawn
