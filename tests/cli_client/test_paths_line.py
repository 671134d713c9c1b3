"""``mesh members`` and ``mesh status`` say over which paths a node is linked; an older node says nothing of it, and nothing is shown."""

from meshos.node.cli.client_mesh import _links, _paths


def test_the_path_that_carries_comes_with_its_round_trip() -> None:
    quic, tcp = {"path": "quic", "carries": True, "rtt_ms": 12.44}, {"path": "tcp", "carries": False, "rtt_ms": 1.0}
    assert _paths({"paths": [quic, tcp]}) == "quic 12.4 ms, tcp"
    assert _paths({"paths": [{"path": "tcp", "carries": True, "rtt_ms": None}]}) == "tcp"
    assert _paths({"paths": []}) == _paths({}) == "-"


def test_status_counts_nodes_by_path() -> None:
    assert _links({"links": {"tcp": 3, "quic": 1}}) == ["Links    3 over tcp, 1 over quic"]
    assert _links({"links": {}}) == _links({}) == []
