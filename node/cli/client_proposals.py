"""proposals, vote, and what ``propose`` does with a motion."""

from collections.abc import Mapping
from pathlib import Path

from meshos.errors import BadInput
from meshos.node.cli.client_answer import ask, for_program, order
from meshos.node.cli.client_connection import Target
from meshos.node.cli.client_text import digits, left, org_name, plural, rows_of, table_of, texts_of
from meshos.node.cli.output import block, note, ok, say, table

MOVED_ONLY = ("admit", "coordinator", "expel", "reinstate", "upgrade")
"""What no coordinator decides: a file with one of these is a motion."""
CHANGES = "parameters"
"""What coordinators decide, and the organisations that vote if they are asked (``--vote``)."""


def is_motion(content: Mapping[str, object], *, vote: bool) -> bool:
    """Whether the file's content is for the organisations that vote to decide."""
    return vote or any(kind in content for kind in MOVED_ONLY)


def move(target: Target, file: Path, content: Mapping[str, object], timeout_s: float, *, as_json: bool) -> None:
    """See ``decisions.propose``; raises BadInput ``reason-not-taken`` or ``bad-proposal``."""
    if "reason" in content:
        what = f"{file} gives a reason, and the ledger keeps none of a motion"
        raise BadInput("reason-not-taken", what, hint="leave `reason` out, and tell those who vote in another way")
    if len(content) != 1 or not content.keys() <= {*MOVED_ONLY, CHANGES}:
        what = f"{file} is no motion: it has one of {', '.join((*MOVED_ONLY, CHANGES))}, and nothing else"
        raise BadInput("bad-proposal", what, hint="see `mesh propose --help` for how it looks")
    answer = order(target, "v1", "proposals", body={"motion": dict(content)}, timeout_s=timeout_s)
    if for_program("propose", answer, as_json=as_json):
        return
    say(str(answer.get("id")))
    ok(f"moved: {answer.get('what')}")
    _say_state(answer)
    if answer.get("state") == "open":
        note(f"Next, at each of these: mesh vote --proposal {digits(answer)} --choice for")


def vote(target: Target, proposal: str, choice: str, timeout_s: float, *, as_json: bool) -> None:
    """See ``proposals.vote``."""
    _check_id(proposal)
    answer = order(target, "v1", "proposals", proposal, "votes", body={"choice": choice}, timeout_s=timeout_s)
    if for_program("vote", answer, as_json=as_json):
        return
    say(str(answer.get("state")))
    ok(f"the vote {choice} {digits(answer)} ({answer.get('what')}) stands in block {answer.get('height')}")
    _say_state(answer)


def proposals(target: Target, *, everything: bool, quiet: bool, as_json: bool) -> None:
    """See ``proposals.proposals``."""
    answer = ask(target, "v1", "proposals", only=None if everything else {"state": "open"})
    rows = rows_of(answer.get("proposals"))
    if for_program("proposals", answer, as_json=as_json, quiet=quiet, ids=[row.get("id") for row in rows]):
        return
    table(("ID", "MOTION", "STATE", "BY", "FOR", "AGAINST", "NEEDED", "EXPIRES"), [_row(row) for row in rows])
    waiting = [row for row in rows if row.get("state") == "open"]
    verb = "waits" if len(waiting) == 1 else "wait"
    note(f"{plural(len(waiting), 'motion')} {verb} for votes at block {answer.get('height')}, as {target.name} sees it")
    if waiting:
        note(f"Next mesh vote --proposal {digits(waiting[0])} --choice for{target.options}")


def proposal(target: Target, id_: str, *, quiet: bool, as_json: bool) -> None:
    """See ``proposals.proposals``."""
    _check_id(id_)
    answer = ask(target, "v1", "proposals", id_)
    if for_program("proposal", answer, as_json=as_json, quiet=quiet, ids=[answer.get("id")]):
        return
    is_open = answer.get("state") == "open"
    lines = [
        f"{answer.get('id')} is {answer.get('state')}",
        f"  motion   {answer.get('what')}",
        f"  by       {org_name(answer.get('by'))}",
        f"  for      {_names(answer, 'votedFor')}{_needed(answer, 'needed', 'carry it')}",
        f"  against  {_names(answer, 'votedAgainst')}{_needed(answer, 'blocking', 'reject it')}",
        *([f"  waits    for {_names(answer, 'waitsFor')}"] if is_open else []),
        f"  expires  {answer.get('expires')}, {left(answer.get('expires'))} left" if is_open else f"  ended    {answer.get('ended')}",
    ]
    root = table_of(table_of(answer.get("motion")).get("admit")).get("rootKey")
    block("\n".join([*lines, *([f"  its root {root}"] if root else [])]))
    rows = [(row.get("time"), row.get("what"), row.get("who"), row.get("height")) for row in rows_of(answer.get("trail"))]
    block("")
    table(("TIME", "WHAT", "BY", "BLOCK"), rows, right=("BLOCK",))
    if is_open:
        note(f"Next mesh vote --proposal {digits(answer)} --choice for{target.options}")


def _check_id(text: str) -> None:
    """Raise BadInput ``bad-proposal-id`` for what would be another path."""
    if not text.isalnum():
        raise BadInput("bad-proposal-id", f"{text[:70]!r} is no motion's id", hint="it is 64 hex digits; see `mesh proposals --all`")


def _row(row: Mapping[str, object]) -> tuple[object, ...]:
    needed = f"{row.get('needed')} of {row.get('seats')}" if row.get("needed") else "-"
    voted = [f"{row.get(side)}: {names}" if (names := _names(row, key)) != "none" else "0" for side, key in _SIDES]
    expires = left(row.get("expires")) if row.get("expires") else "-"
    return (digits(row), row.get("what"), row.get("state"), org_name(row.get("by")), *voted, needed, expires)


_SIDES = (("for", "votedFor"), ("against", "votedAgainst"))


def _names(row: Mapping[str, object], key: str) -> str:
    return ", ".join(org_name(one) for one in texts_of(row.get(key))) or "none"


def _needed(row: Mapping[str, object], key: str, done: str) -> str:
    return f"; {row.get(key)} of {row.get('seats')} {done}" if row.get(key) else ""


def _say_state(answer: Mapping[str, object]) -> None:
    if answer.get("state") != "open":
        note(f"it is {answer.get('state')}")
        return
    carry = f"{answer.get('needed')} of {answer.get('seats')} organisations that vote carry it"
    note(f"open: {carry}, {answer.get('for')} for it, {answer.get('against')} against; waits for {_names(answer, 'waitsFor')}")
    note(f"it expires {answer.get('expires')}, {left(answer.get('expires'))} from now")
