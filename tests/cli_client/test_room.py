"""Room in the directory on the command line: what is shown of it, and renting more."""

import json

from tests.cli_client.conftest import Mesh


def test_room_is_shown_and_what_is_too_much_for_it_is_warned_of(mesh: Mesh) -> None:
    ran = mesh("directory", "room")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "2") and ran.out.splitlines()[-1].split() == ["2", "free", "-"], ran
    assert "one more costs 1 MESH for 30 days; at most 10000 in all" in ran.err and "holds 3 records of it" in ran.err
    assert "1 too many" in ran.err and ran.err.splitlines()[-1] == "Next mesh directory rent 1"
    document = json.loads(mesh("directory", "room", "--json").out)
    assert (document["schema"], document["room"], document["price"]) == ("mesh.directory-room/1", 2, "1")
    assert "[bad-did]" in mesh("directory", "room", "did:mesh:enterprise:nobody").err


def test_a_rent_is_paid_once_and_never_more_than_is_said(mesh: Mesh) -> None:
    dear = mesh("directory", "rent", "3", "--at-most", "2.5")
    assert (dear.code, dear.out) == (4, "") and "[rent-dearer]" in dear.err and "it costs 3 MESH" in dear.err
    ran = mesh("directory", "rent", "3", "--at-most", "3")
    assert (ran.code, len(ran.out.strip())) == (0, 64), ran
    assert "room for 3 records beyond the free ones until 2025-11-24, for 3 MESH" in ran.err
    assert "Room for 5 records now, 3 more than before: 2 free, 3 until 2025-11-24" in ran.err
    again = mesh("directory", "rent", "3")
    assert (again.code, again.out) == (0, "") and "was paid for already" in again.err
    assert json.loads(mesh("directory", "rent", "3", "--json").out)["outcome"] == "unchanged"
    longer = mesh("directory", "rent", "1", "--days", "60")
    assert "room for 1 record beyond the free ones until 2025-12-24, after what was paid for before, for 1 MESH" in longer.err, longer
    assert "Room for 5 records now, as before: 2 free, 3 until 2025-11-24, then 1 until 2025-12-24" in longer.err, longer
    shown = mesh("directory", "room")
    assert shown.out.splitlines()[0] == "5" and shown.out.splitlines()[-2].split() == ["3", "rented", "2025-11-24"]
    assert "too many" not in shown.err


def test_what_is_no_rent_is_refused(mesh: Mesh) -> None:
    for words in (("0",), ("-5",), ("some",), (), ("1", "--days", "0"), ("1", "--days", "91")):
        ran = mesh("directory", "rent", *words)
        assert (ran.code, ran.out) == (2, ""), ran
    assert "it is zero or more" in mesh("directory", "rent", "1", "--at-most", "1e3").err
    assert "[rent-out-of-bounds]" in mesh("directory", "rent", "1", "--days", "61").err
