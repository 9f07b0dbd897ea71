"""How limits tell clients apart."""

from core.services.limits import network_of


def test_a_network_of_ipv6_is_one_client():
    network = "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:2:3::4") == network_of("2001:db8:1:2:ffff::1") == network
    assert network_of("192.0.2.1") == network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("testclient") == "testclient"
