"""directory room, directory rent."""

from collections.abc import Mapping

from meshos.node.cli.client_answer import for_program, order
from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.client_text import plural, rows_of
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
        note(f"Next mesh directory rent{target.options}")


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
    if answer.get("outcome") == "unchanged":
        ok(f"{what} was paid for already")
    else:
        ok(f"{what}, for {answer.get('paid')} MESH, in block {answer.get('height')}")
    note(f"Next mesh directory room{target.options}")


def _day(row: Mapping[str, object]) -> str:
    """A day ends with the first moment of the next."""
    return str(row.get("until"))[:10]
