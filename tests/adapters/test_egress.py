"""Where a node connects for others, and where never."""

import ipaddress

import pytest

from meshos.adapters.onprem.egress_policy import LOOPBACK, EgressPolicy
from meshos.errors import BadInput

PUBLIC = ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")
PRIVATE = (
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"),
    *("240.0.0.1", "192.0.0.8", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
    *("64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::1", "2001:db8::1"),
)


def test_public_addresses_are_permitted_private_ones_are_not() -> None:
    policy = EgressPolicy()
    assert [a for a in PUBLIC if not policy.permits(ipaddress.ip_address(a))] == []
    assert [a for a in PRIVATE if policy.permits(ipaddress.ip_address(a))] == []


def test_what_is_allowed_is_permitted_and_nothing_beside_it() -> None:
    policy = EgressPolicy.of(["10.0.0.0/8", *LOOPBACK])
    permitted = [a for a in PRIVATE if policy.permits(ipaddress.ip_address(a))]
    assert permitted == [
        *("127.0.0.1", "10.1.2.3", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::1"),
    ]


def test_a_host_is_permitted_with_its_port_alone() -> None:
    policy = EgressPolicy.of(["10.1.2.3:8443", "[::1]:9000", "Agents.Internal:80", "[::ffff:10.9.9.9]:70"])
    ten, nine = ipaddress.ip_address("10.1.2.3"), ipaddress.ip_address("10.9.9.9")
    assert policy.permits(ten, "10.1.2.3", 8443) and not policy.permits(ten, "10.1.2.3", 8444)
    assert policy.permits(ipaddress.ip_address("::1"), "[::1]", 9000) and not policy.permits(ipaddress.ip_address("::1"), "[::1]", 80)
    assert policy.permits(nine, "agents.internal", 80), "a name that its owner allows may be at any address"
    assert policy.permits(nine, "AGENTS.internal.", 80) and policy.permits(nine, "", 70)
    assert not policy.permits(nine, "agents.internal", 443) and not policy.permits(nine, "other.internal", 80)
    assert policy.permits(ten, "somewhere.else", 8443), "an address that is allowed has many names"


@pytest.mark.parametrize(
    "text",
    [
        *("10.0.0.1/8", "localhost", "", "10.0.0.0/33", "10.0.0.1:0", "10.0.0.1:70000", "999.1.1.1:80", "[::g]:80", "[1:2]:80"),
        *("a b:80", "-x:80", "x:", ":80", "http://x:80", "x:80/mcp", "*:80", "x" * 300 + ":80"),
    ],
)
def test_what_is_no_network_and_no_host_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="bad-value"):
        EgressPolicy.of([text])
