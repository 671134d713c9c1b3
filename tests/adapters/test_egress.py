"""Where a node connects for others, and where never."""

import ipaddress

import pytest

from meshos.adapters.onprem.egress import LOOPBACK, EgressPolicy
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


@pytest.mark.parametrize("text", ["10.0.0.1/8", "localhost", "", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="bad-value"):
        EgressPolicy.of([text])
