"""Moments as texts: those of a calendar are exact, all others are shown as its ends."""

import pytest

from meshos.times import LAST_MS, rfc3339, time_text


@pytest.mark.parametrize(
    ("ms", "long", "short"),
    [
        (0, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z"),
        (1_700_000_000_123, "2023-11-14T22:13:20.123Z", "2023-11-14T22:13:20Z"),
        (LAST_MS, "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59Z"),
        (LAST_MS + 1, "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59Z"),
        (2**63 - 1, "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59Z"),
        (-1, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z"),
    ],
)
def test_every_moment_has_a_text(ms: int, long: str, short: str) -> None:
    assert (rfc3339(ms), time_text(ms)) == (long, short)
