"""Ctrl-C while a node works on what it was asked: it may be done all the same, and that is said."""

import http.client
import socket

import pytest

from meshos.node.cli.client_connection import Client, find


def interrupted(self: http.client.HTTPConnection) -> http.client.HTTPResponse:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("method", "told"), [("POST", True), ("DELETE", True), ("GET", False)])
def test_ctrl_c_says_that_a_change_may_still_happen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str, told: bool
) -> None:
    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", interrupted)
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = find(f"http://127.0.0.1:{server.getsockname()[1]}", "mk_key", None, None)
        with Client(target) as client, pytest.raises(KeyboardInterrupt):
            client.send(method, ("v1", "agents"), None, 1.0)
    said = capsys.readouterr()
    assert ("look before you repeat it" in said.err) is told and said.out == ""
