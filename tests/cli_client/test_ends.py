"""How a task ended, as the exit code of ``mesh call``: 0 done, 1 not done, 3 nobody knows (CONTRACT.md)."""

import pytest

from meshos.node.cli.client_tasks import _error


@pytest.mark.parametrize(
    ("status", "name", "code"),
    [
        ("completed", None, 0),
        ("failed", "tool-failed", 1),
        ("cancelled", "task-cancelled", 1),
        ("expired", "task-expired", 1),
        ("outcome_unknown", "outcome-unknown", 3),
    ],
)
def test_the_exit_code_says_how_it_ended(status: str, name: str | None, code: int) -> None:
    told = {"name": name, "detail": "why", "hint": "what to do", "outcome": "done"} if status == "failed" else None
    error = _error({"taskId": "t-1", "status": status, "error": told}, " --org beta")
    assert (0 if error is None else error.exit_code) == code
    assert (None if error is None else error.name) == name
    if status == "outcome_unknown":
        assert error is not None and error.outcome == "unknown" and error.hint.endswith("mesh explain t-1 --org beta")
