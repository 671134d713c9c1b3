"""wallet and ledger: what a node says of the ledger, as tables."""

import base64
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from meshos.errors import MeshError, Refused, Unreachable
from meshos.node.cli.client_answer import GRACE_S, ask, for_program, order
from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.client_text import org_name, plural, rows_of, short, table_of, texts_of
from meshos.node.cli.output import block as printed
from meshos.node.cli.output import note, ok, say, table, warn
from meshos.node.cli.paid_tabs import PaidTab, paid_tabs

SHOWN = 12
"""Hex digits of an id that are shown: enough to be asked for with."""


def head(target: Target, *, as_json: bool) -> None:
    """See ``ledger.head``."""
    answer = ask(target, "v1", "ledger", "head")
    if for_program("ledger-head", answer, as_json=as_json):
        return
    say(str(answer.get("height")))
    printed("\n".join(head_lines(answer)))


def head_lines(answer: Mapping[str, object]) -> list[str]:
    """The newest block in a few lines."""
    silent = answer.get("silent")
    votes = "this node votes" if answer.get("votes") else f"this node does not vote: {silent}" if silent else "this node follows"
    lines = [
        f"Block    {answer.get('height')} of {answer.get('time')}, {_digits(answer.get('hash'))}",
        f"State    root {_digits(answer.get('stateRoot'))}",
        f"View     {answer.get('view')}, primary {answer.get('primary')}; epoch {answer.get('epoch')}",
        f"Quorum   {answer.get('quorum')} of {answer.get('validators')} validators; {votes}",
    ]
    if answer.get("behind"):
        lines.append(f"Behind   by {plural(answer.get('behind'), 'block')}")
    if answer.get("waiting"):
        lines.append(f"Waiting  {plural(answer.get('waiting'), 'transaction')}")
    return lines


def block(target: Target, height: int, *, as_json: bool) -> None:
    """See ``ledger.block``."""
    answer = ask(target, "v1", "ledger", "blocks", str(height))
    if for_program("ledger-block", answer, as_json=as_json):
        return
    signed = ", ".join(org_name(one) for one in texts_of(answer.get("signedBy")))
    transactions = rows_of(answer.get("transactions"))
    note(f"block {answer.get('height')} of {answer.get('time')}, {_digits(answer.get('hash'))}, signed by {signed}")
    if transactions:
        rows = [(_digits(row.get("txId")), row.get("kind"), _who(row), row.get("nonce"), _came(row)) for row in transactions]
        table(("ID", "KIND", "BY", "NONCE", "OUTCOME"), rows, right=("NONCE",))
    note(plural(len(transactions), "transaction"))


def tx(target: Target, transaction: str, *, as_json: bool) -> None:
    """See ``ledger.tx``."""
    answer = ask(target, "v1", "transactions", transaction)
    if for_program("ledger-tx", answer, as_json=as_json):
        return
    say(_came(answer))
    note(f"{answer.get('kind')} in block {answer.get('height')}, by {_who(answer)}, nonce {answer.get('nonce')}; {answer.get('txId')}")


def key(target: Target, name: str, *, as_json: bool) -> None:
    """See ``ledger.key``."""
    answer = ask(target, "v1", "ledger", "keys", name)
    if for_program("ledger-key", answer, as_json=as_json):
        return
    called = f" ({answer['name']})" if answer.get("name") else ""
    say(str(answer.get("nonce")))
    note(
        f"{answer.get('role')} key of {answer.get('org')}{called}; its next transaction has this nonce, as of block {answer.get('height')}"
    )


def org(target: Target, did: str | None, *, as_json: bool) -> None:
    """See ``ledger.org``."""
    with Client(target) as client:
        answer = client.get("v1", "ledger", "orgs", did or str(client.get("v1", "status").get("org")))
    if for_program("ledger-org", answer, as_json=as_json):
        return
    rows: list[tuple[object, ...]] = [("root", "", "", answer.get("root"))]
    rows += [("node", one.get("name"), _seat_of(answer, one), one.get("node_id")) for one in rows_of(answer.get("nodes"))]
    rows += [("person", one.get("name"), "", one.get("key")) for one in rows_of(answer.get("people"))]
    table(("ROLE", "NAME", "SEAT", "KEY"), [] if answer.get("left") else rows, empty="it has left")
    seat = table_of(answer.get("seat")).get("node_id")
    moved = f"its seat was moved {plural(answer.get('moves'), 'time')}"
    note(f"{answer.get('did')} at block {answer.get('height')}: {'' if seat else 'it has no seat; '}{moved}")
    if answer.get("suspended"):
        warn("its validator signed two things where it must sign one: its vote does not count until the others give it back")
    if seat != answer.get("votes"):
        warn("the seat goes over with the next checkpoint, within some five minutes")


def _seat_of(answer: Mapping[str, object], node: Mapping[str, object]) -> str:
    seated, votes = table_of(answer.get("seat")).get("node_id") == node.get("node_id"), answer.get("votes") == node.get("node_id")
    return "votes" if seated and votes else "from the next checkpoint on" if seated else "until the next checkpoint" if votes else ""


def send(target: Target, transaction: str, timeout_s: float, *, as_json: bool) -> None:
    """See ``ledger.send``."""
    sent = {"request": transaction.strip(), "timeout": timeout_s}
    with Client(target) as client:
        answer = client.post("v1", "transactions", body=sent, timeout_s=timeout_s + GRACE_S)
    if for_program("ledger-send", answer, as_json=as_json):
        return
    say(str(answer.get("txId")))
    ok(f"{answer.get('outcome')} in block {answer.get('height')}")


def proof(target: Target, key: str, out: Path, *, as_json: bool) -> None:
    """See ``ledger.proof``."""
    answer = ask(target, "v1", "ledger", "proofs", *key.split("/", 1))
    data = base64.b64decode(str(answer.get("proof")))
    present = _is_there(data)
    out.write_bytes(data)
    if for_program("ledger-proof", {"file": str(out), "key": key, "bytes": len(data), "present": present}, as_json=as_json):
        return
    say(str(out))
    what = f"what the ledger has under {key}" if present else f"that the ledger has nothing under {key}"
    ok(f"a proof of {what}, {len(data)} bytes; anybody: mesh ledger verify {out} --genesis genesis.json")


def _is_there(proof: bytes) -> bool:
    """Whether it is of a value: of a key that is not there it proves just that. Raises Unreachable ``bad-answer``."""
    from meshos.consensus.ledger.light_client import decode_bundle

    try:
        return decode_bundle(proof).value is not None
    except Refused as error:
        raise Unreachable("bad-answer", "the node answered with what is no proof", hint="look at --node", outcome="not_done") from error


def balance(target: Target, did: str | None, *, as_json: bool) -> None:
    """See ``wallet.balance``."""
    with Client(target) as client:
        whose = did or str(client.get("v1", "status").get("org"))
        answer = client.get("v1", "accounts", whose)
        paid = [] if as_json else paid_tabs(client, whose, answer)
    if for_program("wallet-balance", answer, as_json=as_json):
        return
    say(f"{answer.get('balance')} MESH")
    tabs = rows_of(answer.get("tabs"))
    if tabs:
        rows = [
            (_digits(tab.get("tab")), org_name(tab.get("org")), org_name(tab.get("provider")), tab.get("reserved"), tab.get("redeemed"))
            for tab in tabs
        ]
        table(("TAB", "PAYS", "EARNS", "RESERVED", "REDEEMED"), rows, right=("RESERVED", "REDEEMED"))
    note(f"{whose} at block {answer.get('height')}; {plural(len(tabs), 'open tab')}")
    _say_whose(paid)


def _say_whose(paid: Sequence[PaidTab]) -> None:
    """Tabs on which the asked node does not pay itself: who does, and how those are closed of which nobody does any more."""
    open_ = [tab for tab in paid if not tab.row.get("closes")]
    if len(open_) < len(paid):
        note(f"{len(paid) - len(open_)} of them {'closes' if len(paid) - len(open_) == 1 else 'close'} when the dispute window is over")
    for name, count in Counter(tab.name for tab in open_ if tab.here and not tab.asked).items():
        note(f"{name} pays on {count} of them, and closes what it pays on: ask it")
    gone = [tab for tab in open_ if not tab.here]
    for name in sorted({tab.name for tab in gone}):
        warn(f"{name} is gone, and paid on {', '.join(_digits(tab.tab) for tab in gone if tab.name == name)}")
    if gone:
        note("Next mesh wallet close --root DIR, the folder with the root key: it closes the tabs of nodes that are gone")


def _again(key: str) -> str:
    return f"the same transfer, typed again, needs --idempotency-key {key}, or it is a second one"


def transfer(target: Target, did: str, amount: str, timeout_s: float, key: str | None, *, as_json: bool) -> None:
    """See ``wallet.transfer``."""
    body = {"transfer": {"to": did, "amount": amount}}
    key = key or secrets.token_hex(16)
    try:
        answer = order(target, "v1", "transactions", body=body, timeout_s=timeout_s, key=key)
    except KeyboardInterrupt:
        warn(_again(key))
        raise
    except MeshError as error:
        if error.outcome != "unknown":
            raise
        raise type(error)(error.name, error.detail, hint="; ".join(filter(None, (_again(key), error.hint))), outcome="unknown") from error
    if for_program("wallet-transfer", answer, as_json=as_json):
        return
    say(str(answer.get("txId")))
    ok(f"{amount} MESH moved to {org_name(did)}, in block {answer.get('height')}")
    note(f"Next mesh ledger tx {_digits(answer.get('txId'))}{target.options}")


def _who(row: Mapping[str, object]) -> str:
    return short(str(row.get("key"))) if row.get("key") else "-"


def _came(row: Mapping[str, object]) -> str:
    outcome, refusal = row.get("outcome"), row.get("refusal")
    return f"{outcome}: {refusal}" if refusal else str(outcome or "not known here")


def _digits(value: object) -> str:
    return str(value or "")[:SHOWN]
