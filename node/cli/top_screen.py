"""``mesh top`` live: the panes of top_frame.py in a Textual application, on asyncio in a process of its own."""

import asyncio
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Grid, VerticalScroll
from textual.widgets import Input, Static

from meshos.node.cli.top_feed import Feed
from meshos.node.cli.top_frame import NARROW, WIDE, headline, panes

REFRESH_S = 2.0
RECONNECT_S = 2.0
KEYS = "1-5 pane  Esc all  / filter  p pause  q quit"


class Top(App[None]):
    """Read-only. Wide: all panes; under 100 columns one pane; under 60 a bare list."""

    CSS = """
    #panes { grid-size: 2 3; grid-rows: 1fr auto 1fr; height: 1fr; }
    .pane { border: ascii $foreground-muted; border-title-color: $foreground; height: 100%; min-height: 3; }
    #pane3, #pane4 { height: 3; }
    #pane5 { column-span: 2; }
    #filter { display: none; border: none; height: 1; }
    .filtering #filter { display: block; }
    .lost #panes { opacity: 50%; }
    .-list .pane { border: none; }
    .one #panes { grid-size: 1 1; grid-rows: 1fr; }
    .one #pane5 { column-span: 1; }
    .one #pane3, .one #pane4 { height: 100%; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-list"), (NARROW, "-single"), (WIDE, "-wide")]  # noqa: RUF012 (an instance variable of App)
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[BindingType]] = [
        *[(str(number), f"pane({number})", "") for number in range(1, 6)],
        ("escape", "all", ""),
        ("slash", "filter", ""),
        ("p", "pause", ""),
        ("q,ctrl+c", "quit", ""),
    ]

    def __init__(self, feed: Feed, refresh_s: float = REFRESH_S) -> None:
        super().__init__()
        self._feed, self._refresh_s = feed, refresh_s
        self._chosen = 0
        self._paused = False
        self._match = ""

    def compose(self) -> ComposeResult:
        """Textual's: the widgets. Nothing that came over the wire is read as markup."""
        yield Static("", id="head", markup=False)
        with Grid(id="panes"):
            for number in range(1, 6):
                with VerticalScroll(id=f"pane{number}", classes="pane"):
                    yield Static("", id=f"text{number}", markup=False)
        yield Input(placeholder="only lines with ...", id="filter", compact=True)
        yield Static(KEYS, id="keys", markup=False)

    def on_mount(self) -> None:
        """Textual's: begin."""
        self.run_worker(self._refresh_forever(), exclusive=False)
        self.run_worker(self._listen_forever(), exclusive=False)

    async def _refresh_forever(self) -> None:
        while True:
            if not self._paused:
                await self._feed.refresh()
                self.show()
            await asyncio.sleep(self._refresh_s)

    async def _listen_forever(self) -> None:
        while True:
            await self._feed.listen()
            await asyncio.sleep(RECONNECT_S)

    def show(self) -> None:
        """Put the feed's snapshot on the screen."""
        if not self.query("#head"):
            return  # The screen is being taken down.
        snapshot = self._feed.snapshot
        self.query_one("#head", Static).update(headline(snapshot) + ("  (paused)" if self._paused else ""))
        self.screen.set_class(bool(snapshot.lost), "lost")
        for pane in panes(snapshot, self._match):
            self.query_one(f"#pane{pane.number}").border_title = f"{pane.number} {pane.title}"
            self.query_one(f"#text{pane.number}", Static).update("\n".join(pane.lines))
        self._arrange()

    def on_resize(self) -> None:
        """Textual's: the terminal has another size."""
        self._arrange()

    def _arrange(self) -> None:
        """Which panes are there: the chosen one, or on a narrow terminal the first, or all."""
        only = self._chosen or (1 if self.size.width < WIDE else 0)
        self.screen.set_class(bool(only), "one")
        for number in range(1, 6):
            self.query_one(f"#pane{number}").display = only in (0, number)

    def action_pane(self, number: int) -> None:
        """Only this pane, and its lines can be scrolled."""
        self._chosen = number
        self._arrange()
        self.query_one(f"#pane{number}").focus()

    def action_all(self) -> None:
        """All panes again, all lines again."""
        self._chosen, self._match = 0, ""
        self.query_one("#filter", Input).value = ""
        self.screen.set_class(False, "filtering")
        self.show()

    def action_pause(self) -> None:
        """Stand still, or go on."""
        self._paused = not self._paused
        self.show()

    def action_filter(self) -> None:
        """Ask for what the lines have to contain."""
        self.screen.set_class(True, "filtering")
        self.query_one("#filter", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Textual's: another letter in the filter."""
        self._match = event.value
        self.show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Textual's: the filter is complete; the keys are keys again."""
        self.screen.set_class(False, "filtering")
        self.set_focus(None)

    async def on_unmount(self) -> None:
        """Textual's: the end."""
        await self._feed.close()
