"""What ``mesh status`` says of the square."""

from meshos.node.cli.client_mesh import status_lines


def test_where_strangers_ask_is_shown_with_how_many_there_are() -> None:
    said = status_lines({"p2p": ["/ip4/192.0.2.1/tcp/8401/p2p/12D3KooW", "/ip4/192.0.2.1/udp/8401/quic-v1/p2p/12D3KooW"], "strangers": 1})
    assert "Square   1 connection of strangers, at 192.0.2.1:8401" in said


def test_a_node_without_a_square_says_nothing_of_it() -> None:
    assert not [line for line in status_lines({}) if line.startswith("Square")]
    assert not [line for line in status_lines({"p2p": []}) if line.startswith("Square")]
    assert status_lines({"p2p": ["x"], "strangers": 0}), "an address that is none breaks nothing"
