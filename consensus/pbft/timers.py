"""The times at which something is due, by name."""

NEVER = float("inf")


class Timers:
    """Seconds on the driver's clock."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def set(self, name: str, at: float) -> None:
        """Be due at ``at``, whatever was set before."""
        self._due[name] = at

    def begin(self, name: str, at: float) -> None:
        """Be due at ``at``, unless it runs already."""
        self._due.setdefault(name, at)

    def stop(self, name: str) -> None:
        """Not any more."""
        self._due.pop(name, None)

    def runs(self, name: str) -> bool:
        """Whether it is set."""
        return name in self._due

    def take(self, now: float) -> list[str]:
        """Those that are due, which do not run any more."""
        due = [name for name, at in self._due.items() if at <= now]
        for name in due:
            del self._due[name]
        return due

    def next(self) -> float | None:
        """When the first is due."""
        return min(self._due.values(), default=None)
