"""``mesh status`` says over which paths a node is linked where these are several; an older node says nothing of it."""

from meshos.node.cli.client_mesh import status_lines


def said(answer: dict[str, object]) -> list[str]:
    return [line for line in status_lines(answer) if line.startswith("Links")]


def test_nodes_are_counted_by_path_where_not_all_are_on_one() -> None:
    assert said({"links": {"tcp": 3, "quic": 1}}) == ["Links    3 over tcp, 1 over quic"]
    assert said({"links": {"tcp": 3}}) == said({"links": {}}) == said({}) == []
