"""``mesh top``: the frame at three widths, the screen at three widths, a node that goes away."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from textual.pilot import Pilot

from meshos.node.cli.client_connection import Target
from meshos.node.cli.top_feed import Feed
from meshos.node.cli.top_frame import Snapshot, frame, headline, panes
from meshos.node.cli.top_screen import Top
from tests.cli_client.conftest import Mesh, Node, start

SNAPSHOT = Snapshot(
    "alpha-1",
    {
        "name": "alpha-1",
        "health": "healthy",
        "up_ms": 240_000,
        "group": {"leader": "alpha-2", "role": "voter", "term": 3, "lag": 2, "voters": 3, "votersAlive": 2, "canLose": 0},
        "ledger": {"height": 118, "view": 3, "primary": "beta-1", "votes": True, "silent": "", "behind": 0},
        "humans": {"approvalsWaiting": 1},
        "tasks": {"perSecond": 41.2, "p95_ms": 28, "running": 3, "waiting": 1, "notes": ["1 waits: GPU"]},
    },
    [
        {"name": "gamma-1", "org": "did:mesh:enterprise:gamma", "state": "suspect", "since_ms": 3000, "note": "2 probes lost"},
        {"name": "alpha-1", "org": "did:mesh:enterprise:alpha", "state": "alive", "since_ms": 240_000, "load": 0.12},
    ],
    [{"name": "MedDx AI", "state": "running", "replicas": {"running": 2, "wanted": 2}}],
    [{"id": "r-1", "time": "2026-11-22T12:01:01.000Z", "kind": "suspected", "text": "gamma-1 suspected by beta-1"}],
)

WIDE = """\
alpha-1  healthy  1/2 alive  up 4 m
+1 Members---------------------------------------+2 Tasks, agents-----------------------------------+
| + alive   alpha-1      alpha         12%       | 41.2/s  p95 28 ms  3 running, 1 waiting          |
| ? suspect gamma-1      gamma         3 s  2... | ! 1 waits: GPU                                   |
|                                                | + MedDx AI                 2/2 running           |
+------------------------------------------------+--------------------------------------------------+
+3 Ledger----------------------------------------+4 Decisions---------------------------------------+
| org: raft leader alpha-2, term 3, 2 behind     | ! 1 decision waits: mesh approvals               |
| org: 2 of 3 can vote, can lose 0 more          |                                                  |
| ledger: block 118, view 3, primary beta-1      |                                                  |
| ledger: this node votes, 0 behind              |                                                  |
+------------------------------------------------+--------------------------------------------------+
+5 Events-------------------------------------------------------------------------------------------+
| 12:01:01 gamma-1 suspected by beta-1                                                              |
+---------------------------------------------------------------------------------------------------+"""

MIDDLE = """\
alpha-1  healthy  1/2 alive  up 4 m
+1 Members---------------------------------------------------------+
| + alive   alpha-1      alpha         12%                         |
| ? suspect gamma-1      gamma         3 s  2 probes lost          |
+------------------------------------------------------------------+"""

NARROW = """\
alpha-1  healthy  1/2 alive  up 4 m
1 Members
  + alive   alpha-1      alpha         12%
  ? suspect gamma-1      gamma         3 ...
2 Tasks, agents
  41.2/s  p95 28 ms  3 running, 1 waiting
  ! 1 waits: GPU
  + MedDx AI                 2/2 running
3 Ledger
  org: raft leader alpha-2, term 3, 2 behind
  org: 2 of 3 can vote, can lose 0 more
  ledger: block 118, view 3, primary beta-1
  ledger: this node votes, 0 behind
4 Decisions
  ! 1 decision waits: mesh approvals
5 Events
  12:01:01 gamma-1 suspected by beta-1"""


def test_three_widths() -> None:
    assert "\n".join(frame(SNAPSHOT, 101)) == WIDE
    assert "\n".join(frame(SNAPSHOT, 68)).startswith(MIDDLE)
    assert "\n".join(frame(SNAPSHOT, 44)) == NARROW


@pytest.mark.parametrize("width", [20, 59, 60, 99, 100, 101, 237])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, frame(SNAPSHOT, width))) <= width


def test_long_panes_say_what_they_leave_out() -> None:
    many = Snapshot("n", {}, [{"name": f"node-{i:03}", "state": "alive"} for i in range(100)], [])
    lines = frame(many, 80, rows=5)
    assert any("... and 96 more" in line for line in lines)


def test_nothing_known_is_none_and_strangers_are_cleaned() -> None:
    assert next(pane.lines for pane in panes(Snapshot("n", {}, [], []))) == ("none",)
    nasty = Snapshot("n", {}, [{"name": "\x1b[2J\u202eevil", "state": "alive"}], [], [{"text": "\x07boo"}])
    assert not any(sign in "\n".join(frame(nasty, 120)) for sign in "\x1b\u202e\x07")


def test_a_lost_node_says_since_when() -> None:
    lost = Snapshot("alpha-1", SNAPSHOT.status, SNAPSHOT.members, (), (), "12:00:00")
    assert headline(lost) == "alpha-1  NO ANSWER since 12:00:00; below is what was last known"


def test_once_and_json(mesh: Mesh, clock: str) -> None:
    ran = mesh("top", "--once", "--width", "120")
    assert ran.code == 0
    assert ran.out.startswith("alpha-1  healthy  1/2 alive")
    assert "+ Clock" in ran.out
    assert "Clock runs" in ran.out, "events that were there before"
    assert "\x1b" not in ran.out
    assert mesh("top").out.startswith("alpha-1  healthy  1/2 alive"), "there is no terminal here"
    document = json.loads(mesh("top", "--json").out)
    assert document["schema"] == "mesh.top/1"
    assert document["events"]
    nobody = mesh("top", "--once", "--node", "http://127.0.0.1:1", "--api-key", "k", to=None)
    assert (nobody.code, nobody.out) == (3, "")


def screen(node: Node, size: tuple[int, int], look: Callable[[Top, Pilot[None]], Awaitable[None]]) -> None:
    async def main() -> None:
        target = Target(urlsplit(node.url), node.key, "alpha-1")
        app = Top(Feed(target), refresh_s=0.5)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: "alive" in text(app, "#head"))
            await look(app, pilot)

    asyncio.run(main())


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await pilot.pause(0.02)


def text(app: Top, name: str) -> str:
    return str(app.query_one(name).render())


def shown(app: Top) -> list[int]:
    return [number for number in range(1, 6) if app.query_one(f"#pane{number}").display]


def test_a_wide_screen_shows_all_and_zooms(node: Node, clock: str) -> None:
    async def look(app: Top, pilot: Pilot[None]) -> None:
        assert shown(app) == [1, 2, 3, 4, 5]
        assert "+ alive   alpha-1" in text(app, "#text1")
        await until(pilot, lambda: "Clock runs" in text(app, "#text5"))
        await pilot.press("2")
        assert shown(app) == [2]
        await pilot.press("escape")
        assert shown(app) == [1, 2, 3, 4, 5]
        await pilot.press("slash", *"gamma", "enter")
        assert "alpha-1" not in text(app, "#text1")
        assert "gamma-1" in text(app, "#text1")
        await pilot.press("escape", "p")
        assert "(paused)" in text(app, "#head")

    screen(node, (120, 40), look)


@pytest.mark.parametrize("size", [(80, 24), (50, 24)])
def test_a_small_screen_shows_one(node: Node, size: tuple[int, int]) -> None:
    async def look(app: Top, pilot: Pilot[None]) -> None:
        assert shown(app) == [1]
        assert app.screen.has_class("-list") == (size[0] < 60)
        await pilot.press("5")
        assert shown(app) == [5]
        await pilot.resize_terminal(130, 24)
        await pilot.press("escape")
        assert shown(app) == [1, 2, 3, 4, 5]

    screen(node, size, look)


def test_a_node_that_ends_stays_on_the_screen_dimmed(tmp_path: Path) -> None:
    running = start()
    mortal = next(running)

    async def look(app: Top, pilot: Pilot[None]) -> None:
        await asyncio.to_thread(running.close)
        await until(pilot, lambda: "NO ANSWER since" in text(app, "#head"))
        assert app.screen.has_class("lost")
        assert "alpha-1" in text(app, "#text1")

    screen(mortal, (120, 40), look)
