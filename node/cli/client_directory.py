"""directory room, directory rent."""

from collections.abc import Mapping

from meshos.node.cli.client_answer import for_program, order
from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.client_text import number, plural, rows_of
from meshos.node.cli.output import note, ok, say, table, warn


def room(target: Target, did: str | None, *, as_json: bool) -> None:
    """See ``directory.room``."""
    with Client(target) as client:
        answer = client.get("v1", "directory", "rooms", did or str(client.get("v1", "status").get("org")))
    if for_program("directory-room", answer, as_json=as_json):
        return
    held, has = answer.get("held"), answer.get("room")
    say(str(answer.get("most") if has is None else has))
    if has is not None:
        rows: list[tuple[object, ...]] = [(answer.get("free"), "free", "")]
        rows += [(row.get("records"), "rented", _day(row)) for row in rows_of(answer.get("rented"))]
        table(("RECORDS", "ARE", "UNTIL"), rows, right=("RECORDS",))
        note(f"one more costs {answer.get('price')} MESH for {plural(answer.get('priceDays'), 'day')}; at most {answer.get('most')} in all")
    else:
        note("nothing has to be paid for any of them")
    note(f"{answer.get('did')} at block {answer.get('height')}; {target.name} holds {plural(held, 'record')} of it")
    if isinstance(held, int) and isinstance(has, int) and held > has:
        warn(f"{held - has} too many: those whose ids come last are not renewed, and lapse")
        note(f"Next mesh directory rent {_needed(answer, held)}{target.options}")


def _needed(answer: Mapping[str, object], held: int) -> int:
    """How many records to rent room for, beyond the free ones in all, so that those that are held have room."""
    free, most = (int(number(answer.get(name)) or 0) for name in ("free", "most"))
    return max(1, min(held, most) - free)


def rent(target: Target, records: int, days: int, at_most: str | None, timeout_s: float, key: str | None, *, as_json: bool) -> None:
    """See ``directory.rent``."""
    body: dict[str, object] = {"records": records, "days": days}
    if at_most is not None:
        body["atMost"] = at_most
    answer = order(target, "v1", "directory", "rooms", body=body, timeout_s=timeout_s, key=key)
    if for_program("directory-rent", answer, as_json=as_json):
        return
    if answer.get("txId") is not None:
        say(str(answer.get("txId")))
    what = f"room for {plural(records, 'record')} beyond the free ones until {_day(answer)}"
    steps = rows_of(answer.get("rented"))
    if answer.get("outcome") == "unchanged":
        ok(f"{what} was paid for already")
    else:
        comes_after = any((number(row.get("records")) or 0) > records for row in steps)
        after = ", after what was paid for before" if comes_after else ""
        ok(f"{what}{after}, for {answer.get('paid')} MESH, in block {answer.get('height')}")
    if answer.get("room") is not None:
        added = int(number(answer.get("added")) or 0)
        parts = [f"{answer.get('free')} free", ", then ".join(f"{row.get('records')} until {_day(row)}" for row in steps)]
        change = f"{added} more than before" if added > 0 else "as before"
        note(f"Room for {plural(answer.get('room'), 'record')} now, {change}: {', '.join(filter(None, parts))}")
    note(f"Next mesh directory room{target.options}")


def _day(row: Mapping[str, object]) -> str:
    """A day ends with the first moment of the next."""
    return str(row.get("until"))[:10]
