"""Moments as people and programs read them: RFC 3339, in UTC. What no calendar has, as a stranger may write it, is its last day."""

from datetime import UTC, datetime

LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""


def rfc3339(ms: int) -> str:
    """Milliseconds since 1970, as a text with milliseconds."""
    return _moment(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_text(ms: int) -> str:
    """The same in whole seconds."""
    return _moment(ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(ms: int) -> datetime:
    seconds, rest = divmod(min(max(0, ms), LAST_MS), 1_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=1_000 * rest)
