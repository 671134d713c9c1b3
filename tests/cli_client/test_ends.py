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


@pytest.mark.parametrize(("name", "code"), [("over-budget", 4), ("unknown-tool", 2), ("tool-failed", 1), ("a-name-of-tomorrow", 1)])
def test_what_was_refused_before_it_ran_is_a_refusal(name: str, code: int) -> None:
    told = {"name": name, "detail": "why", "hint": "what to do", "outcome": "not_done"}
    error = _error({"taskId": "t-1", "status": "failed", "error": told}, "")
    assert error is not None and (error.name, error.exit_code, error.outcome) == (name, code, "not_done")
    ran = _error({"taskId": "t-1", "status": "failed", "error": told | {"outcome": "done"}}, "")
    assert ran is not None and ran.exit_code == 1
